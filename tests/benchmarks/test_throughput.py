"""The benchmark of training's throughput, on a run of one second."""

from dataclasses import replace

import pytest

from benchmarks import throughput
from experiments.runs import TrainedRun
from experiments.settings import RunSettings
from experiments.training import Execution, train

SETTINGS = RunSettings.checked("digits", d=3, epochs=2, measure_every=2)


def test_a_row_has_both_speeds_and_what_was_trained(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    execution = Execution(accelerator="cpu", progress=False)
    data = throughput.loaded(SETTINGS)
    images = 2 * (len(data.train) // SETTINGS.batch_size) * SETTINGS.batch_size
    taken = iter([3.0, 2.0])
    monkeypatch.setattr(throughput, "pytorch_seconds", lambda *_: next(taken))
    read = TrainedRun.read
    monkeypatch.setattr(throughput.TrainedRun, "read", lambda *given: replace(read(*given), seconds=4.0))
    found = throughput.row(SETTINGS, execution, rounds=2)
    assert (found["network"], found["data"], found["device"]) == ("small-cnn", "digits", "cpu")
    assert found["plain PyTorch"] == f"{images / 2:.0f}" and found["images/s"] == f"{images / 4:.0f}"
    assert found["ratio"] == "0.50"  # of the faster rounds
    train(SETTINGS, tmp_path / SETTINGS.key, execution)
    final = TrainedRun.read(tmp_path / SETTINGS.key).final
    assert found["GNC2"] == f"{final['GNC2']:.4f}" and found["test accuracy"] == f"{final['test_accuracy']:.2%}"


def test_pytorch_alone_takes_the_steps_of_the_run() -> None:
    data = throughput.loaded(SETTINGS)
    assert throughput.pytorch_seconds(SETTINGS, data, throughput.torch.device("cpu")) > 0
