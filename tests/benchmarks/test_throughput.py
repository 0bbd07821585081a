"""The benchmark of training's throughput, on a run of a second."""

from benchmarks.throughput import row
from experiments.settings import Settings
from experiments.training import Execution


def test_a_row_has_both_speeds_and_what_was_trained() -> None:
    settings = Settings.checked("digits", d=3, epochs=2, measure_every=2)
    found = row(settings, Execution(accelerator="cpu", progress=False), rounds=1)
    assert (found["network"], found["data"], found["device"]) == ("small-cnn", "digits", "cpu")
    ours, plain = (float(found[name]) for name in ("images/s", "plain PyTorch"))
    assert ours > 0 and plain > 0 and abs(float(found["ratio"]) - ours / plain) < 0.02
    assert found["test accuracy"].endswith("%") and float(found["GNC2"]) < 2
