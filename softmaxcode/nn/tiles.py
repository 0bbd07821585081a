"""Log-odds of the wrong classes and the best wrong class, in tiles: the N x K logits are never stored."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from softmaxcode.checks.tensors import check_finite, check_label_range

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Entries of a tile of logits. On one CPU core 2^18 to 2^22 are equally fast; threads synchronise less for large ones.
CPU_TILE = 2**22
ACCELERATOR_TILE = 2**26


def sides(N: int, K: int, device: torch.device) -> tuple[int, int]:
    """Rows and columns of a tile: square, unless there are fewer samples or classes than the side."""
    entries = CPU_TILE if device.type == "cpu" else ACCELERATOR_TILE
    columns = min(K, math.isqrt(entries))
    rows = min(N, entries // columns)
    return rows, min(K, entries // rows)


def _slices(length: int, step: int) -> list[slice]:
    return [slice(start, min(start + step, length)) for start in range(0, length, step)]


def _check_values(features: Tensor, weight: Tensor, labels: Tensor) -> None:
    check_finite(features)
    check_finite(weight, name="weight")
    check_label_range(labels, len(weight))


class _Tiles:
    """The logits <w_j, h_i> tile by tile, in one buffer that is overwritten."""

    def __init__(self, features: Tensor, weight: Tensor, labels: Tensor):
        self.features, self.weight, self.labels = features, weight, labels
        rows, columns = sides(len(features), len(weight), features.device)
        self.rows, self.columns = _slices(len(features), rows), _slices(len(weight), columns)
        self.buffer = features.new_empty(rows * columns)

    def of(self, rows: slice) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """For each block of classes: its slice, the tile, each row's label column, and whether it is in the block.

        Where it is not, the column is a clamped one: reading and writing it back needs no host synchronisation.
        """
        h, y = self.features[rows], self.labels[rows, None]
        for columns in self.columns:
            w = self.weight[columns]
            tile = self.buffer[: len(h) * len(w)].view(len(h), len(w))
            tile.addmm_(h, w.T, beta=0)
            column = y - columns.start
            inside = (column >= 0) & (column < len(w))
            yield columns, tile, column.clamp_(0, len(w) - 1), inside


def _replace(tile: Tensor, column: Tensor, inside: Tensor, value: float | Tensor) -> Tensor:
    """Overwrite the label's entry in the rows that have it; returns the old entries, shape (rows, 1)."""
    entry = tile.gather(1, column)
    tile.scatter_(1, column, torch.where(inside, value, entry))
    return entry


@torch.library.custom_op("softmaxcode::log_odds_against", mutates_args=())
def _log_odds(
    features: Tensor, weight: Tensor, labels: Tensor, check_values: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-odds (N,), the label's logit, the largest wrong logit and the sum of exponentials relative to it.

    For a label outside the classes the sum runs over all of them, and the label's logit is 0.
    """
    if check_values:
        _check_values(features, weight, labels)
    tiles = _Tiles(features, weight, labels)
    odds, of_label, largest, total = (features.new_empty(len(features)) for _ in range(4))
    lowest = torch.finfo(features.dtype).min  # not -inf: a tile may contain nothing but the label
    with torch.autocast(features.device.type, enabled=False):
        for rows in tiles.rows:
            own = features.new_zeros(rows.stop - rows.start, 1)
            top, sums = torch.full_like(own, lowest), torch.zeros_like(own)
            for _, tile, column, inside in tiles.of(rows):
                own = torch.where(inside, _replace(tile, column, inside, -math.inf), own)
                higher = torch.maximum(top, tile.amax(1, keepdim=True))
                sums = sums * (top - higher).exp_() + tile.sub_(higher).exp_().sum(1, keepdim=True)
                top = higher
            odds[rows] = (top - own + sums.log()).squeeze(1)
            of_label[rows], largest[rows], total[rows] = own.squeeze(1), top.squeeze(1), sums.squeeze(1)
    return odds, of_label, largest, total


@_log_odds.register_fake
def _(features: Tensor, weight: Tensor, labels: Tensor, check_values: bool) -> Any:
    return tuple(features.new_empty(features.shape[0]) for _ in range(4))


@torch.library.custom_op("softmaxcode::log_odds_against_backward", mutates_args=())
def _log_odds_backward(
    grad: Tensor,
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    largest: Tensor,
    total: Tensor,
    of_features: bool,
    of_weight: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients with respect to features and weight; an empty tensor for one that is not requested."""
    tiles = _Tiles(features, weight, labels)
    grad_features = torch.zeros_like(features) if of_features else features.new_empty(0)
    grad_weight = torch.zeros_like(weight) if of_weight else weight.new_empty(0)
    with torch.autocast(features.device.type, enabled=False):
        for rows in tiles.rows:
            top, sums = largest[rows, None], total[rows, None]
            scale = grad[rows, None] / sums
            scaled = features[rows] * scale
            for columns, tile, column, inside in tiles.of(rows):
                # sums_i q_ij for the wrong classes, -sums_i for the label: minus its own term of the gradient
                tile.sub_(top).exp_()
                _replace(tile, column, inside, -sums)
                if of_features:
                    grad_features[rows].addmm_(tile, weight[columns])
                if of_weight:
                    grad_weight[columns].addmm_(tile.T, scaled)
            if of_features:
                grad_features[rows].mul_(scale)
    return grad_features, grad_weight


@_log_odds_backward.register_fake
def _(
    grad: Tensor,
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    largest: Tensor,
    total: Tensor,
    of_features: bool,
    of_weight: bool,
) -> Any:
    return (
        torch.empty_like(features) if of_features else features.new_empty(0),
        torch.empty_like(weight) if of_weight else weight.new_empty(0),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, Tensor]) -> None:
    features, weight, labels, _ = inputs
    _, of_label, largest, total = output
    ctx.mark_non_differentiable(of_label, largest, total)
    ctx.save_for_backward(features, weight, labels, largest, total)


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    needed = ctx.needs_input_grad[:2]
    grads = _log_odds_backward(grad, *ctx.saved_tensors, *needed)
    return *(g if wanted else None for g, wanted in zip(grads, needed, strict=True)), None, None


_log_odds.register_autograd(_backward, setup_context=_setup_context)


def log_odds_against(features: Tensor, weight: Tensor, labels: Tensor, check_values: bool) -> Tensor:
    r"""Log-odds of all wrong classes together against the label, one per sample.

    .. math:: s_i = \log \sum_{j \ne y_i} \exp \langle w_j - w_{y_i}, h_i\rangle

    They are computed in 2-D tiles with a running log-sum-exp; the backward pass computes the logits of each tile again.
    With :math:`q_{ij}` the softmax over :math:`j \ne y_i`,

    .. math::
        \partial s_i / \partial h_i = \sum_{j \ne y_i} q_{ij} w_j - w_{y_i}, \qquad
        \partial s_i / \partial w_j = (q_{ij} - [j = y_i])\, h_i .

    Because the sum omits the label, the value is exact where the loss :math:`\log(1 + e^{s_i})` underflows.

    Parameters
    ----------
    features : Tensor, shape (N, d)
        Rows h_i, already divided by the temperature; float32 or float64, N >= 1.
    weight : Tensor, shape (K, d)
        Rows w_k of the same dtype, K >= 2. Its gradient is computed only if it needs one.
    labels : Tensor of int64, shape (N,)
        Classes from 0 to K - 1.
    check_values : bool
        Check labels and finiteness when it runs, for a caller that could not while `torch.compile` traced.

    Returns
    -------
    Tensor, shape (N,)
        The log-odds, of the dtype of ``features``.

    Raises
    ------
    ValueError
        With ``check_values``, if a label is out of range or an entry is not finite.

    Examples
    --------
    >>> import torch
    >>> W = torch.eye(3, dtype=torch.float64)
    >>> s = log_odds_against(1000 * W, W, torch.arange(3), False)  # two wrong classes at odds e^-1000 each
    >>> torch.allclose(s, torch.tensor(2.0).double().log() - 1000)
    True
    """
    odds: Tensor = _log_odds(features, weight, labels, check_values)[0]
    return odds


def partial_log_odds(features: Tensor, weight: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""The contribution of some of the classes to the log-odds: parts to be joined with those of the other classes.

    With C the given classes,

    .. math::
        a_i = [y_i \in C] \langle w_{y_i}, h_i\rangle, \qquad
        m_i = \max_{j \in C,\, j \ne y_i} \langle w_j, h_i\rangle, \qquad
        t_i = \sum_{j \in C,\, j \ne y_i} e^{\langle w_j, h_i\rangle - m_i} .

    Over the parts of all classes :math:`s_i = M_i - \sum a_i + \log \sum t_i e^{m_i - M_i}`, M the largest m.

    Parameters
    ----------
    features, weight
        As in `log_odds_against`, with only the rows of C as ``weight``; one is enough. No gradient is taken.
    labels : Tensor of int64, shape (N,)
        Indices of rows of ``weight``; an index that is negative or too large stands for a class outside C.

    Returns
    -------
    own, largest, total : Tensor, shape (N,)
        a, m and t. Where the label is all of C, m is the lowest number of the dtype and t is 0.

    Examples
    --------
    >>> import torch
    >>> W = torch.eye(3, dtype=torch.float64)
    >>> [part.tolist() for part in partial_log_odds(W, W[:1], torch.arange(3))][0]
    [1.0, 0.0, 0.0]
    """
    _, own, largest, total = _log_odds(features.detach(), weight.detach(), labels, False)
    return own, largest, total


def partial_log_odds_backward(
    grad: Tensor,
    features: Tensor,
    weight: Tensor,
    labels: Tensor,
    largest: Tensor,
    total: Tensor,
    of_features: bool = True,
    of_weight: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""Gradients of :math:`\sum_i g_i s_i` that pass through some of the classes.

    With :math:`q_{ij} = e^{\langle w_j, h_i\rangle - M_i} / T_i` for wrong classes j and -1 for the label,

    .. math:: \sum_{j \in C} g_i q_{ij} w_j \quad \text{for } h_i, \qquad \sum_i g_i q_{ij} h_i \quad \text{for } w_j .

    Parameters
    ----------
    grad : Tensor, shape (N,)
        The weights g of the log-odds.
    features, weight, labels
        As in `partial_log_odds`.
    largest, total : Tensor, shape (N,)
        Of all classes: M, the largest wrong logit, and T, the sum of the exponentials of wrong logits less M.
    of_features, of_weight : bool
        Which gradients are requested.

    Returns
    -------
    tuple of Tensor, shapes (N, d) and (number of classes in C, d)
        The part of the features' gradient, to be summed over the parts, and the whole gradient of ``weight``. If a
        gradient is not requested, it is an empty tensor.

    Examples
    --------
    >>> import torch
    >>> W, y = torch.eye(2), torch.arange(2)
    >>> partial_log_odds_backward(torch.ones(2), W, W, y, torch.zeros(2), torch.ones(2))[1].tolist()
    [[-1.0, 1.0], [1.0, -1.0]]
    """
    grads: tuple[Tensor, Tensor] = _log_odds_backward(
        grad, features, weight, labels, largest, total, of_features, of_weight
    )
    return grads


@torch.library.custom_op("softmaxcode::best_wrong_class", mutates_args=())
def _best_wrong_class(features: Tensor, weight: Tensor, labels: Tensor, check_values: bool) -> Tensor:
    if check_values:
        _check_values(features, weight, labels)
    tiles = _Tiles(features, weight, labels)
    best = torch.empty_like(labels)
    with torch.autocast(features.device.type, enabled=False):
        for rows in tiles.rows:
            top = features.new_full((rows.stop - rows.start, 1), -math.inf)
            where = torch.zeros_like(top, dtype=labels.dtype)
            for columns, tile, column, inside in tiles.of(rows):
                _replace(tile, column, inside, -math.inf)
                highest, at = tile.max(1, keepdim=True)
                where = torch.where(highest > top, at + columns.start, where)
                top = torch.maximum(top, highest)
            best[rows] = where.squeeze(1)
    return best


@_best_wrong_class.register_fake
def _(features: Tensor, weight: Tensor, labels: Tensor, check_values: bool) -> Tensor:
    return torch.empty_like(labels)


def best_wrong_class(features: Tensor, weight: Tensor, labels: Tensor, check_values: bool) -> Tensor:
    r"""The wrong class of the largest logit, :math:`\arg\max_{j \ne y_i} \langle w_j, h_i\rangle`; no gradient.

    Parameters
    ----------
    features, weight, labels, check_values
        As in `log_odds_against`.

    Returns
    -------
    Tensor of int64, shape (N,)
        For each sample a class other than its label; one of them where logits are equal.

    Raises
    ------
    ValueError
        As `log_odds_against`.

    Examples
    --------
    >>> import torch
    >>> best_wrong_class(torch.eye(3), torch.eye(3), torch.arange(3), False).tolist()
    [1, 0, 0]
    """
    best: Tensor = _best_wrong_class(features.detach(), weight.detach(), labels, check_values)
    return best


def largest_products(features: Tensor, weight: Tensor, k: int) -> tuple[Tensor, Tensor]:
    r"""The k largest products :math:`\langle w_j, h_i\rangle` of each sample, in tiles; no gradient.

    Parameters
    ----------
    features : Tensor, shape (N, d)
        Rows h_i.
    weight : Tensor, shape (K, d)
        Rows w_j of the same dtype.
    k : int
        From 1 to K.

    Returns
    -------
    values, classes : Tensor, shape (N, k)
        The products, the largest first, and their classes j.

    Examples
    --------
    >>> import torch
    >>> largest_products(torch.tensor([[1.0, 2.0]]), torch.eye(2), 1)[1].tolist()
    [[1]]
    """
    rows, columns = sides(len(features), len(weight), features.device)
    values = features.new_empty(len(features), k)
    classes = torch.empty(len(features), k, dtype=torch.int64, device=features.device)
    for part in _slices(len(features), rows):
        best = features.new_empty(part.stop - part.start, 0)
        where = classes.new_empty(part.stop - part.start, 0)
        for block in _slices(len(weight), columns):
            tile = features[part] @ weight[block].T
            found, at = tile.topk(min(k, tile.shape[1]), dim=1)
            best, where = torch.cat([best, found], dim=1), torch.cat([where, at + block.start], dim=1)
            best, order = best.topk(min(k, best.shape[1]), dim=1)
            where = where.gather(1, order)
        values[part], classes[part] = best, where
    return values, classes
