r"""The contact inequalities of both objectives in one form: values, Jacobian, stress matrix.

Both problems seek unit vectors x_1 … x_N that maximise the smallest of E values

.. math:: g_e(X) = \langle x_{a_e}, x_{c_e}\rangle - \langle x_{a_e}, x_{b_e}\rangle .

* Tammes: X = W, a pair i < j has a = c = i and b = j, so g = 1 - <w_i, w_j> and the optimum is 1 - mu*.
* HardMax: X stacks W over H, a pair k, j has a = K + k, c = k, b = j, so g = <h_k, w_k - w_j> and the optimum is rho*.

Multipliers ("stresses") are non-negative weights on the inequalities that sum to 1. Polishing, the optimality
residual, rigidity and the proof in ball arithmetic all use this form (docs/theory.md, T4 and T5).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import sparse

from softmaxcode.parallel.compiled import compiled
from softmaxcode.parallel.tiles import row_tiles
from softmaxcode.sphere import largest_cosines

if TYPE_CHECKING:
    from softmaxcode.types import Mask, PerContact, Rows


@dataclass(frozen=True, eq=False)
class ContactSystem:
    """E inequalities on N unit vectors; ``a``, ``b``, ``c`` are index arrays of length E."""

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray

    def __len__(self) -> int:
        return len(self.a)

    def subset(self, chosen: np.ndarray) -> ContactSystem:
        """The inequalities selected by an index or boolean array."""
        return ContactSystem(self.a[chosen], self.b[chosen], self.c[chosen])

    def values(self, X: Rows) -> PerContact:
        """g_e(X) for every inequality, shape (E,)."""
        inner = -np.einsum("ed,ed->e", X[self.a], X[self.b])
        own = np.where(self.a == self.c, 1.0, np.einsum("ed,ed->e", X[self.a], X[self.c]))
        return own + inner

    def gradient(self, X: Rows, weights: PerContact) -> Rows:
        """Euclidean gradient of sum_e weights_e g_e, without the radial part of unit norms, shape (N, d)."""
        return self.stress_matrix(weights, len(X)) @ X

    def stress_matrix(self, weights: PerContact, N: int) -> sparse.csr_array:
        """Symmetric N x N matrix S, S_ab = -weight and S_ac = +weight, whose product with X is the gradient."""
        two = self.a != self.c
        rows = np.concatenate([self.a, self.b, self.a[two], self.c[two]])
        cols = np.concatenate([self.b, self.a, self.c[two], self.a[two]])
        data = np.concatenate([-weights, -weights, weights[two], weights[two]])
        return sparse.csr_array((data, (rows, cols)), shape=(N, N))

    def jacobian(self, X: Rows, basis: np.ndarray) -> sparse.csr_array:
        """Derivatives of g along the tangent coordinates of ``basis`` (N, d, d-1): sparse, (E, N (d-1))."""
        N, d = X.shape
        two = self.a != self.c
        e = np.arange(len(self))
        towards = X[self.b].copy()
        towards[two] -= X[self.c[two]]
        parts = [(e, self.a, -towards), (e, self.b, -X[self.a]), (e[two], self.c[two], X[self.a[two]])]
        rows = np.concatenate([np.repeat(r, d - 1) for r, _, _ in parts])
        cols = np.concatenate([(v[:, None] * (d - 1) + np.arange(d - 1)).ravel() for _, v, _ in parts])
        data = np.concatenate([np.einsum("ed,edt->et", G, basis[v]).ravel() for _, v, G in parts])
        return sparse.csr_array((data, (rows, cols)), shape=(len(self), N * (d - 1)))

    def compressed(self, X: Rows) -> tuple[ContactSystem, Rows]:
        """The same inequalities on only the vectors that occur in them."""
        used = self.members(len(X))
        index = np.cumsum(used) - 1
        return ContactSystem(index[self.a], index[self.b], index[self.c]), X[used]

    def stressable(self, N: int) -> ContactSystem:
        """The inequalities left after repeatedly dropping vectors with a single one, which cannot be balanced."""
        system = self
        while True:
            ends = np.concatenate([system.a, system.b, system.c[system.c != system.a]])
            lonely = np.bincount(ends, minlength=N) == 1
            keep = ~(lonely[system.a] | lonely[system.b] | lonely[system.c])
            if keep.all():
                return system
            system = system.subset(keep)

    def members(self, N: int) -> Mask:
        """Which of the N vectors occur in an inequality."""
        used = np.zeros(N, dtype=bool)
        for index in (self.a, self.b, self.c):
            used[index] = True
        return used


def lagrangian_hessian(system: ContactSystem, X: Rows, basis: np.ndarray, weights: PerContact) -> np.ndarray:
    """Hessian of -sum_e weights_e g_e on the product of spheres, in tangent coordinates, dense."""
    N, d = X.shape
    S = system.stress_matrix(weights, N)
    radial = np.einsum("nd,nd->n", S @ X, X)
    out = np.zeros((N * (d - 1), N * (d - 1)))
    _fill_hessian(out, S.indptr, S.indices, S.data, np.ascontiguousarray(basis.transpose(0, 2, 1)), radial)
    return out


@compiled(fastmath={"contract", "reassoc", "nsz", "arcp"})
def _fill_hessian(out, begin, index, data, basis, radial):
    """Blocks -S_rc B_r^T B_c of the Hessian, and the radial parts on its diagonal; ``basis[r]`` is B_r^T."""
    N, f, d = basis.shape
    for r in range(N):
        for p in range(begin[r], begin[r + 1]):
            c = index[p]
            for t in range(f):
                for u in range(f):
                    inner = 0.0
                    for q in range(d):
                        inner += basis[r, t, q] * basis[c, u, q]
                    out[r * f + t, c * f + u] -= data[p] * inner
        for t in range(f):
            out[r * f + t, r * f + t] += radial[r]


def tammes_system(W: Rows, window: float) -> ContactSystem:
    """Pairs i < j whose cosine is within ``window`` of the largest."""
    least = largest_cosines(W).max() - window
    found = []
    for rows in row_tiles(len(W), W.shape[1], "contacts"):  # never K x K
        i, j = np.nonzero(least <= W[rows] @ W.T)
        i += rows.start
        found.append(np.column_stack([i, j])[i < j])
    i, j = np.concatenate(found).T
    return ContactSystem(i, j, i)


def hardmax_system(W: Rows, H: Rows, window: float) -> ContactSystem:
    """Pairs (k, j) whose value <h_k, w_k - w_j> is within ``window`` of the smallest; unknowns are W stacked over H."""
    C = H @ W.T
    values = np.diagonal(C)[:, None] - C
    np.fill_diagonal(values, np.inf)
    k, j = np.nonzero(values <= values.min() + window)
    return ContactSystem(k + len(W), j, k)


def tangent_basis(X: Rows) -> np.ndarray:
    """Orthonormal bases of the tangent spaces, shape (N, d, d-1), from one Householder reflection per row."""
    _N, d = X.shape
    sign = np.where(X[:, 0] < 0, -1.0, 1.0)
    u = X.copy()
    u[:, 0] += sign
    u /= np.linalg.norm(u, axis=1, keepdims=True)
    return np.eye(d)[None, :, 1:] - 2 * u[:, :, None] * u[:, None, 1:]


def move(X: Rows, basis: np.ndarray, step: np.ndarray) -> Rows:
    """Step along tangent coordinates and return to the sphere by normalising."""
    moved = X + np.einsum("ndt,nt->nd", basis, step.reshape(len(X), -1))
    return moved / np.linalg.norm(moved, axis=1, keepdims=True)


def rotations(X: Rows, basis: np.ndarray) -> np.ndarray:
    """Orthonormal basis, in tangent coordinates, of the motions of all of X by one infinitesimal rotation.

    Shape (N (d-1), r), with r = d (d-1)/2 where X spans R^d, and a smaller r where it does not.
    """
    N, d = X.shape
    p, q = np.triu_indices(d, 1)
    motion = np.zeros((N, d, len(p)))
    motion[:, p, np.arange(len(p))] = X[:, q]
    motion[:, q, np.arange(len(p))] = -X[:, p]
    tangent = np.einsum("ndr,ndt->ntr", motion, basis).reshape(N * (d - 1), len(p))
    U, size, _ = np.linalg.svd(tangent, full_matrices=False)
    return U[:, size > 1e-10 * max(size.max(initial=0.0), 1e-300)]
