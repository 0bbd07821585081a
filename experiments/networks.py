"""Networks: images or tokens to features of width d. The classifier is separate, a head of `softmaxcode.nn`."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torchvision.models import densenet121, resnet18, resnext50_32x4d
from torchvision.models.vision_transformer import VisionTransformer

from softmaxcode.checks.arguments import check_integer

if TYPE_CHECKING:
    from collections.abc import Callable

    from torchvision.models import DenseNet, ResNet

#: The least pixels per side: each of the image networks halves the sides up to three times.
MIN_SIDE = 8


def network(
    name: str, d: int, image_size: int | Sequence[int] | None = None, channels: int | None = None, **options: Any
) -> nn.Module:
    r"""A network whose output is the features: the last layer is a linear map to d numbers, with a bias.

    Parameters
    ----------
    name : {"resnet18", "densenet121", "resnext50", "vit", "small-cnn", "text-transformer"}
        The first three are torchvision's, with the usual stem for small images: one 3 x 3 convolution of stride 1 and
        no pooling. ``"small-cnn"`` does not pool over the whole image, so that positions matter.
    d : int
        Width of the features, at least 1.
    image_size : int or (int, int), optional
        Pixels, one number for a square or (height, width), at least 8 per side. All image networks need it.
    channels : int, optional
        Colours of an image: 1 or more. All image networks need it.
    **options
        ``"vit"``: ``patch`` (4, pixels per side, a divisor of the image's), ``width`` (192), ``layers`` (6), ``heads``
        (3), ``dropout`` (0). ``"text-transformer"``: ``vocabulary`` (number of tokens, required), ``length`` (256, the
        longest sequence), ``width`` (128), ``layers`` (4), ``heads`` (4), ``dropout`` (0). The others have none.

    Returns
    -------
    Module
        Maps images (N, channels, height, width) to features (N, d), and tokens (N, T) to features (N, T, d). The
        feature of a token depends only on it and the tokens before it.

    Raises
    ------
    ValueError
        For an unknown name or option, or a size that is out of range.

    Notes
    -----
    Parameters are drawn from torch's global generator: call `torch.manual_seed` first. Features are not normalised;
    the heads do that. Every image network but the ViT has batch normalisation and needs more than one image per batch
    in training mode.

    References
    ----------
    K. He et al., Deep residual learning for image recognition, arXiv 1512.03385.
    G. Huang et al., Densely connected convolutional networks, arXiv 1608.06993.
    S. Xie et al., Aggregated residual transformations for deep neural networks, arXiv 1611.05431.
    A. Dosovitskiy et al., An image is worth 16 x 16 words, arXiv 2010.11929.
    A. Vaswani et al., Attention is all you need, arXiv 1706.03762.

    Examples
    --------
    >>> import torch
    >>> torch.manual_seed(0).initial_seed()
    0
    >>> network("small-cnn", 10, (8, 16), 1)(torch.rand(2, 1, 8, 16)).shape
    torch.Size([2, 10])
    >>> network("text-transformer", 5, vocabulary=50, length=32)(torch.randint(50, (2, 7))).shape
    torch.Size([2, 7, 5])
    """
    if name not in NETWORKS:
        raise ValueError(f"network must be one of {', '.join(map(repr, NETWORKS))}; got {name!r}")
    build = NETWORKS[name]
    parameters = inspect.signature(build).parameters
    known = [key for key, parameter in parameters.items() if parameter.kind is parameter.KEYWORD_ONLY]
    unknown = [key for key in options if key not in known]
    if unknown:
        raise ValueError(f"{name} takes {_listed(known) or 'no options'}; got {_listed(unknown)}")
    d = check_integer("d (the width of the features)", d, 1)
    if build is TextTransformer:
        if image_size is not None or channels is not None:
            raise ValueError(f"{name} takes tokens: leave image_size and channels out")
        if "vocabulary" not in options:
            raise ValueError(f"{name} needs vocabulary, the number of different tokens")
        return TextTransformer(d, **options)
    if image_size is None or channels is None:
        raise ValueError(f"{name} takes images: it needs image_size and channels")
    return build(d, _sides(image_size), check_integer("channels", channels, 1), **options)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(map(repr, names))


def _sides(image_size: int | Sequence[int]) -> tuple[int, int]:
    """Height and width in pixels."""
    sides = tuple(image_size) if isinstance(image_size, Sequence) else (image_size, image_size)
    if len(sides) != 2:
        raise ValueError(f"image_size must be one number or (height, width); got {image_size!r}")
    height, width = (check_integer("image_size", side, MIN_SIDE) for side in sides)
    return height, width


def _small_stem(outputs: int, channels: int) -> nn.Conv2d:
    """The first convolution of ResNet18, ResNeXt50 and DenseNet121 for small images, with their initialisation."""
    stem = nn.Conv2d(channels, outputs, kernel_size=3, padding=1, bias=False)
    nn.init.kaiming_normal_(stem.weight, mode="fan_out", nonlinearity="relu")
    return stem


def _resnet(constructor: Callable[..., ResNet], d: int, channels: int) -> ResNet:
    net = constructor(num_classes=d)
    net.conv1 = _small_stem(64, channels)
    net.maxpool = nn.Identity()
    return net


def _resnet18(d: int, image_size: tuple[int, int], channels: int) -> ResNet:
    return _resnet(resnet18, d, channels)


def _resnext50(d: int, image_size: tuple[int, int], channels: int) -> ResNet:
    return _resnet(resnext50_32x4d, d, channels)


def _densenet121(d: int, image_size: tuple[int, int], channels: int) -> DenseNet:
    net = densenet121(num_classes=d)
    net.features.conv0 = _small_stem(64, channels)
    net.features.pool0 = nn.Identity()
    return net


def _vit(
    d: int,
    image_size: tuple[int, int],
    channels: int,
    *,
    patch: int = 4,
    width: int = 192,
    layers: int = 6,
    heads: int = 3,
    dropout: float = 0.0,
) -> VisionTransformer:
    """torchvision's vision transformer, scaled for small images."""
    height = image_size[0]
    patch = check_integer("patch", patch, 1)
    if image_size != (height, height) or height % patch:
        raise ValueError(f"vit needs square images of a side that patch = {patch} divides; got {image_size}")
    _check_transformer(width, layers, heads, dropout)
    net = VisionTransformer(height, patch, layers, heads, width, 4 * width, dropout, num_classes=d)
    if channels != 3:
        net.conv_proj = nn.Conv2d(channels, width, kernel_size=patch, stride=patch)
        nn.init.trunc_normal_(net.conv_proj.weight, std=1 / (patch * math.sqrt(channels)))
        nn.init.zeros_(net.conv_proj.bias)
    # torchvision initialises this layer with 0, and zero features have no direction
    net.heads = nn.Sequential(nn.Linear(width, d))
    return net


def _check_transformer(width: int, layers: int, heads: int, dropout: float) -> None:
    for name, value in (("width", width), ("layers", layers), ("heads", heads)):
        check_integer(name, value, 1)
    if width % heads:
        raise ValueError(f"width must be a multiple of heads; got width = {width} and heads = {heads}")
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1; got {dropout!r}")


def _small_cnn(d: int, image_size: tuple[int, int], channels: int) -> nn.Sequential:
    """Three 3 x 3 convolutions, the sides halved twice, then a hidden layer over all positions, and d numbers.

    The hidden layer is normalised. Without that, the feature norms grow a hundredfold in the first steps of a large
    learning rate. The gradient of a spherical head is inversely proportional to them, so training would stop.
    """

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        return [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]

    height, width = (side // 4 for side in image_size)
    return nn.Sequential(
        *block(channels, 16),
        nn.MaxPool2d(2),
        *block(16, 32),
        *block(32, 64),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(64 * height * width, 128, bias=False),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, d),
    )


class TextTransformer(nn.Module):
    """A causal transformer: the feature of a token depends only on it and the tokens before it.

    Parameters
    ----------
    d : int
        Width of the features.
    vocabulary : int
        Number of different tokens.
    length : int
        The longest sequence.
    width, layers, heads : int
        Sizes of the transformer; ``width`` has to be a multiple of ``heads``.
    dropout : float
        At least 0 and below 1.

    Raises
    ------
    ValueError
        For a size that is out of range.

    Notes
    -----
    The token embeddings, of ``width`` numbers, are not a classifier: they are not tied to a head's.

    Examples
    --------
    >>> import torch
    >>> net = TextTransformer(5, vocabulary=50, length=32)
    >>> net(torch.randint(50, (2, 7))).shape
    torch.Size([2, 7, 5])
    """

    mask: Tensor

    def __init__(
        self,
        d: int,
        *,
        vocabulary: int,
        length: int = 256,
        width: int = 128,
        layers: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        vocabulary, length = check_integer("vocabulary", vocabulary, 2), check_integer("length", length, 1)
        _check_transformer(width, layers, heads, dropout)
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(length, width)
        # separate layers: nn.TransformerEncoder would initialise all of them with the same numbers
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(
                width, heads, 4 * width, dropout, activation="gelu", batch_first=True, norm_first=True
            )
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self.projection = nn.Linear(width, d)
        later = torch.ones(length, length, dtype=torch.bool).triu(diagonal=1)
        self.register_buffer("mask", later, persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Features of a batch of sequences.

        Parameters
        ----------
        tokens : Tensor, shape (N, T), int64
            From 0 to ``vocabulary`` - 1, with T at most ``length``.

        Returns
        -------
        Tensor, shape (N, T, d)

        Raises
        ------
        ValueError
            If they are not such a tensor. A token outside the vocabulary raises the embedding's IndexError.
        """
        length = self.positions.num_embeddings
        if tokens.ndim != 2 or not 1 <= tokens.shape[1] <= length:
            raise ValueError(f"tokens must have shape (N, T) with T from 1 to {length}; got {tuple(tokens.shape)}")
        T = tokens.shape[1]
        X = self.tokens(tokens) + self.positions.weight[:T]
        for layer in self.layers:
            X = layer(X, src_mask=self.mask[:T, :T], is_causal=True)
        return self.projection(self.norm(X))


#: The networks by name: each function takes d, (height, width) and the channels, and its options by name.
NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "resnet18": _resnet18,
    "densenet121": _densenet121,
    "resnext50": _resnext50,
    "vit": _vit,
    "small-cnn": _small_cnn,
    "text-transformer": TextTransformer,
}
