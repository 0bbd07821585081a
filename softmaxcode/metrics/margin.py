"""The margin of a classifier in training: GNC2, exact, and the margin that the loss certifies."""

from __future__ import annotations

import functools
import math
import warnings
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from softmaxcode.bounds.best import margin_bounds
from softmaxcode.catalog import UnknownCodeError, look_up
from softmaxcode.certificates.loss import certified_margin
from softmaxcode.checks.arguments import check_flag, check_temperature
from softmaxcode.checks.tensors import check_classifier, unit_rows
from softmaxcode.compare.reference import EXCEEDS, UnsearchedCodeWarning, label, reference_code, weakness
from softmaxcode.margins.exact import SmallestMargin, smallest_margin
from softmaxcode.margins.on_device import smallest_margin_on_device
from softmaxcode.metrics.moments import ClassifierMetric, seen_classes
from softmaxcode.nn.functional import spherical_cross_entropy
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from softmaxcode.bounds.best import MarginBounds
    from softmaxcode.storage.provenance import Evidence

#: The margin of a stored code is computed up to this K * K * d.
MAX_LIMIT = 10**12


def classifier_margin(W: Tensor) -> SmallestMargin:
    """The exact margin of a classifier's rows scaled to unit norm, in float64.

    On the CPU it is exact to rounding. On another device it is computed there, to a gap of 1e-6
    (`softmaxcode.margins.on_device`).

    Parameters
    ----------
    W : Tensor, shape (K, d)
        One class per row, of any norm but 0.

    Returns
    -------
    SmallestMargin
        ``margin``, its primal-dual ``gap``, the class that it is ``attained_by`` and the number of classes ``solved``.

    Raises
    ------
    ValueError
        If a row is zero or not finite, or W is not (K, d) with K >= 2.

    Examples
    --------
    >>> import torch
    >>> classifier_margin(torch.tensor([[2.0, 0.0], [-3.0, 0.0]])).margin
    2.0
    """
    if W.device.type == "cpu":
        return smallest_margin(check_rows(W, normalize=True))
    return smallest_margin_on_device(unit_rows(check_classifier(W).double()))


class GNC2(ClassifierMetric):
    r"""Maximal margin: the exact margin of the classifier, compared with the best known margin.

    .. math:: GNC_2 = \rho(W) = \min_k \operatorname{dist}\bigl(w_k, \operatorname{conv}\{w_j : j \ne k\}\bigr)

    with rows scaled to unit norm. It does not depend on batches: ``update`` takes any arguments and does nothing.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension.
    search : bool
        Whether to search for five seconds where the stored reference was never searched (see Notes).
    **kwargs
        As of `torchmetrics.Metric`.

    Returns
    -------
    dict of Tensor, shape (), float64
        From ``compute``: "GNC2", the margin; "GNC2_gap", its primal-dual gap; and "GNC2_ratio". The ratio is the margin
        divided by that of `softmaxcode.best_known`. It is 1 where both are 0, which is so for d = 1 and K > 2. Where no
        code of (K, d) is stored, "GNC2_ratio_lower" and "GNC2_ratio_upper" replace it. They are the margin divided by
        the upper and by the lower bound on the largest one.

    Raises
    ------
    ValueError
        From ``compute`` if no classifier was set, it is on another device, or a row is zero or not finite.

    Notes
    -----
    `set_classifier` keeps a reference: ``compute`` uses the current rows. Every ``compute`` and ``forward`` computes
    the margin, on the CPU in seconds for thousands of classes. In training, prefer ``update`` and one ``compute`` per
    epoch. The best known margin is looked up at the first ``compute`` and cached.

    If only a construction of (K, d) is stored that was never searched, the first ``compute`` searches for five seconds
    (K K d up to 10^7). A warning announces the search, and its result is stored in the user's catalogue. Without a
    search, ``evidence`` is "construction only", and the ratio may exceed 1 by far. Where it exceeds 1, an
    `UnsearchedCodeWarning` states by how much the reference was weak.

    References
    ----------
    Jiang et al., ICML 2024 (arXiv:2310.05351); docs/theory.md, T1.

    Examples
    --------
    >>> import torch
    >>> metric = GNC2(K=4, d=2)
    >>> metric.set_classifier(torch.tensor([[1.0, 0.0], [0.0, 3.0], [-1.0, 0.0], [0.0, -2.0]]))
    >>> {name: value.item() for name, value in metric.compute().items()}
    {'GNC2': 1.0, 'GNC2_gap': 0.0, 'GNC2_ratio': 1.0}
    """

    higher_is_better = True

    def __init__(self, K: int, d: int, *, search: bool = True, **kwargs: Any) -> None:
        super().__init__(K, d, **kwargs)
        self.search = check_flag("search", search)
        self._noted = 1.0

    @property
    def update_called(self) -> bool:
        """Always true: no update is needed before ``compute``."""
        return True

    @property
    def limit(self) -> float | None:
        """The margin of the best known code of (K, d), or of a construction; None where no code is stored.

        For large codes it is the stored lower bound on their margin. Computing the margin itself would take more than a
        minute or two.
        """
        return self._reference[0]

    @property
    def evidence(self) -> Evidence | None:
        """How hard the reference was searched (`softmaxcode.Evidence`); None where no code is stored."""
        return self._reference[1]

    @property
    def reference_label(self) -> str:
        """What the reference may be called: "best known", or "construction only, never searched"."""
        return label(self.evidence)

    @functools.cached_property
    def _reference(self) -> tuple[float | None, Evidence | None]:
        if self.K * self.K * self.d > MAX_LIMIT:
            found = look_up(self.K, self.d, "softmax")
            return (None, None) if found is None else (found.value, found.evidence)
        try:
            code = reference_code(self.K, self.d, search=self.search)
        except UnknownCodeError:
            return None, None
        return code.margin, code.provenance.evidence

    @functools.cached_property
    def bounds(self) -> MarginBounds:
        """Bounds on the largest margin of (K, d)."""
        return margin_bounds(self.K, self.d)

    @property
    def bracket(self) -> MarginBounds:
        """The old name of `bounds`."""
        warnings.warn("GNC2.bracket is now GNC2.bounds", DeprecationWarning, stacklevel=2)
        return self.bounds

    def update(self, *_: Any, **__: Any) -> None:
        """Do nothing: the margin depends on the classifier alone."""

    def forward(self, *_: Any, **__: Any) -> Any:
        """The same as `compute`."""
        value: Any = self.compute()
        self._forward_cache = value
        return value

    def compute(self) -> dict[str, Tensor]:
        """The margin of the current classifier, its gap and its ratio to the best known margin."""
        solved = classifier_margin(self.classifier())
        values = {"GNC2": solved.margin, "GNC2_gap": solved.gap}
        if self.limit is not None:
            values["GNC2_ratio"] = ratio = solved.margin / self.limit if self.limit > 0 else 1.0
            if ratio > self._noted * (1 + EXCEEDS):
                self._noted = ratio
                note = weakness(solved.margin, self.limit, self.evidence, self.K, self.d)
                warnings.warn(f"GNC2_ratio is {ratio:.6g}: {note}", UnsearchedCodeWarning, stacklevel=2)
        else:
            values["GNC2_ratio_lower"] = solved.margin / self.bounds.upper
            values["GNC2_ratio_upper"] = solved.margin / self.bounds.lower
        return {name: torch.tensor(x, dtype=torch.float64, device=self.device) for name, x in values.items()}


def merge_losses(stacked: Tensor) -> Tensor:
    r"""Total losses and class counts of several parts of a stream together.

    Parameters
    ----------
    stacked : Tensor, shape (R, 1 + K)
        For each part :math:`\log \sum_i L_i` (minus infinity for none), then the number of samples of each class.

    Returns
    -------
    Tensor, shape (1 + K,)
        The same for all parts together.
    """
    return torch.cat([stacked[:, :1].logsumexp(0), stacked[:, 1:].sum(0)])


class CertifiedMargin(ClassifierMetric):
    r"""The margin that the cross-entropy over a data set certifies.

    .. math::
        \rho(W) \ge -\tau \log\Bigl(\exp\Bigl(\sum_i L_i\Bigr) - 1\Bigr), \qquad
        L_i = \log\Bigl(1 + \sum_{j \ne y_i} e^{\langle w_j - w_{y_i}, h_i\rangle/\tau}\Bigr)

    with unit features :math:`h_i` and unit rows :math:`w_k`. It is also a lower bound on the margin of every single
    feature, :math:`\min_{j \ne y_i} \langle w_{y_i} - w_j, h_i\rangle`.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension of the features.
    temperature : float
        The temperature tau of the loss, above 0.
    **kwargs
        As of `torchmetrics.Metric`.

    Returns
    -------
    Tensor, shape (), float64
        From ``compute``, over all batches of all processes; from ``forward``, over one batch. Between -2 and 2.

    Raises
    ------
    ValueError
        From ``update`` as for `GNC1`, or if no classifier was set, or it is on another device or not finite. From
        ``compute`` if there were no features. From the constructor if the temperature is not above 0.

    Notes
    -----
    The certificate is valid for the network in evaluation mode and one classifier: do not change W between batches.
    Losses are evaluated in float64 from their logarithms, since they underflow at small temperatures. The N x K logits
    are never stored. Rounding is not part of the certificate. For unseen classes it proves nothing, and a UserWarning
    names them. ``forward`` does not warn, and its value covers the classes of its batch alone.

    References
    ----------
    docs/theory.md, T6 (b).

    Examples
    --------
    >>> import torch
    >>> metric = CertifiedMargin(K=2, d=2, temperature=0.01)
    >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> metric.set_classifier(W)
    >>> metric.update(W, torch.tensor([0, 1]))
    >>> round(metric.compute().item(), 6)  # the margin is 2
    1.993069
    """

    higher_is_better = True
    same = ("K", "d", "temperature")
    losses: Tensor
    _temperature: float

    def __init__(self, K: int, d: int, temperature: float, **kwargs: Any) -> None:
        super().__init__(K, d, **kwargs)
        nothing = torch.zeros(1 + self.K, dtype=torch.float64)
        nothing[0] = -torch.inf
        self.add_state("losses", nothing, dist_reduce_fx=merge_losses)
        self.temperature = temperature

    @property
    def temperature(self) -> float:
        """The temperature tau of the loss; it may change between two streams, not within one."""
        return self._temperature

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        temperature = check_temperature(temperature)
        if self.losses[1:].any() and temperature != self._temperature:
            raise ValueError(
                f"temperature cannot change from {self._temperature:g} to {temperature:g} within a stream, whose "
                "losses would not be comparable; call reset() first"
            )
        self._temperature = temperature

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        if self._persistent["losses"]:
            destination[prefix + "temperature"] = torch.tensor(self.temperature, dtype=torch.float64, device="cpu")

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        theirs = state_dict.pop(prefix + "temperature", None)  # older versions did not save it
        if theirs is not None and float(theirs) != self.temperature:
            raise ValueError(
                f"{prefix}losses are of the temperature {float(theirs):g}, and this metric's is {self.temperature:g}: "
                "set that temperature before loading"
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Accumulate the losses of a batch of features (N, d) and labels (N,)."""
        self.check_batch(features, labels)
        h, W = features.detach().double(), self.classifier().double()
        log_sum = spherical_cross_entropy(h, W, labels, self.temperature, reduction="sum", log=True)
        counts = torch.bincount(labels.long(), minlength=self.K)
        self.losses = merge_losses(torch.stack([self.losses, torch.cat([log_sum[None], counts])]))

    def compute(self) -> Tensor:
        """The certified margin of all accumulated samples."""
        seen_classes(self.losses[1:], at_least=1, warn=not self.one_batch)
        samples = int(self.losses[1:].sum())
        log_mean = float(self.losses[0]) - math.log(samples)
        return self.losses.new_tensor(certified_margin(log_mean, samples, self.temperature))
