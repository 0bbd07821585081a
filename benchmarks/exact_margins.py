"""`softmaxcode.margin` on large classifiers of three kinds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

import softmaxcode as sc
from benchmarks.report import seconds
from softmaxcode.search.energy import TAMMES, minimize
from softmaxcode.sphere import largest_cosines, random_rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from softmaxcode.types import Rows

#: The field of 128 elements: polynomials over GF(2) modulo x^7 + x + 1.
_BITS = 7
_MODULUS = 0b10000011


def random_classifier(K: int, d: int, seed: int) -> Rows:
    """Uniform unit rows."""
    return random_rows(K, d, np.random.default_rng(seed))


def trained_like(K: int, d: int, seed: int) -> Rows:
    """Unit rows after some descent of the log-sum-exp of their cosines at beta = 100: many nearly equal cosines."""
    W = random_classifier(K, d, seed)
    minimize(TAMMES, W, 100.0, 60, 1e-4)
    return W


def _multiply(a: int, b: int) -> int:
    """The product in GF(128)."""
    product = 0
    while b:
        if b & 1:
            product ^= a
        a <<= 1
        if a >> _BITS:
            a ^= _MODULUS
        b >>= 1
    return product


def _trace(a: int) -> int:
    """The absolute trace of GF(128), 0 or 1."""
    total = power = a
    for _ in range(_BITS - 1):
        power = _multiply(power, power)
        total ^= power
    return total


def reed_muller_cosets(K: int) -> Rows:
    r"""K unit vectors in R^128 from cosets of the first-order Reed-Muller code of length 128.

    The vectors are :math:`\pm (-1)^{\mathrm{tr}(a x^3) + \mathrm{tr}(b x)} / \sqrt{128}`, x over GF(128), for a, b in
    GF(128). Two quadratic forms with different a differ by one of rank 6. So all cosines are 0, -1 or +-1/8
    (Gold, IEEE Trans. Inform. Theory 14, 1968).

    Parameters
    ----------
    K : int
        At most 2 * 128 * 128.
    """
    x = range(2**_BITS)
    trace = np.array([_trace(a) for a in x])
    products = np.array([[_multiply(a, b) for b in x] for a in x])
    cubes = products[products.diagonal(), np.arange(2**_BITS)]
    cosets = -(-K // 2 ** (_BITS + 1))
    linear = trace[products]
    rows = [trace[products[a, cubes]] ^ linear for a in range(cosets)]
    W = (1.0 - 2.0 * np.vstack(rows)) / np.sqrt(2**_BITS)
    return np.ascontiguousarray(np.stack([W, -W], axis=1).reshape(-1, 2**_BITS)[:K])


def margins_row(kind: str, W: Rows) -> dict[str, str]:
    """Time all margins of one classifier."""
    begin = time.perf_counter()
    result = sc.margin(W)
    elapsed = time.perf_counter() - begin
    return {
        "classifier": kind,
        "K": str(len(W)),
        "d": str(W.shape[1]),
        "s": seconds(elapsed),
        "smallest margin": f"{result.margin:.15f}",
        "1 − μ": f"{1 - float(largest_cosines(W).max()):.15f}",
        "largest gap": f"{result.gap:.1e}",
    }


def run(quick: bool, seed: int) -> pd.DataFrame:
    """Measure every kind of classifier; ``quick`` takes 300 classes."""
    K, d = (300 if quick else 2000), 128
    kinds: dict[str, Callable[[], Rows]] = {
        "random": lambda: random_classifier(K, d, seed),
        "trained-like": lambda: trained_like(K, d, seed),
        "Reed–Muller cosets": lambda: reed_muller_cosets(K),
    }
    rows = []
    for kind, make in kinds.items():
        rows.append(margins_row(kind, make()))
        print("margins " + ", ".join(rows[-1].values()), flush=True)
    return pd.DataFrame(rows)
