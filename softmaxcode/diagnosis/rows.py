"""Norms, bias and common mean of the raw rows of a classifier, which its directions do not show."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.margins.nearest import nearest_from_bounds
from softmaxcode.parallel.deadline import Deadline
from softmaxcode.sphere import largest_cosines, row_norms, unit_rows

if TYPE_CHECKING:
    from softmaxcode.checkpoints import Classifier
    from softmaxcode.margins.nearest import NearestClasses
    from softmaxcode.types import PerClass, Rows

#: A mean below this fraction of the rows' norms changes no digit that is shown.
NO_MEAN = 1e-9
#: Logits in memory at once.
TILE_LOGITS = 2**24


@dataclass(frozen=True, eq=False)
class RawRows:
    """What the raw rows have beside their directions.

    Rows of zeros have no direction, but the head predicts them too.

    Attributes
    ----------
    norms : ndarray, shape (K,)
        The norms of the rows.
    bias : ndarray, shape (rows of the head,), or None
        The bias of all rows, which margins do not use.
    mean_cosine : float
        The mean cosine of two different rows; -1/(K - 1) where they cancel.
    centred_margin : float or None
        The margin after the mean row is subtracted, which changes no softmax. None where there is no mean, a row would
        become zero, or time was short.
    distinct_centred_margin : float or None
        The same of the classes with different directions alone.
    tested : int
        Classes whose best direction is known.
    predicted : int
        For how many of them the raw head predicts the class from its best direction, as a feature of ``feature_norm``.
    predicted_without_bias : int
        The same without the bias, where the norm of the feature does not matter.
    feature_norm : float
        The norm of the features in that test: the median of the features that were given, else 1.
    norm_is_measured : bool
        Whether features were given.
    """

    norms: PerClass
    bias: PerClass | None
    mean_cosine: float
    centred_margin: float | None
    distinct_centred_margin: float | None
    tested: int
    predicted: int
    predicted_without_bias: int
    feature_norm: float
    norm_is_measured: bool


def raw_rows(
    read: Classifier,
    row_numbers: np.ndarray,
    norms: PerClass,
    W: Rows,
    distinct: np.ndarray,
    measured: NearestClasses,
    seconds: float,
    feature_norm: float | None,
) -> RawRows:
    """Measure the rows that were read, of which those of ``row_numbers`` have a direction.

    Their norms are ``norms``, their directions ``W``; the classes ``distinct`` among them have different ones.
    """
    raw, H = read.W[row_numbers], measured.solved.H
    tested = row_numbers[measured.classes]
    mean = raw.mean(axis=0)
    centred = centred_margin(raw, mean, seconds)
    few = 1 < len(distinct) < len(raw)
    return RawRows(
        norms=norms,
        bias=read.bias,
        mean_cosine=mean_cosine(W),
        centred_margin=centred,
        distinct_centred_margin=centred_margin(raw[distinct], mean, seconds) if few else centred,
        tested=len(tested),
        predicted=predicted_classes(read.W, read.bias, tested, H, 1.0 if feature_norm is None else feature_norm),
        predicted_without_bias=predicted_classes(read.W, None, tested, H, 1.0),
        feature_norm=1.0 if feature_norm is None else feature_norm,
        norm_is_measured=feature_norm is not None,
    )


def mean_cosine(X: Rows) -> float:
    """The mean cosine of two different unit rows."""
    K = len(X)
    total = X.sum(axis=0)
    return float((total @ total - np.sum(X * X)) / (K * (K - 1)))


def centred_margin(W: Rows, mean: np.ndarray, seconds: float) -> float | None:
    """The margin of the rows minus their mean; None where a row becomes zero, there is no mean, or time was short."""
    norms = row_norms(W)
    centred = W - mean
    size = float(row_norms(mean[None])[0])
    if size <= NO_MEAN * norms.mean() or row_norms(centred).min() <= NO_MEAN * norms.max():
        return None
    X = unit_rows(centred)
    found = nearest_from_bounds(X, 1 - largest_cosines(X), 1, deadline=Deadline(seconds))
    return found.margin if found.certain else None


def predicted_classes(W: Rows, bias: PerClass | None, classes: np.ndarray, H: Rows, feature_norm: float) -> int:
    """For how many classes the head (W, bias) predicts the class from its best direction, scaled to a norm.

    Parameters
    ----------
    W : ndarray, shape (K, d)
        Raw rows.
    bias : ndarray, shape (K,), or None
        The bias.
    classes : ndarray, shape (n,)
        Rows tested.
    H : ndarray, shape (n, d)
        Their best directions, of unit norm.
    feature_norm : float
        The norm of the features.
    """
    right = 0
    step = max(1, TILE_LOGITS // len(W))
    for start in range(0, len(classes), step):
        logits = feature_norm * (H[start : start + step] @ W.T) + (0.0 if bias is None else bias)
        right += int(np.count_nonzero(logits.argmax(axis=1) == classes[start : start + step]))
    return right
