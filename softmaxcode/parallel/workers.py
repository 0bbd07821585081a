"""Tasks on worker processes, here or on a Dask cluster. However a task ends, it has one `Outcome`.

A pool of processes breaks as a whole when one of them dies. Here every local process is a pool of its own, and `run`
gives each a task at a time, so a task that raises, dies or hangs costs no other task. On a cluster the tasks that share
its worker process are lost with it; `retry` runs one at a time.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
from abc import ABC, abstractmethod
from collections import deque
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from time import monotonic
from typing import TYPE_CHECKING, Any

from loky import BrokenProcessPool, ProcessPoolExecutor, cpu_count

from softmaxcode.checks.arguments import check_jobs, shown
from softmaxcode.parallel.interrupts import end_with, starting_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

#: Seconds to wait for a Dask scheduler to answer, for its first worker, for a stuck worker to be restarted, and for
#: a result on its way.
SCHEDULER_TIMEOUT = 10.0
WORKER_TIMEOUT = 30.0
RESTART_TIMEOUT = 10.0
TRANSFER_TIMEOUT = 300.0
#: Seconds after which a process without a task ends.
IDLE_TIMEOUT = 300.0
#: The longest wait in seconds without a look at the deadlines; Windows hears Ctrl-C only between two waits.
LONGEST_WAIT = 1.0
#: Every worker's numerical libraries get one thread: the tasks fill the cores.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


@dataclass(frozen=True)
class Outcome:
    """How a task ended: with its result, or with the reason why there is none.

    Attributes
    ----------
    key : object
        What the task was submitted under.
    result : object
        What it returned; None where there is a reason.
    reason : str or None
        One line on what went wrong.
    """

    key: Any
    result: Any
    reason: str | None = None


def one_line(error: BaseException) -> str:
    """An exception as its type and the first line of its message."""
    said = str(error).strip().split("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def attempt(key: Any, task: Callable[..., Any], arguments: dict[str, Any]) -> Outcome:
    """Run a task in this process; an exception that it raises, also SystemExit, becomes the reason."""
    try:
        return Outcome(key, task(**arguments))
    except BaseException as error:
        return Outcome(key, None, one_line(error))


def run(
    workers: Workers, task: Callable[..., Any], arguments: Mapping[Any, dict[str, Any]], *, retry: bool = False
) -> Generator[Outcome, None, None]:
    """Run ``task(**arguments[key])`` for every key and yield the outcomes as they come; each key has exactly one.

    With ``retry``, workers that run several tasks in one process get one task at a time. So if the process dies, it is
    clear which task was running. Closing the generator early ends the running tasks and their workers.

    Examples
    --------
    >>> with LocalWorkers(2, timeout=60) as workers:
    ...     sorted(o.result for o in run(workers, int, {1: {}, 2: {}}))
    [0, 0]
    """
    slots = 1 if retry and workers.shared else workers.slots
    waiting = deque(arguments.items())
    running: dict[Any, tuple[Any, float]] = {}  # key and deadline by future, the first deadline first
    ended: SimpleQueue[Any] = SimpleQueue()
    outcomes: list[Outcome] = []
    try:
        while waiting or running or outcomes:
            while waiting and len(running) < slots:
                key, given = waiting.popleft()
                deadline = monotonic() + workers.timeout  # before the task can begin
                try:
                    future = workers.submit(functools.partial(attempt, key, task, given))
                except Exception as error:
                    outcomes.append(Outcome(key, None, f"no worker could be started ({one_line(error)})"))
                    continue
                running[future] = key, deadline
                future.add_done_callback(ended.put)
            if outcomes:  # while a new task runs where the last one did
                yield outcomes.pop()
            else:
                outcomes.append(_next_outcome(workers, running, ended))
    finally:
        if running:
            workers.close()


def _next_outcome(workers: Workers, running: dict[Any, tuple[Any, float]], ended: SimpleQueue[Any]) -> Outcome:
    """Wait for the first task that ends or whose time is over, and take it out of ``running``."""
    while True:
        future, (key, deadline) = next(iter(running.items()))
        try:
            future = ended.get(timeout=min(LONGEST_WAIT, max(0.0, deadline - monotonic())))
        except Empty:
            if monotonic() < deadline:
                continue
            del running[future]
            workers.give_up(future)
            return Outcome(key, None, f"stuck: no result within {workers.timeout:g} s")
        if future in running:  # and was not given up
            key, _ = running.pop(future)
            try:
                return future.result(timeout=TRANSFER_TIMEOUT)
            except Exception as error:
                what = "the worker died" if isinstance(error, workers.death) else "the worker sent no result"
                return Outcome(key, None, f"{what} ({one_line(error)})")
            finally:
                workers.release(future)


class Workers(ABC):
    """The common part of both kinds of workers; a context manager that closes them.

    Parameters
    ----------
    slots : int
        Tasks at the same time.
    timeout : float
        Seconds that a task may take before its worker counts as stuck.
    """

    #: Whether a process may run several tasks at once.
    shared = False
    #: What the future of a task raises whose worker has died.
    death: type[Exception] = BrokenProcessPool

    def __init__(self, slots: int, timeout: float) -> None:
        self.slots, self.timeout = slots, timeout

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def submit(self, call: Callable[[], Outcome]) -> Any:
        """Start a task and return its future, which has ``add_done_callback`` and ``result``."""

    @abstractmethod
    def release(self, future: Any) -> None:
        """Let go of a task that has ended."""

    @abstractmethod
    def give_up(self, future: Any) -> None:
        """End a task that is stuck, and its process with it."""

    @abstractmethod
    def close(self) -> None:
        """End the tasks that are under way, and let go of the workers."""


class LocalWorkers(Workers):
    """Processes of this machine, one executor each, so that a death breaks no other."""

    def __init__(self, slots: int, timeout: float) -> None:
        super().__init__(slots, timeout)
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: dict[Any, ProcessPoolExecutor] = {}

    def submit(self, call: Callable[[], Outcome]) -> Any:
        """Start a task on an idle process, or on a new one where none is idle or the idle one has died."""
        with starting_processes():
            if self._idle:
                with contextlib.suppress(BrokenProcessPool):
                    return self._submit_to(self._idle.pop(), call)
            executor = ProcessPoolExecutor(
                max_workers=1, env=ONE_THREAD, timeout=IDLE_TIMEOUT, initializer=end_with, initargs=(os.getpid(),)
            )
            return self._submit_to(executor, call)

    def _submit_to(self, executor: ProcessPoolExecutor, call: Callable[[], Outcome]) -> Any:
        try:
            future = executor.submit(call)
        except Exception:
            executor.shutdown(wait=False, kill_workers=True)  # or the interpreter waits for the task when it ends
            raise
        self._busy[future] = executor
        return future

    def release(self, future: Any) -> None:
        """The process is idle, or has died, which `submit` notices."""
        self._idle.append(self._busy.pop(future))

    def give_up(self, future: Any) -> None:
        """Kill the process."""
        self._busy[future].shutdown(wait=False, kill_workers=True)
        del self._busy[future]

    def close(self) -> None:
        """Kill the processes that have a task and have the others end, without a wait for either."""
        for executor in self._busy.values():
            executor.shutdown(wait=False, kill_workers=True)
        for executor in self._idle:
            executor.shutdown(wait=False)
        self._busy.clear()
        self._idle.clear()


class DaskWorkers(Workers):
    """Workers of the Dask cluster whose scheduler has this address; see `workers`."""

    shared = True

    def __init__(self, scheduler: str, n_jobs: int, timeout: float) -> None:
        try:
            from distributed import Client, KilledWorker
        except ImportError:
            raise ValueError("a Dask cluster needs Dask: pip install 'softmaxcode[dask]'") from None
        if not re.fullmatch(r"([a-z]+://)?[^\s/]+:\d+|[a-z]+://\S+", scheduler):
            raise ValueError(f"scheduler must be an address such as tcp://10.0.0.1:8786; got {shown(scheduler)}")
        try:
            self._client = Client(scheduler, timeout=SCHEDULER_TIMEOUT, set_as_default=False)
        except Exception as error:  # OSError for no answer, ValueError and others for what is no address
            raise ValueError(f"no Dask scheduler answers at {scheduler} ({one_line(error)})") from None
        try:
            self._client.wait_for_workers(1, timeout=WORKER_TIMEOUT)
            cores = sum(self._client.ncores().values())
        except Exception as error:
            self.close()
            raise ValueError(f"the Dask scheduler {scheduler} has no worker ({one_line(error)})") from None
        super().__init__(min(_slots(n_jobs, cores), cores), timeout)  # a queue would count towards the timeout
        self.death = KilledWorker

    def submit(self, call: Callable[[], Outcome]) -> Any:
        """Queue a task."""
        return self._client.submit(call, pure=False)

    def release(self, future: Any) -> None:
        """Forget it, or the scheduler computes it again when it loses the worker that has the result."""
        future.release()

    def give_up(self, future: Any) -> None:
        """Cancel the task and restart its worker, whose thread nothing else can free (this needs Dask's nanny)."""

        async def free() -> None:
            at = [address for address, keys in (await self._client.processing()).items() if future.key in keys]
            await self._client.cancel([future], force=True)
            if at:
                await self._client.restart_workers(at, timeout=RESTART_TIMEOUT, raise_for_error=False)

        with contextlib.suppress(Exception):
            self._client.sync(free, callback_timeout=1.5 * RESTART_TIMEOUT)

    def close(self) -> None:
        """Close the client: the scheduler drops queued tasks; running tasks end on the workers, without a result."""
        with contextlib.suppress(Exception):
            self._client.close(timeout=SCHEDULER_TIMEOUT)


def workers(n_jobs: int, scheduler: str | None, timeout: float) -> Workers:
    """Workers here, or on the Dask cluster whose scheduler has this address.

    Parameters
    ----------
    n_jobs : int
        Tasks at the same time, as in joblib; -1 uses every core, of this machine or of the cluster. On a cluster there
        are at most as many as cores.
    scheduler : str or None
        Such as "tcp://10.0.0.1:8786".
    timeout : float
        Seconds that a task may take.

    Raises
    ------
    ValueError
        If ``n_jobs`` is 0, Dask is not installed, or there is no such scheduler or it has no worker.
    """
    n_jobs = check_jobs(n_jobs)
    if scheduler is not None:
        return DaskWorkers(scheduler, n_jobs, timeout)
    return LocalWorkers(_slots(n_jobs, cpu_count()), timeout)  # loky counts the cores that affinity and cgroup allow


def _slots(n_jobs: int, cores: int) -> int:
    """Tasks at once: ``n_jobs`` where it is positive; -1 is every core, -2 all but one."""
    return n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs)
