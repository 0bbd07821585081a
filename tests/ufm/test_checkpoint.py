"""Checkpoints: an interrupted or killed run resumes bit for bit, in one process and in two."""

from __future__ import annotations

import json
import math
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

import ufm
from softmaxcode.cli.arguments import install_sigterm_handler
from tests.processes import run_ranks
from tests.ufm.test_simulation import equal
from ufm import checkpoint, optimizers, running
from ufm.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
RUN = {"K": 7, "d": 3, "n": 2, "temperature": 0.05, "seed": 5, "progress": False}

OPTIONS = [
    {"optimizer": "lbfgs"},
    {"optimizer": "lbfgs", "anneal": 0.5},
    {"optimizer": "adam"},
    {"optimizer": "adam", "anneal": 0.5, "dtype": "float32"},
    {"optimizer": "sgd"},
    {"optimizer": "sgd", "anneal": 0.5, "n": [1, 2, 3, 1, 1, 4, 2]},
    {"objective": "hardmax"},
    {"weight_decay": 1e-3, "optimizer": "adam"},
    {"weight_decay": 1e-3, "optimizer": "lbfgs"},
]


def interrupt(monkeypatch: pytest.MonkeyPatch, at: int, error: type[BaseException] = KeyboardInterrupt) -> None:
    """Raise before step ``at`` of any optimiser, however fast the machine is."""
    monkeypatch.setattr(running, "LONG_STEP", math.inf)
    for kind in (optimizers.FirstOrder, optimizers.Lbfgs):

        def step(self: Any, number: int, kind: Any = kind, whole: Any = kind.step) -> torch.Tensor:
            if number == at:
                raise error
            return whole(self, number)

        monkeypatch.setattr(kind, "step", step)


# Interrupted and resumed


@pytest.mark.parametrize("at", [1, 13, 30])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_interrupted_run_goes_on_to_the_bit(options, at, tmp_path, monkeypatch):
    options = RUN | {"steps": 40, "record_every": 6} | options
    whole = ufm.simulate(**options)
    file = tmp_path / "run.pt"
    with monkeypatch.context() as patched:
        interrupt(patched, at)
        with pytest.raises(KeyboardInterrupt):
            ufm.simulate(**options, checkpoint=file)
    assert checkpoint.load(file).step == at
    assert equal(ufm.simulate(**options, checkpoint=file), whole)
    assert [path.name for path in tmp_path.iterdir()] == ["run.pt"]


@pytest.mark.parametrize("options", [{"optimizer": "lbfgs", "anneal": 0.5}, {"optimizer": "adam"}], ids=str)
def test_a_batch_goes_on_to_the_bit(options, tmp_path, monkeypatch):
    given = 6, 3, 1, [0.2, 0.05], [0, 4]
    options = {"steps": 60, "record_every": 6, "tolerance": 0.3, "progress": False} | options
    whole = ufm.simulate_batch(*given, **options)
    assert len({run.status for run in whole}) > 1  # some have ended by their gap, and are kept
    for at in (9, 26):
        with monkeypatch.context() as patched:
            interrupt(patched, at)
            with pytest.raises(KeyboardInterrupt):
                ufm.simulate_batch(*given, **options, checkpoint=tmp_path / "runs.pt")
    found = ufm.simulate_batch(*given, **options, checkpoint=tmp_path / "runs.pt")
    assert all(equal(a, b) for a, b in zip(found, whole, strict=True))


def test_a_run_that_diverged_stays_so(tmp_path):
    options = RUN | {"optimizer": "adam", "learning_rate": 1e200, "steps": 9, "checkpoint": tmp_path / "run.pt"}
    first, again = ufm.simulate(**options), ufm.simulate(**options)
    assert first.status == "diverged" and equal(first, again)


def test_a_finished_run_is_read_and_takes_no_step(tmp_path, monkeypatch):
    options = RUN | {"steps": 20, "checkpoint": tmp_path / "run.pt"}
    whole = ufm.simulate(**options)
    monkeypatch.setattr(optimizers.Lbfgs, "step", lambda *_: pytest.fail("a step was taken"))
    again = ufm.simulate(**options)
    assert equal(again, whole) and again.history.seconds.equals(whole.history.seconds)


def test_a_checkpoint_every_so_many_steps_and_no_interruption_saved(tmp_path, monkeypatch):
    options = RUN | {"optimizer": "adam", "steps": 40, "checkpoint": tmp_path / "run.pt", "checkpoint_every": 7}
    whole = ufm.simulate(**options | {"checkpoint": tmp_path / "other.pt"})
    with monkeypatch.context() as patched:
        interrupt(patched, 33, MemoryError)  # as a kill would: nothing is written at once
        with pytest.raises(MemoryError):
            ufm.simulate(**options)
    assert checkpoint.load(tmp_path / "run.pt").step == 28
    # the interval of checkpoints is not part of the run
    assert equal(ufm.simulate(**options | {"checkpoint_every": None}), whole)


def test_a_checkpoint_every_minute(tmp_path, monkeypatch):
    monkeypatch.setattr(running, "CHECKPOINT_SECONDS", 0.0)
    interrupt(monkeypatch, 11, MemoryError)
    with pytest.raises(MemoryError):
        ufm.simulate(**RUN, checkpoint=tmp_path / "run.pt")
    assert checkpoint.load(tmp_path / "run.pt").step == 11


@pytest.fixture
def terminated() -> Iterator[None]:
    """SIGTERM and SIGHUP end this process like a command."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    install_sigterm_handler()
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.skipif(os.name != "posix", reason="no signals to send")
@pytest.mark.parametrize(("longest", "ended"), [(math.inf, 1), (-1.0, 0)], ids=["short steps", "long steps"])
@pytest.mark.parametrize("sent", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupt_waits_for_the_end_of_a_short_step(
    tmp_path, monkeypatch, hangup_heard, terminated, sent, longest, ended
):
    """A long step is interrupted: the checkpoint before it is kept, and the step is repeated."""
    sent = getattr(signal, sent)
    options = RUN | {"optimizer": "adam", "steps": 30}
    whole, file, handler = ufm.simulate(**options), tmp_path / "run.pt", signal.getsignal(sent)
    with monkeypatch.context() as patched:
        patched.setattr(running, "LONG_STEP", longest)
        inner = optimizers.FirstOrder.step
        seen = []

        def step(self, number):
            value = inner(self, number)
            if number == 8:
                signal.raise_signal(sent)
                seen.append(number)
            return value

        patched.setattr(optimizers.FirstOrder, "step", step)
        with pytest.raises(KeyboardInterrupt):
            ufm.simulate(**options, checkpoint=file)
    assert (len(seen), checkpoint.load(file).step) == (ended, 8 + ended)
    assert signal.getsignal(sent) is handler
    assert equal(ufm.simulate(**options, checkpoint=file), whole)


@pytest.mark.processes
def test_a_run_in_another_thread():
    found: list[ufm.Run] = []
    options = RUN | {"steps": 5}
    thread = threading.Thread(target=lambda: found.append(ufm.simulate(**options)))
    thread.start()
    thread.join()
    assert equal(found[0], ufm.simulate(**options))


@pytest.mark.processes
@pytest.mark.skipif(os.name != "posix", reason="no SIGKILL to send")
def test_kill_9_loses_at_most_one_interval(tmp_path):
    file = tmp_path / "run.pt"
    options = RUN | {"optimizer": "adam", "steps": 400, "checkpoint_every": 20}
    code = f"""
        import signal, ufm
        from ufm import optimizers
        inner = optimizers.FirstOrder.step
        def step(self, number):
            if number == 150:
                print("here", flush=True)
                signal.pause()
            return inner(self, number)
        optimizers.FirstOrder.step = step
        ufm.simulate(**{options!r}, checkpoint={str(file)!r})
    """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(code)], cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"here\n"
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert 130 <= checkpoint.load(file).step <= 150
    assert equal(ufm.simulate(**options, checkpoint=file), ufm.simulate(**options | {"checkpoint_every": None}))


# Valid and invalid files


class Trap:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A checkpoint of RUN after 5 of 5 steps."""
    ufm.simulate(**RUN, steps=5, checkpoint=tmp_path / "run.pt")
    return tmp_path / "run.pt"


def refused(file: Path, message: str, **options: Any) -> None:
    before = file.read_bytes()
    with pytest.raises(ValueError, match=message) as error:
        ufm.simulate(**RUN | {"steps": 5} | options, checkpoint=file)
    assert "\n" not in str(error.value)
    assert file.read_bytes() == before and len(list(file.parent.iterdir())) == 1


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("K", "7", 8),
        ("n", "2", 3),
        ("n", "2", [1, 2, 3, 4, 5, 6, 7]),
        ("temperature", "0.05", 0.06),
        ("anneal", "None", 0.5),
        ("optimizer", "'lbfgs'", "adam"),
        ("steps", "5", 6),
        ("seed", "5", 6),
        ("dtype", "'float64'", "float32"),
    ],
)
def test_a_checkpoint_of_another_run(file, name, old, new):
    refused(file, f"run.pt is a checkpoint of another run, with {name} = {old} and not ", **{name: new})


def test_a_checkpoint_of_more_runs(file):
    with pytest.raises(ValueError, match=r"run.pt is a checkpoint of 1 runs, not of these 2"):
        ufm.simulate_batch(7, 3, 2, [0.05], [5, 6], steps=5, checkpoint=file)


def same_tensors(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    return a is b is None or (a is not None and b is not None and np.array_equal(a, b, equal_nan=True))


def same_records(a: list[checkpoint.RunRecord], b: list[checkpoint.RunRecord]) -> bool:
    texts = (json.dumps([(r.rows, r.status, r.reason) for r in records]) for records in (a, b))
    return next(texts) == next(texts) and all(
        same_tensors(x.W, y.W) and same_tensors(x.H, y.H) for x, y in zip(a, b, strict=True)
    )


DAMAGED = "run.pt is not a checkpoint of ufm, or it is damaged"


@pytest.mark.parametrize("fraction", [0.0, 0.3, 0.9, 0.999])
def test_truncated_files(file, fraction):
    whole = file.read_bytes()
    file.write_bytes(whole[: int(fraction * len(whole))])
    refused(file, DAMAGED)


def test_a_changed_byte_is_noticed_or_is_no_part_of_the_run(file):
    whole, found = file.read_bytes(), checkpoint.load(file)
    noticed = 0
    for place in range(0, len(whole), 101):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        try:
            changed = checkpoint.load(file)
        except ValueError:
            noticed += 1
        else:
            assert torch.equal(changed.W, found.W) and torch.equal(changed.H, found.H)
            assert changed.runs == found.runs
            assert same_records(changed.records, found.records)
            assert changed.optimizer.keys() == found.optimizer.keys()
            assert all(same_tensors(changed.optimizer[name], stored) for name, stored in found.optimizer.items())
    assert noticed > len(whole) // 202


def test_foreign_files(file):
    for stored in ({"format": "other"}, {}, [1, 2]):
        torch.save(stored, file)
        refused(file, DAMAGED)
    for content in (b"", b"softmax", os.urandom(1000)):
        file.write_bytes(content)
        refused(file, DAMAGED)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a", "b")
    refused(file, DAMAGED)


@pytest.mark.parametrize("by", [torch.save, lambda stored, path: path.write_bytes(pickle.dumps(stored))])
def test_code_in_a_file_is_not_run(by, file, tmp_path_factory):
    touched = tmp_path_factory.mktemp("trap") / "touched"
    stored = torch.load(file, weights_only=True)
    by({**stored, "more": Trap(touched)}, file)
    refused(file, DAMAGED)
    assert not touched.exists()
    torch.load(file, weights_only=False) if zipfile.is_zipfile(file) else pickle.loads(file.read_bytes())
    assert touched.exists()  # the trap works


def test_a_checkpoint_reads_back_as_it_was_written(tmp_path):
    runs = [Settings(3, 2, [1, 2, 3], 0.1, optimizer="adam", seed=seed) for seed in (0, 1)]
    X = torch.nn.functional.normalize(torch.randn(2, 9, 2, dtype=torch.float64), dim=2).split([3, 6], dim=1)
    records = [checkpoint.RunRecord([{"step": 5, "gap": float("nan")}], "", "", *X), checkpoint.RunRecord()]
    records = [replace(records[0], W=X[0][0], H=X[1][0]), records[1]]
    state = {"W.exp_avg": X[0] * 2, "step": torch.tensor(7)}
    stored = checkpoint.Checkpoint(runs, 7, 0.25, *X, state, records)
    checkpoint.save(stored, tmp_path / "a.pt")
    found = checkpoint.matching(tmp_path / "a.pt", runs)
    assert (found.runs, found.step, found.seconds) == (runs, 7, 0.25)
    assert torch.equal(found.W, X[0]) and torch.equal(found.H, X[1])
    assert torch.equal(found.optimizer["W.exp_avg"], X[0] * 2) and found.optimizer["step"] == 7
    assert same_records(found.records, stored.records)
    with pytest.raises(ValueError, match="another run, with seed = 1 and not 5"):
        checkpoint.matching(tmp_path / "a.pt", [runs[0], replace(runs[1], seed=5)])


# Two processes

SHARED = {
    "K": 7,
    "d": 3,
    "temperature": 0.1,
    "n": [2, 1, 1, 3, 1, 2, 1],
    "dtype": "float64",
    "steps": 100,
    "record_every": 50,
}
CASES: dict[str, dict[str, Any]] = {
    "adam": SHARED | {"optimizer": "adam"},
    "sgd": SHARED | {"optimizer": "sgd", "anneal": 1.0, "learning_rate": 0.02},
    "free": SHARED | {"optimizer": "adam", "weight_decay": 1e-2, "temperature": 1.0, "n": 1},
}
#: The code of each process: the cases, a run that stops on the way and one that resumes, then every refused input.
WORKER = """
    import json, os, sys, torch, ufm
    from ufm import optimizers
    torch.set_num_threads(1)
    folder, cases = sys.argv[1], json.loads(sys.argv[2])
    rank, answers = os.environ["RANK"], {}

    def kept(run):
        history = run.history.drop(columns="seconds").to_numpy()
        return [torch.from_numpy(run.W), torch.from_numpy(run.H), torch.from_numpy(history)]

    def message(**options):
        try:
            ufm.simulate(**options)
        except (ValueError, MemoryError) as error:
            return str(error) or "MemoryError"

    for name, case in cases.items():
        answers[name] = kept(ufm.simulate(**case))
        file = f"{folder}/{name}.pt"
        inner = optimizers.FirstOrder.step

        def step(self, number):
            if number == 63:
                raise MemoryError
            return inner(self, number)

        optimizers.FirstOrder.step = step
        answers[f"{name} stopped"] = message(**case, checkpoint=file, checkpoint_every=30)
        optimizers.FirstOrder.step = inner
        if rank == "0":
            with open(file, "rb") as source, open(f"{folder}/{name} copied.pt", "wb") as target:
                target.write(source.read())
        answers[f"{name} resumed"] = kept(ufm.simulate(**case, checkpoint=file))
        answers[f"{name} from one"] = kept(ufm.simulate(**case, checkpoint=f"{folder}/{name} by one.pt"))
    adam = cases["adam"]
    answers["lbfgs"] = message(**{**adam, "optimizer": "lbfgs"})
    answers["another"] = message(**{**adam, "seed": 3}, checkpoint=f"{folder}/adam.pt")
    answers["damaged"] = message(**adam, checkpoint=f"{folder}/damaged.pt")
    torch.save(answers, f"{folder}/answers {rank}")
"""


def start(ranks: int, code: str, *arguments: str) -> list[int]:
    """Run the code on every rank; returns the exit codes."""
    return run_ranks([sys.executable, "-c", textwrap.dedent(code), *arguments], ranks, ROOT)


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[dict[str, Any]]]:
    """The results of two processes, and their folder."""
    folder = tmp_path_factory.mktemp("two")
    for name, case in CASES.items():
        with pytest.MonkeyPatch.context() as patched:
            interrupt(patched, 63)
            with pytest.raises(KeyboardInterrupt):
                ufm.simulate(**case, checkpoint=folder / f"{name} by one.pt")
    (folder / "damaged.pt").write_bytes((folder / "adam by one.pt").read_bytes()[:-100])
    assert start(2, WORKER, str(folder), json.dumps(CASES)) == [0, 0]
    return folder, [torch.load(folder / f"answers {rank}", weights_only=True) for rank in range(2)]


def kept(run: ufm.Run) -> list[np.ndarray]:
    return [run.W, run.H, run.history.drop(columns="seconds").to_numpy()]


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_take_the_steps_of_one(name, answers):
    folder, found = answers
    wanted = kept(ufm.simulate(**CASES[name]))
    resumed = kept(ufm.simulate(**CASES[name], checkpoint=folder / f"{name} copied.pt"))
    start = ufm.simulate(**CASES[name] | {"steps": 1})
    assert np.abs(wanted[0] - start.W).max() > 0.1  # the steps go somewhere
    for answer in found:
        for part, both, mine, one, theirs in zip(
            answer[name], answer[f"{name} resumed"], wanted, resumed, answer[f"{name} from one"], strict=True
        ):
            np.testing.assert_allclose(part.numpy(), mine, rtol=0, atol=1e-10)
            np.testing.assert_array_equal(part.numpy(), both.numpy())  # to the bit, on the same number of processes
            np.testing.assert_allclose(one, mine, rtol=0, atol=1e-10)  # from two processes to one
            np.testing.assert_allclose(theirs.numpy(), mine, rtol=0, atol=1e-10)  # and from one to two
        for part, first in zip(answer[name], found[0][name], strict=True):
            np.testing.assert_array_equal(part.numpy(), first.numpy())
        assert answer[f"{name} stopped"] == "MemoryError"


@pytest.mark.processes
@pytest.mark.slow
def test_what_several_processes_refuse(answers):
    for answer in answers[1]:
        assert "several processes share one run of a cross-entropy by optimizer adam or sgd" in answer["lbfgs"]
        assert "adam.pt is a checkpoint of another run, with seed = 0 and not 3" in answer["another"]
        assert "damaged.pt is not a checkpoint of ufm, or it is damaged" in answer["damaged"]


@pytest.mark.processes
@pytest.mark.slow
def test_more_ranks_than_classes(tmp_path):
    code = """
        import os, sys, ufm
        try:
            ufm.simulate(2, 2, 1, optimizer="adam", checkpoint=f"{sys.argv[1]}/run.pt")
        except ValueError as error:
            sys.exit(int("more ranks than classes: 3 processes cannot share K = 2 classes" not in str(error)))
        sys.exit(2)
    """
    assert start(3, code, str(tmp_path)) == [0, 0, 0]
    assert not list(tmp_path.iterdir())
