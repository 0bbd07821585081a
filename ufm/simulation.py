"""Run the unconstrained feature model: from random rows, step by step, measured, checkpointed, and stopped in time."""

from __future__ import annotations

import itertools
import math
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from softmaxcode.checks.arguments import check_integer, check_list, check_memory, check_progress, shown
from softmaxcode.checks.tensors import one_thread
from softmaxcode.parallel.interrupts import uninterrupted
from softmaxcode.parallel.progress import Progress
from softmaxcode.search.geoopt_batch import check_device
from softmaxcode.storage.disk import check_output
from ufm import checkpoint as checkpoints
from ufm import recording, schedule
from ufm.model import Model, labels_of
from ufm.objective import Objective
from ufm.optimizers import Stepper, numbers_held, stepper
from ufm.parallel import Shard, join, started
from ufm.run import Run, history_frame
from ufm.settings import SMALL, Settings, check_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

#: Seconds of work between two checkpoints, unless ``checkpoint_every`` counts steps.
CHECKPOINT_SECONDS = 60.0
#: Ctrl-C waits for the end of a step, but of none that takes longer than this: it is broken off, and taken again later.
LONG_STEP = 5.0
#: A run that rests is stationary where the gradient of tau log L, whose terms are of order 1, is at most this.
LEVEL = {"float64": 1e-4, "float32": 1e-2}


def chosen_device(device: Any) -> torch.device:
    """The device named, or of "auto" the GPU where there is one.

    Raises
    ------
    ValueError
        If it is not there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return check_device(device)


class Batch:
    """Runs that differ in seed and temperature alone, taken through their steps together."""

    def __init__(self, runs: Sequence[Settings], shard: Shard, device: torch.device) -> None:
        first = runs[0]
        self.runs, self.shard, self.device = runs, shard, device
        self.model = Model(runs, shard, device)
        decay = first.weight_decay or 0.0
        objective = Objective(first.objective, self.model.labels, first.samples, decay, shard)
        kind = "log-cross-entropy" if first.spherical else first.objective
        self.gauge = Objective(kind, self.model.labels, first.samples, decay, shard)
        self.stepper: Stepper = stepper(runs, self.model, objective)
        self.labels = labels_of(first).to(device)
        ends = [0, *itertools.accumulate(first.counts)]
        starts = [0, *itertools.accumulate(shard.sizes)]
        self.features = [ends[b] - ends[a] for a, b in itertools.pairwise(starts)]
        self.done, self.seconds = 0, 0.0
        self.records: list[dict[str, Any]] = [{"rows": [], "status": "", "reason": ""} for _ in runs]
        self.kept: dict[str, Tensor] = {}

    def gathered(self, name: str) -> Tensor:
        """W or H of all processes, (B, K, d) or (B, N, d)."""
        rows = getattr(self.model, name).detach()
        return self._whole(name, rows)

    def _whole(self, name: str, rows: Tensor) -> Tensor:
        if self.shard.ranks == 1:
            return rows
        return self.shard.gather(rows[0], self.shard.sizes if name == "W" else self.features)[None]

    def _mine(self, name: str, rows: Tensor) -> Tensor:
        """The rows of this process."""
        if self.shard.ranks == 1:
            return rows
        sizes = self.shard.sizes if name == "W" else self.features
        return rows.split(sizes, 1)[self.shard.rank]

    @property
    def running(self) -> list[int]:
        """Runs that have not ended."""
        return [b for b, record in enumerate(self.records) if not record["status"]]

    def end(self, b: int, status: str, reason: str) -> None:
        """Note why a run has ended."""
        self.records[b] |= {"status": status, "reason": reason}

    def record(self, which: Sequence[int]) -> None:
        """Measure runs that have not ended, keep their rows, and end them where they have arrived."""
        W, H = self.gathered("W"), self.gathered("H")
        at_rest = self.stepper.at_rest
        for b in which:
            settings, rows = self.runs[b], self.records[b]["rows"]
            if rows and rows[-1]["step"] == self.done:
                continue
            if not (self._usable(W[b]) and self._usable(H[b])):
                self._diverged(b, "a row of W or H is zero or no longer finite")
                continue
            temperature = schedule.temperature(settings, max(0, self.done - 1))
            row = self._measure(settings, W[b], H[b], temperature)
            rows.append({"step": self.done, **row, "seconds": self.seconds})
            self.kept[f"{b}.W"], self.kept[f"{b}.H"] = W[b].cpu().clone(), H[b].cpu().clone()
            if row["gap"] <= settings.tolerance:
                self.end(
                    b,
                    "gap",
                    f"the certified margin is within {row['gap']:.1e} of the best known after {self.done} steps",
                )
            elif at_rest[b]:
                slope = self._slope(b)
                what = f"no step gains anything that rounding would show, at step {self.done}"
                if slope <= LEVEL[settings.dtype]:
                    self.end(b, "stationary", what)
                else:
                    self.end(b, "stalled", f"{what}, but not for want of a slope, which is {slope:.1e}")
            elif self.done == settings.steps:
                self.end(b, "steps", f"{self.done} steps were taken")

    def _slope(self, b: int) -> float:
        """Norm of the gradient of tau log L, the gauge of every objective on the sphere; of the free model's own."""
        W, H = self.model.W.detach()[b : b + 1], self.model.H.detach()[b : b + 1]
        temperatures = torch.tensor([self.runs[b].temperature], dtype=W.dtype, device=W.device)
        _, *gradients = self.gauge(W, H, temperatures)
        return float(self.model.manifold.egrad2rgrad(torch.cat([W, H], 1), torch.cat(gradients, 1)).norm())

    def _measure(self, settings: Settings, W: Tensor, H: Tensor, temperature: float) -> dict[str, float]:
        """`recording.measure` by the first process, told to all."""
        if self.shard.ranks == 1:
            return recording.measure(settings, W, H, self.labels, temperature)
        row = recording.measure(settings, W, H, self.labels, temperature) if self.shard.rank == 0 else {}
        names = recording.measured(settings.K)
        told = torch.tensor([row.get(name, math.nan) for name in names], dtype=torch.float64, device=self.device)
        return dict(zip(names, self.shard.from_first(told).tolist(), strict=True))

    @staticmethod
    def _usable(rows: Tensor) -> bool:
        """Whether every row has a direction: a step whose square overflows is normalised to a row of zeros."""
        largest = rows.abs().amax(1)
        return bool(((largest > 0) & (largest < math.inf)).all())

    def _diverged(self, b: int, why: str) -> None:
        rows = self.records[b]["rows"]
        last = f"; W and H are those of step {rows[-1]['step']}" if rows else ""
        self.end(b, "diverged", f"diverged at step {self.done}: {why}{last}")

    def advance(self) -> float:
        """One step of all runs; the objective of the first that has not ended, before it."""
        begin = time.perf_counter()
        values = self.stepper.step(self.done)
        self.seconds += time.perf_counter() - begin
        finite = torch.isfinite(values).cpu()
        for b in self.running:
            if not finite[b]:
                self._diverged(b, f"the objective is {float(values[b])}")
        self.done += 1
        return float(values[self.running[0]]) if self.running else math.nan

    @property
    def arrived(self) -> list[int]:
        """Runs that have not ended but no longer move."""
        at_rest = self.stepper.at_rest
        return [b for b in self.running if at_rest[b]]

    def shown(self) -> dict[str, str]:
        """What the progress bar says: of the run that is best."""
        last = [record["rows"][-1] for record in self.records if record["rows"]]
        return {"GNC2": f"{max(row['GNC2'] for row in last):.6f}"} if last else {}

    def results(self) -> list[Run]:
        """What the runs came to."""
        out = []
        for b, (settings, record) in enumerate(zip(self.runs, self.records, strict=True)):
            H = self.kept[f"{b}.H"].numpy()
            shape = (settings.K, settings.n, settings.d) if isinstance(settings.n, int) else H.shape
            W = self.kept[f"{b}.W"].numpy()
            out.append(
                Run(settings, W, H.reshape(shape), history_frame(record["rows"]), record["status"], record["reason"])
            )
        return out

    def save(self, path: Path) -> None:
        """Write a checkpoint, by the first process."""
        optimizer = {
            name: self._whole(name[0], kept) if name.startswith(("W.", "H.")) else kept
            for name, kept in self.stepper.state().items()
        }
        W, H = self.gathered("W"), self.gathered("H")
        if self.shard.rank == 0:
            checkpoints.save(
                checkpoints.Checkpoint(self.runs, self.done, self.seconds, W, H, optimizer, self.records, self.kept),
                path,
            )

    def resume(self, found: checkpoints.Checkpoint) -> None:
        """Go on from a checkpoint."""
        with torch.no_grad():
            for name, rows in (("W", found.W), ("H", found.H)):
                getattr(self.model, name).copy_(self._mine(name, rows))
        self.stepper.load(
            {
                name: self._mine(name[0], kept) if name.startswith(("W.", "H.")) else kept
                for name, kept in found.optimizer.items()
            }
        )
        self.done, self.seconds = found.step, found.seconds
        self.records, self.kept = found.records, found.kept


def run_batch(
    runs: Sequence[Settings],
    *,
    device: Any = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
) -> list[Run]:
    """Take runs that differ in seed, temperature and anneal alone through their steps together; see `simulate`."""
    first = runs[0]
    place = chosen_device(device)
    path = None if checkpoint is None else check_output(checkpoint, (".pt",))
    progress = check_progress(progress)
    if checkpoint_every is not None:
        check_integer("checkpoint_every", checkpoint_every, 1)
        if path is None:
            raise ValueError("checkpoint_every needs a checkpoint file to write")
    ranks = started()
    Shard(0, ranks, first.K, place)  # refused by what the environment says, before any process waits for another
    if ranks > 1 and (len(runs) > 1 or first.optimizer == "lbfgs" or first.objective == "hardmax"):
        raise ValueError(
            "several processes share one run of a cross-entropy by optimizer adam or sgd, which has to be said; got "
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

    A checkpoint of half a step would not resume bit for bit. So an interrupt waits for the end of a short step; where
    steps are long every one is saved, and an interrupt breaks off the present one.
    """
    steps, every = batch.runs[0].steps, batch.runs[0].record_every
    long_steps = True  # until the first is timed
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
    """Raise a ValueError, before any memory is taken, where the runs do not fit into it."""
    first = runs[0]
    size = np.dtype(first.dtype).itemsize
    what, instead = f"simulating {_label(runs)}", "take fewer classes, features, dimensions or runs"
    check_memory(what, (first.K + first.samples) * first.d * size, instead)  # a start is drawn whole, on the CPU
    device = torch.cuda.get_device_properties(place).total_memory if place.type == "cuda" else None
    check_memory(what, numbers_held(first) * size * len(runs) // ranks, instead, device)


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
        What the random start follows from.
    anneal : float, optional
        Where the temperature begins: it falls to ``temperature`` by equal factors over the first half of the steps.
        By default it is fixed.
    objective : {"log-cross-entropy", "cross-entropy", "hardmax"}
        What is minimised: tau log L, whose gradient never underflows; L itself, whose gradient is exactly 0 at small
        temperatures long before the margin is right; or the largest lead of a wrong class, the limit of the first.
    optimizer : {"auto", "lbfgs", "adam", "sgd"}
        L-BFGS on the sphere, deterministic, for small problems; geoopt's RiemannianAdam or RiemannianSGD (momentum
        0.9; none for hardmax, whose subgradient moves one feature a step: with n above 1 it takes many steps). "auto"
        is L-BFGS where K N is at most 2^22, Adam beyond and for hardmax.
    learning_rate : float, optional
        Of Adam and SGD, at the first step; it falls to 0 along a cosine (hardmax: linearly). By default it follows the
        temperature.
    weight_decay : float, optional
        Take the *free* model instead: rows of any norm, and half of this times all squared norms added to L. Metrics
        are of unit rows; no margin is certified.
    steps : int
        Steps at most, of all samples each.
    record_every : int, optional
        Steps between two measurements; by default a fiftieth of them, a fifth for more than 2000 classes.
    tolerance : float
        A run ends when the relative gap between the certified margin and the best known, 1 - certified / known, is at
        most this, at a measured step.
    dtype : {"auto", "float64", "float32"}
        "auto" is float32 for problems that are not small, at temperatures of at least 1e-3, where its rounding is not
        felt. Measurements are in float64 always.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:<number>".
    checkpoint : path, optional
        A ``.pt`` file, written every minute, when interrupted and at the end; a run that finds its own there goes on
        from it, bit for bit.
    checkpoint_every : int, optional
        Steps between two checkpoints, instead of a minute.
    progress : bool, optional
        Show a bar; by default where standard error is a terminal.

    Returns
    -------
    Run
        Its history, its rows, and ``compare()``.

    Raises
    ------
    ValueError
        If an option is out of range or unknown, the device is not there, there are more processes than classes, or the
        checkpoint is of another run or damaged: one sentence says which.
    KeyboardInterrupt
        After a checkpoint was written, if there is a file for it.

    Notes
    -----
    A run ends as "gap" (see ``tolerance``), "stationary" (L-BFGS gains nothing that rounding would show, and there is
    no slope), "stalled" (the same on a slope: the loss underflows, or steps do), "steps", or "diverged", which keeps
    what was last measured. Started by ``torchrun``, processes share the classes: rows of W and
    H are split, one GPU each, and a log-sum-exp is reduced; every process returns the whole run.

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
    """Simulate several temperatures and seeds at once, every run on its own: faster than one after another.

    Products of a batch may round otherwise than those of a single run, which a long descent can carry to another local
    optimum: the same batch gives the same bits, not the same run in another batch.

    Parameters
    ----------
    K, d, n
        As in `simulate`.
    temperatures : sequence of float
        Temperatures, each above 0.
    seeds : sequence of int
        Seeds; each is run at every temperature.
    device, checkpoint, checkpoint_every, progress, **options
        As in `simulate`; one checkpoint file holds all runs.

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
