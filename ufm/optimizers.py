"""Optimisers of a batch of runs: geoopt's Riemannian Adam and SGD, and a deterministic L-BFGS on the sphere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from softmaxcode.checks.geoopt import geoopt
from ufm import schedule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ufm.model import Model
    from ufm.objective import Objective
    from ufm.settings import Settings

#: Decay of Adam's two averages. The second is short enough to follow gradients that change as the temperature falls.
DECAYS = (0.9, 0.99)
#: Copies of the parameters in memory during a step, besides those of L-BFGS.
COPIES = 8
#: A row whose gradient is below this (its square must not underflow) does not move.
EPS = {torch.float64: 1e-30, torch.float32: 1e-12}
MOMENTUM = 0.9
#: Secant pairs stored by L-BFGS.
MEMORY = 12
#: No row moves further than this in one step of L-BFGS, in radians.
REACH = 0.5
#: Fraction of the predicted decrease that a step must reach (Armijo).
SUFFICIENT = 1e-4
#: A decrease below this many units of the objective's rounding is not measurable; no shorter step is tried.
RESOLUTION = 1.0
#: Replaces a norm of 0 in a quotient.
TINY = 1e-300


def numbers_stored(settings: Settings) -> int:
    """Approximate count of numbers that one run has in memory at once."""
    copies = COPIES + (2 * MEMORY if settings.optimizer == "lbfgs" else 0)
    return (settings.K + settings.samples) * settings.d * copies


class Stepper(Protocol):
    """Moves the rows of a model one step at a time."""

    def step(self, number: int) -> Tensor:
        """Take step ``number``; returns the objectives (B,) before it."""

    @property
    def at_rest(self) -> Tensor:
        """Which runs no longer move, at their final temperature, (B,) of bool."""

    def state(self) -> dict[str, Tensor]:
        """The state for a checkpoint; a name that begins with "W." or "H." has one entry per row of W or H."""

    def load(self, state: dict[str, Tensor]) -> None:
        """Continue from a checkpoint."""


def stepper(runs: Sequence[Settings], model: Model, objective: Objective) -> Stepper:
    """The optimiser named in the settings."""
    return Lbfgs(runs, model, objective) if runs[0].optimizer == "lbfgs" else FirstOrder(runs, model, objective)


def _temperatures(runs: Sequence[Settings], number: int, like: Tensor) -> Tensor:
    return torch.tensor([schedule.temperature(run, number) for run in runs], dtype=like.dtype, device=like.device)


class FirstOrder:
    """geoopt's RiemannianAdam or RiemannianSGD; every run has its own temperature and learning rate."""

    def __init__(self, runs: Sequence[Settings], model: Model, objective: Objective) -> None:
        self.runs, self.model, self.objective = runs, model, objective
        parameters = [model.W, model.H]
        kind = runs[0].optimizer
        if kind == "adam":
            eps = EPS[model.W.dtype]
            self.optimizer = geoopt.optim.RiemannianAdam(parameters, lr=1.0, betas=DECAYS, eps=eps)
            self.averages: tuple[str, ...] = ("exp_avg", "exp_avg_sq")
        else:
            momentum = 0.0 if runs[0].objective == "hardmax" else MOMENTUM
            self.optimizer = geoopt.optim.RiemannianSGD(parameters, lr=1.0, momentum=momentum)
            self.averages = ("momentum_buffer",) if momentum else ()

    def step(self, number: int) -> Tensor:
        """Take step ``number``; returns the objectives (B,) before it."""
        W, H = self.model.W, self.model.H
        values, grad_W, grad_H = self.objective(W.detach(), H.detach(), _temperatures(self.runs, number, W))
        rates = torch.tensor([schedule.learning_rate(run, number) for run in self.runs], dtype=W.dtype, device=W.device)
        # geoopt multiplies directions by the rate: as a (B, 1, 1) tensor it is one rate per run
        self.optimizer.param_groups[0]["lr"] = rates.view(-1, 1, 1)
        W.grad, H.grad = grad_W, grad_H
        self.optimizer.step()
        W.grad = H.grad = None
        return values

    @property
    def at_rest(self) -> Tensor:
        """No run: these optimisers stop at the last step, where their rate is 0."""
        return torch.zeros(len(self.runs), dtype=torch.bool)

    def state(self) -> dict[str, Tensor]:
        """The averages and the count of steps."""
        kept: dict[str, Tensor] = {}
        for name, point in (("W", self.model.W), ("H", self.model.H)):
            stored = self.optimizer.state[point]
            kept |= {f"{name}.{average}": stored[average] for average in self.averages if average in stored}
            if "step" in stored:
                kept["step"] = torch.tensor(stored["step"])
        return kept

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the averages."""
        for name, point in (("W", self.model.W), ("H", self.model.H)):
            stored = {average: state[f"{name}.{average}"].to(point.device) for average in self.averages}
            if "step" in state:
                stored["step"] = int(state["step"])  # type: ignore[assignment]
            self.optimizer.state[point] = stored


class Lbfgs:
    """Limited-memory BFGS on the product of spheres, every run of the batch with its own memory and step length.

    Steps are taken in the embedding and normalised (a retraction). Directions are projected on the tangent space, and
    secant pairs are stored if their curvature is positive. A step is halved until it decreases the objective enough
    (Armijo). If steepest descent gains nothing above rounding, a run rests until its temperature changes. The searches
    of `softmaxcode` have their own L-BFGS kernels. These descend from one start per thread on the CPU; this one
    descends in a batch on any device.

    References
    ----------
    Nocedal and Wright, Numerical Optimization (2006), algorithms 3.1 and 7.4.
    """

    def __init__(self, runs: Sequence[Settings], model: Model, objective: Objective) -> None:
        self.runs, self.model, self.objective = runs, model, objective
        self.split = model.W.shape[1]
        self.X = torch.cat([model.W.detach(), model.H.detach()], 1)
        B, rows, d = self.X.shape
        self.values = self.X.new_full((B,), torch.nan)
        self.gradient = torch.zeros_like(self.X)
        self.S, self.Y = (self.X.new_zeros(MEMORY, B, rows * d) for _ in range(2))
        self.inverse_curvature = self.X.new_zeros(MEMORY, B)  # 1 / <s, y>, 0 where there is no pair
        self.scale = self.X.new_zeros(B)  # <s, y> / <y, y> of the newest pair, 0 where there is none
        self.taken = torch.tensor(0)  # steps; the newest pair is stored at their remainder by MEMORY
        self.resting = torch.zeros(B, dtype=torch.bool, device=self.X.device)
        self.temperatures = self.X.new_full((B,), torch.nan)

    @property
    def at_rest(self) -> Tensor:
        """Runs that rest at their final temperature."""
        final = torch.tensor([run.temperature for run in self.runs], dtype=self.X.dtype, device=self.X.device)
        return (self.resting & (self.temperatures == final)).cpu()

    def state(self) -> dict[str, Tensor]:
        """Memory, values and gradients."""
        names = ("values", "gradient", "S", "Y", "inverse_curvature", "scale", "taken", "resting", "temperatures")
        return {name: getattr(self, name) for name in names}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore them, and take the points from the model."""
        for name, kept in state.items():
            setattr(self, name, kept.to(self.X.device))
        self.X = torch.cat([self.model.W.detach(), self.model.H.detach()], 1)

    def _evaluate(self, X: Tensor, temperatures: Tensor) -> tuple[Tensor, Tensor]:
        values, *parts = self.objective(X[:, : self.split], X[:, self.split :], temperatures)
        return values, self.model.manifold.egrad2rgrad(X, torch.cat(parts, 1))

    @torch.no_grad()
    def step(self, number: int) -> Tensor:
        """Take step ``number``; returns the objectives (B,) before it."""
        temperatures = _temperatures(self.runs, number, self.X)
        self._forget(temperatures != self.temperatures, temperatures)
        live = torch.nonzero(~self.resting).flatten()
        before = self.values.clone()
        if len(live):
            self._move(slice(None) if len(live) == len(before) else live)
            self.model.W.copy_(self.X[:, : self.split])
            self.model.H.copy_(self.X[:, self.split :])
        return before

    def _forget(self, changed: Tensor, temperatures: Tensor) -> None:
        """Discard the pairs of runs whose temperature has changed: they belong to another objective."""
        if not changed.any():
            return
        self.temperatures = temperatures
        self.resting = self.resting & ~changed
        self.inverse_curvature[:, changed] = self.scale[changed] = 0.0
        self.values[changed], self.gradient[changed] = self._evaluate(self.X[changed], temperatures[changed])

    def _directions(self, live: Tensor | slice) -> Tensor:
        """The two-loop recursion, (b, rows * d); without pairs it is minus the gradient, scaled to a small step."""
        g = self.gradient[live].flatten(1)
        q = g.clone()
        slots = [(int(self.taken) - back) % MEMORY for back in range(MEMORY)]
        alphas = []
        for slot in slots:
            alpha = self.inverse_curvature[slot, live] * torch.linalg.vecdot(self.S[slot, live], q)
            q.addcmul_(alpha[:, None], self.Y[slot, live], value=-1)
            alphas.append(alpha)
        scale = self.scale[live]
        q *= torch.where(scale > 0, scale, 0.1 * REACH / self._furthest(g).clamp_min(TINY))[:, None]
        for slot, alpha in zip(reversed(slots), reversed(alphas), strict=True):
            beta = self.inverse_curvature[slot, live] * torch.linalg.vecdot(self.Y[slot, live], q)
            q.addcmul_((alpha - beta)[:, None], self.S[slot, live])
        return -q

    def _furthest(self, flat: Tensor) -> Tensor:
        """The largest norm of a row, (b,)."""
        return flat.view(len(flat), -1, self.X.shape[2]).norm(dim=2).amax(1)

    def _move(self, live: Tensor | slice) -> None:
        """One iteration of the runs indexed by ``live``."""
        X, g, before, temperatures = self.X[live], self.gradient[live], self.values[live], self.temperatures[live]
        direction = self.model.manifold.proju(X, self._directions(live).view_as(X))
        slope = (direction * g).sum((1, 2))
        steepest = self.scale[live] == 0
        if self.runs[0].spherical:
            shrink = (REACH / self._furthest(direction.flatten(1)).clamp_min(TINY)).clamp_max(1.0)
            direction, slope = direction * shrink[:, None, None], slope * shrink
        X_new, g_new, values = X.clone(), g.clone(), before.clone()
        length = torch.ones_like(slope)
        accepted = torch.zeros_like(steepest)
        hidden = RESOLUTION * torch.finfo(X.dtype).eps * before.abs()
        trying = torch.nonzero(-slope > hidden).flatten()
        while len(trying):
            trial = self.model.manifold.retr(X[trying], length[trying, None, None] * direction[trying])
            value, gradient = self._evaluate(trial, temperatures[trying])
            gained = value <= before[trying] + SUFFICIENT * length[trying] * slope[trying]
            good = trying[gained]
            X_new[good], g_new[good], values[good], accepted[good] = (
                trial[gained],
                gradient[gained],
                value[gained],
                True,
            )
            trying = trying[~gained]
            length[trying] *= 0.5
            trying = trying[-slope[trying] * length[trying] > hidden[trying]]
        s, y = (X_new - X).flatten(1), (g_new - g).flatten(1)
        curvature = torch.linalg.vecdot(s, y)
        kept = accepted & (curvature > 1e-12 * s.norm(dim=1) * y.norm(dim=1))
        self.taken += 1
        slot = int(self.taken) % MEMORY
        self.S[slot, live], self.Y[slot, live] = s, y
        self.inverse_curvature[slot, live] = torch.where(kept, 1 / torch.where(kept, curvature, 1.0), 0.0)
        newest = torch.where(kept, curvature / y.square().sum(1).clamp_min(TINY), self.scale[live])
        self.scale[live] = torch.where(accepted, newest, 0.0)  # no gain: discard the pairs, and try steepest descent
        self.inverse_curvature[:, live] *= accepted
        self.X[live], self.gradient[live], self.values[live] = X_new, g_new, values
        self.resting[live] = ~accepted & steepest
