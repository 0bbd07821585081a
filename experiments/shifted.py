"""Test accuracy of finished runs on test images that are shifted away from the training images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypedDict

import torch

from experiments.model import INFERENCE_BATCH, collect

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from experiments.model import Classifier
    from experiments.runs import TrainedRun


def correct(model: Classifier, samples: Any) -> tuple[Tensor, Tensor]:
    """Which samples of a data set the classifier classifies correctly.

    Parameters
    ----------
    model : Classifier
    samples : LabelledImages or TokenContexts
        For example the test set of a run's data.

    Returns
    -------
    correct : Tensor of bool, shape (N,)
    labels : Tensor, shape (N,)
    """
    features, labels = collect(model, samples)
    with torch.no_grad():  # in parts, since N x K logits can be many
        predicted = torch.cat([model.logits(part).argmax(dim=1) for part in features.split(INFERENCE_BATCH)])
    return predicted == labels, labels


class _Shifted(TypedDict):
    test_accuracy: float


def shifted_accuracy(run: TrainedRun, shifts: Sequence[str]) -> dict[str, float]:
    """Test accuracy under shifts of the test images, each computed once and stored in the folder of the run.

    Parameters
    ----------
    run : TrainedRun
        A finished run on images.
    shifts : sequence of str
        Shifts as in `experiments.data.load`, such as ``"contrast:0.5"``.

    Returns
    -------
    dict
        Accuracy, from 0 to 1, by shift.

    Raises
    ------
    ValueError
        For a shift that does not exist, or data without shifts.
    """

    def accuracy(shift: str) -> float:
        def measure(run: TrainedRun) -> _Shifted:
            right, _ = correct(run.model(), run.data(shift=shift).test)
            return {"test_accuracy": float(right.double().mean())}

        # the severity is part of the name, so that other severities are other evaluations
        return float(run.evaluation("shifted-" + shift.replace(":", "-"), _Shifted, measure)["test_accuracy"])

    return {shift: accuracy(shift) for shift in shifts}
