"""`solve` end to end: known values, determinism, certificates, rattlers, and refused input."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import math

import numpy as np
import pytest

import softmaxcode as sc
from softmaxcode.cli.command import main
from softmaxcode.margins.exact import margins
from softmaxcode.parallel.progress import Progress
from softmaxcode.search.basin_hopping import CHAINS, HOPS_PER_ROUND
from softmaxcode.search.large.search import LargeResult
from softmaxcode.search.packing import PackingSearch
from softmaxcode.solver import check_device, default_starts
from softmaxcode.sphere import gram, random_rows, unit_rows

OTHER_SEED = 20_871

# (K, d), the largest cosine of the best known code, and the precision of that value. Sloane's tables of spherical
# codes; angles 57.1367031, 55.6705700 degrees for (13, 3), (14, 3); chord 0.51347208468056 for (50, 3)
BEST = [
    (7, 3, 0.21013831273060309, 1e-14),
    (8, 3, 0.26120387496374144, 1e-14),
    (9, 3, 1 / 3, 1e-14),
    (10, 3, 0.40439432521625076, 1e-14),
    (11, 3, 0.4472135954999579, 1e-14),
    (12, 3, 0.4472135954999579, 1e-14),
    (13, 3, 0.5426364868296, 1e-12),
    (14, 3, 0.5639503003605, 1e-12),
    (24, 3, 0.7230784683335, 1e-12),
    (50, 3, 0.8681732091269, 1e-12),
    (9, 4, 0.1620151996116, 1e-12),
    (10, 4, 1 / 6, 1e-14),
    (24, 4, 0.5, 1e-14),
    (120, 4, 0.8090169943749475, 1e-13),
    (16, 5, 0.2, 1e-14),
    (27, 6, 0.25, 1e-14),
    (56, 7, 1 / 3, 1e-14),
    (240, 8, 0.5, 1e-13),
]
FIGURES = {(K, d): (mu, tolerance) for K, d, mu, tolerance in BEST}
# again with an arbitrary seed, where that takes little time
AGAIN = [(7, 3), (12, 3), (13, 3), (14, 3), (24, 3), (9, 4), (10, 4), (24, 4), (16, 5), (27, 6), (56, 7)]
#: Options for the search alone: these tests are about its results, not about stored codes.
SEARCH = {"catalog": False, "exact": False}


@functools.cache
def solved(K: int, d: int, objective: str = "softmax", **options) -> sc.SoftmaxCode:
    return sc.solve(K, d, objective=objective, **SEARCH, **options)


def quick(K: int, d: int, **options) -> sc.SoftmaxCode:
    return solved(K, d, **{"starts": 8, **options})


# --- values ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d", "seed"), [(*pair, 0) for pair in FIGURES] + [(*pair, OTHER_SEED) for pair in AGAIN])
def test_best_known_values(K, d, seed):
    code = solved(K, d) if seed == 0 else solved(K, d, seed=seed)
    mu, tolerance = FIGURES[K, d]
    assert code.max_cosine == pytest.approx(mu, abs=tolerance)
    # for no known code the margin exceeds 1 - mu of the best packing
    assert code.margin == pytest.approx(1 - mu, abs=tolerance)
    assert code.provenance.seed == seed


@pytest.mark.parametrize(("K", "d"), [(12, 3), (27, 6), (13, 3)])
def test_tammes_objective_reaches_them_too(K, d):
    code = quick(K, d, objective="tammes", seed=1)
    mu, tolerance = FIGURES[K, d]
    assert code.objective == "tammes"
    assert code.max_cosine == pytest.approx(mu, abs=tolerance)


@pytest.mark.parametrize(("K", "d"), [(12, 3), (13, 3), (24, 3), (24, 4), (56, 7)])
def test_figures_agree_with_the_coordinates(K, d):
    code = solved(K, d)
    W = code.W
    assert (code.K, code.d) == (K, d) == W.shape
    np.testing.assert_allclose(np.linalg.norm(W, axis=1), 1, atol=4e-16)
    G = gram(W)
    assert code.max_cosine == G.max()
    distances = np.linalg.norm(W[:, None] - W[None], axis=2) + 9 * np.eye(K)
    assert code.min_distance == pytest.approx(distances.min(), abs=1e-15)
    assert code.min_angle == pytest.approx(math.degrees(math.acos(code.max_cosine)), abs=1e-12)
    assert code.margin == pytest.approx(margins(W).margin, abs=1e-14)
    np.testing.assert_array_equal(code.margins, margins(W).margins)
    # H attains the margins
    values = np.einsum("kd,kd->k", code.H, W)[:, None] - code.H @ W.T + 9 * np.eye(K)
    np.testing.assert_allclose(values.min(axis=1), code.margins, atol=1e-13)
    np.testing.assert_allclose(np.linalg.norm(code.H, axis=1), 1, atol=1e-14)
    i, j = code.contacts.T
    assert (i < j).all()
    np.testing.assert_allclose(G[i, j], code.max_cosine, atol=1e-9)
    assert len(code.contacts) == np.count_nonzero(np.triu(G >= code.max_cosine - 1e-9, 1))


@pytest.mark.parametrize(
    ("K", "d", "contacts"), [(11, 3, 25), (12, 3, 30), (13, 3, 24), (24, 3, 60), (24, 4, 96), (27, 6, 216)]
)
def test_contact_graphs_without_rattlers(K, d, contacts):
    """In the proved optima (11, 3) and (13, 3) every point has contacts: 25 (an icosahedron has 30) and 24."""
    code = solved(K, d)
    assert len(code.contacts) == contacts
    assert set(code.contacts.ravel()) == set(range(K))
    assert len(code.tammes_rattlers) == len(code.softmax_rattlers) == 0
    assert not code.certificate.ambiguous


def test_rattlers_of_fifty_points():
    code = solved(50, 3)
    assert len(code.tammes_rattlers) == 2
    np.testing.assert_array_equal(code.tammes_rattlers, code.softmax_rattlers)
    assert not np.isin(code.tammes_rattlers, code.contacts).any()
    assert np.flatnonzero(code.is_tammes_rattler).tolist() == code.tammes_rattlers.tolist()
    assert np.flatnonzero(code.is_softmax_rattler).tolist() == code.softmax_rattlers.tolist()
    stored = ~code.is_softmax_rattler
    np.testing.assert_allclose(code.margins[stored], code.margin, atol=1e-9)
    assert (code.margins[~stored] > code.margin + 1e-6).all()
    assert set(code.contacts.ravel()) == set(np.flatnonzero(stored))


def test_twenty_points_have_two_rattlers():
    code = quick(20, 3, starts=16)
    assert code.min_angle == pytest.approx(47.4310362, abs=1e-7)
    assert len(code.tammes_rattlers) == 2


# --- the object -----------------------------------------------------------------------------------------------


def test_arrays_are_read_only_and_not_copied():
    code = solved(12, 3)
    assert np.asarray(code) is code.W
    assert np.array(code, copy=True) is not code.W
    assert np.asarray(code, dtype=np.float32).dtype == np.float32
    for array in (code.W, code.H, code.margins, code.contacts, code.tammes_rattlers, code.softmax_rattlers):
        assert not array.flags.writeable
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 0
    with pytest.raises(dataclasses.FrozenInstanceError):
        code.W = np.eye(3)
    assert "SoftmaxCode(K=12, d=3, objective='softmax', margin=0.5527864" in repr(code)


def test_a_code_keeps_its_own_coordinates():
    W = np.vstack([np.eye(3), -np.eye(3)])
    code = sc.SoftmaxCode(W, "softmax", sc.Provenance("by hand"))
    W[0] = 7
    assert code.W[0].tolist() == [1, 0, 0]


def test_provenance_says_what_was_done():
    code = quick(13, 3, seed=5, starts=9)
    made = code.provenance
    # nine starts on the packing, two with features, and four hops for each of the nine, in whole rounds
    assert made.seed == 5 and made.starts == 9 + 2
    assert 36 <= made.hops < 36 + CHAINS * HOPS_PER_ROUND and made.hops % (CHAINS * HOPS_PER_ROUND) == 0
    assert made.device == "numba" and "search" in made.method
    assert made.seconds > 0
    assert made.version == sc.__version__ != ""


def test_a_budget_is_recorded_by_the_work_done():
    made = sc.solve(13, 3, budget=0.05, **SEARCH).provenance
    assert made.starts >= 1 and made.seed == 0 and made.seconds > 0
    limited = sc.solve(30, 4, budget=1e-9, starts=500, **SEARCH).provenance
    assert limited.starts < 500 and limited.hops == 0


def test_default_starts_depend_on_the_size_only():
    counts = [default_starts(K, d) for K, d in [(7, 3), (50, 10), (100, 10), (1000, 512), (10**5, 10**4)]]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[-1] == 16


# --- determinism ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("K", "d", "objective"), [(13, 3, "softmax"), (20, 4, "tammes")])
def test_the_same_seed_gives_the_same_bits_on_any_number_of_threads(K, d, objective):
    codes = [sc.solve(K, d, objective=objective, seed=3, starts=8, n_jobs=n, **SEARCH) for n in (1, 2, 2)]
    assert len({code.W.tobytes() for code in codes}) == 1
    other = sc.solve(K, d, objective=objective, seed=4, starts=8, **SEARCH)
    assert other.W.tobytes() != codes[0].W.tobytes()


def test_global_random_state_plays_no_part():
    np.random.seed(0)  # noqa: NPY002
    first = sc.solve(10, 3, starts=4, **SEARCH)
    np.random.seed(1)  # noqa: NPY002
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    assert sc.solve(10, 3, starts=4, **SEARCH).W.tobytes() == first.W.tobytes()
    np.testing.assert_array_equal(np.random.get_state()[1], state)  # noqa: NPY002


def test_a_start_near_a_good_code_helps():
    best = solved(50, 3)
    near = unit_rows(best.W + 1e-3 * np.random.default_rng(0).standard_normal(best.W.shape))
    code = sc.solve(50, 3, starts=1, seed=2, init=near, **SEARCH)
    assert code.max_cosine == pytest.approx(best.max_cosine, abs=1e-13)
    assert sc.solve(50, 3, starts=1, seed=2, **SEARCH).max_cosine >= code.max_cosine - 1e-13
    # the caller's array does not change
    before = near.copy()
    sc.solve(50, 3, starts=1, budget=1e-9, init=near, **SEARCH)
    np.testing.assert_array_equal(near, before)


def test_a_degenerate_start_does_no_harm():
    code = sc.solve(12, 3, starts=8, init=np.tile(np.eye(3)[:1], (12, 1)), **SEARCH)
    assert code.max_cosine == pytest.approx(1 / math.sqrt(5), abs=1e-14)
    listed = sc.solve(12, 3, starts=8, init=random_rows(12, 3, np.random.default_rng(0)).tolist(), **SEARCH)
    assert listed.max_cosine == pytest.approx(1 / math.sqrt(5), abs=1e-14)


# --- the certificate ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("K", "d", "status", "rigidity"),
    [
        (7, 3, "matches Tammes", "second order"),
        (12, 3, "matches Tammes", "infinitesimal"),
        (24, 3, "matches Tammes", "infinitesimal"),
        (10, 4, "matches Tammes", "second order"),
        (56, 7, "matches Tammes", "infinitesimal"),
        (240, 8, "matches Tammes", "infinitesimal"),
        (9, 4, "locally optimal", "second order"),
        (50, 3, "locally optimal", "infinitesimal"),
        (24, 4, "matches Tammes", "second order"),
    ],
)
def test_statuses_of_softmax_codes(K, d, status, rigidity):
    certificate = solved(K, d).certificate
    assert (certificate.objective, certificate.status, certificate.rigidity) == ("softmax", status, rigidity)
    assert certificate.residual <= 1e-12 and certificate.threshold == 1e-9
    assert certificate.rigid is (rigidity == "infinitesimal")
    mu, _ = FIGURES[K, d]
    assert certificate.lower_bound == certificate.margin_lower_bound
    assert 1 - mu - 1e-12 <= certificate.margin_lower_bound <= solved(K, d).margin + 1e-15
    assert 1 - mu - 1e-12 <= certificate.one_minus_cosine_lower_bound <= certificate.margin_lower_bound
    assert certificate.upper_bound >= certificate.margin_lower_bound
    assert certificate.next_gap > 1e-7


@pytest.mark.parametrize(("K", "d", "status"), [(12, 3, "optimal"), (13, 3, "optimal"), (9, 4, "locally optimal")])
def test_statuses_of_packings(K, d, status):
    code = quick(K, d, objective="tammes", seed=1)
    certificate = code.certificate
    assert certificate.status == status
    assert certificate.lower_bound == certificate.one_minus_cosine_lower_bound
    assert certificate.lower_bound <= certificate.upper_bound
    assert (certificate.upper_bound - certificate.lower_bound < 1e-12) is (status == "optimal")


@pytest.mark.parametrize("objective", ["softmax", "tammes"])
@pytest.mark.parametrize("size", [1e-8, 1e-6, 1e-5])
def test_an_optimum_moved_a_little_is_only_feasible(objective, size):
    """The icosahedron has more contacts than unknowns: stresses balance on pairs that are no longer contacts."""
    near = unit_rows(solved(12, 3).W + size * np.random.default_rng(0).standard_normal((12, 3)))
    made = sc.SoftmaxCode(near, objective, sc.Provenance("moved"))
    assert made.certificate.lower_bound < 1 - 1 / math.sqrt(5) - size / 10
    assert made.certificate.status == "feasible"


@pytest.mark.parametrize("objective", ["softmax", "tammes"])
def test_duplicate_rows_have_a_certificate(objective):
    W = random_rows(9, 4, np.random.default_rng(1))
    W[5] = W[2]
    made = sc.SoftmaxCode(W, objective, sc.Provenance("by hand"))
    assert made.margin == 0
    assert made.certificate.status == "feasible" and -1e-12 < made.certificate.lower_bound <= 0


def test_worse_codes_are_not_called_optimal():
    rng = np.random.default_rng(0)
    for objective in ("softmax", "tammes"):
        made = sc.SoftmaxCode(random_rows(12, 3, rng), objective, sc.Provenance("random"))
        assert made.certificate.status == "feasible" and made.certificate.rigidity == "none"
    # the measurements of a simplex belong to another pair
    flat = np.hstack([sc.solve(4, 3).W, np.zeros((4, 1))])
    assert sc.SoftmaxCode(flat, "softmax", sc.Provenance("")).certificate.status == "optimal"
    assert sc.SoftmaxCode(np.vstack([flat, flat[:1]]), "softmax", sc.Provenance("")).certificate.status == "feasible"


def test_a_local_optimum_is_called_one(packing):
    """13 points in an optimum that is not the best: 56.4832 degrees, with a rattler."""
    code = sc.SoftmaxCode(packing(13, 3).X, "tammes", sc.Provenance("search"))
    assert code.max_cosine > FIGURES[13, 3][0] + 1e-3
    assert code.certificate.status == "locally optimal"
    assert len(code.tammes_rattlers) == 1
    softmax = sc.SoftmaxCode(packing(13, 3).X, "softmax", sc.Provenance("search"))
    assert softmax.certificate.status == "locally optimal"


# --- other routes ---------------------------------------------------------------------------------------------


def test_the_torch_route_on_the_cpu():
    code = sc.solve(12, 3, device="cpu", starts=8, **SEARCH)
    assert code.provenance.device == "cpu"
    assert code.max_cosine == pytest.approx(1 / math.sqrt(5), abs=1e-14)
    assert code.provenance.starts == 8 + 2


@pytest.mark.parametrize(("objective", "quantity"), [("softmax", "margin"), ("tammes", "max_cosine")])
def test_fifty_digits(objective, quantity):
    proved = sc.solve(12, 3, objective=objective, digits=50, starts=8, **SEARCH).proved
    # 10^60 / sqrt 5, from an integer root
    root = math.isqrt(10**120 // 5)
    expected = root if quantity == "max_cosine" else 10**60 - root
    assert proved.quantity == quantity
    whole, _, decimals = proved.value.partition(".")
    assert whole == "0" and len(decimals) == 50
    assert abs(int(decimals) * 10**10 - expected) <= 10**10
    assert float(proved.radius) <= 1e-50


def test_digits_of_a_closed_form():
    assert sc.solve(4, 3, digits=20).proved.value == "1.3333333333333333333"
    assert solved(12, 3).proved is None


# --- validation -----------------------------------------------------------------------------------------------


def rows(K: int = 12, d: int = 3) -> np.ndarray:
    return random_rows(K, d, np.random.default_rng(0))


def spoiled(value) -> np.ndarray:
    W = rows()
    W[4] *= value
    return W


BAD = [
    ({"K": 1}, r"K .*at least 2; got 1$"),
    ({"K": -3}, r"K .*at least 2; got -3$"),
    ({"K": 2.5}, r"K .*integer.*got 2\.5$"),
    ({"K": 3.0}, r"K .*integer.*got 3\.0$"),
    ({"K": True}, r"K .*integer.*got True$"),
    ({"K": "3"}, r"K .*integer.*got '3'$"),
    ({"K": None}, r"K .*integer.*got None$"),
    ({"K": math.nan}, r"K .*integer.*got nan$"),
    ({"d": 0}, r"d .*at least 1; got 0$"),
    ({"d": 2.5}, r"d .*integer.*got 2\.5$"),
    ({"d": False}, r"d .*integer.*got False$"),
    ({"objective": "margin"}, r"objective.*'softmax', 'tammes'; got 'margin'$"),
    ({"objective": None}, r"objective.*'softmax', 'tammes'; got None$"),
    ({"device": "tpu"}, r"device.*cpu.*tpu|device.*tpu.*cpu"),
    ({"device": 3}, r"device.*3"),
    ({"budget": 0}, r"budget.*positive.*got 0$"),
    ({"budget": -1}, r"budget.*positive.*got -1$"),
    ({"budget": math.nan}, r"budget.*positive.*got nan$"),
    ({"budget": math.inf}, r"budget.*positive.*got inf$"),
    ({"budget": "10"}, r"budget.*positive.*got '10'$"),
    ({"budget": True}, r"budget.*positive.*got True$"),
    ({"starts": 0}, r"starts.*at least 1; got 0$"),
    ({"starts": 2.5}, r"starts.*integer.*got 2\.5$"),
    ({"seed": -1}, r"seed.*at least 0; got -1$"),
    ({"seed": None}, r"seed.*integer.*got None$"),
    ({"seed": 1.0}, r"seed.*integer.*got 1\.0$"),
    ({"digits": 0}, r"digits.*at least 1; got 0$"),
    ({"digits": "50"}, r"digits.*integer.*got '50'$"),
    ({"init": rows(11)}, r"init.*\(12, 3\); got \(11, 3\)$"),
    ({"init": rows(12, 4)}, r"init.*\(12, 3\); got \(12, 4\)$"),
    ({"init": rows().ravel()}, r"init.*shape \(K, d\).*got shape \(36,\)$"),
    ({"init": spoiled(np.nan)}, r"init.*finite; row 4"),
    ({"init": spoiled(np.inf)}, r"init.*finite; row 4"),
    ({"init": spoiled(0)}, r"init.*zero norm; row 4"),
    ({"init": spoiled(1.001)}, r"init.*unit norm.*row 4 has norm 1\.001"),
    ({"init": rows() * 1j}, r"init.*real numbers.*complex"),
    ({"init": "random"}, r"init.*real numbers.*str"),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_input_is_refused_with_what_was_given_and_wanted(options, message):
    options = {"K": 12, "d": 3, **options}
    with pytest.raises(ValueError, match=message) as caught:
        sc.solve(options.pop("K"), options.pop("d"), **options)
    assert "\n" not in str(caught.value)


def test_bad_input_is_refused_before_a_closed_form_is_returned():
    for options in ({"budget": 0}, {"seed": -1}, {"objective": "x"}, {"device": "tpu"}, {"init": rows()}):
        with pytest.raises(ValueError, match=r"must|device|init"):
            sc.solve(4, 3, **options)


def test_cuda_is_refused_where_there_is_none(monkeypatch):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="cuda"):
        sc.solve(12, 3, device="cuda")


def test_numpy_scalars_are_taken():
    code = sc.solve(np.int64(4), np.int32(3), seed=np.uint8(1), budget=np.float32(1))
    assert code.margin == pytest.approx(4 / 3, abs=1e-15)
    assert check_device(None) is None


# --- interrupts ----------------------------------------------------------------------------------------------


@pytest.fixture
def interrupted_after(monkeypatch):
    """Interrupt a search, as Ctrl-C does, after some reports of its progress."""

    def interrupt(reports: int) -> None:
        left = itertools.count(reports, -1)

        def step(self, count, **shown):
            if not next(left):
                raise KeyboardInterrupt

        monkeypatch.setattr(Progress, "step", step)

    return interrupt


@pytest.mark.parametrize(("K", "d"), [(20, 4), (600, 8)])
@pytest.mark.parametrize("objective", ["softmax", "tammes"])
def test_an_interrupt_leaves_the_best_code_so_far(interrupted_after, K, d, objective):
    interrupted_after(1)
    with pytest.raises(KeyboardInterrupt, match="best code so far") as stopped:
        sc.solve(K, d, objective=objective, **SEARCH)
    assert isinstance(stopped.value, sc.SearchInterrupted)
    code = stopped.value.code
    assert (code.objective, code.W.shape, code.provenance.method) == (objective, (K, d), "search, interrupted")
    assert 1 - gram(code.W).max() == pytest.approx(stopped.value.value, abs=1e-6)
    assert stopped.value.value > 0.1


def test_an_interrupt_does_not_lose_a_better_stored_code(interrupted_after):
    interrupted_after(1)
    with pytest.raises(sc.SearchInterrupted) as stopped:
        sc.solve(100, 13, starts=1, catalog=False)
    assert stopped.value.code.max_cosine <= 0.25  # of the projective plane of order 3


def test_an_interrupt_does_not_lose_a_better_init(interrupted_after):
    init = sc.solve(600, 8, starts=1, **SEARCH).W
    interrupted_after(1)
    with pytest.raises(sc.SearchInterrupted) as stopped:
        sc.solve(600, 8, init=init, **SEARCH)
    assert stopped.value.code.max_cosine == gram(init).max()


def test_an_interrupt_before_the_first_code_is_what_it_was(monkeypatch):
    def interrupt(*_, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(PackingSearch, "improve", interrupt)
    with pytest.raises(KeyboardInterrupt) as stopped:
        sc.solve(20, 4, **SEARCH)
    assert type(stopped.value) is KeyboardInterrupt


@pytest.mark.parametrize("output", [True, False])
def test_the_command_writes_what_it_has_found(interrupted_after, tmp_path, capsys, output):
    interrupted_after(2)
    path = tmp_path / "code.npz"
    written = ["-o", str(path)] if output else []
    assert main(["solve", "20", "4", "--no-catalog", "--no-exact", *written]) == 130
    said = capsys.readouterr().err
    assert said.startswith("softmaxcode: interrupted; 1 - mu of the best code so far is 0.") and said.count("\n") == 1
    assert said.endswith(f"written to {path}\n" if output else "--output would keep it\n")
    if output:
        assert sc.load(path).W.shape == (20, 4)


def test_the_stated_memory_counts_the_stored_code_beside_the_search(monkeypatch):
    """An exact code of many coordinates stays in memory while a search beats it."""

    def many(K, d, **options):
        return LargeResult(random_rows(K, d, np.random.default_rng(0)), 1.9, "made up", 1, 10**9)

    monkeypatch.setattr("softmaxcode.solver.search_many", many)
    monkeypatch.setattr("softmaxcode.solver.MEMORY_MARGIN", 1.0)
    alone = sc.solve(30_000, 200, catalog=False, exact=False, budget=30, progress=False)
    beside = sc.solve(30_000, 200, budget=30, progress=False)
    assert alone.provenance.method == "made up; at most 1.0 GB"
    assert beside.provenance.method in ("made up; at most 1.1 GB", "made up; at most 1.2 GB")  # 48 MB of coordinates
