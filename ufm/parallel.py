"""Class-parallel log-odds over `torch.distributed`: each process stores the rows of some classes, none the logits."""

from __future__ import annotations

import atexit
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from softmaxcode.checks.tensors import check_alike, check_labels
from softmaxcode.nn import tiles

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Environment variables besides ``WORLD_SIZE`` that `join` reads, directly or through `torch.distributed`.
SET_BY_TORCHRUN = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")


def started() -> int:
    """The number of processes that ``torchrun`` started, from the environment."""
    return int(os.environ.get("WORLD_SIZE", 1))


def first_process() -> bool:
    """Whether this is the process of several that prints and writes."""
    return started() == 1 or os.environ.get("RANK") == "0"


def join(device: torch.device | str) -> torch.device:
    """Join the process group of a run that ``torchrun`` started as several processes; do nothing for other runs.

    Parameters
    ----------
    device : torch.device or str
        "cpu", where the processes communicate by gloo, or "cuda", by NCCL with one GPU per process.

    Returns
    -------
    torch.device
        The device for this process: ``device``, or with several GPUs the one of its ``LOCAL_RANK``.

    Raises
    ------
    ValueError
        If several processes were started and the device is another one, or the machine has fewer GPUs than processes.
        Also if ``torchrun`` did not start them.

    Notes
    -----
    The group is created once, unless there is one, and lasts as long as the process. A second group could meet the
    store of the first. A process that ends with an error closes its connections, and the others stop waiting.

    Examples
    --------
    >>> device = join("cpu")
    >>> Shard.here(10, device).ranks
    1
    """
    device = torch.device(device)
    if started() == 1:
        return device
    if missing := [name for name in SET_BY_TORCHRUN if name not in os.environ]:
        raise ValueError(f"WORLD_SIZE names several processes, but {missing[0]} is not set; start them with torchrun")
    if device.type == "cuda":
        here, gpus = int(os.environ["LOCAL_WORLD_SIZE"]), torch.cuda.device_count()
        if here > gpus:  # every process of this machine reaches the same result
            raise ValueError(
                f"each process needs a GPU of its own: {here} processes were started here, for {gpus} GPUs"
            )
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    elif device.type != "cpu":
        raise ValueError(f"several processes need the device cpu or cuda; got {device}")
    if not dist.is_initialized():
        if device.type == "cuda":
            dist.init_process_group("nccl", device_id=device)
        else:
            dist.init_process_group("gloo")
        atexit.register(dist.destroy_process_group)
    return device


@dataclass(frozen=True)
class Shard:
    """The block of consecutive classes of one process, and the communication between processes.

    With one rank every method returns its argument. With several, all ranks have to call the same methods in the same
    order. The result is then the same on all ranks, bit for bit. No gradient passes through.

    Attributes
    ----------
    rank, ranks : int
        Number of this process, and number of processes.
    K : int
        Number of classes, at least ``ranks``.
    device : torch.device
        The device of this rank's tensors.

    Raises
    ------
    ValueError
        If there are more ranks than classes; every rank raises it before any waits for another.

    Examples
    --------
    >>> Shard(rank=1, ranks=3, K=10, device=torch.device("cpu")).classes
    slice(4, 7, None)
    """

    rank: int
    ranks: int
    K: int
    device: torch.device

    def __post_init__(self) -> None:
        if self.ranks > self.K:
            raise ValueError(f"more ranks than classes: {self.ranks} processes cannot share K = {self.K} classes")

    @classmethod
    def alone(cls, K: int, device: torch.device | str = "cpu") -> Shard:
        """All K classes in one process."""
        return cls(0, 1, K, torch.device(device))

    @classmethod
    def here(cls, K: int, device: torch.device | str = "cpu") -> Shard:
        """This process's block of K classes: all of them unless a process group is running."""
        if not dist.is_initialized():
            return cls.alone(K, device)
        return cls(dist.get_rank(), dist.get_world_size(), K, torch.device(device))

    @property
    def sizes(self) -> list[int]:
        """Classes of every rank; they differ by at most one."""
        each, left = divmod(self.K, self.ranks)
        return [each + (rank < left) for rank in range(self.ranks)]

    @property
    def classes(self) -> slice:
        """This rank's classes."""
        return _block(self.sizes, self.rank)

    def rows(self, X: Tensor) -> Tensor:
        """This rank's rows of a tensor with one row, or one array, for each of the K classes.

        Parameters
        ----------
        X : Tensor, shape (K, ...)
            The same on every rank.

        Returns
        -------
        Tensor, shape (K_local, ...)
            A view.

        Raises
        ------
        ValueError
            If X has another number of rows.
        """
        if len(X) != self.K:
            raise ValueError(f"X must have one row for each of the K = {self.K} classes; got shape {tuple(X.shape)}")
        return X[self.classes]

    def gather(self, local: Tensor, sizes: Sequence[int]) -> Tensor:
        """Concatenate the rows of all ranks, in the order of the ranks.

        Parameters
        ----------
        local : Tensor, shape (N_local, ...)
            This rank's rows; dtype and number of columns must be equal on all ranks.
        sizes : sequence of int
            N_local of every rank: ``shard.sizes`` for rows of classes.

        Returns
        -------
        Tensor, shape (N, ...)
            All rows, on every rank.

        Raises
        ------
        ValueError
            If the rows are not as many as in ``sizes``.
        """
        if len(sizes) != self.ranks or len(local) != sizes[self.rank]:
            raise ValueError(
                f"sizes must be the rows of each of {self.ranks} ranks; got {list(sizes)} where rank {self.rank} has "
                f"{len(local)}"
            )
        if self.ranks == 1:
            return local.detach()
        full = local.new_empty(sum(sizes), *local.shape[1:])
        blocks = full.split(list(sizes))
        blocks[self.rank].copy_(local.detach())
        # one broadcast per block: blocks may differ in length, and nothing is padded or copied
        _finish([dist.broadcast(block, src=rank, async_op=True) for rank, block in enumerate(blocks)])
        return full

    def reduce_scatter(self, full: Tensor, sizes: Sequence[int]) -> Tensor:
        """Sum over the ranks, and return to every rank its own rows: the reverse of `gather`.

        Parameters
        ----------
        full : Tensor, shape (N, ...)
            This rank's terms for the rows of all ranks; overwritten.
        sizes : sequence of int
            Rows of every rank.

        Returns
        -------
        Tensor, shape (N_local, ...)
            The sum, for the rows of this rank.
        """
        if self.ranks == 1:
            return full.detach()
        blocks = full.detach().split(list(sizes))
        _finish([dist.reduce(block, dst=rank, async_op=True) for rank, block in enumerate(blocks)])
        return blocks[self.rank].clone()  # a view would keep all N rows

    def sum(self, t: Tensor) -> Tensor:
        """Sum over the ranks, entry by entry, of a tensor of one shape on all ranks."""
        return self._all_reduce(t, dist.ReduceOp.SUM)

    def max(self, t: Tensor) -> Tensor:
        """Largest value over the ranks, entry by entry, of a tensor of one shape on all ranks, free of NaN."""
        return self._all_reduce(t, dist.ReduceOp.MAX)

    def _all_reduce(self, t: Tensor, operation: Any) -> Tensor:
        if self.ranks == 1:
            return t.detach()
        t = t.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(t, operation)
        return t

    def logsumexp(self, vector: Tensor) -> Tensor:
        """Logarithm of the sum of exponentials over the entries of all ranks; a NaN anywhere gives NaN.

        Parameters
        ----------
        vector : Tensor, shape (N_local,)
            This rank's entries, any number of them.

        Returns
        -------
        Tensor, shape ()
            The same on every rank.
        """
        own = vector.detach().logsumexp(0, keepdim=True)
        return self.gather(own, [1] * self.ranks).logsumexp(0)

    def from_first(self, t: Tensor) -> Tensor:
        """The tensor of rank 0, on every rank; its shape and dtype must be equal on all."""
        if self.ranks > 1:
            dist.broadcast(t, src=0)
        return t

    def agree(self, flag: bool) -> bool:
        """The value of rank 0, on every rank: for decisions such as when to stop."""
        return bool(self.from_first(torch.tensor([flag], dtype=torch.uint8, device=self.device)))


def _block(sizes: Sequence[int], rank: int) -> slice:
    """The rows of one rank among those of all."""
    start = sum(sizes[:rank])
    return slice(start, start + sizes[rank])


def _finish(works: Sequence[Any]) -> None:
    for work in works:
        work.wait()


def _check(features: Tensor, weight: Tensor, labels: Tensor, shard: Shard) -> None:
    """Refuse input that would make ranks wait or give silent errors; values were checked before training."""
    rows = shard.sizes[shard.rank]
    if weight.ndim != 2 or len(weight) != rows:
        raise ValueError(
            f"rank {shard.rank} holds {rows} classes: weight must be ({rows}, d); got {tuple(weight.shape)}"
        )
    if features.ndim != 2 or features.shape[1] != weight.shape[1]:
        raise ValueError(f"features must have shape (N, {weight.shape[1]}); got {tuple(features.shape)}")
    check_labels(labels, shard.K, len(features))
    check_alike(features, weight, ("features", "weight"))
    check_alike(features, labels, ("features", "labels"), dtype=False)


def _agreed_sizes(features: Tensor, weight: Tensor, labels: Tensor, shard: Shard) -> list[int]:
    """Features of every rank; if the input of one rank is refused, every rank raises and none waits."""
    refused = None
    try:
        _check(features, weight, labels, shard)
    except ValueError as error:
        refused = error
    form = [-1, -1, -1] if refused else [len(features), features.shape[1], features.dtype.itemsize]
    forms = shard.gather(torch.tensor([form], device=shard.device), [1] * shard.ranks).tolist()
    if refused:
        raise refused
    sizes, widths, itemsizes = zip(*forms, strict=True)
    if -1 in sizes:
        raise ValueError(f"rank {sizes.index(-1)} was given input that it refused; its own message gives the reason")
    if len(set(widths)) > 1 or len(set(itemsizes)) > 1:
        raise ValueError(f"all ranks must have one d and one dtype; got d {widths} in {itemsizes} bytes per entry")
    return list(sizes)


class _LogOdds(torch.autograd.Function):
    """Log-odds of this rank's features, already divided by the temperature, against the classes of all ranks.

    Let a be the own-class logit, m the largest wrong logit and t the sum of the exponentials relative to it. Every rank
    computes them for all features and its own classes. They are then joined: M = max m, A = sum a, T = sum t exp(m -
    M), s = M - A + log T.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, labels: Tensor, sizes: list[int], shard: Shard) -> Tensor:
        everyone = shard.gather(features, sizes)
        columns = shard.gather(labels.long(), sizes) - shard.classes.start
        own, largest, total = tiles.partial_log_odds(everyone, weight, columns)
        highest = shard.max(largest)
        own, total = shard.sum(torch.stack([own, total * (largest - highest).exp_()]))
        ctx.save_for_backward(everyone, weight, columns, highest, total)
        ctx.sizes, ctx.shard = sizes, shard
        mine = _block(sizes, shard.rank)
        return highest[mine] - own[mine] + total[mine].log()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        of_features, of_weight = ctx.needs_input_grad[:2]
        grad = ctx.shard.gather(grad, ctx.sizes)
        everyone, weight, columns, highest, total = ctx.saved_tensors
        terms, of_rows = tiles.partial_log_odds_backward(
            grad, everyone, weight, columns, highest, total, of_features, of_weight
        )
        of_local = ctx.shard.reduce_scatter(terms, ctx.sizes) if of_features else None
        return of_local, of_rows if of_weight else None, None, None, None


def log_odds(features: Tensor, weight: Tensor, labels: Tensor, temperature: float, shard: Shard) -> Tensor:
    r"""Log-odds of this rank's features against the classes of all ranks.

    .. math:: s_i = \log \sum_{j \ne y_i} \exp(\langle w_j - w_{y_i}, h_i\rangle / \tau)

    Every rank gathers the features of all ranks and computes the part of its own classes, in tiles. The parts are three
    numbers per feature. One maximum and one sum over the ranks join them (docs/theory.md, T6, on the loss
    :math:`\log(1 + e^{s_i})`). In the backward pass the gradient of the rows of W stays on its rank. That of the
    features is summed on the rank of each feature.

    Parameters
    ----------
    features : Tensor, shape (N_local, d)
        Rows h_i of this rank, float32 or float64. Their number is arbitrary, but at least one rank must have one.
    weight : Tensor, shape (K_local, d)
        Rows w_k of ``shard.classes``, of the same dtype.
    labels : Tensor of int64, shape (N_local,)
        Classes of the features, on this rank or another, from 0 to K - 1.
    temperature : float
        The temperature tau, above 0, already validated; the same on all ranks.
    shard : Shard
        The classes of this rank.

    Returns
    -------
    Tensor, shape (N_local,)
        The log-odds, differentiable once with respect to features and weight. Every rank has to call ``backward``, for
        the same gradients.

    Raises
    ------
    ValueError
        With several ranks, if shapes, dtypes or devices do not fit or a label is out of range. All ranks raise it if
        one of them received such input.

    Notes
    -----
    A rank stores O((N + K_local) d) numbers and one tile of logits. With one rank this is
    `softmaxcode.nn.tiles.log_odds_against`, to the bit.

    Examples
    --------
    >>> W = torch.eye(2, dtype=torch.float64)
    >>> log_odds(W, W, torch.tensor([0, 1]), 0.01, Shard.alone(2)).tolist()
    [-100.0, -100.0]
    """
    if shard.ranks == 1:
        return tiles.log_odds_against(features / temperature, weight, labels, False)
    sizes = _agreed_sizes(features, weight, labels, shard)
    odds: Tensor = _LogOdds.apply(features / temperature, weight, labels, sizes, shard)
    return odds
