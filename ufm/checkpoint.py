"""Checkpoints of a batch of runs: one file, written whole or not at all, and read without unpickling anything."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from softmaxcode.checks.tensors import DifferentStateError, read_tensors, write_tensors
from softmaxcode.storage.records import Count, NonNegative, parse_json, read_record
from ufm.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

FORMAT = "ufm 1"
#: Rows on the sphere may be this far from unit norm, which float32 steps leave.
UNIT = 1e-3
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class Plain:
    """The JSON part of a checkpoint."""

    runs: list[dict[str, Any]]
    records: list[dict[str, Any]]
    step: Count
    seconds: NonNegative


@dataclass(frozen=True)
class Checkpoint:
    """A batch of runs after some steps.

    Attributes
    ----------
    runs : list of Settings
        What they are.
    step : int
        Steps taken.
    seconds : float
        Time they took.
    W, H : Tensor, shape (B, K, d) and (B, N, d)
        Classifiers and features of all processes.
    optimizer : dict of Tensor
        What the optimiser keeps.
    records : list of dict
        For each run its rows so far, and how it ended if it has: plain data.
    kept : dict of Tensor
        Last measured W and H of the runs that have ended, by the names that the records give.
    """

    runs: Sequence[Settings]
    step: int
    seconds: float
    W: Tensor
    H: Tensor
    optimizer: dict[str, Tensor]
    records: list[dict[str, Any]]
    kept: dict[str, Tensor]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint beside ``path`` and put it in its place."""
    plain = {
        "runs": [run.plain() for run in checkpoint.runs],
        "records": checkpoint.records,
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
    }
    tensors = {"W": checkpoint.W, "H": checkpoint.H}
    tensors |= {f"optimizer.{name}": kept for name, kept in checkpoint.optimizer.items()}
    tensors |= {f"kept.{name}": kept for name, kept in checkpoint.kept.items()}
    stored = {
        "format": FORMAT,
        "plain": json.dumps(plain),
        "tensors": {k: t.detach().cpu() for k, t in tensors.items()},
    }
    write_tensors(path, stored)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    ValueError
        If the file is no checkpoint of this format, or damaged.
    """
    try:
        stored = read_tensors(path)
    except DifferentStateError:
        raise
    except ValueError as error:
        raise ValueError(f"{path} is not a checkpoint of ufm, or it is damaged; remove it to start again") from error
    try:
        if stored["format"] != FORMAT:
            raise ValueError
        plain, tensors = read_record(Plain, parse_json(stored["plain"])), stored["tensors"]
        runs = [Settings.from_plain(run) for run in plain.runs]
        _check(runs, plain, tensors)

        def group(prefix: str) -> dict[str, Tensor]:
            return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}

        return Checkpoint(
            runs=runs,
            step=plain.step,
            seconds=plain.seconds,
            W=tensors["W"],
            H=tensors["H"],
            optimizer=group("optimizer."),
            records=plain.records,
            kept=group("kept."),
        )
    except Exception as error:  # whatever a damaged or foreign file makes of the reader
        raise ValueError(f"{path} is not a checkpoint of ufm, or it is damaged; remove it to start again") from error


def _check(runs: list[Settings], plain: Plain, tensors: dict[str, Tensor]) -> None:
    """Raise a ValueError where what a checkpoint holds cannot be the state of its runs."""
    first = runs[0]
    if plain.step > first.steps or len(plain.records) != len(runs):
        raise ValueError("more steps or records than the runs have")
    for name, rows in (("W", first.K), ("H", first.samples)):
        held = tensors[name]
        if held.shape != (len(runs), rows, first.d) or held.dtype != DTYPES[first.dtype]:
            raise ValueError(f"{name} has another shape or type")
        under_way = [b for b, record in enumerate(plain.records) if not record["status"]]
        off = (held[under_way].double().norm(dim=2) - 1).abs()
        if first.spherical and bool((torch.isfinite(off) & (off > UNIT)).any()):  # what is not finite ends as diverged
            raise ValueError(f"rows of {name} are not unit")
    for record in plain.records:
        steps = [row["step"] for row in record["rows"]]
        if steps != sorted(set(steps)) or any(not 0 <= step <= plain.step for step in steps):
            raise ValueError("measurements of other steps")


def matching(path: Path, runs: Sequence[Settings]) -> Checkpoint:
    """`load`, for these runs.

    Raises
    ------
    ValueError
        If it is of other runs: the sentence names the first setting that differs.
    """
    found = load(path)
    if len(found.runs) != len(runs):
        raise ValueError(f"{path} is a checkpoint of {len(found.runs)} runs, not of these {len(runs)}")
    for stored, wanted in zip(found.runs, runs, strict=True):
        for (name, old), new in zip(stored.plain().items(), wanted.plain().values(), strict=True):
            if old != new:
                raise ValueError(
                    f"{path} is a checkpoint of another run, with {name} = {old!r} and not {new!r}; name another file, "
                    "or remove it"
                )
    return found
