"""What a PyTorch user does for spread vectors: Adam on a loss of normalised rows, for a given time.

The losses are those of the literature, over a batch of rows against all others:

* ``LSE``: log-sum-exp of the cosines, whose inverse temperature grows from 4 to 4096;
* ``MHE``: minimum hyperspherical energy, the mean of 1 / distance^2 (Liu et al. 2018);
* ``uniformity``: the logarithm of the mean of exp(-2 distance^2) (Wang and Isola 2020).
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

    from softmaxcode.types import Rows

LOSSES = ("LSE", "MHE", "uniformity")
#: Adam's first learning rate; it falls linearly to 0 at the end of the time.
LEARNING_RATE = 0.03
#: Inverse temperatures of the log-sum-exp at the beginning and at the end.
FIRST_BETA, LAST_BETA = 4.0, 4096.0
#: The most cosines of one step: beyond it a step takes a random batch of rows.
MAX_COSINES = 2 * 10**7


def loss_of(name: str, C: torch.Tensor, beta: float) -> torch.Tensor:
    """A loss from the cosines of a batch with all rows, shape (batch, K); -inf where a row meets itself."""
    import torch

    if name == "LSE":
        return torch.logsumexp(beta * C, dim=1).mean() / beta
    squared = 2 - 2 * C  # inf where a row meets itself: it adds 0 to both energies
    if name == "MHE":
        return torch.log((1 / squared.clamp_min(1e-6)).mean())
    return torch.logsumexp(-2 * squared.flatten(), dim=0) - math.log(squared.numel())


def adam(K: int, d: int, loss: str, seconds: float, seed: int) -> tuple[Rows, int]:
    """Minimise one of `LOSSES` from random rows.

    Parameters
    ----------
    K, d : int
        Number of vectors and dimension.
    loss : str
        One of `LOSSES`.
    seconds : float
        Wall-clock time to spend.
    seed : int
        Of the first rows and the batches.

    Returns
    -------
    tuple of (ndarray, int)
        Unit rows (K, d) in float64, and the steps that were made.
    """
    import torch

    generator = torch.Generator().manual_seed(seed)
    raw = torch.randn(K, d, generator=generator).requires_grad_()
    optimizer = torch.optim.Adam([raw], lr=LEARNING_RATE)
    batch = min(K, max(1, MAX_COSINES // K))
    begin, steps = time.perf_counter(), 0
    while (done := (time.perf_counter() - begin) / seconds) < 1:
        W = torch.nn.functional.normalize(raw, dim=1)
        own = torch.arange(K) if batch == K else torch.randperm(K, generator=generator)[:batch]
        C = (W[own] @ W.T).index_put((torch.arange(batch), own), torch.tensor(-torch.inf))
        optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - done)
        optimizer.zero_grad()
        loss_of(loss, C, FIRST_BETA * (LAST_BETA / FIRST_BETA) ** done).backward()
        optimizer.step()
        steps += 1
    W = raw.detach().numpy().astype(np.float64)
    return W / np.linalg.norm(W, axis=1, keepdims=True), steps
