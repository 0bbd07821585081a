"""The landscape figure: no surpassed code is marked, all points are within the bounds, no search is made."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmaxcode as sc
from softmaxcode.bounds.best import margin_bounds
from softmaxcode.bounds.levenshtein_bound import levenshtein
from softmaxcode.bounds.volume_bound import volume
from softmaxcode.cli.command import main
from softmaxcode.exact import constructions
from softmaxcode.plotting import landscape
from softmaxcode.plotting.landscape import PAPER_LINES, ExactPoint, panel, plot_landscape

STORED = ((7, 3), (10, 3), (9, 4))


pytestmark = pytest.mark.usefixtures("only_small_catalogue")


# The data of a panel


def test_a_panel_holds_what_the_catalogue_and_the_families_hold():
    shown = panel(3)
    assert list(shown.stored) == [7, 10]
    assert shown.stored[7] == sc.best_known(7, 3).margin
    names = {point.name: point for point in shown.exact}
    assert {"simplex", "cross-polytope", "icosahedron", "snub-cube"} <= set(names)
    assert names["icosahedron"].margin == pytest.approx(1 - 5**-0.5, abs=1e-15)
    assert names["simplex"].margin == pytest.approx(4 / 3) and names["simplex"].K == 4
    assert shown.classes == (4, 24)
    assert panel(10).paper.keys() == {100, 200}
    assert panel(3).paper == {}


def test_max_classes_widens_and_narrows():
    assert [point.name for point in panel(3, 12).exact][-1] == "icosahedron"
    assert list(panel(3, 7).stored) == [7]
    assert max(point.K for point in panel(24, 200_000).exact) == 196_560
    assert max(point.K for point in panel(24).exact) <= landscape.WIDEST


@pytest.mark.parametrize("d", [3, 4, 5, 7, 8, 21, 22, 23])
def test_exact_codes_lie_between_the_bounds_and_are_unsurpassed(d):
    shown = panel(d, 5000)
    for point in shown.exact:
        # every one of them is a packing with a margin of 1 - mu
        assert volume(point.K, d).margin_lower <= point.margin <= 1 - levenshtein(point.K, d).value + 1e-12
    everything = list(shown.stored.items())
    families = [c for n in range(2, d + 1) for c in constructions(n)]
    everything += [(c.K, 1 - c.max_cosine) for c in families]
    for K, margin, _ in shown.exact:
        assert all(other <= margin + 1e-9 for size, other in everything if size >= K)
    marked = {point.K for point in shown.exact}
    for c in families:
        if 2 * d < c.K <= 5000 and c.K not in marked:
            assert any(size > c.K and other >= 1 - c.max_cosine - 1e-9 for size, other in everything)


sizes = st.integers(2, 12)
values = st.sampled_from([0.1, 0.2, 0.3, 0.4, 0.5])


@given(st.lists(st.tuples(sizes, values), max_size=8), st.dictionaries(sizes, values, max_size=5))
def test_unsurpassed_is_the_pareto_front(points, stored):
    exact = [ExactPoint(K, margin, str(i)) for i, (K, margin) in enumerate(points)]
    kept = landscape.unsurpassed(exact, stored)
    front = set()
    for K, margin in points:
        by_exact = any((size > K and other >= margin) or (size == K and other > margin) for size, other in points)
        by_held = any(size >= K and other > margin for size, other in stored.items())
        if not by_exact and not by_held:
            front.add((K, margin))
    assert [(point.K, point.margin) for point in kept] == sorted(front)


@given(st.floats(1e-3, 1e3), st.floats(1.5, 1e6))
def test_ticks_are_in_their_range_and_rise(low, ratio):
    ticks = landscape.round_ticks(low, low * ratio)
    assert ticks == sorted(set(ticks))
    assert all(low <= tick <= low * ratio for tick in ticks)
    assert len(ticks) >= (4 if ratio > 6 else 1)
    assert all(float(f"{tick:.1e}") == tick for tick in ticks)


def test_codes_in_fewer_dimensions_count():
    points = {point.K: point for point in panel(24, 5000).exact}
    assert points[4600].name == "Leech-layer(4600)" and 96 not in points


def test_the_papers_lines_are_below_what_is_proved_possible():
    assert len(PAPER_LINES) == 9
    for (K, d), value in PAPER_LINES.items():
        assert 0 < value < margin_bounds(K, d, lp=False).upper


# The figure


def drawn(axes, marker):
    """Points drawn with a marker, as {x: y}."""
    lines = [line for line in axes.lines if line.get_marker() == marker]
    return {float(x): float(y) for line in lines for x, y in zip(*line.get_data(), strict=True)}


def test_every_panel_shows_what_it_holds():
    figure = plot_landscape([3, 10])
    three, ten = figure.axes
    assert [axes.get_label() for axes in figure.axes] == ["d=3", "d=10"]
    assert drawn(three, "o") == panel(3).stored
    assert drawn(three, "D") == {point.K: point.margin for point in panel(3).exact}
    assert drawn(ten, "v") == {100: PAPER_LINES[100, 10], 200: PAPER_LINES[200, 10]}
    (texts,) = [text.get_text() for text in ten.texts if "Jiang" in text.get_text()]
    ours = sc.best_known(100, 10).margin
    assert f"K = 100: 0.6142, ours {ours:.4f}" in texts
    assert any(text.get_text() == "snub-cube" for text in three.texts)
    for axes in figure.axes:
        upper, lower = [np.array(line.get_data()) for line in axes.lines[:2]]
        np.testing.assert_array_equal(upper[0], lower[0])
        assert (upper[1] > lower[1]).all() and (np.diff(lower[1]) < 0).all()


def test_names_do_not_cover_each_other():
    figure = plot_landscape([8, 20, 30])
    for axes in figure.axes:
        places = np.array([axes.transData.transform(text.xy) for text in axes.texts if hasattr(text, "xy")])
        assert len(places) >= 3
        apart = np.abs(places[:, None, :] - places[None, :, :])
        assert ((apart[..., 0] > 15) | (apart[..., 1] > 60) | np.eye(len(places), dtype=bool)).all()


def test_no_name_is_slanted_across_others():
    """The last of many names in 14 dimensions is long, and has room only to the left, where the others are."""
    (axes,) = plot_landscape([14]).axes
    rotations = [text.get_rotation() for text in axes.texts if hasattr(text, "xy")]
    assert len(rotations) >= 3 and set(rotations) == {45.0}


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_written_whole(tmp_path, suffix):
    target = tmp_path / f"landscape{suffix}"
    plot_landscape([4], target)
    start = {".png": b"\x89PNG", ".pdf": b"%PDF", ".svg": b"<?xml"}[suffix]
    assert target.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [target]


def test_nothing_is_searched(monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("searched")

    monkeypatch.setattr("softmaxcode.search.multistart.optimise", refuse)
    monkeypatch.setattr("softmaxcode.search.pipeline.search", refuse)
    assert len(plot_landscape([3, 4, 20]).axes) == 3


def test_without_any_catalogue(monkeypatch, tmp_path):
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(tmp_path / "nowhere.sqlite"))
    figure = plot_landscape([3])
    assert drawn(figure.axes[0], "o") == {}
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "best margin stored" not in labels and "exact code" in labels


@pytest.mark.parametrize(
    ("dims", "options", "texts"),
    [
        ([], {}, "dims must be a list of at least one"),
        ([2], {}, "at least 3"),
        ([3.5], {}, "at least 3"),
        ([3], {"max_classes": 4}, "max_classes"),
        ([3], {"path": "landscape.jpeg"}, "jpeg"),
    ],
)
def test_bad_arguments_are_refused(dims, options, texts):
    with pytest.raises(ValueError, match=texts):
        plot_landscape(dims, **options)


def test_the_command(tmp_path, capsys):
    target = tmp_path / "landscape.png"
    assert main(["landscape", "--dims", "3,4", "-o", str(target)]) == 0
    assert target.stat().st_size > 10_000
    assert capsys.readouterr().out == f"written to {target}\n"
    assert main(["landscape", "--dims", "2", "-o", str(target), "--force"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("softmaxcode: a dimension of the landscape must be") and said.count("\n") == 1


@pytest.mark.parametrize("dims", [[10], [10, 20], [3, 4, 8]])
def test_the_legend_lies_inside_the_figure(dims):
    figure = plot_landscape(dims, max_classes=110)
    figure.draw_without_rendering()
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert box.x0 >= 0 and box.x1 <= figure.bbox.width and box.y0 >= 0
    assert all(box.y1 <= axes.get_tightbbox().y0 for axes in figure.axes)
