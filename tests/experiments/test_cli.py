"""The command ``python -m experiments``."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from experiments import cli
from experiments.runs import Results
from experiments.settings import RunSettings
from experiments.studies import STUDIES, study
from softmaxcode.storage.disk import one_writer
from tests.processes import HANG, wait_for

ROOT = Path(__file__).parents[2]
QUICK = [
    "--data",
    "digits",
    "--d",
    "3",
    "--epochs",
    "2",
    "--measure-every",
    "1",
    "--accelerator",
    "cpu",
    "--no-progress",
]


def command(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def test_a_study_from_end_to_end(tmp_path, capsys):
    """Runs are trained, stored and reported, and nothing is done again."""
    arguments = ["gnc", *QUICK, "--seeds", "2", "--heads", "learned", "cmf", "--results", tmp_path]
    assert command(*arguments) == 0
    out, err = capsys.readouterr()
    assert study("gnc").TITLE in out and "4 of 4 runs are in" in out
    assert [line.split()[0] for line in err.splitlines()] == ["1/4", "2/4", "3/4", "4/4"]
    plan = [RunSettings.from_dict(stored) for stored in json.loads((tmp_path / "gnc.json").read_text())["runs"]]
    runs = Results(tmp_path).finished(plan)
    assert {(run.settings.head, run.settings.seed) for run in runs} == {
        (head, seed) for head in ("learned", "cmf") for seed in (0, 1)
    }
    assert all(run.settings.data == "digits" and run.settings.d == 3 and len(run.history) == 2 for run in runs)

    assert command(*arguments) == 0
    assert capsys.readouterr().err == ""
    assert command("report", "--results", tmp_path) == 0
    assert study("gnc").TITLE in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_has_help_and_says_its_question(name, capsys):
    assert command(name, "--help") == 0
    out = " ".join(capsys.readouterr().out.split())
    module = study(name)
    assert " ".join(module.TITLE.split()) in out and "--seeds" in out and "--jobs" in out
    settings = module.plan()
    assert all(isinstance(one, RunSettings) for one in settings)
    assert len({one.key for one in settings}) == len(set(settings))


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_asks_for_three_seeds_at_least(name):
    seeds: dict[str, set[int]] = {}
    for settings in study(name).plan():
        plain = settings.to_dict() | {"seed": None, "initial": settings.initial and "a run"}
        plain["data_options"].pop("seed", None)
        seeds.setdefault(json.dumps(plain, sort_keys=True), set()).add(settings.seed)
    assert min(len(found) for found in seeds.values()) >= 3


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["gnc", "--data", "mnist"], "data must be one of"),
        (["gnc", "--heads", "softmax"], "--heads must be one of 'learned', 'cmf', 'code', 'linear'; got 'softmax'"),
        (["gnc", "--seeds", "0"], "seeds"),
        (["gnc", "--jobs", "0"], "jobs must be an integer of at least 1"),
        (["gnc", "--jobs", "2", "--devices", "2"], "pass --jobs or --devices, not both"),
        (["gnc", "--accelerator", "quantum"], "accelerator must be one of"),
        (["gnc", "--temperatures", "0"], "temperature"),
        (["gnc", "--data", "cifar100", "--data-root", "nowhere"], "cifar-100-binary"),
        (["gnc", "--data-options", '{"colour": 1}'], "digit-pairs has no option 'colour'"),
        (["cmf", "--label-noise", "0", "1.5"], "label_noise must be a number from 0 to 1"),
        (["gnc", "--batch-size", "100000"], "digit-pairs has 5000 training samples"),
        (["gnc", "--network-options", '{"depth": 3}'], "small-cnn takes no options"),
        (["gnc", "--data", "digits", "--network", "text-transformer"], "has images, which 'text-transformer' cannot"),
        (["gnc", "--precision", "16-mixed", "--accelerator", "cpu"], "needs a CUDA device"),
        (["report", "--results", "nowhere"], "there is no such folder"),
        (["compare", "nowhere.npy"], "nowhere.npy"),
    ],
)
def test_wrong_input_is_one_sentence(arguments, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert command(*arguments) == 2
    err = capsys.readouterr().err
    assert err.startswith("experiments: ") and said in err and len(err.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name what to do: gnc, temperature, cmf, assignment, finetune, text, retrieval, compare or report"),
        (
            ["gnc", "--data-options", "train_per_class=5"],
            "--data-options must be a JSON object; got 'train_per_class=5'",
        ),
        (["gnc", "--epochs", "many"], "--epochs must be an integer; got 'many' (see python -m experiments gnc --help)"),
    ],
)
def test_usage(arguments, said, capsys):
    assert command(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_folder_in_use_by_another_run(tmp_path, capsys):
    arguments = ["gnc", *QUICK, "--seeds", "1", "--heads", "learned", "--results", tmp_path]
    (settings,) = study("gnc").plan(seeds=1, heads=("learned",), data="digits", d=3, epochs=2, measure_every=1)
    folder = Results(tmp_path).folder(settings)
    folder.mkdir(parents=True)
    with one_writer(folder / "run.json"):
        assert command(*arguments) == 1
    out, err = capsys.readouterr()
    assert "another process is writing it" in err and "0 of 1 runs are in" in out


def test_a_failure_of_one_run_is_told_and_the_others_are_done(tmp_path, capsys):
    arguments = ["gnc", *QUICK, "--seeds", "2", "--heads", "learned", "--results", tmp_path]
    first, second = study("gnc").plan(seeds=2, heads=("learned",), data="digits", d=3, epochs=2, measure_every=1)
    folder = Results(tmp_path).folder(first)
    folder.mkdir(parents=True)
    with one_writer(folder / "run.json"):
        assert command(*arguments, "--jobs", "2") == 1
    out, err = capsys.readouterr()
    assert "another process is writing it" in err and "1 of 2 runs are in" in out
    assert [run.settings for run in Results(tmp_path).finished([first, second])] == [second]


def test_a_disk_that_fills_up(tmp_path, monkeypatch, capsys):
    import torch

    def full(stored, path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(torch, "save", full)
    assert command("gnc", *QUICK, "--seeds", "1", "--heads", "learned", "--results", tmp_path) == 2
    assert "No space left on device" in capsys.readouterr().err


def test_a_results_folder_that_is_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert command("gnc", *QUICK, "--results", tmp_path / "file") == 2
    assert "is a file; name a folder with --results" in capsys.readouterr().err


def test_runs_that_leave_the_report_are_told(tmp_path, capsys):
    arguments = ["gnc", *QUICK, "--seeds", "1", "--results", tmp_path]
    assert command(*arguments, "--heads", "learned", "cmf") == 0
    capsys.readouterr()
    assert command(*arguments, "--heads", "cmf") == 0
    assert "gnc.json named 1 runs that are not asked for now" in capsys.readouterr().err


def test_an_option_is_not_taken_for_another_that_begins_alike(tmp_path, capsys):
    assert command("gnc", *QUICK, "--seed", "3", "--results", tmp_path / "new") == 2
    assert not (tmp_path / "new").exists()
    said = "experiments: Unknown option: --seed. Did you mean --seeds? (see python -m experiments gnc --help)\n"
    assert capsys.readouterr().err == said


def image_folder(root):
    rng = np.random.default_rng(0)
    for name in "abc":
        (root / name).mkdir(parents=True)
        for i in range(12):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(root / name / f"{i}.png")
    (root / "b" / "7.png").write_bytes(b"no image")
    return root


FOLDER = ["gnc", "--data", "image-folder", "--network", "small-cnn", "--d", "2", "--epochs", "1", "--batch-size", "8"]


def test_corrupt_images_that_are_left_out_are_named(tmp_path, capsys):
    root = image_folder(tmp_path / "images")
    arguments = [*FOLDER, "--data-root", root, "--seeds", "1", "--heads", "learned", "--results", tmp_path / "results"]
    options = json.dumps({"image_size": 8, "skip_corrupt": True})
    assert command(*arguments, "--data-options", options) == 0
    bad = str(root / "b" / "7.png")
    assert f"experiments: image-folder: left out 1 that are no whole image: {bad}\n" in capsys.readouterr().err
    (header,) = (tmp_path / "results").glob("runs/*/run.json")
    assert json.loads(header.read_text())["skipped"] == [bad]


def test_what_every_run_is_refused_for_is_said_once(tmp_path, capsys):
    root = image_folder(tmp_path / "images")
    arguments = [*FOLDER, "--data-root", root, "--seeds", "3", "--heads", "learned", "--results", tmp_path / "results"]
    options = json.dumps({"image_size": 8, "test_fraction": 0.1})
    assert command(*arguments, "--data-options", options) == 1
    out, err = capsys.readouterr()
    assert err.count("is not a whole image") == 1 and err.count(": the same\n") == 2
    assert out == f"0 of 3 runs are in {tmp_path / 'results'}\n"


def test_runs_that_another_command_finishes_are_no_failures(tmp_path, capsys, monkeypatch):
    arguments = ["gnc", *QUICK, "--seeds", "1", "--heads", "learned", "--results", tmp_path]
    assert command(*arguments) == 0

    def late(self, wanted, execution, **options):
        yield from ((settings, f"{settings.key} another process is writing it") for settings in wanted)

    monkeypatch.setattr(Results, "train", late)
    assert command(*arguments) == 0


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.parametrize("background", [False, True])
def test_interrupt_is_told_and_the_command_goes_on(tmp_path, background):
    arguments = ["gnc", *QUICK, "--epochs", "1000000", "--seeds", "2", "--heads", "learned", "--results", str(tmp_path)]
    child = subprocess.Popen(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        # as a shell starts background processes
        preexec_fn=(lambda: signal.signal(signal.SIGINT, signal.SIG_IGN)) if background else None,
    )
    wait_for(lambda: list(tmp_path.glob("runs/*/history.csv")), child)
    child.send_signal(signal.SIGTERM)
    _, err = child.communicate(timeout=HANG)
    assert child.returncode == 130
    assert err.endswith("experiments: interrupted; finished runs are kept, and the same command resumes\n")


@pytest.mark.processes
@pytest.mark.slow
def test_two_processes_train_a_study(tmp_path):
    arguments = ["gnc", *QUICK, "--devices", "2", "--seeds", "2", "--heads", "cmf", "--results", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 of 2 runs are in") == 1
    headers = [json.loads(path.read_text()) for path in tmp_path.glob("runs/*/run.json")]
    assert [header["processes"] for header in headers] == [2, 2]


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="no limit on the size of files to set")
def test_a_disk_that_fills_up_is_one_sentence(tmp_path):
    """A limit on the size of files replaces a full disk: writing beyond it fails in the same system call."""
    import resource

    def limited():
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, resource.RLIM_INFINITY))

    arguments = ["gnc", *QUICK, "--seeds", "1", "--results", str(tmp_path), "--heads"]
    assert command(*arguments, "cmf") == 0  # compiles what is compiled, whose files are larger
    done = subprocess.run(
        [sys.executable, "-m", "experiments", *arguments, "cmf", "learned"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=HANG,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        preexec_fn=limited,
    )
    (model,) = [folder / "model.pt" for folder in tmp_path.glob("runs/digits-learned-*")]
    assert (done.returncode, done.stderr) == (2, f"experiments: File too large: {model}\n")
    assert sorted(path.name for path in model.parent.iterdir()) == ["W.npy", "history.csv", "settings.json"]
    assert command(*arguments, "cmf", "learned") == 0
