"""Common to all commands: how pairs and search options are written on the command line, and what ends a command."""

from __future__ import annotations

import argparse
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
    from collections.abc import Callable

#: No range has more values than this.
MAX_VALUES = 10**6
#: Set to 1, this environment variable shows the traceback of an unexpected error.
DEBUG = "SOFTMAXCODE_DEBUG"


class Parser(argparse.ArgumentParser):
    """One clear sentence after the program's name, and exit code 2, without the usage; no option is abbreviated."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        # an abbreviation takes --seed for --seeds, and a misspelt option for another
        super().__init__(*arguments, **{"allow_abbrev": False} | options)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As argparse's, but of a subcommand that gets an option it does not have, its own help is named."""
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}", getattr(known, "command", None))
        return known

    def error(self, message: str, command: str | None = None) -> Any:
        """End with the message and where help is."""
        name = self.prog.removeprefix("python -m ").split()[0]
        self.exit(2, f"{name}: {message} (see {self.prog}{f' {command}' if command else ''} --help)\n")


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
    interrupted: str,
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
    interrupted : str
        What to print after Ctrl-C.
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
        if first() or (code == 2 and not _have_met()):
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
    except KeyboardInterrupt:
        return fail(interrupted, 130)
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


def numbers(text: str, name: str) -> list[int]:
    """``3,4,8:12`` as a list of integers, both ends of a range included."""
    out: list[int] = []
    for part in text.split(","):
        first, between, last = part.partition(":")
        try:
            low, high = int(first), int(last if between else first)
        except ValueError:
            raise ValueError(f"--{name} takes integers and ranges such as 4:32 or 3,4,8:10; got {text!r}") from None
        if not 0 <= high - low < MAX_VALUES:
            wrong = "runs backwards" if high < low else f"has more than {MAX_VALUES:,} values"
            raise ValueError(f"--{name} takes ranges such as 4:32; {part!r} {wrong}")
        out.extend(range(low, high + 1))
    return out


def parse_pair(text: str) -> tuple[int, int]:
    """Read ``K,d``; it can be the ``type`` of an option."""
    try:
        K, d = (int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes pairs K,d such as 12,3; got {text!r}") from None
    return K, d


def pairs_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--classes``, ``--dims`` and ``--pairs``; `chosen_pairs` reads them."""
    parser.add_argument("--classes", help="values of K, such as 4:32 or 10,20,30")
    parser.add_argument("--dims", help="values of d, such as 3,4")
    parser.add_argument("--pairs", help="single pairs K,d separated by spaces or semicolons, such as '12,3; 24,3'")


def chosen_pairs(arguments: argparse.Namespace) -> list[tuple[int, int]]:
    """The (K, d) of `pairs_options`, in order; none where none were given."""
    pairs: list[tuple[int, int]] = []
    if arguments.pairs:
        for text in arguments.pairs.replace(";", " ").split():
            try:
                pairs.append(parse_pair(text))
            except argparse.ArgumentTypeError as error:
                raise ValueError(f"--pairs {error}") from None
    if arguments.classes or arguments.dims:
        if not (arguments.classes and arguments.dims):
            raise ValueError("--classes and --dims go together")
        pairs += [(K, d) for d in numbers(arguments.dims, "dims") for K in numbers(arguments.classes, "classes")]
    return pairs


def search_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--starts``, ``--budget`` and ``--seed``."""
    parser.add_argument("--starts", type=int, help="random starts (default: by size)")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="time to spend on the search of each code")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (default 0)")


def output_option(parser: argparse.ArgumentParser, help: str, *, required: bool = False, metavar: str = "FILE") -> None:
    """Add ``-o`` and ``--force``; `chosen_output` checks them."""
    parser.add_argument("-o", "--output", required=required, metavar=metavar, help=help)
    parser.add_argument("--force", action="store_true", help="replace a file that exists")


def chosen_output(
    arguments: argparse.Namespace, suffixes: tuple[str, ...], *, resumes: Callable[[Path], bool] = lambda path: False
) -> Path | None:
    """The file that ``-o`` names, checked before any work; None where there is none.

    Parameters
    ----------
    arguments : Namespace
        Of a parser with `output_option`.
    suffixes : tuple of str
        The suffixes allowed.
    resumes : callable
        Whether the command resumes an unfinished output that is there; may refuse that of another command.

    Raises
    ------
    ValueError
        If the file cannot be written, or exists without ``--force``.
    """
    if arguments.output is None:
        return None
    path = check_output(arguments.output, suffixes)
    return path if arguments.force or resumes(path) else check_output(path, suffixes, replace=False)


def device_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--device``."""
    parser.add_argument("--device", help="run the starts on PyTorch: cpu, cuda or cuda:N (default: CPU kernels)")
