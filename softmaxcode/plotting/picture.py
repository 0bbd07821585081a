"""One figure of a code: its contact graph on the sphere, its cosines and its margins, with the rattlers marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.code import check_code
from softmaxcode.plotting.kinds import BOTH, FIXED, MAX_NAMED, derive, value_or_reason
from softmaxcode.plotting.margins import draw_margins
from softmaxcode.plotting.spectrum import draw_spectrum
from softmaxcode.plotting.sphere import draw_circle, draw_sphere
from softmaxcode.plotting.style import FAINT, INK, SUFFIXES, new_figure, save
from softmaxcode.storage.disk import check_output

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from matplotlib.figure import Figure

    from softmaxcode.code import SoftmaxCode
    from softmaxcode.plotting.kinds import Derived
    from softmaxcode.types import Mask


#: Letters that fit in the header line on rattlers.
MAX_LINE = 96


def plot(code: SoftmaxCode, path: str | Path | None = None) -> Figure:
    """Draw a code: its cosines and margins, and for d = 2 and 3 the sphere with its contact graph.

    Rattlers have their own colour, marker and hatch, and are listed by number. `plot` does not use pyplot, so it shows
    no window and changes no global state.

    Parameters
    ----------
    code : SoftmaxCode
        From `softmaxcode.solve` or `softmaxcode.load`.
    path : path, optional
        Write the figure there as well: ``.png``, ``.pdf`` or ``.svg``. An existing file is replaced atomically.

    Returns
    -------
    matplotlib.figure.Figure
        Axes labelled, in order: ``"sphere"`` (d = 2 and 3 only), ``"spectrum"``, ``"margins"``.

        * The sphere is drawn from a viewpoint that shows most rattlers in front. Contacts are arcs of great circles
          (chords of the circle for d = 2). The far side is pale.
        * The spectrum has the cosines of all pairs in decreasing order. If there are more than two million pairs, it
          has only the nearest ones; its title names the pairs.
        * The margins are the one-vs-rest distances in increasing order, with lines at the smallest and at 1 - mu.

        A panel whose values are not computed at the code's size shows the reason.

    Raises
    ------
    ValueError
        If ``code`` is not a SoftmaxCode, the suffix is another one, or the folder does not exist.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> figure = sc.plot(sc.solve(7, 2))
    >>> [axes.get_label() for axes in figure.axes]
    ['sphere', 'spectrum', 'margins']
    """
    check_code("plot", code)
    target = None if path is None else check_output(path, SUFFIXES)
    known = derive(code)
    groups = known.groups(code.K)
    sphere = code.d in (2, 3)
    figure = new_figure((12, 7.3 if sphere else 5.6), dpi=100)
    _write_header(figure, code, known)
    if sphere:
        globe = figure.add_axes((0.01, 0.115, 0.50, 0.735), label="sphere")
        (draw_circle if code.d == 2 else draw_sphere)(globe, code, known, groups)
        places = (0.585, 0.515, 0.40, 0.29), (0.585, 0.085, 0.40, 0.315)
    else:
        places = (0.065, 0.11, 0.41, 0.63), (0.565, 0.11, 0.42, 0.63)
    draw_spectrum(figure.add_axes(places[0], label="spectrum"), code, known)
    draw_margins(figure.add_axes(places[1], label="margins"), code, known, groups)
    save(figure, target)
    return figure


def _write_header(figure: Figure, code: SoftmaxCode, known: Derived) -> None:
    """Write two lines on the code, and one on the rattlers in their colour."""
    height = figure.get_figheight()
    kind = "Softmax Code" if code.objective == "softmax" else "Tammes code"
    title = f"{kind} of {code.K:,} classes in dimension {code.d}"
    if not known.is_optimum:  # a trained classifier, say
        title = f"{code.K:,} vectors in dimension {code.d}, not known to be a local optimum"
    margin, _ = value_or_reason(lambda: np.array(code.margin))
    measured = "not computed" if margin is None else f"{float(margin):.6g}"
    rattle, colour = _rattling_line(code.K, known)
    lines = [
        (title, 17, "bold", INK),
        (
            f"K = {code.K},  d = {code.d},  objective {code.objective},  margin {measured},  "
            f"smallest angle {code.min_angle:.6g}°,  {known.status}",
            12.5,
            "normal",
            INK,
        ),
        (rattle, 13.5, "bold", colour),
    ]
    for (text, size, weight, ink), inches in zip(lines, (0.34, 0.66, 0.95), strict=True):
        figure.text(0.5, 1 - inches / height, text, size=size, weight=weight, color=ink, ha="center", va="center")


def _rattling_line(K: int, known: Derived) -> tuple[str, str]:
    """The sentence on rattlers and its colour, with their numbers where the line has room."""
    text, ink = _rattling_sentence(K, known, _names)
    return (text, ink) if len(text) <= MAX_LINE else _rattling_sentence(K, known, lambda mask: "")


def _rattling_sentence(K: int, known: Derived, names: Callable[[Mask], str]) -> tuple[str, str]:
    if not known.is_optimum:
        return "Rattlers are counted at local optima alone", FAINT
    if known.tammes is None and known.softmax is None:
        return "Rattlers are not computed at this size", FAINT
    if known.tammes is not None and known.softmax is not None and (known.tammes == known.softmax).all():
        n = int(known.tammes.sum())
        if not n:
            return "No class rattles", FIXED.ink
        verb = "rattles" if n == 1 else "rattle"
        return f"{n:,} of {K:,} classes {verb} (no contact, larger margin){names(known.tammes)}", BOTH.ink
    parts = []
    for mask, kind in ((known.tammes, "Tammes (no contact)"), (known.softmax, "Softmax (larger margin)")):
        parts.append(f"{kind} not computed" if mask is None else f"{int(mask.sum()):,} {kind}{names(mask)}")
    rattling = any(mask is not None and mask.any() for mask in (known.tammes, known.softmax))
    return f"Rattlers of {K:,} classes:  " + ";  ".join(parts), BOTH.ink if rattling else FIXED.ink


def _names(mask: Mask) -> str:
    members = np.flatnonzero(mask)
    return ": " + ", ".join(map(str, members)) if 0 < len(members) <= MAX_NAMED else ""
