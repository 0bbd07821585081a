"""Further layers of the minimal vectors of the Leech lattice, found by a search over fixed vectors.

A layer is the set of minimal vectors x with given inner products with some fixed lattice vectors. All x have the same
projection on the span of these; let its squared norm be c, where minimal vectors have 32. Different minimal vectors
have inner product at most 16. So after projection on the complement the largest cosine is at most (16 - c)/(32 - c).

The fixed vectors of each layer are in a table that ships with the package. They were found by adding random short
vectors one by one and keeping large layers of small cosine. Sizes, dimensions and cosines of the table are those of the
integer Gram matrix.
"""

from __future__ import annotations

import functools
import importlib.resources
from fractions import Fraction
from pathlib import Path

import numpy as np

from softmaxcode.exact.construction import Construction
from softmaxcode.exact.leech import minimal_vectors
from softmaxcode.exact.root_systems import Layer

_SOURCE = (
    "J. H. Conway, A characterisation of Leech's lattice (1969), for the lattice; a layer of its minimal vectors, "
    "found by a search over the fixed vectors"
)


def table_path() -> Path:
    """The file in the package: for each layer K, d, the cosine as a fraction, the fixed vectors and the products."""
    return Path(str(importlib.resources.files("softmaxcode"))) / "data" / "leech_layers.npz"


@functools.lru_cache(maxsize=1)
def stored_layers() -> tuple[Layer, ...]:
    """The layers of the table, by dimension, then number of vectors.

    Examples
    --------
    >>> layers = stored_layers()
    >>> [(layer.K, str(layer.max_cosine)) for layer in layers if layer.d == 13][4:6]
    [(81, '1/4'), (96, '3/11')]
    """
    with np.load(table_path(), allow_pickle=False) as stored:
        codes, fixed, products = stored["codes"], stored["fixed"], stored["products"]
    found = []
    start = 0
    for K, d, numerator, denominator in codes.tolist():
        stop = start + 24 - d
        vectors, wanted = fixed[start:stop].astype(np.int64).tolist(), products[start:stop].tolist()
        cosine = Fraction(numerator, denominator)
        found.append(Layer(f"Leech-section({K}, {d})", K, d, cosine, vectors, wanted, _SOURCE))
        start = stop
    return tuple(found)


def constructions(d: int) -> list[Construction]:
    """The layers of the table in dimension exactly d, not built.

    References
    ----------
    J. H. Conway, "A characterisation of Leech's lattice" (1969), for the lattice.

    Examples
    --------
    >>> [(c.name, c.K, c.formula) for c in constructions(22)][:2]
    [('Leech-section(4048, 22)', 4048, '14/37'), ('Leech-section(5600, 22)', 5600, '13/33')]
    """
    if not 12 <= d <= 22:
        return []
    return [layer.construction(minimal_vectors) for layer in stored_layers() if layer.d == d]
