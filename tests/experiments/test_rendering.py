"""Templates: what values of results cannot do to sentences, and tables that hold numbers in every study."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd
import pytest

from experiments import rendering
from experiments.statistics import Interval, Slope, mean_interval
from experiments.studies import cmf, finetune, retrieval
from experiments.tables import counted_columns, interval_columns
from softmaxcode import tables
from softmaxcode.pages.tables import as_text, flat, storable
from tests.experiments import test_cmf, test_finetune, test_retrieval

if TYPE_CHECKING:
    from pathlib import Path


def sentences(*seeds: Any, label: str = "learned") -> list[str]:
    return rendering.statements("nothing", what="", diverged=[(label, list(seeds))], missing=[])


def test_a_value_forges_no_sentence() -> None:
    """A sentence begins at ``- `` at the start of a line of the template, and values have no line breaks."""
    first, second = sentences(0, label="a  b\n- forged\r\n- again {{ 1 }}\x85- third <b>")
    assert first == "No run is finished but those that diverged."
    assert second == r"Diverged and left out: a  b\n- forged\r\n- again {{ 1 }}\x85- third <b>, seed 0."


def test_a_sentence_of_several_lines_is_one() -> None:
    groups = {
        "mode": "all layers",
        "head": "cmf",
        "differences": {"here": mean_interval([1, 2]), "there": Interval(0, -1, 1, 3)},
    }
    (sentence,) = rendering.statements("finetune", compared=[groups], gains=[], diverged=[], missing=[])
    assert sentence == (
        "Trained all layers, cmf less the learned head, in points of accuracy: here 1.5 ± 6.4 (n = 2), neither shown "
        "to be better nor worse; there 0.0 ± 1.0 (n = 3), neither shown to be better nor worse."
    )


def test_what_a_template_is_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError, match="'missing' is undefined"):
        rendering.statements("nothing", what="", diverged=[])


@pytest.mark.parametrize(
    ("lower", "upper", "sign"), [(0.1, 0.3, 1), (-0.3, -0.1, -1), (-0.1, 0.3, 0), (np.nan, np.nan, 0)]
)
def test_the_sign_of_an_interval(lower: float, upper: float, sign: int) -> None:
    words = {1: "above", -1: "below", 0: "neither"}
    for one in (Interval(0.2, lower, upper, 4), Slope(0.2, lower, upper, 4, 0.01)):
        assert one.sign == sign
        assert rendering.side(one, "above", "below", "neither") == words[sign]


def test_columns_of_an_interval_are_shown_as_one() -> None:
    frame = pd.DataFrame(
        [
            {"head": "a", **counted_columns("GNC2", Interval(0.5, 0.4, 0.6, 3)), "x, lower": 1.0},
            {"head": "b", **interval_columns("GNC2", mean_interval([0.25])), "x, lower": 2.0},
            {"head": "c", "x, lower": 3.0},
        ]
    )
    shown = as_text(frame)
    assert shown["GNC2"].tolist() == ["0.50 ± 0.10", "0.25", "–"]
    assert list(shown) == ["head", "GNC2", "GNC2, n", "x, lower"]  # a bound without its mean is a column of its own


@pytest.mark.parametrize(
    "findings",
    [
        lambda: cmf.findings(test_cmf.made_up(0.0)),
        lambda: finetune.findings(test_finetune.made_up(0.0)),
        lambda: retrieval.findings(test_retrieval.made_up({}, temperatures=(0.5,))),
    ],
)
def test_tables_of_studies_hold_numbers(findings: Any, tmp_path: Path) -> None:
    """No cell of a file is a number as text, and the means are between their bounds."""
    for i, table in enumerate(findings().tables.values()):
        tables.write(storable(flat(table)), tmp_path / f"{i}.parquet")
        stored = pd.read_parquet(tmp_path / f"{i}.parquet")
        for name in stored.select_dtypes(exclude="number"):
            assert pd.to_numeric(stored[name].str.partition(" ± ")[0], errors="coerce").isna().all()
        for name in stored.filter(regex=", lower$"):
            mean = name.removesuffix(", lower")
            known = stored[name].notna()
            assert (stored[name] <= stored[mean] + 1e-9)[known].all()
            assert (stored[mean] <= stored[f"{mean}, upper"] + 1e-9)[known].all()
