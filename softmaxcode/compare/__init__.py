"""A learned classifier against a code: aligned, compared, and against other optima."""

from softmaxcode.compare.comparison import (
    Alignment,
    Comparison,
    Figures,
    align,
    compare,
    other_optima,
)

__all__ = [
    "Alignment",
    "Comparison",
    "Figures",
    "align",
    "compare",
    "other_optima",
]
