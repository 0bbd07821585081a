"""Tasks on threads: the Numba kernels and BLAS release the interpreter lock, so no processes are needed."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, TypeVar

from joblib import Parallel, delayed
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Seconds of work below which threads, which cost some milliseconds to start, are not started.
WORTH_THREADS = 0.03

Result = TypeVar("Result")


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def run_tasks(tasks: Sequence[Callable[[], Result]], n_jobs: int) -> list[Result]:
    """Run every task with one BLAS thread and return the results in order, whatever ``n_jobs``.

    The first task is timed and the others follow it in place where they are too short to be worth threads.
    """
    with _controller().limit(limits=1, user_api="blas"):
        begin = time.perf_counter()
        done = [task() for task in tasks[:1]]
        rest = tasks[1:]
        if (time.perf_counter() - begin) * len(rest) < WORTH_THREADS:
            return done + [task() for task in rest]
        return done + Parallel(n_jobs=n_jobs, prefer="threads")(delayed(task)() for task in rest)
