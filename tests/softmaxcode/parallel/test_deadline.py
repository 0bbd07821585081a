"""Deadlines with a clock of our own, and threads that keep the order of results."""

from __future__ import annotations

import math

import pytest

from softmaxcode.parallel.deadline import Deadline
from softmaxcode.parallel.thread_pool import ThreadPool


def test_a_deadline_counts_from_its_beginning():
    now = [100.0]
    deadline = Deadline(10.0, lambda: now[0])
    assert (deadline.left, deadline.elapsed, deadline.passed, deadline.end) == (10.0, 0.0, False, 110.0)
    now[0] = 104.0
    part = deadline.within(3.0)
    assert (deadline.left, part.left, part.end) == (6.0, 3.0, 107.0)
    assert deadline.within(50.0).end == 110.0
    now[0] = 110.0
    assert deadline.passed and part.passed


def test_no_deadline_never_passes():
    deadline = Deadline(None)
    assert deadline.left == math.inf and not deadline.passed and deadline.end is None
    assert deadline.within(math.inf).left == math.inf


@pytest.mark.parametrize("threads", [1, 2, -1])
def test_results_come_in_order(threads):
    with ThreadPool(threads) as pool:
        assert list(pool.map(lambda n: n * n, range(20))) == [n * n for n in range(20)]
        seen = []
        pool.run(seen.append, range(5))
        assert sorted(seen) == [0, 1, 2, 3, 4]


def test_an_error_in_a_task_is_raised():
    with ThreadPool(2) as pool, pytest.raises(ZeroDivisionError):
        pool.run(lambda n: 1 / n, [1, 0, 2])
