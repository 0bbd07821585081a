"""How much of what class means gain is the step of the learned head: ``python -m benchmarks.head_step [--write FILE]``.

On the sphere only the directions of the class vectors count, and a step turns a vector by an angle that grows as its
norm falls. The learned head starts at norm 1; here its runs of the study ``cmf`` are trained again from smaller norms,
all else the same, and compared with the study's class means of the same seeds.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch

from benchmarks.report import Section, replace_part
from experiments.model import built
from experiments.runs import Results
from experiments.studies import cmf
from experiments.studies.cmf.analysis import SHIFTED
from experiments.tables import as_text
from experiments.training import Execution, train

if TYPE_CHECKING:
    from collections.abc import Sequence

    from experiments.data import Data
    from experiments.model import Classifier
    from experiments.runs import TrainedRun
    from experiments.settings import RunSettings

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
    """Train what is not trained yet, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.head_step", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--norms", type=float, nargs="+", default=NORMS, help="norms of the vectors at the start")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the part of this document")
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
    section = Section(
        "The learned head's step",
        "On the sphere a step turns a class vector by an angle that grows as its norm falls, and the learned head of "
        "the study starts at norm 1. Its runs again from smaller norms, all else the same, beside the same class means "
        "(test accuracy in %, class means less learned head in points; `python -m benchmarks.head_step`).",
        as_text(table)[["condition", "norm", "learned", "difference", "pairs"]],
    )
    print(section.markdown())
    if chosen.write is not None:
        replace_part(chosen.write, "head_step", section.markdown())


if __name__ == "__main__":
    main()
