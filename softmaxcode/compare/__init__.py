"""A learned classifier compared with a code: alignment, measurements, and other optima."""

from softmaxcode.checks.renamed import renamed_names
from softmaxcode.compare.alignment import Alignment, align
from softmaxcode.compare.comparison import Comparison, Measurements, compare
from softmaxcode.compare.optima import other_optima
from softmaxcode.compare.reference import UnsearchedCodeWarning, reference_code

__all__ = [
    "Alignment",
    "Comparison",
    "Measurements",
    "UnsearchedCodeWarning",
    "align",
    "compare",
    "other_optima",
    "reference_code",
]

__getattr__ = renamed_names(__name__, {"Figures": "Measurements"})
