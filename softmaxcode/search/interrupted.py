"""The interrupt of a search, which carries the best code so far."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from softmaxcode.code import SoftmaxCode
    from softmaxcode.types import Rows


class SearchInterrupted(KeyboardInterrupt):
    """Ctrl-C, or a signal to end, during `softmaxcode.solve`: the best code so far, not polished.

    Attributes
    ----------
    X : ndarray, shape (K, d)
        The best packing that the search has found.
    value : float
        Its 1 - mu, up to float32 rounding for many points.
    codes : dict
        The better of it and what was known before, under both objectives.
    code : SoftmaxCode
        The one of the objective that `softmaxcode.solve` was called with.
    """

    code: SoftmaxCode

    def __init__(self, X: Rows, value: float) -> None:
        super().__init__("the search was interrupted; the attribute code is the best code so far")
        self.X, self.value = X, value
        self.codes: dict[str, SoftmaxCode] = {}
