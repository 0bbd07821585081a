"""Codes known in closed form, one family a file."""

from softmaxcode.exact.classical import ClosedForm, closed_form

__all__ = ["ClosedForm", "closed_form"]
