"""Signals that end a command, and blocks that they do not interrupt."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Signals that end a command like Ctrl-C: SIGTERM comes from batch systems, SIGHUP from a terminal that is closed.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


@contextlib.contextmanager
def uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and the signals of `ENDING` to the end of the block; only in the main thread, where handlers run.

    Examples
    --------
    >>> with uninterrupted():
    ...     half, whole = 1, 2  # an interrupt comes before or after both
    """
    kept: list[int] = []
    handlers = {}
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, *ENDING):
            handler = signal.getsignal(number)
            if callable(handler):  # neither ignored nor the system's default
                handlers[number] = handler
                signal.signal(number, lambda number, _: kept.append(number))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        if kept:
            signal.raise_signal(signal.Signals(kept[0]))
