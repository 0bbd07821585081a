"""Tasks on many processes, here or on a Dask cluster: joblib backends that outlive their workers.

joblib's own backends stop at the first worker that dies (the process pool breaks, a Dask task is waited for without
end) and do not see one that is stuck. Here every task has a process to itself and a limit on its time, and a task
that raises, dies or hangs ends as an `Outcome` like any other; so nothing that is finished is lost with it, and no
other task is blamed.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
import time
import uuid
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from joblib import Parallel, delayed, effective_n_jobs, parallel_config
from joblib.externals.loky import ProcessPoolExecutor
from joblib.parallel import ParallelBackendBase

from softmaxcode.checks.arguments import check_jobs, shown
from softmaxcode.parallel.interrupts import uninterrupted

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping

#: Seconds to wait for a Dask scheduler to answer, for its first worker, for a stuck worker to be restarted, and for
#: a result on its way.
SCHEDULER_TIMEOUT = 10.0
WORKER_TIMEOUT = 30.0
RESTART_TIMEOUT = 10.0
TRANSFER_TIMEOUT = 300.0
#: Seconds after which a process without a task ends, and between two looks of a process at its parent.
IDLE_TIMEOUT = 300.0
WATCH_EVERY = 1.0
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
    """Run a task where it is; what it raises becomes the reason."""
    try:
        return Outcome(key, task(**arguments))
    except Exception as error:
        return Outcome(key, None, one_line(error))


def run(
    backend: Workers, task: Callable[..., Any], arguments: Mapping[Any, dict[str, Any]], *, retry: bool = False
) -> Generator[Outcome, None, None]:
    """Run ``task(**arguments[key])`` for every key and yield the outcomes as they come; each key has exactly one.

    With ``retry``, tasks that share a process with others run one at a time, so that a death has one suspect only.
    Closing the generator early ends the tasks that are under way, and the workers with them.

    Examples
    --------
    >>> with LocalWorkers(2, timeout=60) as workers:
    ...     sorted(o.result for o in run(workers, int, {1: {}, 2: {}}))
    [0, 0]
    """
    calls = (delayed(attempt)(key, task, given) for key, given in arguments.items())
    slots = 1 if retry and backend.shared else backend.slots
    parallel = Parallel(backend=backend, return_as="generator_unordered", batch_size=1, pre_dispatch=slots)
    # a task that ends while the first ones are submitted makes joblib submit one more than there are slots
    backend.reporting.clear()
    try:
        outcomes = parallel(calls)
    finally:
        backend.reporting.set()
    try:
        for outcome in outcomes:  # noqa: UP028 - `yield from` would close it before the warning is silenced
            yield outcome
    finally:
        with warnings.catch_warnings():  # that results were not used is what an interruption means
            warnings.simplefilter("ignore", UserWarning)
            outcomes.close()


class _Task:
    """A running task; its worker or its timer, whichever is first, reports how it ended."""

    def __init__(self, key: Any, callback: Callable[[list[Outcome]], None], reporting: threading.Event) -> None:
        self.key = key
        self._callback = callback
        self._reporting = reporting
        self._open = threading.Lock()
        self._timer: threading.Timer | None = None

    def limit(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer = threading.Timer(seconds, action)
        self._timer.daemon = True
        self._timer.start()
        if self._open.locked():  # it was quicker than this
            self._timer.cancel()

    def finish(self) -> bool:
        """True for the first caller, which must then call `complete` or `fail`."""
        first = self._open.acquire(blocking=False)
        if first and self._timer is not None:
            self._timer.cancel()
        return first

    def complete(self, outcome: Outcome) -> None:
        self._reporting.wait()
        self._callback([outcome])

    def fail(self, reason: str) -> None:
        self.complete(Outcome(self.key, None, reason))


class Workers(ParallelBackendBase):
    """The common part of both kinds of workers; a context manager that leaves no process and no thread behind.

    Parameters
    ----------
    slots : int
        Tasks at the same time.
    timeout : float
        Seconds that a task may take before its worker counts as stuck.
    """

    supports_retrieve_callback = True
    #: Whether a process may run several tasks at once.
    shared = False

    def __init__(self, slots: int, timeout: float) -> None:
        super().__init__(nesting_level=0)
        self.slots = slots
        #: Set while outcomes may be reported.
        self.reporting = threading.Event()
        self.timeout = min(timeout, threading.TIMEOUT_MAX)

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def effective_n_jobs(self, n_jobs: int) -> int:
        """At least 2: joblib runs what has one job in this very process, which must not die with a task."""
        return max(2, self.slots)

    def retrieve_result_callback(self, out: list[Outcome]) -> list[Outcome]:
        """The one outcome of a batch, as `submit` passed it on."""
        return out

    def submit(self, func: Any, callback: Any = None) -> _Task:
        """Start a batch of one task; ``callback`` gets its outcome, whatever happens."""
        [(_, (key, *_rest), _options)] = func.items
        task = _Task(key, callback, self.reporting)
        try:
            job = self._start(func, task)
        except Exception as error:
            # from a thread of its own, since a completion starts the next task from here
            threading.Timer(0, task.fail, [f"no worker could be started ({one_line(error)})"]).start()
            return task
        task.limit(self.timeout, lambda: self._stuck(task, job))
        return task

    def _stuck(self, task: _Task, job: Any) -> None:
        if task.finish():
            self._give_up(job)
            task.fail(f"stuck: no result within {self.timeout:g} s")

    def _start(self, func: Callable[[], list[Outcome]], task: _Task) -> Any:
        """Start a task that completes itself, and return what `_give_up` needs to end it."""
        raise NotImplementedError

    def _give_up(self, job: Any) -> None:
        """End a task that is stuck, and its process with it."""
        raise NotImplementedError

    def close(self) -> None:
        """Let go of the workers; nothing is started any more."""
        raise NotImplementedError

    def abort_everything(self, ensure_ready: bool = True) -> None:
        """What joblib calls when the run is interrupted."""
        self.reporting.set()  # nothing is submitted any more, and what ends now must not be waited for
        self.close()


class LocalWorkers(Workers):
    """Processes of this machine, one executor each, so that a death breaks no other."""

    def __init__(self, slots: int, timeout: float) -> None:
        super().__init__(slots, timeout)
        self._idle: list[ProcessPoolExecutor] = []
        self._busy: set[ProcessPoolExecutor] = set()
        self._broken: list[ProcessPoolExecutor] = []
        self._closed = False
        self._lock = threading.Lock()

    def _start(self, func: Callable[[], list[Outcome]], task: _Task) -> ProcessPoolExecutor:
        executor, future = self._submitted(func)

        def done(ended: Any) -> None:
            if not task.finish():
                return
            with self._lock:
                self._busy.discard(executor)
                self._idle.append(executor)  # one that broke is found out when it is to be used again
            try:
                [outcome] = ended.result()
            except BaseException as error:  # SystemExit is no Exception, and what a task may end with
                outcome = Outcome(task.key, None, f"the worker died ({one_line(error)})")
            task.complete(outcome)

        future.add_done_callback(done)
        return executor

    def _submitted(self, func: Callable[[], list[Outcome]]) -> tuple[ProcessPoolExecutor, Any]:
        """The task on an idle process, or on a new one where none is idle or the idle one has died meanwhile."""
        with self._lock:
            executor = self._idle.pop() if self._idle else None
        if executor is not None:
            try:
                return executor, self._handed(executor, func)
            except Exception:
                with self._lock:
                    self._busy.discard(executor)
                    self._broken.append(executor)
        with _starting():  # the process that removes semaphores starts here
            executor = ProcessPoolExecutor(
                max_workers=1, env=ONE_THREAD, timeout=IDLE_TIMEOUT, initializer=end_with, initargs=(os.getpid(),)
            )
        return executor, self._handed(executor, func)

    def _handed(self, executor: ProcessPoolExecutor, func: Callable[[], list[Outcome]]) -> Any:
        with self._lock:
            if self._closed:
                raise RuntimeError("the workers are closed")
            self._busy.add(executor)
        with _starting():
            return executor.submit(func)

    def _give_up(self, job: ProcessPoolExecutor) -> None:
        with self._lock:
            self._busy.discard(job)
        _bounded(lambda: job.shutdown(kill_workers=True))

    def close(self) -> None:
        """End the processes, idle ones by themselves; nothing is started any more."""
        with self._lock:
            self._closed = True
            idle, others = list(self._idle), [*self._busy, *self._broken]

        def shut_down() -> None:
            for executor in others:
                executor.shutdown(kill_workers=True)
            for executor in idle:
                executor.shutdown()

        _bounded(shut_down)


def end_with(parent: int) -> None:
    """Have this process end soon after its parent, however that ends: a killed parent ends nothing itself.

    A signal at the parent's death (``PR_SET_PDEATHSIG``) would come when the thread ends that started this process.

    Parameters
    ----------
    parent : int
        The parent's process id, as the parent gave it: it may have ended before this process looks.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_EVERY)
        os._exit(1)

    threading.Thread(target=watch, name="end with the parent", daemon=True).start()


@contextlib.contextmanager
def _starting() -> Iterator[None]:
    """Where processes start: no interrupt leaves one half started, and they see neither Ctrl-C nor a closed terminal.

    Both go to all processes of a terminal: this one answers, and the others end with it. One of them removes the
    semaphores of the rest.
    """
    with uninterrupted():
        if not hasattr(signal, "pthread_sigmask"):
            yield
            return
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGHUP})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


class DaskWorkers(Workers):
    """Workers of a Dask cluster."""

    shared = True

    def __init__(self, client: Any, slots: int, timeout: float) -> None:
        super().__init__(slots, timeout)
        self._client = client
        self._futures: set[Any] = set()  # Dask drops a task that nobody holds the future of

    def _start(self, func: Callable[[], list[Outcome]], task: _Task) -> Any:
        future = self._client.submit(func, key=f"softmaxcode-{uuid.uuid4().hex}", pure=False)
        self._futures.add(future)

        def done(ended: Any) -> None:
            if not task.finish():
                return
            try:
                [outcome] = ended.result(timeout=TRANSFER_TIMEOUT)
            except BaseException as error:
                outcome = Outcome(task.key, None, f"the worker died ({one_line(error).split('. ')[0]})")
            self._futures.discard(future)
            future.release()  # or the scheduler computes it again when it loses the worker that has it
            task.complete(outcome)

        future.add_done_callback(done)
        return future

    def _give_up(self, job: Any) -> None:
        """Cancel the task and restart its worker, whose thread nothing else can free (this needs Dask's nanny)."""

        def free() -> None:
            at = [address for address, keys in self._client.processing().items() if job.key in keys]
            self._client.cancel([job], force=True)
            if at:
                self._client.restart_workers(at, timeout=RESTART_TIMEOUT, raise_for_error=False)

        _bounded(free)
        self._futures.discard(job)

    def close(self) -> None:
        """Cancel what is queued and leave; what is under way ends on the workers, and its result is dropped."""

        def leave() -> None:
            if self._futures:
                self._client.cancel(list(self._futures), force=True)
            self._client.close(timeout=SCHEDULER_TIMEOUT)

        _bounded(leave)


def _bounded(action: Callable[[], Any]) -> None:
    """Do what waits for a process that may not answer: leave it to itself after a while, and never fail."""

    def quietly() -> None:
        with contextlib.suppress(Exception):
            action()

    thread = threading.Thread(target=quietly, daemon=True)
    thread.start()
    thread.join(1.5 * RESTART_TIMEOUT)


def workers(n_jobs: int, scheduler: str | None, timeout: float) -> Workers:
    """Workers here, or on the Dask cluster whose scheduler has this address.

    Parameters
    ----------
    n_jobs : int
        Tasks at the same time, as in joblib; -1 uses every core, of this machine or of the cluster.
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
    if scheduler is None:
        with parallel_config(backend="loky"):
            return LocalWorkers(effective_n_jobs(n_jobs), timeout)
    client = _client(scheduler)
    try:
        client.wait_for_workers(1, timeout=WORKER_TIMEOUT)
        cores = sum(client.ncores().values())
    except Exception as error:
        _bounded(client.close)
        raise ValueError(f"the Dask scheduler {scheduler} has no worker ({one_line(error)})") from None
    return DaskWorkers(client, n_jobs if n_jobs > 0 else max(1, cores + 1 + n_jobs), timeout)


def _client(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError:
        raise ValueError("a Dask cluster needs Dask: pip install 'softmaxcode[dask]'") from None
    if not re.fullmatch(r"([a-z]+://)?[^\s/]+:\d+|[a-z]+://\S+", scheduler):
        raise ValueError(f"scheduler must be an address such as tcp://10.0.0.1:8786; got {shown(scheduler)}")
    try:
        return Client(scheduler, timeout=SCHEDULER_TIMEOUT, set_as_default=False)
    except Exception as error:  # OSError for no answer, ValueError and others for what is no address
        raise ValueError(f"no Dask scheduler answers at {scheduler} ({one_line(error)})") from None
