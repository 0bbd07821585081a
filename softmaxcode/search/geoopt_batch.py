"""Many starts at once on a CPU or a CUDA device: Riemannian Adam (geoopt) on the energies of `energy`.

The array (B, N, d) of B starts is one parameter on geoopt's `Sphere`, whose points are the rows. Every start has its
own beta, which is constant while the start settles and then increases geometrically to the last. The learning rate of a
start decreases with its 1 / beta, the length on which its energy changes. The result is about as good as that of
`energy.descend`. It needs the same refinement: `energy.minimize` at a large beta, then a polish.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from softmaxcode.checks.geoopt import geoopt
from softmaxcode.checks.tensors import check_device
from softmaxcode.search.energy import HARDMAX, TAMMES

if TYPE_CHECKING:
    from collections.abc import Callable

    from jaxtyping import Float

    Batch = Float[np.ndarray, "B N d"]
    Points = Float[torch.Tensor, "B N d"]
    Betas = Float[torch.Tensor, "B 1 1"]

#: Fraction of the steps at the first beta.
_SETTLING = 0.5
#: The learning rate is min(_LARGEST_ANGLE, _REACH / beta), in radians: Adam moves a row by about as much in one step.
_REACH = 10.0
_LARGEST_ANGLE = 0.1
#: Decay of Adam's two averages. The second is short enough to follow gradients that change as beta increases.
_DECAYS = (0.9, 0.9)
#: A row whose gradient is below this (its square must not underflow) does not move.
_EPS = 1e-30
#: Float64 numbers in the largest array of one chunk of starts: as many as fit in a cache on CPU, about 1 GB on CUDA.
#: A chunk takes about four such arrays; a larger single start is a chunk of its own.
CHUNK = {"cpu": 2**17, "cuda": 2**27}


class _Schedule(NamedTuple):
    """The beta of every start in a chunk, step by step."""

    first: Betas
    last: float
    steps: int

    def beta(self, step: int) -> Betas:
        settling = int(_SETTLING * self.steps)
        progress = min(1.0, max(0, step - settling + 1) / max(1, self.steps - settling))
        return self.first * (torch.clamp(self.last / self.first, min=1.0) ** progress)


def _scaled_pairs(kind: int, X: Points, beta: Betas) -> torch.Tensor:
    """Beta times the pair values, (B, K, K), with -inf on the diagonal; every Tammes pair occurs twice."""
    if kind == TAMMES:
        C = torch.bmm(X * beta, X.transpose(1, 2))
    else:
        W, H = X.chunk(2, dim=1)
        C = torch.bmm(H * beta, W.transpose(1, 2))
        C -= C.diagonal(dim1=1, dim2=2).unsqueeze(2).clone()
    C.diagonal(dim1=1, dim2=2).fill_(-torch.inf)
    return C


def energies(kind: int, X: Points, beta: Betas) -> torch.Tensor:
    """Energy of every start, shape (B,): `energy.energy` without its cut-off of small weights."""
    twice = 2.0 if kind == TAMMES else 1.0
    pairs = _scaled_pairs(kind, X, beta).flatten(1)
    return (torch.logsumexp(pairs, dim=1) - np.log(twice)) / beta.flatten()


def euclidean_gradients(kind: int, X: Points, beta: Betas) -> Points:
    """Gradient of every start's energy in the embedding, shape (B, N, d)."""
    C = _scaled_pairs(kind, X, beta)
    weights = torch.softmax(C.flatten(1), dim=1).view_as(C)
    if kind == TAMMES:
        return torch.bmm(weights, X).mul_(2.0)
    W, H = X.chunk(2, dim=1)
    own = weights.sum(dim=2, keepdim=True)
    return torch.cat([torch.bmm(weights.transpose(1, 2), H) - own * H, torch.bmm(weights, W) - own * W], dim=1)


def _descend_chunk(
    kind: int, X: Points, schedule: _Schedule, report: Callable[[int], None], deadline: float | None
) -> Points:
    """Run the schedule for one chunk of starts; stops early at the deadline."""
    points = geoopt.ManifoldParameter(X, manifold=geoopt.Sphere())
    adam = geoopt.optim.RiemannianAdam([points], betas=_DECAYS, eps=_EPS)
    for step in range(schedule.steps):
        if deadline is not None and time.monotonic() >= deadline:
            break
        beta = schedule.beta(step)
        # geoopt multiplies directions by the rate: as a (B, 1, 1) tensor it is one rate per start
        adam.param_groups[0]["lr"] = torch.clamp(_REACH / beta, max=_LARGEST_ANGLE)
        points.grad = euclidean_gradients(kind, points.detach(), beta)
        adam.step()
        report(step + 1)
    return points.detach()


def _chunk_size(kind: int, N: int, d: int, device: torch.device) -> int:
    """The number of starts per chunk."""
    K = N if kind == TAMMES else N // 2
    return max(1, CHUNK[device.type] // max(K * K, N * d))


def search_batch(
    kind: int,
    starts: Batch,
    first_betas: np.ndarray,
    *,
    device: str | torch.device,
    last: float = 1e4,
    steps: int = 1000,
    progress: Callable[[float], None] | None = None,
    deadline: float | None = None,
) -> Batch:
    """Descend from many starts at once, each with its own beta schedule.

    Parameters
    ----------
    kind : int
        `energy.TAMMES` or `energy.HARDMAX`.
    starts : ndarray, shape (B, N, d)
        B configurations of unit rows, d >= 2: N = K for Tammes; N = 2K, W stacked over H, for HardMax.
    first_betas : ndarray, shape (B,)
        The first beta of each start's schedule, usually drawn at random. Good values for K >> d are 10 to 100. A small
        value leads to few, good minima, a large one to many.
    device : str or torch.device
        "cpu", "cuda" or "cuda:<number>".
    last : float
        The last beta of every schedule; one that starts above it is constant.
    steps : int
        Steps of Riemannian Adam: half of them at the first beta, half while it increases.
    progress : callable, optional
        Called after every step with the fraction of the work done, from 0 to 1.
    deadline : float, optional
        Time of `time.monotonic` at which to stop. Starts are processed in chunks that fit in memory. At the deadline
        the present chunk is returned unfinished, and later ones unchanged.

    Returns
    -------
    ndarray, shape (B, N, d), float64
        The starts after the descent, unit rows, in the same order. Every call with the same inputs, machine and number
        of threads gives the same result.

    Raises
    ------
    ValueError
        If the kind is neither, or the shapes do not fit it or each other. Also if d < 2, K < 2, a first beta is not
        positive, or the device is not available.
    """
    place = check_device(device)
    starts = np.array(starts, dtype=np.float64)
    betas = np.asarray(first_betas, dtype=np.float64)
    if kind not in (TAMMES, HARDMAX):
        raise ValueError(f"kind must be TAMMES ({TAMMES}) or HARDMAX ({HARDMAX}); got {kind!r}")
    copies = 1 if kind == TAMMES else 2
    if starts.ndim != 3 or starts.shape[1] < 2 * copies or starts.shape[1] % copies or starts.shape[2] < 2:
        raise ValueError(
            "starts must have shape (B, N, d) with d >= 2, N = K (Tammes) or 2 K (HardMax) and K >= 2; "
            f"got shape {starts.shape}"
        )
    if betas.shape != starts.shape[:1] or not (np.isfinite(betas) & (betas > 0)).all():
        raise ValueError(f"first_betas must be {len(starts)} positive numbers, one for each start")
    B, N, d = starts.shape
    size = _chunk_size(kind, N, d, place)
    for begin in range(0, B, size):
        if deadline is not None and time.monotonic() >= deadline:
            break
        chunk = slice(begin, begin + size)
        X = torch.tensor(starts[chunk], device=place)
        first = torch.tensor(betas[chunk], device=place).view(-1, 1, 1)

        def report(step: int, begin: int = begin, count: int = len(X)) -> None:
            if progress is not None:
                progress((begin + count * step / steps) / B)

        starts[chunk] = _descend_chunk(kind, X, _Schedule(first, last, steps), report, deadline).cpu().numpy()
    return starts
