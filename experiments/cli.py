"""The command ``python -m experiments``: a study, a comparison, or the report of a results folder."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from experiments.studies import STUDIES, first_process, study
from softmaxcode.cli.arguments import run_command
from softmaxcode.cli.options import application, execute

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cyclopts import App

ABOUT = "Real networks trained on real data, compared with computed Softmax Codes."

OTHERS = {
    "compare": (
        "experiments.compare_command:run",
        "Diagnose a classifier out of a file, and relate it to the similarity of its classes.",
    ),
    "report": ("experiments.commands:report", "Write everything found in a results folder as one HTML page."),
}


def app(chosen: str = "") -> App:
    """The command; a study is imported, which takes seconds, where it is chosen, and states its question."""
    commands = {name: (f"experiments.commands:{name}", about) for name, about in STUDIES.items()}
    if chosen in STUDIES:
        commands[chosen] = (commands[chosen][0], f"{study(chosen).TITLE}. {study(chosen).QUESTION}")
    return application("python -m experiments", ABOUT, commands | OTHERS)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 1 a run failed, else as `run_command`)."""
    given = sys.argv[1:] if argv is None else list(argv)
    return run_command(
        "experiments", lambda: execute(app(*given[:1]), given), first=first_process, program=argv is None
    )
