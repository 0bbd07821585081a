"""`solve` on random pairs: what counts as a promise kept, and one call from its drawing to the table."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmarks import random_pairs
from benchmarks.random_pairs import Call, draw, measured, table

GOOD = Call(50, 5, 10.0, seconds=11.9, value=0.3, peak=0.4, stated=0.4, valid=True, message="search")


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, True),
        ({"seconds": 12.1}, False),
        ({"peak": 0.5}, False),
        ({"stated": None, "peak": 9.0}, True),
        ({"valid": False}, False),
        ({"valid": False, "refused": True, "message": "pass a larger budget"}, True),
        ({"valid": False, "refused": True, "message": "two\nlines"}, False),
        ({"valid": False, "refused": True, "message": ""}, False),
    ],
)
def test_a_promise_kept(change, kept) -> None:
    assert replace(GOOD, **change).kept is kept


def test_draws_are_within_their_ranges_and_follow_the_seed() -> None:
    calls = draw(200, 5)
    assert all(3 <= c.K <= 10**6 and 2 <= c.d <= 1024 and 1 <= c.budget <= 60 for c in calls)
    assert max(c.K for c in calls) > 10**5 and max(c.d for c in calls) > 500
    assert calls == draw(200, 5) != draw(200, 6)


@pytest.mark.parametrize("search", [True, False])
def test_a_call_is_measured(search) -> None:
    call = measured(Call(30, 4, 1.0), search)
    assert call.valid and call.seconds > 0 and call.peak > 0.05
    assert 0.3 < call.value < 0.6 and call.message
    refused = measured(Call(10**6, 10**6, 1.0), search)
    assert refused.refused and not refused.valid and "1000000 x 1000000 coordinates needs" in refused.message


def test_the_command_makes_the_calls_and_fails_where_a_promise_was_not_kept(monkeypatch, capsys) -> None:
    monkeypatch.setattr(random_pairs, "in_process", lambda call, search: replace(GOOD, K=call.K, d=call.d))
    assert random_pairs.main(["--calls", "3"]) == 0
    assert "3 of 3 calls kept the promise" in capsys.readouterr().out
    monkeypatch.setattr(random_pairs, "in_process", lambda call, search: replace(GOOD, seconds=99.0))
    assert random_pairs.main(["--calls", "2"]) == 1
    assert "0 of 2 calls kept the promise" in capsys.readouterr().out
    assert table([GOOD, replace(GOOD, K=9, seconds=99.0)])["K, d"].tolist() == ["9, 5", "50, 5"]  # overruns first
