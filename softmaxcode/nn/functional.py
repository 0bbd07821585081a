"""Losses of a classifier on the sphere that never store the N x K logits: cross-entropy, its logarithm, HardMax."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from softmaxcode.checks.arguments import check_temperature
from softmaxcode.checks.tensors import (
    check_alike,
    check_classifier,
    check_features,
    check_labels,
    under_autocast,
    unit_rows,
)
from softmaxcode.nn import tiles

#: Below this s, log(log(1 + e^s)) = s - e^s/2 + ... equals s to double precision.
FAR = -40.0


def _checked(features: Any, weight: Any, labels: Any, normalize: bool) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Features, weight and labels for `tiles`, and whether `tiles` still has to check their values."""
    weight = check_classifier(weight, name="weight")
    check_features(features, weight.shape[1])
    check_labels(labels, weight.shape[0], features.shape[0])
    features = under_autocast(features, weight)
    check_alike(features, weight, ("features", "weight"))
    check_alike(features, labels, ("features", "labels"), dtype=False)
    if features.dtype not in (torch.float32, torch.float64):
        features, weight = features.float(), weight.float()
    if normalize:
        features, weight = unit_rows(features), unit_rows(weight)
    return features, weight, labels.long(), torch.compiler.is_compiling()


def _check_reduction(reduction: Any, known: tuple[str, ...]) -> None:
    if reduction not in known:
        raise ValueError(f"reduction must be one of {', '.join(map(repr, known))}; got {reduction!r}")


def log_softplus(s: Tensor) -> Tensor:
    """log(log(1 + e^s)) and its derivative sigmoid(s) / softplus(s), for any s."""
    far = s < FAR
    near = torch.where(far, 0.0, s)  # both branches are finite, so neither makes the other's gradient NaN
    return torch.where(far, s, (-torch.nn.functional.logsigmoid(-near)).log())


def log_odds_against(
    features: Tensor, weight: Tensor, labels: Tensor, temperature: float, *, normalize: bool = True
) -> Tensor:
    r"""Log-odds of all wrong classes together against the label, one per sample.

    .. math:: s_i = \log \sum_{j \ne y_i} \exp(\langle w_j - w_{y_i}, h_i\rangle / \tau)

    The cross-entropy of sample i is :math:`\log(1 + e^{s_i})`, which underflows to 0 where :math:`s_i` does not.

    Parameters
    ----------
    features : Tensor, shape (N, d)
        One sample per row, N >= 1.
    weight : Tensor, shape (K, d)
        The classifier, one class per row, K >= 2. Its gradient is computed only if it needs one.
    labels : Tensor of integers, shape (N,)
        Classes from 0 to K - 1.
    temperature : float
        The temperature tau, above 0.
    normalize : bool
        Scale the rows of both to unit norm first, differentiably; a row of zeros stays zero.

    Returns
    -------
    Tensor, shape (N,)
        The log-odds, differentiable once, of the dtype of ``weight``; float32 for a half-precision one.

    Raises
    ------
    ValueError
        If the temperature is not above 0, a label is out of range, or an entry is not finite. Also if shapes, dtypes or
        devices do not match. While `torch.compile` traces, values are checked when the compiled code runs.

    Notes
    -----
    Time is O(N K d) and memory O((N + K) d) plus one tile of logits, forward and backward. Under `torch.autocast` the
    features are cast to the dtype of ``weight``, and products are taken in it. Half-precision input is computed in
    float32. Rounding moves a log-odds by about the machine epsilon divided by tau. TF32, where PyTorch is set to use
    it, moves it by about a thousandth divided by tau.

    Examples
    --------
    >>> import torch
    >>> W = torch.eye(2, dtype=torch.float64)
    >>> log_odds_against(W, W, torch.tensor([0, 1]), 0.01).tolist()
    [-100.0, -100.0]
    """
    temperature = check_temperature(temperature)
    h, w, y, check_values = _checked(features, weight, labels, normalize)
    if not check_values and temperature * torch.finfo(h.dtype).max < 4:
        raise ValueError(f"temperature {temperature:g} is too small for {h.dtype}: its logits overflow")
    return tiles.log_odds_against(h / temperature, w, y, check_values)


def spherical_cross_entropy(
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    temperature: float,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    log: bool = False,
) -> Tensor:
    r"""Cross-entropy of cosine logits at a temperature, for any number of classes.

    .. math:: L = \frac1N \sum_i \log\Bigl(1 + \sum_{j \ne y_i} e^{\langle w_j - w_{y_i}, h_i\rangle/\tau}\Bigr)

    Parameters
    ----------
    features : Tensor, shape (N, d)
        One sample per row, N >= 1.
    weight : Tensor, shape (K, d)
        The classifier, one class per row, K >= 2. Its gradient is computed only if it needs one.
    labels : Tensor of integers, shape (N,)
        Classes from 0 to K - 1.
    temperature : float
        The temperature tau, above 0.
    normalize : bool
        Scale the rows of both to unit norm first, differentiably; a row of zeros stays zero.
    reduction : {"mean", "sum", "none"}
        Mean or sum over the samples, or one loss per sample.
    log : bool
        Return log L instead, for the mean, the sum or each sample's loss. It is finite, with a correct gradient, where
        L underflows to 0.

    Returns
    -------
    Tensor, shape () or (N,)
        The loss, differentiable once, of the dtype of ``weight``; float32 for a half-precision one.

    Raises
    ------
    ValueError
        If ``reduction`` is unknown, and as `log_odds_against`.

    Notes
    -----
    Let :math:`s_i` be that of `log_odds_against`. Then :math:`L_i = \log(1 + e^{s_i})` and, where :math:`s_i \ll 0`,
    :math:`\log L_i = s_i - e^{s_i}/2 + \dots`. The logarithm of a mean is a log-sum-exp of these. Memory and precision
    are those of `log_odds_against`. A loss value certifies a margin: ``docs/theory.md``, T6.

    Examples
    --------
    >>> import torch
    >>> W = torch.eye(2, dtype=torch.float64)
    >>> y = torch.tensor([0, 1])
    >>> spherical_cross_entropy(W, W, y, 0.001).item()
    0.0
    >>> spherical_cross_entropy(W, W, y, 0.001, log=True).item()
    -1000.0
    """
    _check_reduction(reduction, ("mean", "sum", "none"))
    s = log_odds_against(features, weight, labels, temperature, normalize=normalize)
    if not log:
        losses = -torch.nn.functional.logsigmoid(-s)
        return losses if reduction == "none" else losses.mean() if reduction == "mean" else losses.sum()
    logs = log_softplus(s)
    if reduction == "none":
        return logs
    total = logs.logsumexp(0)
    return total - math.log(logs.shape[0]) if reduction == "mean" else total


def hardmax_loss(
    features: Tensor, weight: Tensor, labels: Tensor, *, normalize: bool = True, reduction: str = "max"
) -> Tensor:
    r"""The HardMax objective: the largest negative logit margin (cosine of a wrong class minus that of the label).

    .. math:: \max_i \max_{j \ne y_i} \langle w_j - w_{y_i}, h_i\rangle

    Its minimum over unit rows is minus the margin :math:`\rho^\star` of a Softmax Code.

    Parameters
    ----------
    features : Tensor, shape (N, d)
        One sample per row, N >= 1.
    weight : Tensor, shape (K, d)
        The classifier, one class per row, K >= 2.
    labels : Tensor of integers, shape (N,)
        Classes from 0 to K - 1.
    normalize : bool
        Scale the rows of both to unit norm first, differentiably; a row of zeros stays zero.
    reduction : {"max", "none"}
        The largest over the samples, or one value per sample.

    Returns
    -------
    Tensor, shape () or (N,)
        The value. Its gradient is a subgradient, that of one best wrong class per sample.

    Raises
    ------
    ValueError
        If ``reduction`` is unknown, a label is out of range, an entry is not finite, or shapes, dtypes or devices do
        not match.

    References
    ----------
    Jiang et al., ICML 2024 (arXiv:2310.05351); docs/theory.md, T6.

    Examples
    --------
    >>> import torch
    >>> W = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    >>> hardmax_loss(W, W, torch.tensor([0, 1])).item()
    -2.0
    """
    _check_reduction(reduction, ("max", "none"))
    h, w, y, check_values = _checked(features, weight, labels, normalize)
    best = tiles.best_wrong_class(h, w, y, check_values)
    negative_margins = ((w[best] - w[y]) * h).sum(1)
    return negative_margins if reduction == "none" else negative_margins.max()
