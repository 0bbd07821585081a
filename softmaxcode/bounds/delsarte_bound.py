"""Delsarte's linear programme: solved in floating point, proved in exact rational arithmetic."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import flint
import numpy as np
from scipy.optimize import linprog

from softmaxcode.bounds.bound import Bound
from softmaxcode.bounds.gegenbauer import count_roots, gegenbauer, gegenbauer_balls, gegenbauer_exact
from softmaxcode.bounds.levenshtein_bound import levenshtein_bound, levenshtein_order
from softmaxcode.bounds.rounding import float_below, rational
from softmaxcode.bounds.simple import rankin
from softmaxcode.checks.arguments import check_integer, check_pair

if TYPE_CHECKING:
    from collections.abc import Sequence


#: The largest degree allowed for a linear programme; one of this degree takes minutes.
MAX_DEGREE = 500


@dataclass(frozen=True)
class DelsarteCertificate:
    """A polynomial f = sum_k f_k G_k that proves mu*(K, d) > s.

    Let f_0 > 0, all f_k >= 0 and f <= 0 on [-1, s]. Then a code of N points with all cosines at most s satisfies
    N^2 f_0 <= sum over all pairs of f <= N f(1). So f(1) < K f_0 rules out K points.

    Attributes
    ----------
    coefficients : tuple of Fraction
        f_0, f_1, ... in the normalised Gegenbauer polynomials (G_k(1) = 1), exact.
    s : float
        The cosine, exact as a float64.
    K, d : int
        Number of points and dimension.
    """

    coefficients: tuple[Fraction, ...]
    s: float
    K: int
    d: int

    def holds(self) -> bool:
        """Check every condition in exact rational arithmetic (f < 0 on [-1, s] by a Sturm sequence)."""
        f = [flint.fmpq(c.numerator, c.denominator) for c in self.coefficients]
        if self.d < 2 or not -1 <= self.s < 1 or len(f) < 2:
            return False
        if f[0] <= 0 or any(c < 0 for c in f) or sum(f, flint.fmpq(0)) >= self.K * f[0]:
            return False
        basis = gegenbauer_exact(self.d, len(f) - 1)
        polynomial = sum((c * g for c, g in zip(f, basis, strict=True)), flint.fmpq_poly([0]))
        if polynomial.degree() < 1:
            return False
        left, right = flint.fmpq(-1), rational(self.s)
        if polynomial(left) >= 0 or polynomial(right) >= 0:
            return False
        return left == right or count_roots(polynomial, left, right) == 0


@dataclass
class _Programme:
    """A floating-point solution of Delsarte's programme at one s."""

    s: float
    f: np.ndarray  # coefficients, f[0] = 1
    size: float  # f(1)
    slope: float  # d size / d s
    excess: float  # largest value of f on [-1, s]
    points: np.ndarray  # where f touches 0 and the dual has mass; the last is s
    mass: np.ndarray


def _maxima(f: np.ndarray, s: float, d: int) -> tuple[np.ndarray, np.ndarray]:
    """Local maxima of f on [-1, s], including the ends where they are maxima, and the values there."""
    degree = len(f) - 1
    angle = np.linspace(math.pi, math.acos(s), 24 * degree + 1)
    t = np.cos(angle)
    t[0], t[-1] = -1.0, s
    value = f @ gegenbauer(t, d, degree)[0]
    padded = np.concatenate([[-np.inf], value, [-np.inf]])
    top = np.flatnonzero((value >= padded[:-2]) & (value >= padded[2:]))
    low, high = t[np.maximum(top - 1, 0)], t[np.minimum(top + 1, len(t) - 1)]
    t = t[top]
    for _ in range(8):
        _, D, S = gegenbauer(t, d, degree)
        first, second = f @ D, f @ S
        step = np.divide(-first, second, out=np.zeros_like(t), where=second < 0)
        t = np.clip(t + step, low, high)
    t = np.unique(t)
    return t, f @ gegenbauer(t, d, degree)[0]


def _programme(s: float, d: int, degree: int, tolerance: float = 1e-9) -> _Programme | None:
    """Minimise f(1) subject to f_0 = 1, f_k >= 0 and f <= 0 on [-1, s]; None where it is infeasible.

    The inequality is imposed on a grid, and the maxima of each solution join the grid. The loop ends when f exceeds 0
    nowhere by more than the tolerance, or when the solver cannot reduce the excess further.
    """
    grid = np.cos(np.linspace(math.pi, math.acos(s), 6 * degree + 1))
    grid = np.unique(np.concatenate([grid[grid < s], [-1.0, s]]))
    # the smallest tolerance that the solver accepts; the time limit, far above the usual time, ends a degenerate
    # programme that cycles
    options: Any = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10, "time_limit": 20.0}
    best: _Programme | None = None
    stalled = 0
    for _ in range(25):
        A = gegenbauer(grid, d, degree)[0][1:].T
        answer = linprog(np.ones(degree), A_ub=A, b_ub=-np.ones(len(grid)), method="highs-ds", options=options)
        if answer.x is None or answer.status != 0:
            return best
        f = np.concatenate([[1.0], np.maximum(answer.x, 0)])
        t, value = _maxima(f, s, d)
        excess = float(value.max())
        weight = -answer.ineqlin.marginals
        # neighbouring grid points share the mass of one touching point
        spots = np.unique(np.concatenate([t, [s]]))
        owner = np.argmin(np.abs(np.arccos(grid)[:, None] - np.arccos(spots)[None, :]), axis=1)
        mass = np.bincount(owner, weights=weight, minlength=len(spots))
        keep = mass > 1e-7 * mass.sum()
        keep[-1] = True
        slope = float(mass[-1] * (f @ gegenbauer(np.array([s]), d, degree)[1])[0])
        # the excess need not fall at every step
        stalled = 0 if best is None or excess < 0.5 * best.excess else stalled + 1
        if best is None or excess < best.excess:
            best = _Programme(s, f, float(f.sum()), slope, excess, spots[keep], mass[keep])
        if excess <= tolerance or (stalled >= 3 and best.excess < 1e-7):
            break
        grid = np.unique(np.concatenate([grid, t[value > -1e-9]]))
    return best


def _critical_programme(K: int, d: int, degree: int) -> _Programme | None:
    """The programme whose size is K up to rounding: Newton's method in s, safeguarded by bisection."""
    low, high = -1.0, 1.0
    s = levenshtein_bound(K, d).value if degree >= levenshtein_order(K, d) else 0.0
    best = None
    for _ in range(60):
        if not low < s < high:
            s = (low + high) / 2
        found = _programme(s, d, degree)
        if found is None:
            high = s
            s = (low + high) / 2
            continue
        gap = found.size - K
        low, high = (s, high) if gap < 0 else (low, s)
        if best is None or abs(gap) < abs(best.size - K):
            best = found
        if abs(gap) <= 1e-9 * K or high - low <= 1e-13:
            break
        # 1/size is nearly linear in s; size itself is far from linear near 1
        s = s - gap * found.size / (K * found.slope) if found.slope > 0 else (low + high) / 2
    return best


def _dyadic(x: flint.arb) -> flint.fmpq:
    """The midpoint of a ball as a rational number."""
    mantissa, exponent = (int(part) for part in x.mid().man_exp())
    return flint.fmpq(mantissa << exponent) if exponent >= 0 else flint.fmpq(mantissa, 1 << -exponent)


def _polished(start: _Programme, size: flint.fmpq, d: int) -> tuple[list[flint.fmpq], flint.fmpq] | None:
    """Coefficients f_k and s of the optimal polynomial with f(1) = ``size``, to the working precision.

    Unknowns are the non-zero f_k, the touching points t_i, s and the dual masses. The equations are f(t_i) = 0 at every
    touching point, f'(t_i) = 0 inside, 1 + sum_i mass_i G_k(t_i) = 0 for every non-zero f_k (the dual constraints), and
    f(1) = size. There are as many equations as unknowns. Residuals are evaluated in high precision and corrected with a
    double-precision least-squares step, which also works where the optimum is degenerate.
    """
    degree = len(start.f) - 1
    support = np.flatnonzero(start.f[1:] > 1e-8 * start.f.sum()) + 1
    pinned = bool(start.points[0] < -1 + 1e-6) and len(start.points) > 1  # -1 is a touching point that cannot move
    p, n = len(support), len(start.points)
    moving = np.arange(int(pinned), n)
    f = {int(k): flint.arb(float(start.f[k])) for k in support}
    points = [flint.arb(float(t)) for t in start.points]
    if pinned:
        points[0] = flint.arb(-1)
    mass = [flint.arb(float(m)) for m in start.mass]
    previous = math.inf
    for _ in range(40):
        values = [gegenbauer_balls(t, d, degree) for t in points]
        residual = [1 + sum((f[k] * G[k] for k in f), flint.arb(0)) for G, _ in values]
        residual += [sum((f[k] * values[i][1][k] for k in f), flint.arb(0)) for i in moving[:-1]]
        residual += [1 + sum((m * G[k] for m, (G, _) in zip(mass, values, strict=True)), flint.arb(0)) for k in f]
        residual += [1 + sum(f.values(), flint.arb(0)) - size]
        error = max(abs(float(r)) for r in residual)
        if error < 1e-34:
            zero = flint.arb(0)
            return [flint.fmpq(1), *(_dyadic(f.get(k, zero)) for k in range(1, degree + 1))], _dyadic(points[-1])
        if not error < 0.5 * previous or any(not -1 <= float(t) < 1 for t in points):
            return None
        previous = error
        G, D, S = gegenbauer(np.array([float(t) for t in points]), d, degree)
        full = np.zeros(degree + 1)
        full[0] = 1
        full[support] = [float(f[int(k)]) for k in support]
        weights = np.array([float(m) for m in mass])
        q, r = len(moving), len(moving) - 1
        J = np.zeros((n + r + p + 1, p + q + n))
        J[:n, :p] = G[support].T
        J[moving, p + np.arange(q)] = (full @ D)[moving]
        J[n : n + r, :p] = D[np.ix_(support, moving[:-1])].T
        J[n + np.arange(r), p + np.arange(r)] = (full @ S)[moving[:-1]]
        J[n + r : n + r + p, p : p + q] = D[np.ix_(support, moving)] * weights[moving]
        J[n + r : n + r + p, p + q :] = G[support]
        J[-1, :p] = 1
        column = np.linalg.norm(J, axis=0)
        column[column == 0] = 1
        scaled = np.array([float(x / error) for x in residual])
        step = np.linalg.lstsq(J / column, -scaled, rcond=1e-11)[0] / column
        change = [flint.arb(float(x)) * error for x in step]
        for k, x in zip(f, change[:p], strict=True):
            f[k] = (f[k] + x).mid()
        for i, x in zip(moving, change[p : p + q], strict=True):
            points[i] = (points[i] + x).mid()
        mass = [(m + x).mid() for m, x in zip(mass, change[p + q :], strict=True)]
    return None


def _fractions(values: Sequence[flint.fmpq]) -> tuple[Fraction, ...]:
    return tuple(Fraction(int(v.p), int(v.q)) for v in values)


def _certificate_from(f: Sequence[flint.fmpq], lift: flint.fmpq, s: float, K: int, d: int) -> DelsarteCertificate:
    """The certificate of 1 + sum f_k G_k - lift; negative coefficients of rounding size are set to 0."""
    coefficients = [f[0] - lift] + [max(c, flint.fmpq(0)) for c in f[1:]]
    while len(coefficients) > 2 and coefficients[-1] == 0:
        coefficients.pop()
    return DelsarteCertificate(_fractions(coefficients), s, K, d)


def default_degree(K: int, d: int) -> int:
    """Twenty above Levenshtein's order (the degree of his polynomial), and at least 32."""
    return max(32, levenshtein_order(K, d) + 20)


def _checked_degree(K: int, d: int, degree: int | None) -> int:
    """The given degree, or the default; a ValueError where a programme of the default degree takes too long."""
    if degree is not None:
        return check_integer("degree", degree, 1, MAX_DEGREE)
    default = default_degree(K, d)
    if default > MAX_DEGREE:
        raise ValueError(
            f"Delsarte's bound of ({K}, {d}) is a linear programme of degree {default}, above the limit of "
            f"{MAX_DEGREE}: levenshtein(K, d) needs none"
        )
    return default


def delsarte_certificate(K: int, d: int, degree: int | None = None) -> DelsarteCertificate | None:
    """A verified polynomial for Delsarte's bound, or None where none could be verified.

    The linear programme is solved in floating point for the s at which its optimum is K. The optimal polynomial is
    refined to 30 digits. It is then moved off the boundary, to be strictly negative on [-1, s] with f(1) < K f_0, and
    verified in exact arithmetic.

    Parameters
    ----------
    K : int
        Number of points, at least 3.
    d : int
        Dimension, at least 2.
    degree : int, optional
        Largest degree of the polynomial, at least 1; by default 20 above Levenshtein's order, at least 32.

    Returns
    -------
    DelsarteCertificate or None

    Raises
    ------
    ValueError
        If an argument is not an integer in its range.

    Examples
    --------
    >>> certificate = delsarte_certificate(27, 6)
    >>> certificate.holds(), abs(certificate.s - 0.25) < 1e-14
    (True, True)
    """
    K, d = check_pair(K, d)
    K = check_integer("K (the number of points)", K, 3)
    d = check_integer("d (the dimension)", d, 2)
    return _delsarte(K, d, _checked_degree(K, d, degree))[0]


@functools.lru_cache(maxsize=4096)
def _delsarte(K: int, d: int, degree: int) -> tuple[DelsarteCertificate | None, float]:
    """The best verified certificate (or None) and the floating-point optimum of s."""
    critical = _critical_programme(K, d, degree)
    if critical is None:
        return None, -1.0
    best: DelsarteCertificate | None = None
    for start in (_shortened(critical, d), critical):
        candidate = None if start is None else _refined_certificate(start, K, d)
        if candidate is not None and (best is None or candidate.s > best.s):
            best = candidate
    if best is None:
        best = _unpolished_certificate(critical, K, d)
    return best, critical.s


def _shortened(critical: _Programme, d: int) -> _Programme | None:
    """The same programme in the smallest degree with the same optimum; None if that degree is not smaller.

    Where a code meets the bound, many polynomials of high degree are optimal, but few of the smallest degree.
    """
    low, high = 0, len(critical.f) - 1
    best = None
    while high - low > 1:
        degree = (low + high) // 2
        found = _programme(critical.s, d, degree)
        if found is not None and found.size <= critical.size * (1 + 1e-8):
            best, high = found, degree
        else:
            low = degree
    return best


def _refined_certificate(start: _Programme, K: int, d: int) -> DelsarteCertificate | None:
    """A certificate within rounding of the optimum: refined to 30 digits, then moved off the boundary.

    At the optimum f(1) = K f_0 and f touches 0. Adding a little of the optimal polynomial h for a smaller cosine makes
    f(1) < K f_0. In exchange s decreases slightly, since f falls steeply there and h does not.
    """
    degree = len(start.f) - 1
    with flint.ctx.workprec(320):
        refined = _polished(start, flint.fmpq(K), d)
        if refined is None:
            return None
        f, right = refined
        inner = _programme(float(right) - 1e-3 * (1 - float(right)), d, degree)
        if inner is None or inner.size >= K:
            return None
        at_s = gegenbauer(np.array([float(right)]), d, degree)
        fall = rational(float((start.f @ at_s[1])[0]))
        rise = rational(max(float((inner.f @ at_s[0])[0]), 1e-300))
        h = [rational(float(c)) for c in inner.f]
        gap = K - sum(h, flint.fmpq(0))
        for bits in (56, 52, 48, 44, 40, 36):
            back = flint.fmpq(1, 1 << bits)
            s = float_below(right - back)
            fraction = min(fall * back / (2 * rise), flint.fmpq(1, 2))
            if fraction <= 0 or not -1 <= s < 1:
                return None
            mixed = [(1 - fraction) * a + fraction * b for a, b in zip(f, h, strict=True)]
            candidate = _certificate_from(mixed, fraction * gap / (2 * K), s, K, d)
            if candidate.holds():
                return candidate
    return None


def _unpolished_certificate(critical: _Programme, K: int, d: int) -> DelsarteCertificate | None:
    """A certificate straight from floating point, for an s that is smaller by 1e-11 or more."""
    degree = len(critical.f) - 1
    for exponent in range(-11, -3):
        found = _programme(critical.s - 10.0**exponent, d, degree, tolerance=1e-12)
        if found is None:
            continue
        # twice the measured excess, to cover what the grid missed
        lift = rational(2 * max(found.excess, 0.0) + 1e-15)
        candidate = _certificate_from([rational(float(c)) for c in found.f], lift, found.s, K, d)
        if candidate.holds():
            return candidate
    return None


def delsarte(K: int, d: int, degree: int | None = None) -> Bound:
    """Delsarte's linear-programming bound on mu*(K, d), verified in exact arithmetic.

    Parameters
    ----------
    K : int
        Number of points, at least 2.
    d : int
        Dimension, at least 1.
    degree : int, optional
        Largest degree of the polynomial, at least 1; by default 20 above Levenshtein's order, at least 32.

    Returns
    -------
    Bound
        ``proved`` is True where a polynomial was verified (see `delsarte_certificate`, which returns it). Otherwise
        ``value`` is a floating-point estimate and proves nothing.

    Raises
    ------
    ValueError
        If an argument is not an integer in its range.

    References
    ----------
    P. Delsarte, J. M. Goethals, J. J. Seidel, Spherical codes and designs, Geom. Dedicata 6 (1977) 363-388.

    Examples
    --------
    >>> bound = delsarte(120, 4)  # the 600-cell, (1 + sqrt 5)/4
    >>> print(f"{bound.value:.12f} {bound.proved}")
    0.809016994375 True
    """
    K, d = check_pair(K, d)
    if degree is not None:
        degree = check_integer("degree", degree, 1, MAX_DEGREE)
    if d == 1 or K == 2 or (d == 2 and degree is None):
        closed = rankin(K, d)
        return Bound(closed.value, "Delsarte LP", True, "attained: " + closed.source)
    degree = _checked_degree(K, d, degree)
    certificate, estimate = _delsarte(K, d, degree)
    if certificate is None:
        return Bound(estimate, "Delsarte LP", False, f"degree {degree}, floating point only, not verified")
    source = f"polynomial of degree {len(certificate.coefficients) - 1}, verified in exact arithmetic"
    return Bound(certificate.s, "Delsarte LP", True, source)
