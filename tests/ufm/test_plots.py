"""Figures of runs and sweeps: they show the measurements, with the theoretical limits, and files are complete."""

from __future__ import annotations

import dataclasses

import numpy as np
import pandas as pd
import pytest

import ufm
from ufm import plots
from ufm.plots import FLOOR, plot_run, plot_sweep


@pytest.fixture(scope="module")
def run():
    return ufm.simulate(K=10, d=3, n=2, temperature=0.05, steps=60, record_every=5, anneal=1.0)


@pytest.fixture(scope="module")
def table():
    return ufm.sweep(K=[6, 10], d=3, temperature=[0.5, 0.1, 0.02], seeds=2, n=2, steps=60)


def panels(figure):
    return {axes.get_label(): axes for axes in figure.axes}


def legend_labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def drawn(axes, label):
    """x and y of the line with this label."""
    (line,) = [line for line in axes.lines if line.get_label().startswith(label)]
    return [np.asarray(values, dtype=float) for values in line.get_data()]


def test_a_run_is_drawn_as_it_was_measured(run):
    shown = panels(plot_run(run))
    assert list(shown) == ["loss", "GNC1", "GNC2", "GNC3", "temperature"]
    history = run.history
    series = {
        ("loss", "log L"): history["log_loss"],
        ("GNC1", "GNC1"): history["GNC1"].clip(FLOOR),
        ("GNC2", "margin ρ(W)"): history["GNC2"],
        ("GNC2", "margin of the features"): history["feature_margin"],
        ("GNC2", "certified by the loss"): history["certified_margin"],
        ("GNC3", "about the origin"): history["GNC3"].clip(FLOOR),
        ("GNC3", "class means centred"): history["GNC3_centred"].clip(FLOOR),
    }
    for (panel, label), wanted in series.items():
        x, y = drawn(shown[panel], label)
        np.testing.assert_array_equal(x, history["step"])
        np.testing.assert_array_equal(y, wanted)
    np.testing.assert_array_equal(shown["temperature"].lines[0].get_ydata(), history["temperature"])
    for label, value in {"best known margin": run.best_known, "bound of global": run.minimizer_bound}.items():
        assert (drawn(shown["GNC2"], label)[1] == value).all()
        assert any(text.startswith(label) and text.endswith(f"{value:.4f}") for text in legend_labels(shown["GNC2"]))
    assert shown["GNC2"].get_ylim()[0] == 0 and shown["GNC2"].get_ylim()[1] > run.best_known


def test_only_what_a_run_has_is_drawn():
    """Off the sphere there is no certificate and no bound; at one temperature there is no axis of temperatures."""
    free = ufm.simulate(K=6, d=3, n=2, temperature=1.0, weight_decay=0.01, optimizer="adam", steps=20)
    shown = panels(plot_run(free))
    assert "temperature" not in shown
    assert [text.split(":")[0] for text in legend_labels(shown["GNC2"])] == [
        "margin ρ(W)",
        "margin of the features",
        "best known margin",
    ]


def test_a_certificate_that_stays_below_zero_is_in_the_legend():
    hot = ufm.simulate(K=6, d=3, n=2, temperature=5.0, steps=20)
    assert (hot.history["certified_margin"] < 0).all()
    assert "certified by the loss: below 0" in legend_labels(panels(plot_run(hot))["GNC2"])


def test_distances_of_zero_are_drawn_at_the_floor_and_the_axis_says_so(run):
    shown = panels(plot_run(dataclasses.replace(run, history=run.history.assign(GNC1=0.0))))
    assert shown["GNC1"].get_yscale() == "log" and (shown["GNC1"].lines[0].get_ydata() == FLOOR).all()
    assert shown["GNC1"].get_ylabel() == "1e-16 or less is drawn as that"
    shown = panels(plot_run(dataclasses.replace(run, history=run.history.assign(GNC1=0.1))))
    assert shown["GNC1"].get_ylabel() == ""


def test_a_sweep_is_drawn_as_medians_in_a_band_over_the_seeds(table):
    shown = panels(plot_sweep(table))
    assert list(shown) == ["GNC2", "GNC1", "GNC3"]
    assert all(axes.get_xscale() == "log" for axes in shown.values())
    for (K, d), family in table.groupby(["K", "d"]):
        x, y = drawn(shown["GNC2"], f"K = {K}, d = {d}")
        for tau, median in zip(x, y, strict=True):
            assert median == np.median(family.loc[family["temperature"] == tau, "GNC2"])
        lines = [tuple(np.unique(line.get_ydata())) for line in shown["GNC2"].lines if line.get_linestyle() == "--"]
        assert (family["best_known"].iloc[0],) in lines
        bounds = [line for line in shown["GNC2"].lines if line.get_linestyle() == ":" and len(line.get_xdata())]
        wanted = family.groupby("temperature")["minimizer_bound"].first()
        assert any(np.array_equal(line.get_ydata(), wanted) for line in bounds)
    bands = [band.get_paths()[0].vertices[:, 1] for band in shown["GNC2"].collections]
    assert {(band.min(), band.max()) for band in bands} == {
        (family["GNC2"].min(), family["GNC2"].max()) for _, family in table.groupby(["K", "d"])
    }
    assert legend_labels(shown["GNC2"]) == [
        "K = 6, d = 3",
        "K = 10, d = 3",
        "best known margin",
        "bound of global minimisers (T6 (c))",
    ]


def test_what_differs_in_a_table_has_a_line_of_its_own(table):
    both = pd.concat([table, table.assign(n=5.0, optimizer="adam", best_known=np.nan, minimizer_bound=np.nan)])
    found = legend_labels(panels(plot_sweep(both))["GNC2"])
    assert "K = 6, d = 3, n = 2, lbfgs" in found and "K = 6, d = 3, n = 5, adam" in found
    styles = [line.get_linestyle() for line in panels(plot_sweep(both))["GNC2"].lines]
    assert styles.count("--") == 3  # two pairs with a code, and the legend's


@pytest.mark.parametrize("suffix", plots.SUFFIXES)
def test_files_are_written_whole(run, table, tmp_path, suffix):
    plot_run(run, tmp_path / f"run{suffix}")
    plot_sweep(table, tmp_path / f"sweep{suffix}")
    head = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix]
    assert all(path.read_bytes().startswith(head) for path in tmp_path.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"run{suffix}", f"sweep{suffix}"]


def test_legends_do_not_cover_the_panels(run, table):
    for figure in (plot_run(run), plot_sweep(table)):
        figure.canvas.draw()
        for axes in figure.axes:
            if legend := axes.get_legend():
                box = legend.get_window_extent()
                assert not any(box.overlaps(other.get_window_extent()) for other in figure.axes)


def test_bad_input_is_refused(run, table, tmp_path):
    with pytest.raises(ValueError, match=r"run must be a ufm\.Run; got DataFrame"):
        plot_run(run.history)
    with pytest.raises(ValueError, match="history of the run must have at least one row"):
        plot_run(dataclasses.replace(run, history=run.history.iloc[:0]))
    with pytest.raises(ValueError, match=r"a DataFrame that ufm\.sweep returned; got dict"):
        plot_sweep({"K": [3]})
    with pytest.raises(ValueError, match="with one row per run; it has no rows"):
        plot_sweep(table.iloc[:0])
    with pytest.raises(ValueError, match="it lacks GNC2, best_known"):
        plot_sweep(table.drop(columns=["GNC2", "best_known"]))
    for path, said in ((tmp_path / "a.gif", "suffix must be one of"), (tmp_path / "no" / "a.png", "does not exist")):
        with pytest.raises(ValueError, match=said):
            plot_run(run, path)
        with pytest.raises(ValueError, match=said):
            plot_sweep(table, path)
    assert not list(tmp_path.iterdir())
