"""Starts that are unions of orbits of a small group of orthogonal matrices, and their symmetry-relaxed codes.

The composition of a code is its number of orbits of each type. It is drawn uniformly from all that sum to K points,
without those that put more points into a fixed space than a code of that spacing can have there.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from softmaxcode.search.descent import Descent
from softmaxcode.search.matrix_groups import draw_matrix_group, point_groups
from softmaxcode.search.orbits import Orbits
from softmaxcode.search.stages import FIRST_START, descend_to_end, finish, first_step
from softmaxcode.sphere import gram, unit_rows

if TYPE_CHECKING:
    from softmaxcode.search.matrix_groups import MatrixGroup
    from softmaxcode.search.pool import Packing
    from softmaxcode.search.scale import Scale
    from softmaxcode.types import Rows

#: Random starts of a composition, and the fraction of draws that return to one of the leading compositions.
STARTS = 3
AGAIN = 0.35
LEADING = 12
#: Starts whose screening energy exceeds the best by less than this (times delta) are finished and symmetry-relaxed.
SLACK = 4e-3
#: The noise, in spacings, that breaks the symmetry, and the first beta delta of the relaxation.
NOISE = 1e-3
RELAX = 60.0
#: Groups drawn until one has a composition.
_DRAWS = 50


@dataclass(frozen=True, eq=False)
class Composition:
    """A group and how many orbits of each of its types make up the code."""

    group: MatrixGroup
    counts: tuple[int, ...]

    @property
    def name(self) -> str:
        """Such as ``D3: 15 x 6 + 1 x 2``."""
        parts = [f"{n} x {t.size}" for n, t in zip(self.counts, self.group.types, strict=True) if n]
        return f"{self.group.name}: {' + '.join(parts)}"

    def orbits(self) -> Orbits:
        """The orbits, for unknown vectors in the coordinates of each type's fixed space."""
        images = [t.images for n, t in zip(self.counts, self.group.types, strict=True) for _ in range(n)]
        sizes = np.array([len(image) for image in images])
        lift = np.zeros((sizes.sum(), images[0].shape[1], max(image.shape[2] for image in images)))
        first = np.cumsum(sizes) - sizes
        for start, image in zip(first, images, strict=True):
            lift[start : start + len(image), :, : image.shape[2]] = image
        return Orbits(lift, np.repeat(np.arange(len(images)), sizes), first, sizes.astype(float))


class OrbitStart(NamedTuple):
    """A composition's best start at the screening beta."""

    energy: float
    composition: Composition
    z: Rows


def most_orbits(group: MatrixGroup, K: int) -> list[int]:
    """The most orbits of each type: K points leave room for about 3 K^((f-1)/(d-1)) in a space of f dimensions."""
    most = []
    for t in group.types:
        d, f = t.images.shape[1:]
        room = max(2 * f, 3 * K ** ((f - 1) / (d - 1)))
        most.append(1 if t.once else min(K // t.size, max(1, int(room / t.together)) if f < d else K))
    return most


def draw_composition(group: MatrixGroup, K: int, rng: np.random.Generator) -> Composition | None:
    """A composition of K points, uniformly from all that `most_orbits` allows; None if that moves no point.

    Examples
    --------
    >>> import numpy as np
    >>> from softmaxcode.search.matrix_groups import point_groups
    >>> group = next(g for g in point_groups() if g.name == "I")
    >>> draw_composition(group, 72, np.random.default_rng(0)).name
    'I: 1 x 60 + 1 x 12'
    """
    sizes = [t.size for t in group.types]
    most = most_orbits(group, K)
    # ways[t][k] counts how types t, t + 1, ... can make up k points
    ways = [[0] * (K + 1) for _ in sizes] + [[1] + [0] * K]
    for t in range(len(sizes) - 1, -1, -1):
        for k in range(K + 1):
            ways[t][k] = sum(ways[t + 1][k - n * sizes[t]] for n in range(min(most[t], k // sizes[t]) + 1))
    if not ways[0][K]:
        return None
    counts = []
    left = K
    for t, size in enumerate(sizes):
        options = [ways[t + 1][left - n * size] for n in range(min(most[t], left // size) + 1)]
        drawn = int(rng.choice(len(options), p=np.array(options, dtype=float) / float(sum(options))))
        counts.append(drawn)
        left -= drawn * size
    moved = any(n and t.size > 1 for n, t in zip(counts, group.types, strict=True))
    return Composition(group, tuple(counts)) if moved else None


@functools.lru_cache(maxsize=64)
def _fitting_point_groups(K: int) -> tuple[MatrixGroup, ...]:
    rng = np.random.default_rng(0)
    return tuple(group for group in point_groups() if draw_composition(group, K, rng) is not None)


def _draw(K: int, d: int, rng: np.random.Generator) -> Composition | None:
    if d == 3:
        groups = _fitting_point_groups(K)
        return draw_composition(groups[rng.integers(len(groups))], K, rng) if groups else None
    for _ in range(_DRAWS):
        composition = draw_composition(draw_matrix_group(d, rng), K, rng)
        if composition is not None:
            return composition
    return None


def orbit_start(
    K: int, d: int, leading: list[Composition], seed: np.random.SeedSequence, scale: Scale, deadline: float | None
) -> OrbitStart | None:
    """The best of a few random starts of one composition, at the screening beta; None if no group fits."""
    rng = np.random.default_rng(seed)
    again = rng.random() < AGAIN
    composition = leading[rng.integers(len(leading))] if leading and again else _draw(K, d, rng)
    if composition is None:
        return None
    orbits = composition.orbits()
    best: OrbitStart | None = None
    for _ in range(STARTS):
        z = unit_rows(rng.standard_normal(orbits.used.shape) * orbits.used)
        descent = Descent(z, scale.delta, orbits)
        energy = descent.run(first_step(FIRST_START, scale, rng), scale.screen, deadline=deadline)
        if descent.stopped:
            break
        if best is None or energy < best.energy:
            best = OrbitStart(energy, composition, descent.z)
    return best


def finish_both_ways(
    start: OrbitStart, seed: np.random.SeedSequence, scale: Scale, deadline: float | None
) -> list[Packing]:
    """The symmetric code at the last beta, and what it relaxes to without the symmetry; empty without time."""
    descent = Descent(start.z, scale.delta, start.composition.orbits())
    symmetric = finish(descent, scale, start.energy, deadline)
    if descent.stopped or gram(symmetric.X).max() > 1 - 1e-9:  # points of two orbits coincide
        return []
    rng = np.random.default_rng(seed)
    K, d = symmetric.X.shape
    noisy = unit_rows(symmetric.X + NOISE * scale.spacing / np.sqrt(d) * rng.standard_normal((K, d)))
    return [symmetric, descend_to_end(noisy, RELAX / scale.delta, scale, deadline)]


def leading_compositions(starts: list[OrbitStart]) -> list[OrbitStart]:
    """The best start of each composition, the lowest energies first."""
    best: dict[str, OrbitStart] = {}
    for start in sorted(starts, key=lambda s: s.energy):
        best.setdefault(start.composition.name, start)
    return list(best.values())[:LEADING]
