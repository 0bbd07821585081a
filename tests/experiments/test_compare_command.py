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
from softmaxcode.compare import optima
from softmaxcode.margins.exact import margins
from softmaxcode.search.energy import HARDMAX
from softmaxcode.search.multistart import optimise, random_start
from softmaxcode.sphere import unit_rows

FIGURES = "Classifier, code and what chance gives (angles in degrees)"
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


def test_margin_and_share(tmp_path: Path) -> None:
    W = rows(9, 3)
    findings = compare_findings(saved(tmp_path, 5 * W))
    margin, best = sc.margin(unit_rows(W)).margin, sc.best_known(9, 3).margin
    wanted = f"W.npy, K = 9, d = 3: margin (GNC2) {margin:.4f}, {margin / best:.3f} of {best:.4f}, the best known."
    assert findings.statements[0] == wanted
    table = findings.tables[FIGURES].set_index("vectors")
    assert list(table.index) == ["classifier", "random points", "another local optimum", "best code known"]
    cosines = unit_rows(W) @ unit_rows(W).T
    assert table.loc["classifier", "max_cosine"] == pytest.approx(cosines[np.triu_indices(9, 1)].max())
    assert table.loc["classifier", "fraction"] == pytest.approx(margin / best)
    assert table.loc["best code known", "fraction"] == 1


def test_a_rotated_code_is_recognised_and_random_points_are_not(tmp_path: Path) -> None:
    code = sc.best_known(9, 3).W
    turn = np.linalg.qr(rows(3, 3))[0]
    alike = about(compare_findings(saved(tmp_path, code[::-1] @ turn)), "Relabelled")
    assert "the code's vectors are 0.0 degrees from the classifier's" in alike
    unlike = about(compare_findings(saved(tmp_path, rows(9, 3))), "Relabelled")
    assert " 0.0 degrees" not in unlike


def test_another_local_optimum_is_not_called_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any good code is near the best one, so nearness alone is no evidence about a classifier."""
    monkeypatch.setattr(optima, "OPTIMA", 3)
    K, d = 20, 8
    code = sc.best_known(K, d)
    search = np.random.SeedSequence(0).spawn(5)[3]  # one of the three starts
    optimum = optimise(HARDMAX, *random_start(HARDMAX, K, d, search)).X[:K]
    said = about(compare_findings(saved(tmp_path, optimum)), "Relabelled")
    assert "Nothing makes the classifier this code in particular" in said
    noisy = code.W[::-1] + 0.05 * np.random.default_rng(0).standard_normal((K, d))
    said = about(compare_findings(saved(tmp_path, noisy)), "Relabelled")
    assert said.endswith("The classifier is nearer to this code than to any of them.")


def test_where_every_start_finds_the_code(tmp_path: Path) -> None:
    said = about(compare_findings(saved(tmp_path, rows(6, 5))), "Relabelled")
    assert said.endswith("Every start of the search finds this very code.") and "other local optima" not in said


def test_where_no_code_is_held(tmp_path: Path) -> None:
    K, d = 401, 3
    with pytest.raises(sc.UnknownCodeError) as error:
        sc.best_known(K, d)
    W = rows(K, d)
    findings = compare_findings(saved(tmp_path, W))
    margin, upper = sc.margin(unit_rows(W)).margin, error.value.bounds.upper
    assert (
        f"at least {margin / upper:.3f} of the largest possible, which is at most {upper:.4f}" in findings.statements[0]
    )
    assert "no code of (K, d)" in about(findings, "not computed")
    assert findings.tables[FIGURES]["vectors"].iloc[0] == "classifier"


def test_distances_of_the_classes(tmp_path: Path) -> None:
    W = rows(20, 4)
    distances = margins(unit_rows(W)).margins
    names = [f"<{k}>" for k in range(20)]
    sentence = about(compare_findings(saved(tmp_path, W), names=names, align=False), "hull")
    for value in (distances.min(), np.median(distances), distances.max()):
        assert f"{value:.4f}" in sentence
    assert f"{distances.min():.4f} (<{distances.argmin()}>)" in sentence
    assert f"{distances.max():.4f} (<{distances.argmax()}>)" in sentence


@pytest.mark.parametrize(("sample", "wanted"), [(15, "margin (GNC2)"), (5, "among 5 classes drawn at random")])
def test_sampled_margins(tmp_path: Path, sample: int, wanted: str) -> None:
    findings = compare_findings(saved(tmp_path, rows(15, 4)), sample=sample)
    drawn = sc.sampled_margin(unit_rows(rows(15, 4)), sample)
    assert wanted in findings.statements[0]
    assert f"{drawn.margin:.4f} (class {drawn.attained_by})" in findings.statements[0]
    assert list(findings.tables) == [CLOSEST]


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
    findings = compare_findings(saved(tmp_path, W), similarity=S + 100 * np.eye(12), align=False, count=4)
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
    sentence = about(compare_findings(saved(tmp_path, W), similarity_vectors=X, align=False), "rank correlation")
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
    findings = compare_findings(saved(tmp_path, rows(6, 2)), similarity=rows(6, 6), align=False)
    assert about(findings, "rank correlation").endswith(f"p = {p_value:g}): {verdict}.")


def test_of_many_classes_some_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_command, "MAX_MANTEL_CLASSES", 8)
    W = unit_rows(rows(30, 3))
    path, S = saved(tmp_path, W), W @ W.T
    first, again, other = (compare_findings(path, similarity=-S, sample=5, seed=seed).statements for seed in (0, 0, 1))
    assert first == again
    assert "rank correlation -1.000 over the pairs of 8 of 30 classes, drawn at random" in first[2]
    assert "similar classes are further apart" in first[2]
    assert other[2] != "" and "8 of 30" in other[2]


# The command


def test_command_prints_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A checkpoint of several tensors, names that look like markup, and vectors of another checkpoint."""
    W = torch.tensor(rows(12, 3))
    torch.save({"state_dict": {"net.fc.weight": W, "net.a.weight": torch.ones(3, 3)}}, tmp_path / "net.pt")
    saved(tmp_path, rows(12, 5), "X.npy")
    names = tmp_path / "names.txt"
    names.write_text("".join(f"<b>{k}\x85\n" for k in range(12)), encoding="utf-8")
    arguments = ["--key", "fc.weight", "--names", names, "--similarity-from", tmp_path / "X.npy", "--count", 3]
    assert command(tmp_path / "net.pt", *arguments, "--no-align", "-o", tmp_path / "page.html") == 0
    out = capsys.readouterr().out
    findings = compare_findings(
        tmp_path / "net.pt",
        "fc.weight",
        names=[f"<b>{k}\x85" for k in range(12)],
        similarity_vectors=rows(12, 5),
        count=3,
        align=False,
    )
    assert out == f"{findings!s}\n\nwritten to {tmp_path / 'page.html'}\n"
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<img") == 2
    assert "<b>" not in page
    stored = pd.read_parquet(tmp_path / "page-tables" / "compare-closest-pairs-of-classes-angles-in-degrees.parquet")
    pd.testing.assert_frame_equal(stored, findings.tables[CLOSEST], check_dtype=False)


def test_command_reads_a_matrix_of_whole_numbers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved(tmp_path, np.arange(36).reshape(6, 6), "S.npy")
    assert command(saved(tmp_path, rows(6, 3)), "--no-align", "--similarity", tmp_path / "S.npy") == 0
    assert "over the pairs of all 6 classes (Mantel's test, 720 all relabellings" in capsys.readouterr().out


def test_many_pairs_are_drawn_as_a_density(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compare_command, "MAX_POINTS", 10)
    findings = compare_findings(saved(tmp_path, rows(12, 3)), similarity=rows(12, 12), align=False)
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
        ([path, "--names", tmp_path / "short.txt"], "names must be 6, one for each class; got 2"),
        ([path, "--names", tmp_path / "latin.txt"], "it must be text in UTF-8"),
        ([path, "--names", tmp_path / "none.txt"], r"none\.txt: there is no such file"),
        ([path, "--seed", -1], "seed must be an integer of at least 0"),
        ([path, "--count", 0], "count must be an integer of at least 1"),
        ([path, "-o", tmp_path / "page.pdf"], r"the suffix must be one of \.html"),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            command(*arguments)
