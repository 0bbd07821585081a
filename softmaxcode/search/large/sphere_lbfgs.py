"""L-BFGS on a product of spheres in float32, for many points: it can be left after every evaluation.

The kernels of `softmaxcode.search` are for float64 and few points; here BLAS works on arrays of many points.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg.blas import saxpy, sdot

from softmaxcode.parallel.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

#: Secant pairs stored.
MEMORY = 6
#: No point moves further than this in one step, in radians.
LONGEST_MOVE = 0.3
#: Energies tried along one direction.
_TRIALS = 12


@compiled(fastmath={"contract", "reassoc", "nsz", "arcp"})
def _step(X, direction, step, trial):
    """Unit rows of X + step * direction."""
    K, d = X.shape
    for i in range(K):
        for c in range(d):
            trial[i, c] = X[i, c] + step * direction[i, c]
        square = np.float32(0.0)
        for c in range(d):
            square += trial[i, c] * trial[i, c]
        scale = np.float32(1.0) / np.sqrt(square)
        for c in range(d):
            trial[i, c] *= scale


@compiled(fastmath={"contract", "reassoc", "nsz", "arcp"})
def _longest(direction):
    """The largest squared norm of a row."""
    largest = np.float32(0.0)
    for i in range(len(direction)):
        square = np.float32(0.0)
        for c in range(direction.shape[1]):
            square += direction[i, c] * direction[i, c]
        largest = max(largest, square)
    return largest


class SphereLBFGS:
    """The state of a minimisation: points, secant pairs and work arrays, 4 K d bytes each.

    Parameters
    ----------
    X : ndarray, shape (K, d), float32
        Unit rows; they change in place.
    """

    #: Arrays of the size of X, X included.
    ARRAYS = 5 + 2 * MEMORY

    def __init__(self, X: np.ndarray) -> None:
        self.X = X
        self.value = np.inf
        self.grad, self._trial, self._trial_grad, self._direction = (np.empty_like(X) for _ in range(4))
        self._S = np.empty((MEMORY, X.size), dtype=np.float32)
        self._Y = np.empty((MEMORY, X.size), dtype=np.float32)
        self._rho = np.empty(MEMORY)
        self._stored = 0

    def forget(self) -> None:
        """Drop the secant pairs."""
        self._stored = 0

    def evaluate(self, energy: Callable[[np.ndarray, np.ndarray], float]) -> float:
        """Compute value and gradient at X, where the energy has changed."""
        self.value = energy(self.X, self.grad)
        return self.value

    def step(self, energy: Callable[[np.ndarray, np.ndarray], float]) -> float:
        """Take one step of decreasing energy; returns the decrease, 0 where there is none.

        Parameters
        ----------
        energy : callable
            Returns the value at unit rows and writes the Riemannian gradient into its second argument.
        """
        while True:
            slope = self._find_direction()
            if slope < 0:
                break
            if not self._stored:
                return 0.0
            self._stored = 0
        longest = float(np.sqrt(_longest(self._direction)))
        step = min(1.0, LONGEST_MOVE / longest)
        if not self._stored:
            step = min(LONGEST_MOVE, 0.1) / longest
        for _ in range(_TRIALS):
            _step(self.X, self._direction, np.float32(step), self._trial)
            value = energy(self._trial, self._trial_grad)
            if value <= self.value + 1e-4 * step * slope:
                return self._accept(value)
            shrink = -0.5 * slope * step / (value - self.value - slope * step)
            step *= min(0.5, max(0.1, shrink))
        if not self._stored:
            return 0.0
        self._stored = 0
        return self.step(energy)

    def _find_direction(self) -> float:
        """The two-loop recursion; returns the slope along the direction."""
        direction = self._direction.reshape(-1)
        np.negative(self.grad.reshape(-1), out=direction)
        recent = [i % MEMORY for i in range(max(0, self._stored - MEMORY), self._stored)]
        weights = {}
        for i in reversed(recent):
            weights[i] = self._rho[i] * sdot(self._S[i], direction)
            saxpy(self._Y[i], direction, a=-weights[i])
        if recent:
            i = recent[-1]
            direction *= np.float32(1 / (self._rho[i] * sdot(self._Y[i], self._Y[i])))
        for i in recent:
            saxpy(self._S[i], direction, a=weights[i] - self._rho[i] * sdot(self._Y[i], direction))
        return float(sdot(self.grad.reshape(-1), direction))

    def _accept(self, value: float) -> float:
        """Move to the trial point and store the secant pair if its curvature is positive."""
        i = self._stored % MEMORY
        S, Y = self._S[i], self._Y[i]
        np.subtract(self._trial.reshape(-1), self.X.reshape(-1), out=S)
        np.subtract(self._trial_grad.reshape(-1), self.grad.reshape(-1), out=Y)
        product = float(sdot(S, Y))
        if product > 1e-10 * float(np.sqrt(sdot(S, S) * sdot(Y, Y))):
            self._rho[i] = 1 / product
            self._stored += 1
        self.X[:] = self._trial
        self.grad, self._trial_grad = self._trial_grad, self.grad
        decrease, self.value = self.value - value, value
        return decrease
