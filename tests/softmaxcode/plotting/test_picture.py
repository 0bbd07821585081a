"""The figure of a code: its panels, the texts on rattlers, and the written file."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

import softmaxcode as sc
from softmaxcode.plotting import kinds, picture, spectrum, sphere
from softmaxcode.sphere import random_rows


@pytest.fixture(scope="module")
def nineteen():
    """(19, 3): one class has no contact."""
    return sc.solve(19, 3, starts=16, progress=False)


def code_of(rows, objective="softmax"):
    return sc.SoftmaxCode(np.asarray(rows, dtype=float), objective, sc.Provenance("test"))


def random_code(K, d):
    return code_of(random_rows(K, d, np.random.default_rng(0)))


def panels(figure):
    return {axes.get_label(): axes for axes in figure.axes}


def legend_labels(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def header(figure):
    return " | ".join(text.get_text() for text in figure.texts)


def texts_on_page(figure):
    """Every text with its bounding box, without the numbers on the axes."""
    figure.canvas.draw()
    ticks = {label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis) for label in axis.findobj(Text)}
    ticks -= {axis.label for axes in figure.axes for axis in (axes.xaxis, axes.yaxis)}
    texts = [text for text in figure.findobj(Text) if text.get_text() and text not in ticks]
    return [(text.get_text(), text.get_window_extent().padded(-1.5)) for text in texts]


@pytest.mark.parametrize(
    ("K", "d", "expected"),
    [
        (2, 1, ["spectrum", "margins"]),
        (12, 1, ["spectrum", "margins"]),
        (7, 2, ["sphere", "spectrum", "margins"]),
        (2, 3, ["sphere", "spectrum", "margins"]),
        (6, 3, ["sphere", "spectrum", "margins"]),
        (10, 5, ["spectrum", "margins"]),
    ],
)
def test_panels_of_each_dimension(K, d, expected):
    figure = sc.plot(sc.solve(K, d))
    assert [axes.get_label() for axes in figure.axes] == expected
    figure.canvas.draw()


def test_header_names_the_figures():
    texts = header(sc.plot(sc.solve(7, 2)))
    for part in ("K = 7", "d = 2", "objective softmax", "margin 0.37651", "51.4286°", "optimal", "No class rattles"):
        assert part in texts


def test_rattlers_are_named_and_counted(nineteen):
    assert len(nineteen.tammes_rattlers) == len(nineteen.softmax_rattlers) == 1
    k = int(nineteen.tammes_rattlers[0])
    figure = sc.plot(nineteen)
    assert f"1 of 19 classes rattles (no contact, larger margin): {k}" in header(figure)
    for name in ("sphere", "margins"):
        texts = legend_labels(panels(figure)[name])
        assert "Tammes and Softmax rattlers: 1" in texts
        assert "fixed classes: 18" in texts
        assert str(k) in [text.get_text() for text in panels(figure)[name].texts]
    assert f"contacts: {len(nineteen.contacts)}" in legend_labels(panels(figure)["spectrum"])


def test_rows_that_are_no_optimum_are_not_called_a_code():
    """As a trained classifier, in which almost everything would "rattle"."""
    figure = sc.plot(random_code(40, 4))
    assert "40 vectors in dimension 4, not known to be a local optimum" in header(figure)
    assert "Rattlers are counted at local optima alone" in header(figure) and "Softmax Code" not in header(figure)
    assert not any("rattlers" in text for text in legend_labels(panels(figure)["margins"]))


def test_the_two_sorts_of_rattlers_are_told_apart(monkeypatch):
    monkeypatch.setattr(kinds, "FEASIBLE", "no status")
    code = random_code(40, 4)  # of its one contact pair, one class has the smallest margin
    assert set(code.tammes_rattlers) != set(code.softmax_rattlers)
    both = len(np.intersect1d(code.tammes_rattlers, code.softmax_rattlers))
    texts = legend_labels(panels(sc.plot(code))["margins"])
    assert f"Tammes and Softmax rattlers: {both}" in texts
    for name, mine, other in (
        ("Tammes rattlers (no contact)", code.tammes_rattlers, code.softmax_rattlers),
        ("Softmax rattlers (larger margin)", code.softmax_rattlers, code.tammes_rattlers),
    ):
        only = len(np.setdiff1d(mine, other))
        assert (f"{name}: {only}" in texts) == (only > 0)
    assert f"{len(code.tammes_rattlers)} Tammes" in header(sc.plot(code))
    assert f"{len(code.softmax_rattlers)} Softmax" in header(sc.plot(code))


def test_rattlers_face_the_viewer(nineteen):
    view = sphere.viewpoint(nineteen.W, nineteen.tammes_rattlers)
    np.testing.assert_allclose(view @ view.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(view) == pytest.approx(1)
    assert (nineteen.W[nineteen.tammes_rattlers] @ view[2]).min() > 0.1


@pytest.mark.parametrize(("angle", "message"), [(0.7, "ordinary"), (np.pi, "opposite"), (0.0, "equal")])
def test_arcs_stay_on_the_sphere(angle, message):
    A = np.array([[1.0, 0, 0]])
    B = np.array([[np.cos(angle), np.sin(angle) if angle != np.pi else 0.0, 0]])
    arc = sphere.great_circle_arcs(A, B)[0]
    np.testing.assert_allclose(np.linalg.norm(arc, axis=1), 1, atol=1e-12, err_msg=message)
    np.testing.assert_allclose(arc[[0, -1]], np.vstack([A, B]), atol=1e-12, err_msg=message)


@pytest.mark.parametrize("keep", [10**6, 100, 7])
@pytest.mark.parametrize("tile", [1, 16, 512])
def test_streamed_cosines_are_those_of_all_pairs(keep, tile):
    W = random_rows(45, 4, np.random.default_rng(1))
    every = np.sort((W @ W.T)[np.triu_indices(45, 1)])[::-1]
    kept, reached = spectrum.largest_pair_cosines(W, keep, every[12] - 1e-12, tile)
    np.testing.assert_allclose(kept, every[:keep], atol=1e-14)
    assert reached == 13


def test_thinning_is_said(monkeypatch):
    monkeypatch.setattr(spectrum, "MAX_COSINES", 300)
    monkeypatch.setattr(spectrum, "ALL_RANKS", 20)
    axes = panels(sc.plot(sc.solve(24, 3, starts=16, progress=False)))["spectrum"]
    assert axes.get_title(loc="left") == "Cosines of all 276 pairs, sorted"
    drawn = sum(len(points.get_offsets()) for points in axes.collections)
    assert drawn < 41
    assert f"{drawn} drawn" in axes.get_xlabel()
    monkeypatch.setattr(spectrum, "MAX_COSINES", 100)
    axes = panels(sc.plot(random_code(30, 5)))["spectrum"]
    assert axes.get_title(loc="left") == "Largest 100 of 435 cosines, sorted"


def test_drawn_ranks_are_in_range_and_rising():
    for count in (1, 5, 9_999, 10_001, 2_000_000):
        ranks = spectrum.drawn_ranks(count)
        assert ranks[0] == 1
        assert ranks[-1] == count
        assert (np.diff(ranks) > 0).all()
        assert len(ranks) <= 2 * spectrum.ALL_RANKS + 1


def test_what_is_not_computed_is_said_in_words(nineteen, monkeypatch):
    code = code_of(nineteen.W, "tammes")
    monkeypatch.setattr("softmaxcode.code.MAX_ALL_MARGINS", 10)
    monkeypatch.setattr(sphere, "MAX_EDGE_CLASSES", 10)
    figure = sc.plot(code)
    by_name = panels(figure)
    assert "not computed: all 19 margins" in by_name["margins"].texts[0].get_text().replace("\n", " ")
    assert "Tammes rattlers (no contact): 1" in legend_labels(by_name["sphere"])
    assert "Softmax (larger margin) not computed" in header(figure)
    assert "contacts are drawn up to 10 classes" in [text.get_text() for text in by_name["sphere"].texts]
    monkeypatch.setattr(kinds, "MAX_CONTACT_CLASSES", 10)
    assert "not computed: contacts" in panels(sc.plot(code))["spectrum"].texts[0].get_text()


def test_a_certificate_that_is_not_computed_is_said_in_words(monkeypatch):
    def refuse(code):
        raise sc.NotComputed("not computed: too large")

    monkeypatch.setattr("softmaxcode.code.derive_certificate", refuse)
    figure = sc.plot(random_code(20, 3))
    assert "status not computed" in header(figure)
    assert "Rattlers are not computed at this size" in header(figure)
    assert "classes: 20" in legend_labels(panels(figure)["sphere"])
    assert "not computed: too large" in panels(figure)["spectrum"].texts[0].get_text().replace("\n", " ")


@pytest.mark.parametrize(
    "rows",
    [
        [[1.0], [-1.0], [1.0]],
        [[0, 0, 1.0], [0, 0, 1.0]],
        [[0, 0, 1.0], [0, 0, 1.0], [0, 1.0, 0], [1.0, 0, 0]],
        [[1.0, 0], [1.0, 0], [-1.0, 0]],
    ],
)
def test_equal_rows_can_be_drawn(rows):
    sc.plot(code_of(rows)).canvas.draw()


@pytest.mark.parametrize(("K", "d"), [(19, 3), (30, 2), (12, 3), (40, 4)])
def test_no_words_overlap(K, d, nineteen):
    figure = sc.plot(nineteen if K == 19 else random_code(K, d))
    texts = texts_on_page(figure)
    overlapping = [(a, b) for i, (a, one) in enumerate(texts) for b, other in texts[:i] if one.overlaps(other)]
    assert not overlapping
    page = figure.bbox
    assert not [a for a, box in texts if not (page.x0 <= box.x0 and box.x1 <= page.x1 and page.y0 <= box.y0 <= page.y1)]


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG\r\n\x1a\n"), (".PDF", b"%PDF"), (".svg", b"<?xml")])
def test_file_is_written_whole(suffix, start, tmp_path):
    target = tmp_path / f"code{suffix}"
    target.write_bytes(b"old")
    figure = sc.plot(sc.solve(7, 2), target)
    assert isinstance(figure.canvas, FigureCanvasAgg)
    assert target.read_bytes().startswith(start)
    assert [file.name for file in tmp_path.iterdir()] == [target.name]


def test_an_old_file_survives_a_failed_write(tmp_path, monkeypatch):
    def fail(self, path, **kwargs):
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    target = tmp_path / "code.png"
    target.write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"):
        sc.plot(sc.solve(7, 2), str(target))
    assert target.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["code.png"]


def test_errors_come_before_any_work(tmp_path, monkeypatch):
    monkeypatch.setattr(picture, "derive", lambda code: pytest.fail("work was done"))
    code = sc.solve(7, 2)
    with pytest.raises(ValueError, match=r"the suffix must be one of \.png, \.pdf, \.svg"):
        sc.plot(code, tmp_path / "code.jpg")
    with pytest.raises(ValueError, match=r"the folder .* does not exist"):
        sc.plot(code, tmp_path / "missing" / "code.png")
    with pytest.raises(ValueError, match=r"takes a SoftmaxCode.*got array"):
        sc.plot(code.W)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.processes
def test_global_state_is_left_alone(tmp_path):
    """No pyplot, no change of rcParams or backend, nothing shown."""
    script = f"""
import sys, matplotlib
before = repr(sorted(dict.items(matplotlib.rcParams), key=str))  # looking up "backend" would import pyplot
import softmaxcode as sc
sc.plot(sc.solve(4, 3), {str(tmp_path / "code.png")!r})
sc.plot(sc.solve(5, 2), {str(tmp_path / "code.svg")!r})
assert "matplotlib.pyplot" not in sys.modules
assert repr(sorted(dict.items(matplotlib.rcParams), key=str)) == before
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path)
