"""Named and seeded shifts of the test inputs away from the training inputs."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from experiments.data.augmentation import moved
from experiments.data.seeding import stream

#: Kinds of shift and their default severities.
SEVERITIES = {"translation": 2.0, "gaussian-noise": 0.2, "contrast": 0.5}


@dataclass(frozen=True)
class Shift:
    """A corruption of images that depends only on the image's number and the seed, not on order or batch.

    Attributes
    ----------
    kind : {"translation", "gaussian-noise", "contrast"}
        ``translation`` moves every image by whole pixels and fills with black. The direction is random, among those
        whose larger displacement is ``severity``. ``gaussian-noise`` adds N(0, severity^2) to every value and clips to
        [0, 1]. ``contrast`` moves every image towards its mean m: m + (1 - severity) (x - m).
    severity : float
        Pixels, a standard deviation in units of the full range, or a fraction from 0 to 1.
    seed : int

    Examples
    --------
    >>> Shift.parsed("contrast:0.75")
    Shift(kind='contrast', severity=0.75, seed=0)
    >>> Shift.parsed("contrast:1")(torch.tensor([[[[0.0, 1.0]]]]), torch.tensor([0])).tolist()
    [[[[0.5, 0.5]]]]
    """

    kind: str
    severity: float
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in SEVERITIES:
            raise ValueError(f"shift must be one of {', '.join(map(repr, SEVERITIES))}; got {self.kind!r}")
        if not 0 <= self.severity < math.inf:
            raise ValueError(f"the severity of a shift must be a finite number of at least 0; got {self.severity!r}")
        if self.kind == "translation" and self.severity != round(self.severity):
            raise ValueError(f"a translation is by whole pixels; got {self.severity!r}")
        if self.kind == "contrast" and self.severity > 1:
            raise ValueError(f"the severity of contrast is a fraction from 0 to 1; got {self.severity!r}")

    @classmethod
    def parsed(cls, text: str, seed: int = 0) -> Shift:
        """The shift named by ``"kind"`` or ``"kind:severity"``.

        Raises
        ------
        ValueError
            For a kind that does not exist, or an invalid severity.
        """
        kind, colon, severity = text.partition(":")
        try:
            number = float(severity) if colon else SEVERITIES.get(kind, 0.0)
        except ValueError:
            raise ValueError(f"a shift is written kind:severity, such as 'contrast:0.5'; got {text!r}") from None
        return cls(kind, number, seed)

    def __call__(self, pixels: Tensor, numbers: Tensor) -> Tensor:
        """Apply the shift to images (N, channels, height, width) in [0, 1] with the given numbers in their data set."""
        if self.kind == "contrast":
            mean = pixels.mean(dim=(1, 2, 3), keepdim=True)
            return mean + (1 - self.severity) * (pixels - mean)
        generators = [stream(self.seed, f"{self.kind} {number}") for number in numbers.tolist()]
        if self.kind == "translation":
            size = int(self.severity)
            steps = range(-size, size + 1)
            ring = torch.tensor([(x, y) for x in steps for y in steps if max(abs(x), abs(y)) == size])
            return moved(pixels, ring[[int(rng.integers(len(ring))) for rng in generators]].to(pixels.dtype))
        noise = np.stack([rng.standard_normal(pixels.shape[1:], dtype=np.float32) for rng in generators])
        return (pixels + self.severity * torch.from_numpy(noise)).clamp(0, 1)
