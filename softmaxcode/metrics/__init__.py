"""TorchMetrics of generalized neural collapse (Jiang et al., ICML 2024), for one process or several.

`GeneralizedNeuralCollapse` combines them; each can be used alone.
"""

from softmaxcode.metrics.collapse import GNC1, GNC3, EffectiveRank, NearestClassMeanAccuracy
from softmaxcode.metrics.collection import GeneralizedNeuralCollapse
from softmaxcode.metrics.margin import GNC2, CertifiedMargin
from softmaxcode.metrics.neural_collapse import NeuralCollapse

__all__ = [
    "GNC1",
    "GNC2",
    "GNC3",
    "CertifiedMargin",
    "EffectiveRank",
    "GeneralizedNeuralCollapse",
    "NearestClassMeanAccuracy",
    "NeuralCollapse",
]
