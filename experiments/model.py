"""Network and head as one model, which is trained, saved and measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset

from experiments.assignments import permutation_for
from experiments.codes import code
from experiments.data import TextData
from experiments.networks import network
from softmaxcode.nn import CMFClassifier, CodeClassifier, SphericalClassifier

if TYPE_CHECKING:
    from collections.abc import Iterable

    from experiments.data import Data
    from experiments.settings import RunSettings

#: Samples per batch in evaluation.
INFERENCE_BATCH = 1000


class LinearHead(nn.Module):
    r"""The unnormalised baseline: logits :math:`\langle w_k, h \rangle / \tau` of rows and features of any norm.

    It has no bias, so ``weight`` is its only parameter.

    Parameters
    ----------
    K, d : int
        Classes and feature dimension.
    temperature : float
        Divides the inner products.

    Examples
    --------
    >>> LinearHead(3, 2, temperature=1.0)(torch.ones(4, 2)).shape
    torch.Size([4, 3])
    """

    def __init__(self, K: int, d: int, temperature: float) -> None:
        super().__init__()
        self.K, self.d, self.temperature = K, d, temperature
        self.weight = nn.Parameter(nn.Linear(d, K, bias=False).weight.detach())

    def forward(self, features: Tensor, labels: Tensor | None = None) -> Tensor:
        """Logits (N, K), or with labels their mean cross-entropy."""
        logits = features @ self.weight.T / self.temperature
        return logits if labels is None else cross_entropy(logits, labels)


class Classifier(nn.Module):
    """A network and its head.

    Parameters
    ----------
    network : Module
        Maps inputs to features (N, d), or to (N, T, d) for sequences, where every position counts as a sample.
    head : Module
        Maps features to logits, and with labels to the loss. Its ``weight`` is (K, d).
    frozen : bool
        Train only the last layer of the network and the head. Batch normalisation keeps its statistics.

    Raises
    ------
    ValueError
        If ``frozen`` is set and the network has no linear layer.
    """

    def __init__(self, network: nn.Module, head: nn.Module, *, frozen: bool = False) -> None:
        super().__init__()
        self.network, self.head, self.frozen = network, head, frozen
        if frozen:
            network.requires_grad_(False)
            linear = [module for module in network.modules() if isinstance(module, nn.Linear)]
            if not linear:
                raise ValueError(f"frozen needs a network whose last layer is linear; got {type(network).__name__}")
            linear[-1].requires_grad_(True)

    def train(self, mode: bool = True) -> Classifier:
        """Set training or evaluation mode; a frozen network stays in evaluation mode."""
        super().train(mode)
        if self.frozen:
            self.network.eval()
        return self

    def features(self, inputs: Tensor) -> Tensor:
        """Features of a batch, the output of the network, one sample per row, (N, d)."""
        return self.network(inputs).flatten(0, -2)

    def logits(self, features: Tensor) -> Tensor:
        """Logits of features, (N, K)."""
        return self.head(features)

    def forward(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """The loss of a batch; NaN if the features are not finite, which the heads refuse."""
        features = self.features(inputs)
        if not torch.isfinite(features).all():
            return features.sum() * torch.nan
        return self.head(features, labels.flatten())

    @property
    def temperature(self) -> float:
        """The temperature of the head."""
        return float(self.head.temperature)  # type: ignore[arg-type]


def built(settings: RunSettings, data: Data) -> Classifier:
    """The network and head of a run, untrained; their parameters depend on the seed alone.

    Raises
    ------
    ValueError
        If network, head and data do not fit together.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        body = untrained_network(settings, data)
        return Classifier(body, _head(settings, data), frozen=settings.frozen)


def untrained_network(settings: RunSettings, data: Data) -> nn.Module:
    """The network of a run, initialised from torch's global generator.

    Raises
    ------
    ValueError
        If it does not fit the data, or has no such options.
    """
    of_text = isinstance(data, TextData)
    if of_text != (settings.network == "text-transformer"):
        kind = "tokens, which 'text-transformer' reads" if of_text else "images, which 'text-transformer' cannot read"
        raise ValueError(f"{settings.data} has {kind}; got network {settings.network!r}")
    inputs: dict[str, Any] = (
        {"vocabulary": data.K, "length": data.context}
        if isinstance(data, TextData)
        else {"image_size": data.image_size, "channels": data.channels}  # type: ignore[attr-defined]
    )
    return network(settings.network, settings.d, **(inputs | settings.network_options))


def _head(settings: RunSettings, data: Data) -> nn.Module:
    K, d, temperature = data.K, settings.d, settings.temperature
    match settings.head:
        case "learned":
            return SphericalClassifier(K, d, temperature, seed=settings.seed)
        case "cmf":
            assert settings.cmf_momentum is not None
            return CMFClassifier(K, d, temperature, settings.cmf_momentum, seed=settings.seed)
        case "code":
            best = code(K, d)
            return CodeClassifier(best, temperature, permutation_for(settings, data, best), seed=settings.seed)
        case _:
            return LinearHead(K, d, temperature)


class Batches(Dataset[Any]):
    """A data set that is indexed by many samples at once, and draws random numbers for them from their own seed."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __getitem__(self, batch: tuple[list[int], int]) -> tuple[Tensor, Tensor]:
        indices, seed = batch
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return self.samples.batch(indices)


def loader(
    samples: Any, batches: Iterable[tuple[list[int], int]], *, workers: int = 0, pin: bool = False
) -> DataLoader[Any]:
    """Batches of inputs and labels, one per list of indices; the seed of each determines its random numbers."""
    return DataLoader(Batches(samples), batch_size=None, sampler=batches, num_workers=workers, pin_memory=pin)


def chunks(indices: range, size: int = INFERENCE_BATCH) -> list[tuple[list[int], int]]:
    """Consecutive lists of at most ``size`` of the indices, for `loader`."""
    return [(list(indices[start : start + size]), 0) for start in range(0, len(indices), size)]


@torch.no_grad()
def collect(model: Classifier, samples: Any, batch_size: int = INFERENCE_BATCH) -> tuple[Tensor, Tensor]:
    """Features of a whole data set, in evaluation mode.

    Parameters
    ----------
    model : Classifier
        On any device; its mode is restored.
    samples : LabelledImages or TokenContexts
        The data set.
    batch_size : int
        Number of images, or contexts, at once.

    Returns
    -------
    features : Tensor, shape (N, d)
        The output of the network, on the CPU.
    labels : Tensor, shape (N,)
    """
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    try:
        parts = [
            (model.features(inputs.to(device)).cpu(), labels.flatten())
            for inputs, labels in loader(samples, chunks(range(len(samples)), batch_size))
        ]
    finally:
        model.train(training)
    features, labels = zip(*parts, strict=True)
    return torch.cat(features), torch.cat(labels)
