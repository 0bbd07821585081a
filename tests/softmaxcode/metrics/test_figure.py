"""Several runs over each other in one figure."""

from __future__ import annotations

import pandas as pd
import pytest

from softmaxcode.metrics.figure import plot_collapse


def history(scale: float) -> pd.DataFrame:
    table = {"GNC1": [1.0, 0.1 * scale], "GNC2": [0.2, 0.5 * scale], "GNC3": [0.5, 0.1], "GNC3_centred": [0.4, 0.2]}
    return pd.DataFrame({**table, "effective_rank": [3.0, 4.0]}, index=pd.Index([1, 2], name="epoch"))


def test_each_run_has_a_colour() -> None:
    figure = plot_collapse({"learned": history(1.0), "cmf": history(0.9)}, {"best": 0.6})
    assert len(figure.axes) == 3  # no axis of the effective rank
    first, middle, last = figure.axes
    labels = [axes.get_legend_handles_labels()[1] for axes in (first, middle, last)]
    assert labels[0] == ["learned, GNC1", "cmf, GNC1"]
    assert labels[1] == ["learned, margin ρ(W)", "cmf, margin ρ(W)", "best: 0.6000"]
    assert len(labels[2]) == 4
    colours = {line.get_label(): line.get_color() for line in last.lines}
    assert len(set(colours.values())) == 2 and {line.get_linestyle() for line in last.lines} == {"-", "--"}
    assert middle.get_ylim()[1] > 0.6


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ({}, "at least one run; got an empty mapping"),
        ({"a": history(1), "b": history(1).drop(columns="GNC3")}, "the history of 'b' must be .*; it lacks GNC3"),
        ({"a": history(1).iloc[:0]}, "it has no rows"),
    ],
)
def test_histories_that_cannot_be_drawn(runs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        plot_collapse(runs)
