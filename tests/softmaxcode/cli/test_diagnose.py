"""``softmaxcode diagnose``: its page, its files, and one sentence for what cannot be used."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

import softmaxcode as sc
from softmaxcode.cli import main
from softmaxcode.sphere import random_rows
from tests.processes import HANG

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    W = random_rows(40, 5, np.random.default_rng(0))
    W[7] = 0
    np.savez(tmp_path / "net.npz", **{"fc.weight": 2 * W, "fc.bias": np.arange(40.0), "other": np.ones((3, 3))})
    (tmp_path / "names.txt").write_text("".join(f"name {k}\n" for k in range(40)))
    return tmp_path / "net.npz"


def test_the_page_is_what_python_prints(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = file.with_name("names.txt")
    assert main(["diagnose", str(file), "--key", "fc.weight", "--names", str(names), "--no-search"]) == 0
    report = sc.diagnose(file, key="fc.weight", names=[f"name {k}" for k in range(40)], search=False)
    out = capsys.readouterr().out
    assert out == f"{report}\n"
    assert "classifier             net.npz, fc.weight: K = 39 classes, d = 5" in out
    assert "1 row is zero and left out: name 7" in out and "The 10 classes in most danger" in out


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".md"])
def test_the_table_of_all_classes(file: Path, suffix: str) -> None:
    target = file.with_name(f"danger{suffix}")
    assert main(["diagnose", str(file), "--key", "fc.weight", "--no-search", "-o", str(target)]) == 0
    danger = sc.diagnose(file, key="fc.weight", search=False).danger
    if suffix == ".parquet":
        stored = pd.read_parquet(target)
        assert [list(one) for one in stored["competitors"]] == danger["competitors"].tolist()
        np.testing.assert_array_equal(stored["margin"], danger["margin"])
    elif suffix == ".csv":
        stored = pd.read_csv(target)
        assert stored["competitors"].tolist() == [", ".join(names) for names in danger["competitors"]]
        np.testing.assert_array_equal(stored["margin"], danger["margin"])
    else:
        assert target.read_text().count("\n") == len(danger) + 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.npy"], "cannot read nowhere.npy: there is no such file"),
        (
            ["FILE"],
            "a key is needed; its 3 tensors have 2 floating-point matrices of two rows or more: fc.weight (40, 5)",
        ),
        (["FILE", "--key", "head"], "the key 'head' is that of none"),
        (
            ["FILE", "--key", "fc.weight", "--names", "SHORT"],
            "there must be 40 names, one per class of fc.weight; got 2",
        ),
        (["FILE", "--key", "fc.weight", "-o", "page.pdf"], "the suffix must be one of .html, .csv, .parquet, .md"),
        (["FILE", "--key", "fc.weight", "--shared", "2"], "shared must be"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_sentence(
    file: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    short = file.with_name("short.txt")
    short.write_text("a\nb\n")
    named = {"FILE": str(file), "SHORT": str(short)}
    assert main(["diagnose", *(named.get(one, one) for one in arguments)]) == 2
    out, err = capsys.readouterr()
    assert out == "" and message in err and err.count("\n") == 1


@pytest.mark.processes
def test_a_wrong_path_is_refused_without_pytorch() -> None:
    """It takes seconds to import."""
    code = (
        "import sys; from softmaxcode.cli import main; code = main(['diagnose', 'nowhere.pt']); "
        "print(code, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=True)
    assert done.stdout == "2 False\n" and "there is no such file" in done.stderr
