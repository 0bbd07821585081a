"""Shared by the tests: Hypothesis's profile, known codes, polished packings and an exact distance to a hull."""

from __future__ import annotations

import functools
import itertools
import re
import signal
import threading
from typing import TYPE_CHECKING

import flint
import numpy as np
import pytest
from hypothesis import settings

import softmaxcode as sc
from softmaxcode.catalog import Catalog
from softmaxcode.catalog import known as known_codes
from softmaxcode.contacts.polish import Polished, polish_tammes
from softmaxcode.search.energy import TAMMES, descend, minimize
from softmaxcode.sphere import gram, random_rows, unit_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests first, so that none begins when the others are done; no CUDA tests without a device."""
    slow = {item.path for item in items if item.get_closest_marker("slow") is not None}
    items.sort(key=lambda item: item.path not in slow)
    wanting = [item for item in items if item.get_closest_marker("cuda") is not None]
    if wanting:
        import torch  # only then: it takes seconds

        if not torch.cuda.is_available():
            for item in wanting:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))


# Numba's compilation makes the first example slow; the same examples every time
settings.register_profile("softmaxcode", deadline=None, derandomize=True, max_examples=50, print_blob=True)
settings.load_profile("softmaxcode")

# a shell makes its background processes ignore Ctrl-C, and programs that tests start and interrupt would inherit this
if threading.current_thread() is threading.main_thread() and signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def hangup_heard() -> Iterator[None]:
    """Restore SIGHUP's default, as on a terminal; nohup makes this process and its children ignore the signal."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.fixture
def parts_of() -> Callable[[Path], dict[str, str]]:
    """From a page to the parts that commands write into it, by name."""

    def read(path: Path) -> dict[str, str]:
        return dict(re.findall(r"<!-- (\w+) -->\n(.*?)\n<!-- /\1 -->", path.read_text(encoding="utf-8"), re.S))

    return read


@pytest.fixture(autouse=True)
def _no_user_catalogue(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Isolate tests from the catalogue of the user who runs them."""
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(tmp_path_factory.getbasetemp() / "nobody" / "catalog.sqlite"))


@pytest.fixture(scope="module")
def small_catalogue(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A catalogue of the pairs in the module's ``STORED``, found by search."""
    path = tmp_path_factory.mktemp("catalogue") / "small.sqlite"
    with Catalog(path) as catalog:
        for K, d in request.module.STORED:
            catalog.improve(sc.solve(K, d, starts=8, catalog=False, exact=False, progress=False))
    return path


@pytest.fixture
def only_small_catalogue(monkeypatch: pytest.MonkeyPatch, small_catalogue: Path) -> None:
    """Install only that catalogue."""
    monkeypatch.setattr(known_codes, "shipped_path", lambda: small_catalogue.with_name("none.sqlite"))
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(small_catalogue))


@pytest.fixture
def one_process() -> Iterator[None]:
    """A process group of this process alone."""
    from torch import distributed

    distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
    yield
    distributed.destroy_process_group()


def icosahedron() -> np.ndarray:
    golden = (1 + np.sqrt(5)) / 2
    half = np.array([[0, s, t * golden] for s in (1, -1) for t in (1, -1)])
    return unit_rows(np.vstack([np.roll(half, shift, axis=1) for shift in range(3)]))


def roots_d(d: int) -> np.ndarray:
    """The 2d(d - 1) roots of D_d."""
    eye = np.eye(d)
    signs = list(itertools.product((-1, 1), repeat=2))
    pairs = itertools.combinations(range(d), 2)
    return unit_rows(np.array([a * eye[i] + b * eye[j] for i, j in pairs for a, b in signs]))


def roots_e8() -> np.ndarray:
    """The 112 roots of D8 and the 128 half-integer vectors with an even number of minus signs, scaled."""
    halves = [row for row in itertools.product((-0.5, 0.5), repeat=8) if np.prod(row) > 0]
    return np.vstack([roots_d(8), np.array(halves) / np.sqrt(2)])


def kissing(W: np.ndarray) -> np.ndarray:
    """The rows at the largest cosine to the last row, projected along it: one dimension less."""
    c = W @ W[-1]
    near = np.isclose(c, gram(W).max(), atol=1e-9)
    complement = np.linalg.svd(W[-1:])[2][1:]
    return unit_rows(W[near] @ complement.T)


@pytest.fixture(scope="session")
def roots() -> dict[str, np.ndarray]:
    """Root systems, scaled to the sphere: D4 to D6, E6 and E7."""
    e8 = roots_e8()
    a, b = np.zeros(8), np.zeros(8)
    a[[6, 7]], b[[5, 6]] = (1, -1), (1, -1)  # they span A2
    inside = (np.abs(e8 @ a) < 1e-9) & (np.abs(e8 @ b) < 1e-9)
    e6 = unit_rows(e8[inside] @ np.linalg.svd(np.array([a, b]))[2][2:].T)
    beside = np.abs(e8 @ e8[0]) < 1e-9
    e7 = unit_rows(e8[beside] @ np.linalg.svd(e8[:1])[2][1:].T)
    return {"D4": roots_d(4), "D5": roots_d(5), "D6": roots_d(6), "E6": e6, "E7": e7}


@pytest.fixture(scope="session")
def known() -> dict[str, np.ndarray]:
    """Codes with known coordinates."""
    e8 = roots_e8()
    fifty_six = kissing(e8)
    return {
        "icosahedron": icosahedron(),
        "octahedron": np.vstack([np.eye(3), -np.eye(3)]),
        "cross-polytope": np.vstack([np.eye(6), -np.eye(6)]),
        "24-cell": roots_d(4),
        "27": kissing(fifty_six),
        "56": fifty_six,
        "E8": e8,
    }


@functools.cache
def _packing(K: int, d: int, seed: int) -> Polished:
    X = random_rows(K, d, np.random.default_rng(seed))
    descend(TAMMES, X, 3.0, 1e4, 2.0, 300, 1e-4)
    minimize(TAMMES, X, 1e5, 3000, 1e-6)
    return polish_tammes(X, 1e-4)


@pytest.fixture(scope="session")
def packing() -> Callable[..., Polished]:
    """``packing(K, d, seed=0)``: a polished local minimiser of mu; not always a global one."""
    return lambda K, d, seed=0: _packing(K, d, seed)


def rational(W: np.ndarray) -> list[list[flint.fmpq]]:
    """The exact values of floats."""
    return [[flint.fmpq(*float(x).as_integer_ratio()) for x in row] for row in W]


def _nearest(rows: Sequence[Sequence[flint.fmpq]], k: int) -> tuple[flint.fmpq, list[int]]:
    d = len(rows[k])
    others = [j for j in range(len(rows)) if j != k]
    n = len(others)
    V = flint.fmpq_mat(n, d, [a - b for j in others for a, b in zip(rows[k], rows[j], strict=True)])
    G = V * V.transpose()
    for size in range(1, min(n, d) + 1):
        ones = flint.fmpq_mat(size, 1, [1] * size)
        for S in itertools.combinations(range(n), size):
            try:
                a = flint.fmpq_mat(size, size, [G[i, j] for i in S for j in S]).solve(ones).entries()
            except ZeroDivisionError:
                continue
            if min(a) >= 0 and all(sum(G[j, i] * x for i, x in zip(S, a, strict=True)) >= 1 for j in range(n)):
                return 1 / sum(a), [others[i] for i in S]
    return flint.fmpq(0), []


@pytest.fixture(scope="session")
def nearest() -> Callable[..., tuple[flint.fmpq, list[int]]]:
    """``nearest(rows, k)``: the exact squared distance of row k from the hull of the others, and a support.

    It uses rational arithmetic and tries every set S of at most d vertices q_j = w_k - w_j. The nearest point is
    sum_S a_i q_i / sum_S a_i where G_SS a = 1, a >= 0 and (G a)_j >= 1 for all j. If no set does, it is the origin.
    """

    def of(rows: np.ndarray | Sequence[Sequence[flint.fmpq]], k: int) -> tuple[flint.fmpq, list[int]]:
        return _nearest(rational(rows) if isinstance(rows, np.ndarray) else rows, k)

    return of
