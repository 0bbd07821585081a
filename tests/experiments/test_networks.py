"""Networks: shapes, the stem, gradients, overfitting one batch, causality, seeds and what is refused."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn

from experiments.networks import NETWORKS, network
from softmaxcode.nn import SphericalClassifier

CONVOLUTIONAL = ["resnet18", "densenet121", "resnext50"]
OFFLINE = [(8, 8), (8, 16), (8, 24)]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


def assert_trains(net: nn.Module, images: Tensor, d: int) -> None:
    """One forward and backward pass: features of the right shape, and a gradient for every parameter."""
    head = SphericalClassifier(4, d, temperature=0.1, seed=0)
    features = net(images)
    assert features.shape == (len(images), d)
    assert (features.norm(dim=1) > 0).all()
    head(features, torch.arange(len(images)) % 4).backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
        # a convolution, a linear map or an embedding without any gradient is not connected
        assert parameter.ndim == 1 or parameter.grad.abs().max() > 0, name


@pytest.mark.slow
@pytest.mark.parametrize("size", [32, 64, 50])
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_forward_and_backward(name: str, size: int) -> None:
    torch.manual_seed(0)
    assert_trains(network(name, 10, size, 3), torch.randn(2, 3, size, size), 10)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONVOLUTIONAL)
def test_one_batch_is_overfitted(name: str) -> None:
    torch.manual_seed(0)
    net, head = network(name, 4, 16, 3), SphericalClassifier(4, 4, temperature=0.1, seed=0)
    images, labels = torch.randn(4, 3, 16, 16), torch.arange(4)
    optimizer = torch.optim.Adam([*net.parameters(), *head.parameters()], lr=3e-4)
    for _ in range(10):
        optimizer.zero_grad()
        loss = head(net(images), labels)
        loss.backward()
        optimizer.step()
    assert loss < 0.1
    assert (head(net(images)).argmax(dim=1) == labels).all()


@pytest.mark.parametrize(
    ("name", "published", "width"),
    [("resnet18", 11_689_512, 512), ("densenet121", 7_978_856, 1024), ("resnext50", 25_028_904, 2048)],
)
def test_the_parameters_are_those_of_the_published_network(name: str, published: int, width: int) -> None:
    """The ImageNet network's count, less 40 of its stem's 49 places and 990 of its 1000 outputs."""
    assert parameters(network(name, 10, 32, 3)) == published - 64 * 3 * 40 - (width + 1) * 990


@pytest.mark.parametrize(("name", "stage"), [("resnet18", "layer1"), ("densenet121", "features.denseblock1")])
def test_the_stem_keeps_the_resolution(name: str, stage: str) -> None:
    net = network(name, 3, (16, 24), 1).eval()
    seen = []
    net.get_submodule(stage).register_forward_hook(lambda module, given, out: seen.append(out.shape[2:]))
    assert net(torch.randn(1, 1, 16, 24)).shape == (1, 3)
    assert seen == [(16, 24)]


@pytest.mark.parametrize(("size", "channels", "patch"), [(32, 3, 4), (8, 1, 2), (50, 3, 5)])
def test_vit(size: int, channels: int, patch: int) -> None:
    torch.manual_seed(0)
    net = network("vit", 6, size, channels, patch=patch, width=24, layers=2, heads=2)
    assert_trains(net, torch.randn(4, channels, size, size), 6)


def test_the_first_layer_of_vit_starts_alike_for_any_number_of_channels() -> None:
    torch.manual_seed(0)
    for channels in (1, 3, 4):
        weight = network("vit", 6, 32, channels).conv_proj.weight.detach()
        assert float(weight.std()) * math.sqrt(16 * channels) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("size", OFFLINE)
def test_small_cnn(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    net = network("small-cnn", 50, size, 1)
    assert parameters(net) < 300_000
    assert_trains(net, torch.randn(4, 1, *size), 50)


def test_small_cnn_sees_where_things_are() -> None:
    torch.manual_seed(0)
    net = network("small-cnn", 10, (8, 16), 1).eval()
    left, right = torch.randn(2, 1, 1, 8, 8)
    one, other = net(torch.cat([left, right], dim=3)), net(torch.cat([right, left], dim=3))
    assert (one - other).norm() > 0.01 * one.norm()


@pytest.mark.slow
def test_small_cnn_learns_digit_pairs() -> None:
    """100 classes of two digits side by side; training and test use different source images."""
    digits = load_digits()
    images, classes = torch.tensor(digits.images / 16, dtype=torch.float32), torch.tensor(digits.target)

    def pairs(low: int, high: int, count: int) -> tuple[Tensor, Tensor]:
        i, j = torch.randint(low, high, (2, count))
        return torch.cat([images[i], images[j]], dim=2)[:, None], 10 * classes[i] + classes[j]

    torch.manual_seed(0)
    (X, y), (test_X, test_y) = pairs(0, 1200, 10_000), pairs(1200, len(images), 2000)
    net, head = network("small-cnn", 10, (8, 16), 1), SphericalClassifier(100, 10, temperature=0.1, seed=0)
    optimizer = torch.optim.SGD(
        [*net.parameters(), *head.parameters()], lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 160)
    for _ in range(2):
        for batch in torch.randperm(len(X)).split(125):
            optimizer.zero_grad()
            head(net(X[batch]), y[batch]).backward()
            optimizer.step()
            schedule.step()
    net.eval()
    with torch.no_grad():
        assert (head(net(X)).argmax(dim=1) == y).double().mean() > 0.95
        assert (head(net(test_X)).argmax(dim=1) == test_y).double().mean() > 0.85


def text_net(**options: int) -> nn.Module:
    torch.manual_seed(0)
    return network("text-transformer", 5, vocabulary=20, length=12, width=16, layers=2, heads=2, **options)


@pytest.mark.parametrize("training", [True, False])
def test_the_features_of_a_token_do_not_depend_on_later_ones(training: bool) -> None:
    net = text_net().double().train(training)
    with torch.no_grad():
        tokens = torch.randint(20, (3, 12))
        features = net(tokens)
        assert features.shape == (3, 12, 5)
        for t in range(12):
            changed = tokens.clone()
            changed[:, t] = (changed[:, t] + 1) % 20
            difference = (net(changed) - features).abs().amax(dim=2)
            torch.testing.assert_close(difference[:, :t], torch.zeros(3, t, dtype=torch.float64), rtol=0, atol=1e-12)
            assert (difference[:, t:] > 1e-9).all()  # and do on itself and every earlier one
            torch.testing.assert_close(net(tokens[:, : t + 1]), features[:, : t + 1], rtol=0, atol=1e-12)


def test_training_and_evaluation_agree_without_dropout() -> None:
    """In evaluation mode torch runs its layers by another path."""
    net, tokens = text_net(), torch.randint(20, (3, 12))
    with torch.no_grad():
        torch.testing.assert_close(net.train()(tokens), net.eval()(tokens), rtol=1e-4, atol=1e-5)


def test_text_transformer_trains() -> None:
    net, head = text_net(dropout=0), SphericalClassifier(20, 5, temperature=0.2, seed=0)
    first = torch.randint(20, (8, 1))
    tokens = (first + torch.arange(12)) % 20  # every token tells the next
    optimizer = torch.optim.AdamW([*net.parameters(), *head.parameters()], lr=0.01)
    for _ in range(100):
        optimizer.zero_grad()
        loss = head(net(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
    assert loss < 0.5


def test_text_transformer_under_mixed_precision() -> None:
    net, tokens = text_net(), torch.randint(20, (3, 12))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        half = net.train()(tokens)
    torch.testing.assert_close(half.float(), net(tokens), rtol=0.1, atol=0.1)


def test_no_two_layers_start_from_the_same_numbers() -> None:
    first, second = text_net().layers
    assert not torch.equal(first.linear1.weight, second.linear1.weight)
    names = set(text_net().state_dict())
    assert "mask" not in names  # so that a checkpoint does not grow with the square of the length


OPTIONS = {"text-transformer": {"vocabulary": 30}}


@pytest.mark.parametrize("name", NETWORKS)
def test_a_seed_means_one_start(name: str) -> None:
    size = () if name in OPTIONS else (32, 3)

    def start(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.detach().flatten() for p in network(name, 7, *size, **OPTIONS.get(name, {})).parameters()])

    assert torch.equal(start(1), start(1))
    assert not torch.equal(start(1), start(2))


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        (("resnet50", 10, 32, 3), {}, r"one of 'resnet18', 'densenet121', .*; got 'resnet50'"),
        (("resnet18", 0, 32, 3), {}, r"d \(the width of the features\) must be an integer of at least 1; got 0"),
        (("resnet18", 10), {}, "resnet18 takes images: it needs image_size and channels"),
        (("resnet18", 10, 32), {}, "it needs image_size and channels"),
        (("resnet18", 10, 7, 3), {}, "image_size must be an integer of at least 8; got 7"),
        (("resnet18", 10, (8, 8, 1), 3), {}, r"one number or \(height, width\); got \(8, 8, 1\)"),
        (("resnet18", 10, 32, 0), {}, "channels must be an integer of at least 1; got 0"),
        (("resnet18", 10, 32, 3), {"patch": 4}, "resnet18 takes no options; got 'patch'"),
        (("vit", 10, 32, 3), {"depth": 4}, r"vit takes 'patch', 'width', 'layers', 'heads', 'dropout'; got 'depth'"),
        (("vit", 10, 50, 3), {}, r"square images of a side that patch = 4 divides; got \(50, 50\)"),
        (("vit", 10, (8, 16), 1), {}, r"square images .* got \(8, 16\)"),
        (("vit", 10, 32, 3), {"patch": 0}, "patch must be an integer of at least 1; got 0"),
        (("vit", 10, 32, 3), {"layers": 0}, "layers must be an integer of at least 1; got 0"),
        (("vit", 10, 32, 3), {"heads": 5}, "multiple of heads; got width = 192 and heads = 5"),
        (("vit", 10, 32, 3), {"dropout": 1.0}, "dropout must be at least 0 and below 1; got 1.0"),
        (("text-transformer", 10), {}, "text-transformer needs vocabulary"),
        (("text-transformer", 10, 32, 3), {"vocabulary": 9}, "takes tokens: leave image_size and channels out"),
        (("text-transformer", 10), {"vocabulary": 1}, "vocabulary must be an integer of at least 2; got 1"),
        (("text-transformer", 10), {"vocabulary": 9, "length": 0}, "length must be an integer of at least 1; got 0"),
    ],
)
def test_what_is_refused(arguments: tuple, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network(*arguments, **options)


@pytest.mark.parametrize("shape", [(4,), (2, 13), (2, 0), (2, 3, 4)])
def test_tokens_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"tokens must have shape \(N, T\) with T from 1 to 12; got"):
        text_net()(torch.zeros(shape, dtype=torch.int64))
