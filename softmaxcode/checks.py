"""Checks of arguments, one for each kind: what was received, what is expected, what to do."""

from __future__ import annotations

import operator
import os
from typing import Any

import numpy as np

#: More threads or processes than this are a mistake.
MAX_JOBS = 10_000
#: Memory that is assumed where the system does not report it, in bytes.
USUAL_MEMORY = 16 * 2**30


def check_jobs(n_jobs: Any) -> int:
    """Return a number of threads or processes, as joblib counts them, or raise a ValueError.

    Examples
    --------
    >>> check_jobs(-1)
    -1
    """
    wanted = f"n_jobs must be a number of threads or processes, or -1 for every core; got {n_jobs!r}"
    if isinstance(n_jobs, (bool, np.bool_)):
        raise ValueError(wanted)
    try:
        number = operator.index(n_jobs)
    except TypeError:
        raise ValueError(wanted) from None
    if number == 0 or abs(number) > MAX_JOBS:
        raise ValueError(wanted)
    return number


def check_flag(name: str, value: Any) -> bool:
    """Return True or False, or raise a ValueError."""
    if not isinstance(value, (bool, np.bool_)):
        raise ValueError(f"{name} must be True or False; got {value!r}")
    return bool(value)


def check_progress(progress: Any) -> bool | None:
    """Return True, False, or None for a terminal only; raise a ValueError for anything else."""
    return None if progress is None else check_flag("progress", progress)


def machine_memory() -> int:
    """The memory of this machine in bytes."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return USUAL_MEMORY


def check_memory(what: str, needed: int, instead: str) -> None:
    """Raise a ValueError, before any memory is taken, where something cannot fit into this machine.

    Parameters
    ----------
    what : str
        What is asked for, such as "solve(100000, 3)".
    needed : int
        Bytes that it takes, at least.
    instead : str
        What can be done in its place.
    """
    available = machine_memory()
    if needed > available:
        raise ValueError(
            f"{what} needs at least {needed / 1e9:,.0f} GB of memory, and this machine has {available / 1e9:,.0f} GB; "
            f"{instead}"
        )
