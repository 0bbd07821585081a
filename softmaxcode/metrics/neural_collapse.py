"""The measures of neural collapse that other papers use, under their usual names, from one stream of features."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from softmaxcode.checks.tensors import unit_rows
from softmaxcode.metrics.moments import ClassifierMetric, ClassMoments, merge, merge_means, seen_classes, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Between these the squares of features, and products of squares, are in the range of float64.
SMALLEST, LARGEST = 1e-70, 1e70
#: Pairs of classes in memory at once.
TILE = 2**22


class NeuralCollapse(ClassifierMetric, ClassMoments):
    r"""NC1 to NC3 of Papyan, Han and Donoho with their usual variants, and CDNV.

    With class means :math:`m_k`, their mean :math:`m`, centred means :math:`\mu_k = m_k - m`, the covariances
    :math:`\Sigma_W` and :math:`\Sigma_B` as of `GNC1` and the variance :math:`v_k` of class k (the mean squared
    distance from :math:`m_k`):

    .. math::
        NC1 = \frac1K \operatorname{tr}(\Sigma_W \Sigma_B^+), \quad
        NC1_{quotient} = \frac{\operatorname{tr} \Sigma_W}{\operatorname{tr} \Sigma_B}, \quad
        CDNV = \operatorname*{mean}_{k \ne l} \frac{v_k + v_l}{2 \|m_k - m_l\|^2}

    .. math::
        NC2_{norms} = \frac{\operatorname{std}_k \|\mu_k\|}{\operatorname{mean}_k \|\mu_k\|}, \quad
        NC2_{angles} = \operatorname*{mean}_{k \ne l}
            \Bigl|\frac{\langle \mu_k, \mu_l\rangle}{\|\mu_k\| \|\mu_l\|} + \frac1{K - 1}\Bigr|, \quad
        NC3 = \Bigl\|\frac{W}{\|W\|_F} - \frac{M}{\|M\|_F}\Bigr\|_F^2

    with M the centred means as rows. All are 0 at neural collapse, where K <= d + 1. For more classes the angles cannot
    be those of a simplex; `GNC2` measures what takes their place.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension of the features.
    unit : bool
        Whether features are scaled to unit norm first, as for `GNC1`. By default they are not, as in those papers.
    **kwargs
        As of `torchmetrics.Metric`.

    Returns
    -------
    dict of Tensor, shape (), float64
        From ``compute``: "NC1", "NC1_quotient", "CDNV", "NC2_norms", "NC2_angles". After `set_classifier` also "NC3",
        and "NC2_norms_classifier" and "NC2_angles_classifier" of the rows of W less their mean.

    Raises
    ------
    ValueError
        From ``update`` as `GNC1`, and for features without ``unit`` whose largest entry is not between 1e-70 and 1e70.
        From ``compute`` if fewer than two classes were seen.

    Notes
    -----
    Unseen classes are omitted, and a UserWarning names them. NC4, the fraction of features for which the classifier and
    the nearest class mean disagree, is 1 minus `NearestClassMeanAccuracy` with the classifier's predictions as labels.

    References
    ----------
    Papyan, Han, Donoho, PNAS 117 (2020). Zhu et al., NeurIPS 2021 (arXiv:2105.02375), for NC1 with the pseudo-inverse
    and NC3. Galanti, Gyoergy, Hutter, ICLR 2022 (arXiv:2112.15121), for CDNV.

    Examples
    --------
    >>> import torch
    >>> metric = NeuralCollapse(K=3, d=3)
    >>> metric.set_classifier(torch.eye(3))
    >>> metric.update(2 * torch.eye(3), torch.tensor([0, 1, 2]))
    >>> {name: round(value.item(), 4) for name, value in metric.compute().items()}["NC2_angles"]
    0.0
    """

    higher_is_better = False
    same = ("K", "d", "unit")

    def __init__(self, K: int, d: int, unit: bool = False, **kwargs: Any) -> None:
        super().__init__(K, d, **kwargs)
        self.unit = bool(unit)
        # the scatter of each class in itself, behind the moments, with which it is merged
        together = functools.partial(_merge, K=self.K, d=self.d)
        zeros = self.moments.new_zeros(len(self.moments) + self.K)
        self.add_state("moments", zeros, dist_reduce_fx=together)

    def rows(self, features: Tensor) -> Tensor:
        """The features as they count."""
        if self.unit:
            return unit_rows(features)
        largest = float(features.abs().max())
        if not (largest == 0 or SMALLEST < largest < LARGEST):
            raise ValueError(
                f"features must have a largest entry between {SMALLEST:g} and {LARGEST:g}, so that squares stay in "
                f"range; got {largest:g}: scale them"
            )
        return features

    def add_deviations(self, classes: Tensor, rows: Tensor) -> None:
        """Accumulate the scatter of each class in itself."""
        self.moments[-self.K :].index_add_(0, classes, rows.square().sum(dim=1))

    def compute(self) -> dict[str, Tensor]:
        """The measures of all accumulated features."""
        counts, means, scatter = self.counts, self.class_means, self.scatter
        seen = seen_classes(counts, at_least=2, warn=not self.one_batch)
        counts, means = counts[seen], means[seen]
        K = len(seen)
        centred = means - means.mean(0)
        within = scatter / counts.sum()
        variances = self.moments[-self.K :][seen] / counts
        values, vectors = torch.linalg.eigh(centred.T @ centred / K)
        kept = values > max(K, self.d) * torch.finfo(torch.float64).eps * values[-1].clamp_min(0.0)
        directions = vectors[:, kept]
        found = {
            "NC1": ((directions.T @ within * directions.T).sum(dim=1) / values[kept]).sum() / K,
            "NC1_quotient": torch.trace(within) / (centred.square().sum() / K),
            "CDNV": _cdnv(means, variances),
            **_simplex(centred, ""),
        }
        if self._classifier is not None:
            W = self.classifier().double()[seen]
            difference = W / torch.linalg.matrix_norm(W) - centred / torch.linalg.matrix_norm(centred)
            found |= {"NC3": difference.square().sum(), **_simplex(W - W.mean(0), "_classifier")}
        return found


def _merge(stacked: Tensor, K: int, d: int) -> Tensor:
    """Moments with the scatter of each class, of several parts of a stream together."""

    def two(first: Tensor, second: Tensor) -> Tensor:
        (a, means_a, _), (b, means_b, _) = (unpack(part[:-K], K, d) for part in (first, second))
        between = merge_means(a, means_a, b, means_b)[2].square().sum(dim=1)
        together = merge(torch.stack([first[:-K], second[:-K]]), K, d)
        return torch.cat([together, first[-K:] + second[-K:] + between])

    return functools.reduce(two, stacked.unbind())


def _simplex(centred: Tensor, ending: str) -> dict[str, Tensor]:
    """How far rows are from a simplex: the variation of their norms, and the mean deviation of their cosines."""
    K = len(centred)
    norms = torch.linalg.vector_norm(centred, dim=1)
    X = centred / norms.clamp_min(torch.finfo(norms.dtype).tiny)[:, None]
    total = sum((C + 1 / (K - 1)).abs().masked_fill(own, 0.0).sum() for C, own in _tiles(X))
    return {
        f"NC2_norms{ending}": norms.std(correction=0) / norms.mean(),
        f"NC2_angles{ending}": torch.as_tensor(total) / (K * (K - 1)),
    }


def _cdnv(means: Tensor, variances: Tensor) -> Tensor:
    """The class-distance normalised variance, averaged over all pairs."""
    K = len(means)
    centred = means - means.mean(0)
    squares = centred.square().sum(dim=1)
    total = means.new_zeros(())
    start = 0
    for C, own in _tiles(centred):
        part = slice(start, start + len(C))
        distances = (squares[part, None] + squares - 2 * C).clamp_min(0.0).masked_fill(own, torch.inf)
        total = total + ((variances[part, None] + variances) / (2 * distances)).sum()
        start += len(C)
    return total / (K * (K - 1))


def _tiles(X: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Products of some rows with all rows, and where a row meets itself."""
    K = len(X)
    every = torch.arange(K, device=X.device)
    for part in every.split(max(1, TILE // K)):
        yield X[part] @ X.T, part[:, None] == every
