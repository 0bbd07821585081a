"""A progress bar on a terminal; no output in a pipe."""

from __future__ import annotations

import sys
import time
from typing import Any

from tqdm import tqdm


class Progress:
    """Counts steps, or seconds of a budget, and shows the best value so far; silent unless on a terminal.

    Parameters
    ----------
    label : str
        Text before the bar.
    total : float or None
        Expected steps, or seconds if ``seconds`` is set; None if unknown.
    show : bool or None
        Force the bar on or off; None shows it where standard error is a terminal.
    seconds : bool
        Fill the bar by elapsed time instead of steps.
    """

    def __init__(self, label: str, total: float | None, show: bool | None = None, *, seconds: bool = False) -> None:
        visible = sys.stderr.isatty() if show is None else show
        layout = "{desc}: {percentage:3.0f}%|{bar}| {n:.0f}/{total:.0f} s{postfix}" if seconds else None
        self._begin = time.monotonic() if seconds else None
        # no bar object where none is shown: tqdm takes a semaphore, which a killed worker would leak
        self._bar: Any = (
            tqdm(total=total, desc=label, leave=False, dynamic_ncols=True, bar_format=layout) if visible else None
        )

    def step(self, count: int, **shown: Any) -> None:
        """Advance by ``count`` and show the given values."""
        if self._bar is None:
            return
        if shown:
            self._bar.set_postfix(shown, refresh=False)
        if self._begin is None:
            self._bar.update(count)
        else:
            self._bar.n = min(self._bar.total, time.monotonic() - self._begin)
            self._bar.refresh()

    def clear(self) -> None:
        """Clear the line of the bar, so that something else can be printed there."""
        if self._bar is not None:
            self._bar.clear()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()
