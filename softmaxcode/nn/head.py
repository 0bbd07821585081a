"""What the heads share: logits of unit vectors over a temperature, or their cross-entropy without the logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from softmaxcode.nn.functional import spherical_cross_entropy
from softmaxcode.sphere import check_integer, check_pair, check_temperature
from softmaxcode.tensors import check_alike, check_features, under_autocast, unit_rows


class SphericalHead(nn.Module):
    r"""A classifier of K unit vectors; a subclass says where its ``weight`` comes from.

    Parameters
    ----------
    K, d : int
        Classes and feature dimension.
    temperature : float
        What the cosines are divided by.

    Attributes
    ----------
    weight : Tensor, shape (K, d)
        Unit rows, one a class.
    temperature : float
        May be set at any time, to anneal it. It is not part of the state dict.

    Raises
    ------
    ValueError
        If K < 2, d < 1 or the temperature is not a finite number above 0.
    """

    weight: Tensor

    def __init__(self, K: int, d: int, temperature: float) -> None:
        super().__init__()
        self.K, self.d = check_pair(K, d)
        self._temperature = check_temperature(temperature)  # not by the setter, which a Parameter would pass by

    @property
    def temperature(self) -> float:
        return self._temperature

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        self._temperature = check_temperature(temperature)

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        r"""Logits, or with labels their mean cross-entropy.

        .. math:: z_{ik} = \frac{\langle w_k, h_i \rangle}{\tau \|h_i\|}, \qquad
            L = \frac1N \sum_i \log \sum_k \exp(z_{ik} - z_{i y_i}) .

        Parameters
        ----------
        features : Tensor, shape (N, d)
            Of any norm, on the device of ``weight`` and of its dtype; under `torch.autocast` they are cast to it.
        labels : Tensor, shape (N,), optional
            Integers from 0 to K - 1.

        Returns
        -------
        Tensor, shape (N, K) or ()
            The logits, or the loss, for which they are never held. Computed in the dtype of ``weight``, under
            `torch.autocast` too; the loss of a half-precision head in float32.

        Raises
        ------
        ValueError
            For an empty batch, features of another width, dtype or device, a NaN or infinite entry, or labels that are
            not N integers from 0 to K - 1.
        """
        if labels is not None:
            return spherical_cross_entropy(features, self.weight, labels, self.temperature)
        features = under_autocast(check_features(features, self.d), self.weight)
        check_alike(features, self.weight, ("features", "weight"))
        # a small temperature magnifies the rounding of half precision
        with torch.autocast(features.device.type, enabled=False):
            return unit_rows(features) @ self.weight.T / self.temperature

    def extra_repr(self) -> str:
        return f"K={self.K}, d={self.d}, temperature={self.temperature:g}"


def normal(rows: int, columns: int, seed: int | None) -> Tensor:
    """Independent standard normal numbers, shape (rows, columns), float64 on the CPU.

    From their own generator where a seed is given, so that they are the same on every machine; from torch's global one
    otherwise.
    """
    generator = None if seed is None else torch.Generator("cpu").manual_seed(check_integer("seed", seed, 0))
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64, device="cpu")


def as_default(rows: Tensor) -> Tensor:
    """The rows on torch's default device and in its default dtype, where new modules are made."""
    return rows.to(torch.get_default_device(), torch.get_default_dtype())
