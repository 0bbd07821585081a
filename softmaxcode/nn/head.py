"""Common to all heads: logits of unit vectors over a temperature, or their cross-entropy without the logits."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from softmaxcode.checks.arguments import check_integer, check_pair, check_temperature
from softmaxcode.checks.tensors import check_alike, check_features, gathered, under_autocast, unit_rows
from softmaxcode.nn.functional import spherical_cross_entropy


class SphericalHead(nn.Module):
    r"""A classifier of K unit vectors; a subclass defines the source of its ``weight``.

    Parameters
    ----------
    K, d : int
        Classes and feature dimension.
    temperature : float
        Divides the cosines.

    Attributes
    ----------
    weight : Tensor, shape (K, d)
        Unit rows, one per class.
    temperature : float
        May be set at any time, to anneal it. The state dict includes it as extra state.

    Raises
    ------
    ValueError
        If K < 2, d < 1 or the temperature is not a finite number above 0.

    Notes
    -----
    Loading a state dict sets the temperature that it contains. If that differs from the head's, a UserWarning names
    both. A state dict without one, saved by an older version, loads too and does not change the temperature.
    """

    weight: Tensor
    #: The numbers that define the function and are not parameters, in the order of the extra state.
    settings: ClassVar[tuple[str, ...]] = ("temperature",)

    def __init__(self, K: int, d: int, temperature: float) -> None:
        super().__init__()
        self.K, self.d = check_pair(K, d)
        self._temperature = check_temperature(temperature)  # not by the setter, which a Parameter would bypass

    @property
    def temperature(self) -> float:
        """What cosines are divided by; it can be set."""
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
            The logits, or the loss, which is computed without storing them. The dtype is that of ``weight``, under
            `torch.autocast` too; the loss of a half-precision head is float32.

        Raises
        ------
        ValueError
            For an empty batch, features of another width, dtype or device, or a NaN or infinite entry. Also for labels
            that are not N integers from 0 to K - 1.
        """
        if labels is not None:
            return spherical_cross_entropy(features, self.weight, labels, self.temperature)
        weight = gathered(self.weight, "weight")
        features = under_autocast(check_features(features, self.d), weight)
        check_alike(features, weight, ("features", "weight"))
        # a small temperature amplifies the rounding of half precision
        with torch.autocast(features.device.type, enabled=False):
            return unit_rows(features) @ weight.T / self.temperature

    def get_extra_state(self) -> Tensor:
        """The extra state beside the rows in a state dict: ``settings``, float64 on the CPU."""
        return torch.tensor([getattr(self, name) for name in self.settings], dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Any) -> None:
        """Set the settings from a state dict.

        Raises
        ------
        ValueError
            If they are not valid settings.

        Warns
        -----
        UserWarning
            For each setting that changes.
        """
        if not isinstance(state, Tensor) or state.ndim != 1 or not state.is_floating_point():
            raise ValueError(
                f"the extra state of a {type(self).__name__} must be a vector of its {' and '.join(self.settings)}; "
                f"got {state!r:.100}"
            )
        # another kind of head has fewer or more of them, with the temperature first
        for name, value in zip(self.settings, state.tolist(), strict=False):
            before = getattr(self, name)
            setattr(self, name, value)
            if value != before:
                warnings.warn(
                    f"the state dict's {name} {value:g} replaces {before:g}; to use another, set it after loading",
                    stacklevel=2,
                )

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, metadata: Any, strict: bool, missing: list[str], *lists: Any
    ) -> None:
        super()._load_from_state_dict(state_dict, prefix, metadata, strict, missing, *lists)
        key = prefix + "_extra_state"
        if key in missing:  # an older version saved it without extra state
            missing.remove(key)

    def extra_repr(self) -> str:
        """What `repr` shows of the head."""
        return f"K={self.K}, d={self.d}, temperature={self.temperature:g}"


def normal(rows: int, columns: int, seed: int | None) -> Tensor:
    """Independent standard normal numbers, shape (rows, columns), float64 on the CPU.

    With a seed they come from their own generator, so that they are the same on every machine. Without it they come
    from torch's global one.
    """
    generator = None if seed is None else torch.Generator("cpu").manual_seed(check_integer("seed", seed, 0))
    return torch.randn(rows, columns, generator=generator, dtype=torch.float64, device="cpu")


def as_default(rows: Tensor) -> Tensor:
    """The rows on torch's default device and in its default dtype, like new modules."""
    return rows.to(torch.get_default_device(), torch.get_default_dtype())
