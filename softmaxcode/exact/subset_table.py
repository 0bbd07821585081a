"""The table of the subsets of exact codes that are better than the whole, shipped with the package.

Finding such a subset takes up to seconds (`softmaxcode.exact.subcodes.subsets`), so the results are stored: for every
construction in up to `DIMENSIONS` dimensions the rows of each subset, its largest cosine and its margin.

``python -m softmaxcode.exact`` makes the file again.
"""

from __future__ import annotations

import functools
import importlib.resources
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from softmaxcode.exact.subcodes import Subset, subsets
from softmaxcode.margins.exact import smallest_margin

if TYPE_CHECKING:
    from collections.abc import Iterable

    from softmaxcode.exact.construction import Construction

#: The table covers constructions of up to this many vectors in up to so many dimensions.
MAX_VECTORS = 5000
DIMENSIONS = 256
#: A margin is stored if it exceeds 1 - mu by this.
LARGER = 1e-12


class Level(NamedTuple):
    """A subset of a construction, or all of it: the rows, the largest cosine and the margin."""

    indices: np.ndarray | None
    max_cosine: float
    margin: float


def table_path() -> Path:
    """The file in the package."""
    return Path(str(importlib.resources.files("softmaxcode"))) / "data" / "subsets.npz"


@functools.lru_cache(maxsize=1)
def _table() -> dict[str, tuple[Level, ...]]:
    path = table_path()
    if not path.is_file():
        return {}
    with np.load(path, allow_pickle=False) as stored:
        names, sizes, values = stored["names"], stored["sizes"], stored["values"]
        rows = np.split(stored["rows"], np.cumsum(sizes)[:-1])
    found: dict[str, list[Level]] = {}
    for name, own, (cosine, margin) in zip(names.tolist(), rows, values.tolist(), strict=True):
        indices = own.astype(np.int64) if len(own) else None
        found.setdefault(name, []).append(Level(indices, cosine, margin))
    return {name: tuple(levels) for name, levels in found.items()}


def levels(construction: Construction) -> tuple[Level, ...]:
    """The whole construction and its stored subsets, in this order.

    The margin of the whole is 1 - mu unless a larger one is stored (docs/theory.md, T2).

    Examples
    --------
    >>> from softmaxcode.exact.families import constructions
    >>> [(len(level.indices), level.max_cosine) for level in levels(constructions(16)[2])[1:]]
    [(288, 0.25)]
    """
    stored = _table().get(construction.name, ())
    whole = next((level for level in stored if level.indices is None), None)
    if whole is None:
        whole = Level(None, construction.max_cosine, 1 - construction.max_cosine)
    return (whole, *(level for level in stored if level.indices is not None))


def measured_levels(construction: Construction) -> list[Level]:
    """The levels of a construction, searched for and measured; the whole only where its margin exceeds 1 - mu."""
    W = construction.build()
    found = []
    whole = smallest_margin(W).margin
    if whole > 1 - construction.max_cosine + LARGER:
        found.append(Level(None, construction.max_cosine, whole))
    kept: list[Subset] = []
    for subset in subsets(W):  # from the largest cosine; one that has fewer vectors than a better one is useless
        kept = [other for other in kept if len(other.indices) > len(subset.indices)]
        kept.append(subset)
    for subset in kept:
        found.append(Level(subset.indices, subset.max_cosine, smallest_margin(W[subset.indices]).margin))
    return found


def write_table(path: Path, codes: Iterable[Construction]) -> int:
    """Search for the subsets of codes, and write the table; the number of its rows."""
    names: list[str] = []
    found: list[Level] = []
    for construction in codes:
        for level in measured_levels(construction):
            names.append(construction.name)
            found.append(level)
    rows = [np.empty(0, dtype=np.uint16) if one.indices is None else one.indices.astype(np.uint16) for one in found]
    np.savez_compressed(
        path,
        names=np.array(names),
        sizes=np.array([len(own) for own in rows]),
        rows=np.concatenate(rows),
        values=np.array([(one.max_cosine, one.margin) for one in found]),
    )
    return len(found)
