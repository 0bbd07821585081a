"""The smooth objectives of the search and their minimiser on a product of spheres, as Numba kernels.

Both objectives are log-sum-exp energies (1/beta) log sum exp(beta c) of the pair values c to be minimised:

* ``TAMMES``: c = <w_i, w_j> for i < j, unknown W (K, d);
* ``HARDMAX``: c = <w_j - w_k, h_k> for j != k, unknown W and H stacked as (2K, d).

An energy exceeds the largest pair value by at most log(number of pairs) / beta.
"""

from __future__ import annotations

import numpy as np

from softmaxcode.parallel.compiled import compiled

TAMMES = 0
HARDMAX = 1

#: Pairs whose weight exp(beta (c - max c)) is below e^-40 (4e-18) are omitted.
_CUTOFF = 40.0
#: Secant pairs stored by L-BFGS.
_MEMORY = 12
# Sums may be reordered, so no loop may both sum and store. Such a loop is vectorised only where its arrays are far
# enough apart in memory, and its last bits would depend on their addresses.
_FAST = {"contract", "reassoc", "nsz", "arcp"}


@compiled(fastmath=_FAST)
def _tammes(X, beta, grad):
    K, d = X.shape
    C = np.dot(X, X.T)
    top = -2.0
    for i in range(1, K):
        for j in range(i):
            top = max(top, C[i, j])
    floor = top - _CUTOFF / beta
    total = 0.0
    count = 0
    for i in range(K):
        C[i, i] = 0.0
        for j in range(i):
            c = C[i, j]
            if c > floor:
                e = np.exp(beta * (c - top))
                total += e
                count += 1
                C[i, j] = e
            else:
                C[i, j] = 0.0
    if 12 * count > K * K:
        for i in range(K):
            for j in range(i):
                C[j, i] = C[i, j]
        grad[:] = np.dot(C, X)
    else:
        grad[:] = 0.0
        for i in range(K):
            for j in range(i):
                e = C[i, j]
                if e > 0.0:
                    for c in range(d):
                        grad[i, c] += e * X[j, c]
                        grad[j, c] += e * X[i, c]
    scale = 1.0 / total
    for i in range(K):
        for c in range(d):
            grad[i, c] *= scale
    return top + np.log(total) / beta


@compiled(fastmath=_FAST)
def _hardmax(X, beta, grad):
    N, _d = X.shape
    K = N // 2
    W = X[:K]
    H = X[K:]
    C = np.dot(H, W.T)
    top = -4.0
    for k in range(K):
        own = C[k, k]
        for j in range(K):
            C[k, j] -= own
            if j != k:
                top = max(top, C[k, j])
    floor = top - _CUTOFF / beta
    total = 0.0
    for k in range(K):
        row = 0.0
        for j in range(K):
            c = C[k, j]
            if j != k and c > floor:
                e = np.exp(beta * (c - top))
                row += e
                C[k, j] = e
            else:
                C[k, j] = 0.0
        C[k, k] = -row
        total += row
    scale = 1.0 / total
    C *= scale
    grad[:K] = np.dot(C.T, H)
    grad[K:] = np.dot(C, W)
    return top + np.log(total) / beta


@compiled(fastmath=_FAST)
def energy(kind, X, beta, grad):
    """Value of the objective at unit rows X; its Riemannian gradient is written to ``grad``."""
    value = _tammes(X, beta, grad) if kind == TAMMES else _hardmax(X, beta, grad)
    N, d = X.shape
    for i in range(N):
        radial = 0.0
        for c in range(d):
            radial += grad[i, c] * X[i, c]
        for c in range(d):
            grad[i, c] -= radial * X[i, c]
    return value


@compiled(fastmath=_FAST)
def dot(a, b):
    """The inner product of two vectors."""
    acc = 0.0
    for i in range(a.size):
        acc += a[i] * b[i]
    return acc


@compiled(fastmath=_FAST)
def minimize(kind, X, beta, iterations, tolerance):
    """L-BFGS on the product of spheres, in place; stops when the expected decrease is below ``tolerance / beta``.

    Steps are taken in the embedding and normalised. Secant pairs are stored if their curvature is positive. Returns the
    energy. The recursion is written out here and in `softmaxcode.search.descent`. A shared one would be compiled into
    both with other vectorised loops, and last bits would change.
    """
    N, d = X.shape
    n = N * d
    grad = np.empty((N, d))
    value = energy(kind, X, beta, grad)
    trial = np.empty((N, d))
    trial_grad = np.empty((N, d))
    S = np.empty((_MEMORY, n))
    Y = np.empty((_MEMORY, n))
    rho = np.empty(_MEMORY)
    a = np.empty(_MEMORY)
    stored = 0
    direction = np.empty(n)
    flat = X.reshape(n)
    stalled = 0
    for _ in range(iterations):
        g = grad.reshape(n)
        for i in range(n):
            direction[i] = -g[i]
        for back in range(min(stored, _MEMORY)):
            i = (stored - 1 - back) % _MEMORY
            a[i] = rho[i] * dot(S[i], direction)
            for c in range(n):
                direction[c] -= a[i] * Y[i, c]
        if stored:
            i = (stored - 1) % _MEMORY
            scale = 1.0 / (rho[i] * dot(Y[i], Y[i]))
            for c in range(n):
                direction[c] *= scale
        for ahead in range(min(stored, _MEMORY)):
            i = (max(stored - _MEMORY, 0) + ahead) % _MEMORY
            b = rho[i] * dot(Y[i], direction)
            for c in range(n):
                direction[c] += (a[i] - b) * S[i, c]
        slope = dot(g, direction)
        if slope >= 0.0:
            if stored == 0:
                break
            stored = 0
            continue
        step = 1.0
        if stored == 0:
            step = min(1.0, 0.3 / np.sqrt(-slope), 10.0 / (beta * np.sqrt(-slope)))
        else:
            # no point moves by more than about half a radian in one step
            largest = 0.0
            for r in range(N):
                length = 0.0
                for c in range(d):
                    length += direction[r * d + c] ** 2
                largest = max(largest, length)
            step = min(1.0, 0.5 / np.sqrt(largest))
        accepted = False
        new = value
        for _ in range(25):
            for r in range(N):
                for c in range(d):
                    trial[r, c] = X[r, c] + step * direction[r * d + c]
                norm = 1.0 / np.sqrt(dot(trial[r], trial[r]))
                for c in range(d):
                    trial[r, c] *= norm
            new = energy(kind, trial, beta, trial_grad)
            if new <= value + 1e-4 * step * slope:
                accepted = True
                break
            # minimiser of the parabola through the two values and the slope, safeguarded
            shrink = -0.5 * slope * step / (new - value - slope * step)
            step *= min(0.5, max(0.1, shrink))
        if not accepted:
            if stored == 0:
                break
            stored = 0
            continue
        i = stored % _MEMORY
        for r in range(N):
            for c in range(d):
                S[i, r * d + c] = trial[r, c] - X[r, c]
                Y[i, r * d + c] = trial_grad[r, c] - grad[r, c]
        sy = dot(S[i], Y[i])
        if sy > 1e-12 * np.sqrt(dot(S[i], S[i]) * dot(Y[i], Y[i])):
            rho[i] = 1.0 / sy
            stored += 1
        decrease = value - new
        value = new
        for c in range(n):
            flat[c] = trial.reshape(n)[c]
        grad[:] = trial_grad
        if decrease < tolerance / beta:
            stalled += 1
            if stalled >= 3:
                break
        else:
            stalled = 0
    return value


@compiled()
def descend(kind, X, beta, last, factor, iterations, tolerance):
    """Increase beta from ``beta`` to ``last`` by ``factor``, minimising at every step, in place."""
    while True:
        value = minimize(kind, X, beta, iterations, tolerance)
        if beta >= last:
            return value
        beta = min(beta * factor, last)
