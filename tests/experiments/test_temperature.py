"""The study of temperature and dimension: its plan, and its findings from runs with made-up values."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from experiments.drawing import HEAD_LABELS
from experiments.settings import RunSettings
from experiments.statistics import mean_interval
from experiments.studies import temperature
from softmaxcode.pages import Findings

#: Classes of every made-up run; the best margin is 1 for d of 6 to 10, and at most 1 for d = 5.
K = 12
#: Temperatures with five seeds.
FIVE = (1.0, 1 / 5, 1 / 7, 0.1)
MEASURES = ["GNC1", "GNC2", "GNC3", "test_accuracy", "ncm_accuracy", "certified_margin"]


@dataclass
class MadeUp:
    """The values that a study reads from a run, drawn from its settings unless given."""

    settings: RunSettings
    values: dict[str, float]
    status: str = "finished"

    @property
    def W(self) -> np.ndarray:
        return np.zeros((K, self.settings.d))

    @property
    def final(self) -> pd.Series:
        s = self.settings
        rng = np.random.default_rng([s.seed, s.d, round(1e6 * s.temperature), *s.head.encode()])
        return pd.Series(dict(zip(MEASURES, rng.uniform(0.1, 0.9, len(MEASURES)), strict=True)) | self.values)


def made_up(runs: list[RunSettings], **values: Any) -> list[Any]:
    """Runs whose named values are functions of their settings."""
    return [MadeUp(s, {name: value(s) for name, value in values.items()}) for s in runs]


def found(runs: list[Any]) -> Findings:
    return temperature.findings(runs)


def claim(findings: Findings) -> str:
    assert findings.statements[0].startswith("GNC2(1) < GNC2(1/5) < GNC2(1/7) for the learned head at d = 10 is ")
    return findings.statements[0]


@pytest.fixture(autouse=True)
def _no_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """The feature model takes seconds at each temperature."""
    monkeypatch.setattr(temperature, "ufm_margin", lambda K, d, tau: mean_interval([0.90, 0.92]))


def test_plan_counts_seeds_by_cell() -> None:
    cells = Counter((r.head, r.d, r.temperature) for r in temperature.plan())
    assert all(cells["learned", 10, tau] == 5 for tau in FIVE)
    assert all(cells["learned", 10, tau] == 3 for tau in (0.5, 0.05, 0.02))
    assert all(cells["learned", d, tau] == 3 for d in (4, 20) for tau in (1.0, 0.2, 0.1))
    assert all(cells["linear", 10, tau] == 3 for tau in (1.0, 0.5, 0.2, 0.1))
    assert sum(cells.values()) == 4 * 5 + 3 * 3 + 2 * 3 * 3 + 4 * 3
    assert RunSettings.checked() in temperature.plan()  # shared with the other studies
    assert all(r.epochs == 2 and r.network == "resnet18" for r in temperature.plan(data="cifar100", epochs=2))


def test_plan_has_the_first_seeds_first_and_no_run_twice() -> None:
    runs = temperature.plan(dims=(10, 5), few=(0.1, 0.3))
    assert [r.seed for r in runs] == sorted(r.seed for r in runs)
    assert len({r.key for r in runs}) == len(runs)


def test_a_decimal_is_the_fraction_it_is_near() -> None:
    cells = Counter(r.temperature for r in temperature.plan(temperatures=(0.142857, 0.15), dims=(), linear=()))
    assert cells == {0.142857: 5, 0.15: 3}


@pytest.mark.parametrize("name", ["head", "temperature", "seed"])
def test_plan_says_which_option_varies_a_field(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is varied by this study: pass "):
        temperature.plan(**{name: 1})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["seeds", "claim_seeds"])
def test_plan_of_no_seeds(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be"):
        temperature.plan(**{name: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("warm", "cold", "verdict", "parts"),
    [
        (0.1, 0.1, "shown", ["shown", "shown"]),
        (0.1, 0.0, "not shown", ["shown", "not shown"]),
        (0.1, -0.1, "not shown", ["shown", "not shown, the opposite is shown"]),
        (-0.1, -0.1, "not shown", ["not shown, the opposite is shown"] * 2),
    ],
)
def test_the_claim_follows_paired_differences(warm: float, cold: float, verdict: str, parts: list[str]) -> None:
    """Seeds differ by much, and the differences within them by little."""
    wiggle = [0.01, -0.02, 0.0, 0.02, -0.01]

    def GNC2(s: RunSettings) -> float:
        steps = {1.0: 0, 1 / 5: warm, 1 / 7: warm + cold}.get(s.temperature, 0)
        # the two differences have the same fluctuation about their means
        return 0.3 + s.seed / 10 + steps + {1 / 5: 1, 1 / 7: 2}.get(s.temperature, 0) * wiggle[s.seed]

    sentence = claim(found(made_up(temperature.plan(), GNC2=GNC2)))
    assert f"d = 10 is {verdict} by paired differences" in sentence
    half = stats.t.ppf(0.975, 4) * np.std(wiggle, ddof=1) / math.sqrt(5)
    assert f"GNC2(1/5) - GNC2(1) = {warm:.3f} ± {half:.3f} (n = 5): {parts[0]}." in sentence
    assert f"GNC2(1/7) - GNC2(1/5) = {cold:.3f} ± {half:.3f} (n = 5): {parts[1]}." in sentence or cold == 0


def test_the_claim_pairs_common_seeds_alone() -> None:
    runs = temperature.plan(seeds=1, claim_seeds=5, dims=(), linear=())
    # a seed that only one of the two has is far off
    kept = [
        r for r in runs if not (r.temperature == 1.0 and r.seed == 2) and not (r.temperature == 0.2 and r.seed == 4)
    ]

    def GNC2(s: RunSettings) -> float:
        return 9.0 if s.seed in (2, 4) else s.seed + {1.0: 0.0, 1 / 5: 0.25}.get(s.temperature, 0.5)

    findings = found(made_up(kept, GNC2=GNC2))
    assert "GNC2(1/5) - GNC2(1) = 0.25 ± 0 (n = 3): shown." in claim(findings)
    missing = [s for s in findings.statements if s.startswith("Missing")]
    assert missing == ["Missing: learned, d = 10, τ = 0.2, seed 4.", "Missing: learned, d = 10, τ = 1, seed 2."]


@pytest.mark.parametrize("absent", [(1.0,), (1 / 5,), (1 / 7,), (1.0, 1 / 5, 1 / 7)])
def test_the_claim_is_not_shown_without_a_temperature(absent: tuple[float, ...]) -> None:
    runs = [r for r in temperature.plan(d=10, dims=(), linear=()) if r.temperature not in absent]
    sentence = claim(found(made_up(runs, GNC2=lambda s: 1 - s.temperature / 2)))
    assert "is not shown" in sentence and "nan (n = 0): not shown" in sentence


def test_one_seed_shows_nothing() -> None:
    sentence = claim(found(made_up(temperature.plan(seeds=1, claim_seeds=1), GNC2=lambda s: 1 - s.temperature / 2)))
    assert "is not shown" in sentence and "(n = 1): not shown" in sentence


def test_the_largest_margin_and_accuracy_by_dimension() -> None:
    runs = made_up(
        temperature.plan(dims=(8,)),
        GNC2=lambda s: 0.9 - abs(s.temperature - s.d / 50),  # largest at 0.2 for d = 10, and nearest to 0.16 for d = 8
        test_accuracy=lambda s: 0.9 - abs(s.temperature - 0.1),
        ncm_accuracy=lambda s: 0.91 - abs(s.temperature - 0.1) - (0.05 if s.temperature == 1 else 0),
    )
    statements = found(runs).statements
    said = "d = 10: of 7 temperatures mean GNC2 is largest at τ = 0.2, 0.9 ± 0 (n = 5), 0.900 of the best known margin"
    assert f"{said} 1.0000." in statements
    assert any(
        s.startswith("d = 8: of 3 temperatures mean GNC2 is largest at τ = 0.2, 0.86 ± 0 (n = 3), 0.860 of")
        for s in statements
    )
    for d, n in ((8, 3), (10, 5)):
        (accuracy,) = [s for s in statements if s.startswith(f"d = {d}: mean test accuracy")]
        assert f"largest at τ = 0.1, in %: 90 ± 0 (n = {n}). The nearest class mean less the" in accuracy
        assert f"classifier is 1 ± 0 (n = {n}) points there" in accuracy
        assert f"furthest from 0 at τ = 1: -4 ± 0 (n = {n}) points." in accuracy


def test_a_margin_above_the_best_known_is_said_to_be() -> None:
    statements = found(made_up(temperature.plan(dims=()), GNC2=lambda s: 1.1)).statements
    assert any(
        "1.100 of the best known margin 1.0000, so the stored code of this K and d is not the best" in s
        for s in statements
    )


def test_the_constraint_is_switched_off_pair_by_pair() -> None:
    def value(s: RunSettings) -> float:
        return 0.5 + 0.1 * s.seed - (0.2 + 0.01 * s.seed if s.head == "linear" else 0)

    runs = made_up(temperature.plan(dims=()), GNC2=value, test_accuracy=value)
    sentences = [s for s in found(runs).statements if s.startswith("Without the spherical")]
    half = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)
    assert len(sentences) == 4
    for tau, sentence in zip(("0.1", "0.2", "0.5", "1"), sentences, strict=True):
        assert f"d = 10, τ = {tau}: GNC1 " in sentence
        assert f"GNC2 changes by -0.210 ± {half:.3f} (n = 3)" in sentence
        assert sentence.endswith(f"test accuracy by -21.0 ± {100 * half:.1f} (n = 3) points.")


def test_the_bound_of_global_minimisers_is_said_where_it_is_above_zero() -> None:
    def bound(tau: float) -> float:  # docs/theory.md, T6 (c), with rho* = 1
        return -tau * math.log(math.expm1(K * math.log1p((K - 1) * math.exp(-1 / tau))))

    runs = made_up(temperature.plan(dims=()), GNC2=lambda s: 0.6)
    findings = found(runs)
    expected = [tau for tau in (0.02, 0.05, 0.1, 1 / 7, 0.2, 0.5, 1.0) if bound(tau) > 0]
    sentences = [s for s in findings.statements if "T6" in s]
    assert len(sentences) == len(expected)
    for tau, sentence in zip(expected, sentences, strict=True):
        said = float(sentence.split("at least ")[1].split()[0])
        assert said == pytest.approx(bound(tau), abs=1e-4)
        assert sentence.endswith("above it." if said <= 0.6 else "below it.")
    (figure,) = findings.figures.values()
    label = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "best known margin: 1.0000" in label and "feature model (UFM)" in label and len(label) == len(set(label))
    assert len(figure.axes) == 6


def test_table_has_all_cells() -> None:
    runs = made_up(temperature.plan(seeds=2, claim_seeds=3, dims=(6,)))
    shuffled = [runs[i] for i in np.random.default_rng(0).permutation(len(runs))]
    table, _, every = found(shuffled).tables.values()
    cells = Counter((HEAD_LABELS[r.settings.head], r.settings.d, r.settings.temperature) for r in runs)
    assert {(row["head"], row["d"], row["τ"]): row["runs"] for _, row in table.iterrows()} == cells
    row = table[(table["head"] == "linear (unnormalised)") & (table["τ"] == 0.2)].iloc[0]
    values = [r.final["GNC3"] for r in runs if (r.settings.head, r.settings.temperature) == ("linear", 0.2)]
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert (row["GNC3"], row["GNC3, lower"], row["GNC3, upper"]) == pytest.approx((np.mean(values), low, high))
    assert len(every) == len(runs)
    for run, name in itertools.product(runs, ("GNC1", "GNC2")):
        assert every.loc[every["key"] == run.settings.key, name].item() == run.final[name]


def test_a_dimension_without_a_held_code_has_findings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.studies.common.best_known_margin", lambda K, d: math.nan)
    findings = found(made_up(temperature.plan(seeds=2, dims=(6,))))
    assert any(f"no code of K = {K}, d = 6 is stored to compare it with" in s for s in findings.statements)
    assert not any("T6" in s for s in findings.statements)


def test_nothing_finished_and_a_part() -> None:
    assert found([]).statements == ["No run is finished."]
    runs = made_up(temperature.plan())
    for one in runs[::7]:
        findings = found([one])
        assert len(findings.tables["Every run"]) == 1 and len(findings.figures) == 1


def test_runs_that_diverged_are_named_by_cell_and_not_missing() -> None:
    runs = made_up(temperature.plan(dims=()))
    for run in runs:
        s = run.settings
        if s.head == "linear" and (s.temperature == 0.1 or (s.temperature, s.seed) == (0.2, 1)):
            run.status = "diverged"
    statements = found(runs).statements
    label = "Diverged and left out: linear (unnormalised), d = 10, τ = "
    assert {s for s in statements if s.startswith("Diverged")} == {f"{label}0.1, seed 0, 1, 2.", f"{label}0.2, seed 1."}
    assert not any(s.startswith("Missing") for s in statements)
    for run in runs:
        run.status = "diverged"
    assert found(runs).statements[0] == "No run is finished but those that diverged."
