"""Numba kernel: the point of a polytope nearest to the origin, by Wolfe's active-set method.

Wolfe, "Finding the nearest point in a polytope", Mathematical Programming 11 (1976). The method keeps a set S of
affinely independent vertices and the nearest point of their affine hull. It adds the vertex that violates optimality
most, and drops vertices whose weight would become negative. Here it uses Gram products with an updated Cholesky
factor. `refine` then computes weights and direction again from an orthogonal factorisation, which does not square the
condition number.
"""

from __future__ import annotations

import numpy as np

from softmaxcode.parallel.compiled import compiled


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _solve_factor(L, s, u):
    """Solve L L^T u = 1 for the leading s x s block of the lower triangle L."""
    for i in range(s):
        acc = 1.0
        for j in range(i):
            acc -= L[i, j] * u[j]
        u[i] = acc / L[i, i]
    for i in range(s - 1, -1, -1):
        u[i] /= L[i, i]
        value = u[i]
        for j in range(i):  # row access: L is row-major
            u[j] -= L[i, j] * value


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _append(L, s, G, shift, S, j):
    """Extend the factor of G[S, S] + shift by vertex j; False if j depends on S to rounding."""
    pivot = G[j, j] + shift
    for i in range(s):
        acc = G[S[i], j] + shift
        for k in range(i):
            acc -= L[i, k] * L[s, k]
        L[s, i] = acc / L[i, i]
        pivot -= L[s, i] * L[s, i]
    if pivot <= 1e-14 * (G[j, j] + shift):
        return False
    L[s, s] = np.sqrt(pivot)
    S[s] = j
    return True


@compiled()
def _remove(L, s, S, r):
    """Delete position r from S and restore the triangle with Givens rotations."""
    for i in range(r, s - 1):
        S[i] = S[i + 1]
        for k in range(i + 2):
            L[i, k] = L[i + 1, k]
        a = L[i, i]
        b = L[i, i + 1]
        size = np.hypot(a, b)
        c = a / size
        t = b / size
        L[i, i] = size
        for row in range(i + 2, s):
            x = L[row, i]
            y = L[row, i + 1]
            L[row, i] = c * x + t * y
            L[row, i + 1] = c * y - t * x


@compiled(fastmath={"contract", "reassoc", "nsz"})
def wolfe(G, support, s, weights, limit):
    """Minimise |sum_j a_j v_j| over convex weights a, given the Gram matrix G of the v_j.

    Parameters
    ----------
    G : (m, m) Gram matrix of the candidate vertices.
    support : (limit + 1,) work array; the first s entries are a starting active set, overwritten by the final one.
    s : its size; 0 starts from the vertex of least norm.
    weights : (limit + 1,) the weights that go with ``support``.
    limit : the largest active set allowed (d + 1 affinely independent points span R^d).

    Returns
    -------
    The size of the final active set.
    """
    m = G.shape[0]
    nearest = 0
    for j in range(m):
        if G[j, j] < G[nearest, nearest]:
            nearest = j
    # Adding the same constant to every product turns affine into linear independence (Wolfe, section 3). With the
    # smallest squared norm as the constant, the system stays scaled when the polytope is very near the origin.
    shift = max(G[nearest, nearest], 1e-300)
    L = np.empty((limit + 1, limit + 1))
    u = np.empty(limit + 1)
    g = np.empty(m)
    active = np.zeros(m, dtype=np.bool_)
    old = support[:s].copy()
    old_weights = weights[:s].copy()
    count = 0
    for i in range(len(old)):
        if _append(L, count, G, shift, support, old[i]):
            weights[count] = old_weights[i]
            active[old[i]] = True
            count += 1
    if count == 0:
        _append(L, 0, G, shift, support, nearest)
        weights[0] = 1.0
        active[nearest] = True
        count = 1
        entering = False
    else:
        total = 0.0
        for i in range(count):
            total += weights[i]
        for i in range(count):
            weights[i] /= total
        entering = True  # the initial set must be solved again before it is tested
    for _ in range(50 * (m + limit)):
        if not entering:
            g[:] = 0.0
            for i in range(count):
                a = weights[i]
                row = G[support[i]]
                for j in range(m):
                    g[j] += a * row[j]
            value = 0.0
            for i in range(count):
                value += weights[i] * g[support[i]]
            best = -1
            lowest = value - 1e-15 * (value + np.sqrt(value * shift))
            for j in range(m):
                if g[j] < lowest and not active[j]:
                    lowest = g[j]
                    best = j
            if best < 0 or count > limit:
                break
            if not _append(L, count, G, shift, support, best):
                break
            weights[count] = 0.0
            active[best] = True
            count += 1
        entering = False
        while True:
            _solve_factor(L, count, u)
            total = 0.0
            for i in range(count):
                total += u[i]
            step = 1.0
            blocking = -1
            for i in range(count):
                u[i] /= total
                if u[i] <= 0.0:
                    ratio = weights[i] / (weights[i] - u[i]) if weights[i] > u[i] else 0.0
                    if blocking < 0 or ratio < step:
                        step = ratio
                        blocking = i
            if blocking < 0:
                for i in range(count):
                    weights[i] = u[i]
                break
            for i in range(count):
                weights[i] += step * (u[i] - weights[i])
            active[support[blocking]] = False
            _remove(L, count, support, blocking)
            for i in range(blocking, count - 1):
                weights[i] = weights[i + 1]
            count -= 1
    return count


@compiled(fastmath={"contract", "reassoc", "nsz"})
def _affine_point(V, p, weights):
    """Nearest point p of the affine hull of the rows of V to the origin, with its affine weights, by Gram-Schmidt.

    Edges start at the vertex of least norm, so that a small distance is not lost in large coordinates.
    """
    s, d = V.shape
    base = 0
    least = np.inf
    for i in range(s):
        size = np.sum(V[i] * V[i])
        if size < least:
            least = size
            base = i
    Q = np.empty((s, d))
    R = np.zeros((s, s))
    p[:] = V[base]
    rhs = np.zeros(s)
    order = np.empty(s, dtype=np.int64)
    k = 0
    for i in range(s):
        if i == base:
            continue
        e = V[i] - V[base]
        for _ in range(2):  # twice is enough for orthogonality to rounding
            for j in range(k):
                acc = 0.0
                for c in range(d):
                    acc += Q[j, c] * e[c]
                R[j, k] += acc
                for c in range(d):
                    e[c] -= acc * Q[j, c]
        size = np.sqrt(np.sum(e * e))
        if size == 0.0:
            weights[i] = 0.0
            continue
        R[k, k] = size
        for c in range(d):
            Q[k, c] = e[c] / size
        order[k] = i
        k += 1
    for _ in range(2):
        for j in range(k):
            acc = 0.0
            for c in range(d):
                acc += Q[j, c] * p[c]
            rhs[j] -= acc
            for c in range(d):
                p[c] -= acc * Q[j, c]
    total = 0.0
    for j in range(k - 1, -1, -1):
        acc = rhs[j]
        for i in range(j + 1, k):
            acc -= R[j, i] * weights[order[i]]
        weights[order[j]] = acc / R[j, j]
        total += weights[order[j]]
    weights[base] = 1.0 - total


@compiled()
def wolfe_orthogonal(V, support, s, weights, tolerance):
    """Wolfe's method with an orthogonal factorisation at every step.

    It is slower than `wolfe`, but distinguishes nearly equal vertices. It starts from the first s entries of
    ``support`` (s >= 1) with ``weights``, and returns the size of the final active set.
    """
    m, d = V.shape
    count = s
    p = np.empty(d)
    u = np.empty(d + 2)
    for _ in range(20 * (m + d)):
        A = np.empty((count, d))
        for i in range(count):
            A[i] = V[support[i]]
        _affine_point(A, p, u)
        step = 1.0
        blocking = -1
        for i in range(count):
            if u[i] < 0.0:
                ratio = weights[i] / (weights[i] - u[i])
                if blocking < 0 or ratio < step:
                    step = ratio
                    blocking = i
        if blocking >= 0:
            for i in range(count):
                weights[i] += step * (u[i] - weights[i])
            for i in range(blocking, count - 1):
                weights[i] = weights[i + 1]
                support[i] = support[i + 1]
            count -= 1
            continue
        weights[:count] = u[:count]
        size = np.sqrt(np.sum(p * p))
        if size == 0.0 or count > d:
            break
        best = -1
        lowest = size - tolerance
        for j in range(m):
            dual = np.sum(V[j] * p) / size
            if dual < lowest:
                lowest = dual
                best = j
        if best < 0:
            break
        known = False
        for i in range(count):
            known = known or support[i] == best
        if known:  # only rounding is left
            break
        support[count] = best
        weights[count] = 0.0
        count += 1
    return count


@compiled()
def refine(V, direction, weights):
    """Distance, unit direction and convex weights of the nearest point, from the active vertices V (s, d).

    ``direction`` (d,) and ``weights`` (s,) are outputs. The value returned is the norm of the explicit convex
    combination. So it is below the distance to the polytope by at most rounding.
    """
    s, d = V.shape
    p = np.empty(d)
    _affine_point(V, p, weights)
    total = 0.0
    for i in range(s):
        weights[i] = max(weights[i], 0.0)
        total += weights[i]
    point = np.zeros(d)
    for i in range(s):
        weights[i] /= total
        for c in range(d):
            point[c] += weights[i] * V[i, c]
    size = np.sqrt(np.sum(p * p))
    for c in range(d):
        direction[c] = p[c] / size if size > 0 else 0.0
    return np.sqrt(np.sum(point * point))
