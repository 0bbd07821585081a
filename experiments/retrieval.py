"""Retrieval and verification of features by cosine similarity."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from pytorch_metric_learning.distances import CosineSimilarity
from pytorch_metric_learning.utils.accuracy_calculator import AccuracyCalculator
from pytorch_metric_learning.utils.inference import CustomKNN

from softmaxcode.checks.arguments import check_number
from softmaxcode.checks.tensors import check_features, unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

#: The most samples: the similarities of all their pairs are in memory at once, 200 MB for 10,000.
MAX_SAMPLES = 10_000
#: The fewest false acceptances at which a rate is measured; with fewer, chance decides.
MIN_FALSE = 10
#: Rows of a tile of similarities.
_ROWS = 500


def tar_name(far: float) -> str:
    """The name of the true acceptance rate at a false acceptance rate.

    Examples
    --------
    >>> tar_name(1e-3)
    'TAR@FAR=0.001'
    """
    return f"TAR@FAR={far:g}"


def retrieval_measurements(features: Tensor, labels: Tensor, far: Sequence[float] = (1e-3, 1e-2)) -> dict[str, float]:
    r"""Recall@1, MAP@R and the true acceptance rates of verification, with every sample as a query against all others.

    Let R be the number of other samples of a query's class, and P(i) their fraction among its i nearest samples:

    .. math:: \mathrm{MAP@R} = \frac1N \sum_q \frac{1}{R_q} \sum_{i \le R_q}
        [\text{the i-th is of the class of q}]\, P_q(i) .

    Verification accepts a pair whose cosine exceeds a threshold t. The lowest t is used at which at most the fraction
    FAR of the pairs of two classes is accepted. TAR is the fraction of the pairs of one class that it accepts.

    Parameters
    ----------
    features : Tensor, shape (N, d)
        Of any norm, since only cosines count. At most 10,000 samples.
    labels : Tensor of integers, shape (N,)
        Classes. A sample that is alone in its class is not used as a query.
    far : sequence of float
        False acceptance rates, each between 0 and 1.

    Returns
    -------
    dict
        ``"Recall@1"``, ``"MAP@R"`` and ``"TAR@FAR=0.001"`` for each rate: fractions from 0 to 1. A TAR is NaN if fewer
        than ten false acceptances would be allowed.

    Raises
    ------
    ValueError
        If the features are not a finite floating-point tensor of this shape. Also if the labels are not N integers of
        at least two classes, one of them with two samples. Also if there are more than 10,000 samples, or a rate is out
        of range.

    References
    ----------
    K. Musgrave, S. Belongie and S.-N. Lim, A metric learning reality check, ECCV 2020, arXiv 2003.08505 (MAP@R).

    Examples
    --------
    >>> H = torch.tensor([[1.0, 0.0], [2.0, 0.1], [0.0, 1.0], [0.1, 3.0]])
    >>> retrieval_measurements(H, torch.tensor([0, 0, 1, 1]), far=())
    {'Recall@1': 1.0, 'MAP@R': 1.0}
    """
    check_features(features)
    N = len(features)
    if not isinstance(labels, torch.Tensor) or labels.shape != (N,) or labels.dtype.is_floating_point:
        got = tuple(labels.shape) if isinstance(labels, torch.Tensor) else type(labels).__name__
        raise ValueError(f"labels must be a tensor of {N} integers, one for each row of features; got {got}")
    if N > MAX_SAMPLES:
        raise ValueError(f"retrieval is over all pairs of at most {MAX_SAMPLES} samples; got {N}: take fewer classes")
    counts = torch.unique(labels, return_counts=True)[1]
    if len(counts) < 2 or counts.max() < 2:
        raise ValueError(
            f"retrieval needs at least two classes, one of them with two samples; got {len(counts)} of at most "
            f"{counts.max()}"
        )
    for rate in far:
        check_number("a rate of far", rate, 0, 1, "()")
    H, y = unit_rows(features.detach().cpu().float()), labels.cpu()
    neighbours = AccuracyCalculator(
        include=("precision_at_1", "mean_average_precision_at_r"),
        k="max_bin_count",
        device=torch.device("cpu"),
        knn_func=CustomKNN(CosineSimilarity(), batch_size=_ROWS),
    )
    # the library stores labels as float32, which distinguishes integers up to 2^24 only
    found = neighbours.get_accuracy(H, torch.unique(y, return_inverse=True)[1])
    genuine, impostor = _pair_similarities(H, y)
    return {
        "Recall@1": found["precision_at_1"],
        "MAP@R": found["mean_average_precision_at_r"],
        **{tar_name(rate): _true_acceptance(genuine, impostor, rate) for rate in far},
    }


def _pair_similarities(H: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Cosines of all pairs of unit rows, each pair once: those within a class, and those of two classes."""
    genuine, impostor = [], []
    for start in range(0, len(H), _ROWS):
        rows = slice(start, start + _ROWS)
        cosines = H[rows] @ H[start:].T
        once = torch.ones_like(cosines, dtype=torch.bool).triu(diagonal=1)
        same = y[rows, None] == y[start:]
        genuine.append(cosines[once & same].numpy())
        impostor.append(cosines[once & ~same].numpy())
    return np.concatenate(genuine), np.concatenate(impostor)


def _true_acceptance(genuine: np.ndarray, impostor: np.ndarray, far: float) -> float:
    allowed = math.floor(far * len(impostor))
    if allowed < MIN_FALSE:
        return math.nan
    # the largest refused cosine of two classes: a pair that exceeds it is accepted
    threshold = np.partition(impostor, len(impostor) - 1 - allowed)[len(impostor) - 1 - allowed]
    return float((genuine > threshold).mean())
