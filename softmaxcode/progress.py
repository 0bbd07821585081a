"""A progress bar on a terminal, and nothing in a pipe."""

from __future__ import annotations

import sys
from typing import Any

from tqdm import tqdm


class Progress:
    """Counts steps towards a total and shows the best value so far; silent unless standard error is a terminal.

    Parameters
    ----------
    label : str
        Shown before the bar.
    total : int or None
        Steps expected; None where time, not a count, ends the work.
    show : bool or None
        Force the bar on or off; None shows it on a terminal only.
    """

    def __init__(self, label: str, total: int | None, show: bool | None = None) -> None:
        visible = sys.stderr.isatty() if show is None else show
        self._bar: Any = tqdm(total=total, desc=label, disable=not visible, leave=False, dynamic_ncols=True)

    def step(self, count: int, **shown: Any) -> None:
        """Advance by ``count`` and show the given figures."""
        if shown:
            self._bar.set_postfix(shown, refresh=False)
        self._bar.update(count)

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()
