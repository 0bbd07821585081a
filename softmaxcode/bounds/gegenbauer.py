"""Gegenbauer polynomials in floating point, ball and exact arithmetic, and root counts by Sturm's theorem."""

from __future__ import annotations

import functools
import itertools

import flint
import numpy as np


def gegenbauer(t: np.ndarray, d: int, degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Normalised Gegenbauer polynomials G_0..G_degree at t and their first two derivatives, (degree + 1, len(t))."""
    t = np.atleast_1d(np.asarray(t, dtype=np.float64))
    G, D, S = (np.zeros((degree + 1, len(t))) for _ in range(3))
    G[0], G[1], D[1] = 1, t, 1
    for k in range(1, degree):
        a, b = (2 * k + d - 2) / (k + d - 2), k / (k + d - 2)
        G[k + 1] = a * t * G[k] - b * G[k - 1]
        D[k + 1] = a * (G[k] + t * D[k]) - b * D[k - 1]
        S[k + 1] = a * (2 * D[k] + t * S[k]) - b * S[k - 1]
    return G, D, S


def gegenbauer_balls(t: flint.arb, d: int, degree: int) -> tuple[list[flint.arb], list[flint.arb]]:
    """G_0..G_degree at t and their derivatives, in the working precision."""
    G, D = [flint.arb(1), t], [flint.arb(0), flint.arb(1)]
    for k in range(1, degree):
        G.append(((2 * k + d - 2) * t * G[k] - k * G[k - 1]) / (k + d - 2))
        D.append(((2 * k + d - 2) * (G[k] + t * D[k]) - k * D[k - 1]) / (k + d - 2))
    return G, D


@functools.lru_cache(maxsize=64)
def gegenbauer_exact(d: int, degree: int) -> tuple[flint.fmpq_poly, ...]:
    """G_0..G_degree as polynomials over the rationals."""
    t = flint.fmpq_poly([0, 1])
    basis = [flint.fmpq_poly([1]), t]
    for k in range(1, degree):
        basis.append(((2 * k + d - 2) * t * basis[k] - k * basis[k - 1]) / (k + d - 2))
    return tuple(basis[: degree + 1])


def count_roots(p: flint.fmpq_poly, a: flint.fmpq, b: flint.fmpq) -> int:
    """Number of different real roots of p in (a, b], by Sturm's theorem; p(a) and p(b) are not 0."""

    def primitive(q: flint.fmpq_poly) -> flint.fmpz_poly:
        # a positive multiple: only signs matter, and coefficients stay short
        return q.numer() / q.numer().content()

    chain = [primitive(p), primitive(p.derivative())]
    while chain[-1].degree() > 0:
        rest = -(flint.fmpq_poly(chain[-2]) % flint.fmpq_poly(chain[-1]))
        if rest.degree() < 0:
            break
        chain.append(primitive(rest))

    def changes(x: flint.fmpq) -> int:
        values = [q(x) for q in chain]
        signs = [1 if v > 0 else -1 for v in values if v != 0]
        return sum(left != right for left, right in itertools.pairwise(signs))

    return changes(a) - changes(b)
