"""The steps of the GPU benchmark: each writes its output to a file, and none stops the others."""

from __future__ import annotations

import importlib
import importlib.metadata
import sys
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from benchmarks import gpu

WHEELS = Path(gpu.__file__).with_name("gpu-wheels.txt")


def needed(*names: str, there: frozenset[str] = frozenset()) -> frozenset[str]:
    """The distributions that these need, themselves included, but for those that are there."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in found | there:
            found.add(name)
            required = map(Requirement, importlib.metadata.requires(name) or ())
            waiting += [one.name for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]
    return frozenset(found)


def test_the_wheels_are_all_that_a_machine_with_pytorch_lacks() -> None:
    lines = [line for line in WHEELS.read_text().splitlines() if not line.startswith("#")]
    carried = {canonicalize_name(Requirement(line).name) for line in lines}
    tools = ("pytest", "hypothesis", "lightning", "torchvision", "scikit-learn")
    assert needed("softmaxcode", *tools, there=needed("torch")) - {"softmaxcode"} == carried


def test_a_dry_run_names_modules_that_exist_and_fits_the_time(tmp_path, capsys) -> None:
    assert gpu.main([str(tmp_path / "out"), "--dry-run"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(gpu.steps(tmp_path))
    assert sum(step.timeout for step in gpu.steps(tmp_path)) <= 9 * 60
    for step in gpu.steps(tmp_path):
        importlib.import_module(step.command[2])
    assert not (tmp_path / "out").exists()


@pytest.mark.processes
def test_a_step_that_fails_or_hangs_does_not_stop_the_others(tmp_path, monkeypatch) -> None:
    def python(code: str) -> tuple[str, ...]:
        return (sys.executable, "-c", code)

    wanted = [
        gpu.Step("fails", python("print('why'); raise SystemExit(3)"), 60),
        gpu.Step("hangs", python("import time; time.sleep(600)"), 0.5),
        gpu.Step("works", python("print('table')"), 60),
    ]
    monkeypatch.setattr(gpu, "steps", lambda out: wanted)
    assert gpu.main([str(tmp_path)]) == 1
    _, *lines = (tmp_path / "summary.txt").read_text().splitlines()
    assert [line.split(" after")[0] for line in lines] == [
        "fails: exit code 3",
        "hangs: not finished within 0.5 s",
        "works: exit code 0",
    ]
    assert (tmp_path / "works.txt").read_text() == "table\n" and (tmp_path / "fails.txt").read_text() == "why\n"
