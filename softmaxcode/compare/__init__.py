"""A learned classifier against a code: aligned, compared, and against other optima."""

from softmaxcode.compare.alignment import Alignment, align
from softmaxcode.compare.comparison import Comparison, Figures, compare
from softmaxcode.compare.optima import other_optima

__all__ = ["Alignment", "Comparison", "Figures", "align", "compare", "other_optima"]
