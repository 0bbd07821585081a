"""The unconstrained feature model: a batch of classifiers and their features, free on the sphere."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from softmaxcode.checks.geoopt import geoopt
from softmaxcode.checks.tensors import unit_rows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ufm.parallel import Shard
    from ufm.settings import Settings


def labels_of(settings: Settings) -> Tensor:
    """The class of each feature, shape (N,): those of class 0 first."""
    return torch.repeat_interleave(
        torch.arange(settings.K), torch.tensor(settings.counts), output_size=settings.samples
    )


def random_rows(settings: Settings) -> tuple[Tensor, Tensor]:
    """The initial rows of a run, W (K, d) and H (N, d): uniform on the sphere, or standard normal in the free model.

    They are drawn on the CPU, so that a seed gives the same start on every device.
    """
    generator = torch.Generator().manual_seed(settings.seed)
    dtype = getattr(torch, settings.dtype)
    W, H = (torch.randn(rows, settings.d, generator=generator, dtype=dtype) for rows in (settings.K, settings.samples))
    return (unit_rows(W), unit_rows(H)) if settings.spherical else (W, H)


class Model(torch.nn.Module):
    """B classifiers W (B, K, d) and their features H (B, N, d), parameters on geoopt's `Sphere` or `Euclidean`.

    Parameters
    ----------
    runs : sequence of Settings
        The settings of the B runs, which differ in seed and temperature alone.
    shard : Shard
        The rows that this process stores.
    device : torch.device
        The device of the parameters.
    """

    labels: Tensor

    def __init__(self, runs: Sequence[Settings], shard: Shard, device: torch.device) -> None:
        super().__init__()
        labels = labels_of(runs[0])
        mine = (labels >= shard.classes.start) & (labels < shard.classes.stop)
        starts = []
        for settings in runs:  # a rank keeps only its own rows
            W, H = random_rows(settings)
            starts.append((W[shard.classes].to(device), H[mine].to(device)))
        manifold = geoopt.Sphere() if runs[0].spherical else geoopt.Euclidean(ndim=1)
        self.W, self.H = (
            geoopt.ManifoldParameter(torch.stack(rows), manifold=manifold) for rows in zip(*starts, strict=True)
        )
        self.register_buffer("labels", labels[mine].to(device))

    @property
    def manifold(self) -> geoopt.Manifold:
        """The manifold of every row."""
        return self.W.manifold
