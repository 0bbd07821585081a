"""Images per second in training: ``python -m benchmarks.throughput [--accelerator cuda] [--full] [--write FILE]``.

`experiments.training` trains one network, head and data set. The shortest loop of bare PyTorch makes the same steps, in
turns within one process. With ``--full`` the whole run is trained and measured too: ResNet18 on digit-pairs-32,
K = 100, d = 10, as in the paper.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from benchmarks.report import Page, made
from experiments.model import built
from experiments.runs import TrainedRun
from experiments.settings import RunSettings
from experiments.training import Execution, learning_rate, loaded, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.data import Data


PAGE = Page("docs/experiments.md", ("training", "training_machine"))


def pytorch_seconds(settings: RunSettings, data: Data, device: torch.device) -> float:
    """Seconds of bare PyTorch for the steps of a run: no Fabric, no data loader, no measurements."""
    model = built(settings, data).to(device)
    optimizer = torch.optim.SGD(
        model.parameters(), settings.learning_rate, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay
    )
    batches = len(data.train) // settings.batch_size
    begin = time.perf_counter()
    for epoch in range(settings.epochs):
        order = torch.randperm(len(data.train))
        for i in range(batches):
            images, labels = data.train.batch(order[i * settings.batch_size : (i + 1) * settings.batch_size])
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(settings, epoch * batches + i, settings.epochs * batches)
            loss = model(images.to(device, non_blocking=True), labels.to(device, non_blocking=True))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    float(loss.detach())  # waits for the device
    return time.perf_counter() - begin


def row(settings: RunSettings, execution: Execution, rounds: int) -> dict[str, object]:
    """Images per second of both, of the faster of several rounds, and their ratio."""
    data = loaded(settings)
    images = settings.epochs * (len(data.train) // settings.batch_size) * settings.batch_size
    device = execution.fabric(settings.precision).device
    ours, plain = [], []
    for _ in range(rounds):
        plain.append(pytorch_seconds(settings, data, device))
        with tempfile.TemporaryDirectory() as folder:
            train(settings, Path(folder, settings.key), execution)
            run = TrainedRun.read(Path(folder, settings.key))
            ours.append(run.seconds)
            final = run.final
    return {
        "network": settings.network,
        "data": settings.data,
        "epochs": settings.epochs,
        "device": device.type,
        "images/s": f"{images / min(ours):.0f}",
        "plain PyTorch": f"{images / min(plain):.0f}",
        "ratio": f"{min(plain) / min(ours):.2f}",
        "GNC2": f"{final['GNC2']:.4f}",
        "test accuracy": f"{final['test_accuracy']:.2%}",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--accelerator", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--full", action="store_true", help="the whole run of ResNet18, hours without a GPU")
    PAGE.add_option(parser)
    chosen = parser.parse_args(arguments)
    execution = Execution(accelerator=chosen.accelerator, progress=False)
    rows = [row(RunSettings.checked("digit-pairs", epochs=4, measure_every=4), execution, rounds=3)]
    if chosen.full:
        rows.append(row(RunSettings.checked("digit-pairs-32"), execution, rounds=1))
    else:
        few = {"train_per_class": 5, "test_per_class": 2}
        rows.append(row(RunSettings.checked("digit-pairs-32", data_options=few, epochs=1), execution, rounds=2))
    command = "python -m benchmarks.throughput" + (" --full" if chosen.full else "")
    PAGE.publish({"training": pd.DataFrame(rows), "training_machine": made(command)}, chosen.write)


if __name__ == "__main__":
    main()
