"""Every CUDA test and every CUDA row of the benchmarks: ``python -m benchmarks.gpu OUT [--dry-run]``.

The output of each step is written to its own file in the folder OUT, with the name of the device in front. A step that
fails or takes too long does not stop the others; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence


class Step(NamedTuple):
    """A command, the file of its output, and the seconds that it may take."""

    name: str
    command: tuple[str, ...]
    timeout: float


def steps(out: Path) -> list[Step]:
    """The steps to run: together under nine minutes on one GPU."""
    python = sys.executable
    tests = (python, "-m", "pytest", "-m", "cuda", "-p", "no:cacheprovider", "tests")
    many = (python, "-m", "benchmarks.solve", "--tables", "budgets", "--quick", "--baselines", "none", "--budget", "40")
    return [
        Step("tests", tests, 140),
        Step("ufm", (python, "-m", "benchmarks.ufm", "--write", str(out / "ufm.md")), 90),
        Step("losses", (python, "-m", "benchmarks.cross_entropy", "--quick"), 75),
        Step("routes", (python, "-m", "benchmarks.solve", "--tables", "routes", "--quick"), 75),
        Step("many-points", (*many, "--pairs", "100000,64", "--device", "cuda"), 110),
        Step("training", (python, "-m", "benchmarks.throughput", "--accelerator", "cuda"), 50),
    ]


def run(step: Step, out: Path) -> str:
    """Run a step; returns its result in one line."""
    begin = time.perf_counter()
    with (out / f"{step.name}.txt").open("w", encoding="utf-8") as stream:
        try:
            ended = subprocess.run(
                step.command, stdout=stream, stderr=subprocess.STDOUT, timeout=step.timeout, check=False
            )
        except subprocess.TimeoutExpired:
            return f"{step.name}: not finished within {step.timeout:g} s"
    return f"{step.name}: exit code {ended.returncode} after {time.perf_counter() - begin:.0f} s"


def device() -> str:
    """The name of the GPU, and the versions of the software that uses it."""
    import torch

    name = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "no CUDA device"
    return f"{name}, PyTorch {torch.__version__}, CUDA {torch.version.cuda}, Python {sys.version.split()[0]}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run every step, or print them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("out", type=Path, help="folder for the outputs")
    parser.add_argument("--dry-run", action="store_true", help="print the commands alone")
    chosen = parser.parse_args(arguments)
    wanted = steps(chosen.out)
    if chosen.dry_run:
        for step in wanted:
            print(f"{step.name} ({step.timeout:g} s at most): {' '.join(step.command)}")
        return 0
    chosen.out.mkdir(parents=True, exist_ok=True)
    lines = [device()]
    print(lines[0], flush=True)
    for step in wanted:
        lines.append(run(step, chosen.out))
        print(lines[-1], flush=True)
        (chosen.out / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return int(any("exit code 0" not in line for line in lines[1:]))


if __name__ == "__main__":
    sys.exit(main())
