"""Losses of a classifier on the sphere that never store the N x K logits: cross-entropy, its logarithm, HardMax."""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from softmaxcode.checks.arguments import check_integer, check_number, check_temperature, shown
from softmaxcode.checks.tensors import (
    check_alike,
    check_classifier,
    check_dense,
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
    features: Tensor, weight: Tensor, labels: Tensor, temperature: float | Tensor, *, normalize: bool = True
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
    temperature : float or Tensor, shape ()
        The temperature tau, above 0; a tensor may be learned.
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
    h, w, y, check_values = _checked(features, weight, labels, normalize)
    temperature = _checked_temperature(temperature, h.dtype)
    return tiles.log_odds_against(h / temperature, w, y, check_values)


def spherical_cross_entropy(
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    temperature: float | Tensor,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    log: bool = False,
    ignore_index: int | None = None,
    label_smoothing: float = 0,  # an integer: `torch.compile` would treat a float as a further input
    class_weights: Tensor | None = None,
    cosine_margin: float = 0,
    angular_margin: float = 0,
) -> Tensor:
    r"""Cross-entropy of cosine logits at a temperature, for any number of classes.

    .. math:: L = \frac1N \sum_i \log\Bigl(1 + \sum_{j \ne y_i} e^{\langle w_j - w_{y_i}, h_i\rangle/\tau}\Bigr)

    Parameters
    ----------
    features : Tensor, shape (N, d) or (..., d)
        One sample per row, at least one.
    weight : Tensor, shape (K, d)
        The classifier, one class per row, K >= 2. Its gradient is computed only if it needs one.
    labels : Tensor of integers, shape (N,) or (...)
        Classes from 0 to K - 1, or ``ignore_index``.
    temperature : float or Tensor, shape ()
        The temperature tau, above 0; a tensor may be learned.
    normalize : bool
        Scale the rows of both to unit norm first, differentiably; a row of zeros stays zero.
    reduction : {"mean", "sum", "none"}
        Mean or sum over the samples, or one loss per sample.
    log : bool
        Return log L instead, for the mean, the sum or each sample's loss. It is finite, with a correct gradient, where
        L underflows to 0.
    ignore_index : int, optional
        A label, not a class, of samples that do not count. If no sample counts, L is 0, with zero gradients.
    label_smoothing : float
        From 0 to below 1: the fraction of the target's probability that is spread over all classes.
    class_weights : Tensor, shape (K,), optional
        A finite weight of at least 0 for the samples of each class; the mean is then the weighted one, as in
        `torch.nn.functional.cross_entropy`.
    cosine_margin, angular_margin : float
        The label's logit becomes :math:`(\cos(\theta + m_a) - m_c)/\tau`, with theta the angle between the feature and
        its class vector. ``cosine_margin`` is CosFace's, from 0 to 2; ``angular_margin`` is ArcFace's, in radians from
        0 to below pi. Where :math:`\theta + m_a > \pi`, the cosine becomes :math:`\cos\theta - m_a \sin m_a`, as
        usual. Both need ``normalize=True``.

    Returns
    -------
    Tensor, shape () or that of ``labels``
        The loss, differentiable once, of the dtype of ``weight``; float32 for a half-precision one.

    Raises
    ------
    ValueError
        If an option is out of range, ``ignore_index`` is a class, and as `log_odds_against`.

    Warns
    -----
    UserWarning
        If no sample counts, except while `torch.compile` traces.

    Notes
    -----
    Let :math:`s_i` be that of `log_odds_against`. Then :math:`L_i = \log(1 + e^{s_i})` and, where :math:`s_i \ll 0`,
    :math:`\log L_i = s_i - e^{s_i}/2 + \dots`. The logarithm of a mean is a log-sum-exp of these. Memory and precision
    are those of `log_odds_against`. A loss value certifies a margin: ``docs/theory.md``, T6.

    No option needs the logits either. A margin changes the label's logit alone. Smoothing needs the mean of the logits,
    which is the feature's inner product with the mean class vector.

    References
    ----------
    H. Wang et al., CosFace, CVPR 2018 (arXiv:1801.09414); J. Deng et al., ArcFace, CVPR 2019 (arXiv:1801.07698).

    Examples
    --------
    >>> import torch
    >>> W = torch.eye(2, dtype=torch.float64)
    >>> y = torch.tensor([0, 1])
    >>> spherical_cross_entropy(W, W, y, 0.001).item()
    0.0
    >>> spherical_cross_entropy(W, W, y, 0.001, log=True).item()
    -1000.0
    >>> spherical_cross_entropy(W, W, torch.tensor([0, -100]), 0.001, log=True, ignore_index=-100).item()
    -1000.0
    """
    _check_reduction(reduction, ("mean", "sum", "none"))
    smoothing = check_number("label_smoothing", label_smoothing, 0, 1, "[)")
    margins = (
        check_number("cosine_margin", cosine_margin, 0, 2, "[]"),
        check_number("angular_margin", angular_margin, 0, math.pi, "[)"),
    )
    if any(margins) and not normalize:
        raise ValueError("a margin on the cosine of the label needs unit rows: pass normalize=True")
    features, labels, shape = _flat(features, labels)
    labels, counts = _counted(labels, ignore_index, weight)
    h, w, y, check_values = _checked(features, weight, labels, normalize)
    temperature = _checked_temperature(temperature, h.dtype)
    of_class = _checked_class_weights(class_weights, w)
    s = tiles.log_odds_against(h / temperature, w, y, check_values)
    own = of_label = h.new_zeros(())
    if any(margins) or smoothing:
        target = w[y]
        own = of_label = (h * target).sum(1)
        if any(margins):
            of_label = _with_margins(own, h, target, *margins)
            s = s + (own - of_label) / temperature
    samples = None if of_class is None else of_class[y]
    if counts is not None:
        samples = counts.to(h.dtype) if samples is None else samples * counts
    if not smoothing:
        found = _reduced(s, samples, reduction, log)
        return found.reshape(shape) if reduction == "none" else found
    losses = -torch.nn.functional.logsigmoid(-s)
    every = h.new_ones(len(w)) if of_class is None else of_class
    with torch.autocast(h.device.type, enabled=False):  # it would round the logits
        of_mean = h @ (w.T @ every)
    of_all = (of_mean + every[y] * (of_label - own)) / temperature  # the weighted sum of all logits
    spread = (every.sum() * (losses + of_label / temperature) - of_all) / len(w)
    mixed = (1 - smoothing) * every[y] * losses + smoothing * spread
    total = _total(mixed if counts is None else mixed * counts, samples, reduction)
    if log:
        some = total > 0
        total = torch.where(some, torch.where(some, total, 1.0).log(), -math.inf)
    return total.reshape(shape) if reduction == "none" else total


def _flat(features: Any, labels: Any) -> tuple[Any, Any, torch.Size]:
    """Samples in rows where both have further dimensions, such as (N, T, d) and (N, T), and the shape of the labels."""
    if isinstance(labels, Tensor) and check_dense(labels, "labels", "(N,)").ndim > 1:
        if check_dense(features, "features", "(N, d)").shape[:-1] != labels.shape:
            raise ValueError(
                f"features must have the shape of labels and one dimension more, d; got {tuple(features.shape)} and "
                f"{tuple(labels.shape)}"
            )
        return features.reshape(-1, features.shape[-1]), labels.reshape(-1), labels.shape
    return features, labels, getattr(labels, "shape", torch.Size())


def _counted(labels: Any, ignore_index: int | None, weight: Any) -> tuple[Any, Tensor | None]:
    """Labels with a class in the place of ``ignore_index``, and which samples count."""
    if ignore_index is None:
        return labels, None
    ignored = check_integer("ignore_index", ignore_index, -(2**63))
    if 0 <= ignored < len(weight):
        raise ValueError(f"ignore_index must not be one of the {len(weight)} classes; got {ignored}")
    if not isinstance(labels, Tensor):
        return labels, None
    counts = labels != ignored
    if not torch.compiler.is_compiling() and not counts.any():
        warnings.warn("every label is ignore_index: the loss is 0, with zero gradients", stacklevel=3)
    return labels.masked_fill(~counts, 0), counts


def _checked_class_weights(class_weights: Any, weight: Tensor) -> Tensor | None:
    """Weights of the classes on the device of the classifier."""
    if class_weights is None:
        return None
    if not isinstance(class_weights, Tensor):
        try:
            class_weights = torch.as_tensor(class_weights)
        except (TypeError, ValueError, RuntimeError):
            raise ValueError(f"class_weights must be {len(weight)} numbers; got {shown(class_weights)}") from None
    given = check_dense(class_weights, "class_weights", f"({len(weight)},)")
    if given.shape != (len(weight),) or given.is_complex():
        raise ValueError(
            f"class_weights must have shape ({len(weight)},), one real number per class; got {given.dtype} of shape "
            f"{tuple(given.shape)}"
        )
    given = given.to(weight.device, weight.dtype)
    if not torch.compiler.is_compiling() and not bool((given >= 0).all() & given.isfinite().all()):
        raise ValueError("class_weights must be finite and at least 0")
    return given


def _checked_temperature(temperature: Any, dtype: torch.dtype) -> Any:
    """A number, or a scalar tensor that may be learned; logits of features of this dtype must not overflow."""
    value = temperature
    if not isinstance(temperature, Tensor):
        value = temperature = check_temperature(temperature)
    elif temperature.ndim != 0 or not temperature.is_floating_point():
        raise ValueError(
            f"temperature must be a number or a scalar tensor; got {temperature.dtype} of shape "
            f"{tuple(temperature.shape)}"
        )
    if torch.compiler.is_compiling():
        return temperature
    if isinstance(temperature, Tensor):
        value = check_temperature(temperature.item())
    if value * torch.finfo(dtype).max < 4:
        raise ValueError(f"temperature {value:g} is too small for {dtype}: its logits overflow")
    return temperature


def _with_margins(cosine: Tensor, h: Tensor, target: Tensor, cosine_margin: float, angular_margin: float) -> Tensor:
    """The cosine of the label after its margins; ``target`` are the class vectors of the labels."""
    if not angular_margin:
        return cosine - cosine_margin
    # the length of the part across the class vector: accurate, with a bounded gradient, where the angle is small
    sine = torch.linalg.vector_norm(h - cosine[:, None] * target, dim=1)
    turned = cosine * math.cos(angular_margin) - sine * math.sin(angular_margin)
    beyond = cosine < -math.cos(angular_margin)
    return torch.where(beyond, cosine - angular_margin * math.sin(angular_margin), turned) - cosine_margin


def _reduced(s: Tensor, samples: Tensor | None, reduction: str, log: bool) -> Tensor:
    """Losses log(1 + e^s), each times the weight of its sample, or their logarithm; the mean is the weighted one."""
    if not log:
        losses = -torch.nn.functional.logsigmoid(-s)
        return _total(losses if samples is None else samples * losses, samples, reduction)
    logs = log_softplus(s)
    if samples is None:
        total = logs.logsumexp(0)
        return logs if reduction == "none" else total - math.log(len(s)) if reduction == "mean" else total
    logs = torch.where(samples > 0, logs + samples.log(), -math.inf)
    if reduction == "none":
        return logs
    some = samples.sum() > 0
    total = torch.where(some, logs, 0.0).logsumexp(0)
    if reduction == "mean":
        total = total - torch.where(some, samples.sum(), 1.0).log()
    return torch.where(some, total, -math.inf)


def _total(losses: Tensor, samples: Tensor | None, reduction: str) -> Tensor:
    """Losses that are weighted already, their sum, or their sum over that of the weights, 0 where no sample counts."""
    if reduction == "none":
        return losses
    if reduction == "sum" or samples is None:
        return losses.sum() if reduction == "sum" else losses.mean()
    weights = samples.sum()
    return losses.sum() / torch.where(weights > 0, weights, 1.0)


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
