"""Run the unconstrained feature model from random rows, with measurements, checkpoints and stopping rules."""

from __future__ import annotations

import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from softmaxcode.checks.arguments import check_integer, check_list, check_memory, check_progress, shown
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
from ufm.settings import SMALL, Settings, check_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Seconds of work between two checkpoints, unless ``checkpoint_every`` counts steps.
CHECKPOINT_SECONDS = 60.0
#: Ctrl-C waits for the end of a step, unless steps take longer than this: the step is then interrupted and repeated.
LONG_STEP = 5.0


def chosen_device(device: Any) -> torch.device:
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
    """Run several simulations together that differ only in seed, temperature and anneal; see `simulate`."""
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


def simulate(
    K: int,
    d: int,
    n: int | Sequence[int] = 5,
    temperature: float = 0.05,
    *,
    seed: int = 0,
    anneal: float | None = None,
    objective: str = "log-cross-entropy",
    optimizer: str = "auto",
    learning_rate: float | None = None,
    weight_decay: float | None = None,
    steps: int = 5000,
    record_every: int | None = None,
    tolerance: float = 1e-6,
    dtype: str = "auto",
    device: Any = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
) -> Run:
    r"""Simulate the unconstrained feature model: features and classifier free on the sphere, from a random start.

    .. math::
        \min_{W, H} \; L = \frac1N \sum_i
        \log\Bigl(1 + \sum_{j \ne y_i} e^{\langle w_j - w_{y_i}, h_i\rangle/\tau}\Bigr),
        \qquad \|w_k\| = \|h_i\| = 1

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 2.
    n : int or sequence of int
        Features of each class, at least 1: one number, or K of them where classes are imbalanced.
    temperature : float
        The temperature tau, above 0.
    seed : int
        Determines the random start.
    anneal : float, optional
        The initial temperature. It falls to ``temperature`` by equal factors over the first half of the steps. By
        default the temperature is fixed.
    objective : {"log-cross-entropy", "cross-entropy", "hardmax"}
        The function to minimise. "log-cross-entropy" is tau log L, whose gradient never underflows. "cross-entropy" is
        L itself; at small temperatures its gradient is exactly 0 long before the margin is near its limit. "hardmax" is
        the largest negative logit margin, the limit of the first.
    optimizer : {"auto", "lbfgs", "adam", "sgd"}
        L-BFGS on the sphere, deterministic, for small problems; or geoopt's RiemannianAdam or RiemannianSGD. SGD has
        momentum 0.9, but none for hardmax. The subgradient of hardmax moves one feature per step, so with n above 1 it
        takes many steps. "auto" is L-BFGS where K N is at most 2^22, and Adam beyond that and for hardmax.
    learning_rate : float, optional
        The rate of Adam and SGD at the first step. It falls to 0 along a cosine (hardmax: linearly). By default it
        depends on the temperature.
    weight_decay : float, optional
        Use the *free* model instead: rows of any norm, with half of this times all squared norms added to L. Metrics
        are of unit rows; no margin is certified.
    steps : int
        The most steps, each over all samples.
    record_every : int, optional
        Steps between two measurements; by default a fiftieth of all steps, or a fifth for more than 2000 classes.
    tolerance : float
        A run ends at a measured step where the relative gap, 1 - certified / known, is at most this. It compares the
        certified margin with the best known one.
    dtype : {"auto", "float64", "float32"}
        "auto" is float32 for problems that are not small, at temperatures of at least 1e-3, where its rounding has no
        effect. Measurements are always in float64.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:<number>".
    checkpoint : path, optional
        A ``.pt`` file, written every minute, when interrupted and at the end. A run that finds its own checkpoint there
        resumes from it, bit for bit.
    checkpoint_every : int, optional
        Steps between two checkpoints, instead of one minute.
    progress : bool, optional
        Show a bar; by default only if standard error is a terminal.

    Returns
    -------
    Run
        Its history, its rows, and ``compare()``.

    Raises
    ------
    ValueError
        If an option is out of range or unknown, the device is not available, or there are more processes than classes.
        Also if the checkpoint is of another run or damaged. The message is one sentence that names the fault.
    KeyboardInterrupt
        After a checkpoint was written, if a file was named.

    Notes
    -----
    A run ends with one of these statuses: "gap" (see ``tolerance``), "stationary", "stalled", "steps" or "diverged".
    "stationary": L-BFGS gains nothing above rounding, and there is no slope. "stalled": it gains nothing although there
    is a slope, because the loss or the steps underflow. A "diverged" run keeps its last measurement.

    If ``torchrun`` started several processes, they share the classes, one GPU each. The rows of W and H are split, and
    a log-sum-exp is reduced. Every process returns the whole run.

    References
    ----------
    Jiang et al., ICML 2024 (arXiv:2310.05351); docs/theory.md, T6; docs/ufm.md.

    Examples
    --------
    >>> import ufm
    >>> run = ufm.simulate(K=5, d=2, n=1, temperature=0.02, steps=500)
    >>> round(run.margin, 6), round(run.best_known, 6)  # the pentagon
    (0.690983, 0.690983)
    >>> run.violations
    0
    """
    for name, given in (("temperature", temperature), ("seed", seed)):
        if np.iterable(given) and not isinstance(given, str):
            raise ValueError(
                f"{name} must be one number, for several call ufm.simulate_batch or sweep; got {shown(given)}"
            )
    (run,) = simulate_batch(
        K,
        d,
        n,
        [temperature],
        [seed],
        anneal=anneal,
        objective=objective,
        optimizer=optimizer,
        learning_rate=learning_rate,
        weight_decay=weight_decay,
        steps=steps,
        record_every=record_every,
        tolerance=tolerance,
        dtype=dtype,
        device=device,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        progress=progress,
    )
    return run


def simulate_batch(
    K: int,
    d: int,
    n: int | Sequence[int],
    temperatures: Sequence[float],
    seeds: Sequence[int],
    *,
    device: Any = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> list[Run]:
    """Simulate several temperatures and seeds in one batch, which is faster than one run after another.

    Products of a batch may round differently from those of a single run. A long descent can amplify this to another
    local optimum. So the same batch gives the same bits, but a run may differ in another batch.

    Parameters
    ----------
    K, d, n
        As in `simulate`.
    temperatures : sequence of float
        Temperatures, each above 0.
    seeds : sequence of int
        Seeds; each is run at every temperature.
    device, checkpoint, checkpoint_every, progress, **options
        As in `simulate`; one checkpoint file contains all runs.

    Returns
    -------
    list of Run
        One for each temperature and seed, temperatures outermost.

    Raises
    ------
    ValueError
        As `simulate`, or if a list is empty.

    Examples
    --------
    >>> import ufm
    >>> runs = ufm.simulate_batch(4, 2, 1, [0.1, 0.05], [0, 1], steps=300)
    >>> [round(run.margin, 6) for run in runs]  # the square
    [1.0, 1.0, 1.0, 1.0]
    """
    temperatures, seeds = check_list("temperatures", temperatures), check_list("seeds", seeds)
    check_options(options, "temperatures and seeds are lists of their own")
    runs = [Settings.checked(K, d, n, tau, seed=seed, **options) for tau in temperatures for seed in seeds]
    return run_batch(runs, device=device, checkpoint=checkpoint, checkpoint_every=checkpoint_every, progress=progress)
