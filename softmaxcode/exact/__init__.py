"""Codes in closed form, one family per file."""

from softmaxcode.exact.classical import ClosedForm, closed_form
from softmaxcode.exact.families import ExactCode, best, constructions, rebuild
from softmaxcode.exact.subcodes import greedy_subset

__all__ = ["ClosedForm", "ExactCode", "best", "closed_form", "constructions", "greedy_subset", "rebuild"]
