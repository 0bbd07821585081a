"""One picture of a code: its contact graph on the sphere, its cosines and its margins, with the rattlers marked."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Circle, Patch
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullLocator

from softmaxcode.code import MAX_CONTACT_CLASSES, NotComputed, check_code
from softmaxcode.storage.disk import check_output, written_whole

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from softmaxcode.code import SoftmaxCode
    from softmaxcode.types import Mask, Pairs, PerClass, Rows

SUFFIXES = (".png", ".pdf", ".svg")
#: Pixels an inch of a written ``.png``: figures are 12 inches wide.
DPI = 150
#: Contact edges are drawn up to this many classes; `SoftmaxCode.contacts` holds all K x K cosines.
MAX_EDGE_CLASSES = 5_000
#: The spectrum holds at most this many cosines, the largest; all pairs of 2000 classes fit.
MAX_COSINES = 2_000_000
#: Ranks up to this one are all drawn; later ones are thinned to as many again, evenly on the logarithmic axis.
ALL_RANKS = 5_000
#: Classes are named in words and on the sphere where no more than this many rattle.
MAX_NAMED = 12
#: Letters that fit in the line on rattlers.
MAX_LINE = 96
#: Every class is numbered on the sphere up to this many.
MAX_NUMBERED = 30
#: The margin axis leaves out zero where all the margins are within this fraction of the largest.
ZOOM_BELOW = 0.3

#: Half the height of the sphere's panel in radii, and the radii in a point (1/72 inch) of that panel.
_REACH = 1.19
_POINT = 2 * _REACH / (0.735 * 7.3 * 72)

#: A point this little behind the rim is drawn as in front, so that two opposite rattlers can both be seen.
_RIM = 0.03

_INK = "#222222"
_FAINT = "#5f6b76"
_EDGE = "#16324f"
_FAR_EDGE = "#a8b7c5"


class _Kind(NamedTuple):
    """How one kind of class is drawn: colours told apart by colour-blind readers, with a marker and a hatch each."""

    name: str
    colour: str
    far_colour: str
    bar_colour: str
    ink: str
    marker: str
    hatch: str

    @property
    def rattles(self) -> bool:
        """Whether the kind is one of rattlers."""
        return bool(self.hatch)


_HELD = _Kind("held classes", "#0072B2", "#a6c8de", "#9cc3dd", "#00598c", "o", "")
_BOTH = _Kind("Tammes and Softmax rattlers", "#D55E00", "#ecb68f", "#D55E00", "#c24f00", "D", "////")
_TAMMES = _Kind("Tammes rattlers (no contact)", "#F0B400", "#f3dc9b", "#F0B400", "#8a6200", "^", "....")
_SOFTMAX = _Kind("Softmax rattlers (larger margin)", "#AA3377", "#dcb0c9", "#AA3377", "#8f2763", "s", "xxxx")


@dataclass(frozen=True, eq=False)
class _Known:
    """What is derived once for all panels; None where it is not computed, with the words to say instead."""

    status: str
    threshold: float | None
    ambiguous: bool
    margins: PerClass | None
    margins_words: str
    spectrum_words: str
    tammes: Mask | None
    softmax: Mask | None

    def groups(self, K: int) -> list[tuple[_Kind, np.ndarray]]:
        """Classes by kind, the held ones first; a kind without classes is left out."""
        none = np.zeros(K, dtype=bool)
        tammes = none if self.tammes is None else self.tammes
        softmax = none if self.softmax is None else self.softmax
        held = _HELD if self.tammes is not None or self.softmax is not None else _HELD._replace(name="classes")
        masks = [(held, ~tammes & ~softmax), (_BOTH, tammes & softmax)]
        masks += [(_TAMMES, tammes & ~softmax), (_SOFTMAX, softmax & ~tammes)]
        return [(kind, np.flatnonzero(mask)) for kind, mask in masks if mask.any()]


def plot(code: SoftmaxCode, path: str | Path | None = None) -> Figure:
    """Draw a code: the sphere with its contact graph for d = 2 and 3, and for any d its cosines and margins.

    Classes that rattle have a colour, a marker and a hatch of their own and are named in words. Pyplot is not used,
    so that nothing is shown and no global state changes.

    Parameters
    ----------
    code : SoftmaxCode
        From `softmaxcode.solve` or `softmaxcode.load`.
    path : path, optional
        Write the figure there as well: ``.png``, ``.pdf`` or ``.svg``. An existing file is replaced, atomically.

    Returns
    -------
    matplotlib.figure.Figure
        Axes labelled, in order: ``"sphere"`` (d = 2 and 3 only), ``"spectrum"``, ``"margins"``.

        * The sphere is seen from where most rattlers face the viewer; contacts are arcs of great circles (chords of
          the circle for d = 2) and what lies behind is pale.
        * The spectrum has the cosines of all pairs in falling order, or of the nearest pairs where there are more
          than two million; its title says what is drawn.
        * The margins are the one-vs-rest distances in rising order, with lines at the smallest and at 1 - mu.

        A panel whose figures are not computed at the code's size says so in words.

    Raises
    ------
    ValueError
        If ``code`` is no SoftmaxCode, the suffix is another one, or the folder does not exist.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> figure = sc.plot(sc.solve(7, 2))
    >>> [axes.get_label() for axes in figure.axes]
    ['sphere', 'spectrum', 'margins']
    """
    check_code("plot", code)
    target = None if path is None else check_output(path, SUFFIXES)
    known = _derive(code)
    groups = known.groups(code.K)
    sphere = code.d in (2, 3)
    figure = Figure(figsize=(12, 7.3 if sphere else 5.6), dpi=100, facecolor="white")
    FigureCanvasAgg(figure)
    _write_header(figure, code, known)
    if sphere:
        globe = figure.add_axes((0.01, 0.115, 0.50, 0.735), label="sphere")
        (_draw_circle if code.d == 2 else _draw_sphere)(globe, code, known, groups)
        places = (0.585, 0.515, 0.40, 0.29), (0.585, 0.085, 0.40, 0.315)
    else:
        places = (0.065, 0.11, 0.41, 0.63), (0.565, 0.11, 0.42, 0.63)
    _draw_spectrum(figure.add_axes(places[0], label="spectrum"), code, known)
    _draw_margins(figure.add_axes(places[1], label="margins"), code, known, groups)
    if target is not None:
        with written_whole(target) as temporary:
            figure.savefig(temporary, format=target.suffix[1:].lower(), dpi=DPI)
    return figure


def _derive(code: SoftmaxCode) -> _Known:
    status, threshold, ambiguous, words = "status not computed", None, False, ""
    try:
        status, threshold, ambiguous = code.certificate.status, code.certificate.threshold, code.certificate.ambiguous
        if code.K > MAX_CONTACT_CLASSES:
            words = f"not computed: contacts of {code.K} classes (the limit is {MAX_CONTACT_CLASSES})"
    except NotComputed as error:
        words = f"contacts need the certificate, which is {error}"
    margins, margins_words = _value_or_words(lambda: code.margins)
    tammes, _ = _value_or_words(lambda: code.is_tammes_rattler)
    softmax, _ = _value_or_words(lambda: code.is_softmax_rattler)
    return _Known(status, threshold, ambiguous, margins, margins_words, words, tammes, softmax)


def _value_or_words(get: Callable[[], np.ndarray]) -> tuple[np.ndarray | None, str]:
    try:
        return get(), ""
    except NotComputed as error:
        return None, str(error)


# Words


def _write_header(figure: Figure, code: SoftmaxCode, known: _Known) -> None:
    """Two lines on the code and one, in the rattlers' colour, on what rattles."""
    height = figure.get_figheight()
    kind = "Softmax Code" if code.objective == "softmax" else "Tammes code"
    margin, _ = _value_or_words(lambda: np.array(code.margin))
    measured = "not computed" if margin is None else f"{float(margin):.6g}"
    rattle, colour = _rattling_words(code.K, known)
    lines = [
        (f"{kind} of {code.K:,} classes in dimension {code.d}", 17, "bold", _INK),
        (
            f"K = {code.K},  d = {code.d},  objective {code.objective},  margin {measured},  "
            f"smallest angle {code.min_angle:.6g}°,  {known.status}",
            12.5,
            "normal",
            _INK,
        ),
        (rattle, 13.5, "bold", colour),
    ]
    for (text, size, weight, ink), inches in zip(lines, (0.34, 0.66, 0.95), strict=True):
        figure.text(0.5, 1 - inches / height, text, size=size, weight=weight, color=ink, ha="center", va="center")


def _rattling_words(K: int, known: _Known) -> tuple[str, str]:
    """The sentence on rattlers, with their numbers where the line has room, and its colour."""
    words, ink = _rattling_sentence(K, known, _names)
    return (words, ink) if len(words) <= MAX_LINE else _rattling_sentence(K, known, lambda mask: "")


def _rattling_sentence(K: int, known: _Known, names: Callable[[Mask], str]) -> tuple[str, str]:
    if known.tammes is None and known.softmax is None:
        return "Rattlers are not computed at this size", _FAINT
    if known.tammes is not None and known.softmax is not None and (known.tammes == known.softmax).all():
        n = int(known.tammes.sum())
        if not n:
            return "No class rattles", _HELD.ink
        verb = "rattles" if n == 1 else "rattle"
        return f"{n:,} of {K:,} classes {verb} (no contact, larger margin){names(known.tammes)}", _BOTH.ink
    parts = []
    for mask, kind in ((known.tammes, "Tammes (no contact)"), (known.softmax, "Softmax (larger margin)")):
        parts.append(f"{kind} not computed" if mask is None else f"{int(mask.sum()):,} {kind}{names(mask)}")
    rattling = any(mask is not None and mask.any() for mask in (known.tammes, known.softmax))
    return f"Rattlers of {K:,} classes:  " + ";  ".join(parts), _BOTH.ink if rattling else _HELD.ink


def _names(mask: Mask) -> str:
    members = np.flatnonzero(mask)
    return ": " + ", ".join(map(str, members)) if 0 < len(members) <= MAX_NAMED else ""


def _say(axes: Axes, words: str) -> None:
    """A panel of words in place of figures."""
    axes.set_xticks([])
    axes.set_yticks([])
    wrapped = "\n".join(textwrap.wrap(words, 52))
    axes.text(0.5, 0.5, wrapped, transform=axes.transAxes, ha="center", va="center", size=11, color=_FAINT)


# The sphere


def _marker_area(K: int) -> float:
    """Area of a held class's marker in square points: distances shrink as 1/sqrt(K) on the sphere."""
    return float(np.clip(4500 / K, 3, 130))


def _number_classes(
    axes: Axes, places: np.ndarray, groups: list[tuple[_Kind, np.ndarray]], K: int, shown: Callable[[int], bool]
) -> None:
    """Write class numbers beside their markers, rattlers first; one that would cover another is left out."""
    written: list[np.ndarray] = []
    for kind, members in sorted(groups, key=lambda group: not group[0].rattles):
        if not (kind.rattles and len(members) <= MAX_NAMED) and K > MAX_NUMBERED:
            continue
        for k in members:
            place = places[k, :2]
            length = float(np.hypot(*place))
            away = place / length if length > 0.05 else np.array([0.0, 1.0])
            reach = _ring_area(K) ** 0.5 / 2 + 10 if kind.rattles else _marker_area(K) ** 0.5 / 2 + 8
            at = place + away * reach * _POINT
            visible = shown(int(k))
            near = any(abs(at[0] - x) < 0.12 and abs(at[1] - y) < 0.09 for x, y in written)
            if near or not (visible or kind.rattles):
                continue
            written.append(at)
            axes.text(
                float(at[0]),
                float(at[1]),
                str(k) if visible else f"{k} (far side)",
                ha="center",
                va="center",
                size=13.5 if kind.rattles and visible else 10,
                weight="bold" if kind.rattles else "normal",
                color=kind.ink if kind.rattles else _INK,
                path_effects=[withStroke(linewidth=3, foreground="white")],
                zorder=12,
            )


def _ring_area(K: int) -> float:
    """Area of the ring around a rattler, in square points."""
    return 7 * _marker_area(K) + 60


def _scatter(axes: Axes, places: np.ndarray, kind: _Kind, K: int, *, far: bool) -> None:
    """One kind of class on one side of the sphere; few rattlers also get a ring around them."""
    area = _marker_area(K) * (1.6 if kind.rattles else 1) * (0.5 if far else 1)
    axes.scatter(
        places[:, 0],
        places[:, 1],
        s=area,
        marker=kind.marker,
        color=kind.far_colour if far else kind.colour,
        edgecolors=_INK if kind.rattles and not far else "white",
        linewidths=min(0.9, area**0.5 / 8),
        zorder=(3 if far else 8) + (1 if kind.rattles else 0),
    )
    if kind.rattles and len(places) <= MAX_NAMED:
        axes.scatter(
            places[:, 0],
            places[:, 1],
            s=_ring_area(K),
            facecolors="none",
            edgecolors=kind.far_colour if far else kind.colour,
            linewidths=2,
            zorder=4 if far else 10,
        )


def _sphere_legend(axes: Axes, groups: list[tuple[_Kind, np.ndarray]], contacts: int | None) -> None:
    handles: list[Artist] = [_point_handle(kind, len(members)) for kind, members in groups]
    if contacts is not None:
        handles.append(Line2D([], [], color=_EDGE, lw=1.8, label=f"contacts: {contacts:,}"))
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=3 if len(handles) <= 3 and not any(kind in (_TAMMES, _SOFTMAX) for kind, _ in groups) else 2,
        frameon=False,
        fontsize=11,
        labelcolor=_INK,
        borderaxespad=0,
        columnspacing=1.4,
        handletextpad=0.5,
        handlelength=1.4,
    )


def _point_handle(kind: _Kind, count: int) -> Line2D:
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=kind.marker,
        color=kind.colour,
        markeredgecolor=_INK if kind.rattles else "white",
        markersize=9,
        label=f"{kind.name}: {count:,}",
    )


def _frame(axes: Axes) -> None:
    axes.set_aspect("equal")
    axes.set_xlim(-_REACH, _REACH)
    axes.set_ylim(-_REACH, _REACH)
    axes.axis("off")


def _edges(code: SoftmaxCode, known: _Known) -> Pairs | None:
    """The contacts to draw, or None where they are not drawn."""
    return code.contacts if code.K <= MAX_EDGE_CLASSES and known.threshold is not None else None


def _without_edges(axes: Axes, code: SoftmaxCode) -> None:
    words = f"contacts are drawn up to {MAX_EDGE_CLASSES:,} classes"
    axes.text(0.5, 1.0, words, transform=axes.transAxes, ha="center", va="top", size=11, color=_FAINT)


def _draw_circle(axes: Axes, code: SoftmaxCode, known: _Known, groups: list[tuple[_Kind, np.ndarray]]) -> None:
    """d = 2: the circle, with a chord for every contact."""
    _frame(axes)
    axes.add_patch(Circle((0, 0), 1, facecolor="#f4f7fa", edgecolor="#8fa3b5", linewidth=1.2, zorder=1))
    edges = _edges(code, known)
    if edges is None:
        _without_edges(axes, code)
    else:
        axes.add_collection(LineCollection(code.W[edges], colors=_EDGE, linewidths=1.8, zorder=5), autolim=False)
    for kind, members in groups:
        _scatter(axes, code.W[members], kind, code.K, far=False)
    _number_classes(axes, code.W, groups, code.K, lambda k: True)
    _sphere_legend(axes, groups, None if edges is None else len(edges))


def _draw_sphere(axes: Axes, code: SoftmaxCode, known: _Known, groups: list[tuple[_Kind, np.ndarray]]) -> None:
    """d = 3: the sphere in orthographic projection, with an arc of a great circle for every contact."""
    _frame(axes)
    rattlers = np.concatenate([np.zeros(0, dtype=int), *(m for kind, m in groups if kind.rattles)])
    view = _view(code.W, rattlers)
    P = code.W @ view.T
    _draw_globe(axes)
    edges = _edges(code, known)
    if edges is None:
        _without_edges(axes, code)
    else:
        near, far = _split_by_side(_great_circle_arcs(P[edges[:, 0]], P[edges[:, 1]]))
        width = float(np.clip(14 / code.K**0.5, 0.5, 1.9))
        axes.add_collection(LineCollection(far, colors=_FAR_EDGE, linewidths=0.6 * width, zorder=2), autolim=False)
        axes.add_collection(LineCollection(near, colors=_EDGE, linewidths=width, zorder=6), autolim=False)
    for kind, members in groups:
        front = P[members, 2] > -_RIM
        _scatter(axes, P[members[~front], :2], kind, code.K, far=True)
        _scatter(axes, P[members[front], :2], kind, code.K, far=False)
    _number_classes(axes, P, groups, code.K, lambda k: bool(P[k, 2] > -_RIM))
    _sphere_legend(axes, groups, None if edges is None else len(edges))


def _view(W: Rows, rattlers: np.ndarray) -> np.ndarray:
    """Rotation, shape (3, 3), that shows the most rattlers well and lets few points hide others.

    Its rows are right, up and towards the viewer; the best of 2000 evenly spread directions.
    """
    n = np.arange(2000)
    height = 1 - (2 * n + 1) / len(n)
    turn = n * np.pi * (3 - 5**0.5)
    ring = np.sqrt(1 - height**2)
    directions = np.column_stack([ring * np.cos(turn), ring * np.sin(turn), height])
    if len(rattlers):
        towards = W[rattlers] @ directions.T
        facing = 10.0 * (towards > -_RIM).sum(axis=0) + np.clip(towards.min(axis=0), -1, 0.5)
        best = np.argsort(-facing, kind="stable")[:60]
        directions = directions[best[facing[best] > facing[best[0]] - 0.3]]
    else:
        directions = directions[::10]
    clear = np.zeros(len(directions))
    if len(W) <= 200:
        i, j = np.triu_indices(len(W), 1)
        along = W @ directions.T
        chord = np.sum((W[i] - W[j]) ** 2, axis=1)
        clear = (chord[:, None] - (along[i] - along[j]) ** 2).min(axis=0)
    forward = directions[int(np.argmax(clear))]
    right = np.cross(np.eye(3)[int(np.argmin(np.abs(forward)))], forward)
    right /= np.linalg.norm(right)
    return np.vstack([right, np.cross(forward, right), forward])


def _draw_globe(axes: Axes) -> None:
    """A shaded ball with its graticule, the far half of it fainter."""
    side = np.linspace(-1, 1, 361)
    x, y = np.meshgrid(side, side)
    radius = x**2 + y**2
    z = np.sqrt(np.maximum(1 - radius, 0))
    light = np.maximum(0, -0.45 * x + 0.55 * y + 0.70 * z)[..., None]
    ball = (1 - light) * np.array([0.78, 0.83, 0.88]) + light * np.array([1.0, 1.0, 1.0])
    axes.imshow(np.clip(ball, 0, 1), extent=(-1, 1, -1, 1), origin="lower", interpolation="bilinear", zorder=0)
    rim = Circle((0, 0), 1, facecolor="none", edgecolor="#8fa3b5", linewidth=1.2, zorder=4)
    axes.add_patch(rim)
    axes.images[-1].set_clip_path(rim)
    turn = np.linspace(0, 2 * np.pi, 181)
    rings = [
        np.column_stack([np.cos(a) * np.cos(turn), np.full_like(turn, np.sin(a)), np.cos(a) * np.sin(turn)])
        for a in np.radians(np.arange(-60, 61, 30))
    ]
    rings += [
        np.column_stack([np.cos(turn) * np.cos(a), np.sin(turn), np.cos(turn) * np.sin(a)])
        for a in np.radians(np.arange(0, 180, 30))
    ]
    tilt, spin = np.radians(22), np.radians(15)
    turned = np.array([[np.cos(spin), 0, np.sin(spin)], [0, 1, 0], [-np.sin(spin), 0, np.cos(spin)]])
    turned = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]]) @ turned
    near, far = _split_by_side(np.array(rings) @ turned.T)
    axes.add_collection(LineCollection(far, colors="#d9e0e7", linewidths=0.5, zorder=1), autolim=False)
    axes.add_collection(LineCollection(near, colors="#bccad6", linewidths=0.6, zorder=1.5), autolim=False)


def _great_circle_arcs(A: Rows, B: Rows, steps: int = 33) -> np.ndarray:
    """Points along the shorter great circle from each row of A to the same row of B, shape (E, steps, 3)."""
    inner = np.clip(np.sum(A * B, axis=1), -1, 1)[:, None]
    along = B - inner * A
    size = np.linalg.norm(along, axis=1, keepdims=True)
    # opposite points: any great circle; equal points: no arc, so any direction
    least = np.eye(3)[np.argmin(np.abs(A), axis=1)]
    other = least - np.sum(least * A, axis=1, keepdims=True) * A
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    along = np.where(size > 1e-12, along / np.maximum(size, 1e-12), other)
    angle = np.arctan2(size, inner) * np.linspace(0, 1, steps)
    return np.cos(angle)[..., None] * A[:, None, :] + np.sin(angle)[..., None] * along[:, None, :]


def _split_by_side(curves: np.ndarray) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Plane pieces of space curves (n, steps, 3), those on the viewer's side (z >= 0) and those behind."""
    near: list[np.ndarray] = []
    far: list[np.ndarray] = []
    for curve in curves:
        front = curve[:, 2] >= 0
        cuts = np.flatnonzero(front[1:] != front[:-1]) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(curve)], strict=True):
            # one point more, so that the pieces meet at the rim
            (near if front[start] else far).append(curve[max(start - 1, 0) : stop, :2])
    return near, far


# The spectrum


def _largest_pair_cosines(W: Rows, keep: int, level: float, tile: int = 512) -> tuple[np.ndarray, int]:
    """The ``keep`` largest cosines of pairs i < j in falling order, and how many pairs reach ``level``.

    Rows are taken in tiles, so that K x K numbers are never held.
    """
    kept = np.empty(0)
    reached = 0
    for start in range(0, len(W), tile):
        C = W[start : start + tile] @ W[start:].T
        fresh = C[np.arange(C.shape[1])[None, :] > np.arange(len(C))[:, None]]
        reached += int((fresh >= level).sum())
        if len(kept) == keep:
            fresh = fresh[fresh > kept.min()]
        kept = np.concatenate([kept, fresh])
        if len(kept) > keep:
            kept = np.partition(kept, len(kept) - keep)[len(kept) - keep :]
    return np.sort(kept)[::-1], reached


def _drawn_ranks(count: int) -> np.ndarray:
    """Ranks from 1 to draw: all up to `ALL_RANKS`, then as many again at even steps of the logarithm."""
    if count <= 2 * ALL_RANKS:
        return np.arange(1, count + 1)
    thinned = np.geomspace(ALL_RANKS + 1, count, ALL_RANKS).astype(np.int64)
    return np.unique(np.concatenate([np.arange(1, ALL_RANKS + 1), thinned, [count]]))


def _draw_spectrum(axes: Axes, code: SoftmaxCode, known: _Known) -> None:
    """Cosines of pairs in falling order over their rank."""
    _style(axes)
    pairs = code.K * (code.K - 1) // 2
    if known.spectrum_words or known.threshold is None:
        axes.set_title("Cosines of all pairs", size=12.5, color=_INK, loc="left")
        _say(axes, known.spectrum_words)
        return
    top = code.max_cosine
    cosines, contacts = _largest_pair_cosines(code.W, MAX_COSINES, top - known.threshold)
    ranks = _drawn_ranks(len(cosines))
    drawn = cosines[ranks - 1]
    title = f"Cosines of all {pairs:,} pairs, sorted" if pairs > 1 else "Cosine of the only pair"
    if len(cosines) < pairs:
        title = f"Largest {len(cosines):,} of {pairs:,} cosines, sorted"
    drawn_words = f"logarithmic; {len(ranks):,} drawn" if len(ranks) < len(cosines) else "logarithmic"
    axes.set_title(title, size=12.5, color=_INK, loc="left")
    touching = ranks <= contacts
    axes.axhline(top, color=_INK, lw=1.1, ls="--", zorder=2)
    axes.scatter(ranks[~touching], drawn[~touching], s=9, color="#7f8c99", linewidths=0, zorder=3, rasterized=True)
    axes.scatter(ranks[touching], drawn[touching], s=26, marker="D", color=_EDGE, linewidths=0, zorder=4)
    axes.set_xscale("log")
    axes.set_xlim(0.8, 1.25 * max(len(cosines), 4))
    if len(cosines) <= 100:
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    low = float(drawn.min())
    span = max(top - low, 0.5)  # of a simplex all are equal
    axes.set_ylim(top - 1.08 * span, top + 0.12 * span)
    axes.set_yticks(
        [y for y in axes.get_yticks() if top - 1.08 * span <= y <= top + 0.12 * span and abs(y) <= 1 + 1e-9]
    )
    axes.set_xlabel(f"rank of the pair ({drawn_words})", size=11, color=_INK, labelpad=2)
    axes.set_ylabel("cosine", size=11, color=_INK)
    handles: list[Artist] = [
        Line2D([], [], ls="none", marker="D", ms=5, color=_EDGE, label=f"contacts: {contacts:,}"),
        Line2D([], [], color=_INK, lw=1.1, ls="--", label=f"largest cosine $\\mu$ = {top:.6g}"),
    ]
    if contacts < pairs:
        said = f"other pairs, from {code.certificate.next_gap:.2g} below"
        handles.insert(1, Line2D([], [], ls="none", marker="o", ms=4, color="#7f8c99", label=said))
    if known.ambiguous:
        handles.insert(2, Patch(facecolor="none", label="so close that contacts may be miscounted"))
    _legend(axes, handles, "center left", (0.0, 0.42))


# The margins


def _draw_margins(axes: Axes, code: SoftmaxCode, known: _Known, groups: list[tuple[_Kind, np.ndarray]]) -> None:
    """One bar a class in rising order, with lines at the smallest margin and at 1 - mu."""
    _style(axes)
    axes.set_title("Margin of each class, sorted", size=12.5, color=_INK, loc="left")
    if known.margins is None:
        _say(axes, known.margins_words)
        return
    margins = known.margins
    order = np.argsort(margins, kind="stable")
    # equal margins: the rattlers last, so that each kind stands together
    if known.softmax is not None and known.tammes is not None:
        order = np.lexsort((margins, known.tammes & ~known.softmax, known.softmax))
    at = np.empty(code.K, dtype=np.int64)
    at[order] = np.arange(code.K)
    packing = 1 - code.max_cosine
    low, high = min(packing, float(margins.min())), float(margins.max())
    zoomed = 1e-4 * high < high - low < ZOOM_BELOW * high
    bottom = low - 0.35 * (high - low) if zoomed else 0.0
    ceiling = high + 1.15 * (high - low) if zoomed else 1.75 * high
    handles: list[Artist] = []
    for kind, members in groups:
        half = 0.42 if code.K <= 150 else 0.5
        corners = np.array([[-half, 0.0], [-half, 1.0], [half, 1.0], [half, 0.0]])
        bars = np.empty((len(members), 4, 2))
        bars[:, :, 0] = at[members, None] + corners[None, :, 0]
        bars[:, :, 1] = bottom + corners[None, :, 1] * (margins[members, None] - bottom)
        shape = PolyCollection(
            list(bars),
            facecolors=kind.bar_colour,
            edgecolors="white" if kind.rattles else kind.bar_colour,  # the colour of the hatch
            linewidths=0.0,
            hatch=kind.hatch if code.K <= 150 and kind.rattles else None,
            zorder=2,
        )
        shape.set_rasterized(code.K > 2000)
        axes.add_collection(shape, autolim=False)
        if kind.rattles:
            x = np.sort(at[members])[:: -(-len(members) // 40)]  # at most 40 markers, evenly along the bars
            axes.scatter(
                x,
                margins[order[x]],
                s=48,
                marker=kind.marker,
                color=kind.colour,
                edgecolors=_INK,
                linewidths=0.8,
                zorder=6,
            )
            handles.append(_point_handle(kind, len(members)))
        else:
            handles.append(Patch(facecolor=kind.bar_colour, label=f"{kind.name}: {len(members):,}"))
    axes.axhline(code.margin, color=_INK, lw=1.6, zorder=4)
    axes.axhline(packing, color="#009E73", lw=1.6, zorder=5, ls=(0, (3, 3)))
    handles.append(Line2D([], [], color=_INK, lw=1.6, label=f"smallest margin = {code.margin:.6g}"))
    handles.append(Line2D([], [], color="#009E73", lw=1.8, ls=(0, (3, 3)), label=f"$1 - \\mu$ = {packing:.6g}"))
    axes.set_xlim(-0.5 - 0.02 * code.K, code.K - 0.5 + 0.02 * code.K)
    axes.set_ylim(bottom, ceiling if high > 0 else 1.0)
    if high <= 0:
        axes.text(0.5, 0.25, "every margin is 0", transform=axes.transAxes, ha="center", size=11, color=_FAINT)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.set_xlabel("classes, smallest margin first", size=11, color=_INK, labelpad=2)
    axes.set_ylabel("margin (axis starts above 0)" if zoomed else "margin", size=11, color=_INK)
    free = [] if known.softmax is None else [int(k) for k in order if known.softmax[k]]
    if 0 < len(free) <= 4:  # more would run into the legend; the header names them
        axes.annotate(
            ", ".join(map(str, free)),
            (code.K - 0.5 + 0.02 * code.K, high),
            xytext=(-2, 8),
            textcoords="offset points",
            ha="right",
            va="bottom",
            size=11.5,
            weight="bold",
            color=_BOTH.ink if any(kind is _BOTH for kind, _ in groups) else _SOFTMAX.ink,
        )
    _legend(axes, handles, "upper left", (0.0, 1.02))


def _legend(
    axes: Axes, handles: list[Artist], loc: Literal["upper left", "center left"], anchor: tuple[float, float]
) -> None:
    legend = axes.legend(handles=handles, loc=loc, bbox_to_anchor=anchor, fontsize=10.5, labelcolor=_INK)
    legend.get_frame().set(edgecolor="none", facecolor="white", alpha=0.8)


def _style(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=10.5, colors=_INK)
    axes.grid(axis="y", color="#e6eaee", lw=0.8)
    axes.set_axisbelow(True)
