"""Common to all heads: logits of unit vectors over a temperature, or their cross-entropy without the logits."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor, nn

from softmaxcode.checks.arguments import check_integer, check_number, check_pair, check_temperature
from softmaxcode.checks.tensors import check_alike, check_features, gathered, under_autocast, unit_rows
from softmaxcode.nn.functional import spherical_cross_entropy
from softmaxcode.nn.tiles import largest_products

if TYPE_CHECKING:
    from typing import Self


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
    log_temperature: nn.Parameter | None
    #: The numbers that define the function and are not parameters, in the order of the extra state.
    settings: ClassVar[tuple[str, ...]] = ("temperature",)

    def __init__(self, K: int, d: int, temperature: float) -> None:
        super().__init__()
        self.K, self.d = check_pair(K, d)
        self._temperature = check_temperature(temperature)  # not by the setter, which a Parameter would bypass
        self._least_temperature = 0.0
        self.register_parameter("log_temperature", None)

    @property
    def temperature(self) -> float:
        """What cosines are divided by; it can be set."""
        learned = self.log_temperature
        return self._temperature if learned is None else self._least_temperature + float(learned.detach().exp())

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        value = check_temperature(temperature)
        if self.log_temperature is None:
            self._temperature = value
        else:
            with torch.no_grad():
                self.log_temperature.fill_(math.log(_excess(value, self._least_temperature)))

    def learn_temperature(self, least: float = 0.01) -> Self:
        r"""Make the temperature a parameter, with its present value, before the optimiser is made.

        .. math:: \tau = \tau_{\min} + e^{a}

        The parameter is ``log_temperature``, a. So the temperature stays above ``least``, whatever the optimiser does.
        Without such a bound a network that separates its training classes lowers it for ever.

        Parameters
        ----------
        least : float
            The bound, :math:`\tau_{\min}`: at least 0, and below the present temperature.

        Returns
        -------
        SphericalHead
            The head.

        Raises
        ------
        ValueError
            If ``least`` is not such a number.

        Examples
        --------
        >>> from softmaxcode.nn import SphericalClassifier
        >>> head = SphericalClassifier(4, 3, temperature=0.1).learn_temperature()
        >>> round(head.temperature, 6), [name for name, _ in head.named_parameters()]
        (0.1, ['log_temperature', 'raw_weight'])
        """
        least = check_number("least", least, 0, math.inf, "[)")
        start = math.log(_excess(self.temperature, least))
        rows = self.weight
        self._least_temperature = least
        self.log_temperature = nn.Parameter(torch.tensor(start, dtype=rows.dtype, device=rows.device))
        return self

    def _current_temperature(self) -> float | Tensor:
        """The temperature that the loss divides by, with a gradient where it is learned."""
        learned = self.log_temperature
        return self._temperature if learned is None else self._least_temperature + learned.exp()

    def forward(self, features: Tensor, labels: Tensor | None = None, **options: Any) -> Tensor:
        r"""Logits, or with labels their mean cross-entropy.

        .. math:: z_{ik} = \frac{\langle w_k, h_i \rangle}{\tau \|h_i\|}, \qquad
            L = \frac1N \sum_i \log \sum_k \exp(z_{ik} - z_{i y_i}) .

        Parameters
        ----------
        features : Tensor, shape (N, d) or (..., d)
            Of any norm, on the device of ``weight`` and of its dtype; under `torch.autocast` they are cast to it.
        labels : Tensor, shape (N,) or (...), optional
            Integers from 0 to K - 1.
        **options
            Of the loss: ``reduction``, ``log``, ``ignore_index``, ``label_smoothing``, ``class_weights``,
            ``cosine_margin`` and ``angular_margin`` of `softmaxcode.nn.functional.spherical_cross_entropy`.

        Returns
        -------
        Tensor, shape (N, K), (..., K) or ()
            The logits, or the loss, which is computed without storing them. The dtype is that of ``weight``, under
            `torch.autocast` too; the loss of a half-precision head is float32.

        Raises
        ------
        ValueError
            For an empty batch, features of another width, dtype or device, or a NaN or infinite entry. Also for labels
            that are not N integers from 0 to K - 1, an option out of range, and options without labels.
        """
        temperature = self._current_temperature()
        if labels is not None:
            return spherical_cross_entropy(features, self.weight, labels, temperature, **options)
        if options:
            raise ValueError(f"{', '.join(options)} is an option of the loss: pass labels too")
        if isinstance(features, Tensor) and features.ndim > 2:
            return self(features.reshape(-1, features.shape[-1])).reshape(*features.shape[:-1], self.K)
        weight = gathered(self.weight, "weight")
        features = under_autocast(check_features(features, self.d), weight)
        check_alike(features, weight, ("features", "weight"))
        # a small temperature amplifies the rounding of half precision
        with torch.autocast(features.device.type, enabled=False):
            return unit_rows(features) @ weight.T / temperature

    @torch.no_grad()
    def topk(self, features: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
        """The k classes of the largest logits for each sample, without storing the N x K logits.

        Parameters
        ----------
        features : Tensor, shape (N, d) or (..., d)
            As in `forward`.
        k : int
            From 1 to K.

        Returns
        -------
        values, classes : Tensor, shape (N, k) or (..., k)
            The logits, the largest first, and their classes; of equal logits, any.

        Raises
        ------
        ValueError
            As `forward`, and if k is out of range.

        Examples
        --------
        >>> import torch
        >>> from softmaxcode.nn import CodeClassifier
        >>> head = CodeClassifier([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]], temperature=0.5, rotate=False)
        >>> values, classes = head.topk(torch.tensor([[1.0, 0.1], [-1.0, 0.5]]), 2)
        >>> classes.tolist()
        [[0, 1], [2, 1]]
        """
        k = check_integer("k", k, 1, self.K)
        if isinstance(features, Tensor) and features.ndim > 2:
            values, classes = self.topk(features.reshape(-1, features.shape[-1]), k)
            return values.reshape(*features.shape[:-1], k), classes.reshape(*features.shape[:-1], k)
        weight = gathered(self.weight, "weight")
        features = under_autocast(check_features(features, self.d), weight)
        check_alike(features, weight, ("features", "weight"))
        with torch.autocast(features.device.type, enabled=False):
            values, classes = largest_products(unit_rows(features), weight, k)
        return values / self._current_temperature(), classes

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
            if value != before:
                setattr(self, name, value)
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


def _excess(temperature: float, least: float) -> float:
    """By how much a learned temperature exceeds its bound."""
    if not temperature > least:
        raise ValueError(f"a learned temperature must be above its bound, {least:g}; got {temperature:g}")
    return temperature - least


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
