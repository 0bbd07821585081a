"""SphericalClassifier: learned class vectors on the sphere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from softmaxcode.checks.tensors import copy_rows, unit_rows
from softmaxcode.nn.head import SphericalHead, as_default, normal
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


class SphericalClassifier(SphericalHead):
    r"""A classifier that learns its K unit vectors.

    The optimiser moves ``raw_weight``. Its rows scaled to unit norm are ``weight``, the classifier:

    .. math:: w_k = v_k / \|v_k\| .

    Parameters
    ----------
    K, d : int
        Classes and feature dimension (d >= 2 with ``riemannian=True``).
    temperature : float
        Divides the cosines; may be set later.
    riemannian : bool
        Make ``raw_weight`` a `geoopt.ManifoldParameter` on `geoopt.Sphere`: geoopt's optimisers then keep its rows on
        the sphere. An ordinary optimiser treats it as any parameter.
    seed : int, optional
        Seed of the initial rows, which are uniform on the sphere; without it they come from torch's global generator.

    Attributes
    ----------
    weight : Tensor, shape (K, d)
        Unit rows, differentiable. Every access computes them again, so writing into them has no effect; use
        `set_weight`.
    raw_weight : Parameter, shape (K, d)
        The same rows, of any norm.
    temperature : float
        The current temperature.

    Raises
    ------
    ValueError
        If K < 2, d < 1, or the temperature is not a finite number above 0. Also if the seed is not an integer of at
        least 0.

    Notes
    -----
    The loss does not depend on the norms of ``raw_weight``. So its gradient is tangential, and is
    :math:`1/\|v_k\|` times the gradient on the sphere. Steps of an ordinary optimiser lengthen the rows, which lowers
    the effective learning rate. Weight decay shortens them, which raises it, and has no other effect on the logits.

    With ``riemannian=True`` the norms stay 1 to rounding, and dividing by them changes neither the value nor the
    Riemannian gradient. Weight decay has no effect at all: it has no tangential part.

    Examples
    --------
    >>> import torch
    >>> head = SphericalClassifier(4, 3, temperature=0.1, seed=0)
    >>> features = torch.eye(3)
    >>> head(features).shape, head(features, torch.tensor([0, 1, 2])).shape
    (torch.Size([3, 4]), torch.Size([]))
    """

    def __init__(
        self, K: int, d: int, temperature: float, *, riemannian: bool = False, seed: int | None = None
    ) -> None:
        super().__init__(K, d, temperature)
        if riemannian and self.d < 2:
            raise ValueError(f"riemannian=True needs d >= 2 dimensions; got d = {self.d}")
        rows = as_default(unit_rows(normal(self.K, self.d, seed)))
        if riemannian:
            from softmaxcode.checks.geoopt import geoopt

            self.raw_weight = geoopt.ManifoldParameter(rows, manifold=geoopt.Sphere())
        else:
            self.raw_weight = nn.Parameter(rows)

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # computed here, a buffer in the other heads
        """Unit rows, shape (K, d): the class vectors."""
        return unit_rows(self.raw_weight)

    @torch.no_grad()
    def set_weight(self, W: ArrayLike | Tensor) -> None:
        """Start from given rows, such as those of a code, instead of random ones.

        Parameters
        ----------
        W : SoftmaxCode, array_like or Tensor, shape (K, d)
            Rows of any norm but 0; their directions count.

        Raises
        ------
        ValueError
            If they are not K finite rows of d numbers, or one is zero.

        Examples
        --------
        >>> import softmaxcode as sc
        >>> head = SphericalClassifier(12, 3, temperature=0.1)
        >>> head.set_weight(sc.best_known(12, 3))
        >>> round(sc.margin(head.weight).margin, 5)
        0.55279
        """
        rows = check_rows(W, normalize=True)
        if rows.shape != (self.K, self.d):
            raise ValueError(f"W must have shape ({self.K}, {self.d}); got {rows.shape}")
        copy_rows(self.raw_weight, torch.tensor(rows, device="cpu"))
