"""Starts that are subsets of a larger code, lifted into the dimensions that it does not use.

Some good packings are what is left of a structured code of more points. Random starts do not find them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.search.stages import screened
from softmaxcode.sphere import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.search.pool import Packing
    from softmaxcode.search.scale import Scale
    from softmaxcode.types import Rows

#: Exponents of ten of the noise in spacings, and of the first beta (times delta).
NOISE = (-3.0, 0.0)
FIRST = (0.8, 2.3)
#: A subset is drawn uniformly, or it omits the points nearest to a random direction, or to a random pair of points.
_KINDS = 3


def random_subset(W: Rows, K: int, rng: np.random.Generator) -> np.ndarray:
    """Indices of K rows of W, ascending.

    Examples
    --------
    >>> import numpy as np
    >>> len(random_subset(np.eye(9), 5, np.random.default_rng(0)))
    5
    """
    kind = rng.integers(_KINDS)
    if kind == 0:
        return np.sort(rng.choice(len(W), K, replace=False))
    if kind == 1:
        distance = -(W @ rng.standard_normal(W.shape[1]))
    else:
        pair = W[rng.choice(len(W), 2, replace=False)]
        distance = -np.abs(W @ pair.T).max(axis=1)
    ties = 1e-6 * rng.random(len(W))
    return np.sort(np.argsort(-distance - ties)[:K])


def subset_packing(
    larger: Sequence[Rows],
    K: int,
    seed: np.random.SeedSequence,
    scale: Scale,
    limit: float,
    known: Sequence[float],
    deadline: float | None,
) -> Packing | None:
    """The packing from K points of a larger code with noise, `screened`."""
    rng = np.random.default_rng(seed)
    W = larger[int(rng.integers(len(larger)))]
    X = W[random_subset(W, K, rng)]
    size = scale.spacing / np.sqrt(X.shape[1]) * 10 ** rng.uniform(*NOISE)
    X = unit_rows(X + size * rng.standard_normal(X.shape))
    return screened(X, float(10 ** rng.uniform(*FIRST)) / scale.delta, scale, limit, known, deadline)
