"""The classes of a code by kind (fixed or rattlers), and the style of each kind."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from matplotlib.lines import Line2D

from softmaxcode.certificates.certificate import FEASIBLE
from softmaxcode.checks.limits import MAX_CONTACT_CLASSES, NotComputed
from softmaxcode.plotting.style import BLUE, FAINT, INK, PURPLE, RED

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.axes import Axes

    from softmaxcode.code import SoftmaxCode
    from softmaxcode.types import Mask, PerClass


#: Rattlers are listed and numbered on the sphere if there are no more than this many.
MAX_NAMED = 12
#: The colour of contacts.
CONTACT = "#16324f"


class Kind(NamedTuple):
    """The style of one kind of class: colours that colour-blind readers can distinguish, a marker and a hatch."""

    name: str
    colour: str
    far_colour: str
    bar_colour: str
    ink: str
    marker: str
    hatch: str

    @property
    def rattles(self) -> bool:
        """Whether the kind consists of rattlers."""
        return bool(self.hatch)


FIXED = Kind("fixed classes", BLUE, "#a6c8de", "#9cc3dd", "#00598c", "o", "")
BOTH = Kind("Tammes and Softmax rattlers", RED, "#ecb68f", RED, "#c24f00", "D", "////")
TAMMES = Kind("Tammes rattlers (no contact)", "#F0B400", "#f3dc9b", "#F0B400", "#8a6200", "^", "....")
SOFTMAX = Kind("Softmax rattlers (larger margin)", PURPLE, "#dcb0c9", PURPLE, "#8f2763", "s", "xxxx")


@dataclass(frozen=True, eq=False)
class Derived:
    """Values derived once for all panels; None where not computed, with the reason to show instead."""

    status: str
    threshold: float | None
    ambiguous: bool
    margins: PerClass | None
    margins_reason: str
    spectrum_reason: str
    tammes: Mask | None
    softmax: Mask | None

    @property
    def is_optimum(self) -> bool:
        """Whether the code is known to be a local optimum; rattlers are counted only there."""
        return self.status != FEASIBLE

    def groups(self, K: int) -> list[tuple[Kind, np.ndarray]]:
        """Classes by kind, the fixed ones first; a kind without classes is omitted."""
        none = np.zeros(K, dtype=bool)
        tammes = none if self.tammes is None else self.tammes
        softmax = none if self.softmax is None else self.softmax
        fixed = FIXED if self.tammes is not None or self.softmax is not None else FIXED._replace(name="classes")
        masks = [(fixed, ~tammes & ~softmax), (BOTH, tammes & softmax)]
        masks += [(TAMMES, tammes & ~softmax), (SOFTMAX, softmax & ~tammes)]
        return [(kind, np.flatnonzero(mask)) for kind, mask in masks if mask.any()]


def derive(code: SoftmaxCode) -> Derived:
    """Derive what the panels of a code show."""
    status, threshold, ambiguous, text = "status not computed", None, False, ""
    try:
        status, threshold, ambiguous = code.certificate.status, code.certificate.threshold, code.certificate.ambiguous
        if code.K > MAX_CONTACT_CLASSES:
            text = f"not computed: contacts of {code.K} classes (the limit is {MAX_CONTACT_CLASSES})"
    except NotComputed as error:
        text = f"contacts need the certificate, which is {error}"
    margins, margins_reason = value_or_reason(lambda: code.margins)
    tammes = softmax = None
    if status != FEASIBLE:
        tammes, _ = value_or_reason(lambda: code.is_tammes_rattler)
        softmax, _ = value_or_reason(lambda: code.is_softmax_rattler)
    return Derived(status, threshold, ambiguous, margins, margins_reason, text, tammes, softmax)


def value_or_reason(get: Callable[[], np.ndarray]) -> tuple[np.ndarray | None, str]:
    """What ``get`` returns, or None and why it was not computed."""
    try:
        return get(), ""
    except NotComputed as error:
        return None, str(error)


def write_panel(axes: Axes, text: str) -> None:
    """A panel with text in place of data."""
    axes.set_xticks([])
    axes.set_yticks([])
    wrapped = "\n".join(textwrap.wrap(text, 52))
    axes.text(0.5, 0.5, wrapped, transform=axes.transAxes, ha="center", va="center", size=11, color=FAINT)


def point_handle(kind: Kind, count: int) -> Line2D:
    """The entry of a legend for one kind of point."""
    return Line2D(
        [],
        [],
        linestyle="none",
        marker=kind.marker,
        color=kind.colour,
        markeredgecolor=INK if kind.rattles else "white",
        markersize=9,
        label=f"{kind.name}: {count:,}",
    )
