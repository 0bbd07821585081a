"""The ``softmaxcode`` command; what a command needs is imported when it is called."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softmaxcode.cli.arguments import run_command
from softmaxcode.cli.options import application, execute

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Where each command is, below ``softmaxcode.cli``, and what it does.
COMMANDS = {
    "solve": ("solve:solve", "Solve one (K, d) and print its measurements."),
    "check": ("check:check", "Derive every value of a file again from its coordinates."),
    "table": ("solve:table", "Compare margin and Tammes distance for many (K, d)."),
    "bounds": ("solve:bounds", "Print proved bounds on the largest margin and on 1 - mu of K unit vectors in R^d."),
    "diagnose": (
        "diagnose:diagnose",
        "Report on a trained classifier: its margin, and the classes in danger.",
    ),
    "plot": ("pictures:plot", "Draw a code: sphere, cosine spectrum, margins."),
    "landscape": (
        "pictures:landscape",
        "Draw the best margins known against K, one panel per dimension.",
    ),
}
CATALOG = {
    "list": ("catalog:list_entries", "Print what is stored, one line per entry."),
    "show": ("catalog:show", "Print every value of one code, without any search."),
    "improve": ("catalog:improve", "Search many (K, d), and keep what is better than what is stored."),
    "export": ("catalog:export", "Write what is stored into a new catalogue file."),
    "import": (
        "catalog:import_file",
        "Improve by another catalogue or code file, verifying every code.",
    ),
    "verify": ("catalog:verify", "Derive the certificate of every entry again."),
}


def _below(commands: dict[str, tuple[str, str]]) -> dict[str, tuple[str, str]]:
    return {name: (f"softmaxcode.cli.{place}", about) for name, (place, about) in commands.items()}


app = application("softmaxcode", "Softmax Codes and Tammes packings, with certificates.", _below(COMMANDS))
app.command(
    application("catalog", "The best codes known: list, show, improve, export, import, verify.", _below(CATALOG))
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 1 a checked file is different, else as `run_command`)."""
    return run_command("softmaxcode", lambda: execute(app, argv), program=argv is None)
