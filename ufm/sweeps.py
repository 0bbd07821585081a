"""Many temperatures, seeds, dimensions and numbers of classes in one data frame."""

from __future__ import annotations

import math
import re
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
import pandas as pd

from softmaxcode.checks.arguments import check_integer, check_pair, check_progress
from softmaxcode.parallel.progress import Progress
from softmaxcode.storage.disk import check_output, one_writer, remove_leftovers
from softmaxcode.storage.journal import Journal, Noted, noted
from softmaxcode.storage.records import Count, Finite, NonNegative
from softmaxcode.tables import rows_file, write
from ufm.settings import Settings, check_options

if TYPE_CHECKING:
    from collections.abc import Sequence

#: The temperatures of a sweep by default.
TEMPERATURES = (1.0, 0.5, 0.2, 0.1, 0.05, 0.02, 0.01)
#: What the checkpoint of a batch adds to the name of the table, as a regular expression: K, d, temperature, seed.
BATCH_NAME = r"\d+-\d+-[\d.e+-]+-\d+"
#: Numbers in one batch, 1 GB in float64.
BATCH = 2**27
SUFFIXES = (".parquet", ".csv", ".md", ".tex")


class Row(TypedDict):
    """The fields of every row of a sweep; ``n`` is the mean number of features per class."""

    K: Count
    d: Count
    n: float
    seed: Count
    step: Count
    temperature: Finite
    loss: float
    log_loss: float
    GNC1: float
    GNC2: float
    GNC3: float
    GNC3_centred: float
    feature_margin: float
    certified_margin: float
    gap: float
    seconds: NonNegative
    steps: Count
    optimizer: str
    objective: str
    status: str
    best_known: float
    ratio: float
    minimizer_bound: float
    meets_bound: bool | None
    violations: Count


class Finished(Noted):
    """The journal's entry of a (K, d): its rows, whose checksum detects only accidents."""

    rows: list[Row]


def _listed(given: Any) -> list[Any]:
    """The argument as a list: itself, or a list of the one value."""
    return list(given) if _is_list(given) else [given]


def _is_list(given: Any) -> bool:
    return np.iterable(given) and not isinstance(given, str | bytes)


def _batches(runs: list[Settings]) -> list[list[Settings]]:
    """The runs of one (K, d), in batches that fit in memory."""
    from ufm.optimizers import numbers_stored  # with PyTorch, as below

    first = runs[0]
    size = max(1, BATCH // numbers_stored(first))
    return [runs[start : start + size] for start in range(0, len(runs), size)]


def sweep(
    K: int | Sequence[int],
    d: int | Sequence[int],
    temperature: float | Sequence[float] = TEMPERATURES,
    seeds: int | Sequence[int] = 4,
    *,
    n: int | Sequence[int] = Settings.n,
    path: str | Path | None = None,
    device: Any = "auto",
    progress: bool | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Simulate every combination of classes, dimension, temperature and seed, one batch per (K, d).

    Parameters
    ----------
    K, d : int or sequence of int
        Numbers of classes and dimensions.
    temperature : float or sequence of float
        Temperatures; that of a run is constant unless ``anneal`` is given.
    seeds : int or sequence of int
        Number of seeds, counted from 0, or a list of seeds.
    n : int or sequence of int
        Features of each class, as in `ufm.Settings`.
    path : path, optional
        Write the table here (``.parquet``, ``.csv``, ``.md`` or ``.tex``), again after every (K, d), each time
        atomically. An existing file is replaced. Until the sweep is complete, ``<path>.rows`` keeps its finished rows,
        and ``<path>. ... .pt`` a checkpoint of the unfinished runs. An interrupted sweep resumes from them, or starts
        again if its options differ.
    device : str
        As in `ufm.simulate`.
    progress : bool, optional
        Show bars; by default on a terminal.
    **options
        The other options of `ufm.Settings`: ``anneal``, ``objective``, ``optimizer``, ``steps``, ...

    Returns
    -------
    DataFrame
        One row for each run, in the order of K, d, temperature and seed. It has the last row of the history, and K, d,
        n, seed, steps, optimizer, objective, status. It also has best_known (the best known margin), ratio (GNC2 over
        it), minimizer_bound and meets_bound (docs/theory.md, T6 (c)). The last two are missing where there is no bound
        above 0. Finally, violations counts the measured steps whose loss certificate fails.

    Raises
    ------
    ValueError
        As `ufm.simulate`, before any run starts. Also if the path cannot be written, or another process is writing it.

    Examples
    --------
    >>> import ufm
    >>> table = ufm.sweep(K=6, d=[2, 3], temperature=[0.1, 0.02], seeds=2, n=1, steps=300)
    >>> table.groupby(["d", "temperature"])["ratio"].max().round(3).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """
    from ufm.parallel import started

    if started() > 1:
        raise ValueError(f"a sweep runs in one process; torchrun is for simulate (got {started()} processes)")
    groups = _groups(K, d, temperature, seeds, n=n, **options)
    target = None if path is None else check_output(path, SUFFIXES)
    progress = check_progress(progress)
    with one_writer(target):
        return _resumed(groups, target, device, progress)


def continues(path: Path, *arguments: Any, **options: Any) -> bool:
    """Whether `sweep` with these arguments resumes an unfinished one at ``path``.

    Raises
    ------
    ValueError
        If the sweep would discard an unfinished one there, of other runs.
    """
    groups = _groups(*arguments, **options)
    notes, batches = rows_file(path), {_checkpoint(path, b): b for runs in groups.values() for b in _batches(runs)}
    left = _checkpoints(path)
    of_others = [file for file in left if file not in batches or not _matches(file, batches[file])]
    if of_others or (notes.exists() and noted(notes, _header(groups), Finished) is None):
        raise ValueError(
            f"cannot write {path}: an unfinished sweep of other options is there; name another file with -o, or "
            "discard what it finished with --force"
        )
    return notes.exists() or bool(left)


def _groups(
    K: Any, d: Any, temperature: Any = TEMPERATURES, seeds: Any = 4, *, n: Any = Settings.n, **options: Any
) -> dict[tuple[int, int], list[Settings]]:
    """The runs of every (K, d)."""
    taus = _listed(temperature)
    which = _listed(seeds) if _is_list(seeds) else list(range(check_integer("seeds", seeds, 1)))
    check_options(options, "temperature and seeds are arguments of their own; path keeps checkpoints")
    options = {"record_every": options.get("steps", Settings.steps)} | options  # only the final state by default
    pairs = list(dict.fromkeys(check_pair(*pair) for pair in product(_listed(K), _listed(d))))
    if not (pairs and taus and which):
        raise ValueError("K, d, temperature and seeds must each be a number or a list of at least one; one is empty")
    return {
        (k, dim): [Settings(k, dim, n, tau, seed=seed, **options) for tau in taus for seed in which] for k, dim in pairs
    }


def _header(groups: dict[tuple[int, int], list[Settings]]) -> dict[str, Any]:
    """The options that identify a journal."""
    return {"runs": [[run.to_dict() for run in runs] for runs in groups.values()]}


def _resumed(
    groups: dict[tuple[int, int], list[Settings]], target: Path | None, device: Any, progress: bool | None
) -> pd.DataFrame:
    """`sweep` for validated arguments: rows that are in the journal are reused, the others computed."""
    journal = Journal(None if target is None else rows_file(target), _header(groups), Finished)
    for pair, runs in groups.items():
        if pair in journal.entries and not _are_of(runs, journal.entries[pair]["rows"]):
            del journal.entries[pair]
    if target is not None:
        _remove_checkpoints(
            target, {_checkpoint(target, batch) for runs in groups.values() for batch in _batches(runs)}
        )

    def finished() -> pd.DataFrame:
        rows = [row for pair in groups if pair in journal.entries for row in journal.entries[pair]["rows"]]
        return pd.DataFrame(rows).astype({"meets_bound": "boolean"})

    with Progress("sweep", len(groups), progress if len(groups) > 1 else False) as bar:
        for (k, dim), runs in groups.items():
            if (k, dim) not in journal.entries:
                rows = [row for batch in _batches(runs) for row in _rows(batch, target, device, progress)]
                journal.add({"K": k, "d": dim, "rows": rows})
                if target is not None:
                    write(finished(), target)
            bar.step(1, K=k, d=dim)
    table = finished()
    if target is not None:
        write(table, target)
        journal.remove()
        _remove_checkpoints(target, set())
    return table


def _are_of(runs: list[Settings], rows: list[Row]) -> bool:
    """Whether stored rows can belong to these runs: their settings, and the values derived from these, are the same."""
    from ufm.recording import best_known_margin

    if len(rows) != len(runs):
        return False
    for run, row in zip(runs, rows, strict=True):
        asked: dict[str, Any] = {"K": run.K, "d": run.d, "n": run.samples / run.K, "seed": run.seed, "steps": run.steps}
        asked |= {"optimizer": run.optimizer, "objective": run.objective}
        known = best_known_margin(run.K, run.d)
        if any(row[name] != value for name, value in asked.items()) or not (  # type: ignore[literal-required]
            row["best_known"] == known or math.isnan(known)
        ):
            return False
    return True


def _checkpoint(target: Path, batch: list[Settings]) -> Path:
    """The path of a batch's checkpoint beside the table."""
    first = batch[0]
    return target.with_name(f"{target.name}.{first.K}-{first.d}-{first.temperature:g}-{first.seed}.pt")


def _checkpoints(target: Path) -> list[Path]:
    """The checkpoints beside the table."""
    name = rf"{re.escape(target.name)}\.{BATCH_NAME}\.pt"
    return [path for path in target.parent.iterdir() if re.fullmatch(name, path.name)]


def _remove_checkpoints(target: Path, kept: set[Path]) -> None:
    """Remove checkpoints that an earlier sweep left beside the table, and unfinished files of killed processes."""
    remove_leftovers(target.parent, rf"{re.escape(target.name)}\.{BATCH_NAME}", ".pt")
    for path in set(_checkpoints(target)) - kept:
        path.unlink(missing_ok=True)


def _matches(path: Path, runs: list[Settings]) -> bool:
    """Whether a file is a checkpoint of these runs."""
    from ufm.checkpoint import matching

    try:
        matching(path, runs)
    except ValueError:
        return False
    return True


def _rows(runs: list[Settings], target: Path | None, device: Any, progress: bool | None) -> list[dict[str, Any]]:
    """The rows of one batch, checkpointed beside the table."""
    from ufm.running import run_batch

    path = None if target is None else _checkpoint(target, runs)
    if path is not None and path.is_file() and not _matches(path, runs):  # of other options, as a journal may be
        path.unlink(missing_ok=True)
    found = [run.row() for run in run_batch(runs, device=device, checkpoint=path, progress=progress)]
    if path is not None:
        path.unlink(missing_ok=True)
    return found
