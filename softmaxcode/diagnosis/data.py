"""What data show of a classifier: collapse of its features, its accuracy, and the classes that it confuses."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from softmaxcode.checkpoints.classifier import layers_with_weights
from softmaxcode.checks.arguments import shown
from softmaxcode.checks.tensors import check_features, check_labels
from softmaxcode.metrics.collapse import GNC1, GNC3, EffectiveRank
from softmaxcode.parallel.progress import Progress

if TYPE_CHECKING:
    from torch import Tensor, nn

    from softmaxcode.types import Rows

#: Numbers of features that are kept for the nearest class mean, 512 MB; features after these are left out there.
MAX_KEPT = 2**27
#: Rows of a tile of distances to class means.
TILE = 2**22


@dataclass(frozen=True, eq=False)
class DataMeasurements:
    """Measurements on data.

    Attributes
    ----------
    samples : int
        Number of features.
    unseen : int
        Classes without any.
    accuracy : float
        Of the head.
    mean_accuracy : float
        Of the nearest class mean, on unit features.
    agreement : float
        The fraction of features for which the head and the nearest class mean agree (NC4 is 1 minus this).
    compared : int
        Features for which both were compared.
    gnc1, gnc3, gnc3_centred, effective_rank : float
        As of `softmaxcode.metrics`.
    feature_norm : float
        The median norm of the features.
    confused : DataFrame
        The pairs of a class and what it is taken for, the most frequent first: ``row``, ``predicted`` (rows of the
        classifier), ``count``, and ``fraction`` of the class's samples.
    """

    samples: int
    unseen: int
    accuracy: float
    mean_accuracy: float
    agreement: float
    compared: int
    gnc1: float
    gnc3: float
    gnc3_centred: float
    effective_rank: float
    feature_norm: float
    confused: pd.DataFrame


def named_layer(model: nn.Module, name: str) -> nn.Module:
    """A layer of a model by its name.

    Raises
    ------
    ValueError
        If there is none; the message lists layers with a weight matrix.
    """
    layers = dict(model.named_modules())
    if name in layers and name:
        return layers[name]
    raise ValueError(f"the model has no layer {shown(name)}; {layers_with_weights(model)}")


@torch.no_grad()
def measure_data(model: nn.Module, layer: nn.Module, loader: Iterable[Any], W: Rows) -> DataMeasurements:
    """Run a model over data and measure the features that enter a layer.

    Parameters
    ----------
    model : Module
        It is called with the inputs of each batch, in evaluation mode.
    layer : Module
        The classifier in it; its first argument are the features, its result the logits.
    loader : iterable
        Batches of inputs and labels; a label is a row of the classifier.
    W : ndarray, shape (K, d)
        Its rows.

    Raises
    ------
    ValueError
        If a batch is not a pair, the layer is not called, or features or labels do not fit.
    """
    K, d = W.shape
    caught: list[tuple[Any, Any]] = []
    handle = layer.register_forward_hook(lambda _, arguments, result: caught.append((arguments[0], result)))
    training = model.training
    model.eval()
    first = next(iter(model.parameters()), None)
    device = torch.device("cpu") if first is None else first.device
    variability, duality, centred = GNC1(K, d), GNC3(K, d), GNC3(K, d, centred=True)
    metrics = (variability, duality, centred, EffectiveRank(K, d))
    pairs: list[Tensor] = []
    kept: list[Tensor] = []
    predictions: list[Tensor] = []
    every_label: list[Tensor] = []
    norms: list[Tensor] = []
    try:
        with Progress("data", len(loader) if isinstance(loader, Sized) else None) as bar:
            for batch in loader:
                inputs, labels = _pair(batch)
                caught.clear()
                model(inputs.to(device) if hasattr(inputs, "to") else inputs)
                if len(caught) != 1:
                    raise ValueError(f"the layer must be called once per batch; it was called {len(caught)} times")
                features, logits, labels = _rows(*caught[0], labels, K, d)
                for metric in metrics:
                    metric.update(features, labels)
                predicted = logits.argmax(dim=1)
                wrong = predicted != labels
                pairs.append(torch.stack([labels[wrong], predicted[wrong]]))
                norms.append(torch.linalg.vector_norm(features.float(), dim=1))
                predictions.append(predicted)
                every_label.append(labels)
                if sum(one.numel() for one in kept) + features.numel() <= MAX_KEPT:
                    kept.append(torch.nn.functional.normalize(features.double(), dim=1).float())
                bar.step(1)
    finally:
        handle.remove()
        model.train(training)
    if not predictions:
        raise ValueError("the loader gave no batch")
    predicted, labels = torch.cat(predictions), torch.cat(every_label)
    for metric in (duality, centred):
        metric.set_classifier(torch.from_numpy(W))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # unseen classes are counted below
        found = [float(metric.compute()) for metric in metrics]
    seen = variability.counts > 0
    nearest = _nearest_means(torch.cat(kept), variability.class_means, seen)
    few = len(nearest)
    return DataMeasurements(
        samples=len(labels),
        unseen=int((~seen).sum()),
        accuracy=float((predicted == labels).double().mean()),
        mean_accuracy=float((nearest == labels[:few]).double().mean()),
        agreement=float((nearest == predicted[:few]).double().mean()),
        compared=few,
        gnc1=found[0],
        gnc3=found[1],
        gnc3_centred=found[2],
        effective_rank=found[3],
        feature_norm=float(torch.cat(norms).median()),
        confused=_confusions(torch.cat(pairs, dim=1), labels, K),
    )


def _pair(batch: Any) -> tuple[Any, Any]:
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise ValueError(f"a batch must be a pair of inputs and labels; got {shown(type(batch).__name__)}")
    return batch[0], batch[1]


def _rows(features: Any, logits: Any, labels: Any, K: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """Features (N, d), logits (N, K) and labels (N,) of a batch on the CPU; positions of a sequence are rows."""
    if features.ndim > 2 and features.shape[-1] == d:
        features, logits = features.reshape(-1, d), logits.reshape(-1, logits.shape[-1])
        labels = labels.reshape(-1)
    features, labels = check_features(features.detach().cpu(), d), labels.detach().cpu()
    check_labels(labels, K, len(features))
    return features, logits.detach().reshape(len(features), -1).cpu(), labels.long()


def _nearest_means(features: Tensor, means: Tensor, seen: Tensor) -> Tensor:
    """The class whose mean is nearest to each unit feature."""
    classes = seen.nonzero()[:, 0]
    centres = means[classes].float()
    offsets = centres.square().sum(1) / 2
    step = max(1, TILE // len(centres))
    return torch.cat([classes[(part @ centres.T - offsets).argmax(dim=1)] for part in features.split(step)])


def _confusions(wrong: Tensor, labels: Tensor, K: int) -> pd.DataFrame:
    """Pairs of a class and what it is taken for, the most frequent first."""
    pairs, counts = np.unique(wrong.numpy().T, axis=0, return_counts=True)
    totals = np.bincount(labels.numpy(), minlength=K)
    frame = pd.DataFrame(
        {
            "row": pairs[:, 0],
            "predicted": pairs[:, 1],
            "count": counts,
            "fraction": counts / totals[pairs[:, 0]] if len(pairs) else [],
        }
    )
    return frame.sort_values(["count", "fraction"], ascending=False, ignore_index=True, kind="stable")
