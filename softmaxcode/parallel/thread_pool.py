"""Short tasks on threads that stay alive: a call costs some ten microseconds, not the milliseconds of joblib."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from joblib import effective_n_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Self

Item = TypeVar("Item")
Result = TypeVar("Result")


class ThreadPool:
    """Threads for compiled kernels and matrix products, which release the interpreter lock.

    Parameters
    ----------
    n_jobs : int
        Threads, as in joblib; -1 uses every core.
    """

    def __init__(self, n_jobs: int = 1) -> None:
        self.size = effective_n_jobs(n_jobs)
        self._threads = ThreadPoolExecutor(self.size) if self.size > 1 else None

    def map(self, task: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Results of the task in the order of the items; on the calling thread where there is one only."""
        if self._threads is None:
            return map(task, items)
        return self._threads.map(task, items)

    def run(self, task: Callable[[Item], object], items: Iterable[Item]) -> None:
        """Run the task on every item."""
        for _ in self.map(task, items):
            pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=True, cancel_futures=True)
