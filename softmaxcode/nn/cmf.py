"""CMFClassifier: class vectors set to the class-mean features, without gradients."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
import torch.distributed as dist
from torch import Tensor

from softmaxcode.checks.arguments import check_number
from softmaxcode.checks.tensors import (
    COLLAPSED,
    check_alike,
    check_features,
    check_labels,
    is_distributed,
    listed,
    spread,
    unit_rows,
)
from softmaxcode.nn.head import SphericalHead, as_default, normal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from torch.utils.hooks import RemovableHandle

#: Batches after which a head whose `step` was never called warns: more than one accumulates in one optimiser step.
MANY_BATCHES = 1000


@dataclass(frozen=True)
class ClassSums:
    """Sums of unit features for the classes that occur, and for no others.

    Attributes
    ----------
    classes : Tensor, shape (C,), int64
        The classes, each once, in ascending order.
    sums : Tensor, shape (C, d + 1), float64
        The sum of each class's unit features, and last their count.
    """

    classes: Tensor
    sums: Tensor

    @classmethod
    def none(cls, d: int) -> ClassSums:
        """Sums without any features."""
        return cls(torch.empty(0, dtype=torch.int64), torch.empty(0, d + 1, dtype=torch.float64))

    @classmethod
    def of(cls, features: Tensor, labels: Tensor) -> ClassSums:
        """The sums of one batch: features (N, d), labels (N,)."""
        classes, position = torch.unique(labels.long(), return_inverse=True)
        rows = counted(features)
        return cls(classes, rows.new_zeros(len(classes), rows.shape[1]).index_add_(0, position, rows))

    @classmethod
    def merged(cls, parts: Sequence[ClassSums]) -> ClassSums:
        """The sums of all parts together, added in the given order, so that the same order gives the same bits."""
        classes = torch.unique(torch.cat([part.classes for part in parts]))
        sums = parts[0].sums.new_zeros(len(classes), parts[0].sums.shape[1])
        for part in parts:
            sums.index_add_(0, torch.searchsorted(classes, part.classes), part.sums)
        return cls(classes, sums)

    @property
    def means(self) -> Tensor:
        """The mean of each class's unit features, shape (C, d)."""
        return self.sums[:, :-1] / self.sums[:, -1:]

    def to(self, device: torch.device) -> ClassSums:
        """The same sums on a device."""
        return ClassSums(self.classes.to(device), self.sums.to(device))

    def gathered(self) -> ClassSums:
        """The sums over all ranks, the same on each; every rank has to call it, even without features.

        Ranks exchange only the classes that occurred: R C (d + 2) numbers for R ranks and at most C classes on one.
        """
        if not several_processes():
            return self
        ranks = dist.get_world_size()
        sizes = [torch.zeros(1, dtype=torch.int64, device=self.classes.device) for _ in range(ranks)]
        dist.all_gather(sizes, torch.tensor([len(self.classes)], device=self.classes.device))
        lengths = torch.cat(sizes).tolist()
        if not any(lengths):
            return self
        # one exchange, every rank's rows padded to the longest; float64 represents a class number exactly
        packed = self.sums.new_zeros(max(lengths), 1 + self.sums.shape[1])
        packed[: len(self.classes), 0] = self.classes.double()
        packed[: len(self.classes), 1:] = self.sums
        everyone = [torch.empty_like(packed) for _ in range(ranks)]
        dist.all_gather(everyone, packed)
        return self.merged([ClassSums(p[:n, 0].long(), p[:n, 1:]) for p, n in zip(everyone, lengths, strict=True)])


def several_processes() -> bool:
    """Whether several processes may share the work."""
    return dist.is_available() and dist.is_initialized()


def counted(features: Tensor) -> Tensor:
    """Unit features in float64 with a last column of ones, whose sum counts them: shape (N, d + 1)."""
    rows = unit_rows(features.detach().double())
    return torch.cat([rows, rows.new_ones(len(rows), 1)], dim=1)


class CMFClassifier(SphericalHead):
    r"""A classifier whose vectors are moving means of the class-mean features (CMF).

    Once per optimiser step, for every class k with features in the step's batch :math:`B`,

    .. math::
        m_k \leftarrow \frac{u}{\|u\|}, \quad
        u = \beta m_k + (1 - \beta) \frac{1}{|B_k|} \sum_{i \in B_k} \frac{h_i}{\|h_i\|},

    with :math:`B_k` the features of class k over all micro-batches and ranks of the step and :math:`\beta` the
    momentum. The rows of other classes do not change, and neither does a row whose u is 0 to the rounding of
    ``weight``. There is no gradient and no optimiser state: one K x d array is all that is stored. Pending features and
    the exchange between ranks grow with the batch, not with K.

    Parameters
    ----------
    K, d : int
        Classes and feature dimension.
    temperature : float
        Divides the cosines; may be set later.
    momentum : float
        :math:`\beta`, from 0 to below 1; may be set later.
    seed : int, optional
        Seed of the initial rows, which are uniform on the sphere; without it they come from torch's global generator.

    Attributes
    ----------
    weight : Tensor, shape (K, d)
        Unit rows: a buffer.
    temperature, momentum : float
        The current settings.

    Raises
    ------
    ValueError
        If K < 2, d < 1, or the temperature is not a finite number above 0. Also if the momentum is not in [0, 1), or
        the seed not an integer of at least 0.

    Notes
    -----
    In training mode ``head(features, labels)`` adds the batch to the pending features, in float64, and `step` moves the
    means. After ``head.attach(optimizer)`` the optimiser calls `step` after each of its own steps. Micro-batches whose
    gradients are accumulated count as one batch. If a `torch.amp.GradScaler` skips a step, the features stay pending
    and count in the next one, which has the larger batch. They are still features of the network, which the skipped
    step did not change. (A fused optimiser takes every step and skips inside, so there they count at once.)
    In evaluation mode nothing is added. A forward pass that is run twice, as under activation checkpointing, counts
    twice.

    Where `torch.distributed` is initialised, `step` waits for every rank of the default process group. So all ranks
    must call it equally often, as attached optimisers do, and a rank without pending features takes part too. All ranks
    have to start from the same weight; they then have the same bits after every step. DistributedDataParallel sends
    rank 0's weight at the start. It sends it again before forward passes, which is not needed here;
    ``forward_sync_buffers=False`` turns off the latter (and batch norm's with it). Before PyTorch 2.13 it is
    ``broadcast_buffers=False``, which turns off both, so that a common ``seed`` is needed. The weight must not be a
    DTensor; `fully_shard` does not change it.

    If the means of all classes nearly coincide (a mean squared distance from their mean below 5e-4), the head warns
    once with a UserWarning. No features can distinguish the classes then. A lower learning rate often helps.

    Keep ``weight`` in float32 or float64: in half precision rounding cancels the steps of a large momentum.

    The state dict includes temperature and momentum (see `SphericalHead`). It does not include pending features, and
    loading a state dict discards them. `copy.deepcopy` copies them; no optimiser is attached to the copy.
    ``torch.compile(head)`` has a graph break where a batch becomes pending.

    The public code of the paper differs. It adds the sum of a class's features where this head adds their mean. So its
    momentum depends on how often a class occurs in a batch. Each of its ranks also keeps its own mean.

    References
    ----------
    Jiang et al., Generalized Neural Collapse for a Large Number of Classes, ICML 2024, arXiv 2310.05351.

    Examples
    --------
    >>> import torch
    >>> head = CMFClassifier(2, 2, temperature=0.1, momentum=0.0)
    >>> loss = head(torch.tensor([[0.0, 3.0], [-2.0, 0.0]]), torch.tensor([0, 1]))
    >>> head.step()
    >>> head.weight.tolist()
    [[0.0, 1.0], [-1.0, 0.0]]
    """

    settings: ClassVar[tuple[str, ...]] = ("temperature", "momentum")

    def __init__(self, K: int, d: int, temperature: float, momentum: float = 0.9, *, seed: int | None = None) -> None:
        super().__init__(K, d, temperature)
        self.momentum = momentum
        self.register_buffer("weight", as_default(unit_rows(normal(self.K, self.d, seed))))
        self._pending = ClassSums.none(self.d)
        self._batches_pending = 0
        self._warned: set[str] = set()

    @property
    def momentum(self) -> float:
        """Weight of the old class means in the moving average; it can be set."""
        return self._momentum

    @momentum.setter
    def momentum(self, momentum: float) -> None:
        self._momentum = check_number("momentum", momentum, 0, 1, "[)")

    def extra_repr(self) -> str:
        """What `repr` shows of the head."""
        return f"{super().extra_repr()}, momentum={self.momentum:g}"

    def forward(self, features: Tensor, labels: Tensor | None = None, **options: Any) -> Tensor:
        """Logits, or with labels their mean cross-entropy; in training mode labels also make the batch pending.

        See `SphericalHead.forward` for shapes, options and errors. A refused batch does not become pending, and neither
        do samples whose label is ``ignore_index``.
        """
        result = super().forward(features, labels, **options)
        if labels is not None and self.training:
            self._add(features, labels, options.get("ignore_index"))
        return result

    @torch.compiler.disable
    def _add(self, features: Tensor, labels: Tensor, ignore_index: int | None) -> None:
        self._check_plain()
        features, labels = features.reshape(-1, self.d), labels.reshape(-1)
        if ignore_index is not None:
            counts = labels != ignore_index
            features, labels = features[counts], labels[counts]
        batch = ClassSums.of(features, labels)
        self._pending = ClassSums.merged([self._pending.to(features.device), batch])
        self._batches_pending += 1
        if self._batches_pending > MANY_BATCHES:
            self._warn_once(
                "idle",
                f"{self._batches_pending} batches are pending and the class means have not moved: call step(), or "
                "attach(optimizer), once an optimiser step",
            )

    def _warn_once(self, kind: str, message: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(message, stacklevel=2)

    def _check_plain(self) -> None:
        if is_distributed(self.weight):
            raise ValueError(
                "a CMFClassifier's weight must be a plain tensor, the same on every process; got a DTensor: leave the "
                "head out of distribute_module"
            )

    def step(self) -> None:
        """Move the means of the classes that are pending on any rank, and clear the pending features.

        Warns
        -----
        UserWarning
            Once, if nothing is pending in training mode; and once, if the means of all classes nearly coincide.

        Raises
        ------
        ValueError
            If the weight is a DTensor.
        """
        self._check_plain()
        total = self._pending.to(self.weight.device).gathered()
        if self.training and not len(total.classes):
            self._warn_once("idle", "no features are pending: in training mode head(features, labels) collects them")
        self._drop_pending()
        old = self.weight[total.classes].double()
        self._set_rows(total.classes, self.momentum * old + (1 - self.momentum) * total.means)
        self._warn_of_collapse(total.classes)

    def _warn_of_collapse(self, moved: Tensor) -> None:
        """Warn once if all rows nearly coincide; checks all rows only if the moved ones nearly coincide."""
        if len(moved) < 2 or "collapse" in self._warned:
            return
        if spread(self.weight[moved]) < COLLAPSED and (square := float(spread(self.weight))) < COLLAPSED:
            self._warn_once(
                "collapse",
                f"all {self.K} class means are nearly equal (root mean square distance from their mean: "
                f"{square**0.5:.2g}), and no features can tell the classes apart: a lower learning rate often helps",
            )

    def attach(self, optimizer: torch.optim.Optimizer) -> RemovableHandle:
        """Make the optimiser call `step` after each of its own steps.

        Parameters
        ----------
        optimizer : torch.optim.Optimizer
            The optimiser that trains the features.

        Returns
        -------
        RemovableHandle
            ``remove()`` detaches.

        Raises
        ------
        ValueError
            If it is not an optimiser.

        Examples
        --------
        >>> import torch
        >>> body = torch.nn.Linear(5, 3)
        >>> head = CMFClassifier(4, 3, temperature=0.1)
        >>> optimizer = torch.optim.SGD(body.parameters(), lr=0.1)
        >>> handle = head.attach(optimizer)
        """
        if not isinstance(optimizer, torch.optim.Optimizer):
            raise ValueError(f"optimizer must be a torch.optim.Optimizer; got {type(optimizer).__name__}")
        return optimizer.register_step_post_hook(lambda *_: self.step())

    def set_class_means(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        r"""Set every class's row to the normalised mean of all its unit features, in one pass over the data.

        Pending features are discarded. Where `torch.distributed` is initialised, every rank has to call it with its own
        part of the data. Sums are float64 and take K x (d + 1) numbers while it runs.

        Parameters
        ----------
        batches : iterable of (features, labels)
            Features (N, d) on the head's device, of any floating-point dtype and norm; labels (N,), from 0 to K - 1.

        Raises
        ------
        ValueError
            For a batch that `forward` would refuse, except for its dtype; the weight then does not change.

        Warns
        -----
        UserWarning
            If classes have no features; it names them, and they keep their row.

        Examples
        --------
        >>> import torch
        >>> head = CMFClassifier(2, 2, temperature=0.1)
        >>> head.set_class_means([(torch.tensor([[2.0, 0.0], [0.0, 3.0]]), torch.tensor([0, 1]))])
        >>> head.weight.tolist()
        [[1.0, 0.0], [0.0, 1.0]]
        """
        self._check_plain()
        sums = torch.zeros(self.K, self.d + 1, dtype=torch.float64, device=self.weight.device)
        for features, labels in batches:
            check_features(features, self.d)
            check_alike(features, self.weight, ("features", "weight"), dtype=False)
            check_labels(labels, self.K, len(features))
            check_alike(features, labels, ("features", "labels"), dtype=False)
            sums.index_add_(0, labels.long(), counted(features))
        if several_processes():
            dist.all_reduce(sums)
        self._drop_pending()
        means = sums[:, :-1] / sums[:, -1:].clamp(min=1)
        every = torch.arange(self.K, device=sums.device)
        self._set_rows(every, means)
        self._warn_of_collapse(every)
        unseen = torch.nonzero(sums[:, -1] == 0).flatten()
        if len(unseen):
            message = f"{len(unseen)} of {self.K} classes have no features and keep their row: {listed(unseen)}"
            warnings.warn(message, stacklevel=2)

    def _drop_pending(self) -> None:
        self._pending = ClassSums.none(self.d)
        self._batches_pending = 0

    def _set_rows(self, classes: Tensor, rows: Tensor) -> None:
        """Set the rows of these classes to the given directions, except those that are zero to rounding."""
        rounding = 4 * torch.finfo(self.weight.dtype).eps
        has_direction = torch.linalg.vector_norm(rows, dim=1) > rounding
        self.weight[classes[has_direction]] = unit_rows(rows[has_direction]).to(self.weight.dtype)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._drop_pending()
        super()._load_from_state_dict(*args, **kwargs)
