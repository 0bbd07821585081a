"""Exact one-vs-rest distances: of all classes, of the smallest, of a sample, and on a GPU."""

from softmaxcode.margins.exact import (
    Margins,
    SmallestMargin,
    margin,
    margins,
    smallest_from_bounds,
    smallest_margin,
)

__all__ = [
    "Margins",
    "SmallestMargin",
    "margin",
    "margins",
    "smallest_from_bounds",
    "smallest_margin",
]
