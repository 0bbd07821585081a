"""PyTorch heads whose features and class vectors lie on the unit sphere, and the losses behind them.

`SphericalClassifier` learns its class vectors. `CodeClassifier` uses those of a code, and `CMFClassifier` the
class-mean features. `functional` has the losses.
"""

from softmaxcode.nn import functional
from softmaxcode.nn.cmf import CMFClassifier
from softmaxcode.nn.code import CodeClassifier
from softmaxcode.nn.spherical import SphericalClassifier

__all__ = ["CMFClassifier", "CodeClassifier", "SphericalClassifier", "functional"]
