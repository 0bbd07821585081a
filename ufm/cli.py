"""The command ``python -m ufm``; what a command needs is imported when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softmaxcode.cli.arguments import run_command
from softmaxcode.cli.options import application, execute

if TYPE_CHECKING:
    from collections.abc import Sequence

ABOUT = "The unconstrained feature model: features and classifier free on the sphere, at small temperature."
COMMANDS = {
    "simulate": "Run one simulation: its history, its rows and a figure, in a folder.",
    "sweep": "Simulate every combination of classes, dimension, temperature and seed: a table.",
    "plot": "Draw a run or a sweep again.",
}

app = application("python -m ufm", ABOUT, {name: (f"ufm.commands:{name}", about) for name, about in COMMANDS.items()})


def _first_process() -> bool:
    from ufm.parallel import first_process  # with PyTorch, in seconds

    return first_process()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 1 a run diverged, else as `run_command`)."""
    return run_command("ufm", lambda: execute(app, argv), first=_first_process, program=argv is None)
