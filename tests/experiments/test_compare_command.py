"""``python -m experiments compare``: its measurements against the definitions, its files, and refused input."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import rankdata, spearmanr

import softmaxcode as sc
from experiments import compare_command
from experiments.class_similarity import MantelResult
from experiments.compare_command import compare_findings, run
from softmaxcode.cli.options import application, execute
from softmaxcode.sphere import unit_rows

CLOSEST = "Closest pairs of classes (angles in degrees)"


def rows(K: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((K, d))


def saved(folder: Path, array: Any, name: str = "W.npy") -> Path:
    np.save(folder / name, array)
    return folder / name


def command(*arguments: Any) -> int:
    app = application("experiments", "", {"compare": (run, "")})
    return execute(app, ["compare", *(str(part) for part in arguments)])


def about(findings: Any, part: str) -> str:
    (statement,) = (statement for statement in findings.statements if part in statement)
    return str(statement)


# Similarity of the classes


def by_definition(G: np.ndarray, S: np.ndarray) -> float:
    upper = np.triu_indices(len(G), 1)
    return float(spearmanr(G[upper], S[upper]).statistic)


def test_rank_correlation_with_a_matrix(tmp_path: Path) -> None:
    """An asymmetric matrix counts by its symmetric part, and its diagonal is ignored."""
    W = unit_rows(rows(12, 3))
    G, noise = W @ W.T, rows(12, 12, seed=1)
    S = G + 0.3 * noise
    symmetric = (S + S.T) / 2
    findings = compare_findings(W, similarity=S + 100 * np.eye(12), count=4)
    sentence = about(findings, "rank correlation")
    assert f"rank correlation {by_definition(G, symmetric):.3f} over the pairs of all 12 classes" in sentence
    assert "similar classes are closer together" in sentence
    table = findings.tables[CLOSEST]
    upper = np.triu_indices(12, 1)
    fractions = 100 * (rankdata(symmetric[upper]) - 0.5) / len(upper[0])
    order = np.argsort(-G[upper])[:4]
    np.testing.assert_allclose(table["cosine"], G[upper][order])
    np.testing.assert_allclose(table["similarity"], symmetric[upper][order])
    np.testing.assert_allclose(table["similarity_percentile"], fractions[order])
    wanted = f"The 4 closest pairs are more alike than {np.median(fractions[order]):.1f} %"
    assert wanted in about(findings, "more alike")


def test_rank_correlation_with_vectors(tmp_path: Path) -> None:
    W, X = unit_rows(rows(12, 3)), rows(12, 6, seed=1)
    sentence = about(compare_findings(W, similarity_vectors=X), "rank correlation")
    expected = by_definition(W @ W.T, unit_rows(X) @ unit_rows(X).T)
    assert f"rank correlation {expected:.3f} over" in sentence


@pytest.mark.parametrize(
    ("correlation", "p_value", "verdict"),
    [
        (0.4, 0.01, "similar classes are closer together"),
        (-0.4, 0.01, "similar classes are further apart"),
        (0.4, 0.2, "no relation is shown at the level of 0.05"),
    ],
)
def test_every_verdict_can_be_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, correlation: float, p_value: float, verdict: str
) -> None:
    result = MantelResult(correlation, p_value, 99, False, "two-sided")
    monkeypatch.setattr(compare_command, "mantel", lambda *_: result)
    findings = compare_findings(rows(6, 2), similarity=rows(6, 6))
    assert about(findings, "rank correlation").endswith(f"p = {p_value:g}): {verdict}.")


def test_of_many_classes_some_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_command, "MAX_MANTEL_CLASSES", 8)
    W = unit_rows(rows(30, 3))
    S = W @ W.T
    first, again, other = (compare_findings(W, similarity=-S, seed=seed).statements for seed in (0, 0, 1))
    assert first == again
    assert "rank correlation -1.000 over the pairs of 8 of 30 classes, drawn at random" in first[1]
    assert "similar classes are further apart" in first[1]
    assert other[1] != "" and "8 of 30" in other[1]


# The command


def test_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint of several tensors, names that look like markup, and vectors of another checkpoint."""
    W = torch.tensor(rows(12, 3))
    torch.save({"state_dict": {"net.fc.weight": W, "net.a.weight": torch.ones(3, 3)}}, tmp_path / "net.pt")
    saved(tmp_path, rows(12, 5), "X.npy")
    listed = tmp_path / "names.txt"
    listed.write_text("".join(f"<b>{k}\x85\n" for k in range(12)), encoding="utf-8")
    arguments = ["--key", "fc.weight", "--names", listed, "--similarity-from", tmp_path / "X.npy", "--count", 3]
    assert command(tmp_path / "net.pt", *arguments, "-o", tmp_path / "page.html") == 0
    out = capsys.readouterr().out
    names = [f"<b>{k}\x85" for k in range(12)]
    findings = compare_findings(W, names=names, similarity_vectors=rows(12, 5), count=3)
    assert "net.pt, state_dict.net.fc.weight: K = 12 classes, d = 3\n" in out
    assert out.endswith(f"\n{findings!s}\n\nwritten to {tmp_path / 'page.html'}\n")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<b>" not in page and "Are similar classes closer together?" in page
    stored = pd.read_parquet(tmp_path / "page-tables" / "similarity-closest-pairs-of-classes-angles-in-degrees.parquet")
    pd.testing.assert_frame_equal(stored, findings.tables[CLOSEST], check_dtype=False)


def test_without_a_similarity_it_is_the_diagnosis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(tmp_path, rows(12, 3))
    assert command(path) == 0
    assert capsys.readouterr().out == f"{sc.diagnose(path)}\n"


def test_command_reads_a_matrix_of_whole_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path, np.arange(36).reshape(6, 6), "S.npy")
    assert command(saved(tmp_path, rows(6, 3)), "--similarity", tmp_path / "S.npy") == 0
    assert "over the pairs of all 6 classes (Mantel's test, 720 all relabellings" in capsys.readouterr().out


def test_many_pairs_are_drawn_as_a_density(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_command, "MAX_POINTS", 10)
    findings = compare_findings(rows(12, 3), similarity=rows(12, 12))
    labels = [axes.get_ylabel() for axes in findings.figures["Cosine and similarity of every pair of classes"].axes]
    assert labels == ["cosine of their vectors", "pairs"]


def test_bad_input_says_what_is_wanted(tmp_path: Path) -> None:
    path = saved(tmp_path, rows(6, 3))
    other = saved(tmp_path, rows(5, 5), "S.npy")
    flat = saved(tmp_path, rows(6, 5), "flat.npy")
    (tmp_path / "latin.txt").write_bytes("é\n".encode("latin-1") * 6)
    (tmp_path / "short.txt").write_text("a\nb\n")
    (tmp_path / "bad.npy").write_bytes(b"\x93NUMPY and more")
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    torch.save({"a.weight": torch.ones(6, 3), "b.weight": torch.ones(6, 3)}, tmp_path / "net.pt")
    cases: list[tuple[list[Any], str]] = [
        ([tmp_path / "none.npy"], "there is no such file"),
        ([tmp_path / "net.pt"], r"a key is needed.*a\.weight \(6, 3\), b\.weight \(6, 3\)"),
        ([path, "--similarity", other], r"must be of the classifier's 6 classes; got shape \(5, 5\)"),
        ([path, "--similarity", flat], r"similarity must be square, with K >= 2 rows; got shape \(6, 5\)"),
        ([path, "--similarity-from", other], r"must be of the classifier's 6 classes; got shape \(5, 5\)"),
        ([path, "--similarity", other, "--similarity-from", other], "either a matrix or the cosines of vectors"),
        ([path, "--similarity", tmp_path / "none.npy"], r"none\.npy: there is no such file"),
        ([path, "--similarity", tmp_path / "bad.npy"], r"bad\.npy: not a plain NumPy array, or truncated"),
        ([path, "--similarity", tmp_path / "pickled.npy"], r"pickled\.npy: not a plain NumPy array"),
        ([path, "--similarity-key", "fc"], "--similarity-from, which is not given"),
        ([path, "--names", tmp_path / "short.txt"], "there must be 6 names"),
        ([path, "--names", tmp_path / "latin.txt"], "it must be text in UTF-8"),
        ([path, "--names", tmp_path / "none.txt"], r"none\.txt: there is no such file"),
        ([path, "--seed", -1], "seed must be an integer of at least 0"),
        ([path, "--similarity-from", path, "--count", 0], "count must be an integer of at least 1"),
        ([path, "-o", tmp_path / "page.pdf"], r"the suffix must be one of \.html"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            command(*arguments)
