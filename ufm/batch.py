"""A batch of runs of the unconstrained feature model: stepped together, measured, and ended one by one."""

from __future__ import annotations

import itertools
import math
import time
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ufm import checkpoint as checkpoints
from ufm import recording, schedule
from ufm.model import Model, labels_of
from ufm.objective import Objective
from ufm.optimizers import Stepper, stepper
from ufm.run import Run, history_frame

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ufm.parallel import Shard
    from ufm.settings import Settings

#: A run at rest is stationary if the gradient of tau log L, whose terms are of order 1, is at most this.
LEVEL = {"float64": 1e-4, "float32": 1e-2}


class Batch:
    """Runs that differ only in seed and temperature, stepped together."""

    def __init__(self, runs: Sequence[Settings], shard: Shard, device: torch.device) -> None:
        first = runs[0]
        self.runs, self.shard, self.device = runs, shard, device
        self.model = Model(runs, shard, device)
        decay = first.weight_decay or 0.0
        objective = Objective(first.objective, self.model.labels, first.samples, decay, shard)
        kind = "log-cross-entropy" if first.spherical else first.objective
        self.reference = Objective(kind, self.model.labels, first.samples, decay, shard)
        self.stepper: Stepper = stepper(runs, self.model, objective)
        self.labels = labels_of(first).to(device)
        ends = [0, *itertools.accumulate(first.counts)]
        starts = [0, *itertools.accumulate(shard.sizes)]
        self.features = [ends[b] - ends[a] for a, b in itertools.pairwise(starts)]
        self.done, self.seconds = 0, 0.0
        self.records = [checkpoints.RunRecord() for _ in runs]

    def gathered(self, name: str) -> Tensor:
        """W or H of all processes, (B, K, d) or (B, N, d)."""
        rows = getattr(self.model, name).detach()
        return self._gather(name, rows)

    def _gather(self, name: str, rows: Tensor) -> Tensor:
        if self.shard.ranks == 1:
            return rows
        return self.shard.gather(rows[0], self.shard.sizes if name == "W" else self.features)[None]

    def _local(self, name: str, rows: Tensor) -> Tensor:
        """The rows of this process."""
        if self.shard.ranks == 1:
            return rows
        sizes = self.shard.sizes if name == "W" else self.features
        return rows.split(sizes, 1)[self.shard.rank]

    @property
    def running(self) -> list[int]:
        """Runs that have not ended."""
        return [b for b, record in enumerate(self.records) if not record.status]

    def end(self, b: int, status: str, reason: str) -> None:
        """Record why a run has ended."""
        self.records[b].status, self.records[b].reason = status, reason

    def record(self, which: Sequence[int]) -> None:
        """Measure runs that have not ended, store their rows, and end those that have converged."""
        W, H = self.gathered("W"), self.gathered("H")
        at_rest = self.stepper.at_rest
        for b in which:
            settings, record = self.runs[b], self.records[b]
            if record.rows and record.rows[-1]["step"] == self.done:
                continue
            if not (self._usable(W[b]) and self._usable(H[b])):
                self._diverged(b, "a row of W or H is zero or no longer finite")
                continue
            temperature = schedule.temperature(settings, max(0, self.done - 1))
            row = self._measure(settings, W[b], H[b], temperature)
            record.rows.append({"step": self.done, **row, "seconds": self.seconds})
            record.W, record.H = W[b].cpu().clone(), H[b].cpu().clone()
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
                    self.end(b, "stalled", f"{what}, although the slope is {slope:.1e}")
            elif self.done == settings.steps:
                self.end(b, "steps", f"{self.done} steps were taken")

    def _slope(self, b: int) -> float:
        """Norm of the gradient: of tau log L on the sphere for every objective, of the free model's own otherwise."""
        W, H = self.model.W.detach()[b : b + 1], self.model.H.detach()[b : b + 1]
        temperatures = torch.tensor([self.runs[b].temperature], dtype=W.dtype, device=W.device)
        _, *gradients = self.reference(W, H, temperatures)
        return float(self.model.manifold.egrad2rgrad(torch.cat([W, H], 1), torch.cat(gradients, 1)).norm())

    def _measure(self, settings: Settings, W: Tensor, H: Tensor, temperature: float) -> dict[str, float]:
        """The result of `recording.measure` in the first process, sent to all."""
        if self.shard.ranks == 1:
            return recording.measure(settings, W, H, self.labels, temperature)
        row = recording.measure(settings, W, H, self.labels, temperature) if self.shard.rank == 0 else {}
        names = recording.measured(settings.K)
        sent = torch.tensor([row.get(name, math.nan) for name in names], dtype=torch.float64, device=self.device)
        return dict(zip(names, self.shard.from_first(sent).tolist(), strict=True))

    @staticmethod
    def _usable(rows: Tensor) -> bool:
        """Whether every row has a direction; a step whose square overflows is normalised to a row of zeros."""
        largest = rows.abs().amax(1)
        return bool(((largest > 0) & (largest < math.inf)).all())

    def _diverged(self, b: int, why: str) -> None:
        rows = self.records[b].rows
        last = f"; W and H are those of step {rows[-1]['step']}" if rows else ""
        self.end(b, "diverged", f"diverged at step {self.done}: {why}{last}")

    def advance(self) -> float:
        """Take one step of all runs; returns the objective before it of the first that has not ended."""
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
        """The values in the progress bar, for the best run."""
        last = [record.rows[-1] for record in self.records if record.rows]
        return {"GNC2": f"{max(row['GNC2'] for row in last):.6f}"} if last else {}

    def results(self) -> list[Run]:
        """The ended runs, each with its rows at the last measurement."""
        out = []
        for settings, record in zip(self.runs, self.records, strict=True):
            assert record.W is not None and record.H is not None  # every run is measured at its start
            W, H = record.W.numpy(), record.H.numpy()
            if isinstance(settings.n, int):
                H = H.reshape(settings.K, settings.n, settings.d)
            out.append(Run(settings, W, H, history_frame(record.rows), record.status, record.reason))
        return out

    def save(self, path: Path) -> None:
        """Write a checkpoint, by the first process."""
        optimizer = {
            name: self._gather(name[0], kept) if name.startswith(("W.", "H.")) else kept
            for name, kept in self.stepper.state().items()
        }
        W, H = self.gathered("W"), self.gathered("H")
        if self.shard.rank == 0:
            checkpoints.save(
                checkpoints.Checkpoint(self.runs, self.done, self.seconds, W, H, optimizer, self.records),
                path,
            )

    def resume(self, found: checkpoints.Checkpoint) -> None:
        """Continue from a checkpoint."""
        with torch.no_grad():
            for name, rows in (("W", found.W), ("H", found.H)):
                getattr(self.model, name).copy_(self._local(name, rows))
        self.stepper.load(
            {
                name: self._local(name[0], kept) if name.startswith(("W.", "H.")) else kept
                for name, kept in found.optimizer.items()
            }
        )
        self.done, self.seconds = found.step, found.seconds
        self.records = found.records
