"""Class moments of a stream of unit features in one packed tensor, and the base classes of the metrics."""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from softmaxcode.checks.arguments import check_memory, check_pair
from softmaxcode.checks.tensors import (
    COLLAPSED,
    check_alike,
    check_classifier,
    check_features,
    check_finite,
    check_labels,
    gathered,
    listed,
    spread,
    unit_rows,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence


def pack(counts: Tensor, means: Tensor, scatter: Tensor) -> Tensor:
    """The moments as one vector: counts (K,), means (K, d), scatter (d, d), in this order."""
    return torch.cat([counts, means.flatten(), scatter.flatten()])


def unpack(moments: Tensor, K: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Views of packed moments: counts (K,), means (K, d), scatter (d, d)."""
    counts, means, scatter = moments.split([K, K * d, d * d])
    return counts, means.view(K, d), scatter.view(d, d)


def merge_means(a: Tensor, means_a: Tensor, b: Tensor, means_b: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    r"""Counts and means of two parts of a stream together, and the term to add to their scatter.

    .. math::
        n_k = a_k + b_k, \quad \delta_k = m^b_k - m^a_k, \quad m_k = m^a_k + \frac{b_k}{n_k} \delta_k, \quad
        S = S^a + S^b + \sum_k \frac{a_k b_k}{n_k} \delta_k \delta_k^T

    Parameters
    ----------
    a, b : Tensor, shape (K,)
        Counts of the parts; both are 0 only for an unseen class.
    means_a, means_b : Tensor, shape (K, d)
        Their class means.

    Returns
    -------
    Tensor, shape (K,), Tensor, shape (K, d) and Tensor, shape (K, d)
        Counts, means, and rows R such that R^T R is the last sum.

    References
    ----------
    Chan, Golub, LeVeque, The American Statistician 37 (1983).
    """
    fraction = (b / (a + b).clamp(min=1))[:, None]
    delta = means_b - means_a
    return a + b, means_a + fraction * delta, (a[:, None] * fraction).sqrt() * delta


def merge(stacked: Tensor, K: int, d: int) -> Tensor:
    r"""Moments of several parts of a stream together, merged one after the other by `merge_means`.

    Parameters
    ----------
    stacked : Tensor, shape (R, K + K d + d d)
        Packed moments of R parts; a part without features is zero and changes nothing.
    K, d : int
        Number of classes and dimension.

    Returns
    -------
    Tensor, shape (K + K d + d d,)
        Packed moments of all parts together.
    """

    def two(first: Tensor, second: Tensor) -> Tensor:
        a, means_a, scatter_a = unpack(first, K, d)
        b, means_b, scatter_b = unpack(second, K, d)
        counts, means, rows = merge_means(a, means_a, b, means_b)
        return pack(counts, means, scatter_a + scatter_b + rows.T @ rows)

    return functools.reduce(two, stacked.unbind())


def seen_classes(counts: Tensor, *, at_least: int, warn: bool) -> Tensor:
    """Indices of the classes with features, int64; too few raise a ValueError, other missing ones a warning."""
    if not counts.any():
        raise ValueError("nothing to compute: no features were seen; call update(features, labels) first")
    seen, unseen = counts.nonzero()[:, 0], (counts == 0).nonzero()[:, 0]
    if len(seen) < at_least:
        raise ValueError(f"features of at least {at_least} classes are needed; all were of class {int(seen[0])}")
    if len(unseen) and warn:
        message = f"{len(unseen)} of {len(counts)} classes had no features and are left out: {listed(unseen)}"
        warnings.warn(message, UserWarning, stacklevel=2)
    return seen


def warn_of_collapse(means: Tensor) -> None:
    """Warn if means of unit features are nearly equal: GNC1 = 0 would suggest neural collapse."""
    square = float(spread(means))
    if square < COLLAPSED:
        message = (
            f"the {len(means)} class means are nearly equal (root mean square distance from their mean: "
            f"{square**0.5:.2g}): unit features hardly differ between classes, and a small GNC1 is no neural collapse"
        )
        warnings.warn(message, UserWarning, stacklevel=2)


class StreamMetric(Metric):
    """A metric of a stream of batches of features (N, d) and labels (N,), K classes.

    States keep their dtype when a module that contains the metric is cast. Computed values are not cached: a classifier
    may change between two calls of ``compute``.
    """

    full_state_update = False
    is_differentiable = False
    #: Whether the metric contains a single batch of `forward`, in which some classes are usually missing.
    one_batch = False
    #: Attributes that must be equal for two metrics to be merged.
    same: ClassVar[tuple[str, ...]] = ("K", "d")

    def __init__(self, K: int, d: int, **kwargs: Any) -> None:
        super().__init__(**{"compute_with_cache": False, **kwargs})
        self.K, self.d = check_pair(K, d)
        what = f"the class moments of {self.K} classes in {self.d} dimensions"
        check_memory(what, 8 * self.d * (self.K + self.d), "measure a sample of the classes")

    def check_batch(self, features: Any, labels: Any) -> None:
        """Check features (N, d) and labels (N,) and that they are on the metric's device, or raise a ValueError."""
        check_features(features, self.d)
        check_labels(labels, self.K, len(features))
        self.check_device(features, "features")
        check_alike(features, labels, ("features", "labels"), dtype=False)

    def check_device(self, tensor: Tensor, name: str) -> None:
        """Raise a ValueError unless the tensor is on the metric's device."""
        here = torch.empty(0, device=self.device)
        check_alike(tensor, here, (name, f"the metric {type(self).__name__}"), dtype=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Accumulate a batch and return the value of this batch alone; a refused batch changes nothing.

        A batch without a value of its own (GNC1 of a single class, say) is refused as well; `update` accepts it.
        """
        batch = copy.copy(self)
        batch.reset()
        batch.one_batch, batch._to_sync = True, self.dist_sync_on_step
        batch.update(*args, **kwargs)
        self._forward_cache = batch.compute()
        self._reduce_states(batch.metric_state)
        self._update_count += 1
        return self._forward_cache

    @contextlib.contextmanager
    def sync_context(self, *args: Any, **kwargs: Any) -> Generator[None]:
        """Like torchmetrics', but states of this process do not change if ``compute`` raises."""
        try:
            with super().sync_context(*args, **kwargs):
                yield
        except BaseException:
            if self._is_synced:
                self.unsync()
            raise

    def merge_state(self, incoming_state: dict[str, Any] | Metric) -> None:
        """Accumulate the features that another metric has seen, given the metric or its ``metric_state``.

        Raises
        ------
        ValueError
            If it is a metric of another kind or size.
        """
        if isinstance(incoming_state, type(self)):
            mine, theirs = ([getattr(metric, name) for name in self.same] for metric in (self, incoming_state))
            if mine != theirs:
                raise ValueError(f"only metrics of equal {', '.join(self.same)} can be merged; got {mine} and {theirs}")
        super().merge_state(incoming_state)
        self._update_count += 1

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for state in self._defaults:
            name, mine = prefix + state, getattr(self, state)
            if name in state_dict:
                if state_dict[name].shape != mine.shape:
                    raise ValueError(
                        f"{name} must have shape {tuple(mine.shape)} for (K, d) = ({self.K}, {self.d}); "
                        f"got {tuple(state_dict[name].shape)}"
                    )
                # a copy: updates change the state in place, and must not change the loaded dict
                state_dict[name] = state_dict[name].to(mine, copy=True)
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _apply(self, fn: Callable[[Tensor], Tensor], exclude_state: Sequence[str] = "") -> Any:
        # a cast of the whole model must not change the dtype of float64 states: only the device follows
        return super()._apply(lambda state: state.to(fn(state.new_empty(0)).device), exclude_state)


class ClassifierMetric(StreamMetric):
    """A metric of a classifier, which `set_classifier` names."""

    _classifier: Tensor | torch.nn.Module | None = None

    @torch.no_grad()
    def set_classifier(self, W: Tensor | torch.nn.Module) -> None:
        """Name the classifier to measure.

        Parameters
        ----------
        W : Module or Tensor, shape (K, d)
            A head, or one class per row, of any norm. A head, parameter or buffer is kept by reference, so the metric
            uses its current value. A tensor computed from others keeps its present value, such as the ``weight`` of a
            `SphericalClassifier`. Copies and pickles of the metric contain a copy of the classifier. All processes
            gather the rows of a DTensor, such as a parameter of `fully_shard`, at every use. So all of them have to
            update and compute alike; or pass ``W.full_tensor()``, its present value.

        Raises
        ------
        ValueError
            If it is not a finite floating-point tensor of shape (K, d), or has no such ``weight``.
        """
        check_classifier(_weight(W), self.K, self.d)
        # past Module.__setattr__, which would register a parameter or a head as the metric's own
        self.__dict__["_classifier"] = W.detach() if isinstance(W, Tensor) and not W.is_leaf else W

    @torch.no_grad()
    def classifier(self) -> Tensor:
        """The current classifier, shape (K, d), detached."""
        if self._classifier is None:
            raise ValueError(f"{type(self).__name__} has no classifier; call set_classifier(head) first")
        W: Tensor = gathered(_weight(self._classifier), "W")
        self.check_device(W, "W")
        check_finite(W, name="W")
        return W.detach()


def _weight(W: Any) -> Any:
    return getattr(W, "weight", None) if isinstance(W, torch.nn.Module) else W


class ClassMoments(StreamMetric):
    """Counts, means and pooled scatter of the classes of a stream of unit features, in float64.

    Features are scaled to unit norm; a row of zeros stays zero. Memory is O(K d + d d), and so is the exchange between
    processes. An update costs O(N d d) and changes only the classes of the batch.
    """

    moments: Tensor

    def __init__(self, K: int, d: int, **kwargs: Any) -> None:
        super().__init__(K, d, **kwargs)
        size = self.K + self.K * self.d + self.d * self.d
        together = functools.partial(merge, K=self.K, d=self.d)
        self.add_state("moments", torch.zeros(size, dtype=torch.float64), dist_reduce_fx=together)

    def update(self, features: Tensor, labels: Tensor) -> None:
        """Accumulate a batch.

        Parameters
        ----------
        features : Tensor, shape (N, d)
            Floating point of any precision, N >= 1; converted to float64.
        labels : Tensor of integers, shape (N,)
            Classes from 0 to K - 1.

        Raises
        ------
        ValueError
            If they are invalid or not on the metric's device; the metric then does not change.
        """
        self.check_batch(features, labels)
        H = self.rows(features.detach().double())
        classes, index, of_batch = torch.unique(labels.long(), return_inverse=True, return_counts=True)
        batch_means = H.new_zeros(len(classes), self.d).index_add_(0, index, H) / of_batch[:, None]
        if self.moments.is_inference():  # such a tensor cannot change in place once inference mode has ended
            self.moments = self.moments.clone()
        counts, means, scatter = self._unpacked()
        merged = merge_means(counts[classes], means[classes], of_batch.double(), batch_means)
        counts[classes], means[classes] = merged[:2]
        rows = torch.cat([H - batch_means[index], merged[2]])  # about the batch's own means: no cancellation
        scatter.addmm_(rows.T, rows)
        self.add_deviations(torch.cat([classes[index], classes]), rows)

    def add_deviations(self, classes: Tensor, rows: Tensor) -> None:
        """Accumulate what a metric keeps of the deviations beside their scatter: by default nothing.

        Parameters
        ----------
        classes : Tensor of int64, shape (n,)
            The class of each row.
        rows : Tensor, shape (n, d)
            Rows whose squared norms, summed by class, are what this batch adds to the scatter of the class.
        """

    def _unpacked(self) -> tuple[Tensor, Tensor, Tensor]:
        """Views of counts, means and scatter."""
        return unpack(self.moments[: self.K + self.K * self.d + self.d * self.d], self.K, self.d)

    def rows(self, features: Tensor) -> Tensor:
        """The features as they count, shape (N, d): scaled to unit norm."""
        return unit_rows(features)

    @property
    def counts(self) -> Tensor:
        """Features of each class, shape (K,), float64: of this process; in ``with self.sync_context():`` of all."""
        return self._unpacked()[0].clone()

    @property
    def class_means(self) -> Tensor:
        """Means of the unit features, shape (K, d), float64, as `counts`; 0 for an unseen class."""
        return self._unpacked()[1].clone()

    @property
    def scatter(self) -> Tensor:
        """The pooled scatter of the features about their class means, shape (d, d), float64, as `counts`."""
        return self._unpacked()[2].clone()

    def seen_moments(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Classes seen (k,), their counts (k,) and means (k, d), and the scatter (d, d).

        Warns
        -----
        UserWarning
            Except in `forward`: for unseen classes, and for class means that are nearly equal.
        """
        counts, means, scatter = self._unpacked()
        seen = seen_classes(counts, at_least=2, warn=not self.one_batch)
        if not self.one_batch:
            warn_of_collapse(means[seen])
        return seen, counts[seen], means[seen], scatter

    def rounding(self, counts: Tensor) -> float:
        """The size of rounding errors in means of unit features, given their counts; smaller values count as 0."""
        return max(len(counts), self.d, float(counts.max())) * torch.finfo(torch.float64).eps
