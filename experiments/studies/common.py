"""What the studies share: labels of runs, their last measurements, and what a margin is compared with."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd

import ufm
from experiments.data import DATASETS
from experiments.drawing import HEAD_LABELS
from experiments.rendering import statements
from experiments.settings import RunSettings
from experiments.statistics import Interval, mean_interval, paired_difference
from experiments.tables import interval_columns
from softmaxcode.certificates.loss import minimizer_margin
from softmaxcode.metrics import GNC2
from softmaxcode.pages import Findings
from softmaxcode.storage.provenance import Evidence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from experiments.runs import TrainedRun

#: Of `final_values`, with their labels; accuracies are in per cent.
MEASURES = {
    "GNC1": "GNC1",
    "GNC2": "GNC2",
    "fraction": "fraction of best known",
    "GNC3": "GNC3",
    "test_accuracy": "test accuracy, %",
    "ncm_accuracy": "NCM accuracy, %",
    "certified_margin": "certified margin",
}
NOTE = "NCM is the nearest class mean; a certified margin is meaningful above 0 only, and is left out below."
#: The unnormalised baseline is trained at this temperature unless a study varies it, which is how it is used.
LINEAR_TEMPERATURE = 1.0
#: Starts of the unconstrained feature model, and steps of each at most.
UFM_SEEDS, UFM_STEPS = 3, 1500
#: It is not simulated for more classes, which would take more than minutes.
MAX_UFM_CLASSES = 1024


def check_not_fixed(settings: dict[str, Any], **options: str) -> None:
    """Raise a ValueError if settings fix a field that a study varies, naming the option of it.

    Examples
    --------
    >>> check_not_fixed({"epochs": 3}, seed="seeds")
    >>> check_not_fixed({"seed": 3}, seed="seeds")
    Traceback (most recent call last):
    ...
    ValueError: seed is varied by this study: pass seeds instead; got 3
    """
    for field, option in options.items():
        if field in settings:
            raise ValueError(f"{field} is varied by this study: pass {option} instead; got {settings[field]!r}")


def class_count(settings: RunSettings) -> int:
    """Classes of a run's data set, without reading it.

    Raises
    ------
    ValueError
        If only the folder determines it, and ``classes`` does not choose among them.

    Examples
    --------
    >>> class_count(RunSettings.checked("cifar100"))
    100
    """
    if "classes" in settings.data_options:
        return len(settings.data_options["classes"])
    K = DATASETS[settings.data].K
    if K is None:
        raise ValueError(
            f"the number of classes of {settings.data} must be given: data_options with classes, [0, 1, ...]"
        )
    return K


def cell_label(head: str, temperature: float) -> str:
    """The label for the runs of a head and temperature.

    Examples
    --------
    >>> cell_label("cmf", 1 / 7)
    'class means (CMF), τ = 0.143'
    """
    return f"{HEAD_LABELS[head]}, τ = {temperature:.3g}"


def run_label(run: TrainedRun) -> str:
    """`cell_label` of a run."""
    return cell_label(run.settings.head, run.settings.temperature)


def nothing_found(
    runs: Sequence[TrainedRun], label: Callable[[TrainedRun], str] = run_label, what: str = ""
) -> Findings:
    """What is found where no run, or none of one kind, is finished, or none but those that diverged."""
    return Findings(statements("nothing", what=what, diverged=incomplete(runs, label)["diverged"], missing=[]))


def incomplete(
    runs: Iterable[TrainedRun],
    label: Callable[[TrainedRun], str] = run_label,
    alike: Callable[[TrainedRun], Any] = lambda run: None,
) -> dict[str, list[tuple[str, list[int]]]]:
    """Which runs diverged, and which are missing: seeds that others of their kind have.

    Parameters
    ----------
    runs : iterable of TrainedRun
        Of any status.
    label : callable
        The label of a run without its seed.
    alike : callable
        Runs for which this gives the same are of one kind, and are planned with the same seeds; by default all are.

    Returns
    -------
    dict
        ``diverged`` and ``missing``, each a list of labels with their seeds, in order. A run that diverged is not
        missing.
    """
    kinds: dict[Any, list[TrainedRun]] = {}
    for run in runs:
        kinds.setdefault(alike(run), []).append(run)
    diverged = _seeds((run for kind in kinds.values() for run in kind if run.status != "finished"), label)
    missing = []
    for kind in kinds.values():
        seeds = _seeds(kind, label)
        everyone = set().union(*seeds.values())
        missing += [(name, sorted(everyone - there)) for name, there in seeds.items() if everyone - there]
    return {"diverged": sorted((name, sorted(there)) for name, there in diverged.items()), "missing": sorted(missing)}


def _seeds(runs: Iterable[TrainedRun], label: Callable[[TrainedRun], str]) -> dict[str, set[int]]:
    """Seeds of runs by their labels."""
    out: dict[str, set[int]] = {}
    for run in runs:
        out.setdefault(label(run), set()).add(run.settings.seed)
    return out


def paired_groups(a: pd.DataFrame, b: pd.DataFrame, name: str) -> Interval:
    """A column of one group less that of another, over their common seeds.

    Examples
    --------
    >>> a = pd.DataFrame({"seed": [0, 1, 2], "GNC2": [0.5, 0.6, 0.7]})
    >>> str(paired_groups(a, a[1:].assign(GNC2=0.1), "GNC2"))
    '0.55 ± 0.64 (n = 2)'
    """
    by_seed = [dict(zip(group["seed"], group[name], strict=True)) for group in (a, b)]
    return paired_difference(by_seed[0], by_seed[1])


def final_values(runs: Iterable[TrainedRun]) -> pd.DataFrame:
    """The last measurement of every run that did not diverge.

    Parameters
    ----------
    runs : iterable of TrainedRun
        Of any status.

    Returns
    -------
    DataFrame
        One row per run: ``data``, ``network``, ``head``, ``temperature``, ``d``, ``K``, ``seed``, ``key``,
        ``best_known`` (the best margin known of (K, d), NaN where no code is stored) and `MEASURES`, where ``fraction``
        is GNC2 over it.
    """
    names = ("data", "network", "head", "temperature", "d", "seed", "key")
    rows = []
    for run in runs:
        if run.status != "finished":
            continue
        K, d = run.W.shape
        known = best_known_margin(K, d)
        final = run.final
        rows.append(
            {name: getattr(run.settings, name) for name in names}
            | {"K": K, "best_known": known, "fraction": final["GNC2"] / known}
            | {name: (100 if "accuracy" in name else 1) * final[name] for name in MEASURES if name != "fraction"}
        )
    return pd.DataFrame(rows, columns=[*names, "K", "best_known", *MEASURES])


def every_run(finals: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Columns of `final_values`, with `MEASURES` by their labels; a certificate that proves nothing is missing."""
    certified = finals["certified_margin"].where(finals["certified_margin"] > 0)
    return finals.assign(certified_margin=certified)[[*names, *MEASURES, "key"]].rename(columns=MEASURES)


def mean_columns(group: pd.DataFrame, labels: Mapping[Any, str]) -> dict[str, float]:
    """Mean and bounds of columns, each by its label."""
    return {
        column: value
        for name, label in labels.items()
        for column, value in interval_columns(label, mean_interval(group[name])).items()
    }


def measure_columns(group: pd.DataFrame) -> dict[str, float]:
    """`mean_columns` of `MEASURES`, without certified margins where none is above 0."""
    certified = group["certified_margin"].max() > 0
    return mean_columns(group if certified else group.assign(certified_margin=math.nan), MEASURES)


@functools.cache
def _reference(K: int, d: int) -> GNC2:
    return GNC2(K, d)


def best_known_margin(K: int, d: int) -> float:
    """The best known margin of K unit vectors in dimension d; NaN where no code is stored.

    Where a construction of this K and d was never searched, a search of five seconds improves it first, as in
    `softmaxcode.metrics.GNC2`.
    """
    limit = _reference(K, d).limit
    return math.nan if limit is None else limit


def reference_label(K: int, d: int) -> str:
    """What `best_known_margin` may be called.

    Examples
    --------
    >>> reference_label(10, 3)
    'best known margin'
    """
    searched = _reference(K, d).evidence != Evidence.CONSTRUCTION
    return "best known margin" if searched else "margin of a construction that was never searched,"


@dataclass(frozen=True)
class MarginRatio:
    """The mean margin of runs of one K and d beside the best known, which is NaN where no code is stored."""

    K: int
    d: int
    best_known: float
    ratio: float

    @classmethod
    def of(cls, group: pd.DataFrame) -> MarginRatio:
        """Of rows of `final_values`."""
        K, d, known = group[["K", "d", "best_known"]].iloc[0]
        return cls(int(K), int(d), float(known), float(group["fraction"].mean()))

    @property
    def known(self) -> bool:
        """Whether a code is stored."""
        return math.isfinite(self.best_known)

    @property
    def label(self) -> str:
        """What ``best_known`` may be called."""
        return reference_label(self.K, self.d)

    @property
    def excess(self) -> float:
        """By how much the networks' margin exceeds ``best_known``."""
        return (self.ratio - 1) * self.best_known

    @property
    def improves(self) -> bool:
        """Whether the networks' margin is larger; a millionth is left to rounding."""
        return self.ratio > 1 + 1e-6


@functools.cache
def ufm_margin(K: int, d: int, temperature: float) -> Interval:
    """GNC2 of the unconstrained feature model from random starts: features free on the sphere, one a class.

    It is what the loss and its local minima leave of the best known margin, whatever the network. Runs that are not at
    rest after `UFM_STEPS` steps, as at warm temperatures, do not count; NaN where none is, and for more than
    `MAX_UFM_CLASSES` classes.

    Examples
    --------
    >>> found = ufm_margin(4, 2, 0.1)
    >>> round(found.mean, 5), found.n  # the square
    (1.0, 3)
    """
    if K > MAX_UFM_CLASSES:
        return mean_interval([])
    runs = ufm.simulate_batch(K, d, 1, [temperature], list(range(UFM_SEEDS)), steps=UFM_STEPS, progress=False)
    return mean_interval(run.margin for run in runs if run.status not in ("steps", "diverged"))


def least_margin(K: int, best_known: float, temperature: float) -> float:
    """What GNC2 of a global minimiser is at least (docs/theory.md, T6); NaN where that is below 0 or not known.

    Examples
    --------
    >>> round(least_margin(4, 1.0, 0.1), 3), least_margin(4, 1.0, 1.0)
    (0.751, nan)
    """
    value = minimizer_margin(K, best_known, temperature) if math.isfinite(best_known) else math.nan
    return value if value > 0 else math.nan
