"""The batched geoopt search: the same energy as the Numba kernels, unit rows, known optima, clear errors."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from softmaxcode.checks.tensors import check_device
from softmaxcode.contacts.polish import polish_hardmax, polish_tammes
from softmaxcode.search import geoopt_batch
from softmaxcode.search.energy import HARDMAX, TAMMES, descend, energy, minimize
from softmaxcode.search.geoopt_batch import energies, euclidean_gradients, search_batch
from softmaxcode.sphere import random_rows, tangential

SNUB_CUBE = 0.7230784683335
KINDS = pytest.mark.parametrize("kind", [TAMMES, HARDMAX], ids=["tammes", "hardmax"])
DEVICES = pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)],
)


def random_starts(B: int, N: int, d: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return np.stack([random_rows(N, d, rng) for _ in range(B)]), 10.0 ** rng.uniform(1, 2, B)


def numba_energies(kind: int, X: np.ndarray, beta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    gradients = np.empty_like(X)
    return np.array([energy(kind, x, b, g) for x, b, g in zip(X, beta, gradients, strict=True)]), gradients


def finished(kind: int, X: np.ndarray) -> float:
    X = X.copy()
    minimize(kind, X, 1e5, 3000, 1e-6)
    K = len(X) // 2
    return (polish_tammes(X, 1e-4) if kind == TAMMES else polish_hardmax(X[:K], X[K:], 1e-4)).value


@pytest.mark.parametrize("name", ["tpu", "gpu", "mps", "cpu:1", "", "cuda:x", None, 3.5])
def test_unknown_devices_are_refused(name):
    with pytest.raises(ValueError, match='device must be "cpu", "cuda" or "cuda:<number>"; got'):
        check_device(name)


def test_missing_cuda_devices_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for name in ("cuda", "cuda:0"):
        with pytest.raises(ValueError, match=f"'{name}' is not there: PyTorch finds no CUDA device"):
            check_device(name)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="'cuda:2' is not there: PyTorch finds CUDA devices 0 to 1"):
        check_device("cuda:2")
    assert check_device("cuda:1") == torch.device("cuda:1")


def test_devices_that_are_there():
    assert check_device("cpu") == torch.device("cpu")
    assert check_device(torch.device("cpu")) == torch.device("cpu")


@DEVICES
@KINDS
@pytest.mark.parametrize(("N", "d"), [(6, 2), (24, 3), (40, 10)])
def test_energy_and_gradient_are_the_numba_ones(kind, N, d, device):
    X, _ = random_starts(5, N, d, 0)
    beta = np.array([0.5, 7.0, 100.0, 3e3, 1e5])
    values, gradients = numba_energies(kind, X, beta)
    points = torch.tensor(X, device=device)
    betas = torch.tensor(beta, device=device).view(-1, 1, 1)
    np.testing.assert_allclose(energies(kind, points, betas).cpu(), values, rtol=0, atol=1e-12)
    # in the gradient, the rounding of a cosine is multiplied by beta
    mine = tangential(X, euclidean_gradients(kind, points, betas).cpu().numpy())
    scale = np.maximum(1.0, beta / 1e3)[:, None, None]
    np.testing.assert_allclose(mine / scale, gradients / scale, rtol=0, atol=1e-12)


@KINDS
def test_euclidean_gradient_is_the_derivative(kind):
    X, beta = random_starts(3, 12, 4, 1)
    points = torch.tensor(X, requires_grad=True)
    betas = torch.tensor(beta).view(-1, 1, 1)
    (derivative,) = torch.autograd.grad(energies(kind, points, betas).sum(), points)
    np.testing.assert_allclose(euclidean_gradients(kind, points.detach(), betas), derivative, rtol=0, atol=1e-13)


@DEVICES
@KINDS
def test_every_start_descends_to_unit_rows(kind, device):
    starts, betas = random_starts(7, 16, 4, 2)
    given = starts.copy()
    found = search_batch(kind, starts, betas, device=device, steps=200)
    assert found.shape == starts.shape
    assert found.dtype == np.float64
    np.testing.assert_array_equal(starts, given)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=0, atol=1e-15)
    for beta in (np.full(7, 1e3), np.full(7, 1e4)):
        assert (numba_energies(kind, found, beta)[0] < numba_energies(kind, starts, beta)[0] - 0.1).all()


@DEVICES
def test_tammes_24_points_reach_the_snub_cube(device):
    starts, betas = random_starts(8, 24, 3, 3)
    found = search_batch(TAMMES, starts, betas, device=device)
    values = np.array([finished(TAMMES, x) for x in found])
    assert np.median(1 - values) == pytest.approx(SNUB_CUBE, abs=1e-13)
    assert values.max() == pytest.approx(1 - SNUB_CUBE, abs=1e-13)


@DEVICES
def test_hardmax_24_points_reach_the_snub_cube(device):
    starts, betas = random_starts(4, 48, 3, 4)
    starts[:, 24:] = starts[:, :24]
    found = search_batch(HARDMAX, starts, betas, device=device)
    assert max(finished(HARDMAX, x) for x in found) == pytest.approx(1 - SNUB_CUBE, abs=1e-12)


def test_100_points_in_dimension_10_are_as_good_as_the_numba_route():
    starts, betas = random_starts(12, 100, 10, 5)
    found = search_batch(TAMMES, starts, betas, device="cpu")
    for x, beta in zip(starts, betas, strict=True):
        descend(TAMMES, x, beta, 1e4, 2.0, 300, 1e-4)
    cosines = []
    for route in (found, starts):
        G = np.matmul(route, route.transpose(0, 2, 1))
        cosines.append(np.where(np.eye(100, dtype=bool), -1, G).max(axis=(1, 2)))
    assert np.median(cosines[0]) < np.median(cosines[1]) + 0.004
    assert cosines[0].min() < 0.342


@pytest.mark.parametrize("degenerate", ["coincident", "antipodal"])
def test_degenerate_starts_stay_finite_unit_rows(degenerate):
    row = random_rows(1, 3, np.random.default_rng(0))[0]
    starts = np.tile(row, (2, 6, 1))
    if degenerate == "antipodal":
        starts[:, ::2] *= -1
    found = search_batch(TAMMES, starts, np.array([1.0, 1e6]), device="cpu", steps=50)
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=0, atol=1e-15)


def test_same_inputs_same_result():
    starts, betas = random_starts(5, 20, 4, 6)
    first, second = (search_batch(TAMMES, starts, betas, device="cpu", steps=150) for _ in range(2))
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("limit", [1, 2 * 20 * 20])
def test_chunks_leave_every_start_its_own(monkeypatch, limit):
    """Starts are independent: in chunks, early in the schedule, the results agree to rounding."""
    starts, betas = random_starts(5, 20, 4, 7)
    whole = search_batch(TAMMES, starts, betas, device="cpu", steps=12)
    monkeypatch.setitem(geoopt_batch.CHUNK, "cpu", limit)
    np.testing.assert_allclose(search_batch(TAMMES, starts, betas, device="cpu", steps=12), whole, rtol=0, atol=1e-9)


def test_progress_ends_at_one(monkeypatch):
    starts, betas = random_starts(3, 10, 3, 8)
    monkeypatch.setitem(geoopt_batch.CHUNK, "cpu", 2 * 100)
    fractions: list[float] = []
    search_batch(TAMMES, starts, betas, device="cpu", steps=10, progress=fractions.append)
    assert len(fractions) == 20
    assert fractions == sorted(fractions)
    assert fractions[-1] == pytest.approx(1.0)


def test_deadline_returns_what_there_is(monkeypatch):
    """With a timer that advances one second per reading."""
    ticks = itertools.count()
    monkeypatch.setattr(geoopt_batch.time, "monotonic", lambda: next(ticks))
    starts, betas = random_starts(3, 10, 3, 9)
    np.testing.assert_array_equal(search_batch(TAMMES, starts, betas, device="cpu", deadline=0.0), starts)
    found = search_batch(TAMMES, starts, betas, device="cpu", steps=10**7, deadline=200.0)
    assert next(ticks) < 210
    assert np.abs(found - starts).max() > 0.01
    np.testing.assert_allclose(np.linalg.norm(found, axis=-1), 1, rtol=0, atol=1e-15)


def test_empty_batch():
    assert search_batch(TAMMES, np.empty((0, 5, 3)), np.empty(0), device="cpu").shape == (0, 5, 3)


@pytest.mark.parametrize(
    ("kind", "shape", "betas", "message"),
    [
        (2, (3, 4, 3), [10, 10, 10], "kind must be"),
        (TAMMES, (4, 3), [10, 10, 10], "starts must have shape"),
        (TAMMES, (3, 4, 1), [10, 10, 10], "starts must have shape"),
        (TAMMES, (3, 1, 3), [10, 10, 10], "starts must have shape"),
        (HARDMAX, (3, 5, 3), [10, 10, 10], "starts must have shape"),
        (HARDMAX, (3, 2, 3), [10, 10, 10], "starts must have shape"),
        (TAMMES, (3, 4, 3), [10, 10], "first_betas must be 3 positive numbers"),
        (TAMMES, (3, 4, 3), [10, 10, 0], "first_betas must be 3 positive numbers"),
        (TAMMES, (3, 4, 3), [10, 10, np.nan], "first_betas must be 3 positive numbers"),
    ],
)
def test_inputs_that_do_not_fit_are_refused(kind, shape, betas, message):
    starts = np.ones(shape) / np.sqrt(shape[-1])
    with pytest.raises(ValueError, match=message):
        search_batch(kind, starts, np.array(betas, dtype=float), device="cpu")
