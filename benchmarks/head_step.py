"""The part of the gain of class means that the head's step explains: ``python -m benchmarks.head_step [--write FILE]``.

The runs of the study ``cmf`` with a learned head, which starts at norm 1, are trained again from smaller norms, and
compared with the study's class means of the same seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from benchmarks.report import Page
from experiments.model import built
from experiments.runs import Results
from experiments.studies import cmf
from experiments.studies.cmf.analysis import SHIFTED
from experiments.training import Execution, train
from softmaxcode.pages.tables import as_text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.data import Data
    from experiments.model import Classifier
    from experiments.runs import TrainedRun
    from experiments.settings import RunSettings

PAGE = Page("docs/experiments.md", ("head_step",))
STUDY = Path("out", "experiments")
CAPTION = "Test accuracy in % (mean and 95 % interval), class means less learned head in points"
NORMS = (1.0, 0.3, 0.1)


def trained(wanted: Sequence[RunSettings], norm: float, folder: Path) -> list[TrainedRun]:
    """The runs with a learned head whose vectors start at this norm."""

    def smaller(settings: RunSettings, data: Data) -> Classifier:
        model = built(settings, data)
        (vectors,) = model.head.parameters()
        with torch.no_grad():
            vectors.mul_(norm)
        return model

    results = Results(folder)
    for settings in wanted:
        train(settings, results.folder(settings), Execution(accelerator="cpu", progress=False), build=smaller)
        print(f"norm {norm:g}: {settings.key}", flush=True)
    return results.finished(wanted)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the missing runs, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head_step", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--norms", type=float, nargs="+", default=NORMS, help="norms of the vectors at the start")
    PAGE.add_option(parser)
    chosen = parser.parse_args(arguments)
    plan = cmf.plan(seeds=5, stress_seeds=5, momenta=(0.9,), few_shot=(2, 5), label_noise=(), many_classes="none")
    learned = [settings for settings in plan if settings.head == "learned"]
    means = Results(STUDY).finished([settings for settings in plan if settings.head == "cmf"])
    rows = []
    for norm in chosen.norms:
        folder = STUDY if norm == 1 else Path("out", "head-step", f"norm-{norm:g}")
        found = cmf.findings([*trained(learned, norm, folder), *means]).tables[CAPTION]
        found = found[~found["condition"].str.contains(SHIFTED)]
        rows.append(found.assign(norm=norm))
    table = pd.concat(rows).sort_values("condition", kind="stable")
    columns = ["condition", "norm", "learned", "difference", "pairs"]
    PAGE.publish({"head_step": as_text(table)[columns]}, chosen.write)


if __name__ == "__main__":
    main()
