"""The code whose vectors a fixed classifier uses."""

from __future__ import annotations

from functools import lru_cache

import softmaxcode as sc
from softmaxcode.catalog import stored

#: Seconds of search if no code is stored, and its seed.
BUDGET, SEED = 60.0, 0


@lru_cache(maxsize=8)
def code(K: int, d: int) -> sc.SoftmaxCode:
    """The best known code; if none is stored, one that is searched for once per process.

    Parameters
    ----------
    K, d : int
        Classes, at least 2, and dimension.

    Returns
    -------
    SoftmaxCode
        Its provenance names the entry of the catalogue, the closed form or the search and its seed.

    Raises
    ------
    ValueError
        If K < 2 or d < 1.

    Notes
    -----
    A search stops after a minute, and then does not repeat bit for bit. The rows of a run's classifier record the code
    that it used.

    Examples
    --------
    >>> best = code(100, 10)
    >>> print(f"{best.margin:.3f} {best.provenance.method[:15]}")
    0.669 catalogue entry
    """
    known = stored(K, d, "softmax")
    return sc.solve(K, d, budget=BUDGET, seed=SEED, progress=False) if known is None else known
