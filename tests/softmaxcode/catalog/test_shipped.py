"""The catalogue that ships with the package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import softmaxcode as sc
from softmaxcode.catalog import Catalog, shipped_path
from softmaxcode.catalog.entry import assess
from softmaxcode.catalog.verification import verify_entry
from softmaxcode.exact import closed_form

#: Tammes codes whose largest cosine is published: Cohn's and Sloane's tables.
PUBLISHED = {
    (7, 3): 0.21013831273060309,
    (8, 3): 0.26120387496374144,
    (9, 3): 1 / 3,
    (10, 3): 0.40439432521625076,
    (11, 3): 0.4472135954999579,
    (12, 3): 0.4472135954999579,
    (13, 3): 0.5426364868296,
    (14, 3): 0.5639503003605,
    (24, 3): 0.7230784683335,
    (50, 3): 0.8681732091269,
    (9, 4): 0.1620151996116,
    (10, 4): 1 / 6,
    (24, 4): 0.5,
    (120, 4): (1 + np.sqrt(5)) / 4,
    (16, 5): 0.2,
    (27, 6): 0.25,
    (56, 7): 1 / 3,
}
#: Margins that a search of 20 to 340 s reached, and the values of exact families.
REACHED = {
    (100, 10): 0.669010,
    (100, 20): 0.848350,
    (100, 30): 0.914673,
    (200, 10): 0.546161,
    (200, 20): 0.768740,
    (200, 30): 0.851272,
    (1000, 64): 0.9,
    (1000, 128): 0.9,
    (10000, 512): 0.9375,
    (10000, 2048): 0.96875,
}


@pytest.fixture(scope="module")
def entries():
    with Catalog(shipped_path(), readonly=True, trusted=True) as catalog:  # `make verify-catalog` derives every value
        catalog.check_whole()
        return catalog.entries()


def test_what_is_there(entries):
    assert shipped_path().stat().st_size < 20 * 2**20
    stored = {name: {(e.K, e.d) for e in entries if e.objective == name} for name in ("softmax", "tammes")}
    assert stored["softmax"] == stored["tammes"]
    assert all(closed_form(K, d) is None for K, d in stored["tammes"])
    assert len(stored["tammes"]) >= 400
    wanted = {(K, 3) for K in range(7, 131)} | {(K, 4) for K in range(9, 131)}
    wanted |= {(K, d) for d in (5, 6, 7, 8) for K in range(2 * d + 1, 65)} | set(REACHED)
    assert wanted <= stored["tammes"]


def test_the_readme_counts_the_pairs(entries):
    readme = Path(__file__).parents[3] / "README.md"
    count = len({(e.K, e.d) for e in entries})
    assert f"a catalogue of {count} pairs" in readme.read_text(encoding="utf-8")


def test_order(entries):
    """mu of the best code grows with K, and the softmax margin is never below 1 - mu."""
    tammes = {(e.K, e.d): e for e in entries if e.objective == "tammes"}
    softmax = {(e.K, e.d): e for e in entries if e.objective == "softmax"}
    for (K, d), entry in tammes.items():
        assert softmax[K, d].lower_bound >= entry.lower_bound - 1e-14
        if (K + 1, d) in tammes:
            assert tammes[K + 1, d].max_cosine >= entry.max_cosine - 1e-12


@pytest.mark.parametrize("pair", PUBLISHED)
def test_published_packings_are_reached(entries, pair):
    entry = next(e for e in entries if (e.K, e.d) == pair and e.objective == "tammes")
    assert entry.max_cosine <= PUBLISHED[pair] + 2e-13


@pytest.mark.parametrize("pair", REACHED)
def test_large_pairs(entries, pair):
    entry = next(e for e in entries if (e.K, e.d) == pair and e.objective == "softmax")
    assert entry.lower_bound >= REACHED[pair]


def test_some_certificates_hold(entries):
    """`make verify-catalog` derives all of them."""
    small = [entry for entry in entries if entry.K * entry.d <= 400]
    rng = np.random.default_rng(sum(entry.K for entry in entries))
    for i in rng.choice(len(small), 12, replace=False):
        assert verify_entry(shipped_path(), small[i]).problem == ""


def test_exact_codes_take_no_room(entries):
    assert {e.construction for e in entries if (e.K, e.d) == (120, 4)} == {"600-cell"}
    assert all(e.construction for e in entries if e.K >= 10000)


def test_solve_answers_at_once_with_the_margin_of_the_catalogue():
    code = sc.solve(100, 10, budget=1)
    assert code.margin >= sc.best_known(100, 10).margin > 0.6690
    derived = assess(code, "softmax", None)
    assert derived.lower_bound > 0.6690
