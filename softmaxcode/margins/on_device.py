r"""The smallest one-vs-rest distance of a classifier on an accelerator, computed mostly there.

The classes of a tile are solved together, as nearest points of polytopes over pools of near rows (docs/theory.md, T1),

.. math:: \min_{\alpha \ge 0,\ \sum_j \alpha_j = 1} \tfrac12 \|w_k - \sum_j \alpha_j w_j\|^2,

by accelerated projected gradient steps in float32. Each class then gets a primal value from its weights and a dual
value against *all* other classes. Both are in float64 and valid however far the steps have converged. Only classes
whose dual value is below the best primal one continue, with a better pool and more steps. Classes left after the last
round are solved on the CPU by the active-set method of `softmaxcode.margins.exact`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from softmaxcode.margins.exact import SmallestMargin, smallest_from_bounds

#: Gradient steps of each round.
ROUNDS = (50, 200, 800)
#: Numbers in the largest array of one tile: 256 MB in float32, 512 MB in float64.
TILE_NUMBERS = 2**26
#: Steps of the power iteration for the step length, and the factor by which its value is increased.
_POWER_STEPS, _SAFETY = 12, 1.1


def smallest_margin_on_device(
    W: Tensor, *, tolerance: float = 1e-6, rounds: tuple[int, ...] = ROUNDS, tile: int = TILE_NUMBERS
) -> SmallestMargin:
    """The margin of a classifier to a given primal-dual gap, computed on the classifier's device.

    Parameters
    ----------
    W : Tensor, shape (K, d), float64
        Unit rows, already validated.
    tolerance : float
        The largest gap allowed.
    rounds : tuple of int
        Gradient steps of each round.
    tile : int
        Numbers in the largest array of one tile.

    Returns
    -------
    SmallestMargin
        The margin is the norm of an explicit convex combination, so an upper value. The true one is at most ``gap``
        lower. ``solved`` counts the classes that were solved on the CPU.

    References
    ----------
    Beck and Teboulle, SIAM J. Imaging Sciences 2 (2009).
    O'Donoghue and Candes, Found. Comput. Math. 15 (2015), for the restarts.
    """
    K, d = W.shape
    size = max(1, tile // max(K, min(K - 1, 2 * d) * d))
    bounds = torch.cat([_dual(W, part, W[part]) for part in torch.arange(K, device=W.device).split(size)])
    directions = W.clone()
    best, attained_by = math.inf, -1
    for steps in rounds:
        order = torch.argsort(bounds)
        for part in order.split(size):
            classes = part[bounds[part] < best - tolerance]
            if not len(classes):
                break
            h, primal = _nearest_points(W, classes, directions[classes], steps)
            directions[classes] = h
            bounds[classes] = torch.maximum(bounds[classes], _dual(W, classes, h))
            i = int(primal.argmin())
            if float(primal[i]) < best:
                best, attained_by = float(primal[i]), int(classes[i])
    return smallest_from_bounds(W.cpu().numpy(), bounds.cpu().numpy(), tolerance, best=best, attained_by=attained_by)


def _others(H: Tensor, W: Tensor, classes: Tensor) -> Tensor:
    """<h_k, w_j> for each class of the tile and every j, -inf at j = k."""
    C = H @ W.T
    return C.scatter_(1, classes[:, None], -math.inf)


def _dual(W: Tensor, classes: Tensor, H: Tensor) -> Tensor:
    """min over j != k of <h_k, w_k - w_j>: a lower bound of the distance of class k for any unit h_k."""
    return (H * W[classes]).sum(dim=1) - _others(H, W, classes).amax(dim=1)


def _nearest_points(W: Tensor, classes: Tensor, H: Tensor, steps: int) -> tuple[Tensor, Tensor]:
    """Unit directions and primal values of the classes, over the pools of rows with the largest products with ``H``."""
    K, d = W.shape
    pool = _others(H, W, classes).topk(min(K - 1, 2 * d), dim=1).indices
    A = W[pool]
    centre = A.mean(dim=1, keepdim=True)
    weights = _project_steps((A - centre).float(), (W[classes, None] - centre).float(), steps)
    weights = weights.double()
    weights /= weights.sum(dim=1, keepdim=True)
    difference = W[classes] - torch.bmm(weights[:, None], A)[:, 0]
    primal = torch.linalg.vector_norm(difference, dim=1)
    found = primal > 0  # a duplicated row has no direction: any is optimal
    return torch.where(found[:, None], difference / primal.clamp_min(1e-300)[:, None], W[classes]), primal


def _project_steps(A: Tensor, w: Tensor, steps: int) -> Tensor:
    """Convex weights (n, m) that bring the combination of the rows of A (n, m, d) near to w (n, 1, d)."""
    n, m, d = A.shape
    v = torch.cos(torch.arange(d, device=A.device, dtype=A.dtype)).expand(n, 1, d)
    for _ in range(_POWER_STEPS):
        v = torch.nn.functional.normalize(torch.bmm(torch.bmm(v, A.mT), A), dim=2)
    curvature = torch.linalg.vector_norm(torch.bmm(torch.bmm(v, A.mT), A), dim=2)
    mean_square = A.square().sum(dim=(1, 2))[:, None] / min(m, d)  # no larger than the largest eigenvalue
    curvature = _SAFETY * torch.maximum(curvature, mean_square) + 1e-12
    ranks = torch.arange(1, m + 1, device=A.device)
    a = A.new_full((n, m), 1 / m)
    y, t = a, 1.0
    for _ in range(steps):
        gradient = torch.bmm(torch.bmm(y[:, None], A) - w, A.mT)[:, 0]
        new = _simplex(y - gradient / curvature, ranks)
        turned = ((y - new) * (new - a)).sum(dim=1, keepdim=True) > 0  # the momentum points uphill: restart it
        t_new = (1 + math.sqrt(1 + 4 * t * t)) / 2
        y = torch.where(turned, new, new + ((t - 1) / t_new) * (new - a))
        a, t = new, t_new
    return a


def _simplex(V: Tensor, ranks: Tensor) -> Tensor:
    """The nearest point of the simplex to each row (Held, Wolfe and Crowder, Math. Programming 6, 1974)."""
    excess = V.sort(dim=1, descending=True).values
    sums = excess.cumsum(dim=1) - 1
    last = (excess * ranks > sums).sum(dim=1, keepdim=True).clamp_min_(1)
    return (V - sums.gather(1, last - 1) / last).clamp_min_(0)
