"""Run the unconstrained feature model from random rows, with measurements, checkpoints and stopping rules."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from softmaxcode.checks.arguments import check_integer, check_memory, check_progress
from softmaxcode.checks.tensors import check_device
from softmaxcode.parallel.interrupts import uninterrupted
from softmaxcode.parallel.progress import Progress
from softmaxcode.parallel.torch_threads import one_thread
from softmaxcode.storage.disk import check_output
from ufm import checkpoint as checkpoints
from ufm.batch import Batch
from ufm.optimizers import numbers_stored
from ufm.parallel import Shard, join, started
from ufm.run import Run
from ufm.settings import SMALL

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ufm.settings import Settings

#: Seconds of work between two checkpoints, unless ``checkpoint_every`` counts steps.
CHECKPOINT_SECONDS = 60.0
#: Ctrl-C waits for the end of a step, unless steps take longer than this: the step is then interrupted and repeated.
LONG_STEP = 5.0


def chosen_device(device: Any = "auto") -> torch.device:
    """The named device, or for "auto" the GPU if there is one.

    Raises
    ------
    ValueError
        If the device is not available.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return check_device(device)


def run_batch(
    runs: Sequence[Settings],
    *,
    device: Any = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
) -> list[Run]:
    """Run several simulations together that differ only in seed, temperature and anneal; see `ufm.simulate`."""
    first = runs[0]
    place = chosen_device(device)
    path = None if checkpoint is None else check_output(checkpoint, (".pt",))
    progress = check_progress(progress)
    if checkpoint_every is not None:
        check_integer("checkpoint_every", checkpoint_every, 1)
        if path is None:
            raise ValueError("checkpoint_every needs a checkpoint file to write")
    ranks = started()
    Shard(0, ranks, first.K, place)  # raises from the environment alone, before any process waits for another
    if ranks > 1 and (len(runs) > 1 or first.optimizer == "lbfgs" or first.objective == "hardmax"):
        raise ValueError(
            "several processes share one run of a cross-entropy by optimizer adam or sgd, which must be given; got "
            + (f"{len(runs)} runs" if len(runs) > 1 else f"{first.objective} by {first.optimizer}")
        )
    _check_memory(runs, place, ranks)
    place = join(place)
    shard = Shard.here(first.K, place)
    batch = Batch(runs, shard, place)
    if path is not None and path.is_file():
        batch.resume(checkpoints.matching(path, runs))
    with one_thread(place.type == "cpu" and first.K * first.samples <= SMALL):
        _loop(batch, path, checkpoint_every, progress if shard.rank == 0 else False)
    return batch.results()


def _loop(batch: Batch, path: Path | None, checkpoint_every: int | None, progress: bool | None) -> None:
    """Steps, measurements and checkpoints until every run has ended; an interrupted run leaves a checkpoint.

    A checkpoint of half a step would not resume bit for bit. So an interrupt waits for the end of a short step. Where
    steps are long, every step is saved, and an interrupt stops the present one.
    """
    steps, every = batch.runs[0].steps, batch.runs[0].record_every
    long_steps = True  # until the first step is timed
    saved, saved_at = batch.done, time.monotonic()

    def save() -> None:
        nonlocal saved, saved_at
        if path is not None and saved != batch.done:
            batch.save(path)
            saved, saved_at = batch.done, time.monotonic()

    with Progress(_label(batch.runs), steps, progress) as bar:
        bar.step(batch.done)
        try:
            while batch.running:
                begun = time.monotonic()
                with nullcontext() if long_steps else uninterrupted():
                    due = batch.running if batch.done % every == 0 or batch.done == steps else batch.arrived
                    if due:
                        batch.record(due)
                        bar.step(0, **batch.shown())
                    if not batch.running:
                        break
                    batch.advance()
                bar.step(1)
                now = time.monotonic()
                long_steps = now - begun > LONG_STEP
                if checkpoint_every is None:
                    due_now = now - saved_at > CHECKPOINT_SECONDS
                else:
                    due_now = batch.done % checkpoint_every == 0
                if batch.shard.agree(long_steps or due_now):
                    save()
        except KeyboardInterrupt:
            if batch.shard.ranks == 1 and not long_steps:
                save()
            raise
        save()


def _check_memory(runs: Sequence[Settings], place: torch.device, ranks: int) -> None:
    """Raise a ValueError, before memory is allocated, if the runs do not fit into it."""
    first = runs[0]
    size = np.dtype(first.dtype).itemsize
    what, instead = f"simulating {_label(runs)}", "take fewer classes, features, dimensions or runs"
    check_memory(what, (first.K + first.samples) * first.d * size, instead)  # initial rows are all drawn on the CPU
    device = torch.cuda.get_device_properties(place).total_memory if place.type == "cuda" else None
    check_memory(what, numbers_stored(first) * size * len(runs) // ranks, instead, device)


def _label(runs: Sequence[Settings]) -> str:
    first = runs[0]
    return f"K={first.K} d={first.d}" + (f", {len(runs)} runs" if len(runs) > 1 else f" tau={first.temperature:g}")
