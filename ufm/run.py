"""The result of a simulation: the history, the final rows, and their comparison with the best known code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.checks.limits import NotComputed
from softmaxcode.compare import Comparison
from softmaxcode.compare import compare as compare_classifier
from softmaxcode.margins.exact import margins
from softmaxcode.sphere import check_rows, unit_rows
from ufm.recording import COLUMNS, MAX_EXACT, best_known_label, best_known_margin, violation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ufm.settings import Settings

#: Projection directions are computed up to this many classes: one small quadratic programme each.
MAX_PROJECTED = 5000
#: Classifiers are compared with a code up to this many classes; beyond that only margins are compared.
MAX_COMPARED = 10_000
#: Rounding error of a certificate, relative to margins of order 1.
ROUNDING = 1e-12


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """A run of the unconstrained feature model.

    Attributes
    ----------
    settings : Settings
        The settings of the run.
    W : ndarray, shape (K, d)
        The classifier at the last measured step, in the precision of the run.
    H : ndarray, shape (K, n, d), or (N, d) where classes have different numbers of features
        The features, those of class 0 first.
    history : DataFrame
        One row for each measured step: step, temperature, loss, log_loss, GNC1, GNC2, GNC3, GNC3_centred,
        feature_margin, certified_margin, gap, seconds (docs/ufm.md defines each).
    status : str
        "stationary", "stalled", "gap", "steps", or "diverged": why it ended (docs/ufm.md).
    reason : str
        The same as a sentence.

    Examples
    --------
    >>> import ufm
    >>> run = ufm.simulate(K=4, d=3, n=2, temperature=0.1, steps=200)
    >>> run.status, run.W.shape, run.H.shape
    ('stationary', (4, 3), (4, 2, 3))
    >>> round(run.margin, 6)  # the simplex, 4/3
    1.333333
    """

    settings: Settings
    W: np.ndarray
    H: np.ndarray
    history: pd.DataFrame
    status: str
    reason: str

    def __repr__(self) -> str:
        what = (
            f"K={self.settings.K}, d={self.settings.d}, n={self.settings.n}, temperature={self.settings.temperature:g}"
        )
        return f"Run({what}, seed={self.settings.seed}: {self.status}, margin={self.margin:.6g})"

    @property
    def final(self) -> pd.Series:
        """The last row of the history."""
        return self.history.iloc[-1]

    @property
    def margin(self) -> float:
        """The final margin: GNC2, or that of a sample of classes where there are more than 200,000."""
        return float(self.final["GNC2"])

    @property
    def labels(self) -> np.ndarray:
        """The class of each feature, shape (N,)."""
        return np.repeat(np.arange(self.settings.K), self.settings.counts)

    @property
    def best_known(self) -> float:
        """The best known margin of (K, d), NaN where no code is stored.

        Where ``best_known_label`` is "margin of a construction that was never searched", it may be far from the best.
        """
        return best_known_margin(self.settings.K, self.settings.d)

    @property
    def best_known_label(self) -> str:
        """What ``best_known`` may be called: the best known margin, or that of a construction never searched."""
        return best_known_label(self.settings.K, self.settings.d)

    @property
    def minimizer_bound(self) -> float:
        """The lower bound on the margin of global minimisers, at the last temperature (docs/theory.md, T6), or NaN."""
        if math.isnan(self.best_known) or not self.settings.spherical or self.settings.objective == "hardmax":
            return math.nan
        return minimizer_margin(
            self.settings.K, self.best_known, float(self.final["temperature"]), imbalance=self.settings.imbalance
        )

    @property
    def meets_bound(self) -> bool | None:
        """Whether the margin is at least ``minimizer_bound``; None where that is not above 0 and proves nothing.

        It is also None where the margin is that of a sample of classes, an upper value.
        """
        if not self.minimizer_bound > 0 or self.settings.K > MAX_EXACT:
            return None
        return bool(self.margin >= self.minimizer_bound - ROUNDING)

    @property
    def violations(self) -> int:
        """Measured steps that violate certified margin <= feature margin <= margin; a positive count is an error."""
        return sum(violation(dict(row)) > ROUNDING for _, row in self.history.iterrows())

    def compare(self, *, align: bool = True, seed: int = 0) -> RunComparison:
        """Compare the classifier with the best known Softmax Code, and the run with the theory of its limit.

        Parameters
        ----------
        align : bool
            Find the relabelling and rotation that bring the code nearest; up to K = 1000.
        seed : int
            Seed of that search.

        Returns
        -------
        RunComparison
            ``print`` shows it.
        """
        W = np.asarray(self.W, dtype=np.float64)
        with_code = compare_classifier(W, align=align, seed=seed) if self.settings.K <= MAX_COMPARED else None
        return RunComparison(self, with_code)

    @cached_property
    def projection_directions(self) -> np.ndarray:
        """For each class, the direction to it from the hull of the others: the limit of its features (T1), (K, d).

        Raises
        ------
        NotComputed
            For more than ``MAX_PROJECTED`` classes.
        """
        if self.settings.K > MAX_PROJECTED:
            raise NotComputed(f"not computed: the projections of {self.settings.K} classes (at most {MAX_PROJECTED})")
        return margins(check_rows(np.asarray(self.W, dtype=np.float64), normalize=True)).H

    @property
    def projection_distance(self) -> float:
        """GNC3 with the projection directions in place of the classifier: mean of 1 - <h*_k, mean feature of k>."""
        H = unit_rows(np.asarray(self.H, dtype=np.float64).reshape(-1, self.settings.d))
        means = np.zeros((self.settings.K, self.settings.d))
        np.add.at(means, self.labels, H)
        return float(np.mean(1 - np.sum(unit_rows(means) * self.projection_directions, axis=1)))

    def row(self) -> dict[str, Any]:
        """Scalars of the final state, for a row of a data frame."""
        settings = self.settings
        (last,) = self.history[-1:].to_dict("records")  # `final` would convert the step to a float
        return {
            "K": settings.K,
            "d": settings.d,
            "n": settings.samples / settings.K,
            "seed": settings.seed,
            **{name: last[name] for name in self.history.columns},
            "steps": settings.steps,
            "optimizer": settings.optimizer,
            "objective": settings.objective,
            "status": self.status,
            "best_known": self.best_known,
            "ratio": self.margin / self.best_known,
            "minimizer_bound": self.minimizer_bound,
            "meets_bound": self.meets_bound,
            "violations": self.violations,
        }


@dataclass(frozen=True, eq=False)
class RunComparison:
    """A run compared with the best known Softmax Code and with theory; `print` shows it.

    Attributes
    ----------
    run : Run
        The run.
    code : Comparison or None
        Margin ratio and alignment of its classifier (`softmaxcode.compare.compare`); None for more than
        ``MAX_COMPARED`` classes.
    """

    run: Run
    code: Comparison | None

    @property
    def margin_ratio(self) -> float:
        """The margin divided by the best known one, or by the proved upper bound where no code is stored; or NaN."""
        return self.run.margin / self.run.best_known if self.code is None else self.code.margin_ratio

    @cached_property
    def limits(self) -> pd.DataFrame:
        """Theoretical limits and whether they are met: one row each, with the required and the measured value.

        The measured value has to reach the required number or, for the distances, be below it. These limits are valid
        as the temperature tends to 0, so a run at a large temperature need not meet them. A required value of None
        means no requirement: a bound that is not above 0, or GNC1 of one feature per class.
        """
        run, final = self.run, self.run.final
        rows: list[tuple[str, str, float, float, bool | None]] = []

        def at_least(name: str, where: str, wanted: float, measured: float) -> None:
            is_bound = wanted > 0  # not NaN, and more than any margin is
            rows.append((name, where, wanted, measured, bool(measured >= wanted - ROUNDING) if is_bound else None))

        at_least("margin certified by the loss", "T6 (b)", float(final["certified_margin"]), run.margin)
        at_least("margin of a global minimiser", "T6 (c)", run.minimizer_bound, run.margin)
        at_least(f"99 % of the {run.best_known_label} (GNC2)", "T1, T3", 0.99 * run.best_known, run.margin)
        below: Mapping[str, tuple[str, float]] = {
            "variability within classes (GNC1)": ("T6", float(final["GNC1"]) if run.settings.n != 1 else math.nan),
            "features from projections (GNC3)": ("T1", self._projection_distance),
            "features from classifier (self-duality)": ("T2", float(final["GNC3"])),
        }
        for name, (where, measured) in below.items():
            rows.append((name, where, 1e-3, measured, None if math.isnan(measured) else measured <= 1e-3))
        return pd.DataFrame(rows, columns=["limit", "theory", "asked", "measured", "met"])

    @property
    def _projection_distance(self) -> float:
        try:
            return self.run.projection_distance
        except NotComputed:
            return math.nan

    @property
    def verdict(self) -> str:
        """Whether the margin is at least the bound of every global minimiser, the run a local minimum, or neither."""
        bound, margin, meets = self.run.minimizer_bound, self.run.margin, self.run.meets_bound
        if math.isnan(bound):
            if not self.run.settings.spherical or self.run.settings.objective == "hardmax":
                return "T6 (c) is about cross-entropy on the sphere, not about this run"
            return "no bound of T6 (c): no code is stored for this (K, d)"
        if meets is None:
            return f"the bound of T6 (c) proves nothing here: it is {bound:.6f}, of a margin of {margin:.6f}"
        if meets:
            return (
                f"margin {margin:.6f}: at least the bound {bound:.6f} of every global minimiser (T6 (c)), which a "
                "local minimum may reach too"
            )
        what = "a local minimum" if self.run.status == "stationary" else "no global minimiser, and not stationary"
        return f"{what}: margin {margin:.6f} is below the bound {bound:.6f} of every global minimiser (T6 (c))"

    def __str__(self) -> str:
        parts = [
            self.run.reason,
            self.verdict,
            self.limits.to_string(index=False, float_format="{:.6g}".format, na_rep="–"),
        ]
        return "\n".join([*parts, str(self.code)] if self.code is not None else parts)


def history_frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """The rows of one run as its history, in the order of ``COLUMNS``."""
    extra = ["unsure_fraction"] if any("unsure_fraction" in row for row in rows) else []
    return pd.DataFrame(rows, columns=[*COLUMNS, *extra]).astype({"step": int})
