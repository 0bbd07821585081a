"""Tables as aligned Markdown, the machine's description, and the parts of a page that a command writes."""

from __future__ import annotations

import argparse
import os
import platform
import re
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pandas as pd

from softmaxcode.storage.disk import written_whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    #: Tables or Markdown by the name of their part.
    Parts = Mapping[str, pd.DataFrame | str]

Plan = TypeVar("Plan")

#: Shown where nothing was measured.
ABSENT = "–"
#: Above this load average before a run, times are unreliable.
QUIET = 0.5


def aligned(table: pd.DataFrame) -> str:
    """The table as Markdown, numbers as they are written and aligned to the right; the first column to the left."""
    if table.empty:
        return "No rows."
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


def made(command: str, took: float | None = None) -> str:
    """How tables were made, as a Markdown list: the command, its seconds, PyTorch's threads and the machine."""
    import torch

    seconds_taken = "" if took is None else f", {took:.0f} s"
    return f"- `{command}`{seconds_taken}; PyTorch threads: {torch.get_num_threads()}\n{machine()}"


def write(path: Path, text: str) -> None:
    """Write a file atomically, in a folder that is created if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def replace_parts(path: Path, texts: Mapping[str, str], names: Iterable[str]) -> None:
    """Write named parts of a file, each between the lines ``<!-- name -->`` and ``<!-- /name -->``, all in one step.

    The rest of the file stays as it is. A file that does not exist is made of the markers of ``names`` alone.

    Raises
    ------
    ValueError
        If the file does not have exactly one such pair of lines for each part, or a part has such a line itself.
    """
    if path.exists():
        text = path.read_text(encoding="utf-8")
    else:
        text = "\n".join(f"<!-- {name} -->\n<!-- /{name} -->\n" for name in names)
    for name, part in texts.items():
        if re.search(r"^<!-- /?\w+ -->$", part, re.M):
            raise ValueError(f"the part {name} has a line that marks a part, such as <!-- name -->")
        begin, end = _span(path, text, name)
        text = f"{text[:begin]}{part.strip()}\n{text[end:]}"
    write(path, text)


def _span(path: Path, text: str, name: str) -> tuple[int, int]:
    """Where a part of a page begins and ends."""
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    markers = list(re.finditer(f"^(?:{begin}|{end})$", text, re.M))
    found = [marker[0] for marker in markers]
    if found != [begin, end]:
        raise ValueError(f"{path} must have one line {begin} and below it one line {end}; got {found}")
    return markers[0].end() + 1, markers[1].start()


@dataclass(frozen=True)
class Page:
    """A page of the documentation, and the parts of it that one command writes; people write the text around them."""

    path: str
    parts: tuple[str, ...]

    def add_option(self, parser: argparse.ArgumentParser) -> None:
        """Give a command the option ``--write``."""
        parser.add_argument(
            "--write", type=self._writable, metavar="FILE", help=f"write the tables into this page ({self.path})"
        )

    def _writable(self, file: str) -> Path:
        """The file, if it has every part or does not exist yet."""
        try:
            self.check(Path(file))
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
        return Path(file)

    def check(self, path: Path) -> None:
        """Raise a ValueError if the file exists and does not have every part."""
        if path.exists():
            text = path.read_text(encoding="utf-8")
            for name in self.parts:
                _span(path, text, name)

    def publish(self, tables: Parts, path: Path | None) -> None:
        """Print each part below its name, and write it where a page is given."""
        unknown = tables.keys() - set(self.parts)
        if unknown:
            raise ValueError(f"parts must be among {self.parts}; got {sorted(unknown)}")
        texts = {name: part if isinstance(part, str) else aligned(part) for name, part in tables.items()}
        print("\n\n".join(f"{name}:\n\n{text}" for name, text in texts.items()))
        if path is not None:
            replace_parts(path, texts, self.parts)


def run_plan(
    module: str,
    page: Page,
    about: str | None,
    measure: Callable[[Plan, Path | None], Parts],
    full: Plan,
    quick: Plan,
    arguments: Sequence[str] | None,
) -> None:
    """The command of a benchmark that makes tables and one figure: measure, print and write them.

    Parameters
    ----------
    module : str
        Of the benchmark, for ``python -m benchmarks.<module>``.
    page : Page
        Its page; the last part describes how the others were made. The figure goes to ``images/`` beside the page.
    about : str or None
        The module's docstring.
    measure : callable
        From a plan and where to draw (or None) to the parts but the last.
    full, quick : Plan
        The plan to measure, and the one for ``--quick``.
    arguments : sequence of str or None
        Arguments of the command line.
    """
    from softmaxcode.parallel.torch_threads import one_thread

    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{module}", description=(about or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small sizes: seconds")
    page.add_option(parser)
    chosen = parser.parse_args(arguments)
    figure = chosen.write.parent / "images" / f"{chosen.write.stem}.png" if chosen.write else None
    begin = time.perf_counter()
    with one_thread():
        parts = dict(measure(quick if chosen.quick else full, figure))
        command = f"python -m benchmarks.{module}" + (" --quick" if chosen.quick else "")
        parts[page.parts[-1]] = made(command, time.perf_counter() - begin)
    page.publish(parts, chosen.write)
