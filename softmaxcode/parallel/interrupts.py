"""Signals that end a command, blocks that they do not interrupt, and processes that end with the first one."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Signals that end a command like Ctrl-C: SIGTERM comes from batch systems, SIGHUP from a terminal that is closed.
ENDING = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
#: Seconds between two looks of a process at its parent.
WATCH_EVERY = 1.0


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


@contextlib.contextmanager
def starting_processes() -> Iterator[None]:
    """Where processes start: no interrupt leaves one half started, and they see neither Ctrl-C nor a closed terminal.

    Both go to all processes of a terminal: this one answers, and the others end with it. One of them removes the
    semaphores of the rest.
    """
    with uninterrupted():
        if not hasattr(signal, "pthread_sigmask"):
            yield
            return
        # not above: it registers what removes semaphores at the exit, which must run before `cli.arguments` ends it
        from multiprocessing import resource_tracker

        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            resource_tracker.ensure_running()  # it must block SIGHUP too, and its start lets SIGINT through again
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


def end_with(parent: int) -> None:
    """Have this process end soon after its parent, however that ends: a killed parent ends nothing itself.

    A signal at the parent's death (``PR_SET_PDEATHSIG``) would come when the thread ends that started this process.

    Parameters
    ----------
    parent : int
        The parent's process id, as the parent gave it: it may have ended before this process looks.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_EVERY)
        os._exit(1)

    threading.Thread(target=watch, name="end with the parent", daemon=True).start()
