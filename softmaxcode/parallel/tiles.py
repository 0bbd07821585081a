"""Tiles of rows for passes over all pairs: bounded memory, and a progress bar for long passes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softmaxcode.parallel.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Rows of a tile, and pairs of a tile (8 bytes each).
TILE_ROWS = 1024
TILE_PAIRS = 2**24
#: A pass of more multiplications than this (about ten seconds) shows a bar on a terminal.
LONG_PASS = 10**12


def long_pass(multiplications: int) -> bool | None:
    """Whether a pass over pairs shows a bar: None, which is on a terminal, where it is long."""
    return None if multiplications > LONG_PASS else False


def row_tiles(K: int, d: int, label: str) -> Iterator[slice]:
    """Slices of the K rows, for a pass over their cosines with all K rows in d dimensions.

    Parameters
    ----------
    K, d : int
        Number of rows and dimension.
    label : str
        The label of the bar of a long pass.

    Examples
    --------
    >>> [tile.stop for tile in row_tiles(3000, 8, "cosines")]
    [1024, 2048, 3000]
    """
    size = max(1, min(TILE_ROWS, TILE_PAIRS // K))
    with Progress(label, K, show=long_pass(K * K * d)) as bar:
        for start in range(0, K, size):
            stop = min(start + size, K)
            yield slice(start, stop)
            bar.step(stop - start)
