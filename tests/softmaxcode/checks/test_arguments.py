"""Arguments of every kind: invalid ones give one sentence of ours, before any work and any memory."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
import torch

import softmaxcode as sc
import ufm
from softmaxcode import exact
from softmaxcode.assignment import assign, similarity_from_means
from softmaxcode.bounds.delsarte_bound import delsarte
from softmaxcode.bounds.levenshtein_bound import levenshtein_size
from softmaxcode.catalog.known import shipped_path, user_catalog
from softmaxcode.catalog.transfer import export
from softmaxcode.catalog.verification import verify
from softmaxcode.certificates.loss import certified_margin, minimizer_margin
from softmaxcode.certificates.rigorous import exact_bounds, exact_rounding, rigorous_bounds
from softmaxcode.checks import arguments as checks
from softmaxcode.checks.limits import MAX_ALL_MARGINS
from softmaxcode.cli.command import main
from softmaxcode.compare import compare
from softmaxcode.metrics import GNC1
from softmaxcode.parallel.tiles import row_tiles
from softmaxcode.sphere import _largest_on_a_circle, fold_cosines, largest_cosines, random_rows, unit_rows
from softmaxcode.sweep import sweep

STRANGE = ["x", 1.5, True, math.nan, -1, 0, 10**30, None, [1], {}, np.float64(2.5), b"a", object(), np.array([1, 2])]
#: The strange values that each argument accepts.
TAKES = {
    "starts": [None],
    "budget": [1.5, 10**30, None, np.float64(2.5)],
    "seed": [0],
    "init": [None],
    "device": [None],
    "digits": [None],
    "objective": [],
    "catalog": [True],
    "exact": [True],
    "n_jobs": [-1],
    "progress": [True, None],
}


def is_refused(call, value) -> bool:
    """Whether a value is refused in one sentence of ours; any other error fails the test."""
    try:
        call(value)
    except ValueError as error:
        message = str(error)
    else:
        return False
    assert "\n" not in message
    assert len(message) < 400
    return True


@pytest.mark.parametrize("name", TAKES)
def test_solve_refuses_what_an_argument_cannot_be(name):
    for value in STRANGE:
        taken = any(value is one or (type(value) is type(one) and value == one) for one in TAKES[name])
        assert is_refused(lambda v: sc.solve(4, 3, **{name: v}), value) == (not taken), (name, value)


@pytest.mark.parametrize("name", ["seed", "device", "n_jobs", "init", "on_row", "path", "progress", "budget"])
def test_a_table_refuses_what_an_argument_cannot_be(name):
    takes = TAKES | {"on_row": [None], "path": [None], "init": []}
    for value in STRANGE:
        if name == "path" and isinstance(value, str):
            continue
        taken = any(value is one or (type(value) is type(one) and value == one) for one in takes[name])
        assert is_refused(lambda v: sc.table([(3, 3)], **{name: v}), value) == (not taken), (name, value)


def test_a_table_takes_a_torch_device():
    assert sc.table([(3, 3)], device=torch.device("cpu"))["margin"].tolist() == [1.5]
    with pytest.raises(ValueError, match="init is not an option of a table: these are starts, "):
        sc.table([(3, 3)], init=np.eye(3))


CODE = sc.solve(4, 3)
#: Every other argument of an entry point: the call with a strange value in its place, and the accepted values.
CALLS = {
    "load": (sc.load, []),
    "save": (CODE.save, []),
    "best_known K": (lambda v: sc.best_known(v, 3), []),
    "best_known d": (lambda v: sc.best_known(4, v), []),
    "best_known objective": (lambda v: sc.best_known(4, 3, objective=v), []),
    "margin": (sc.margin, []),
    "margin n_jobs": (lambda v: sc.margin(CODE.W, n_jobs=v), [-1]),
    "margin normalize": (lambda v: sc.margin(CODE.W, normalize=v), [True]),
    "sampled_margin classes": (lambda v: sc.sampled_margin(CODE.W, v), []),
    "sampled_margin confidence": (lambda v: sc.sampled_margin(CODE.W, confidence=v), []),
    "sampled_margin seed": (lambda v: sc.sampled_margin(CODE.W, seed=v), [0]),
    "sampled_margin n_jobs": (lambda v: sc.sampled_margin(CODE.W, n_jobs=v), [-1]),
    "certify": (sc.certify, []),
    "certify lp": (lambda v: sc.certify(CODE, lp=v), [True]),
    "plot": (sc.plot, []),
    "plot path": (lambda v: sc.plot(CODE, v), [None]),
    "plot_landscape dims": (sc.plot_landscape, []),
    "plot_landscape max_classes": (lambda v: sc.plot_landscape([3], max_classes=v), [None]),
    "from_rows objective": (lambda v: sc.SoftmaxCode.from_rows(CODE.W, objective=v), []),
    "margin_bounds K": (lambda v: sc.margin_bounds(v, 3), []),
    "margin_bounds lp": (lambda v: sc.margin_bounds(4, 3, v), [True]),
    "max_cosine_lower_bound lp": (lambda v: sc.max_cosine_lower_bound(4, 3, v), [True]),
    "levenshtein_size": (lambda v: levenshtein_size(v, 3), [-1, 0]),
    "exact.best": (lambda v: exact.best(v, 3), []),
    "exact.constructions": (exact.constructions, []),
    "Catalog": (lambda v: sc.Catalog(v, readonly=True), []),
    "Catalog base": (lambda v: sc.Catalog("none.sqlite", base=v, readonly=True), []),
    "export replace": (lambda v: export("none.txt", replace=v), []),
    "sweep catalog": (lambda v: sweep([(3, 3)], catalog=v), []),
    "sweep pairs": (lambda v: sweep(v, catalog=None), []),
    "verify n_jobs": (lambda v: verify("none.sqlite", n_jobs=v), []),
    "assign similarity": (lambda v: assign(v, CODE), []),
    "assign code": (lambda v: assign(np.eye(4), v), []),
    "assign maximize": (lambda v: assign(np.eye(4), CODE, maximize=v), [True]),
    "similarity_from_means centred": (lambda v: similarity_from_means(CODE.W, centred=v), [True]),
    "compare W": (compare, []),
    "compare align": (lambda v: compare(CODE.W, align=v), [True]),
    "certified_margin": (lambda v: certified_margin(v, 3, 0.1), [1.5, -1, 0, 10**30, np.float64(2.5)]),
    "minimizer_margin": (lambda v: minimizer_margin(4, v, 0.1), [1.5, 0]),
    "ufm temperature": (lambda v: ufm.simulate(4, 2, 1, v, steps=1), [1.5, 10**30, np.float64(2.5)]),
    "ufm device": (lambda v: ufm.simulate(4, 2, 1, steps=1, device=v), []),
    "ufm checkpoint": (lambda v: ufm.simulate(4, 2, 1, steps=1, checkpoint=v), [None]),
    "ufm progress": (lambda v: ufm.simulate(4, 2, 1, steps=1, progress=v), [True, None]),
    "ufm.sweep K": (lambda v: ufm.sweep(v, 2, 0.1, 1, n=1, steps=1), []),
    "ufm.sweep path": (lambda v: ufm.sweep(4, 2, 0.1, 1, n=1, steps=1, path=v), [None]),
    "ufm.simulate_batch temperatures": (
        lambda v: ufm.simulate_batch(4, 2, 1, v, [0], steps=1),
        [[1], np.array([1, 2])],
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_every_entry_point_refuses_what_an_argument_cannot_be(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call, takes = CALLS[name]
    for value in STRANGE:
        taken = any(type(value) is type(one) and np.all(value == one) for one in takes)
        assert is_refused(call, value) == (not taken), value
    assert not list(tmp_path.iterdir())


def test_a_message_shows_what_was_received_in_one_short_line():
    shows = [checks.shown(value) for value in (10**5000, np.ones((200, 200)), "a\nb\x1b[2J", "x" * 1000)]
    assert shows[0] == "a value of type int" and shows[2] == r"'a\nb\x1b[2J'"
    assert all(len(text) <= checks.SHOWN and text.isprintable() for text in shows)


def test_a_broken_user_catalogue_leaves_no_file_open(tmp_path, monkeypatch):
    """The shipped catalogue, opened below the user's, is closed where the user's cannot be opened."""
    (tmp_path / "c.sqlite").write_bytes(b"no SQLite file" * 100)
    monkeypatch.setenv("SOFTMAXCODE_CATALOG", str(tmp_path / "c.sqlite"))
    closed, close = [], sc.Catalog.close

    def noted(self):
        closed.append(self.path)
        close(self)

    monkeypatch.setattr(sc.Catalog, "close", noted)
    for open_it in (user_catalog, lambda: sc.best_known(30, 3)):
        with pytest.raises(sc.CatalogError, match="no SQLite file"):
            open_it()
    assert closed == [shipped_path()] * 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: sc.solve(10**8, 200),
            r"solve\(100000000, 200\) needs at least 320 GB .* fewer classes",
        ),
        (lambda: sc.table([(10**8, 200)]), r"solve\(100000000, 200\) needs at least 320 GB"),
        (lambda: sc.solve(10**9, 1), r"a code of 1000000000 x 1 coordinates needs .* margin_bounds\(K, d\)"),
        (lambda: exact.closed_form(10**5, 10**5), "a code of 100000 x 100000 coordinates needs"),
        (lambda: similarity_from_means(np.ones((60_000, 1))), "an assignment of 60000 classes needs at least 115 GB"),
        (lambda: ufm.simulate(10**6, 10**4), r"simulating K=1000000 d=10000 tau=0.05 needs at least 240 GB"),
        (lambda: ufm.simulate(100, 10, 10**9), r"simulating K=100 d=10 .* needs at least 4,000 GB"),
        (lambda: ufm.simulate_deep(10**6, 3), "simulating K = 1000000 at depth 3.* needs at least"),
        (lambda: GNC1(10**9, 10**4), "the class moments of 1000000000 classes in 10000 dimensions needs? at least"),
        (lambda: delsarte(10**9, 3), r"of degree 63263, above the limit of 500: levenshtein\(K, d\) needs none"),
        (lambda: delsarte(10, 3, 10**6), "degree must be an integer of at most 500; got 1000000"),
        (lambda: sc.plot_landscape([10**9]), "a dimension of the landscape must be an integer of at most 100000"),
        (lambda: sc.plot_landscape(range(3, 200)), "a landscape has at most 60 panels, one per dimension; got 197"),
        (lambda: sc.solve(10**6, 10**6), r"a code of 1000000 x 1000000 coordinates needs .* margin_bounds\(K, d\)"),
        (lambda: sc.best_known(5, 10**9), r"a code of 5 x 1000000000 coordinates needs"),
        (lambda: sc.best_known(10**12, 3), r"at most 1000000000; got 1000000000000"),
        (lambda: sc.margin_bounds(10**12, 3), r"at most 1000000000; got 1000000000000"),
        (lambda: sc.solve(12, 3, digits=10**6), r"digits must be at most 1000; got 1000000"),
    ],
)
def test_a_size_that_cannot_work_is_refused_before_memory_is_taken(monkeypatch, call, message):
    monkeypatch.setattr(checks, "machine_memory", lambda: 20 * 10**9)
    with pytest.raises(ValueError, match=message):
        call()


def test_the_command_says_it_in_one_line(monkeypatch, capsys):
    monkeypatch.setattr(checks, "machine_memory", lambda: 20 * 10**9)
    assert main(["solve", "100000000", "200"]) == 2
    out, err = capsys.readouterr()
    assert out == "" and re.fullmatch(r"softmaxcode: solve\(100000000, 200\) needs at least 320 GB .*\n", err)


@pytest.mark.parametrize("K", [1025, 4000])
def test_largest_cosines_on_a_circle(K):
    rng = np.random.default_rng(K)
    W = random_rows(K, 2, rng)
    W[7] = W[11]
    expected = W @ W.T
    np.fill_diagonal(expected, -np.inf)
    np.testing.assert_allclose(largest_cosines(W), expected.max(axis=1), atol=1e-15)
    np.testing.assert_array_equal(largest_cosines(W), _largest_on_a_circle(W))


@pytest.mark.parametrize(("K", "d"), [(1024, 3), (1025, 1), (1300, 5), (2049, 40)])
def test_largest_cosines_of_more_rows_than_a_tile(K, d):
    W = random_rows(K, d, np.random.default_rng(K))
    W[3] = W[K - 1]
    expected = W @ W.T
    np.fill_diagonal(expected, -np.inf)
    np.testing.assert_allclose(largest_cosines(W), expected.max(axis=1), atol=1e-15)


def test_every_pair_is_folded_once():
    K = 1200
    W = random_rows(K, 3, np.random.default_rng(0))

    def fold(count, rows, columns, C):
        count[rows, columns] += np.isfinite(C)

    counts = sum(fold_cosines(W, lambda: np.zeros((K, K), dtype=int), fold))
    np.testing.assert_array_equal(
        counts + counts.T, 1 + np.kron(np.eye(3), np.ones((512, 512)))[:K, :K] - 2 * np.eye(K)
    )


def test_an_error_ends_all_threads_of_a_fold():
    W, folded = random_rows(20_000, 2, np.random.default_rng(0)), []

    def fold(*tile):
        folded.append(tile)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fold_cosines(W, list, fold)
    assert len(folded) <= 64  # one for each thread, of 800


def test_tiles_cover_all_rows_and_stay_small():
    for K in (1, 1024, 1025, 50_000, 3_000_000):
        tiles = list(row_tiles(K, 3, "pairs")) if K < 10**5 else [next(row_tiles(K, 3, "pairs"))]
        assert tiles[0].start == 0 and all((t.stop - t.start) * K <= max(2**24, K) for t in tiles)
        assert all(a.stop == b.start for a, b in itertools.pairwise(tiles))
        assert K >= 10**5 or tiles[-1].stop == K


# --- values proved for an exact code --------------------------------------------------------------------------


def test_a_large_exact_code_answers_at_once(monkeypatch):
    """(100000, 256): rows of a family whose largest cosine is proved; a pass over all pairs takes minutes."""
    monkeypatch.setattr("softmaxcode.code.largest_cosines", None)
    monkeypatch.setattr("softmaxcode.margins.exact.largest_cosines", None)
    code = sc.best_known(100_000, 256)
    assert code.K * code.K * code.d > MAX_ALL_MARGINS
    assert code.max_cosine == code.cosine_bound == pytest.approx(27 / 251, abs=1e-16)
    assert code.margin == pytest.approx(1 - 27 / 251, abs=1e-13)
    assert code.min_distance == pytest.approx(math.sqrt(2 * (1 - 27 / 251)), abs=1e-13)
    assert 0 < code.min_angle < 90 and "100000" in repr(code)


def test_a_pair_too_large_to_be_searched_is_not_offered_a_search(monkeypatch):
    with pytest.raises(sc.UnknownCodeError, match=r"solve\(1500, 3\) searches"):
        sc.best_known(1500, 3)
    monkeypatch.setattr("softmaxcode.catalog.known.machine_memory", lambda: 10**6)
    with pytest.raises(sc.UnknownCodeError, match="the memory here is too small to search for one"):
        sc.best_known(1500, 3)


@pytest.mark.parametrize(
    ("K", "d", "cosine"),
    [(10**6, 1, 1), (300_000, 2, math.cos(2 * math.pi / 300_000)), (3000, 2999, -1 / 2999), (3000, 2990, 0)],
)
def test_a_large_closed_form_answers_at_once(monkeypatch, K, d, cosine):
    monkeypatch.setattr("softmaxcode.code.largest_cosines", None)
    monkeypatch.setattr("softmaxcode.margins.exact.largest_cosines", None)
    code, bounds = sc.solve(K, d), sc.margin_bounds(K, d)
    assert K * K * d > MAX_ALL_MARGINS
    assert bounds.lower - 1e-15 <= code.margin <= bounds.upper + 1e-15
    assert code.max_cosine == pytest.approx(cosine, abs=1e-15)


SMALL = [c for d in range(3, 25) for c in exact.constructions(d) if c.K <= 400 and "Leech-section" not in c.name]
#: Sections of the Leech lattice are many and alike: some are drawn.
SECTIONS = [c for d in range(3, 25) for c in exact.constructions(d) if c.K <= 400 and "Leech-section" in c.name]
SMALL += [SECTIONS[i] for i in np.random.default_rng(1).choice(len(SECTIONS), 10, replace=False)]


def test_what_is_carried_is_what_is_computed(monkeypatch):
    """Every small construction: whole, without a row, and with a row along an unused axis."""
    monkeypatch.setattr("softmaxcode.code.MAX_ALL_MARGINS", 0)
    for construction in SMALL:
        N, n = construction.K, construction.d
        for K, d in ((N, n), (N - 1, n), (N + 1, n + 1)):
            known = exact.rebuild(construction.name, None if K == N else np.arange(K), K, d)
            code, plain = known.code(), sc.SoftmaxCode.from_rows(known.W)
            assert code.is_long and plain.cosine_bound is None
            assert largest_cosines(plain.W).max() <= code.cosine_bound + 1e-14
            assert code.max_cosine == pytest.approx(plain.max_cosine, abs=1e-14)
            assert code.margin == pytest.approx(sc.margin(plain.W).margin, abs=1e-12)
            assert code.min_distance == pytest.approx(plain.min_distance, abs=1e-13)


def test_the_bound_that_an_exact_code_carries_is_below_what_ball_arithmetic_proves():
    """`exact_bounds` is rigorous for stored coordinates: checked against every pair of every small code."""
    for construction in SMALL:
        W = construction.build()
        carried = exact_bounds(construction.max_cosine, construction.d).one_minus_cosine
        proved = rigorous_bounds(W).one_minus_cosine
        assert carried <= proved + 1e-16 and proved - carried < 2 * exact_rounding(construction.d) + 1e-15, (
            construction.name
        )


@pytest.mark.parametrize(("K", "d"), [(7, 2), (100, 2), (9, 8), (50, 49), (12, 8), (40, 20)])
def test_the_bound_that_a_closed_form_carries_is_below_what_ball_arithmetic_proves(K, d):
    known = exact.best(K, d)
    carried = exact_bounds(known.max_cosine, d, known.margin).one_minus_cosine
    assert 0 <= rigorous_bounds(known.W).one_minus_cosine - carried < 1e-13 * known.margin**0.5


@pytest.mark.parametrize(("K", "d"), [(70_711, 2), (10**6, 2), (4601, 4600), (4700, 4600)])
def test_large_closed_forms_are_optimal(K, d):
    certificate = sc.best_known(K, d).certificate
    assert certificate.arithmetic == "exact construction" and certificate.status == "optimal"
    assert certificate.lower_bound == pytest.approx(certificate.upper_bound, rel=1e-8)


def test_the_certificate_of_a_large_exact_code_is_rigorous_without_a_pass(monkeypatch):
    for name in ("rigorous_bounds", "row_tiles"):
        monkeypatch.setattr(f"softmaxcode.certificates.certificate.{name}", None)
    certificate = sc.best_known(100_000, 256).certificate
    assert certificate.arithmetic == "exact construction"
    assert 1 - 27 / 251 - 1e-13 < certificate.lower_bound == certificate.one_minus_cosine_lower_bound < 1 - 27 / 251
    assert certificate.next_gap is None and not certificate.ambiguous


def test_other_rows_never_get_the_value_of_an_exact_code():
    code = sc.best_known(240, 8)
    assert code.cosine_bound == 0.5
    rng = np.random.default_rng(0)
    forged = type(code)(
        unit_rows(code.W + 0.1 * rng.standard_normal(code.W.shape)), "softmax", code.provenance, None, code._exact
    )
    assert forged.cosine_bound is None
