"""Sweeps: what they enter, resuming, and workers that die, raise, hang or send no valid code; here and on Dask."""

from __future__ import annotations

import functools
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import cloudpickle
import loky
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmaxcode.catalog import Catalog
from softmaxcode.checks.arguments import OBJECTIVES
from softmaxcode.code import SoftmaxCode
from softmaxcode.parallel import workers as workers_module
from softmaxcode.parallel.workers import LocalWorkers, Outcome, Workers, run, workers
from softmaxcode.solver import solve_both
from softmaxcode.sphere import largest_cosines, random_rows
from softmaxcode.storage.journal import Journal, check_pairs, is_journal, json_options
from softmaxcode.storage.provenance import Provenance
from softmaxcode.sweep import Improvement, SweepReport, solve_pair, sweep
from tests.processes import HANG, wait_for

# worker processes cannot import this file
cloudpickle.register_pickle_by_value(sys.modules[__name__])

# the package's name for the function hides the module
sweep_module = sys.modules["softmaxcode.sweep"]
PAIRS = [(7, 3), (8, 3), (9, 3), (9, 4), (10, 4)]
BAD = (9, 3)


@dataclass
class MemoryCatalog:
    """A catalogue in memory: a code enters if its value is larger."""

    path: Path
    codes: dict[tuple[int, int, str], SoftmaxCode] = field(default_factory=dict)
    calls: list[tuple[int, int, str]] = field(default_factory=list)

    def code(self, K: int, d: int, objective: str) -> SoftmaxCode | None:
        return self.codes.get((K, d, objective))

    def improve(self, code: SoftmaxCode) -> bool:
        key = (code.K, code.d, code.objective)
        self.calls.append(key)
        if key in self.codes and value(self.codes[key]) >= value(code):
            return False
        self.codes[key] = code
        return True


def value(code: SoftmaxCode) -> float:
    return code.margin if code.objective == "softmax" else 1 - code.max_cosine


@pytest.fixture
def catalog(tmp_path) -> MemoryCatalog:
    return MemoryCatalog(tmp_path / "codes.sqlite")


@pytest.fixture(scope="module")
def cluster():
    """A Dask scheduler with two worker processes; a task whose worker died fails at once, not at the fourth time."""
    dask = pytest.importorskip("dask")
    distributed = pytest.importorskip("distributed")
    settings = {
        "distributed.scheduler.allowed-failures": 0,
        "distributed.logging.distributed": "critical",
        "distributed.comm.timeouts.connect": HANG,
        "distributed.comm.timeouts.tcp": HANG,
        # a worker that is restarted counts as lost after 15 s, and its nanny is closed for good
        "distributed.deploy.lost-worker-timeout": HANG,
    }
    with (
        pytest.MonkeyPatch.context() as patient,
        dask.config.set(settings),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs="CRITICAL"
        ) as local,
    ):
        for name in ("SCHEDULER_TIMEOUT", "WORKER_TIMEOUT"):
            patient.setattr(workers_module, name, HANG)
        yield local.scheduler_address


@pytest.fixture(params=["local", "dask"])
def scheduler(request):
    return None if request.param == "local" else request.getfixturevalue("cluster")


class Threads(Workers):
    """Tasks on threads of this process, more than there are slots: for what is not about processes."""

    def __init__(self, slots, timeout):
        super().__init__(slots, timeout)
        self.pool = ThreadPoolExecutor(10 * slots)

    def submit(self, call):
        return self.pool.submit(call)

    def release(self, future):
        pass

    def give_up(self, future):
        pass

    def close(self):
        self.pool.shutdown()


@pytest.fixture
def threads(monkeypatch) -> None:
    monkeypatch.setattr(sweep_module, "workers", lambda n_jobs, scheduler, timeout: Threads(n_jobs, timeout))


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_as_many_tasks_as_slots_run_at_once(slots):
    """The oldest ends when as many are under way, even the one that is being submitted; in the end all do."""
    started, at_once, released = [], [], []

    class Counted(Threads):
        def submit(self, call):
            started.append((Future(), call))
            at_once.append(len(started) - len(released))
            under_way = [(future, call) for future, call in started if not future.done()]
            for future, call in under_way if len(started) == 6 else under_way[: len(under_way) // slots]:
                future.set_result(call())
            return started[-1][0]

        def release(self, future):
            released.append(future)

    with Counted(slots, HANG) as counted:
        outcomes = list(run(counted, int, {key: {} for key in range(6)}))
    assert [outcome.key for outcome in outcomes] == list(range(6))
    assert max(at_once) == slots and released == [future for future, _ in started]


def answer(K: int, d: int, seed: int) -> dict[str, dict[str, Any]]:
    W = random_rows(K, d, np.random.default_rng([K, d, seed]))
    return {name: {"W": W, "provenance": asdict(Provenance("made up", seed=seed))} for name in OBJECTIVES}


def fake(
    K: int,
    d: int,
    *,
    seed: int,
    starts: int | None,
    budget: float | None,
    initial: list[np.ndarray],
    folder: Path,
    how: str = "",
    times: int = 0,
) -> Any:
    """A task at no cost that records that it ran; for one pair it fails the first ``times`` times."""
    (folder / f"{K}.{d}.{uuid.uuid4().hex}").touch()
    if (K, d) == BAD and len(list(folder.glob(f"{K}.{d}.*"))) <= times:
        if how == "exit":
            os._exit(7)
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "raise":
            raise ArithmeticError("the task's own words\nand more of them")
        if how == "hang":
            time.sleep(10 * HANG)
        return {
            "nothing": None,
            "other shape": answer(K + 1, d, seed),
            "one missing": {"tammes": answer(K, d, seed)["tammes"]},
            "not finite": {name: {**stored, "W": stored["W"] * np.nan} for name, stored in answer(K, d, seed).items()},
            "no provenance": {name: {**stored, "provenance": {"x": 1}} for name, stored in answer(K, d, seed).items()},
        }[how]
    return answer(K, d, seed)


@pytest.fixture
def folder(tmp_path) -> Path:
    path = tmp_path / "ran"
    path.mkdir()
    return path


def ran(folder: Path) -> dict[tuple[int, int], int]:
    """How often every pair ran, since the last call."""
    counts: dict[tuple[int, int], int] = {}
    for path in folder.iterdir():
        K, d, _ = path.name.split(".")
        counts[int(K), int(d)] = counts.get((int(K), int(d)), 0) + 1
        path.unlink()
    return counts


def once(pairs: list[tuple[int, int]]) -> dict[tuple[int, int], int]:
    return dict.fromkeys(pairs, 1)


def local_processes() -> list[str]:
    """Worker processes of this one that are still running."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rsplit(")", 1)[1].split()[:2]
            command = (stat.parent / "cmdline").read_text()
        except OSError:
            continue
        if int(parent) == os.getpid() and "popen_loky" in command and state != "Z":
            found.append(stat.parent.name)
    return found


# Entries


def test_what_is_better_enters_and_is_reported(threads, catalog, folder):
    task = functools.partial(fake, folder=folder)
    pairs = [(9, 4), (6, 3), (7, 3), (9, 4), (4, 3)]
    first = sweep(pairs, catalog=catalog, task=task, n_jobs=2)
    assert first.done == ((9, 4), (7, 3)) and first.closed == ((6, 3), (4, 3))
    assert first.failed == {} and first.skipped == () and first.seconds > 0
    assert ran(folder) == once([(9, 4), (7, 3)])
    assert [item[:4] for item in first.improved] == [(K, d, o, None) for K, d in first.done for o in OBJECTIVES]
    for K, d, objective, _, new in first.improved:
        assert new == value(catalog.codes[K, d, objective])
        np.testing.assert_array_equal(
            catalog.code(K, d, objective).W, SoftmaxCode(random_of(K, d, 0), objective, MADE).W
        )

    again = sweep(pairs, catalog=catalog, task=task, n_jobs=2)
    assert again.done == first.done and again.improved == ()
    before = {key: value(code) for key, code in catalog.codes.items()}
    seeds = [sweep(pairs, catalog=catalog, task=task, seed=seed, n_jobs=2) for seed in (1, 2)]
    for item in [item for report in seeds for item in report.improved]:
        assert item.old == before[item[:3]] < item.new
        before[item[:3]] = item.new
    assert before == {key: value(code) for key, code in catalog.codes.items()}
    assert [p.name for p in folder.parent.iterdir()] == ["ran"]  # no journal is left


MADE = Provenance("made up")


def random_of(K: int, d: int, seed: int) -> np.ndarray:
    return answer(K, d, seed)["softmax"]["W"]


def test_nothing_to_do_starts_no_worker(catalog):
    report = sweep([(6, 3), (5, 2), (9, 1)], catalog=catalog, scheduler="tcp://127.0.0.1:1")
    assert report.closed == ((6, 3), (5, 2), (9, 1)) and report.done == ()
    assert sweep([], catalog=catalog).done == ()


def shapes(K, d, *, initial, seed, **_):
    """Returns, as provenance, its own arguments."""
    made = {"method": " ".join(f"{X[0, 0]:.17g}@{len(X)}" for X in initial)}
    return {name: {"W": random_rows(K, d, np.random.default_rng(0)), "provenance": made} for name in OBJECTIVES}


def test_workers_begin_from_the_held_codes_of_the_pair_and_its_neighbours(threads, catalog):
    rows = {K: random_of(K, 3, 5) for K in (7, 8, 10)}
    other = random_of(8, 3, 6)
    for objective in OBJECTIVES:
        for K, W in rows.items():
            catalog.codes[K, 3, objective] = SoftmaxCode(W, objective, MADE)
    catalog.codes[8, 3, "tammes"] = SoftmaxCode(other, "tammes", MADE)
    sent: dict[int, str] = {}
    catalog.improve = lambda code: sent.setdefault(code.K, code.provenance.method)
    sweep([(7, 3), (8, 3), (9, 3)], catalog=catalog, task=shapes, n_jobs=2)
    name = {K: f"{W[0, 0]:.17g}@{K}" for K, W in rows.items()}
    assert sent == {
        7: f"{name[7]} {name[8]}",
        8: f"{name[8]} {other[0, 0]:.17g}@8 {name[7]}",
        9: f"{name[8]} {name[10]}",
    }


@pytest.mark.processes
def test_the_real_task_does_not_depend_on_the_number_of_processes(tmp_path):
    found = []
    for n_jobs in (1, 2):
        catalog = MemoryCatalog(tmp_path / f"{n_jobs}.sqlite")
        report = sweep([(7, 3), (11, 4), (8, 3)], catalog=catalog, starts=2, seed=3, n_jobs=n_jobs)
        assert report.failed == {} and len(report.improved) == 6
        found.append(catalog.codes)
    assert found[0].keys() == found[1].keys()
    for key, code in found[0].items():
        np.testing.assert_array_equal(code.W, found[1][key].W)
    # seven and eight points: Schuette and van der Waerden (1951)
    assert found[0][7, 3, "tammes"].min_angle == pytest.approx(77.869542155, abs=1e-8)
    assert found[0][8, 3, "tammes"].max_cosine == pytest.approx((2 * 2**0.5 - 1) / 7, abs=1e-12)


def test_a_held_code_is_never_lost_by_the_task():
    best = solve_pair(7, 3, seed=0, starts=4, budget=None, initial=[])
    again = solve_pair(7, 3, seed=99, starts=1, budget=None, initial=[best["softmax"]["W"], best["tammes"]["W"]])
    for objective in OBJECTIVES:
        old, new = (SoftmaxCode(codes[objective]["W"], objective, MADE) for codes in (best, again))
        assert value(new) >= value(old) - 1e-14


def test_a_neighbour_is_grown_or_shrunk():
    """The seeds have K rows of the neighbour's making, and the result is at least as good as the best of them."""
    pytest.importorskip("softmaxcode.search.neighbours")
    smaller, larger = (solve_both(K, 3, starts=2, n_jobs=1, catalog=False)["tammes"].W for K in (10, 12))
    seeds = sweep_module._from_neighbours(11, 3, 0, [smaller, larger])
    assert [X.shape for X in seeds] == [(11, 3), (11, 3)]
    best = solve_pair(11, 3, seed=0, starts=1, budget=None, initial=[smaller, larger])
    assert SoftmaxCode(best["tammes"]["W"], "tammes", MADE).max_cosine <= min(largest_cosines(X).max() for X in seeds)
    # eleven points are no better placed than twelve (Schuette and van der Waerden 1951)
    assert SoftmaxCode(best["tammes"]["W"], "tammes", MADE).max_cosine == pytest.approx(5**-0.5, abs=1e-12)


# Workers that fail


@pytest.mark.processes
@pytest.mark.parametrize("how", ["exit", "raise"])
def test_what_goes_wrong_once_is_tried_again(catalog, folder, scheduler, how):
    task = functools.partial(fake, folder=folder, how=how, times=1)
    report = sweep(PAIRS, catalog=catalog, task=task, n_jobs=2, scheduler=scheduler, timeout=HANG)
    assert report.done == tuple(PAIRS) and report.failed == {}
    assert set(catalog.codes) == {(K, d, name) for K, d in PAIRS for name in OBJECTIVES}
    counts = ran(folder)
    assert counts.pop(BAD) == 2
    if scheduler is None:
        assert set(counts.values()) == {1}
    assert not list(folder.parent.glob("*.sweep-*"))


@pytest.mark.processes
@pytest.mark.parametrize(
    ("how", "reason"), [("kill", "worker died"), ("raise", "^ArithmeticError: the task's own words$")]
)
def test_what_always_goes_wrong_is_named_and_the_rest_is_done(catalog, folder, scheduler, how, reason):
    task = functools.partial(fake, folder=folder, how=how, times=99)
    report = sweep(PAIRS, catalog=catalog, task=task, n_jobs=2, scheduler=scheduler, timeout=HANG)
    others = [pair for pair in PAIRS if pair != BAD]
    assert report.done == tuple(others) and list(report.failed) == [BAD]
    assert re.search(reason, report.failed[BAD])
    counts = ran(folder)
    assert counts.pop(BAD) == 3
    if scheduler is None or how == "raise":
        assert counts == once(others)
    # failed pairs are left to the next run, and only those
    second = sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), n_jobs=2, scheduler=scheduler)
    assert second.skipped == tuple(others) and second.done == (BAD,)
    assert ran(folder) == once([BAD])
    assert not list(folder.parent.glob("*.sweep-*"))


@pytest.fixture
def hours_pass(monkeypatch, folder):
    """Time stands still, but for an hour that passes each time that `BAD` begins to hang."""

    def hang(times: int) -> Any:
        monkeypatch.setattr(workers_module, "monotonic", lambda: 3600.0 * min(times, len(list(folder.glob("9.3.*")))))
        return functools.partial(fake, folder=folder, how="hang", times=times)

    return hang


@pytest.mark.processes
def test_a_task_that_hangs_is_ended_and_tried_again(catalog, folder, scheduler, hours_pass):
    report = sweep(PAIRS, catalog=catalog, task=hours_pass(1), n_jobs=2, scheduler=scheduler, timeout=60, tries=99)
    assert report.done == tuple(PAIRS)
    assert ran(folder)[BAD] >= 2


@pytest.mark.processes
def test_a_task_that_always_hangs_is_named(catalog, folder, hours_pass):
    report = sweep(PAIRS, catalog=catalog, task=hours_pass(99), n_jobs=1, timeout=60, tries=1)
    assert report.failed == {BAD: "stuck: no result within 60 s"}
    assert len(report.done) == len(PAIRS) - 1
    wait_for(lambda: not local_processes())


def test_a_task_without_a_result_is_stuck_when_its_time_is_over():
    given_up = []

    class Silent(Threads):
        def submit(self, call):
            return Future()

        def give_up(self, future):
            given_up.append(future)

    with Silent(2, timeout=0.01) as silent:
        outcomes = list(run(silent, int, {key: {} for key in range(3)}))
    assert {outcome.reason for outcome in outcomes} == {"stuck: no result within 0.01 s"}
    assert sorted(outcome.key for outcome in outcomes) == [0, 1, 2] and len({*given_up}) == 3


def test_a_result_that_came_in_time_counts_however_late_it_is_read(monkeypatch):
    now = 0.0
    monkeypatch.setattr(workers_module, "monotonic", lambda: now)
    futures = []

    class Noted(Threads):
        def submit(self, call):
            futures.append(super().submit(call))
            return futures[-1]

    with Noted(2, timeout=60) as threads:
        outcomes = run(threads, int, {key: {} for key in range(2)})
        first = next(outcomes)
        [future.result(HANG) for future in futures]
        now = 3600.0
        assert [(o.result, o.reason) for o in (first, *outcomes)] == [(0, None)] * 2


def test_workers_that_cannot_be_started_fail_their_tasks_alone():
    class Few(Threads):
        def submit(self, call):
            if call.args[0] % 2:
                raise OSError("no more processes")
            return super().submit(call)

    with Few(2, HANG) as threads:
        outcomes = {outcome.key: outcome.reason for outcome in run(threads, int, {key: {} for key in range(6)})}
    reason = "no worker could be started (OSError: no more processes)"
    assert outcomes == {key: reason if key % 2 else None for key in range(6)}


@pytest.mark.parametrize("how", ["nothing", "other shape", "one missing", "not finite", "no provenance"])
def test_an_answer_that_is_no_code_counts_as_a_try(threads, catalog, folder, how):
    task = functools.partial(fake, folder=folder, how=how, times=99)
    report = sweep([BAD, (7, 3)], catalog=catalog, task=task, n_jobs=1, tries=2)
    assert report.done == ((7, 3),) and "is no code" in report.failed[BAD]
    assert ran(folder) == {BAD: 2, (7, 3): 1}
    assert not any(key[:2] == BAD for key in catalog.calls)


def ends(how: str) -> Any:
    if how == "exit":
        os._exit(0)
    if how == "SystemExit":
        raise SystemExit("3")
    return threading.Lock() if how == "unpicklable" else how


@pytest.mark.processes
def test_however_a_task_ends_it_has_an_outcome_and_the_next_one_runs():
    reasons = {}
    with LocalWorkers(1, timeout=HANG) as processes:
        for how in ("exit", "SystemExit", "unpicklable"):
            first, second = run(processes, ends, {key: {"how": key} for key in (how, "result")})
            assert (second.result, second.reason) == ("result", None)
            reasons[first.key] = first.reason
    assert reasons["exit"].startswith("the worker died (TerminatedWorkerError: ")
    assert reasons["SystemExit"] == "SystemExit: 3"
    assert reasons["unpicklable"].startswith("the worker sent no result (TypeError: ")


@pytest.mark.processes
def test_a_process_that_dies_between_two_tasks_costs_nothing():
    before = {*threading.enumerate()}
    with LocalWorkers(1, timeout=HANG) as processes:
        [first] = run(processes, os.getpid, {0: {}})
        own = {*threading.enumerate()} - before
        assert own
        os.kill(first.result, signal.SIGKILL)
        wait_for(lambda: not any(thread.is_alive() for thread in own))  # the death has been noticed
        [second] = run(processes, os.getpid, {1: {}})
    assert first.reason is None and second.reason is None and second.result != first.result


def blocked() -> set[int]:
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no signal masks")
def test_processes_do_not_receive_what_a_terminal_sends_to_all():
    code = """
import signal
from softmaxcode.parallel.workers import LocalWorkers, run
arguments = {i: {"how": signal.SIG_BLOCK, "mask": ()} for i in range(2)}
with LocalWorkers(2, timeout=float("inf")) as processes:  # the first processes that this one starts
    print(*(sorted(map(int, outcome.result)) for outcome in run(processes, signal.pthread_sigmask, arguments)))
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=HANG, check=True)
    masks = [eval(mask) for mask in re.findall(r"\[.*?\]", ran.stdout)]
    assert len(masks) == 2
    assert all({signal.SIGINT, signal.SIGHUP} <= set(mask) for mask in masks), ran.stdout


@pytest.mark.processes
def test_n_jobs_is_a_limit():
    with LocalWorkers(2, timeout=HANG) as processes:
        outcomes = list(run(processes, os.getpid, {i: {} for i in range(12)}))
    assert sorted(o.key for o in outcomes) == list(range(12))
    assert len({o.result for o in outcomes}) <= 2 and os.getpid() not in {o.result for o in outcomes}


@pytest.mark.processes
def test_an_early_end_leaves_no_process():
    with LocalWorkers(2, timeout=600) as processes:
        outcomes = run(processes, time.sleep, {0: {}, 1: {}})  # a TypeError, at once
        assert next(outcomes).reason.startswith("TypeError")
        outcomes.close()
    wait_for(lambda: not local_processes())


# Interruptions and the journal


def interrupted(catalog: MemoryCatalog, folder: Path, after: int, **options: Any) -> Path:
    """A sweep that is interrupted when that many pairs are in the catalogue; the path of its journal."""
    improve, codes = catalog.improve, []

    def stop(code: SoftmaxCode) -> bool:
        codes.append(code)
        if len(codes) > 2 * after:
            raise KeyboardInterrupt
        return improve(code)

    catalog.improve = stop
    with pytest.raises(KeyboardInterrupt):
        sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), n_jobs=1, **options)
    catalog.improve = improve
    ran(folder)
    if "journal" in options:
        return options["journal"]
    [path] = catalog.path.parent.glob(f"{catalog.path.name}.sweep-*")
    return path


def test_an_interrupted_sweep_goes_on(threads, catalog, folder):
    journal = interrupted(catalog, folder, 3)
    assert is_journal(journal)
    report = sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), n_jobs=2)
    assert report.skipped == tuple(PAIRS[:3]) and report.done == tuple(PAIRS[3:])
    assert ran(folder) == once(PAIRS[3:])
    assert not journal.exists()


def test_other_options_do_everything_again(threads, catalog, folder):
    journal = interrupted(catalog, folder, 3)
    report = sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), n_jobs=2, seed=1)
    assert report.skipped == () and len(report.done) == 5 and journal.exists()


def test_a_catalogue_that_was_removed_makes_the_journal_void(threads, catalog, folder):
    interrupted(catalog, folder, 3)
    empty = MemoryCatalog(catalog.path)
    report = sweep(PAIRS, catalog=empty, task=functools.partial(fake, folder=folder), n_jobs=2)
    assert report.skipped == () and len(report.done) == 5


@pytest.mark.parametrize("damage", ["cut", "digit", "header"])
def test_a_damaged_journal_costs_only_what_is_damaged(threads, catalog, folder, damage):
    journal = interrupted(catalog, folder, 3)
    lines = journal.read_text().splitlines(keepends=True)
    assert len(lines) == 4
    if damage == "cut":
        journal.write_text("".join(lines)[:-5])
        left = 2
    elif damage == "digit":
        lines[2] = lines[2].replace("8", "9", 1)
        journal.write_text("".join(lines))
        left = 2
    else:
        journal.write_bytes(b"\x00\xff" + "".join(lines[1:]).encode())
        left = 0
    report = sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), n_jobs=2)
    assert len(report.skipped) == left and len(report.done) == 5 - left
    assert set(report.skipped) <= set(PAIRS[:3])
    assert not journal.exists()


def test_a_file_that_no_journal_wrote_is_left_alone_where_the_journal_would_be(threads, catalog, folder):
    journal = interrupted(catalog, folder, 3)
    journal.write_bytes(bytes(range(256)))
    with pytest.raises(ValueError, match=r"cannot write the journal .*: the file is something else"):
        sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), n_jobs=1)
    assert journal.read_bytes() == bytes(range(256))


def test_a_named_journal_is_used_and_another_file_is_left_alone(threads, catalog, folder, tmp_path):
    journal = interrupted(catalog, folder, 2, journal=tmp_path / "my.journal")
    report = sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), n_jobs=2, journal=str(journal))
    assert report.skipped == tuple(PAIRS[:2]) and not journal.exists()
    notes = tmp_path / "notes.txt"
    notes.write_text("mine\n")
    with pytest.raises(ValueError, match=r"the file is something else"):
        sweep(PAIRS, catalog=catalog, journal=notes)
    assert notes.read_text() == "mine\n"
    for path in (tmp_path, tmp_path / "no" / "journal"):
        with pytest.raises(ValueError, match="cannot write the journal"):
            sweep(PAIRS, catalog=catalog, journal=path)


def test_a_catalogue_that_cannot_be_written_stops_the_sweep_and_keeps_the_rest(threads, catalog, folder):
    improve = catalog.improve

    def full(code: SoftmaxCode) -> bool:
        if code.K == 9:
            raise ValueError("the disk is full")
        return improve(code)

    catalog.improve = full
    with pytest.raises(ValueError, match="the disk is full"):
        sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), n_jobs=1)
    ran(folder)
    catalog.improve = improve
    report = sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), n_jobs=1)
    assert report.skipped == ((7, 3), (8, 3)) and report.done == tuple(PAIRS[2:])


SCRIPT = """
import os, signal, sys, time
from pathlib import Path
import numpy as np
from softmaxcode.checks.arguments import OBJECTIVES
from softmaxcode.sweep import sweep

class Codes:
    def __init__(self, path):
        self.path = Path(path)
        self.folder = self.path.with_suffix("")
        self.folder.mkdir(exist_ok=True)
    def code(self, K, d, objective):
        from softmaxcode.code import load
        file = self.folder / f"{K}.{d}.{objective}.npz"
        return load(file) if file.exists() else None
    def improve(self, code):
        code.save(self.folder / f"{code.K}.{code.d}.{code.objective}.npz")
        return True

def noted(lines):
    path = Path(sys_argv[1])
    journals = list(path.parent.glob(path.name + ".sweep-*"))  # without the file that is about to replace it
    return bool(journals) and len(journals[0].read_text().splitlines()) >= lines

def task(K, d, **_):
    while K == 9 and mode in ("interrupt", "killed when stored") and not noted(3):
        time.sleep(0.05)
    if K == 9 and mode != "go on":
        if mode == "interrupt":
            Path(sys_argv[1]).with_suffix(".hangs").touch()
        else:
            os.kill(client, signal.SIGKILL)
        signal.pause()
    W = np.random.default_rng(K).standard_normal((K, d))
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    return {name: {"W": W, "provenance": {"method": "made up"}} for name in OBJECTIVES}

sys_argv, mode, client = sys.argv, sys.argv[2], os.getpid()
try:
    report = sweep([(7, 3), (8, 3), (9, 3)], catalog=Codes(sys.argv[1]), task=task, n_jobs=1)
except KeyboardInterrupt:
    print("interrupted")
    sys.exit(130)
print(report.skipped, report.done)
"""


def script(path: Path, mode: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), str(path), mode],
        start_new_session=True,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def has_ended(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def goes_on(path: Path, stored: list[tuple[int, int]]) -> None:
    """The same command skips stored pairs and does the rest."""
    out, err = script(path, "go on").communicate(timeout=HANG)
    rest = [pair for pair in [(7, 3), (8, 3), (9, 3)] if pair not in stored]
    assert (out.strip(), err) == (f"{tuple(stored)} {tuple(rest)}", "")
    assert not list(path.parent.glob(f"{path.name}.sweep-*"))


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no process groups")
def test_ctrl_c_ends_everything_quickly_and_quietly_and_the_next_run_goes_on(tmp_path):
    path = tmp_path / "codes.sqlite"
    process = script(path, "interrupt")
    wait_for(path.with_suffix(".hangs").exists, process)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does: to the workers too
    out, err = process.communicate(timeout=HANG)
    assert (process.returncode, out.strip(), err) == (130, "interrupted", "")
    wait_for(lambda: has_ended(process.pid))
    goes_on(path, [(7, 3), (8, 3)])


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
@pytest.mark.parametrize("when", ["when stored", "at once"])
def test_a_killed_sweep_goes_on(tmp_path, when):
    """Killed by the worker that starts the last pair, when the others are stored or before they may be."""
    path = tmp_path / "codes.sqlite"
    process = script(path, f"killed {when}")
    process.communicate(timeout=HANG)  # until the workers have ended too, which have its pipes
    assert process.returncode == -signal.SIGKILL
    files = path.parent.glob(f"{path.name}.sweep-*")
    stored = [pair for file in files for pair in Journal(file, json.loads(file.read_text().split("\t")[0])).entries]
    assert stored == [(7, 3), (8, 3)][: len(stored)] and (when == "at once" or len(stored) == 2)
    goes_on(path, stored)


pairs_of_any_size = st.lists(st.tuples(st.integers(2, 99), st.integers(1, 99)), unique=True, min_size=1, max_size=6)


@given(pairs_of_any_size, st.data())
def test_a_journal_cut_anywhere_holds_the_whole_lines(tmp_path_factory, pairs, data):
    path = tmp_path_factory.mktemp("journal") / "j"
    journal = Journal(path, {"seed": 1})
    for K, d in pairs:
        journal.add({"K": K, "d": d, "note": K * d})
    content = path.read_bytes()
    length = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:length])
    ends = [i for i, byte in enumerate(content) if byte == 10]
    whole = sum(end <= length for end in ends[1:])
    if 0 < length < ends[0]:  # nothing of it is known for a journal's
        with pytest.raises(ValueError, match="the file is something else"):
            Journal(path, {"seed": 1})
        return
    stored = Journal(path, {"seed": 1}).entries
    assert list(stored) == pairs[:whole]
    assert all(entry == {"K": K, "d": d, "note": K * d} for (K, d), entry in stored.items())


@given(st.dictionaries(st.text(max_size=4), st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False)))
def test_plain_options_are_what_json_gives_back(options):
    given_ = json_options(options)
    assert json.loads(json.dumps(given_)) == given_ == {k: v for k, v in options.items() if v is not None}
    assert list(given_) == sorted(given_)


# Bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"starts": 0}, "starts must be an integer of at least 1"),
        ({"budget": -1}, "budget must be a positive number"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
        ({"tries": 0}, "tries must be an integer of at least 1"),
        ({"timeout": 0}, "timeout must be a positive number"),
        ({"timeout": float("nan")}, "timeout must be a positive number"),
        ({"n_jobs": 0}, "n_jobs must be a number of threads or processes"),
        ({"n_jobs": 1.5}, "n_jobs must be a number of threads or processes"),
    ],
)
def test_bad_options_are_refused_before_anything_runs(catalog, folder, options, message):
    with pytest.raises(ValueError, match=message):
        sweep(PAIRS, catalog=catalog, task=functools.partial(fake, folder=folder), **options)
    assert ran(folder) == {} and not list(folder.parent.glob("*.sweep-*"))


@pytest.mark.parametrize("pairs", [[(12,)], [(12, 3, 4)], [12], 12, [(1, 3)], [(7, "3")], [(7.0, 3)]])
def test_what_is_no_pair_is_refused(catalog, pairs):
    with pytest.raises(ValueError, match=r"pair|must be an integer"):
        sweep(pairs, catalog=catalog)
    with pytest.raises(ValueError, match=r"pair|must be an integer"):
        check_pairs(pairs)


@pytest.mark.parametrize("address", ["nonsense", "127.0.0.1", "host:port", ""])
def test_a_scheduler_address_that_is_none_is_refused_at_once(catalog, address):
    pytest.importorskip("distributed")
    with pytest.raises(ValueError, match="scheduler must be an address such as tcp://"):
        sweep([(7, 3)], catalog=catalog, scheduler=address)


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nonsense://x", "tcp://no-such-host.invalid:8786"])
def test_a_scheduler_that_does_not_answer_is_one_sentence(catalog, monkeypatch, address):
    pytest.importorskip("distributed")
    monkeypatch.setattr(workers_module, "SCHEDULER_TIMEOUT", 1.0)
    with pytest.raises(ValueError, match=re.escape(f"no Dask scheduler answers at {address}")) as raised:
        sweep(PAIRS, catalog=catalog, scheduler=address)
    assert "\n" not in str(raised.value)


@pytest.mark.processes
def test_a_scheduler_without_workers_is_one_sentence(catalog, monkeypatch):
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(workers_module, "SCHEDULER_TIMEOUT", HANG)
    monkeypatch.setattr(workers_module, "WORKER_TIMEOUT", 0.5)
    with (
        distributed.LocalCluster(n_workers=0, dashboard_address=":0") as empty,
        pytest.raises(ValueError, match="has no worker"),
    ):
        sweep(PAIRS, catalog=catalog, scheduler=empty.scheduler_address)


def test_dask_that_is_not_installed_is_one_sentence(catalog, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ValueError, match=re.escape("pip install 'softmaxcode[dask]'")):
        sweep(PAIRS, catalog=catalog, scheduler="tcp://127.0.0.1:8786")


def test_the_number_of_tasks_at_once():
    assert workers(3, None, 1.0).slots == 3
    assert workers(-1, None, 1.0).slots == loky.cpu_count()
    assert workers(-1000, None, 1.0).slots == 1


# The report


def test_the_report_reads_well():
    report = SweepReport(
        done=((12, 3), (13, 3)),
        improved=(Improvement(12, 3, "softmax", None, 0.5), Improvement(13, 3, "tammes", 0.25, 0.375)),
        failed={(14, 3): "stuck: no result within 3 s"},
        skipped=((11, 3),),
        closed=((6, 3), (5, 2)),
        seconds=12.34,
    )
    assert str(report).splitlines() == [
        "2 done, 2 improvements, 1 failed, 1 done before, 2 closed forms in 12.3 s",
        "improved (12, 3) softmax: new -> 0.5",
        "improved (13, 3) tammes: 0.25 -> 0.375",
        "failed (14, 3): stuck: no result within 3 s",
    ]
    assert str(SweepReport((), (), {}, (), (), 0.0)) == "0 done, 0 improvements in 0.0 s"
    assert Outcome(1, 2) == Outcome(1, 2, None)


def slow(K, d, *, seed, **_):
    time.sleep(0.15)  # a bar is drawn ten times a second at most
    return answer(K, d, seed)


@pytest.mark.processes
def test_progress_is_shown_where_it_is_asked_for(threads, catalog, capsys):
    sweep(PAIRS, catalog=catalog, task=slow, n_jobs=1, progress=True)
    shown = capsys.readouterr().err
    # pairs done, improvements, and time passed and left
    assert re.search(r"sweep: .*[1-5]/5 \[\d\d:\d\d<\d\d:\d\d.*improved=\d", shown)
    sweep(PAIRS, catalog=catalog, task=slow, n_jobs=2, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.processes
def test_a_better_code_for_one_class_more_is_passed_down(tmp_path):
    """The 600-cell without a vertex: no search with these few starts finds as good a code of 119 points."""
    with Catalog(tmp_path / "catalog.sqlite") as catalog:
        report = sweep([(119, 4), (120, 4)], catalog=catalog, starts=1, n_jobs=1, progress=False)
        whole, less = (catalog.entry(K, 4, "tammes") for K in (120, 119))
        assert whole.construction == "600-cell" and whole.status == "optimal"
        assert less.lower_bound >= whole.lower_bound - 1e-14
        assert {(item.K, item.d) for item in report.improved} == {(119, 4), (120, 4)}
