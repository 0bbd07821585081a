"""Training runs: their settings, resuming with the same result, and refused input."""

import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch.nn.functional import cross_entropy, normalize

import softmaxcode as sc
from experiments import training
from experiments.data import load
from experiments.model import Classifier, LinearHead, built, collect
from experiments.report import report
from experiments.runs import Results, TrainedRun
from experiments.settings import RunSettings
from experiments.training import EpochBatches, Execution, learning_rate, train
from softmaxcode.storage.disk import one_writer
from softmaxcode.storage.tensors import read_tensors, write_tensors
from tests.processes import HANG

CPU = Execution(accelerator="cpu", progress=False)
QUICK = {"epochs": 4, "measure_every": 2, "d": 3}


def quick(**changes) -> RunSettings:
    return RunSettings.checked("digits", **(QUICK | changes))


def trained(folder: Path, settings: RunSettings, execution: Execution = CPU) -> TrainedRun:
    path = folder / "runs" / settings.key
    train(settings, path, execution)
    return TrainedRun.read(path)


def same(first: TrainedRun, second: TrainedRun) -> bool:
    """Whether two runs ended with the same bits."""
    a, b = (read_tensors(run.folder / "model.pt", hashed=False) for run in (first, second))
    measured = [run.history.drop(columns="seconds") for run in (first, second)]
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a) and measured[0].equals(measured[1])


@pytest.fixture(scope="module")
def heads(tmp_path_factory) -> dict[str, TrainedRun]:
    """A short run of every head."""
    folder = tmp_path_factory.mktemp("results")
    # the linear head's steps grow as 1/tau, and diverge at 1/10
    temperatures = {"learned": 0.1, "cmf": 0.1, "code": 0.1, "linear": 1.0}
    return {head: trained(folder, quick(head=head, temperature=tau)) for head, tau in temperatures.items()}


# Settings of a run


def test_defaults_are_the_papers_for_photographs():
    settings = RunSettings.checked("cifar100")
    found = (settings.network, settings.optimizer, settings.learning_rate, settings.weight_decay)
    assert found == ("resnet18", "sgd", 0.1, 5e-4)
    assert (settings.epochs, settings.batch_size, settings.d, settings.temperature) == (200, 250, 10, 0.1)


def test_settings_survive_json_and_name_themselves():
    settings = quick(head="code", assignment=[2, 0, 1], data_options={"classes": [1, 2, 3]})
    again = RunSettings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again == settings and again.key == settings.key
    others = [quick(seed=1), quick(temperature=0.2), quick(epochs=5), quick(data_options={"label_noise": 0.1})]
    assert len({settings.key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"head": "softmax"}, "head must be one of"),
        ({"network": "resnet19"}, "network must be one of"),
        ({"temperature": 0}, "temperature"),
        ({"epochs": 0}, "epochs must be an integer of at least 1"),
        ({"batch_size": 1}, "batch_size must be an integer of at least 2"),
        ({"learning_rate": -1}, "learning_rate"),
        ({"weight_decay": -1e-4}, "weight_decay"),
        ({"optimizer": "lion"}, "optimizer must be one of"),
        ({"precision": "8"}, "precision must be one of"),
        ({"cmf_momentum": 0.5}, "cmf_momentum is for the head 'cmf'"),
        ({"head": "cmf", "cmf_momentum": 1.0}, "from 0 to below 1"),
        ({"assignment": 0.5}, "assignment is for the head 'code'"),
        ({"head": "code", "assignment": 2.0}, "level from -1 to 1"),
        ({"head": "code", "assignment": [0, 0, 1]}, "level from -1 to 1"),
        ({"frozen": True}, "pass initial"),
        ({"frozen": "no"}, "frozen must be True or False"),
        ({"initial": "../runs/other"}, "initial must be the key of a run"),
        ({"initial": 5}, "initial must be the key of a run"),
        ({"head": "code", "assignment": (0.9, 1.7)}, "level from -1 to 1"),
        ({"data_options": {1: 2}}, "data_options must be a JSON-serialisable dictionary"),
        ({"data_options": {"few_shot": {0, 1}}}, "data_options must be a JSON-serialisable dictionary"),
        ({"d": 1}, "d .*must be an integer of at least 2"),
        ({"seed": -1}, "seed must be an integer of at least 0"),
    ],
)
def test_settings_refuse(given, said):
    with pytest.raises(ValueError, match=said):
        quick(**given)


def test_data_set_that_does_not_exist():
    with pytest.raises(ValueError, match="data must be one of 'cifar10'"):
        RunSettings.checked("mnist")


def test_stored_settings_of_another_kind():
    with pytest.raises(ValueError, match="not the settings of a run"):
        RunSettings.from_dict({"data": "digits"})


# Training


@pytest.mark.parametrize("head", ["learned", "cmf", "code", "linear"])
def test_every_head_learns_and_is_measured(heads, head):
    run = heads[head]
    assert run.status == "finished"
    assert run.history["epoch"].tolist() == [2, 4]
    final = run.final
    assert final["test_accuracy"] > 0.5 > 0.1
    data, model = run.data(), run.model()
    assert not model.training
    # every measurement again, from the definitions
    H, y = collect(model, data.test)
    with torch.no_grad():
        logits = model.logits(H)
    assert final["test_accuracy"] == pytest.approx((logits.argmax(1) == y).double().mean().item(), abs=1e-12)
    assert final["test_loss"] == pytest.approx(cross_entropy(logits, y).item(), rel=1e-5)
    F, labels = collect(model, data.train_unaugmented)
    unit = normalize(F.double(), dim=1)
    means = torch.stack([unit[labels == k].mean(0) for k in range(10)])
    W = normalize(torch.from_numpy(run.W), dim=1)
    assert final["GNC2"] == pytest.approx(sc.margin(W.numpy()).margin, abs=1e-6)
    self_duality = (1 - (normalize(means, dim=1) * W).sum(1)).mean().item()
    assert final["GNC3"] == pytest.approx(self_duality, abs=1e-6)
    nearest = torch.cdist(normalize(H.double(), dim=1), means).argmin(1)
    assert final["ncm_accuracy"] == pytest.approx((nearest == y).double().mean().item(), abs=1e-12)


def test_a_fixed_code_stays_and_a_learned_one_moves(heads):
    best = sc.best_known(10, 3).margin
    assert heads["code"].final["GNC2"] == pytest.approx(best, abs=1e-6)
    untrained = built(heads["learned"].settings, heads["learned"].data())
    assert np.abs(heads["learned"].W - untrained.head.weight.detach().numpy()).max() > 0.1
    assert np.linalg.norm(heads["cmf"].W, axis=1) == pytest.approx(np.ones(10), abs=1e-6)
    assert np.ptp(np.linalg.norm(heads["linear"].W, axis=1)) > 1e-3


def test_the_same_settings_give_the_same_bits_and_seeds_differ(heads, tmp_path):
    assert same(heads["learned"], trained(tmp_path, quick()))
    other = trained(tmp_path, quick(seed=1))
    assert not same(heads["learned"], other)


def test_seed_of_torch_does_not_matter(heads, tmp_path):
    torch.manual_seed(12345)
    before = torch.get_rng_state()
    built(quick(), load("digits"))
    assert torch.equal(before, torch.get_rng_state())
    assert same(heads["cmf"], trained(tmp_path, quick(head="cmf")))


@pytest.mark.parametrize("head", ["learned", "cmf"])
def test_an_interrupted_run_goes_on_to_the_same_bits(heads, head, tmp_path, monkeypatch):
    """Interrupted between two epochs, after a checkpoint, with an augmentation that draws random numbers."""
    options = {"head": head, "data_options": {"label_noise": 0.1}}
    whole = trained(tmp_path / "a", quick(**options))
    execution = Execution(accelerator="cpu", progress=False, checkpoint_seconds=0)
    written = training.Training._checkpoint

    def stop(self):
        written(self)
        if self.epoch == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(training.Training, "_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "b", quick(**options), execution)
    monkeypatch.undo()
    folder = tmp_path / "b" / "runs" / quick(**options).key
    assert (folder / "checkpoint.pt").is_file() and not (folder / "run.json").exists()
    assert same(whole, trained(tmp_path / "b", quick(**options), execution))
    assert not (folder / "checkpoint.pt").exists()


#: Trains the runs in `arguments`, one by one.
SCRIPT = """
import sys
from pathlib import Path
from experiments.settings import RunSettings
from experiments.training import Execution, train
import json
for settings, folder in zip(sys.argv[1::2], sys.argv[2::2]):
    execution = Execution(accelerator="cpu", progress=False, checkpoint_seconds=0)
    train(RunSettings.from_dict(json.loads(settings)), Path(folder), execution)
"""


def arguments(runs, folders):
    """The arguments of ``SCRIPT``."""
    return [
        text for run, folder in zip(runs, folders, strict=True) for text in (json.dumps(run.to_dict()), str(folder))
    ]


#: The same, but it blocks after its first checkpoint until it is ended.
WAITS = """
import signal
from experiments import training
write = training.Training._checkpoint
def write_and_wait(self):
    write(self)
    print("here", flush=True)
    signal.pause()
training.Training._checkpoint = write_and_wait
"""


@pytest.mark.processes
@pytest.mark.slow
def test_kill_and_resume(tmp_path):
    settings = RunSettings.checked("digits", d=3, epochs=4, measure_every=2)
    whole = trained(tmp_path / "a", settings)
    folder = tmp_path / "b" / "runs" / settings.key
    given = arguments([settings], [folder])
    root = Path(__file__).parents[2]
    with subprocess.Popen([sys.executable, "-c", WAITS + SCRIPT, *given], cwd=root, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"here\n"
        child.kill()
    assert (folder / "checkpoint.pt").exists() and not (folder / "run.json").exists()
    subprocess.run([sys.executable, "-c", SCRIPT, *given], cwd=root, check=True, timeout=HANG)
    again = TrainedRun.read(folder)
    # threads may differ between the two processes, so this compares to rounding; the test above compares bits
    assert again.history["epoch"].tolist() == whole.history["epoch"].tolist()
    assert again.final["test_accuracy"] == pytest.approx(whole.final["test_accuracy"], abs=0.05)
    train(settings, folder, CPU)  # nothing is left to do
    assert TrainedRun.read(folder).history.equals(again.history)


def test_learning_rate_falls_along_a_cosine():
    settings = quick()
    assert learning_rate(settings, 0, 100) == settings.learning_rate
    assert learning_rate(settings, 50, 100) == pytest.approx(settings.learning_rate / 2)
    assert learning_rate(settings, 99, 100) == pytest.approx(
        settings.learning_rate / 2 * (1 + math.cos(0.99 * math.pi))
    )


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_processes_share_every_batch(ranks):
    alone = list(EpochBatches(103, 10, seed=4, epoch=2))
    parts = [list(EpochBatches(103, 10, 4, 2, rank, ranks)) for rank in range(ranks)]
    assert len(alone) == 10 and all(len(batch) == 10 for batch, _ in alone)
    together = [sorted(index for part in parts for index in part[i][0]) for i in range(10)]
    assert together == [sorted(batch) for batch, _ in alone]
    assert len({index for batch, _ in alone for index in batch}) == 100
    assert alone != list(EpochBatches(103, 10, 4, 3)) and alone != list(EpochBatches(103, 10, 5, 2))
    assert len({seed for part in parts for _, seed in part}) == 10 * ranks


@pytest.mark.processes
@pytest.mark.slow
def test_two_processes_train_what_one_does(tmp_path):
    """Up to batch normalisation, whose statistics are each process's own, so the network has none."""
    small = {"width": 32, "layers": 1, "heads": 2}
    options = {"network": "vit", "network_options": small, "optimizer": "adamw", "learning_rate": 3e-3}
    runs = [quick(head=head, **options) for head in ("learned", "cmf")]
    script = tmp_path / "train.py"
    script.write_text(SCRIPT.replace('accelerator="cpu"', 'accelerator="cpu", devices=2'))
    root = str(Path(__file__).parents[2])
    environment = os.environ | {"PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    folders = [tmp_path / "two" / "runs" / run.key for run in runs]
    subprocess.run([sys.executable, str(script), *arguments(runs, folders)], check=True, env=environment, timeout=HANG)
    for run, folder in zip(runs, folders, strict=True):
        one, two = trained(tmp_path / "one", run), TrainedRun.read(folder)
        assert json.loads((folder / "run.json").read_text())["processes"] == 2
        assert two.final["loss"] == pytest.approx(one.final["loss"], rel=2e-2)
        assert two.final["GNC1"] == pytest.approx(one.final["GNC1"], rel=5e-2)
        assert two.W == pytest.approx(one.W, abs=0.1)


def test_mixed_precision_trains(tmp_path):
    run = trained(tmp_path, quick(precision="bf16-mixed"))
    assert run.status == "finished" and run.final["test_accuracy"] > 0.5


@pytest.mark.processes
def test_workers_read_the_same_batches(tmp_path):
    """With an augmentation, which draws random numbers where the data are read."""
    colour = {"train_per_class": 3, "test_per_class": 1}
    settings = RunSettings.checked("digit-pairs-32", data_options=colour, network="small-cnn", epochs=1, batch_size=50)
    runs = [
        trained(tmp_path / str(workers), settings, Execution(accelerator="cpu", progress=False, workers=workers))
        for workers in (0, 2)
    ]
    assert same(*runs)


@pytest.mark.parametrize("head", ["learned", "cmf", "code", "linear"])
def test_a_run_that_diverges_says_so(head, tmp_path):
    run = trained(tmp_path, quick(head=head, learning_rate=1e30))
    assert run.status == "diverged"
    assert not math.isfinite(run.final["train_loss"])
    with pytest.raises(ValueError, match="it diverged"):
        trained(tmp_path, quick(initial=run.settings.key))


def test_a_batch_that_devices_cannot_share(tmp_path):
    with pytest.raises(ValueError, match="batch_size must be a multiple of the devices"):
        train(quick(batch_size=15), tmp_path / "run", Execution(accelerator="cpu", devices=2))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_half_precision_wants_a_gpu(tmp_path):
    with pytest.raises(ValueError, match="'16-mixed' needs a CUDA device"):
        train(quick(precision="16-mixed"), tmp_path / "run", CPU)


def test_other_data_are_not_taken_for_those_of_the_run(tmp_path):
    for root, side in (("a", 8), ("b", 12)):
        for k in range(2):
            folder = tmp_path / root / f"class {k}"
            folder.mkdir(parents=True)
            for i in range(6):
                pixels = np.random.default_rng([k, i]).integers(0, 255, (side, side, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{i}.png")
    options = {"network": "small-cnn", "d": 3, "epochs": 1, "batch_size": 4, "data_options": {"image_size": 16}}
    settings = RunSettings.checked("image-folder", **options)
    trained_on = Execution(accelerator="cpu", progress=False, data_root=str(tmp_path / "a"))
    folder = trained(tmp_path, settings, trained_on).folder
    assert TrainedRun.read(folder, str(tmp_path / "a")).data().K == 2
    with pytest.raises(ValueError, match="was trained on other data than image-folder now is"):
        TrainedRun.read(folder, str(tmp_path / "b")).data()


def test_fine_tuning_starts_from_a_run(heads, tmp_path):
    results = Results(heads["learned"].folder.parent.parent)
    before = read_tensors(heads["learned"].folder / "model.pt", hashed=False)
    options = {"initial": heads["learned"].settings.key, "epochs": 1, "head": "cmf"}
    frozen, free = (quick(**options, frozen=frozen) for frozen in (True, False))
    assert [reason for _, reason in results.train([frozen, free], CPU)] == [None, None]
    kept, moved = (read_tensors(results.folder(settings) / "model.pt", hashed=False) for settings in (frozen, free))
    body = [name for name in before if name.startswith("network.") and not name.startswith("network.15")]
    last = [name for name in before if name.startswith("network.15")]
    assert last and all(torch.equal(kept[name], before[name]) for name in body)
    assert not any(torch.equal(kept[name], before[name]) for name in last)
    assert not all(torch.equal(moved[name], before[name]) for name in body)


# Refused input


def test_a_folder_in_use(heads, tmp_path):
    folder = tmp_path / quick().key
    folder.mkdir()
    with one_writer(folder / "run.json"), pytest.raises(ValueError, match="another process is writing it"):
        train(quick(), folder, CPU)
    train(quick(epochs=1), folder, CPU)


def test_a_checkpoint_of_another_run(tmp_path):
    settings = quick(epochs=2, measure_every=2)
    folder = tmp_path / settings.key
    folder.mkdir()
    other = json.dumps(quick(seed=1).to_dict())
    write_tensors(folder / "checkpoint.pt", {"format": "experiments 1", "settings": other})
    with pytest.raises(ValueError, match="is not a checkpoint of this run"):
        train(settings, folder, CPU)
    whole = {"format": "experiments 1", "settings": json.dumps(settings.to_dict()), "epoch": 1, "seconds": 1.0}
    model = built(settings, load("digits"))
    state = {"model": model.state_dict(), "optimizer": torch.optim.SGD(model.parameters(), 0.1).state_dict()}
    write_tensors(folder / "checkpoint.pt", whole | state | {"rows": "[]", "scaler": {}, "data": "other"})
    with pytest.raises(ValueError, match="is of other data than digits now is"):
        train(settings, folder, CPU)
    (folder / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(ValueError, match="missing, damaged or not one of ours"):
        train(settings, folder, CPU)


def test_starting_from_another_architecture(heads):
    results = Results(heads["learned"].folder.parent.parent)
    wrong = quick(initial=heads["learned"].settings.key, d=4)
    reasons = [reason for _, reason in results.train([wrong, quick(initial="nothing")], CPU)]
    assert "another architecture" in reasons[0] and "no finished run" in reasons[1]


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_gpu_that_is_not_there(tmp_path):
    with pytest.raises(ValueError, match="needs a CUDA device, and PyTorch finds none here"):
        train(quick(), tmp_path / "run", Execution(accelerator="cuda"))
    assert not (tmp_path / "run").exists()


def test_tensorboard_is_asked_for_and_not_there(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match="pip install tensorboard"):
        train(quick(), tmp_path / "run", Execution(accelerator="cpu", tensorboard=True))
    assert not (tmp_path / "run").exists()


def test_an_accelerator_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="accelerator must be one of"):
        train(quick(), tmp_path / "run", Execution(accelerator="gpu3"))


def test_a_batch_larger_than_the_data(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 5000, and digits has 1287 training samples"):
        train(quick(batch_size=5000), tmp_path / "run", CPU)


def test_data_that_are_missing(tmp_path):
    with pytest.raises(ValueError, match="not found in"):
        train(RunSettings.checked("cifar100"), tmp_path / "run", Execution(accelerator="cpu", data_root=str(tmp_path)))
    assert not (tmp_path / "run").exists()


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path, monkeypatch):
    execution = Execution(accelerator="cpu", progress=False, checkpoint_seconds=0)
    folder = tmp_path / "runs" / quick().key
    save, calls = torch.save, []

    def full(stored, file):
        calls.append(file)
        if len(calls) > 1:
            file.write(b"half")
            raise OSError(28, "No space left on device")
        save(stored, file)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match=r"No space left on device: '.*checkpoint\.pt'"):
        trained(tmp_path, quick(), execution)
    monkeypatch.undo()
    assert read_tensors(folder / "checkpoint.pt")["epoch"] == 1
    assert not [path for path in folder.iterdir() if path.name.startswith(".checkpoint")]
    assert same(trained(tmp_path / "whole", quick()), trained(tmp_path, quick(), execution))


def test_a_damaged_run_is_not_read(heads, tmp_path):
    with pytest.raises(ValueError, match="no finished run is there"):
        TrainedRun.read(tmp_path)
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(ValueError, match="not the header of this run"):
        TrainedRun.read(tmp_path)
    header = (heads["learned"].folder / "run.json").read_text()
    (tmp_path / "run.json").write_text(header)
    with pytest.raises(ValueError, match="not the header of this run"):
        TrainedRun.read(tmp_path)
    folder = tmp_path / heads["learned"].settings.key
    folder.mkdir()
    (folder / "run.json").write_text(header.replace('"finished"', '"great"'))
    with pytest.raises(ValueError, match="not the header of this run"):
        TrainedRun.read(folder)
    (folder / "run.json").write_text(header)
    run = TrainedRun.read(folder)
    with pytest.raises(ValueError, match=r"history\.csv: there is no such file"):
        _ = run.history
    with pytest.raises(ValueError, match=r"W\.npy: there is no such file"):
        _ = run.W
    with pytest.raises(ValueError, match=r"model\.pt: it is missing"):
        run.model()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda table: table.drop(columns="GNC2"), "it has no column GNC2"),
        (lambda table: table.assign(GNC2="x"), "its column GNC2 holds something other than numbers"),
        (lambda table: table[:0], "it has no rows|something other than numbers"),
    ],
)
def test_a_history_of_another_kind_is_refused(heads, tmp_path, change, message):
    folder = tmp_path / heads["code"].settings.key
    shutil.copytree(heads["code"].folder, folder)
    change(pd.read_csv(folder / "history.csv")).to_csv(folder / "history.csv", index=False)
    with pytest.raises(ValueError, match=rf"cannot read .*history\.csv: {message}"):
        _ = TrainedRun.read(folder).history


def test_an_evaluation_of_another_kind_is_made_again(heads, tmp_path):
    folder = tmp_path / heads["code"].settings.key
    shutil.copytree(heads["code"].folder, folder)
    run = TrainedRun.read(folder)
    for stored in ("5", "[]", '{"K": "many"}', "{" * 10_000, '{"K": 1e400}'):
        (folder / "rows.json").write_text(stored)
        assert run.evaluation("rows", dict[str, int], lambda run: {"K": len(run.W)}) == {"K": 10}
        assert json.loads((folder / "rows.json").read_text()) == {"K": 10}


@pytest.mark.parametrize("stored", ['{"runs": 5}', "[]", '{"runs": [5]}', '{"runs": [{"data": "digits"}]}', ""])
def test_a_plan_that_is_none_is_refused(tmp_path, stored):
    (tmp_path / "gnc.json").write_text(stored)
    with pytest.raises(ValueError, match=r"cannot read .*gnc\.json: it is not the plan of a study, or damaged"):
        report(tmp_path)


# The results folder


def test_evaluations_are_kept(heads):
    run = heads["code"]
    asked = []

    def measure(given):
        asked.append(given)
        return {"K": len(given.W)}

    assert [run.evaluation("rows", dict[str, int], measure) for _ in range(2)] == [{"K": 10}] * 2
    assert asked == [run] and (run.folder / "rows.json").is_file()


@pytest.mark.processes
def test_finished_runs_are_not_trained_again_and_failures_are_told(heads, tmp_path):
    results = Results(tmp_path)
    runs = [quick(seed=seed, epochs=1, measure_every=1) for seed in range(3)]
    assert [reason for _, reason in results.train(runs[:1], CPU)] == [None]
    wrong = [quick(batch_size=5000, seed=seed) for seed in range(2)]
    ended = dict(results.train([*runs, *wrong], CPU, jobs=2))
    assert set(ended) == {*runs[1:], *wrong}
    assert [ended[run] for run in runs[1:]] == [None, None]
    assert all("batch_size is 5000" in ended[run] for run in wrong)
    assert [run.settings for run in results.finished([*runs, *runs])] == runs


def test_frozen_wants_a_last_layer():
    with pytest.raises(ValueError, match="last layer is linear"):
        Classifier(torch.nn.Sequential(torch.nn.Flatten()), LinearHead(3, 2, 1.0), frozen=True)


def test_history_has_one_table_of_numbers(heads):
    table = pd.read_csv(heads["learned"].folder / "history.csv")
    wanted = {"epoch", "step", "seconds", "train_loss", "loss", "GNC1", "GNC2", "GNC3", "test_accuracy", "ncm_accuracy"}
    assert wanted <= set(table.columns)
    assert np.isfinite(table.to_numpy(float)).all()
