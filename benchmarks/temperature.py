"""How small must the temperature be: ``python -m benchmarks.temperature [--quick] [--write docs/temperature.md]``.

The margin that runs of the unconstrained feature model lose to the temperature, beside what theory says of it.
The figure goes beside the document, as ``images/<name of the document>.png``.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy.optimize import brentq
from scipy.special import logsumexp

import softmaxcode as sc
from benchmarks.report import ABSENT, Section, machine, write_document
from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.checks.limits import NotComputed
from softmaxcode.code import SoftmaxCode
from softmaxcode.contacts.polish import polish_hardmax
from softmaxcode.margins.exact import margins
from softmaxcode.nn.functional import log_softplus
from softmaxcode.plotting.style import new_figure, save
from ufm.asymptotics import FirstOrder, first_order
from ufm.run import Run
from ufm.simulation import simulate_batch

#: Two runs whose tau log L differ by less have found the same minimum.
SAME = 1e-9
#: A margin this near the best known is that of the best known code.
SAME_MARGIN = 1e-9
#: Deficits below this are what rounding leaves of a run that has ended: the loss is flat at its minimum.
ROUNDING = 1e-8
#: Shares of the best margin that the summary asks for.
SHARES = (0.99, 0.999)
#: A class is loose if its one-vs-rest distance exceeds the smallest by more temperatures than this.
LOOSE = 5


class Case(NamedTuple):
    """Classes and dimension; where the temperature begins, how many seeds begin there, and their steps at most."""

    K: int
    d: int
    starts: tuple[float, ...] = (0.3, 0.03)
    seeds: int = 4
    steps: int = 1500

    def __str__(self) -> str:
        return f"({self.K}, {self.d})"


class Unequal(NamedTuple):
    """Classes with different numbers of features, and temperatures that are held."""

    K: int
    d: int
    n: tuple[int, ...]
    temperatures: tuple[float, ...]


@dataclass(frozen=True)
class Plan:
    """What is run: the cases and their temperatures, those with rattlers, and those with unequal classes."""

    cases: tuple[Case, ...]
    temperatures: tuple[float, ...]
    rattling: tuple[Case, ...]
    unequal: tuple[Unequal, ...]


FULL = Plan(
    cases=(
        *(Case(*pair) for pair in ((7, 3), (10, 3), (12, 3), (13, 3), (14, 3), (24, 3), (9, 4), (13, 4))),
        *(Case(*pair) for pair in ((25, 4), (20, 5))),
        Case(100, 10, starts=(0.1,), seeds=2, steps=4000),
    ),
    temperatures=(0.2, 0.1, 0.05, 0.02, 0.01, 3e-3, 1e-3, 3e-4, 1e-4),
    rattling=(Case(20, 3, seeds=2), Case(22, 6, seeds=2)),
    unequal=(Unequal(7, 3, (1, 2, 3, 4, 5, 6, 7), (1e-2, 3e-3, 1e-3)),),
)
QUICK = Plan(
    cases=(Case(7, 3, seeds=2, steps=400), Case(12, 3, seeds=2, steps=400)),
    temperatures=(0.1, 0.03, 0.01),
    rattling=(Case(20, 3, starts=(0.1,), seeds=1, steps=300),),
    unequal=(Unequal(4, 2, (1, 1, 1, 3), (0.02,)),),
)


def simulate(case: Case, temperatures: Sequence[float]) -> list[Run]:
    """Random starts at every temperature: annealed from each of ``starts`` that is above it, else held."""
    runs: list[Run] = []
    for start in case.starts:
        for anneal, taus in (
            (start, [tau for tau in temperatures if tau < start]),
            (None, [tau for tau in temperatures if tau >= start]),
        ):
            if taus:
                runs += _batch(case.K, case.d, 1, taus, case.seeds, case.steps, anneal)
    return runs


def _batch(
    K: int, d: int, n: int | tuple[int, ...], taus: Sequence[float], seeds: int, steps: int, anneal: float | None
) -> list[Run]:
    """Runs by L-BFGS in float64, measured at the end alone, that no closeness to the known code stops."""
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
class Measured:
    """Runs of one case, with the best known code and its constants of first order."""

    case: Case
    runs: list[Run]

    @cached_property
    def lowest(self) -> dict[float, Run]:
        """At each temperature the run of lowest loss, temperatures falling."""
        taus = sorted({run.settings.temperature for run in self.runs}, reverse=True)
        return {tau: min(self._at(tau), key=lambda run: float(run.final.log_loss)) for tau in taus}

    def _at(self, tau: float) -> list[Run]:
        return [run for run in self.runs if run.settings.temperature == tau]

    def hits(self, tau: float) -> str:
        """How many runs reached the lowest loss at a temperature."""
        runs, least = self._at(tau), float(self.lowest[tau].final.log_loss)
        found = sum(tau * (float(run.final.log_loss) - least) <= SAME for run in runs)
        return f"{found} of {len(runs)}" + (" †" if self.beaten(tau) else "")

    def beaten(self, tau: float) -> bool:
        """Whether the best known code has a lower loss as it is, so that no run found a global minimiser."""
        code = sc.best_known(self.case.K, self.case.d)
        return tau * (float(self.lowest[tau].final.log_loss) - log_loss(code.W, code.H, tau)) > SAME

    @cached_property
    def optimum(self) -> float:
        """The best margin known."""
        return float(sc.best_known(self.case.K, self.case.d).margin)

    @cached_property
    def constants(self) -> FirstOrder:
        """Constants of first order of the best known code."""
        return first_order(sc.best_known(self.case.K, self.case.d))

    @cached_property
    def deficits(self) -> pd.Series:
        """Best margin less that of the run of lowest loss, by temperature."""
        return pd.Series({tau: _beyond_rounding(self.optimum - run.margin) for tau, run in self.lowest.items()})

    @cached_property
    def limits(self) -> list[tuple[SoftmaxCode, FirstOrder]]:
        """The local Softmax Codes that runs at the smallest temperature are near, by polishing them, lowest loss first.

        Left out are those that do not balance: no local optima, or contacts too nearly equal to be told apart.
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
        """That of the run of lowest loss."""
        return self.limits[0][0]

    @property
    def limit_constants(self) -> FirstOrder:
        """Constants of first order of that code."""
        return self.limits[0][1]

    @property
    def finds_best(self) -> bool:
        """Whether that code has the best margin known."""
        return self.limit.margin >= self.optimum - SAME_MARGIN

    def bound(self, tau: float) -> float:
        """T6 (c): the largest deficit of a global minimiser."""
        return self.optimum - minimizer_margin(self.case.K, self.optimum, tau)


def log_loss(W: np.ndarray, H: np.ndarray, temperature: float) -> float:
    """Logarithm of the mean cross-entropy of one feature a class, W and H of shape (K, d)."""
    logits = H @ W.T / temperature
    others = logits - np.diagonal(logits)[:, None]
    np.fill_diagonal(others, -np.inf)
    per_class = log_softplus(torch.tensor(logsumexp(others, axis=1))).numpy()
    return float(logsumexp(per_class) - math.log(len(W)))


def needed(deficits: pd.Series, allowed: float) -> float:
    """The largest temperature below which every deficit is at most ``allowed``, interpolated in logarithms.

    Parameters
    ----------
    deficits : Series
        Deficits by temperature, in any order.
    allowed : float
        The largest deficit wanted, above 0.

    Returns
    -------
    float
        0 if even the smallest temperature is too large, inf if every one is small enough.

    Examples
    --------
    >>> needed(pd.Series({0.1: 0.04, 0.01: 0.004}), 0.02).round(6)
    np.float64(0.05)
    """
    ordered = deficits.sort_index()
    above = np.flatnonzero(ordered.to_numpy() > allowed)
    if not len(above):
        return math.inf
    i = int(above[0])
    if i == 0:
        return 0.0
    x = np.log(ordered.index.to_numpy(dtype=float)[i - 1 : i + 1])
    y = np.log(np.maximum(ordered.to_numpy()[i - 1 : i + 1], ROUNDING))
    return np.exp(np.interp(math.log(allowed), y, x))


def needed_by_bound(K: int, margin: float, share: float) -> float:
    """The largest temperature at which T6 (c) promises this share of the margin."""
    low, high = math.log(1e-9), math.log(10.0)
    return math.exp(brentq(lambda x: minimizer_margin(K, margin, math.exp(x)) - share * margin, low, high))


# Tables


def _number(value: float, digits: int = 3) -> str:
    """To some digits."""
    return ABSENT if math.isnan(value) else f"{value:.{digits}g}"


def _beyond_rounding(deficit: float) -> float:
    return deficit if deficit > ROUNDING else 0.0


def _temperature(value: float, measured: Measured) -> str:
    """A temperature, or what bounds it."""
    if value == 0:
        return f"< {min(measured.lowest):g}"
    return f"> {max(measured.lowest):g}" if value == math.inf else f"{value:.2g}"


def needed_table(measured: Sequence[Measured]) -> pd.DataFrame:
    """Temperatures that suffice for a share of the best margin: measured, by T10 and by T6 (c)."""
    rows = []
    for each in measured:
        row = {"(K, d)": str(each.case), "ρ*": f"{each.optimum:.6f}"}
        for share in SHARES:
            allowed, c = (1 - share) * each.optimum, each.constants.margin
            row[f"{share:.1%}: measured"] = _temperature(needed(each.deficits, allowed), each)
            row[f"{share:.1%}: T10"] = f"{allowed / c:.2g}" if c > SAME_MARGIN else "any"
            row[f"{share:.1%}: T6 (c)"] = f"{needed_by_bound(each.case.K, each.optimum, share):.2g}"
        rows.append(row)
    return pd.DataFrame(rows)


def by_temperature(measured: Sequence[Measured], shown: str) -> pd.DataFrame:
    """One row a case and one column a temperature: "deficit / τ", "slope" of log deficit, or "found" by how many."""
    rows = []
    for each in measured:
        deficits, taus = each.deficits, list(each.lowest)
        row = {"(K, d)": str(each.case)}
        if shown == "slope":
            lost = deficits.to_numpy()
            slopes = np.diff(np.log(np.where(lost > 0, lost, math.nan))) / np.diff(np.log(taus))
            row |= {f"{b:g} – {a:g}": _number(s) for a, b, s in zip(taus, taus[1:], slopes, strict=False)}
        else:
            row |= {f"{tau:g}": each.hits(tau) if shown == "found" else _number(deficits[tau] / tau) for tau in taus}
        if shown == "deficit / τ":
            row |= {"c (T10)": f"{each.constants.margin:.4f}"}
        rows.append(row)
    return pd.DataFrame(rows).fillna(ABSENT)


def constants_table(measured: Sequence[Measured]) -> pd.DataFrame:
    """At the smallest temperature: measured deficit, T10 and T6 (c), for the best known code and for the run's own."""
    rows = []
    for each in measured:
        tau, run = min(each.lowest.items())
        own = each.limit_constants
        deficit = _beyond_rounding(each.limit.margin - run.margin)
        c, bound = own.margin, each.bound(tau)
        slope = ABSENT
        if deficit and each.finds_best and len(each.deficits) > 2:
            last = each.deficits.sort_index().iloc[:3]
            slope = f"{np.polyfit(np.log(last.index.to_numpy(dtype=float)), np.log(last.to_numpy()), 1)[0]:.4f}"
        rows.append(
            {
                "(K, d)": str(each.case),
                "limit / ρ*": f"{each.limit.margin / each.optimum:.9f}",
                "c": f"{c:.4f}",
                "deficit / τ": _number(deficit / tau, 4),
                "deficit − cτ": f"{deficit - c * tau:.1e}",
                "rate": slope,
                "T6 (c) / τ": f"{bound / tau:.2f}",
                "T6 (c) / measured": _number(bound / deficit) if deficit else ABSENT,
                "T10 / measured": f"{c * tau / deficit:.4f}" if deficit else ABSENT,
                "next gap": f"{own.next_gap:.1e}",
                "rigidity": own.rigidity,
            }
        )
    return pd.DataFrame(rows)


def crossing_table(measured: Sequence[Measured]) -> pd.DataFrame:
    """Local codes of less entropy than the best known: above which temperature they have the lower loss."""
    rows = []
    for each in measured:
        best = each.constants
        for code, own in each.limits:
            if not (code.margin < best.optimum - SAME_MARGIN and own.loss < best.loss):
                continue
            crossing = (best.optimum - code.margin) / (best.loss - own.loss)
            rows.append(
                {
                    "(K, d)": str(each.case),
                    "margin / ρ*": f"{code.margin / best.optimum:.6f}",
                    "c": f"{own.margin:.4f}",
                    "Ent(λ)": f"{own.loss:.4f}",
                    "of the best": f"{best.loss:.4f}",
                    "lower loss above τ": f"{crossing:.2g}",
                }
            )
    return pd.DataFrame(rows)


def certificate_table(measured: Sequence[Measured]) -> pd.DataFrame:
    """What the certificate of T6 (b) falls short of the margin, in temperatures."""
    rows = []
    for each in measured:
        tau, run = min(each.lowest.items())
        certified = float(run.final.certified_margin)
        entropy, K = each.limit_constants.loss, each.case.K
        rows.append(
            {
                "(K, d)": str(each.case),
                "(limit − certified) / τ": f"{(each.limit.margin - certified) / tau:.4f}",
                "Ent(λ)": f"{entropy:.4f}",
                "log(K (K − 1))": f"{math.log(K * (K - 1)):.2f}",
                "(limit − ρ(W)) / τ": _number(_beyond_rounding(each.limit.margin - run.margin) / tau),
                **{f"τ that certifies {share:.1%}": f"{(1 - share) * each.optimum / entropy:.2g}" for share in SHARES},
            }
        )
    return pd.DataFrame(rows)


def duality_table(measured: Sequence[Measured], temperatures: Sequence[float]) -> pd.DataFrame:
    """GNC3 and the distance of features from the projections, of the runs of lowest loss."""
    rows = []
    for each in measured:
        row = {"(K, d)": str(each.case)}
        for tau in temperatures:
            run = each.lowest[tau]
            row[f"{tau:g}"] = f"{abs(run.final.GNC3):.0e} / {abs(run.projection_distance):.0e}"
        rows.append(row)
    return pd.DataFrame(rows)


class Apart(NamedTuple):
    """Largest 1 − cosine over some classes: of feature and classifier, and of feature and projection direction."""

    classes: int
    duality: float
    projection: float


def tight_and_loose(run: Run) -> tuple[Apart, Apart]:
    """How far apart they are for the classes that hold the margin, and for the others; n = 1."""
    found = margins(run.W)
    H = run.H.reshape(-1, run.settings.d)
    loose = found.margins > found.margins.min() + LOOSE * run.settings.temperature
    duality, projection = (np.abs(1 - (other * H).sum(axis=1)) for other in (run.W, found.H))
    tight, rest = (
        Apart(int(mask.sum()), duality[mask].max(initial=0), projection[mask].max(initial=0))
        for mask in (~loose, loose)
    )
    return tight, rest


def rattling_table(measured: Sequence[Measured]) -> pd.DataFrame:
    """Where features of tight and loose classes stand as the temperature falls."""
    rows = []
    for each in measured:
        for tau, run in each.lowest.items():
            tight, loose = tight_and_loose(run)
            row = {"(K, d)": str(each.case), "τ": f"{tau:g}", "loose classes": str(loose.classes)}
            for name, apart in (("tight", tight), ("loose", loose)):
                known = apart.classes > 0
                row[f"{name}: from w"] = f"{apart.duality:.0e}" if known else ABSENT
                row[f"{name}: from projection"] = f"{apart.projection:.0e}" if known else ABSENT
            rows.append(row)
    return pd.DataFrame(rows)


def unequal_table(cases: Sequence[Unequal], steps: int) -> pd.DataFrame:
    """Duality where classes have different numbers of features."""
    rows = []
    for case in cases:
        for run in _batch(case.K, case.d, case.n, case.temperatures, 2, steps, None):
            tau = run.settings.temperature
            rows.append(
                {
                    "(K, d)": f"({case.K}, {case.d})",
                    "n": ", ".join(map(str, case.n)),
                    "τ": f"{tau:g}",
                    "seed": str(run.settings.seed),
                    "GNC1": f"{abs(run.final.GNC1):.0e}",
                    "GNC3": f"{abs(run.final.GNC3):.1e}",
                    "GNC3 / τ²": f"{abs(run.final.GNC3) / tau**2:.2f}",
                    "from projections": f"{abs(run.projection_distance):.1e}",
                    "the same / τ²": f"{abs(run.projection_distance) / tau**2:.3f}",
                }
            )
    return pd.DataFrame(rows)


# Figure


def draw(measured: Sequence[Measured], path: Path) -> None:
    """Deficit over temperature, with c; deficit of the last case beside the bounds; GNC3 and projections."""
    figure = new_figure((14, 4.6), dpi=100, layout="constrained")
    rate, bounds, duality = figure.subplots(1, 3)
    last = measured[-1]
    for i, each in enumerate(each for each in measured if each is not last and each.constants.margin > SAME_MARGIN):
        color, taus = f"C{i}", np.array(list(each.lowest))
        rate.plot(taus, each.deficits / taus, "o-", ms=3.5, lw=1.2, color=color, label=str(each.case))
        rate.axhline(each.constants.margin, color=color, lw=0.8, ls=":")
        bounds.plot(taus, each.deficits / each.optimum, lw=1, color=color, alpha=0.7)
        gnc3 = [max(abs(run.final.GNC3), 1e-16) for run in each.lowest.values()]
        duality.plot(taus, [max(run.projection_distance, 1e-16) for run in each.lowest.values()], lw=1.2, color=color)
        duality.plot(taus, gnc3, "o", ms=3.5, color=color)
    taus = np.array(list(last.lowest))
    fine = np.geomspace(taus.min(), taus.max(), 200)
    black = {"color": "black", "lw": 1.4}
    bounds.plot(taus, last.deficits / last.optimum, "o-", ms=4, label=f"measured, {last.case}", **black)
    bounds.plot(fine, last.constants.margin * fine / last.optimum, "--", label=f"T10, {last.case}", **black)
    bounds.plot(fine, [last.bound(t) / last.optimum for t in fine], ":", label=f"T6 (c), {last.case}", **black)
    for share in SHARES:
        bounds.axhline(1 - share, color="#9aa5b1", lw=0.8)
        bounds.text(taus.max(), 1 - share, f"{share:.1%}", ha="right", va="bottom", color="#5f6b76")
    bounds.set(yscale="log", ylim=(1e-6, 3), ylabel="deficit / ρ*", title="Share of the best margin that is lost")
    rate.set(ylabel="(ρ* − ρ(W)) / τ", ylim=(0, 1), title="Deficit in temperatures; dotted: c of T10")
    duality.set(yscale="log", ylabel="1 − cosine, mean over classes", title="Features from projections; dots: GNC3")
    rate.legend(frameon=False, ncols=2, fontsize=8)
    bounds.legend(frameon=False, fontsize=8, loc="lower right")
    for axes in (rate, bounds, duality):
        axes.set(xscale="log", xlabel="temperature τ")
        axes.grid(alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(figure, path)


# The document


def summary(measured: Sequence[Measured]) -> str:
    """The answer in a few sentences, with the numbers of these runs."""
    tau = min(min(each.lowest) for each in measured)
    exact = [each for each in measured if each.finds_best and each.deficits[tau] > 0]
    off = [abs(each.constants.margin * tau / each.deficits[tau] - 1) for each in exact]
    over = [each.bound(tau) / each.deficits[tau] for each in exact]
    last = measured[-1]
    allowed = 0.01 * last.optimum
    lines = [
        "Near a Softmax Code the margin lost is proportional to the temperature, ρ* − ρ(W_τ) ≈ c τ: at "
        f"τ = {tau:g} T10 gives the measured deficit to {max(off):.2%} at all {len(exact)} pairs whose runs of lowest "
        "loss tend to the best known code and lose anything."
        if exact
        else "",
        f"T6 (c) promises the same rate with a constant {min(over):.0f} to {max(over):.0f} times as large."
        if exact
        else "",
        f"For 99 % of the best known margin at {last.case} T10 asks for τ = {allowed / last.constants.margin:.1g} and "
        f"T6 (c) for τ = {needed_by_bound(last.case.K, last.optimum, 0.99):.1g}; the runs of lowest loss have it "
        + _reached(last, allowed)
        if last.constants.margin > SAME_MARGIN
        else "",
    ]
    return " ".join(line for line in lines if line)


def _reached(each: Measured, allowed: float) -> str:
    enough = [tau for tau in each.lowest if each.deficits[tau] <= allowed]
    if not enough:
        return "at no temperature: they end in local optima."
    short = each.deficits[min(each.lowest)] / each.optimum
    return (
        "at τ = "
        + ", ".join(f"{tau:g}" for tau in enough)
        + (
            f", and end in a local optimum, {short:.1%} below at τ = {min(each.lowest):g}."
            if not each.finds_best
            else "."
        )
    )


READING = r"""## What the tables say

- *The rate is 1.* Where the run of lowest loss is near the best known code, the local rate is 1 to a few percent from
  $\tau = 10^{-3}$ on, and the constant is that of T10. Symmetric codes such as $(12, 3)$ lose nothing at any
  temperature.
- *T6 (c) is safe and far off*, by the factors of the table: it has to allow for every code of K classes.
- *At larger temperatures another code can have the lower loss.* At $(14, 3)$ a local Softmax Code of margin
  $0.969\,\rho^\star$ has less entropy, and to first order the lower loss above $\tau \approx 0.046$. Runs annealed
  from 0.3 follow it down and end there; those that begin at 0.03 find the best known code. So annealing should not
  begin far above the temperature at which the best code has the lower loss.
- *Local optima cost more than the temperature.* At $(25, 4)$ and $(100, 10)$ runs at small $\tau$ end in local
  Softmax Codes; the table at the smallest $\tau$ shows that T10 holds at these too, with their own constants. A
  smaller temperature does not mend that.
- *The certificate is dearer than the margin*: it loses $\mathrm{Ent}(\lambda)$ temperatures, however small c is. To
  certify a share of the best margin takes about the temperature at which T6 (c) promises it.
- *GNC3 tends to 0 in every run of equal classes*: from $\tau = 0.01$ on it is at most 1e-7 at $(22, 6)$ with its loose
  classes and below 1e-12 elsewhere, while the distance from the projection directions falls as $\tau^2$ (but for
  $(22, 6)$, see below). With equal classes and
  small loss $K L_\tau$ is, but for a relative $e^{-m/\tau}$, the sum F of all
  $e^{-\langle h_k, w_k - w_j\rangle/\tau}$. At $H = W$ its terms $p_{kj}$ are symmetric, and its gradients at $w_i$
  and $h_i$ are both $\frac1\tau P_{w_i} \sum_j p_{ij} w_j$: gradient flow of F keeps $H = W$, and what is stationary
  there is stationary for F. The limits found are codes with $\rho = 1 - \mu$, whose stressed classes have $h_k = w_k$
  by T1 (T2 (b), T5): *projection direction and classifier agree in the limit*. At $\tau \gt 0$ the projection
  directions of $W_\tau$ differ from $w_k$ by angles of order $\tau$.
- *No case where GNC3 tends to anything but 0 was found.* It would take a local Softmax Code with a stressed class
  whose projection direction is not its own vector; [the search for one](open-question-1.md) met none either. (For a
  classifier that is held fixed T1 leaves GNC3 at whatever the classifier has.)
- *A rattler's feature need not reach its projection*: at $(20, 3)$ it does, at $(22, 6)$ not. The loss of a loose
  class is a factor $e^{-(\rho_k - \rho)/\tau}$ below that of the others, about $e^{-500}$ at $(22, 6)$ and
  $\tau = 10^{-4}$, which no optimiser of the whole loss feels: the class rests where its forces faded, near
  $h_k = w_k$ but not at the projection. Exact minimisers would not differ in the limit: a rattler caged by classes
  with $h_j = w_j$ has $\min(\rho_k, 1 - \mu_k)$ to maximise, which is $1 - \mu_k$ by T2 (a), and where that is
  largest $h_k = w_k$ by T2 (b).
- *Unequal classes* break the symmetry: GNC3 is then of order $\tau^2$ as well, and still tends to 0.
"""


def document(plan: Plan, command: str, link: str, figure: Path | None) -> str:
    """Run the plan, draw, and describe."""
    begin = time.perf_counter()
    measured = []
    for case in (*plan.cases, *plan.rattling):
        measured.append(Measured(case, simulate(case, plan.temperatures)))
        print(f"{case}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    main, rattling = measured[: len(plan.cases)], measured[len(plan.cases) :]
    if figure is not None:
        draw(main, figure)
    sections = [
        Section(
            "Temperature needed",
            "The largest temperature from which on the run of lowest loss has 99 % and 99.9 % of the best known "
            "margin, interpolated between those measured; what T10 says, (1 − share) ρ* / c; and what suffices by "
            "T6 (c) for every global minimiser.",
            needed_table(main),
        ),
        Section(
            "Deficit in temperatures",
            "(ρ* − ρ(W)) / τ of the run of lowest loss at each τ, with ρ* the best margin known. T10 says that it "
            "tends to c at the minimisers near the best known code.",
            by_temperature(main, "deficit / τ"),
        ),
        Section(
            "Local rate",
            "d log(ρ* − ρ(W)) / d log τ between neighbouring temperatures: 1 is proportional.",
            by_temperature(main, "slope"),
        ),
        Section(
            "How often it was found",
            f"Runs whose τ log L is within {SAME:g} of the lowest at that τ. † the best known code has a lower loss as "
            "it is: no run found a global minimiser there.",
            by_temperature(main, "found"),
        ),
        Section(
            f"At τ = {min(plan.temperatures):g}",
            "The run of lowest loss, polished into the local Softmax Code that it is near (*limit*), and the constants "
            "of that code: c and rate of T10 (*rate*: slope of log deficit over the three smallest temperatures, where "
            "the limit is the best known code), and T6 (c), which is stated for ρ*. The deficit is from the limit. "
            "*Next gap*: how far above its margin the nearest pair without contact is; T10 sets in well below it.",
            constants_table(main),
        ),
        Section(
            "Which code has the lower loss",
            "Near a code τ log(K L) = −ρ + τ Ent(λ) to first order (T10 (a)), so a local Softmax Code of less entropy "
            "has the lower loss above τ = (ρ* − ρ) / (Ent* − Ent). These are the limits of runs at the smallest τ that "
            "have such a τ.",
            crossing_table(main),
        ),
        Section(
            "What the certificate costs",
            "The margin that the loss certifies (T6 (b)) is below that of the limit by Ent(λ) temperatures to first "
            "order (T10 (a)), however small the deficit of the margin itself. With n features a class log n is added.",
            certificate_table(main),
        ),
        Section(
            "Self-duality and projections",
            "GNC3 / distance of the features from the projection directions of T1 (`Run.projection_distance`), both "
            "means over classes of 1 − cosine, of the run of lowest loss; n = 1.",
            duality_table(measured, plan.temperatures),
        ),
        Section(
            "Rattlers",
            "Of the run of lowest loss: the largest 1 − cosine of a feature with its own classifier vector and with "
            "its projection direction. *Loose*: classes whose one-vs-rest distance exceeds the smallest by more than "
            f"{LOOSE} τ; the best known codes at (20, 3) and (22, 6) have two rattlers each.",
            rattling_table(rattling),
        ),
        Section(
            "Unequal classes",
            "The same two distances where classes have different numbers of features, at held temperatures.",
            unequal_table(plan.unequal, main[0].case.steps),
        ),
    ]
    head = (
        "# How small must the temperature be?\n\nThe second open question of the paper asks how the temperature must "
        f"be chosen for the margin of the learned classifier to be near its optimum.\n\n{summary(main)}\n"
    )
    how = (
        "Every number is of random starts of `ufm` (n = 1, L-BFGS, float64, τ log L), none started from a known code: "
        + "; ".join(
            f"{seeds} seeds from each of τ = {', '.join(map(str, starts))} downwards, at most {steps:,} steps, at "
            + ", ".join(str(case) for case in plan.cases if (case.starts, case.seeds, case.steps) == key)
            for key in dict.fromkeys((case.starts, case.seeds, case.steps) for case in plan.cases)
            for starts, seeds, steps in (key,)
        )
        + ". Where τ is not below a start it is held. At each τ the run of lowest loss counts. T6 and T10 are sections "
        "of [theory.md](theory.md). ρ* is that of the best known code, not proved optimal in general.\n"
    )
    tail = (
        f"## How it was made\n\nMade by `{command}` in {time.perf_counter() - begin:.0f} s, "
        f"{time.process_time():.0f} s of them on a processor, on\n\n{machine()}\n\n"
        "with one thread of PyTorch. Runs are deterministic on one machine; on another, rounding can lead one to "
        "another local optimum.\n"
    )
    image = f"![Deficit by temperature, bounds, and duality]({link})\n"
    first, *rest = (section.markdown() for section in sections if len(section.table))
    reading = [READING] if plan is FULL else []
    return "\n".join([head, how, first, image, *reading, *rest, tail])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the document and write it."""
    write_document("temperature", "temperature", __doc__, document, FULL, QUICK, arguments)


if __name__ == "__main__":
    main()
