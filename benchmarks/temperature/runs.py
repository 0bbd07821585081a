"""Runs at every temperature, the one of lowest loss, and the constants of the code that it is near."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.special import logsumexp

import softmaxcode as sc
from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.checks.limits import NotComputed
from softmaxcode.code import SoftmaxCode
from softmaxcode.contacts.polish import polish_hardmax
from softmaxcode.nn.functional import log_softplus
from ufm.asymptotics import FirstOrder, first_order
from ufm.run import Run
from ufm.simulation import simulate_batch

if TYPE_CHECKING:
    from benchmarks.temperature.cases import Case


#: Two runs whose tau log L differ by less have found the same minimum.
SAME = 1e-9
#: A margin this near the best known one counts as equal to it.
SAME_MARGIN = 1e-9
#: Deficits below this are rounding at the end of a run: the loss is flat at its minimum.
ROUNDING = 1e-8


def simulate(case: Case, temperatures: Sequence[float]) -> list[Run]:
    """Random starts at every temperature: annealed from each of ``starts`` that is above it, else fixed."""
    runs: list[Run] = []
    for start in case.starts:
        for anneal, taus in (
            (start, [tau for tau in temperatures if tau < start]),
            (None, [tau for tau in temperatures if tau >= start]),
        ):
            if taus:
                runs += seeds_at(case.K, case.d, 1, taus, case.seeds, case.steps, anneal)
    return runs


def seeds_at(
    K: int, d: int, n: int | tuple[int, ...], taus: Sequence[float], seeds: int, steps: int, anneal: float | None
) -> list[Run]:
    """Runs by L-BFGS in float64, measured only at the end, that do not stop near the known code."""
    return simulate_batch(
        K,
        d,
        n,
        taus,
        range(seeds),
        anneal=anneal,
        optimizer="lbfgs",
        dtype="float64",
        steps=steps,
        record_every=steps,
        tolerance=0,
        device="cpu",
        progress=False,
    )


@dataclass(frozen=True, eq=False)
class MeasuredCase:
    """Runs of one case, with the best known code and its constants of first order."""

    case: Case
    runs: list[Run]

    @cached_property
    def lowest(self) -> dict[float, Run]:
        """At each temperature the run of lowest loss, in order of decreasing temperature."""
        taus = sorted({run.settings.temperature for run in self.runs}, reverse=True)
        return {tau: min(self._at(tau), key=lambda run: float(run.final.log_loss)) for tau in taus}

    def _at(self, tau: float) -> list[Run]:
        return [run for run in self.runs if run.settings.temperature == tau]

    def hits(self, tau: float) -> str:
        """The number of runs that reached the lowest loss at a temperature."""
        runs, least = self._at(tau), float(self.lowest[tau].final.log_loss)
        found = sum(tau * (float(run.final.log_loss) - least) <= SAME for run in runs)
        return f"{found} of {len(runs)}" + (" †" if self.beaten(tau) else "")

    def beaten(self, tau: float) -> bool:
        """Whether the best known code itself has a lower loss, so that no run found a global minimiser."""
        code = sc.best_known(self.case.K, self.case.d)
        return tau * (float(self.lowest[tau].final.log_loss) - log_loss(code.W, code.H, tau)) > SAME

    @cached_property
    def optimum(self) -> float:
        """The best known margin."""
        return float(sc.best_known(self.case.K, self.case.d).margin)

    @cached_property
    def constants(self) -> FirstOrder:
        """Constants of first order of the best known code."""
        return first_order(sc.best_known(self.case.K, self.case.d))

    @cached_property
    def deficits(self) -> pd.Series:
        """Best margin minus that of the run of lowest loss, by temperature."""
        return pd.Series({tau: beyond_rounding(self.optimum - run.margin) for tau, run in self.lowest.items()})

    @cached_property
    def limits(self) -> list[tuple[SoftmaxCode, FirstOrder]]:
        """The local Softmax Codes near the runs at the smallest temperature, found by polishing, lowest loss first.

        Codes that do not balance are omitted: they are not local optima, or their contacts are too nearly equal.
        """
        tau = min(self.lowest)
        found: list[tuple[float, tuple[SoftmaxCode, FirstOrder]]] = []
        for run in sorted(self._at(tau), key=lambda run: float(run.final.log_loss)):
            if any(abs(run.margin - margin) <= ROUNDING for margin, _ in found):
                continue
            W, H = run.W, run.H.reshape(-1, self.case.d)
            code = SoftmaxCode.from_rows(polish_hardmax(W, H, tau).X[: self.case.K], normalize=True)
            try:
                found.append((run.margin, (code, first_order(code))))
            except NotComputed:
                continue
        return [limit for _, limit in found]

    @property
    def limit(self) -> SoftmaxCode:
        """The local Softmax Code near the run of lowest loss."""
        return self.limits[0][0]

    @property
    def limit_constants(self) -> FirstOrder:
        """Constants of first order of that code."""
        return self.limits[0][1]

    @property
    def finds_best(self) -> bool:
        """Whether that code has the best known margin."""
        return self.limit.margin >= self.optimum - SAME_MARGIN

    def bound(self, tau: float) -> float:
        """T6 (c): the largest deficit of a global minimiser."""
        return self.optimum - minimizer_margin(self.case.K, self.optimum, tau)


def log_loss(W: np.ndarray, H: np.ndarray, temperature: float) -> float:
    """Logarithm of the mean cross-entropy of one feature per class, W and H of shape (K, d)."""
    logits = H @ W.T / temperature
    others = logits - np.diagonal(logits)[:, None]
    np.fill_diagonal(others, -np.inf)
    per_class = log_softplus(torch.tensor(logsumexp(others, axis=1))).numpy()
    return float(logsumexp(per_class) - math.log(len(W)))


def beyond_rounding(deficit: float) -> float:
    """The deficit, or 0 where rounding explains it."""
    return deficit if deficit > ROUNDING else 0.0
