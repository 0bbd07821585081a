"""CodeClassifier: class vectors fixed to those of a code."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from softmaxcode.nn.head import SphericalHead, as_default, normal
from softmaxcode.sphere import as_array, check_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike
    from torch import Tensor

    from softmaxcode.code import SoftmaxCode


class CodeClassifier(SphericalHead):
    """A classifier whose K unit vectors are those of a code, fixed: they have no gradient and no optimiser state.

    Parameters
    ----------
    code : SoftmaxCode or array_like, shape (K, d)
        Unit rows.
    temperature : float
        Divides the cosines; may be set later.
    assignment : array_like of int, shape (K,), optional
        Class c gets row ``assignment[c]`` of the code: a permutation of 0 .. K - 1, or an object whose ``permutation``
        is one. Without it, class c gets row c.
    rotate : bool
        Rotate the code by a random orthogonal matrix, uniform over all of them, so that no feature axis is special.
        Codes often have class vectors along the axes, which some features favour, such as those after a ReLU.
    seed : int, optional
        Seed of the rotation; without it the rotation comes from torch's global generator.

    Attributes
    ----------
    weight : Tensor, shape (K, d)
        Unit rows: a buffer. The state dict includes it, assigned and rotated.
    temperature : float
        The current temperature.

    Raises
    ------
    ValueError
        If the code's rows are not finite unit vectors, or the assignment is not a permutation of 0 .. K - 1. Also if
        the temperature is not a finite number above 0, or the seed not an integer of at least 0.

    Notes
    -----
    Cosines and margins are those of the code, up to the rounding of the weight's dtype. Assignment and rotation do not
    change them.

    References
    ----------
    F. Mezzadri, How to generate random matrices from the classical compact groups, Notices of the AMS 54 (2007).
    The Q of a QR factorisation is uniform once the diagonal of R is made positive.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> head = CodeClassifier(sc.best_known(10, 3), temperature=0.1)
    >>> abs(sc.margin(head.weight).margin - sc.best_known(10, 3).margin) < 1e-6
    True
    """

    def __init__(
        self,
        code: SoftmaxCode | ArrayLike | Tensor,
        temperature: float,
        assignment: Any = None,
        *,
        rotate: bool = True,
        seed: int | None = None,
    ) -> None:
        W = check_rows(code, name="code")
        super().__init__(len(W), W.shape[1], temperature)
        if assignment is not None:
            W = W[check_assignment(assignment, self.K)]
        rows = torch.tensor(W, device="cpu")
        if rotate:
            rows = rows @ random_orthogonal(self.d, seed)
        self.register_buffer("weight", as_default(rows))


def check_assignment(assignment: Any, K: int) -> np.ndarray:
    """Return the assignment as an integer array, shape (K,).

    Raises
    ------
    ValueError
        If it (or its ``permutation``) is not a permutation of 0 .. K - 1.
    """
    array = as_array(getattr(assignment, "permutation", assignment), "assignment")
    if array.shape != (K,) or array.dtype.kind not in "iu" or not np.array_equal(np.sort(array), np.arange(K)):
        raise ValueError(
            f"assignment must be a permutation of 0 .. {K - 1}, the code's row for each of the {K} classes; "
            f"got {array.dtype} of shape {array.shape}: {np.array2string(array, threshold=10)}"
        )
    return array


def random_orthogonal(d: int, seed: int | None) -> Tensor:
    """An orthogonal matrix, shape (d, d), float64, uniform over all of them (the Haar measure)."""
    Q, R = torch.linalg.qr(normal(d, d, seed))
    return Q * torch.sign(torch.diagonal(R))
