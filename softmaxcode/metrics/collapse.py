"""Measures of the collapse of features: GNC1, the rank of the class means, GNC3 and the nearest class mean."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from softmaxcode.checks.tensors import check_alike, check_classifier, check_dense, unit_rows
from softmaxcode.metrics.moments import ClassifierMetric, ClassMoments, StreamMetric

#: Squared distances in memory at once in `NearestClassMeanAccuracy`.
TILE = 2**22


class GNC1(ClassMoments):
    r"""Variability collapse: the scatter within classes relative to the scatter between class means.

    .. math::
        GNC_1 = \frac1K \operatorname{tr}(\Sigma_W \Sigma_B^+), \quad
        \Sigma_W = \frac1N \sum_i (h_i - m_{y_i})(h_i - m_{y_i})^T, \quad
        \Sigma_B = \frac1K \sum_k (m_k - m)(m_k - m)^T

    with unit features :math:`h_i`, class means :math:`m_k` and :math:`m` the mean of the class means. It is 0 when the
    features of each class are equal.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension of the features.
    **kwargs
        As of `torchmetrics.Metric`.

    Returns
    -------
    Tensor, shape (), float64
        From ``compute``, over all batches of all processes; from ``forward``, over one batch.

    Raises
    ------
    ValueError
        From ``update`` for features that are not finite, not of shape (N, d) or on another device. Also from ``update``
        for labels that are not integers from 0 to K - 1, and from ``compute`` if fewer than two classes were seen.

    Notes
    -----
    Unseen classes are omitted: K is then the number of classes seen, and a UserWarning names the others. Features may
    be of any floating-point precision; moments are stored in float64.

    The pseudo-inverse omits singular values of the centred class means (divided by the root of K) that are rounding.
    These are the ones below the machine epsilon times the largest of K, d and the class counts. If all class means are
    equal it is 0, and so is GNC1. Then, and where they are nearly equal (a mean squared distance from their mean below
    5e-4), a UserWarning reports it.

    Rounding of the features themselves does count. It matters where float32 features span fewer than min(K - 1, d)
    dimensions. Their noise of 1e-7 then counts as directions in which nothing has collapsed, and GNC1 is of the order
    of the samples per class.

    A state dict includes the states after ``metric.persistent(True)``.

    References
    ----------
    Jiang et al., ICML 2024 (arXiv:2310.05351).

    Examples
    --------
    >>> import torch
    >>> metric = GNC1(K=2, d=2)
    >>> metric.update(torch.tensor([[3.0, 4.0], [3.0, -4.0]]), torch.tensor([0, 0]))
    >>> metric.update(torch.tensor([[-1.0, 0.0]]), torch.tensor([1]))
    >>> metric.class_means
    tensor([[ 0.6000,  0.0000],
            [-1.0000,  0.0000]], dtype=torch.float64)
    >>> metric.compute().item()  # the scatter is orthogonal to the line of the means
    0.0
    """

    higher_is_better = False

    def compute(self) -> Tensor:
        """GNC1 of all accumulated features."""
        _, counts, means, scatter = self.seen_moments()
        K = len(means)
        centred = (means - means.mean(0)) / K**0.5
        # of Sigma_B = B^T B only the singular values and right vectors of B are needed, and those are R's in B = Q R
        factor = torch.linalg.qr(centred, mode="r")[1] if self.d < K else centred
        _, values, vectors = torch.linalg.svd(factor, full_matrices=False)
        values, vectors = values[: K - 1], vectors[: K - 1]  # centred rows have rank K - 1 at most
        kept = values > self.rounding(counts)
        whitened = vectors[kept] / values[kept, None]
        return ((whitened @ scatter) * whitened).sum() / (K * counts.sum())


class EffectiveRank(ClassMoments):
    r"""The effective number of directions of class means: it distinguishes neural collapse from collapse to a point.

    .. math:: \exp\Bigl(-\sum_i p_i \log p_i\Bigr), \qquad p_i = \sigma_i \Big/ \sum_j \sigma_j

    with :math:`\sigma_i` the singular values of the K x d matrix of class means of unit features, about the origin. It
    is 1 when all features are equal, and 0 when all are zero. It is K - 1 for K <= d + 1 classes whose means form a
    simplex. It is d when the means spread equally over all directions. For K = 2, and for d = 1, it is 1 at neural
    collapse too.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension of the features.
    **kwargs
        As of `torchmetrics.Metric`.

    Returns
    -------
    Tensor, shape (), float64
        From ``compute``, over all batches of all processes; from ``forward``, over one batch.

    Raises
    ------
    ValueError
        As `GNC1`.

    Notes
    -----
    Unseen classes are omitted, and a UserWarning names them; another reports class means that are nearly equal, as
    for `GNC1`.

    References
    ----------
    Roy and Vetterli, The effective rank: a measure of effective dimensionality, EUSIPCO 2007.
    Garrido et al., RankMe, ICML 2023 (arXiv:2210.02885), for its use on learned features.

    Examples
    --------
    >>> import torch
    >>> metric = EffectiveRank(K=3, d=3)
    >>> metric.update(torch.eye(3), torch.tensor([0, 1, 2]))
    >>> round(metric.compute().item(), 6)
    3.0
    """

    higher_is_better = True

    def compute(self) -> Tensor:
        """The effective rank of all accumulated features."""
        _, counts, means, _ = self.seen_moments()
        values = torch.linalg.svdvals(means)
        values = values[values > self.rounding(counts)]
        if not len(values):
            return values.new_zeros(())
        fractions = values / values.sum()
        return torch.special.entr(fractions).sum().exp()


class GNC3(ClassifierMetric, ClassMoments):
    r"""Self-duality: the angle between each class's row of the classifier and its class-mean feature.

    .. math:: GNC_3 = \frac1K \sum_k \Bigl(1 - \frac{\langle w_k, m_k - c\rangle}{\|w_k\| \|m_k - c\|}\Bigr)

    with :math:`m_k` the mean of the class's unit features and c = 0. With ``centred``, c is the mean of the class
    means. It is 0 when every row points at its class mean.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension of the features.
    centred : bool
        Centre the class means (not the classifier) first, as the paper's public code does.
    **kwargs
        As of `torchmetrics.Metric`.

    Returns
    -------
    Tensor, shape (), float64
        From ``compute``, over all batches of all processes; from ``forward``, over one batch.

    Raises
    ------
    ValueError
        From ``update`` as for `GNC1`. From ``compute`` if no classifier was set, it is on another device, it is no
        longer finite, or fewer than two classes were seen.

    Notes
    -----
    `set_classifier` keeps a reference: ``compute`` uses the current rows. A row or class mean (centred, if requested)
    whose norm is zero to rounding has no direction, and its cosine counts as 0. Like `GNC1`, it warns if class means
    are nearly equal. Unseen classes are omitted: K is then the number of classes seen, and a UserWarning names the
    others.

    References
    ----------
    Jiang et al., ICML 2024 (arXiv:2310.05351).

    Examples
    --------
    >>> import torch
    >>> metric = GNC3(K=2, d=2)
    >>> metric.set_classifier(torch.tensor([[2.0, 0.0], [0.0, 1.0]]))
    >>> metric.update(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    >>> metric.compute().item()
    0.5
    """

    higher_is_better = False

    def __init__(self, K: int, d: int, centred: bool = False, **kwargs: Any) -> None:
        super().__init__(K, d, **kwargs)
        self.centred = centred

    def compute(self) -> Tensor:
        """GNC3 of all accumulated features."""
        W = self.classifier()
        seen, counts, means, _ = self.seen_moments()
        if self.centred:
            means = means - means.mean(0)
        norms = torch.linalg.vector_norm(means, dim=1, keepdim=True)
        means = torch.where(norms > self.rounding(counts), means, 0.0)
        return 1 - (unit_rows(W[seen].double()) * unit_rows(means)).sum(1).mean()


class NearestClassMeanAccuracy(StreamMetric):
    r"""Fraction of features whose nearest class mean is that of their label.

    .. math:: \frac1N \#\Bigl\{i : \operatorname{arg\,min}_k \|h_i - m_k\| = y_i\Bigr\}

    with unit features :math:`h_i`. Class means are known only after a pass over the training data. They come from a
    metric that made one: ``accuracy.set_class_means(gnc1.class_means, gnc1.counts > 0)``.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension of the features.
    **kwargs
        As of `torchmetrics.Metric`.

    Returns
    -------
    Tensor, shape (), float64
        From ``compute``, over all batches of all processes; from ``forward``, over one batch.

    Raises
    ------
    ValueError
        From ``update`` as for `GNC1`, or if no class means were set or they are on another device. From ``compute`` if
        there were no features.

    Notes
    -----
    With the predictions of a classifier as labels it is the fraction of features for which both agree, 1 - NC4.

    Of equally near means the one of the smallest class index counts. Means may be confused if their distance is below
    1e-8 of the largest distance between means. A feature of a class without a mean counts as wrong. The N x K distances
    are never stored.

    Examples
    --------
    >>> import torch
    >>> metric = NearestClassMeanAccuracy(K=2, d=2)
    >>> metric.set_class_means(torch.eye(2))
    >>> metric.update(torch.tensor([[3.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1]))
    >>> metric.compute().item()
    0.5
    """

    higher_is_better = True
    correct: Tensor
    total: Tensor
    _means: Tensor | None = None
    _centre: Tensor

    def __init__(self, K: int, d: int, **kwargs: Any) -> None:
        super().__init__(K, d, **kwargs)
        self.add_state("correct", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", torch.tensor(0), dist_reduce_fx="sum")

    def set_class_means(self, means: Tensor, seen: Tensor | None = None) -> None:
        """Set the class means to compare features with; they are copied.

        Parameters
        ----------
        means : Tensor, shape (K, d)
            Means of unit features, one class per row.
        seen : Tensor of bool, shape (K,), optional
            The classes that have a mean; all by default.

        Raises
        ------
        ValueError
            If they are not such tensors.
        """
        means = check_classifier(means, self.K, self.d, name="means").detach().double()
        self._centre = means.mean(0)  # distances do not change, and a common offset does not cause cancellation
        means = means - self._centre
        offsets = means.square().sum(1) / 2
        if seen is not None:
            wanted = f"seen must be a tensor of bool of shape ({self.K},), true somewhere; got {seen!r}"
            if not isinstance(seen, Tensor) or seen.dtype != torch.bool or seen.shape != (self.K,):
                raise ValueError(wanted)
            check_alike(means, check_dense(seen, "seen"), ("means", "seen"), dtype=False)
            if not seen.any():
                raise ValueError(wanted)
            offsets = offsets.masked_fill(~seen, torch.inf)
        self._means = torch.column_stack([means, offsets])

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Accumulate a batch of features (N, d) and labels (N,)."""
        self.check_batch(features, labels)
        if self._means is None:
            raise ValueError("NearestClassMeanAccuracy has no class means; call set_class_means(means) first")
        self.check_device(self._means, "class means")
        h = unit_rows(features.detach().double()) - self._centre
        best = h.new_full((len(h),), -torch.inf)
        nearest = torch.full_like(best, -1, dtype=torch.int64)
        step = max(1, TILE // len(h))
        for start in range(0, self.K, step):
            means = self._means[start : start + step]
            # |h - m|^2 = |h|^2 - 2 (<h, m> - |m|^2 / 2)
            score, index = (h @ means[:, :-1].T - means[:, -1]).max(1)
            nearest = torch.where(score > best, start + index, nearest)
            best = torch.maximum(score, best)
        self.correct = self.correct + (nearest == labels).sum()
        self.total = self.total + len(h)

    def compute(self) -> Tensor:
        """Accuracy over all accumulated features."""
        if not self.total:
            raise ValueError("nothing to compute: no features were seen; call update(features, labels) first")
        return self.correct.double() / self.total
