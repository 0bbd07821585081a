"""Tables as aligned Markdown, a description of the machine, and files written atomically, whole or in marked parts."""

from __future__ import annotations

import argparse
import os
import platform
import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from softmaxcode.storage.disk import written_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Plan = TypeVar("Plan")

#: The cell of a value that was not measured.
ABSENT = "–"
#: Above this load average before a run, times are unreliable.
QUIET = 0.5


@dataclass(frozen=True)
class Section:
    """A heading, the text above the table, the table, and the text below it."""

    heading: str
    above: str
    table: pd.DataFrame
    below: str = ""

    def markdown(self) -> str:
        """The section as Markdown."""
        parts = [f"## {self.heading}", self.above, aligned(self.table), self.below]
        return "\n\n".join(part for part in parts if part) + "\n"


def aligned(table: pd.DataFrame) -> str:
    """The table as Markdown, numbers unchanged and aligned to the right, the first column to the left."""
    text = table.astype(str)
    alignment = ["left", *["right"] * (len(table.columns) - 1)]
    return str(text.to_markdown(index=False, disable_numparse=True, colalign=alignment[: len(table.columns)]))


def seconds(value: float) -> str:
    """Seconds to three digits."""
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"


def times(value: float) -> str:
    """A ratio to two or three digits."""
    return f"{value:.2g}" if value < 10 else f"{value:.0f}"


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpu() -> str:
    import torch

    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def machine() -> str:
    """The machine and the versions, as a Markdown list, without names of hosts or paths."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    packages = ("numpy", "scipy", "numba", "torch", "geoopt", "pymanopt")
    lines = [
        f"- {platform.system()} on {platform.machine()}, {_processor()}, {_cores()} cores, GPU: {_gpu()}",
        f"- Python {platform.python_version()}, " + ", ".join(f"{name} {_version(name)}" for name in packages),
        f"- load average when this was noted: {load:.1f}" + (" (other work was running)" if load > QUIET else ""),
    ]
    return "\n".join(lines)


def write(path: Path, text: str) -> None:
    """Write a file atomically, in a folder that is created if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_part(path: Path, name: str, text: str) -> None:
    """Write the part of a file between the lines ``<!-- name -->`` and ``<!-- /name -->``; the rest does not change.

    In a file without them, both lines and the text between them are appended.

    Raises
    ------
    ValueError
        If the file has these lines, but not exactly one of each in this order.
    """
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    part = f"{begin}\n{text.rstrip()}\n{end}"
    markers = re.findall(f"^(?:{begin}|{end})$", old, re.M)
    if not markers:
        write(path, "\n".join([*([old] if old else []), part, ""]))
    elif markers == [begin, end]:
        write(path, re.sub(f"^{begin}$.*?^{end}$", lambda _: part, old, flags=re.M | re.S))
    else:
        raise ValueError(f"{path} must have one line {begin} and below it one line {end}, or neither; got {markers}")


def write_around_parts(path: Path, text: str) -> None:
    """Write a file again, followed by the parts that `replace_part` wrote into the old file."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    parts = [found[0] + "\n" for found in re.finditer(r"^<!-- (\w+) -->$.*?^<!-- /\1 -->$", old, re.M | re.S)]
    write(path, "\n".join([text, *parts]))


def write_parts(
    module: str,
    stem: str,
    about: str | None,
    parts: Callable[[Plan, str, str, Path | None], dict[str, str]],
    full: Plan,
    quick: Plan,
    arguments: Sequence[str] | None,
) -> None:
    """The command of a benchmark that makes parts of a document and one figure: measure, print and write them.

    Parameters
    ----------
    module : str
        Name of the benchmark, for ``python -m benchmarks.<module>``.
    stem : str
        Stem of the figure's name if no document is written.
    about : str or None
        The module's docstring.
    parts : callable
        Maps a plan, the command, the figure's link and the file to draw it into (or None) to the text of each part by
        name.
    full, quick : Plan
        The plan to measure, and the one for ``--quick``.
    arguments : sequence of str or None
        Arguments of the command line.
    """
    from softmaxcode.parallel.torch_threads import one_thread

    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=(about or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: seconds")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the parts of this document, and its figure")
    chosen = parser.parse_args(arguments)
    name = chosen.write.stem if chosen.write else stem
    figure = chosen.write.parent / "images" / f"{name}.png" if chosen.write else None
    command = f"python -m benchmarks.{module}" + (" --quick" if chosen.quick else "")
    with one_thread():
        texts = parts(quick if chosen.quick else full, command, f"images/{name}.png", figure)
    print("\n".join(texts.values()))
    if chosen.write is not None:
        for part, text in texts.items():
            replace_part(chosen.write, part, text)
