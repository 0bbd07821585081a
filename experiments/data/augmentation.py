"""Random crops, flips and rotations of a batch of images, for training."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample


def moved(pixels: Tensor, offset: Tensor, angle: Tensor | None = None, flipped: Tensor | None = None) -> Tensor:
    r"""Images rotated about their centre, mirrored and shifted individually, by one nearest-pixel sampling.

    Let s = -1 for a mirrored image and 1 otherwise. The output at position p (pixels from the centre, x right, y down)
    is the input at

    .. math:: \begin{pmatrix} s & 0 \\ 0 & 1 \end{pmatrix}
              \begin{pmatrix} \cos a & -\sin a \\ \sin a & \cos a \end{pmatrix} p + \text{offset},

    and black, that is 0, outside the input.

    Parameters
    ----------
    pixels : Tensor, shape (N, channels, height, width)
        Floating point.
    offset : Tensor, shape (N, 2)
        In pixels, x first: the place in the input of the output's centre. Whole numbers are exact.
    angle : Tensor, shape (N,), optional
        In radians; 0 by default.
    flipped : Tensor of bool, shape (N,), optional
        Which images are mirrored left to right; none by default.

    Returns
    -------
    Tensor, shape (N, channels, height, width)

    Examples
    --------
    >>> image = torch.arange(6.0).reshape(1, 1, 2, 3)
    >>> moved(image, torch.tensor([[1.0, 0.0]]))[0, 0].tolist()
    [[1.0, 2.0, 0.0], [4.0, 5.0, 0.0]]
    """
    N, _, height, width = pixels.shape
    angle = torch.zeros(N) if angle is None else angle
    side = torch.ones(N) if flipped is None else torch.where(flipped, -1.0, 1.0)
    cos, sin = torch.cos(angle), torch.sin(angle)
    # affine_grid counts x in half widths and y in half heights
    x = torch.stack([side * cos, -side * sin * (height / width), offset[:, 0] * (2 / width)], dim=1)
    y = torch.stack([sin * (width / height), cos, offset[:, 1] * (2 / height)], dim=1)
    grid = affine_grid(torch.stack([x, y], dim=1).to(pixels.dtype), list(pixels.shape), align_corners=False)
    return grid_sample(pixels, grid, mode="nearest", padding_mode="zeros", align_corners=False)


@dataclass(frozen=True)
class Augmentation:
    """Random crop of the padded image, random mirroring, random rotation; uses PyTorch's global generator.

    Attributes
    ----------
    padding : int
        Pixels of black added on each side before an image of the old size is cut out at a random place.
    flip : bool
        Mirror left to right with probability 1/2.
    rotation : float
        Degrees; the angle is uniform between minus this and this.

    Notes
    -----
    The three are one nearest-pixel sampling of the image. So a rotation brings in pixels that a crop alone would cut
    off; three samplings in sequence would bring in black.

    Examples
    --------
    >>> Augmentation(padding=4, flip=True)
    Augmentation(padding=4, flip=True, rotation=0.0)
    >>> images = torch.rand(10, 3, 32, 32)
    >>> Augmentation(padding=4, flip=True)(images).shape
    torch.Size([10, 3, 32, 32])
    """

    padding: int = 0
    flip: bool = False
    rotation: float = 0.0

    def __call__(self, pixels: Tensor) -> Tensor:
        """The batch of images (N, channels, height, width), each transformed individually."""
        N = len(pixels)
        offset = torch.randint(-self.padding, self.padding + 1, (N, 2)).to(pixels.dtype)
        angle = math.radians(self.rotation) * (2 * torch.rand(N) - 1) if self.rotation else None
        flipped = torch.rand(N) < 0.5 if self.flip else None
        return moved(pixels, offset, angle, flipped)
