"""Tasks on threads: Numba kernels and BLAS release the interpreter lock, so no processes are needed."""

from __future__ import annotations

import functools
import math
import time
from typing import TYPE_CHECKING, Any, TypeVar

from joblib import Parallel, delayed
from threadpoolctl import ThreadpoolController

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: Threads are not started for less than this many seconds of work, since starting them costs some milliseconds.
WORTH_THREADS = 0.03

Result = TypeVar("Result")


@functools.cache
def _controller() -> ThreadpoolController:
    return ThreadpoolController()


def one_blas_thread() -> Any:
    """A context with one thread for BLAS and LAPACK: several wait for each other, mostly if other work is running."""
    return _controller().limit(limits=1, user_api="blas")


class Threads:
    """Runs tasks with one BLAS thread each, on several threads if earlier tasks of the same name were long enough.

    Results come in order and do not depend on the number of threads.

    Parameters
    ----------
    n_jobs : int
        Threads, as in joblib; -1 uses every core.
    """

    def __init__(self, n_jobs: int = -1) -> None:
        self.n_jobs = n_jobs
        self._seconds: dict[str, float] = {}

    def run(self, name: str, tasks: Sequence[Callable[[], Result]]) -> list[Result]:
        """Run every task and return the results in order; ``name`` groups tasks of similar length."""

        def timed(task: Callable[[], Result]) -> Result:
            begin = time.perf_counter()
            result = task()
            self._seconds[name] = time.perf_counter() - begin
            return result

        with one_blas_thread():
            if len(tasks) < 2 or self._seconds.get(name, math.inf) * len(tasks) < WORTH_THREADS:
                return [timed(task) for task in tasks]
            return Parallel(n_jobs=self.n_jobs, prefer="threads")(delayed(timed)(task) for task in tasks)
