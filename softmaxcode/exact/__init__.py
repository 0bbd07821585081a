"""Codes in closed form, one family per file."""

from softmaxcode.exact.classical import ClosedForm, closed_form
from softmaxcode.exact.families import (
    MAX_BUILT_COORDINATES,
    ExactCode,
    Part,
    best,
    constructions,
    larger,
    parts,
    rebuild,
)
from softmaxcode.exact.subcodes import greedy_subset

__all__ = [
    "MAX_BUILT_COORDINATES",
    "ClosedForm",
    "ExactCode",
    "Part",
    "best",
    "closed_form",
    "constructions",
    "greedy_subset",
    "larger",
    "parts",
    "rebuild",
]
