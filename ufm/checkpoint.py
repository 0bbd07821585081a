"""Checkpoints of a batch of runs: one file, written atomically and read without unpickling."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from softmaxcode.storage.records import Count, NonNegative, parse_json, read_record
from softmaxcode.storage.tensors import DifferentStateError, read_tensors, write_tensors
from ufm.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import Tensor

FORMAT = "ufm 1"
#: Rows on the sphere may differ from unit norm by this much, as they do after float32 steps.
UNIT = 1e-3
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass
class RunRecord:
    """The measurements of one run of a batch so far, and how it ended if it has.

    Attributes
    ----------
    rows : list of dict
        One measurement each, in the format of the history.
    status, reason : str
        Empty until the run ends.
    W, H : Tensor, optional
        Rows at the last measurement, on the CPU.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    status: str = ""
    reason: str = ""
    W: Tensor | None = None
    H: Tensor | None = None


@dataclass(frozen=True)
class StoredRecord:
    """A `RunRecord` without its tensors."""

    rows: list[dict[str, Any]]
    status: str
    reason: str


@dataclass(frozen=True)
class Header:
    """The JSON part of a checkpoint."""

    runs: list[dict[str, Any]]
    records: list[StoredRecord]
    step: Count
    seconds: NonNegative


@dataclass(frozen=True)
class Checkpoint:
    """The state of a batch of runs after some steps.

    Attributes
    ----------
    runs : list of Settings
        The settings of the runs.
    step : int
        Steps taken.
    seconds : float
        Time spent on them.
    W, H : Tensor, shape (B, K, d) and (B, N, d)
        Classifiers and features of all processes.
    optimizer : dict of Tensor
        State of the optimiser.
    records : list of RunRecord
        One per run.
    """

    runs: Sequence[Settings]
    step: int
    seconds: float
    W: Tensor
    H: Tensor
    optimizer: dict[str, Tensor]
    records: list[RunRecord]


def save(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint beside ``path``, then replace ``path`` by it."""
    header = {
        "runs": [run.to_dict() for run in checkpoint.runs],
        "records": [{"rows": r.rows, "status": r.status, "reason": r.reason} for r in checkpoint.records],
        "step": checkpoint.step,
        "seconds": checkpoint.seconds,
    }
    tensors = {"W": checkpoint.W, "H": checkpoint.H}
    tensors |= {f"optimizer.{name}": tensor for name, tensor in checkpoint.optimizer.items()}
    for b, record in enumerate(checkpoint.records):
        if record.W is not None and record.H is not None:
            tensors |= {f"kept.{b}.W": record.W, f"kept.{b}.H": record.H}
    stored = {
        "format": FORMAT,
        "plain": json.dumps(header),
        "tensors": {k: t.detach().cpu() for k, t in tensors.items()},
    }
    write_tensors(path, stored)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint onto the CPU.

    Raises
    ------
    ValueError
        If the file is not a checkpoint of this format, or is damaged.
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
        header, tensors = read_record(Header, parse_json(stored["plain"])), stored["tensors"]
        runs = [Settings.from_dict(run) for run in header.runs]
        _check(runs, header, tensors)
        optimizer = "optimizer."
        return Checkpoint(
            runs=runs,
            step=header.step,
            seconds=header.seconds,
            W=tensors["W"],
            H=tensors["H"],
            optimizer={name.removeprefix(optimizer): t for name, t in tensors.items() if name.startswith(optimizer)},
            records=[
                RunRecord(r.rows, r.status, r.reason, *(tensors[f"kept.{b}.{name}"] for name in "WH" if r.rows))
                for b, r in enumerate(header.records)
            ],
        )
    except Exception as error:  # a damaged or foreign file may cause any error in the reader
        raise ValueError(f"{path} is not a checkpoint of ufm, or it is damaged; remove it to start again") from error


def _check(runs: list[Settings], header: Header, tensors: dict[str, Tensor]) -> None:
    """Raise a ValueError if the contents of a checkpoint cannot be the state of its runs."""
    first = runs[0]
    if header.step > first.steps or len(header.records) != len(runs):
        raise ValueError("more steps or records than the runs have")
    for name, rows in (("W", first.K), ("H", first.samples)):
        stored = tensors[name]
        if stored.shape != (len(runs), rows, first.d) or stored.dtype != DTYPES[first.dtype]:
            raise ValueError(f"{name} has another shape or type")
        under_way = [b for b, record in enumerate(header.records) if not record.status]
        off = (stored[under_way].double().norm(dim=2) - 1).abs()
        if first.spherical and bool((torch.isfinite(off) & (off > UNIT)).any()):  # other rows have diverged
            raise ValueError(f"rows of {name} are not unit")
    for record in header.records:
        steps = [row["step"] for row in record.rows]
        if steps != sorted(set(steps)) or any(not 0 <= step <= header.step for step in steps):
            raise ValueError("measurements of other steps")


def matching(path: Path, runs: Sequence[Settings]) -> Checkpoint:
    """`load`, for these runs.

    Raises
    ------
    ValueError
        If it is of other runs; the message names the first setting that differs.
    """
    found = load(path)
    if len(found.runs) != len(runs):
        raise ValueError(f"{path} is a checkpoint of {len(found.runs)} runs, not of these {len(runs)}")
    for stored, wanted in zip(found.runs, runs, strict=True):
        for (name, old), new in zip(stored.to_dict().items(), wanted.to_dict().values(), strict=True):
            if old != new:
                raise ValueError(
                    f"{path} is a checkpoint of another run, with {name} = {old!r} and not {new!r}; name another file, "
                    "or remove it"
                )
    return found
