"""GNC1, GNC2 and GNC3 as research scripts evaluate them, from the description of the public code of Jiang et al.

A Python loop visits the features one by one, twice: first for the means, then for the scatter matrices. The latter take
one d x d outer product per sample, in float32. GNC1 uses the pseudo-inverse of the between-class matrix. GNC2 fixes W
and makes 10,000 steps of projected subgradient descent over H.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, normalize

#: Subgradient steps, and the first step length, which falls linearly to 0.
STEPS = 10_000
FIRST_STEP = 0.1


def moments(features: Tensor, labels: Tensor, K: int) -> tuple[Tensor, Tensor]:
    """Class means (K, d) and the within-class covariance (d, d), sample by sample."""
    d = features.shape[1]
    means = torch.zeros(K, d, dtype=features.dtype)
    counts = torch.zeros(K, dtype=features.dtype)
    for h, k in zip(features, labels, strict=True):
        means[k] += h / h.norm()
        counts[k] += 1
    means /= counts[:, None]
    within = torch.zeros(d, d, dtype=features.dtype)
    for h, k in zip(features, labels, strict=True):
        difference = h / h.norm() - means[k]
        within += torch.outer(difference, difference)
    return means, within / len(features)


def gnc1(means: Tensor, within: Tensor) -> float:
    """The trace of the within-class covariance times the pseudo-inverse of the between-class one, by K."""
    centred = means - means.mean(dim=0)
    between = torch.zeros_like(within)
    for row in centred:
        between += torch.outer(row, row)
    between /= len(means)
    return float(torch.trace(within @ torch.linalg.pinv(between))) / len(means)


def gnc3(means: Tensor, W: Tensor) -> float:
    """One minus the mean cosine between classifier rows and class means centred on their mean."""
    return 1 - float(cosine_similarity(W, means - means.mean(dim=0)).mean())


def gnc2(W: Tensor, steps: int = STEPS) -> float:
    """The margin of the unit rows of W by projected subgradient steps on every row of H."""
    W = normalize(W)
    H = W.clone()
    own = torch.eye(len(W), dtype=torch.bool)
    best = -torch.inf
    for t in range(steps):
        H.requires_grad_(True)
        values = (H * W).sum(dim=1) - (H @ W.T).masked_fill(own, -torch.inf).amax(dim=1)
        best = max(best, float(values.detach().min()))
        (gradient,) = torch.autograd.grad(values.sum(), H)
        H = normalize(H.detach() + FIRST_STEP * (1 - t / steps) * gradient)
    return best
