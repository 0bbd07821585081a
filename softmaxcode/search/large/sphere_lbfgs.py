"""L-BFGS on a product of spheres in float32, for many points: it can be left after every evaluation.

The kernels of `softmaxcode.search` are for float64 and few points; here BLAS works on arrays of many points.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.linalg.blas import saxpy, sdot

from softmaxcode.parallel.compiled import compiled

if TYPE_CHECKING:
    from collections.abc import Callable

#: A NumPy array, or what a subclass computes with.
Array = Any
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

    def __init__(self, X: Array) -> None:
        self.X = X
        self.value = math.inf
        self.grad, self._trial, self._trial_grad, self._direction = (self._empty(*X.shape) for _ in range(4))
        size = X.shape[0] * X.shape[1]
        self._S, self._Y = self._empty(MEMORY, size), self._empty(MEMORY, size)
        self._rho = [0.0] * MEMORY
        self._stored = 0

    # What a subclass for other arrays replaces

    def _empty(self, *shape: int) -> Array:
        """An array like X, of another shape."""
        return np.empty(shape, dtype=np.float32)

    def _dot(self, a: Array, b: Array) -> float:
        return float(sdot(a, b))

    def _add(self, y: Array, a: float, x: Array) -> None:
        """Add a x to y in place."""
        saxpy(x, y, a=a)

    def _move(self, step: float) -> None:
        """Write the unit rows of X + step * direction to the trial points."""
        _step(self.X, self._direction, np.float32(step), self._trial)

    def _longest(self) -> float:
        """The largest norm of a row of the direction."""
        return float(np.sqrt(_longest(self._direction)))

    # The minimisation

    def forget(self) -> None:
        """Drop the secant pairs."""
        self._stored = 0

    def evaluate(self, energy: Callable[[Array, Array], float]) -> float:
        """Compute value and gradient at X, where the energy has changed."""
        self.value = energy(self.X, self.grad)
        return self.value

    def step(self, energy: Callable[[Array, Array], float]) -> float:
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
        longest = self._longest()
        step = min(1.0, LONGEST_MOVE / longest)
        if not self._stored:
            step = min(LONGEST_MOVE, 0.1) / longest
        for _ in range(_TRIALS):
            self._move(step)
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
        direction, grad = self._direction.reshape(-1), self.grad.reshape(-1)
        direction[:] = grad
        direction *= -1
        recent = [i % MEMORY for i in range(max(0, self._stored - MEMORY), self._stored)]
        weights = {}
        for i in reversed(recent):
            weights[i] = self._rho[i] * self._dot(self._S[i], direction)
            self._add(direction, -weights[i], self._Y[i])
        if recent:
            i = recent[-1]
            direction *= 1 / (self._rho[i] * self._dot(self._Y[i], self._Y[i]))
        for i in recent:
            self._add(direction, weights[i] - self._rho[i] * self._dot(self._Y[i], direction), self._S[i])
        return self._dot(grad, direction)

    def _accept(self, value: float) -> float:
        """Move to the trial point and store the secant pair if its curvature is positive."""
        i = self._stored % MEMORY
        S, Y = self._S[i], self._Y[i]
        S[:] = self._trial.reshape(-1)
        S -= self.X.reshape(-1)
        Y[:] = self._trial_grad.reshape(-1)
        Y -= self.grad.reshape(-1)
        product = self._dot(S, Y)
        if product > 1e-10 * math.sqrt(self._dot(S, S) * self._dot(Y, Y)):
            self._rho[i] = 1 / product
            self._stored += 1
        self.X[:] = self._trial
        self.grad, self._trial_grad = self._trial_grad, self.grad
        decrease, self.value = self.value - value, value
        return decrease
