"""Measurements of a network during training: neural collapse on the training data, accuracy on the test data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import cross_entropy

from experiments.model import chunks, loader
from softmaxcode.metrics import GNC1, GeneralizedNeuralCollapse, NearestClassMeanAccuracy

if TYPE_CHECKING:
    from collections.abc import Callable

    from lightning.fabric import Fabric
    from torch import Tensor

    from experiments.data import Data
    from experiments.model import Classifier


#: The names in every measurement; GNC adds more (see `softmaxcode.metrics.GeneralizedNeuralCollapse`).
MEASURED = ("loss", "train_accuracy", "test_loss", "test_accuracy", "ncm_accuracy", "GNC1", "GNC2", "GNC3")


class Measuring:
    """Measures a classifier on a data set, each process on its own part.

    Some classes may have no training data, such as tokens that are never a next token. GNC1 to GNC3 omit them, since
    their features are unknown.

    Parameters
    ----------
    data : Data
        Collapse is measured on ``train_unaugmented``, accuracy on ``test``.
    d : int
        Width of the features.
    temperature : float
        Temperature of the loss.
    workers : int
        Number of processes that read the data.
    """

    def __init__(self, data: Data, d: int, temperature: float, workers: int = 0) -> None:
        self.data, self.workers = data, workers
        self.seen = (data.counts > 0).nonzero()[:, 0]
        self.number = torch.full((data.K,), -1).index_put_((self.seen,), torch.arange(len(self.seen)))
        self.collapse = GeneralizedNeuralCollapse(len(self.seen), d, temperature=temperature)
        self.nearest_mean = NearestClassMeanAccuracy(len(self.seen), d)

    @torch.no_grad()
    def __call__(self, model: Classifier, fabric: Fabric) -> dict[str, float]:
        """Measure the classifier as it is; its mode is then restored.

        Returns
        -------
        dict
            ``loss`` and ``train_accuracy`` are on the training data without augmentation, ``test_loss`` and
            ``test_accuracy`` on the test data. ``ncm_accuracy`` is on the test data, by the nearest class mean of the
            training data. The other values are those of `GeneralizedNeuralCollapse`.
        """
        training = model.training
        model.eval()
        for metric in (self.collapse, self.nearest_mean):
            metric.reset()
            metric.to(fabric.device)
        number, seen = self.number.to(fabric.device), self.seen.to(fabric.device)
        weight: Any = model.head.weight
        self.collapse.set_classifier(weight.detach()[seen])

        def near(features: Tensor, labels: Tensor) -> None:
            known = number[labels] >= 0  # an unseen class has no mean, and counts as wrong below
            if known.any():
                self.nearest_mean.update(features[known], number[labels[known]])

        try:
            source = self.data.train_unaugmented
            train = self._passed(model, fabric, source, lambda H, y: self.collapse.update(H, number[y]))
            moments = self.collapse["GNC1"]
            assert isinstance(moments, GNC1)
            with moments.sync_context():
                self.nearest_mean.set_class_means(moments.class_means, moments.counts > 0)
            test = self._passed(model, fabric, self.data.test, near)
            with self.nearest_mean.sync_context():
                nearest = float(self.nearest_mean.correct)
            collapse = {name: float(value) for name, value in self.collapse.compute().items()}
        finally:
            model.train(training)
        return {
            "loss": train["loss"],
            "train_accuracy": train["accuracy"],
            "test_loss": test["loss"],
            "test_accuracy": test["accuracy"],
            "ncm_accuracy": nearest / test["samples"],
            **collapse,
        }

    def _passed(
        self, model: Classifier, fabric: Fabric, samples: Any, look: Callable[[Tensor, Tensor], None]
    ) -> dict[str, float]:
        """One pass over a data set, by all processes together."""
        mine = chunks(range(fabric.global_rank, len(samples), fabric.world_size))
        sums = torch.zeros(3, dtype=torch.float64, device=fabric.device)
        for inputs, labels in loader(samples, mine, workers=self.workers):
            y = labels.flatten().to(fabric.device)
            with fabric.autocast():
                H = model.features(inputs.to(fabric.device))
                logits = model.logits(H)
            look(H, y)
            loss = cross_entropy(logits.float(), y, reduction="sum")
            sums += torch.stack([loss.double(), (logits.argmax(1) == y).sum().double(), sums.new_tensor(len(y))])
        loss, correct, count = fabric.all_reduce(sums, reduce_op="sum").tolist()  # type: ignore[union-attr]
        return {"loss": loss / count, "accuracy": correct / count, "samples": count}
