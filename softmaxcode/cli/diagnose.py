"""``softmaxcode diagnose``: the report on a trained classifier out of a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from softmaxcode.checks.arguments import printable
from softmaxcode.cli.arguments import chosen_output
from softmaxcode.cli.options import Force, Output, takes
from softmaxcode.diagnosis.entry_point import diagnose as run_diagnosis
from softmaxcode.diagnosis.text import parts
from softmaxcode.storage.disk import read_text
from softmaxcode.tables import write

if TYPE_CHECKING:
    from softmaxcode.diagnosis.report import Diagnosis

#: Suffixes of the files that ``-o`` may name: the page, or the table of all classes.
SUFFIXES = (".html", ".csv", ".parquet", ".md")


@takes(options=(run_diagnosis, "key", "transpose", "temperature", "shared", "seconds", "search", "seed"))
def diagnose(
    file: str,
    /,
    options,
    *,
    names: str | None = None,
    output: Output = None,
    force: Force = False,
) -> int:
    """Report on a trained classifier: its margin, and the classes in danger.

    Parameters
    ----------
    file : str
        .safetensors (or its .index.json), .pt, .pth, .ckpt, .bin, .npy, .npz or .onnx; nothing of it is executed.
    names : str
        Text file with the names of the classes, one per line.
    output : str
        Also write the page as .html, or the table of all classes as .csv, .parquet or .md.
    """
    target = chosen_output(output, force, SUFFIXES)
    called = None if names is None else read_names(names)
    found = run_diagnosis(file, names=called, **options)
    for part in parts(found):  # each is shown as soon as it is known
        print(part, flush=True)
    if target is not None:
        _write(found, target)
        print(f"{'written':<22} {printable(target)}")
    return 0


def read_names(path: str | Path) -> list[str]:
    """The names of classes in a text file, one per line."""
    # no other separator: names may contain those
    return read_text(path, strict=True).removesuffix("\n").split("\n")


def _write(found: Diagnosis, target: Path) -> None:
    if target.suffix.lower() == ".html":
        found.to_html(target)
        return
    danger = found.danger.copy()
    if target.suffix.lower() != ".parquet":  # which has lists
        for column in ("competitors", "weights"):
            danger[column] = danger[column].map(lambda values: ", ".join(map(str, values)))
    write(danger, target)
