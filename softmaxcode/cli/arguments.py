"""Common to all commands: the pairs and the output file that the user chose, and how a command ends."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softmaxcode.checks.arguments import printable
from softmaxcode.parallel.interrupts import ENDING
from softmaxcode.storage.disk import check_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: Set to 1, this environment variable shows the traceback of an unexpected error.
DEBUG = "SOFTMAXCODE_DEBUG"


def install_sigterm_handler() -> None:
    """Have the signals of `ENDING` end this process as Ctrl-C does, also where Ctrl-C is ignored.

    A shell has what it starts in the background ignore Ctrl-C. SIGHUP stays ignored where it is, as under ``nohup``.
    """

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            if number == signal.SIGTERM or signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, interrupt)


def run_command(
    name: str,
    action: Callable[[], int],
    *,
    first: Callable[[], bool] = lambda: True,
    program: bool = False,
) -> int:
    """Run a command and turn whatever ends it into one sentence on standard error and an exit code.

    Parameters
    ----------
    name : str
        What the sentence begins with.
    action : callable
        The command; it returns its exit code.
    first : callable
        Whether this is the first of several processes that run the same command: it alone prints, but for what is
        refused before they have met, and each reports it. One that is refused early ends the others, the first too.
    program : bool
        Whether the process ends with this command.

    Returns
    -------
    int
        What ``action`` returned; 2 for bad input or a file that cannot be used, 3 for an unexpected error,
        130 after Ctrl-C or SIGTERM.
    """

    def fail(message: object, code: int) -> int:
        if program:
            _failed.append(code)
        if (code == 2 and not _have_met()) or first():
            print(f"{name}: {printable(message)}", file=sys.stderr)
        return code

    install_sigterm_handler()
    for stream in ("stdout", "stderr"):
        if getattr(sys, stream) is None:  # it was closed before the start, as by >&-
            setattr(sys, stream, open(os.devnull, "w"))  # noqa: SIM115
    try:
        return action()
    except ValueError as error:
        return fail(error, 2)
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone: nothing can be printed any more
        return 0
    except OSError as error:
        return fail(f"{error.strerror or error}" + (f": {error.filename}" if error.filename else ""), 2)
    except MemoryError:
        return fail("there is not enough memory for this; a smaller problem, or a machine with more, is needed", 2)
    except KeyboardInterrupt as error:
        return fail(error if isinstance(error, Resumable) else "interrupted", 130)
    except Exception as error:
        if os.environ.get(DEBUG) == "1":
            raise
        said = str(error).strip().split("\n")[0]
        return fail(
            f"unexpected {type(error).__name__}" + (f": {said}" if said else "") + f" ({DEBUG}=1 shows where)", 3
        )


#: The exit code of a program that failed.
_failed: list[int] = []


@atexit.register  # before others, and so called after them: they remove semaphores and temporary files
def _leave() -> None:
    """End a process whose command failed, at its very end, without taking the interpreter down.

    After an interrupt, threads can be in compiled kernels still, whose arrays would be freed under them. And where an
    interrupt has passed through code compiled from a string, Python ends ``python -m`` by SIGINT, caught or not.
    """
    if _failed:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(Exception):
                stream.flush()
        os._exit(_failed[-1])


def _have_met() -> bool:
    """Whether this process is in a group of PyTorch's."""
    torch = sys.modules.get("torch")
    return torch is not None and torch.distributed.is_available() and torch.distributed.is_initialized()


class Resumable(KeyboardInterrupt):
    """An interrupt whose message names what is kept; `run_command` prints it."""


@contextlib.contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Add to the message of an interrupted command what is kept; the same command resumes from it.

    Parameters
    ----------
    kept : str
        As in "finished pairs are kept".

    Raises
    ------
    Resumable
        After an interrupt.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Resumable(f"interrupted; {kept}, and the same command resumes") from None


def chosen_pairs(
    classes: Sequence[int] = (), dims: Sequence[int] = (), pairs: Sequence[tuple[int, int]] = ()
) -> list[tuple[int, int]]:
    """The pairs (K, d) that the user chose, in order; an empty list if there are none.

    Parameters
    ----------
    classes : sequence of int
        Values of K, such as 4:32 or 10,20,30.
    dims : sequence of int
        Values of d, such as 3,4.
    pairs : sequence of (K, d)
        Single pairs, such as '12,3; 24,3'.

    Raises
    ------
    ValueError
        If classes or dimensions were given alone.
    """
    if bool(classes) != bool(dims):
        raise ValueError("--classes and --dims go together")
    return [*pairs, *((K, d) for d in dims for K in classes)]


def needed_pairs(**which: Any) -> list[tuple[int, int]]:
    """As `chosen_pairs`, but at least one pair is required."""
    pairs = chosen_pairs(**which)
    if not pairs:
        raise ValueError("name the (K, d): --classes 4:32 --dims 3,4, or --pairs '12,3; 24,3'")
    return pairs


def chosen_output(
    output: str | None, force: bool, suffixes: tuple[str, ...], *, resumes: Callable[[Path], bool] = lambda path: False
) -> Path | None:
    """The file that ``-o`` names, checked before any work; None where there is none.

    Parameters
    ----------
    output : str, optional
        The file.
    force : bool
        Replace it where it exists.
    suffixes : tuple of str
        The suffixes allowed.
    resumes : callable
        Whether the command resumes an unfinished output that is there; may refuse that of another command.

    Raises
    ------
    ValueError
        If the file cannot be written, or exists without ``--force``.
    """
    if output is None:
        return None
    path = check_output(output, suffixes)
    return path if force or resumes(path) else check_output(path, suffixes, replace=False)
