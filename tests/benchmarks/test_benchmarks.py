"""The benchmarks run, and their baselines do what their descriptions state."""

from __future__ import annotations

import re

import numpy as np
import pytest

import softmaxcode as sc
from benchmarks import baselines, exact_margins, report, solve, targets


@pytest.mark.parametrize("name", ["torch", "compiled"])
@pytest.mark.parametrize(("K", "d"), [(7, 3), (15, 4)])
def test_the_implementations_take_the_same_steps(name: str, K: int, d: int) -> None:
    reference = baselines.subgradient_numpy(K, d, 0, 60)
    np.testing.assert_allclose(baselines.SUBGRADIENT[name](K, d, 0, 60), reference, atol=1e-10)


def test_the_baselines_reach_a_good_code() -> None:
    known = 1 - 1 / np.sqrt(5)
    assert known - 1e-3 < sc.margin(baselines.subgradient_compiled(12, 3, 0, 50_000)).margin <= known + 1e-12
    assert known - 1e-3 < sc.margin(baselines.pymanopt_packing(12, 3, 0), normalize=True).margin <= known + 1e-12


def test_reed_muller_cosets() -> None:
    W = exact_margins.reed_muller_cosets(600)
    assert W.shape == (600, 128)
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, atol=1e-14)
    cosines = np.unique(np.round(8 * (W @ W.T), 9))
    assert set(cosines) == {-8.0, -1.0, 0.0, 1.0, 8.0}
    assert len(np.unique(W, axis=0)) == 600


def test_targets() -> None:
    rows = targets.all_targets()
    assert len({row.pair for row in rows}) == len(rows) == 24
    with pytest.raises(ValueError, match="no such row"):
        targets.select([(3, 3)])


def test_a_small_run(tmp_path, capsys, parts_of) -> None:
    path = tmp_path / "docs" / "benchmarks.md"
    arguments = ["--quick", "--tables", "solve", "--rows", "12,3", "--steps", "200", "--no-torch"]
    solve.main([*arguments, "--out", str(tmp_path), "--write", str(path)])
    made = parts_of(path)
    assert list(made) == ["machine", "search", "counts", "subgradient"]
    printed = capsys.readouterr().out
    assert all(part in printed for part in made.values())
    assert "0.5527864045000" in made["search"] and "| 12 " in made["search"]
    assert re.search(r"\| 1 +\| +1 \| +1 \| +1 \|$", made["counts"])
    assert made["subgradient"].count("| (12, 3)") == 2
    assert sorted(file.name for file in tmp_path.glob("*.csv")) == ["counts.csv", "search.csv", "subgradient.csv"]
    assert not list(path.parent.glob(".*"))


def test_machine_names_no_host() -> None:
    import platform

    assert platform.node() not in report.machine() or len(platform.node()) < 4
