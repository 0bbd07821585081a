"""Names of classes as a page shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softmaxcode.checks.arguments import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Characters of a name that the page shows.
MAX_NAME = 24


def shortened(name: str, length: int = MAX_NAME) -> str:
    """A name as it is shown: printable, and not longer than ``length``."""
    text = printable(name)
    return text if len(text) <= length else text[: length - 1] + "…"


def listed(names: Sequence[str], most: int) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(shortened(name) for name in names[:most])
    return shown + (f" and {len(names) - most:,} more" if len(names) > most else "")
