"""A code on the circle or the sphere, with an arc for every contact."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.lines import Line2D
from matplotlib.patches import Circle
from matplotlib.patheffects import withStroke

from softmaxcode.plotting.kinds import CONTACT, MAX_NAMED, SOFTMAX, TAMMES, point_handle
from softmaxcode.plotting.style import FAINT, INK

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.artist import Artist
    from matplotlib.axes import Axes

    from softmaxcode.code import SoftmaxCode
    from softmaxcode.plotting.kinds import Derived, Kind
    from softmaxcode.types import Pairs, Rows


#: Contact edges are drawn up to this many classes; `SoftmaxCode.contacts` computes all K x K cosines.
MAX_EDGE_CLASSES = 5_000
#: Every class is numbered on the sphere up to this many.
MAX_NUMBERED = 30
#: Half the height of the sphere's panel in radii, and radii per point (1/72 inch) of that panel.
_REACH = 1.19
_POINT = 2 * _REACH / (0.735 * 7.3 * 72)
#: A point at most this far behind the rim is drawn as in front, so that two opposite rattlers are both visible.
_RIM = 0.03
_FAR_EDGE = "#a8b7c5"


def _marker_area(K: int) -> float:
    """Area of a fixed class's marker in square points: distances shrink as 1/sqrt(K) on the sphere."""
    return float(np.clip(4500 / K, 3, 130))


def _number_classes(
    axes: Axes, places: np.ndarray, groups: list[tuple[Kind, np.ndarray]], K: int, shown: Callable[[int], bool]
) -> None:
    """Write class numbers beside their markers, rattlers first; omit a number that would cover another."""
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
                color=kind.ink if kind.rattles else INK,
                path_effects=[withStroke(linewidth=3, foreground="white")],
                zorder=12,
            )


def _ring_area(K: int) -> float:
    """Area of the ring around a rattler, in square points."""
    return 7 * _marker_area(K) + 60


def _scatter(axes: Axes, places: np.ndarray, kind: Kind, K: int, *, far: bool) -> None:
    """Draw one kind of class on one side of the sphere; few rattlers also get a ring around them."""
    area = _marker_area(K) * (1.6 if kind.rattles else 1) * (0.5 if far else 1)
    axes.scatter(
        places[:, 0],
        places[:, 1],
        s=area,
        marker=kind.marker,
        color=kind.far_colour if far else kind.colour,
        edgecolors=INK if kind.rattles and not far else "white",
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


def _sphere_legend(axes: Axes, groups: list[tuple[Kind, np.ndarray]], contacts: int | None) -> None:
    handles: list[Artist] = [point_handle(kind, len(members)) for kind, members in groups]
    if contacts is not None:
        handles.append(Line2D([], [], color=CONTACT, lw=1.8, label=f"contacts: {contacts:,}"))
    axes.legend(
        handles=handles,
        loc="upper center",
        bbox_to_anchor=(0.5, 0.0),
        ncols=3 if len(handles) <= 3 and not any(kind in (TAMMES, SOFTMAX) for kind, _ in groups) else 2,
        frameon=False,
        fontsize=11,
        labelcolor=INK,
        borderaxespad=0,
        columnspacing=1.4,
        handletextpad=0.5,
        handlelength=1.4,
    )


def _frame(axes: Axes) -> None:
    axes.set_aspect("equal")
    axes.set_xlim(-_REACH, _REACH)
    axes.set_ylim(-_REACH, _REACH)
    axes.axis("off")


def _edges(code: SoftmaxCode, known: Derived) -> Pairs | None:
    """The contacts to draw, or None where they are not drawn."""
    return code.contacts if code.K <= MAX_EDGE_CLASSES and known.threshold is not None else None


def _without_edges(axes: Axes, code: SoftmaxCode) -> None:
    text = f"contacts are drawn up to {MAX_EDGE_CLASSES:,} classes"
    axes.text(0.5, 1.0, text, transform=axes.transAxes, ha="center", va="top", size=11, color=FAINT)


def draw_circle(axes: Axes, code: SoftmaxCode, known: Derived, groups: list[tuple[Kind, np.ndarray]]) -> None:
    """d = 2: the circle, with a chord for every contact."""
    _frame(axes)
    axes.add_patch(Circle((0, 0), 1, facecolor="#f4f7fa", edgecolor="#8fa3b5", linewidth=1.2, zorder=1))
    edges = _edges(code, known)
    if edges is None:
        _without_edges(axes, code)
    else:
        axes.add_collection(LineCollection(code.W[edges], colors=CONTACT, linewidths=1.8, zorder=5), autolim=False)
    for kind, members in groups:
        _scatter(axes, code.W[members], kind, code.K, far=False)
    _number_classes(axes, code.W, groups, code.K, lambda k: True)
    _sphere_legend(axes, groups, None if edges is None else len(edges))


def draw_sphere(axes: Axes, code: SoftmaxCode, known: Derived, groups: list[tuple[Kind, np.ndarray]]) -> None:
    """d = 3: the sphere in orthographic projection, with an arc of a great circle for every contact."""
    _frame(axes)
    rattlers = np.concatenate([np.zeros(0, dtype=int), *(m for kind, m in groups if kind.rattles)])
    view = viewpoint(code.W, rattlers)
    P = code.W @ view.T
    _draw_globe(axes)
    edges = _edges(code, known)
    if edges is None:
        _without_edges(axes, code)
    else:
        near, far = _split_by_side(great_circle_arcs(P[edges[:, 0]], P[edges[:, 1]]))
        width = float(np.clip(14 / code.K**0.5, 0.5, 1.9))
        axes.add_collection(LineCollection(far, colors=_FAR_EDGE, linewidths=0.6 * width, zorder=2), autolim=False)
        axes.add_collection(LineCollection(near, colors=CONTACT, linewidths=width, zorder=6), autolim=False)
    for kind, members in groups:
        front = P[members, 2] > -_RIM
        _scatter(axes, P[members[~front], :2], kind, code.K, far=True)
        _scatter(axes, P[members[front], :2], kind, code.K, far=False)
    _number_classes(axes, P, groups, code.K, lambda k: bool(P[k, 2] > -_RIM))
    _sphere_legend(axes, groups, None if edges is None else len(edges))


def viewpoint(W: Rows, rattlers: np.ndarray) -> np.ndarray:
    """A rotation, shape (3, 3), that shows the most rattlers well and lets few points hide others.

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


def great_circle_arcs(A: Rows, B: Rows, steps: int = 33) -> np.ndarray:
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
    """Plane pieces of space curves (n, steps, 3): those on the viewer's side (z >= 0) and those behind."""
    near: list[np.ndarray] = []
    far: list[np.ndarray] = []
    for curve in curves:
        front = curve[:, 2] >= 0
        cuts = np.flatnonzero(front[1:] != front[:-1]) + 1
        for start, stop in zip([0, *cuts], [*cuts, len(curve)], strict=True):
            # one point more, so that the pieces meet at the rim
            (near if front[start] else far).append(curve[max(start - 1, 0) : stop, :2])
    return near, far
