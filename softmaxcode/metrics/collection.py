"""The measures of generalized neural collapse in one collection."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.nn import Module
from torchmetrics import Metric, MetricCollection

from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.metrics.collapse import GNC1, GNC3, EffectiveRank
from softmaxcode.metrics.margin import GNC2, CertifiedMargin
from softmaxcode.metrics.moments import ClassifierMetric
from softmaxcode.storage.provenance import Evidence


class GeneralizedNeuralCollapse(MetricCollection):
    """GNC1, GNC2 and GNC3 of a network, and the margin that its loss certifies.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension of the features.
    temperature : float, optional
        Temperature of the loss. With it the certified margin is computed too, at the cost of a forward pass of the
        classifier in float64. It may be set later, between two streams.
    search : bool
        As of `GNC2`: whether to search where the stored reference was never searched.
    prefix, postfix : str, optional
        Prefix and postfix of every name.
    **kwargs
        As of `torchmetrics.Metric`, for every metric.

    Returns
    -------
    dict of Tensor, shape (), float64
        From ``compute``: "GNC1", "GNC2", "GNC2_gap", "GNC2_ratio", "GNC3" (about the origin), "GNC3_centred",
        "effective_rank" of the class means and, with a temperature, "certified_margin". Where no code is stored,
        "GNC2_ratio_lower" and "GNC2_ratio_upper" replace "GNC2_ratio".

    Raises
    ------
    ValueError
        As `GNC1`, `GNC2`, `GNC3` and `CertifiedMargin`.

    Notes
    -----
    GNC1, both GNC3 and the effective rank share one state, of K + K d + d d numbers. ``forward`` also evaluates the
    batch alone, so it costs several times an ``update``; GNC2 is then solved for every batch.

    References
    ----------
    Jiang et al., ICML 2024 (arXiv:2310.05351).

    Examples
    --------
    >>> import torch
    >>> W = torch.eye(3)
    >>> metrics = GeneralizedNeuralCollapse(K=3, d=3)
    >>> metrics.set_classifier(W)
    >>> metrics.update(2 * W, torch.tensor([0, 1, 2]))
    >>> found = metrics.compute()
    >>> {name: round(found[name].item(), 4) for name in ("GNC1", "GNC2", "GNC2_ratio", "GNC3", "effective_rank")}
    {'GNC1': 0.0, 'GNC2': 1.2247, 'GNC2_ratio': 0.8165, 'GNC3': 0.0, 'effective_rank': 3.0}
    """

    def __init__(
        self,
        K: int,
        d: int,
        *,
        temperature: float | None = None,
        search: bool = True,
        prefix: str | None = None,
        postfix: str | None = None,
        **kwargs: Any,
    ) -> None:
        metrics: dict[str, Metric] = {
            "GNC1": GNC1(K, d, **kwargs),
            "GNC2": GNC2(K, d, search=search, **kwargs),
            "GNC3": GNC3(K, d, **kwargs),
            "GNC3_centred": GNC3(K, d, centred=True, **kwargs),
            "effective_rank": EffectiveRank(K, d, **kwargs),
        }
        groups = [["GNC1", "GNC3", "GNC3_centred", "effective_rank"], ["GNC2"]]
        if temperature is not None:
            metrics["certified_margin"] = CertifiedMargin(K, d, temperature, **kwargs)
            groups.append(["certified_margin"])
        super().__init__(metrics, prefix=prefix, postfix=postfix, compute_groups=groups)  # type: ignore[arg-type]
        self.K, self.d = K, d

    def set_classifier(self, W: Tensor | Module) -> None:
        """Name the head or classifier (K, d) to measure, by reference; see `GNC3.set_classifier`."""
        for metric in self._modules.values():
            if isinstance(metric, ClassifierMetric):
                metric.set_classifier(W)

    def merge_state(self, other: GeneralizedNeuralCollapse) -> None:
        """Accumulate the features that another collection of the same (K, d) and temperature has seen.

        Raises
        ------
        ValueError
            If it is of another kind, size or temperature.
        """
        if not isinstance(other, GeneralizedNeuralCollapse) or self._modules.keys() != other._modules.keys():
            raise ValueError(f"only a collection of the same metrics can be merged; got {other!r}")
        # the certified margin first: it alone can refuse, for its temperature, a merge that the others would accept
        for name in reversed(self._modules):
            self._modules[name].merge_state(other._modules[name])

    @property
    def temperature(self) -> float | None:
        """Temperature of the loss that certifies a margin, or None; a collection that has one accepts another."""
        certified = self._modules.get("certified_margin")
        return certified.temperature if isinstance(certified, CertifiedMargin) else None

    @temperature.setter
    def temperature(self, temperature: float) -> None:
        certified = self._modules.get("certified_margin")
        if not isinstance(certified, CertifiedMargin):
            raise ValueError("a collection made without a temperature measures no certified margin; make one with it")
        certified.temperature = temperature

    @property
    def limits(self) -> dict[str, float]:
        """Theoretical limits of the margin, by name: the lines of a figure.

        They are the best known margin of (K, d), or the bounds on it where no code is stored. The name of a
        construction that was never searched contains "construction only". With a temperature there is also a lower
        bound on the margin of a free feature model's global minimisers (docs/theory.md, T6 (c)).
        """
        margin = self._modules["GNC2"]
        assert isinstance(margin, GNC2)
        if margin.limit is None:
            return {"lower bound of ρ*": margin.bounds.lower, "upper bound of ρ*": margin.bounds.upper}
        searched = margin.evidence != Evidence.CONSTRUCTION
        lines = {f"ρ* ({margin.reference_label})" if searched else f"ρ ({margin.reference_label})": margin.limit}
        if self.temperature is not None:
            lines[f"global minimiser at τ = {self.temperature:g}"] = minimizer_margin(
                self.K, margin.limit, self.temperature
            )
        return lines

    @property
    def class_means(self) -> Tensor:
        """Means of the unit features, shape (K, d), float64; 0 for an unseen class.

        They are those of this process, or in ``with metrics["GNC1"].sync_context():`` those of all.
        """
        return self._moments.class_means

    @property
    def counts(self) -> Tensor:
        """Features of each class, shape (K,), float64, as `class_means`."""
        return self._moments.counts

    @property
    def _moments(self) -> GNC1:
        first = self._modules["GNC1"]
        assert isinstance(first, GNC1)
        return first
