"""``python -m ufm``: its files and output, how it resumes after a kill, and one sentence for bad input."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import pytest

import ufm
from softmaxcode.storage.disk import one_writer
from softmaxcode.tables import read_table
from tests.processes import HANG
from ufm import batch, running
from ufm.cli import main
from ufm.commands import summary
from ufm.storage import has_parquet, read_run

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
SMALL = ("simulate", "--K", 8, "--d", 3, "--n", 2, "--temperature", 0.1)
FILES = ["H.npy", "W.npy", "figure.png", "history.parquet", "run.json"]


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys, tmp_path, monkeypatch) -> Callable[..., Ran]:
    """Run the command in this process, in an empty folder; a warning or any exception fails the test."""
    monkeypatch.chdir(tmp_path)

    def of(*arguments: Any) -> Ran:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            code = main([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return of


def refused(ran: Ran, *said: str) -> None:
    """Exit code 2, and one clear sentence on standard error."""
    assert ran.code == 2, ran
    assert ran.err.startswith("ufm: ") and ran.err.endswith("\n") and ran.err.count("\n") == 1, ran.err
    assert "Traceback" not in ran.err and ran.out == ""
    for text in said:
        assert text in ran.err


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# simulate


def test_simulate_writes_its_run(run, tmp_path):
    ran = run(*SMALL, "--steps", 80, "--record-every", 20, "--seed", 3, "-o", "a/b")
    assert (ran.code, ran.err) == (0, "")
    wanted = ufm.simulate(8, 3, 2, 0.1, steps=80, record_every=20, seed=3)
    assert names(tmp_path / "a" / "b") == FILES
    found = read_run(tmp_path / "a" / "b")
    np.testing.assert_array_equal(found.W, wanted.W)
    np.testing.assert_array_equal(found.H, wanted.H)
    pd.testing.assert_frame_equal(found.history.drop(columns="seconds"), wanted.history.drop(columns="seconds"))
    assert (found.settings, found.status, found.reason) == (wanted.settings, wanted.status, wanted.reason)
    header = json.loads((tmp_path / "a" / "b" / "run.json").read_text())
    assert header["settings"]["seed"] == 3 and {"softmaxcode", "torch", "python"} <= set(header["versions"])
    assert wanted.reason in ran.out and str(wanted.compare(align=False).verdict) in ran.out
    assert f"{wanted.margin:.10g}" in ran.out and "written to a/b" in ran.out


def test_the_default_folder_and_every_option(run, tmp_path):
    options = "--anneal 1 --objective cross-entropy --optimizer adam --learning-rate 0.1 --steps 20 --record-every 10"
    ran = run(*SMALL, *options.split(), "--tolerance", 0.001, "--dtype", "float32", "--device", "cpu", "--no-progress")
    assert ran.code == 0
    settings = read_run(tmp_path / "out" / "ufm" / "K8-d3-n2-tau0.1-seed0").settings
    assert settings == ufm.simulate(
        8, 3, 2, 0.1, anneal=1.0, objective="cross-entropy", optimizer="adam", learning_rate=0.1, steps=20,
        record_every=10, tolerance=0.001, dtype="float32",
    ).settings  # fmt: skip


def test_imbalanced_classes_and_a_comparison_with_alignment(run, tmp_path):
    ran = run("simulate", "--K", 4, "--d", 2, "--n", 1, 2, 3, 1, "--steps", 40, "--align", "--csv", "-o", "x")
    assert ran.code == 0 and "random" in ran.out
    assert "history.csv" in names(tmp_path / "x") and "history.parquet" not in names(tmp_path / "x")
    found = read_run(tmp_path / "x")
    assert found.settings.n == (1, 2, 3, 1) and found.H.shape == (7, 2)


def test_a_finished_run_is_shown_again_and_never_overwritten(run, tmp_path):
    first = run(*SMALL, "--steps", 30, "-o", "x")
    before = {name: (tmp_path / "x" / name).stat().st_mtime_ns for name in FILES}
    again = run(*SMALL, "--steps", 30, "-o", "x")
    assert again.code == 0 and "was finished before, and is in x" in again.out
    assert again.out.split("\n\n")[:2] == first.out.split("\n\n")[:2]
    refused(run(*SMALL, "--steps", 31, "-o", "x"), "x holds another run, with steps = 30 and not 31")
    assert before == {name: (tmp_path / "x" / name).stat().st_mtime_ns for name in FILES}


def test_a_folder_that_another_process_writes_is_refused_and_stays(run, tmp_path):
    """The file is empty until the other process has written its first checkpoint."""
    (tmp_path / "x").mkdir()
    with one_writer(tmp_path / "x"):
        refused(run(*SMALL, "--steps", 3, "-o", "x"), "cannot write x: another process is writing it")
    assert names(tmp_path / "x") == []
    assert run(*SMALL, "--steps", 3, "-o", "x").code == 0


def test_a_folder_with_files_that_no_run_wrote_is_refused(run, tmp_path):
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "W.npy").write_text("mine")
    refused(run(*SMALL, "--steps", 3, "-o", "x"), "x holds W.npy, which no run wrote; name another folder with -o")
    assert names(tmp_path / "x") == ["W.npy"] and (tmp_path / "x" / "W.npy").read_text() == "mine"


def test_a_checkpoint_of_another_run_is_refused(run, tmp_path):
    (tmp_path / "x").mkdir()
    ufm.simulate(8, 3, 2, 0.2, steps=10, checkpoint=tmp_path / "x" / "checkpoint.pt")
    refused(run(*SMALL, "--steps", 10, "-o", "x"), "a checkpoint of another run, with temperature = 0.2 and not 0.1")
    (tmp_path / "x" / "checkpoint.pt").write_bytes(b"no checkpoint")
    refused(run(*SMALL, "--steps", 10, "-o", "x"), "is not a checkpoint of ufm, or it is damaged")


def test_an_interrupted_run_goes_on(run, tmp_path, monkeypatch):
    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    wanted = ufm.simulate(8, 3, 2, 0.1, steps=40, optimizer="adam")
    command = (*SMALL, "--steps", 40, "--optimizer", "adam", "--checkpoint-every", 10, "-o", "x")
    with monkeypatch.context() as patched:
        # the first thing to happen after the checkpoint at step 10 is a bar's step
        steps = iter([None] * 14)
        patched.setattr(running.Progress, "step", lambda *_, **__: next(steps, 0) is None or interrupt())
        ran = run(*command)
    assert ran.code == 130 and "interrupted; what was done is kept, and the same command resumes" in ran.err
    assert names(tmp_path / "x") == ["checkpoint.pt"]
    assert run(*command).code == 0
    assert names(tmp_path / "x") == FILES
    np.testing.assert_array_equal(np.load(tmp_path / "x" / "W.npy"), wanted.W)


def test_a_diverged_run_says_so_and_keeps_what_it_had(run, tmp_path):
    command = "simulate --K 6 --d 3 --n 1 --weight-decay .1 --optimizer sgd --learning-rate 1e200 --steps 20 -o x"
    ran = run(*command.split())
    assert ran.code == 1 and ran.err.startswith("ufm: diverged at step ") and ran.err.count("\n") == 1
    assert names(tmp_path / "x") == FILES and np.isfinite(np.load(tmp_path / "x" / "W.npy")).all()
    assert run(*command.split()).code == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--K 1 --d 3", "K"),
        ("--K 4 --d 1", "d (the dimension) must be at least 2"),
        ("--K 4 --d 3 --n 0", "n (features per class)"),
        ("--K 4 --d 3 --n 1 2", "one for each of the K = 4 classes; got 2 numbers"),
        ("--K 4 --d 3 --temperature 0", "temperature"),
        ("--K 4 --d 3 --temperature -1", "temperature"),
        ("--K 4 --d 3 --temperature nan", "temperature"),
        ("--K 4 --d 3 --anneal 0.01", "anneal"),
        ("--K 4 --d 3 --optimizer newton", "optimizer must be one of 'auto', 'lbfgs', 'adam', 'sgd'; got 'newton'"),
        ("--K 4 --d 3 --objective mse", "objective must be one of"),
        ("--K 4 --d 3 --dtype float16", "dtype must be one of"),
        ("--K 4 --d 3 --learning-rate 0.1", "lbfgs finds its own steps"),
        ("--K 4 --d 3 --weight-decay 0", "weight_decay must be a finite number above 0"),
        ("--K 4 --d 3 --steps 0", "steps"),
        ("--K 4 --d 3 --record-every 0", "record_every"),
        ("--K 4 --d 3 --tolerance 1", "tolerance"),
        ("--K 4 --d 3 --seed -1", "seed"),
        ("--K 4 --d 3 --device cuda:99", "cuda:99"),
        ("--K 4 --d 3 --device abacus", "abacus"),
        ("--K 4 --d 3 --checkpoint-every 0", "checkpoint_every"),
        ("--K 4.5 --d 3", "-K/--K must be an integer; got '4.5' (see python -m ufm simulate --help)"),
        ("--d 3", "-K/--K is required (see python -m ufm simulate --help)"),
    ],
)
def test_bad_input_is_refused(run, arguments, said):
    refused(run("simulate", *arguments.split(), "-o", "x"), said)


def test_a_command_is_needed(run):
    refused(run(), "name what to do: simulate, sweep or plot (see python -m ufm --help)")
    refused(run("train"), "there is no command 'train'; the commands are simulate, sweep or plot")


def test_a_folder_that_is_a_file(run, tmp_path):
    (tmp_path / "x").write_text("a file")
    refused(run(*SMALL, "-o", "x"), "x")


def test_without_pyarrow_tables_are_csv(run, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyarrow", None)
        assert not has_parquet()
    monkeypatch.setattr("ufm.commands.has_parquet", lambda: False)  # pandas needs pyarrow where it has found it
    refused(run("sweep", "--K", 4, "--d", 2, "-o", "t.parquet"), "writing parquet needs pyarrow", "a .csv with -o")
    assert names(tmp_path) == []
    assert run(*SMALL, "--steps", 10, "-o", "x").code == 0 and "history.csv" in names(tmp_path / "x")
    assert run("sweep", "--K", 4, "--d", 2, "--seeds", 1, "--temperature", 0.5, "--steps", 10).code == 0
    assert sorted(path.suffix for path in (tmp_path / "out" / "ufm").iterdir()) == [".csv", ".png"]


# sweep


SWEEP = ("sweep", "--K", 4, 6, "--d", 2, "--temperature", 0.5, 0.1, "--seeds", 2, "--n", 1, "--steps", 40)


def test_sweep_writes_and_prints_its_table(run, tmp_path):
    ran = run(*SWEEP, "-o", "t.csv")
    assert (ran.code, ran.err) == (0, "")
    wanted = ufm.sweep([4, 6], 2, [0.5, 0.1], 2, n=1, steps=40)
    pd.testing.assert_frame_equal(
        read_table(tmp_path / "t.csv").drop(columns="seconds"), wanted.drop(columns="seconds")
    )
    assert names(tmp_path) == ["t.csv", "t.png"]
    assert summary(wanted).to_string(index=False, float_format="{:.6g}".format) in ran.out
    assert "written to t.csv and t.png" in ran.out


def test_default_names_of_sweeps_tell_all_that_was_given(run, tmp_path):
    assert run(*SWEEP).code == 0
    assert run(*SWEEP, "--objective", "cross-entropy").code == 0
    name = "sweep-K4-6-d2-temperature0.5-0.1-seeds2-n1"
    assert names(tmp_path / "out" / "ufm") == sorted(
        name + options + suffix
        for options in ("-steps40", "-objectivecross-entropy-steps40")
        for suffix in (".parquet", ".png")
    )


def test_the_summary_is_over_the_seeds():
    table = pd.DataFrame(
        {
            "K": 9,
            "d": 3,
            "temperature": [0.1, 0.1, 0.1, 0.5],
            "GNC2": [0.4, 0.6, 0.5, 0.1],
            "ratio": [0.5, 0.75, 0.625, 0.125],
            "GNC1": [1e-9, 1e-8, 0.0, 1.0],
            "GNC3": [0.3, 0.2, 0.1, 0.0],
            "certified_margin": [0.1, 0.2, 0.3, np.nan],
            "minimizer_bound": [0.45, 0.45, 0.45, np.nan],
            "meets_bound": [False, True, True, None],
            "violations": [1, 0, 2, 0],
        }
    )
    first, second = summary(table).to_dict("records")
    assert first == {
        "K": 9,
        "d": 3,
        "temperature": 0.1,
        "GNC2": 0.6,
        "of best known": 0.75,
        "GNC1": 1e-8,
        "GNC3": 0.3,
        "certified": 0.3,
        "bound": 0.45,
        "meet it": "2 of 3",
        "violations": 3,
    }
    assert second["meet it"] == "" and np.isnan(second["bound"])


def test_a_sweep_with_a_diverged_run_says_which(run, tmp_path):
    command = "sweep --K 6 --d 3 --n 1 --temperature 1 --seeds 2 --weight-decay .1 --optimizer sgd --steps 20 -o t.csv"
    ran = run(*command.split(), "--learning-rate", "1e200")
    assert ran.code == 1
    assert "ufm: K = 6, d = 3, temperature 1, seed 1 diverged; its row is that of step" in ran.err
    assert (read_table(tmp_path / "t.csv")["status"] == "diverged").all()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--K 4 1 --d 2", "K"),
        ("--K 4 --d 2 --temperature 1 0", "temperature"),
        ("--K 4 --d 2 --seeds 0", "seeds"),
        ("--K 4 --d 2 --n 0", "n (features per class)"),
        ("--K 4 --d 2 --optimizer newton", "optimizer must be one of"),
        ("--K 4 --d 2 --device cuda:99 --steps 5", "cuda:99"),
        ("--K 4 --d 2 -o t.xlsx", "suffix must be one of"),
        ("--K 4 --d 2 -o no/t.csv", "the folder no does not exist"),
    ],
)
def test_bad_sweeps_are_refused(run, arguments, said):
    refused(run("sweep", *arguments.split()), said)


# plot


def test_plot_draws_runs_and_sweeps_again(run, tmp_path):
    run(*SMALL, "--steps", 20, "-o", "x")
    run(*SWEEP, "-o", "t.parquet")
    for source, figure in (("x", "a.png"), ("x/history.parquet", "b.svg"), ("t.parquet", "c.pdf")):
        ran = run("plot", source, "-o", figure)
        assert (ran.code, ran.out) == (0, f"written to {figure}\n") and (tmp_path / figure).stat().st_size > 1000


def test_what_cannot_be_drawn_is_refused(run, tmp_path, monkeypatch):
    refused(run("plot", "nowhere.csv", "-o", "a.png"), "there is no such file")
    refused(run("plot", ".", "-o", "a.png"), "no finished run is there")
    (tmp_path / "t.csv").write_text("a,b\n1,2\n")
    refused(run("plot", "t.csv", "-o", "a.png"), "it lacks K, d, temperature")
    (tmp_path / "t.txt").write_text("a")
    refused(run("plot", "t.txt", "-o", "a.png"), "the suffix must be .parquet or .csv")
    (tmp_path / "t.parquet").write_bytes(b"PAR1 damaged")
    refused(run("plot", "t.parquet", "-o", "a.png"), "not a table of its kind, or damaged")
    run(*SMALL, "--steps", 20, "-o", "x")
    refused(run("plot", "x", "-o", "a.gif"), "suffix must be one of")
    (tmp_path / "x" / "W.npy").write_bytes(b"damaged")
    refused(run("plot", "x", "-o", "a.png"), "cannot read x/W.npy: not a plain NumPy array, or truncated")
    (tmp_path / "x" / "run.json").write_text("{}")
    refused(run("plot", "x", "-o", "a.png"), "not the header of a run")
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    refused(run("plot", "t.parquet", "-o", "a.png"), "parquet needs pyarrow")


# Processes


def start(*arguments: Any, **more: Any) -> subprocess.Popen[str]:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([sys.executable, *map(str, arguments)], text=True, env=environment, **pipes, **more)


#: The command, which blocks at step 730 until it is ended.
WAITS = """
import signal, sys
from ufm import cli, optimizers
inner = optimizers.FirstOrder.step
def step(self, number):
    if number == 730:
        print("here", flush=True)
        signal.pause()
    return inner(self, number)
optimizers.FirstOrder.step = step
cli.main(sys.argv[1:])
"""


@pytest.mark.processes
@pytest.mark.slow
def test_the_same_command_goes_on_after_a_kill(run, tmp_path):
    """Killed with -9 in the middle; the final rows are those of an uninterrupted run, bit for bit."""
    command = ("simulate", "-K", 12, "-d", 3, "-n", 3, "--optimizer", "adam", "--steps", 1500, "--record-every", 500)
    process = start("-c", WAITS, *command, "--checkpoint-every", 50, "-o", "x", cwd=tmp_path)
    assert process.stdout is not None and process.stdout.readline() == "here\n"
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "x" / "run.json").exists()
    resumed = []
    with pytest.MonkeyPatch.context() as watched:
        resume = batch.Batch.resume
        watched.setattr(batch.Batch, "resume", lambda batch, found: resumed.append(found.step) or resume(batch, found))
        assert run(*command, "--checkpoint-every", 50, "-o", "x").code == 0
    assert resumed == [700]
    assert run(*command, "-o", "y").code == 0
    for name in ("W.npy", "H.npy"):
        np.testing.assert_array_equal(np.load(tmp_path / "x" / name), np.load(tmp_path / "y" / name))


@pytest.mark.parametrize("rank", ["0", "1"])
def test_a_sweep_runs_in_one_process(run, monkeypatch, rank):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", rank)
    ran = run(*SWEEP)
    sentence = "ufm: a sweep runs in one process; torchrun is for simulate (got 2 processes)\n"
    assert ran.code == 2 and ran.err == sentence  # each says so: the launcher ends the others


@pytest.mark.processes
@pytest.mark.slow
def test_two_processes_share_a_run(run, tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 2, "-m", "ufm")
    command = ("simulate", "-K", 11, "-d", 3, "-n", 2, "--optimizer", "adam", "--steps", 60, "--checkpoint-every", 20)
    process = start(*torchrun, *command, "-o", "x", cwd=tmp_path)
    try:
        out, err = process.communicate(timeout=HANG)
    finally:
        process.terminate()
    assert process.returncode == 0, err
    assert out.count("written to x") == 1 and names(tmp_path / "x") == FILES
    assert run(*command, "-o", "y").code == 0
    np.testing.assert_allclose(np.load(tmp_path / "x" / "W.npy"), np.load(tmp_path / "y" / "W.npy"), atol=1e-10)


@pytest.mark.processes
@pytest.mark.slow
def test_more_processes_than_classes(tmp_path):
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", 3, "-m", "ufm")
    process = start(*torchrun, "simulate", "-K", 2, "-d", 2, "--optimizer", "adam", "-o", "x", cwd=tmp_path)
    try:
        out, err = process.communicate(timeout=HANG)
    finally:
        process.terminate()
    assert process.returncode != 0 and out == ""
    # each process reports it, since torchrun ends the others when the first of them is refused
    assert 1 <= err.count("ufm: more ranks than classes: 3 processes cannot share K = 2 classes\n") <= 3


def test_what_is_refused_leaves_no_folder(run, tmp_path):
    assert run("simulate", "--K", 5, "--d", 2, "--checkpoint-every", 0, "-o", "new").code == 2
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").write_text("x")
    ran = run("simulate", "--K", 5, "--d", 2, "-o", "file")
    assert ran.code == 2 and "file is a file; name a folder with -o" in ran.err
