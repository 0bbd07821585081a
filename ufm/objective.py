r"""Value and gradient of the objectives on a batch of runs.

With :math:`s_i = \log \sum_{j \ne y_i} e^{\langle w_j - w_{y_i}, h_i\rangle/\tau}`, the log-odds of the wrong classes,

.. math::
    L = \frac1N \sum_i \log(1 + e^{s_i}), \qquad
    \tau \log L, \qquad
    \max_i \max_{j \ne y_i} \langle w_j - w_{y_i}, h_i\rangle

are "cross-entropy", "log-cross-entropy" and "hardmax". The second tends to the third as tau falls. It has the
minimisers of the first, but its gradient does not underflow.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from softmaxcode.nn.functional import log_softplus
from softmaxcode.nn.tiles import best_wrong_class
from ufm import parallel
from ufm.settings import SMALL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ufm.parallel import Shard

#: Logits of a batch of small runs in memory at once. They fit in a cache on the CPU and take half a gigabyte on a GPU.
CHUNK = {"cpu": 2**18, "cuda": 2**26}


class Evaluated(NamedTuple):
    """Objectives (B,) and Euclidean gradients (B, K, d) and (B, N, d)."""

    values: Tensor
    grad_W: Tensor
    grad_H: Tensor


class Objective:
    """The objective of a batch of runs of one kind.

    Parameters
    ----------
    kind : str
        One of ``ufm.settings.OBJECTIVES``.
    labels : Tensor of int64, shape (N,)
        The class of each feature of this process.
    samples : int
        Features of all processes.
    weight_decay : float
        Half of it times the squared norms of W and H is added to the objective.
    shard : Shard
        The classes of this process.
    """

    def __init__(self, kind: str, labels: Tensor, samples: int, weight_decay: float, shard: Shard) -> None:
        self.kind, self.labels, self.samples, self.weight_decay, self.shard = kind, labels, samples, weight_decay, shard
        self._pool: ThreadPoolExecutor | None = None

    @torch.no_grad()
    def __call__(self, W: Tensor, H: Tensor, temperatures: Tensor) -> Evaluated:
        """Values and gradients at W (B, K, d), H (B, N, d) and temperatures (B,)."""
        if self.kind == "hardmax":
            found = [self._hardmax(w, h) for w, h in zip(W, H, strict=True)]
        elif self.shard.ranks == 1 and len(self.labels) * W.shape[1] <= SMALL:
            size = max(1, CHUNK.get(W.device.type, CHUNK["cpu"]) // (len(self.labels) * W.shape[1]))
            parts = zip(W.split(size), H.split(size), temperatures.split(size), strict=True)
            found = list(self._map(self._dense, *zip(*parts, strict=True)))
        else:
            found = [self._tiled(*part) for part in zip(W, H, temperatures, strict=True)]
        values, grad_W, grad_H = (
            torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*found, strict=True)
        )
        if self.weight_decay:
            squares = W.square().sum((1, 2)) + H.square().sum((1, 2))
            values = values + self.weight_decay / 2 * self.shard.sum(squares)
            grad_W.add_(W, alpha=self.weight_decay)
            grad_H.add_(H, alpha=self.weight_decay)
        return Evaluated(values, grad_W, grad_H)

    def _map(self, function: Callable[..., Evaluated], *arguments: tuple[Tensor, ...]) -> Iterable[Evaluated]:
        """The parts one after another, or on the CPU side by side: they are too small to be split further."""
        if len(arguments[0]) == 1 or arguments[0][0].device.type != "cpu":
            return map(function, *arguments)
        if self._pool is None:
            self._pool = ThreadPoolExecutor(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None)
        return self._pool.map(function, *arguments)

    def _of_log_odds(self, s: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        """Objectives (B,) of the log-odds (B, N), and their derivatives (B, N)."""
        logs = log_softplus(s)
        if self.shard.ranks == 1:
            total = logs.logsumexp(1)
        else:
            total = self.shard.logsumexp(logs[0])[None]
        log_loss = total - math.log(self.samples)
        if self.kind == "cross-entropy":
            return log_loss.exp(), s.sigmoid() / self.samples
        # sigmoid(s_i) / softplus(s_i) times the fraction of sample i in the loss
        return temperatures * log_loss, temperatures[:, None] * (logsigmoid(s) - total[:, None]).exp()

    def _dense(self, W: Tensor, H: Tensor, temperatures: Tensor) -> Evaluated:
        """Logits of a few runs at once; the terms of the gradient overwrite them."""
        scaled = H / temperatures[:, None, None]
        C = torch.bmm(scaled, W.mT)
        y = self.labels.expand(len(W), -1)[:, :, None]
        own = C.gather(2, y)
        C.scatter_(2, y, -math.inf)
        top = C.amax(2, keepdim=True)
        sums = C.sub_(top).exp_().sum(2, keepdim=True)
        values, slopes = self._of_log_odds((top - own + sums.log()).squeeze(2), temperatures)
        C.mul_(slopes[:, :, None] / sums)
        C.scatter_(2, y, -slopes[:, :, None])
        return Evaluated(values, torch.bmm(C.mT, scaled), torch.bmm(C, W) / temperatures[:, None, None])

    def _tiled(self, W: Tensor, H: Tensor, temperature: Tensor) -> Evaluated:
        """One run whose logits are never stored."""
        w, h = W.detach().requires_grad_(), H.detach().requires_grad_()
        with torch.enable_grad():
            s = parallel.log_odds(h, w, self.labels, float(temperature), self.shard)
        values, slopes = self._of_log_odds(s.detach()[None], temperature[None])
        grad_W, grad_H = torch.autograd.grad(s, (w, h), slopes[0])
        return Evaluated(values, grad_W[None], grad_H[None])

    def _hardmax(self, W: Tensor, H: Tensor) -> Evaluated:
        """A subgradient: that of one feature and one wrong class with the largest negative logit margin."""
        best = best_wrong_class(H, W, self.labels, False)
        negative_margins = ((W[best] - W[self.labels]) * H).sum(1)
        i = int(negative_margins.argmax())
        j, y = int(best[i]), int(self.labels[i])
        grad_W, grad_H = torch.zeros_like(W), torch.zeros_like(H)
        grad_W[j], grad_W[y] = H[i], -H[i]
        grad_H[i] = W[j] - W[y]
        return Evaluated(negative_margins[i][None], grad_W[None], grad_H[None])
