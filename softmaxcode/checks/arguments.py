"""The arguments of every entry point: one validator per kind, and one message per fault."""

from __future__ import annotations

import contextlib
import functools
import math
import numbers
import operator
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

if TYPE_CHECKING:
    from collections.abc import Collection

#: The objectives that a code can maximise: the margin, or the smallest distance.
Objective = Literal["softmax", "tammes"]
OBJECTIVES: tuple[str, ...] = get_args(Objective)
#: The largest integer in a record; no count here needs more than 64 bits.
MAX_INTEGER = 2**63 - 1
#: The most characters of a value in a message.
SHOWN = 100
#: The largest number of classes, and the largest dimension.
MAX_SIZE = 10**9
#: The most threads or processes; a larger number is a mistake.
MAX_JOBS = 10_000
#: The memory assumed where the system does not report it, in bytes.
USUAL_MEMORY = 16 * 2**30
#: Bytes of work arrays that a search of any size needs, and of the interpreter with the compiled kernels.
SEARCH_ARRAYS = 340 * 10**6
#: Where Linux states the memory of a container, by version of its control groups.
CONTAINER_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")


def printable(text: Any) -> str:
    r"""Text with control characters as escapes, so that a stored name can neither forge nor hide output.

    Examples
    --------
    >>> print(printable("a\x1b[2Jb\nc"))
    a\x1b[2Jb\nc
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))


def shown(value: Any) -> str:
    """A value as one printable line, shortened if it is long.

    Examples
    --------
    >>> shown("K"), shown(10**5000)
    ("'K'", 'a value of type int')
    """
    try:
        text = printable(" ".join(repr(value).split()))
    except Exception:  # an integer of thousands of digits, or any error of an object's own method
        text = f"a value of type {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def _is_flag(value: Any) -> bool:
    """Whether a value is a bool of Python or NumPy; the command starts without importing NumPy."""
    return isinstance(value, bool) or (type(value).__name__ in ("bool", "bool_") and type(value).__module__ == "numpy")


def check_integer(name: str, value: Any, minimum: int, maximum: int = MAX_INTEGER) -> int:
    """Return ``value`` as an int from ``minimum`` to ``maximum``; otherwise raise a ValueError that shows it."""
    wanted = f"{name} must be an integer of at least {minimum}; got {shown(value)}"
    if _is_flag(value):
        raise ValueError(wanted)
    try:
        number = operator.index(value)
    except TypeError:
        raise ValueError(wanted) from None
    if number < minimum:
        raise ValueError(wanted)
    if number > maximum:
        raise ValueError(f"{name} must be an integer of at most {maximum}; got {shown(value)}")
    return number


def check_pair(K: Any, d: Any) -> tuple[int, int]:
    """Return (K, d) as ints: K >= 2 classes in d >= 1 dimensions.

    Raises
    ------
    ValueError
        If either is not an integer or above 10^9, K < 2 or d < 1.
    """
    return (
        check_integer("K (the number of classes)", K, 2, MAX_SIZE),
        check_integer("d (the dimension)", d, 1, MAX_SIZE),
    )


def check_positive(name: str, value: Any) -> float:
    """Return a number as a float.

    Raises
    ------
    ValueError
        If it is not a finite number above 0.
    """
    number = _real(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a finite number above 0; got {shown(value)}")
    return number


def check_number(name: str, value: Any, low: float, high: float, ends: Literal["[]", "[)", "()"] = "[]") -> float:
    """Return a number from an interval as a float.

    Parameters
    ----------
    name : str
        The name of the argument in the message.
    value : object
        The value received.
    low, high : float
        The ends of the interval.
    ends : {"[]", "[)", "()"}
        Which of the ends belong to it.

    Raises
    ------
    ValueError
        If it is not a real number in that interval.

    Examples
    --------
    >>> check_number("momentum", 0, 0, 1, "[)")
    0.0
    """
    number = _real(value)
    inside = low <= number <= high and not (number == low and ends == "()") and not (number == high and ends != "[]")
    if not inside:
        below = f"number from {low:g} to below {high:g}" if high < math.inf else f"finite number of at least {low:g}"
        wanted = {
            "[]": f"number from {low:g} to {high:g}",
            "[)": below,
            "()": f"number between {low:g} and {high:g}, neither included",
        }[ends]
        raise ValueError(f"{name} must be a {wanted}; got {shown(value)}")
    return number


def _real(value: Any) -> float:
    """A real number as a float; NaN for anything else, for booleans, and for a number beyond the float range."""
    if _is_flag(value) or not isinstance(value, numbers.Real):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan


def check_temperature(temperature: Any) -> float:
    """Return the temperature as a float.

    Raises
    ------
    ValueError
        If it is not a finite number above 0.
    """
    if not isinstance(temperature, numbers.Real) and hasattr(temperature, "detach"):
        raise ValueError("temperature must be a number, not a tensor: it is not learned; pass float(temperature)")
    return check_positive("temperature", temperature)


def check_seconds(name: str, value: Any) -> float:
    """Return a number of seconds as a float; raise a ValueError if it is not a finite number above 0."""
    number = _real(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{name} must be a positive number of seconds; got {shown(value)}")
    return number


def check_jobs(n_jobs: Any) -> int:
    """Return a number of threads or processes, counted as in joblib: -1 for every core, -2 for all but one.

    Raises
    ------
    ValueError
        If it is not an integer, or is 0 or beyond 10,000 in absolute value.
    """
    try:
        number = check_integer("n_jobs", n_jobs, -MAX_JOBS, MAX_JOBS)
    except ValueError:
        number = 0
    if number == 0:
        raise ValueError(
            f"n_jobs must be a number of threads or processes, or -1 for every core; got {shown(n_jobs)}"
        ) from None
    return number


def check_flag(name: str, value: Any) -> bool:
    """Return True or False; raise a ValueError for anything else, such as a path where a switch is expected."""
    if not _is_flag(value):
        raise ValueError(f"{name} must be True or False; got {shown(value)}")
    return bool(value)


def check_progress(progress: Any) -> bool | None:
    """Return True, False, or None (a bar only on a terminal)."""
    return None if progress is None else check_flag("progress", progress)


def check_choice(name: str, value: Any, known: Collection[str]) -> str:
    """Return a name that is among the known ones; otherwise raise a ValueError that lists them."""
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}; got {shown(value)}")
    return str(value)


def check_list(name: str, values: Any) -> list[Any]:
    """Return a list, tuple, array or other iterable as a list; raise a ValueError if it is something else or empty."""
    try:
        listed = [] if isinstance(values, str | bytes) else list(values)
    except TypeError:
        listed = []
    if not listed:
        raise ValueError(f"{name} must be a list of at least one; got {shown(values)}")
    return listed


def check_callable(name: str, value: Any) -> None:
    """Raise a ValueError unless ``value`` is callable."""
    if not callable(value):
        raise ValueError(f"{name} must be callable; got {shown(value)}")


def check_path(path: Any) -> Path:
    """Return a path, given as a string or as a path object.

    Raises
    ------
    ValueError
        For anything else, such as a number or an open file, and for a path with a null character.
    """
    if not isinstance(path, str | os.PathLike) or not isinstance(os.fspath(path), str) or "\0" in os.fspath(path):
        raise ValueError(f"a path must be a string or a pathlib.Path, without null characters; got {shown(path)}")
    if not os.fspath(path):
        raise ValueError("a path must name a file or folder; got an empty string")
    return Path(path)


@functools.cache  # every validated array calls it
def machine_memory() -> int:
    """Bytes of memory that this process may use: those of the machine, of its container, or its own limit."""
    try:
        limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    except (AttributeError, ValueError, OSError):  # not a POSIX system
        return USUAL_MEMORY
    for name in CONTAINER_LIMITS:
        with contextlib.suppress(OSError, ValueError):  # a missing file, or "max"
            limits.append(int(Path(name).read_text()))
    with contextlib.suppress(ImportError, OSError):
        import resource

        limit = resource.getrlimit(resource.RLIMIT_AS)[0]
        limits += [limit] if limit > 0 else []  # RLIM_INFINITY is negative
    return min(limits)


def search_memory(K: int, d: int) -> int:
    """The least memory in bytes of a search for K vectors in d dimensions: its code in float64, and work arrays.

    Examples
    --------
    >>> f"{search_memory(10**6, 128) / 1e9:.1f} GB"
    '2.4 GB'
    """
    return 16 * K * d + SEARCH_ARRAYS


def check_memory(what: str, needed: int, instead: str, available: int | None = None) -> None:
    """Raise a ValueError, before memory is allocated, if a request does not fit into this machine.

    Parameters
    ----------
    what : str
        The request, such as "solve(100000, 3)".
    needed : int
        The least memory that it needs, in bytes.
    instead : str
        What the message suggests instead.
    available : int, optional
        Available memory in bytes; by default that of this machine.
    """
    available = machine_memory() if available is None else available
    if needed > available:
        raise ValueError(
            f"{what} needs at least {needed / 1e9:,.0f} GB of memory, and {available / 1e9:,.0f} GB is the limit here; "
            f"{instead}"
        )


def check_objective(objective: Any) -> Objective:
    """Return the objective's name, or raise a ValueError that lists the known ones."""
    return cast(Objective, check_choice("objective", objective, OBJECTIVES))
