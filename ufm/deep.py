"""The deep unconstrained feature model: logits W_L ... W_1, unregularised cross-entropy, gradient descent."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from softmaxcode.checks.arguments import check_integer, check_memory, check_number, check_positive
from softmaxcode.nn.functional import FAR
from softmaxcode.parallel.torch_threads import one_thread
from ufm.low_rank import RANK_THRESHOLD, code_costs, low_rank_code, ranks, schatten_cost

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ufm.low_rank import LowRankCode


__all__ = ["DeepRun", "code_costs", "low_rank_code", "ranks", "schatten_cost", "simulate_deep"]

#: Approximate number of copies of the weights in memory during a step.
COPIES = 4
#: A factor of up to this many entries is small: its products are computed on one core.
SMALL = 2**16
#: Approximate default number of rows of the history per seed.
RECORDS = 200
#: The length of a step aims at this fraction of the tolerance, and changes by at most these factors at once.
SAFETY, SHRINK, GROW = 0.9, 0.5, 1.2


@dataclass(frozen=True, eq=False)
class DeepRun:
    """What `simulate_deep` returns: B runs, one per seed.

    Attributes
    ----------
    K, depth, width : int
        Classes, number of factors L and their inner dimension.
    seeds : tuple of int
        The seed of each run.
    weights : tuple of Tensor
        W_1 of shape (B, width, K), then (B, width, width), ..., and W_L of shape (B, K, width); float64. The columns
        of W_1 are the free features, one per class.
    history : DataFrame
        One row per seed and recorded step, with the columns

        * ``seed``, ``step`` (gradient evaluations so far), ``log_loss`` (natural logarithm of the mean cross-entropy);
        * ``margin``: the smallest logit margin, min over k and j != k of z_kk - z_jk. All samples are classified
          correctly where it is positive;
        * ``effective_rank``, ``stable_rank``, ``rank`` of Z (see `ranks`);
        * ``cost``: of Z scaled to margin 1 (see `schatten_cost`); NaN where the margin is not positive;
        * ``alignment``: cosine of all weights together with the negative gradient. It tends to 1 if their direction
          tends to a KKT point (Ji and Telgarsky 2020).
    """

    K: int
    depth: int
    width: int
    seeds: tuple[int, ...]
    weights: tuple[Tensor, ...]
    history: pd.DataFrame

    @functools.cached_property
    def logits(self) -> Tensor:
        """Z = W_L ... W_1, shape (B, K, K): column k contains the logits of the sample of class k."""
        return _products(self.weights)[-1]

    @functools.cached_property
    def singular_values(self) -> Tensor:
        """Singular values of the logits in decreasing order, shape (B, K)."""
        return torch.linalg.svdvals(self.logits)

    def rank(self, threshold: float = RANK_THRESHOLD) -> np.ndarray:
        """Singular values above ``threshold`` times the largest, for each seed: integer array, shape (B,)."""
        return ranks(self.singular_values, threshold)["rank"].numpy()

    def code(self, index: int = 0, r: int | None = None) -> LowRankCode:
        """The code of one run, computed from its logits by `low_rank_code`.

        Parameters
        ----------
        index : int
            Index in ``seeds``, counted from 0.
        r : int, optional
            Rank at which the logits are truncated; `rank` by default.

        Returns
        -------
        LowRankCode
            Classifier, features and their measurements.

        Raises
        ------
        ValueError
            If r is not an integer from 1 to K.
        """
        return low_rank_code(self.logits[index].numpy(), int(self.rank()[index]) if r is None else r)


def simulate_deep(
    K: int,
    depth: int,
    width: int | None = None,
    *,
    seed: int = 0,
    seeds: int = 1,
    steps: int = 3000,
    scale: float = 1.0,
    tolerance: float = 0.05,
    record_every: int | None = None,
) -> DeepRun:
    r"""Train a deep unconstrained feature model without regularisation, far into the terminal phase.

    .. math:: \min_{W_1, \dots, W_L} \; \mathcal L(Z) = \frac1K \sum_k
              \log\Bigl(1 + \sum_{j \ne k} e^{z_{jk} - z_{kk}}\Bigr), \qquad Z = W_L \cdots W_1

    Parameters
    ----------
    K : int
        Number of classes, at least 2, with one sample each.
    depth : int
        Number of factors L, at least 2. Depth 2 is the standard model of a classifier and free features.
    width : int, optional
        Inner dimension of the factors, at least 1; K by default. There is no bottleneck if it is at least K - 1.
    seed : int
        Seed of the first run, at least 0.
    seeds : int
        Number of runs B, at least 1, with seeds ``seed``, ``seed + 1``, .... They are trained as one batch.
    steps : int
        Gradient evaluations, at least 1.
    scale : float
        Size of the initial weights. The entries of each factor are normal with standard deviation ``scale`` over the
        square root of its number of columns. ``torch.Generator().manual_seed(seed)`` draws them in the order
        W_1, ..., W_L, in float64.
    tolerance : float
        The fraction, between 0 and 1, by which the gradient may change within a step.
    record_every : int, optional
        Evaluations between two rows of the history; by default there are about 200 rows per seed. The start and the end
        are always included.

    Returns
    -------
    DeepRun
        Weights, logits, history, and the codes computed from them.

    Raises
    ------
    ValueError
        If an argument is not as above. Also if ``scale`` is so large that the logits overflow, or so small that the
        gradient vanishes.

    Notes
    -----
    A step descends the logarithm of the loss, all factors at once:

    .. math:: W_l \leftarrow W_l - h\, \nabla_{W_l} \log \mathcal L
              = W_l - \frac{h}{\mathcal L} (W_L \cdots W_{l+1})^\top \nabla_Z \mathcal L \, (W_{l-1} \cdots W_1)^\top .

    *The path is that of gradient flow.* Let :math:`\theta` be all weights together. As h tends to 0 the steps follow
    :math:`\dot\theta = -\nabla \log \mathcal L(\theta) = -\nabla \mathcal L(\theta) / \mathcal L(\theta)`. Let
    :math:`u(t) = \int_0^t \mathrm ds / \mathcal L(\theta(s))`. Then :math:`\mathrm d\theta / \mathrm du = -\nabla
    \mathcal L(\theta)`, which is gradient flow of the loss itself. The curve is the same, and only the speed along it
    differs.

    The same is true for any positive factor, so h may vary. A step is accepted if it changes the gradient of log L by
    at most ``tolerance`` times the gradient's norm before the step. A step that fails, or is not finite, is repeated
    with half of h or less. So the weights stay finite, and a run cannot diverge.

    Log L is evaluated without forming L, which underflows: in this phase log L falls about linearly with the steps.

    The factors are initially nearly balanced: the flow conserves :math:`W_{l+1}^\top W_{l+1} - W_l W_l^\top`, of order
    ``scale`` squared, while the weights grow without bound. ``docs/deep-ufm.md`` explains where the path leads and what
    rank to expect.

    References
    ----------
    C. Garrod, J. P. Keating, C. Thrampoulidis, The Implicit Bias of Depth: From Neural Collapse to Softmax Codes,
    ICML 2026, arXiv:2605.23087.
    Z. Ji, M. Telgarsky, Directional convergence and alignment in deep learning, NeurIPS 2020.

    Examples
    --------
    >>> shallow, deep = (simulate_deep(6, depth, steps=500) for depth in (2, 6))
    >>> shallow.rank().tolist(), deep.rank().tolist()
    ([5], [2])
    >>> bool(deep.history.log_loss.iloc[-1] < -100)
    True
    """
    K = check_integer("K", K, 2)
    depth = check_integer("depth", depth, 2)
    width = K if width is None else check_integer("width", width, 1)
    first = check_integer("seed", seed, 0)
    count = check_integer("seeds", seeds, 1)
    steps = check_integer("steps", steps, 1)
    scale = check_positive("scale", scale)
    tolerance = check_number("tolerance", tolerance, 0, 1, "()")
    every = max(1, steps // RECORDS) if record_every is None else check_integer("record_every", record_every, 1)

    numbers = count * (K * width * 2 + width * width * max(0, depth - 2) + K * K)
    check_memory(
        f"simulating K = {K} at depth {depth}, width {width}, {count} seeds",
        8 * COPIES * numbers,
        "take fewer classes, layers or seeds, or a smaller width",
    )
    names = tuple(range(first, first + count))
    with one_thread(max(K, width) * width <= SMALL):
        runs = [_start(K, depth, width, scale, s) for s in names]
        start = _evaluate([torch.stack(layer) for layer in zip(*runs, strict=True)])
        norms = _norms(start.gradient)
        if not (torch.isfinite(start.Z).all() and torch.isfinite(norms).all()):
            raise ValueError(f"scale {scale:g} is too large at depth {depth}: the first logits or gradients overflow")
        if not norms.all():
            raise ValueError(f"scale {scale:g} is too small at depth {depth}: the first gradient vanishes to rounding")
        rows = []
        for step, point in enumerate(_descent(start, tolerance, steps)):
            if step % every == 0 or step == steps:
                rows.append(_record(point, depth, names, step))
    history = pd.concat(rows).sort_values(["seed", "step"], kind="stable", ignore_index=True)
    return DeepRun(K, depth, width, names, tuple(point.weights), history)


# One batch of runs


@dataclass(frozen=True, eq=False)
class _Point:
    """Weights of B runs, with their logits (B, K, K), log losses and margins (B,), and the gradient of the log loss."""

    weights: list[Tensor]
    Z: Tensor
    log_loss: Tensor
    margin: Tensor
    gradient: list[Tensor]


def _start(K: int, depth: int, width: int, scale: float, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    dims = [K, *[width] * (depth - 1), K]
    return [
        torch.randn(rows, columns, generator=generator, dtype=torch.float64) * (scale / math.sqrt(columns))
        for columns, rows in itertools.pairwise(dims)
    ]


def _products(weights: list[Tensor] | tuple[Tensor, ...]) -> list[Tensor]:
    """W_1, W_2 W_1, ..., W_L ... W_1."""
    out = [weights[0]]
    for W in weights[1:]:
        out.append(W @ out[-1])
    return out


def _evaluate(weights: list[Tensor]) -> _Point:
    products = _products(weights)
    log_loss, margin, G = _log_loss(products[-1])
    gradient = []
    for W, product in zip(reversed(weights[1:]), reversed(products[:-1]), strict=True):
        gradient.append(G @ product.mT)
        G = W.mT @ G
    return _Point(weights, products[-1], log_loss, margin, [G, *reversed(gradient)])


def _log_loss(Z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Log of the mean cross-entropy of (B, K, K) logits, their smallest margins, and the gradient by the logits.

    With a_k the log-sum-exp of z_jk - z_kk over j != k, sample k has the loss l_k = log(1 + e^{a_k}), and

        d log L / d a_k = sigmoid(a_k) / sum_i l_i,    d a_k / d z_jk = softmax over j != k,    d a_k / d z_kk = -1.
    """
    own = torch.eye(Z.shape[-1], dtype=torch.bool)
    gaps = (Z - Z.diagonal(dim1=1, dim2=2)[:, None, :]).masked_fill(own, -math.inf)
    a = gaps.logsumexp(dim=1)
    # below FAR, log(log(1 + e^a)) is a to double precision
    logs = torch.where(a < FAR, a, (-torch.nn.functional.logsigmoid(-a.clamp(min=FAR))).log())
    total = logs.logsumexp(dim=1)
    fraction = torch.exp(torch.nn.functional.logsigmoid(a) - total[:, None])
    G = torch.exp(gaps - a[:, None, :]) * fraction[:, None, :]
    return total - math.log(Z.shape[-1]), -gaps.amax(dim=(1, 2)), G - torch.diag_embed(fraction)


def _descent(point: _Point, tolerance: float, steps: int) -> Iterator[_Point]:
    """The start, and the point after each of ``steps`` evaluations of the gradient."""
    yield point
    h = tolerance * _norms(point.weights) / _norms(point.gradient)
    for _ in range(steps):
        trial = _evaluate([W - h[:, None, None] * G for W, G in zip(point.weights, point.gradient, strict=True)])
        difference = [new - old for new, old in zip(trial.gradient, point.gradient, strict=True)]
        change = torch.nan_to_num(_norms(difference) / _norms(point.gradient), nan=math.inf)
        accepted = (change <= tolerance) & torch.isfinite(trial.log_loss)
        h = h * (SAFETY * tolerance / change).clamp(SHRINK, GROW)
        point = _where(accepted, trial, point)
        yield point


def _norms(parts: list[Tensor]) -> Tensor:
    """Euclidean norm over all factors, shape (B,)."""
    return torch.stack([torch.linalg.matrix_norm(part) for part in parts]).norm(dim=0)


def _where(accepted: Tensor, new: _Point, old: _Point) -> _Point:
    if accepted.all():
        return new
    mask = accepted[:, None, None]
    return _Point(
        [torch.where(mask, a, b) for a, b in zip(new.weights, old.weights, strict=True)],
        torch.where(mask, new.Z, old.Z),
        torch.where(accepted, new.log_loss, old.log_loss),
        torch.where(accepted, new.margin, old.margin),
        [torch.where(mask, a, b) for a, b in zip(new.gradient, old.gradient, strict=True)],
    )


def _record(point: _Point, depth: int, seeds: tuple[int, ...], step: int) -> pd.DataFrame:
    s = torch.linalg.svdvals(point.Z)
    inner = torch.stack([(W * G).sum(dim=(1, 2)) for W, G in zip(point.weights, point.gradient, strict=True)]).sum(
        dim=0
    )
    columns = {
        "log_loss": point.log_loss,
        "margin": point.margin,
        **ranks(s),
        "cost": schatten_cost(s, point.margin, depth),
        "alignment": -inner / (_norms(point.weights) * _norms(point.gradient)),
    }
    return pd.DataFrame({"seed": seeds, "step": step} | {name: value.numpy() for name, value in columns.items()})
