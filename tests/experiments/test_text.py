"""Contexts in batches, the margins of tokens by their frequency, and the study of a language model."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import nnls

import softmaxcode as sc
from experiments.data import Data, TextData, TokenContexts
from experiments.studies import text
from experiments.token_margins import token_margins, unigram
from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.sphere import random_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from experiments.settings import RunSettings
    from softmaxcode.pages import Findings

#: Tokens and dimension of the made-up runs, and a token that is never a next token.
K, D, UNSEEN = 23, 4, 7
SEEN = tuple(k for k in range(K) if k != UNSEEN)
TOKENS = tuple(f"w{k}" for k in range(K))


def made_up_text(seed: int = 0) -> TextData:
    """Tokens with counts that fall as 1/k, token `UNSEEN` only as the first of the training text."""
    rng = np.random.default_rng(seed)
    fraction = 1 / np.arange(1, K + 1)
    fraction[UNSEEN] = 0
    train, test = (rng.choice(K, n, p=fraction / fraction.sum()) for n in (900, 300))
    train[:K] = [UNSEEN, *SEEN]
    contexts = [TokenContexts(torch.tensor(tokens), 8) for tokens in (train, test)]
    return TextData(
        name="text",
        train=contexts[0],
        train_unaugmented=contexts[0],
        test=contexts[1],
        class_names=TOKENS,
        source="made up",
        decode=lambda tokens: " ".join(TOKENS[k] for k in tokens),
    )


DATA = made_up_text()


@dataclass
class MadeUp:
    """The values that the study reads from a run; W and measurements are drawn from its settings unless given."""

    settings: RunSettings
    values: dict[str, float] = field(default_factory=dict)
    rows: np.ndarray | None = None
    status: str = "finished"

    @property
    def W(self) -> np.ndarray:
        drawn = random_rows(K, D, np.random.default_rng([self.settings.seed, round(1000 * self.settings.temperature)]))
        return 3 * (drawn if self.rows is None else self.rows)

    @property
    def final(self) -> pd.Series:
        names = ["GNC1", "GNC2", "GNC3", "test_accuracy", "ncm_accuracy", "certified_margin"]
        names += ["train_accuracy", "loss", "test_loss"]
        rng = np.random.default_rng([self.settings.seed, round(1000 * self.settings.temperature)])
        return pd.Series(dict(zip(names, rng.uniform(0.1, 0.9, len(names)), strict=True)) | self.values)

    def data(self) -> Data:
        return DATA

    def evaluation(self, name: str, kind: Any, measure: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        return measure(self)


def found(runs: list[Any]) -> Findings:
    return text.findings(runs)


def matching(findings: Findings, *parts: str) -> str:
    """The only statement that has all the parts."""
    (one,) = [s for s in findings.statements if all(part in s for part in parts)]
    return one


def runs_at(*temperatures: float, seeds: int = 3, heads: tuple[str, ...] = ("learned",)) -> list[RunSettings]:
    return text.plan(seeds=seeds, temperatures=temperatures, heads=heads)


# --- contexts in batches --------------------------------------------------------------------------------------


@given(st.integers(1, 5), st.integers(0, 40), st.data())
def test_a_batch_of_contexts_is_its_contexts(context: int, more: int, data: st.DataObject) -> None:
    tokens = list(range(100, 100 + context + 1 + more))
    contexts = TokenContexts(torch.tensor(tokens), context)
    count = (len(tokens) - 1) // context
    assert len(contexts) == count
    indices = data.draw(st.lists(st.integers(0, count - 1), max_size=6))
    wanted = [[tokens[i * context + t + s] for i in indices for t in range(context)] for s in (0, 1)]
    for given_as in (indices, torch.tensor(indices, dtype=torch.int64), tuple(indices)):
        for part, flat in zip(contexts.batch(given_as), wanted, strict=True):
            assert part.shape == (len(indices), context)
            assert part.dtype == torch.int64
            assert part.flatten().tolist() == flat
    for i in indices:
        assert [part.tolist() for part in contexts[i]] == [part[0].tolist() for part in contexts.batch([i])]


@pytest.mark.parametrize("index", [-1, 3])
def test_a_context_that_there_is_not(index: int) -> None:
    contexts = TokenContexts(torch.arange(10), 3)
    with pytest.raises(IndexError, match=f"contexts are numbered from 0 to 2; got {index}"):
        contexts.batch([0, index, 1])
    with pytest.raises(IndexError, match=f"contexts are numbered from 0 to 2; got {index}"):
        contexts[index]


# --- margins of tokens ----------------------------------------------------------------------------------------


def distance_to_hull(w: np.ndarray, others: np.ndarray) -> float:
    """By non-negative least squares with the sum of the weights fixed at 1 by a heavy row."""
    heavy = 1e5
    A = np.vstack([others.T, heavy * np.ones(len(others))])
    weights, _ = nnls(A, np.append(w, heavy))
    return float(np.linalg.norm(w - others.T @ (weights / weights.sum())))


def test_token_margins_are_distances_among_the_tokens_that_come_next() -> None:
    run: Any = MadeUp(runs_at(0.1)[0])
    # the token that is never a next token coincides with another, whose margin would be 0
    rows = random_rows(K, D, np.random.default_rng(5))
    rows[UNSEEN] = rows[0]
    run.rows = rows
    table = token_margins(run)
    counts = Counter(DATA.train.tokens[1 : 1 + len(DATA.train) * 8].tolist())
    assert table["token"].tolist() == [TOKENS[k] for k in SEEN]
    assert table["count"].tolist() == [counts[k] for k in SEEN]
    for (_, row), k in zip(table.iterrows(), SEEN, strict=True):
        others = [j for j in SEEN if j != k]
        assert row["margin"] == pytest.approx(distance_to_hull(rows[k], rows[others]), abs=1e-6)
    # a stable order by count, cut into five groups whose sizes differ by at most one token
    order = sorted(range(len(SEEN)), key=lambda i: (counts[SEEN[i]], i))
    assert table["quintile"].iloc[order].is_monotonic_increasing
    sizes = table["quintile"].value_counts()
    assert sorted(sizes.index) == [1, 2, 3, 4, 5]
    assert sizes.max() - sizes.min() <= 1


def test_unigram_is_the_prediction_by_counts() -> None:
    counts = Counter(DATA.train.labels.tolist())
    fractions = [(1 + counts[k]) / (K + sum(counts.values())) for k in range(K)]
    assert sum(fractions) == pytest.approx(1)
    labels = DATA.test.labels.tolist()
    most = max(counts, key=lambda k: counts[k])
    loss = -np.mean([math.log(fractions[k]) for k in labels])
    wanted = {"loss": loss, "accuracy": np.mean([k == most for k in labels])}
    assert unigram(DATA) == pytest.approx(wanted)


# --- the study ------------------------------------------------------------------------------------------------


def test_plan() -> None:
    runs = text.plan(seeds=2, temperatures=(0.5, 0.1), epochs=1)
    cells = [("learned", 0.5), ("learned", 0.1), ("linear", 1.0)]
    assert [(r.seed, r.head, r.temperature) for r in runs] == [(seed, *cell) for seed in (0, 1) for cell in cells]
    assert {(r.data, r.epochs) for r in runs} == {("text", 1)}
    assert len(set(text.plan())) == 18
    assert text.plan(data="text") == text.plan()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data": "digits"}, "data must be 'text', whose classes are tokens; got 'digits'"),
        ({"temperature": 0.2}, "temperature is varied by this study: pass temperatures instead; got 0.2"),
        ({"seeds": 0}, "seeds must be an integer of at least 1; got 0"),
    ],
)
def test_plans_that_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        text.plan(**options)


def rows_of_margins(rising: bool) -> np.ndarray:
    """Rows in the plane and above it, whose distances to the others fall or rise with the number of the token."""
    # gaps between neighbours on a circle grow along the tokens, which become rarer
    gaps = np.linspace(1, 3, K) if rising else np.linspace(3, 1, K)
    angles = 2 * np.pi * np.cumsum(gaps) / gaps.sum()
    return np.column_stack([np.cos(angles), np.sin(angles), np.zeros((K, D - 2))])


@pytest.mark.parametrize(("rising", "larger"), [(False, "larger"), (True, "smaller")])
def test_the_rank_correlation_says_which_tokens_have_the_larger_margins(rising: bool, larger: str) -> None:
    rows = rows_of_margins(rising)
    rng = np.random.default_rng(3)
    runs = [MadeUp(s, rows=rows + 0.02 * rng.standard_normal((K, D))) for s in runs_at(0.1)]
    findings = found(runs)
    sentence = matching(findings, "τ = 0.1", "rank correlation of count and margin")
    assert f"frequent tokens have the {larger} margins" in sentence
    correlations, differences = [], []
    for run in runs:
        unit = run.W / np.linalg.norm(run.W, axis=1, keepdims=True)
        margins = [distance_to_hull(unit[k], unit[[j for j in SEEN if j != k]]) for k in SEEN]
        counts = [int((DATA.train.labels == k).sum()) for k in SEEN]
        correlations.append(np.corrcoef(stats.rankdata(counts), stats.rankdata(margins))[0, 1])
        order = np.argsort(counts, kind="stable")
        fifths = [np.array(margins)[order[[i for i in range(22) if i * 5 // 22 == q]]].mean() for q in (0, 4)]
        differences.append(fifths[1] - fifths[0])
    for values in (correlations, differences):
        half = stats.t.ppf(0.975, 2) * np.std(values, ddof=1) / math.sqrt(3)
        digits = 1 - math.floor(math.log10(half))
        assert f"{np.mean(values):.{digits}f} ± {half:.{digits}f} (n = 3)" in sentence


def test_margins_that_do_not_follow_the_counts() -> None:
    """The order of the margins is that of the counts in one run and its reverse in the other."""
    runs = [MadeUp(s, rows=rows_of_margins(bool(s.seed))) for s in runs_at(0.1, seeds=2)]
    assert "neither frequent nor rare tokens are shown" in matching(found(runs), "rank correlation of count and margin")


@pytest.mark.parametrize("sign", [1, -1])
def test_the_margin_grows_or_shrinks_as_the_temperature_falls(sign: int) -> None:
    level = {1.0: 0.4, 0.5: 0.4 + 0.2 * sign, 0.1: 0.4 + 0.1 * sign}
    runs = [MadeUp(s, {"GNC2": level[s.temperature] + 0.01 * s.seed}) for s in runs_at(*level)]
    findings = found(runs)
    sentence = matching(findings, "as τ falls from 1 to 0.1")
    assert f"GNC2 changes by {0.1 * sign:.4g} ± " in sentence
    assert "Of 2 steps it is shown to grow at 1 and to shrink at 1" in sentence
    best = max(level, key=lambda tau: level[tau])
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    fraction = (level[best] + 0.01) / sc.best_known(K, D).margin
    wanted = f"largest at τ = {best:g}, {level[best] + 0.01:.3f} ± {half:.3f} (n = 3), {fraction:.3f} of the best known"
    assert wanted in matching(findings, "mean GNC2 is largest")


@pytest.mark.parametrize(("loss", "shown"), [(0.2, "better"), (4.0, "worse")])
def test_the_linear_head_is_compared_where_the_learned_is_best(loss: float, shown: str) -> None:
    rng = np.random.default_rng(1)
    runs = [
        MadeUp(s, {"test_loss": (loss if s.head == "linear" else 2 + s.temperature) + 0.01 * rng.random()})
        for s in runs_at(1.0, 0.1, heads=("learned", "linear"))
    ]
    sentence = matching(found(runs), "Without the spherical constraint")
    assert sentence.endswith(f": {shown}.")
    assert "Less that of the learned head at τ = 0.1" in sentence
    assert f"accuracy {100 * unigram(DATA)['accuracy']:.1f} %" in matching(found(runs), "The training counts alone")


def test_tables_list_the_smallest_margins_and_the_closest_pairs() -> None:
    """Both are means over the runs, at the smallest temperature."""
    runs = [MadeUp(s) for s in runs_at(0.2, 0.05)]
    findings = found(runs)
    coldest = [run for run in runs if run.settings.temperature == 0.05]
    (tokens,) = [
        table for caption, table in findings.tables.items() if "smallest margins, learned, τ = 0.05" in caption
    ]
    by_token = [token_margins(run).set_index("token")["margin"] for run in coldest]  # type: ignore[arg-type]
    margins = {k: np.mean([table[TOKENS[k]] for table in by_token]) for k in SEEN}
    order = sorted(SEEN, key=lambda k: margins[k])
    assert tokens["token"].tolist() == [TOKENS[k] for k in order[: len(tokens)]]
    assert tokens["margin"].tolist() == pytest.approx([margins[k] for k in order[: len(tokens)]])
    # the rows of a made-up run have norm 3
    cosines = {(i, j): np.mean([run.W[i] @ run.W[j] / 9 for run in coldest]) for i in SEEN for j in SEEN if i != j}
    for k, nearest in zip(order, tokens["nearest"], strict=False):
        assert nearest == TOKENS[max((j for j in SEEN if j != k), key=lambda j: cosines[k, j])]
    (pairs,) = [table for caption, table in findings.tables.items() if "closest pairs" in caption and "0.05" in caption]
    closest = sorted(((i, j) for i, j in cosines if i < j), key=lambda pair: -cosines[pair])[: len(pairs)]
    assert list(zip(pairs["first"], pairs["second"], strict=True)) == [(TOKENS[i], TOKENS[j]) for i, j in closest]
    assert pairs["mean cosine"].tolist() == pytest.approx([cosines[pair] for pair in closest])


def test_cosines_that_follow_the_tokens_before_them() -> None:
    """W made from the similarity itself correlates with it; random rows need not."""
    from experiments.assignments import input_similarity

    values, vectors = np.linalg.eigh(input_similarity(DATA) + np.eye(K))
    rows = vectors[:, -D:] * np.sqrt(values[-D:])
    sentence = matching(found([MadeUp(s, rows=rows) for s in runs_at(0.1)]), "similarity of the tokens before them")
    assert "is shown to be above 0 at 1 of 1 temperatures." in sentence
    assert sentence.endswith("The largest p-value of a run (Mantel's test, one-sided) is 0.005.")


@given(st.integers(3, 600), st.floats(0.05, 1.9), st.floats(1, 1e5))
def test_the_temperature_from_which_the_bound_says_something(K: int, margin: float, imbalance: float) -> None:
    tau = text._first_temperature(K, margin, imbalance)
    assert minimizer_margin(K, margin, 0.999 * tau, imbalance=imbalance) > 0
    assert minimizer_margin(K, margin, 1.001 * tau, imbalance=imbalance) < 0


def test_the_bound_of_theory_where_it_says_something() -> None:
    counts = [int((DATA.train.labels == k).sum()) for k in SEEN]
    imbalance = float(np.mean(counts) / np.min(counts))
    known = sc.best_known(K, D).margin
    low = 0.9 * text._first_temperature(K - 1, known, imbalance)
    silent = matching(found([MadeUp(s) for s in runs_at(1.0)]), "bound on GNC2 of a global minimiser")
    assert "At none of these temperatures is it above 0." in silent
    assert f"is {imbalance:.4g} times the smallest" in silent
    runs = [MadeUp(s) for s in runs_at(1.0, low)]
    bound = minimizer_margin(K - 1, known, low, imbalance=imbalance)
    assert f"It is {bound:.4f} at τ = {low:.3g}, where the mean is" in matching(
        found(runs), "bound on GNC2 of a global minimiser"
    )


@pytest.mark.parametrize(("certified", "listed"), [(0.12, "is 0.1200 at most"), (-2.0, "is above 0 at no temperature")])
def test_what_the_loss_certifies(certified: float, listed: str) -> None:
    runs = [MadeUp(s, {"certified_margin": certified}) for s in runs_at(0.1)]
    assert listed in matching(found(runs), "The margin that a loss certifies")


def test_a_part_of_the_plan() -> None:
    assert found([]).statements == ["No run is finished."]
    settings = runs_at(1.0, 0.1, heads=("learned", "linear", "cmf"))
    diverged = [MadeUp(s, status="diverged") for s in settings[:2]]
    assert found(diverged).statements == [
        "No run is finished but those that diverged.",
        "Diverged and left out: learned, τ = 0.1, seed 0.",
        "Diverged and left out: learned, τ = 1, seed 0.",
    ]
    for one in settings[:3]:
        findings = found([MadeUp(one)])
        assert len(findings.tables) == 5
        assert len(findings.figures) == 2
    runs = [MadeUp(s) for s in settings if (s.head, s.temperature, s.seed) != ("learned", 0.1, 1)]
    runs[0].status = "diverged"
    findings = found(runs)
    assert "Missing: learned, τ = 0.1, seed 1." in findings.statements
    assert "Diverged and left out: learned, τ = 1, seed 0." in findings.statements
    every = findings.tables["Every run"]
    assert len(every) == len(runs) - 1
    # the same in any order of the runs
    assert found(runs[::-1]).statements == findings.statements


def test_figures_have_a_line_for_every_head_and_temperature() -> None:
    findings = found([MadeUp(s) for s in runs_at(1.0, 0.1, heads=("learned", "linear"))])
    collapse, margins = findings.figures.values()
    known = sc.best_known(K, D).margin
    labels = {label for axes in collapse.axes for label in axes.get_legend_handles_labels()[1]}
    assert {"learned", "linear (unnormalised)", f"best known margin: {known:.4f}"} <= labels
    labels = {label for axes in margins.axes for label in axes.get_legend_handles_labels()[1]}
    assert labels == {"learned, τ = 1", "learned, τ = 0.1", "linear (unnormalised), τ = 1"}
