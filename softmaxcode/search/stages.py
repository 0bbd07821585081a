"""Random starts and hops of a packing search: tasks that depend on their seed and the pool alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from softmaxcode.search.descent import Descent
from softmaxcode.search.layers import layered_start
from softmaxcode.search.moves import random_move
from softmaxcode.search.pool import Packing
from softmaxcode.sphere import random_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.search.orbits import Orbits
    from softmaxcode.search.scale import Scale
    from softmaxcode.types import Rows

#: Exponents of ten between which the first beta (times delta) is drawn. Some optima need a low one, others a high one.
FIRST_START = (0.3, 1.5)
FIRST_HOP = (0.5, 2.0)
#: A start ends at the screening beta if its energy exceeds the pool's best by more (times delta).
START_SLACK = 8e-3
#: Exponents of ten of the same for hops, against the chain's energy. Most improvements need less than 1e-3, a few more,
#: and the continuation costs ten times the screening, so each hop draws its own.
HOP_SLACK = (-4.0, -2.2)
#: The second screening allows this fraction of the first one's slack, and calls energies nearer than `SAME` times the
#: pool's resolution one optimum.
SECOND_SLACK = 0.4
SAME = 5.0
#: The most iterations of a step and its tolerance at the second screening and at the last beta. With those of the first
#: screening, schedules of d = 10 end 5e-4 short of the optimum, from where polishing takes ten times as long.
SECOND: dict[str, Any] = {"iterations": 500, "tolerance": 1e-4}
LAST: dict[str, Any] = {"iterations": 1000, "tolerance": 1e-5}
#: The fraction of starts that are made of layers.
LAYERED = 1 / 8


def first_step(exponents: tuple[float, float], scale: Scale, rng: np.random.Generator) -> float:
    """A first beta, log-uniform between two exponents of ten of beta delta."""
    return float(10 ** rng.uniform(*exponents)) / scale.delta


def finish(descent: Descent, scale: Scale, screen: float, deadline: float | None) -> Packing:
    """Continue from the screening beta to the last."""
    second = descent.run(scale.second, scale.second, deadline=deadline, **SECOND)
    if not descent.stopped:
        descent.run(scale.last, scale.last, deadline=deadline, **LAST)
    return Packing(descent.X, descent.energy, screen, second)


def descend_to_end(
    X: Rows, first: float, scale: Scale, deadline: float | None = None, orbits: Orbits | None = None
) -> Packing:
    """The packing that the schedule reaches from X and a first beta."""
    descent = Descent(X, scale.delta, orbits)
    screen = descent.run(min(first, scale.screen), scale.screen, deadline=deadline)
    if first > scale.screen:  # the optimum near X itself, which a lower beta may leave
        descent = Descent(X, scale.delta, orbits)
    return finish(descent, scale, screen, deadline)


def screened(
    X: Rows, first: float, scale: Scale, limit: float, known: Sequence[float], deadline: float | None
) -> Packing | None:
    """The packing from one start, or None if it cannot compete.

    It cannot if its screening energy exceeds ``limit``, or its second one is among the ``known`` ones: such an optimum
    was found before.
    """
    descent = Descent(X, scale.delta)
    screen = descent.run(min(first, scale.screen), scale.screen, deadline=deadline)
    if screen > limit:
        return None
    second = descent.run(scale.second, scale.second, deadline=deadline, **SECOND)
    if any(abs(second - other) < SAME * scale.resolution for other in known):
        return None
    if not descent.stopped:
        descent.run(scale.last, scale.last, deadline=deadline, **LAST)
    return Packing(descent.X, descent.energy, screen, second)


def random_packing(
    K: int,
    d: int,
    seed: np.random.SeedSequence,
    scale: Scale,
    limit: float = np.inf,
    known: Sequence[float] = (),
    deadline: float | None = None,
) -> Packing | None:
    """The packing from one random start, `screened`."""
    rng = np.random.default_rng(seed)
    X = layered_start(K, d, rng) if d > 2 and rng.random() < LAYERED else random_rows(K, d, rng)
    return screened(X, first_step(FIRST_START, scale, rng), scale, limit, known, deadline)


def hop_chain(
    start: Packing, hops: int, seed: np.random.SeedSequence, scale: Scale, deadline: float | None
) -> Packing | None:
    """Random moves of a packing, each kept if the energy falls; None if none is."""
    rng = np.random.default_rng(seed)
    current = start
    for _ in range(hops):
        if deadline is not None and time.monotonic() > deadline:
            break
        descent = Descent(random_move(current.X, scale.spacing, rng), scale.delta)
        slack = scale.delta * float(10 ** rng.uniform(*HOP_SLACK))
        screen = descent.run(first_step(FIRST_HOP, scale, rng), scale.screen, deadline=deadline)
        if screen > current.screen + slack or descent.stopped:
            continue
        second = descent.run(scale.second, scale.second, deadline=deadline, **SECOND)
        above = second - current.second
        if above > SECOND_SLACK * slack or abs(above) < SAME * scale.resolution or descent.stopped:
            continue
        energy = descent.run(scale.last, scale.last, deadline=deadline, **LAST)
        if energy < current.energy - scale.resolution and not descent.stopped:
            current = Packing(descent.X, energy, screen, second)
    return None if current is start else current
