"""Generalized neural collapse along training, by head (the paper's Figure 3)."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import pandas as pd
from matplotlib.ticker import MaxNLocator

import ufm
from experiments import paper
from experiments.drawing import COLOURS, HEAD_COLOURS, HEAD_WORDS, axes_figure, band_panel, legend_below, level
from experiments.settings import Settings
from experiments.statistics import Interval, mean_interval, paired_difference
from experiments.studies.findings import Findings
from softmaxcode.loss_certificate import minimizer_margin
from softmaxcode.sphere import check_integer
from ufm.recording import best_known_margin

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure

    from experiments.runs import Run

TITLE = "Generalized neural collapse (Figure 3)"
QUESTION = (
    "Do networks with many classes collapse as the theory says, and how near does the margin come to the best known?"
)

#: What is measured at the end of a run, with its words.
MEASURES = {
    "GNC1": "GNC1",
    "GNC2": "GNC2",
    "share": "share of best known",
    "GNC3": "GNC3",
    "test_accuracy": "test accuracy",
    "ncm_accuracy": "NCM accuracy",
    "certified_margin": "certified margin",
}
NOTE = "NCM is the nearest class mean; a certified margin below 0 says nothing."
#: What is asked of the learned head on digit-pairs at d = 10 and temperature 1/10: bound, and whether from below.
ASKED = {"share": (0.80, True), "GNC1": (0.02, False), "GNC3": (0.01, False)}
#: The unnormalised baseline is trained at this temperature alone, which is how it is used.
LINEAR_TEMPERATURE = 1.0
#: Line styles of the temperatures.
STYLES = ("-", "--", "-.", ":")
#: Starts of the unconstrained feature model, and steps of each at most.
UFM_SEEDS, UFM_STEPS = 3, 500
#: It is not simulated for more classes, which would take more than minutes.
MAX_UFM_CLASSES = 1024


def plan(
    *,
    seeds: int = 5,
    heads: tuple[str, ...] = ("learned", "cmf", "code", "linear"),
    temperatures: tuple[float, ...] = (0.1,),
    **settings: Any,
) -> list[Settings]:
    """Each head at each temperature, with the first seeds first.

    Parameters
    ----------
    seeds : int
        Runs of each, at least 1.
    heads : tuple of str
        As of `Settings`. The linear head is the usual unnormalised baseline, trained at temperature 1 alone.
    temperatures : tuple of float
        Of the other heads.
    **settings
        Of all runs, as `Settings.checked` takes them.

    Returns
    -------
    list of Settings

    Raises
    ------
    ValueError
        If ``settings`` fixes what is varied here, or something is out of range.

    Examples
    --------
    >>> [(run.head, run.temperature) for run in plan(seeds=1)]
    [('learned', 0.1), ('cmf', 0.1), ('code', 0.1), ('linear', 1.0)]
    """
    check_not_fixed(settings, head="heads", temperature="temperatures", seed="seeds")
    return [
        Settings.checked(head=head, temperature=temperature, seed=seed, **settings)
        for seed in range(check_integer("seeds", seeds, 1))
        for head in heads
        for temperature in ((LINEAR_TEMPERATURE,) if head == "linear" else temperatures)
    ]


def check_not_fixed(settings: dict[str, Any], **options: str) -> None:
    """Raise a ValueError if settings fix a field that a study varies, naming the option that says it."""
    for field, option in options.items():
        if field in settings:
            raise ValueError(f"{field} is varied by this study: say {option} instead; got {settings[field]!r}")


def findings(runs: Sequence[Run]) -> Findings:
    """GNC1 to GNC3 over epochs and at the end, beside the limits of theory, the feature model and the paper.

    Parameters
    ----------
    runs : sequence of Run
        Finished runs of the plan, or some of them.

    Returns
    -------
    Findings
    """
    finals = final_values(runs)
    if finals.empty:
        return Findings([nothing(runs), *diverged_sentences(runs)])
    groups = dict(list(finals.groupby(["K", "d", "head", "temperature"], sort=False)))
    statements = [_collapse_sentence(group) for group in groups.values()]
    statements += _ufm_sentences(groups)
    statements += _accuracy_sentences(groups)
    statements += diverged_sentences(runs)
    statements += missing_sentences(runs, {_words(group.iloc[0]): group for group in groups.values()})
    every = finals[["head", "temperature", "d", "seed", *MEASURES, "key"]]
    return Findings(
        statements,
        {
            f"At the end of training: mean and 95 % interval over the seeds. {NOTE}": _table(
                groups, runs[0].settings.data
            ),
            "Every run": every.rename(columns=MEASURES),
        },
        {"Along training: mean over the seeds, in the band of its 95 % interval": _figure(runs, groups)},
    )


def final_values(runs: Sequence[Run]) -> pd.DataFrame:
    """The last measurement of every run that did not diverge.

    Returns
    -------
    DataFrame
        A row a run: ``data``, ``network``, ``head``, ``temperature``, ``d``, ``K``, ``seed``, ``key``, ``best_known``
        (the best margin known of (K, d), NaN where no code is held) and `MEASURES`, where ``share`` is GNC2 over it.
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
            | {"K": K, "best_known": known, "share": final["GNC2"] / known}
            | {name: final[name] for name in MEASURES if name != "share"}
        )
    return pd.DataFrame(rows, columns=[*names, "K", "best_known", *MEASURES])


def nothing(runs: Sequence[Run]) -> str:
    """Why there is nothing to say."""
    return "No run is finished but those that diverged." if runs else "No run is finished."


def diverged_sentences(runs: Sequence[Run]) -> list[str]:
    """Which runs diverged, by head, dimension and temperature."""
    return [
        f"Diverged and left out: {HEAD_WORDS[head]}, d = {d}, τ = {tau:.3g}, seed {', '.join(map(str, sorted(seeds)))}."
        for (head, d, tau), seeds in _diverged(runs).items()
    ]


def missing_sentences(runs: Sequence[Run], groups: dict[str, pd.DataFrame]) -> list[str]:
    """Which groups lack a seed that another group has, and that did not diverge there."""
    everyone = {seed for group in groups.values() for seed in group["seed"]}
    diverged, out = _diverged(runs), []
    for name, group in groups.items():
        first = group.iloc[0]
        gone = diverged.get((first["head"], first["d"], first["temperature"]), set())
        if lacking := sorted(everyone - set(group["seed"]) - gone):
            out.append(f"Missing: {name}, seed {', '.join(map(str, lacking))}.")
    return out


def _diverged(runs: Sequence[Run]) -> dict[tuple[str, int, float], set[int]]:
    """Seeds of the runs that diverged by head, dimension and temperature."""
    out: dict[tuple[str, int, float], set[int]] = {}
    for run in runs:
        if run.status != "finished":
            out.setdefault((run.settings.head, run.settings.d, run.settings.temperature), set()).add(run.settings.seed)
    return out


@functools.cache
def ufm_margin(K: int, d: int, temperature: float) -> Interval:
    """GNC2 of the unconstrained feature model from random starts: features free on the sphere, one a class.

    It is what the loss and its local minima leave of the best known margin, whatever the network. NaN for more than
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
    return mean_interval(run.margin for run in runs)


def paired_groups(a: pd.DataFrame, b: pd.DataFrame, name: str) -> Interval:
    """A column of one group less that of another, over their common seeds."""
    by_seed = [dict(zip(group["seed"], group[name], strict=True)) for group in (a, b)]
    return paired_difference(by_seed[0], by_seed[1])


def _words(row: pd.Series) -> str:
    return f"{HEAD_WORDS[row['head']]}, τ = {row['temperature']:.3g}"


def _collapse_sentence(group: pd.DataFrame) -> str:
    """GNC1 to GNC3 of one head, and whether they are what is asked, where something is asked."""
    first = group.iloc[0]
    asked = (first["data"], first["head"], first["d"], first["temperature"]) == ("digit-pairs", "learned", 10, 0.1)

    def verdict(name: str) -> str:
        if not asked:
            return ""
        bound, below = ASKED[name]
        mean = group[name].mean()
        met = mean >= bound if below else mean <= bound
        return f" (asked: at {'least' if below else 'most'} {bound:.2f}; {'met' if met else 'not met'})"

    if math.isfinite(first["best_known"]):
        share = f"{group['share'].mean():.3f} of the best known margin {first['best_known']:.4f}{verdict('share')}"
    else:
        share = "no code is held to compare it with"
    return (
        f"{_words(first)}: mean GNC2 {mean_interval(group['GNC2'])}, {share}; "
        f"GNC1 {mean_interval(group['GNC1'])}{verdict('GNC1')}; GNC3 {mean_interval(group['GNC3'])}{verdict('GNC3')}."
    )


def bound(K: int, best_known: float, temperature: float) -> float:
    """What GNC2 of a global minimiser is at least (docs/theory.md, T6); NaN where that is below 0 or not known."""
    value = minimizer_margin(K, best_known, temperature) if math.isfinite(best_known) else math.nan
    return value if value > 0 else math.nan


def _ufm_sentences(groups: dict[Any, pd.DataFrame]) -> list[str]:
    """The learned head's margin beside the feature model's and the bound of its global minimisers."""
    out = []
    for (K, d, head, temperature), group in groups.items():
        if head != "learned":
            continue
        free = ufm_margin(K, d, temperature)
        if free.n:
            least = bound(K, group["best_known"].iloc[0], temperature)
            told = f"is at least {least:.4f}" if math.isfinite(least) else "has no bound above 0 at this temperature"
            out.append(
                f"With free features in place of a network (unconstrained feature model, K = {K}, d = {d}, "
                f"τ = {temperature:.3g}) GNC2 is {free}; the learned head's mean is "
                f"{group['GNC2'].mean() / free.mean:.3f} of it. GNC2 of a global minimiser {told} (docs/theory.md, T6)."
            )
    return out


def _accuracy_sentences(groups: dict[Any, pd.DataFrame]) -> list[str]:
    """Test accuracy against the learned head's, and the nearest class mean's against the classifier's, in points."""
    out = []
    learned = [group for group in groups.values() if group["head"].iloc[0] == "learned"]
    for group in groups.values():
        first = group.iloc[0]
        in_points = group.assign(test=100 * group["test_accuracy"], ncm=100 * group["ncm_accuracy"])
        sentence = (
            f"{_words(first)}: test accuracy in %: {mean_interval(in_points['test'])}; nearest class mean less "
            f"classifier: {mean_interval(in_points['ncm'] - in_points['test'])}"
        )
        for other in learned:
            tau = other["temperature"].iloc[0]
            # the linear head has a temperature of its own, and is compared with every one of the learned head's
            if first["head"] == "linear" or (first["head"] != "learned" and tau == first["temperature"]):
                difference = paired_groups(in_points, other.assign(test=100 * other["test_accuracy"]), "test")
                sentence += f"; less the learned head's at τ = {tau:.3g}: {difference}"
        out.append(sentence + ".")
    return out


def _table(groups: dict[Any, pd.DataFrame], data: str) -> pd.DataFrame:
    """A row a head, and for reference the feature model, the best code known and the paper's networks."""
    rows: dict[str, dict[str, str]] = {}
    for group in groups.values():
        rows[_words(group.iloc[0])] = {"runs": str(len(group))} | {
            words: mean_interval(group[name]).text for name, words in MEASURES.items()
        }
    for K, d, temperature in dict.fromkeys((K, d, tau) for K, d, head, tau in groups if head != "linear"):
        free, known = ufm_margin(K, d, temperature), best_known_margin(K, d)
        if free.n:
            rows[f"for reference: feature model, τ = {temperature:.3g}"] = {
                "runs": str(free.n),
                "GNC2": free.text,
                MEASURES["share"]: f"{free.mean / known:.4g}",
            }
        rows["for reference: best code known"] = {"GNC2": f"{known:.4f}", MEASURES["share"]: "1"}
    name, networks, known = (
        ("Tiny-ImageNet", paper.TINY_IMAGENET, best_known_margin(200, 10))
        if data == "tiny-imagenet"
        else ("CIFAR100", paper.CIFAR100, best_known_margin(100, 10))
    )
    for network, values in networks.items():
        rows[f"for reference: the paper's {network}, {name}, d = 10, τ = 0.1"] = {"runs": "1"} | {
            words: f"{(values | {'share': values['GNC2'] / known})[measure]:.4g}"
            for measure, words in MEASURES.items()
            if measure in values or measure == "share"
        }
    table = pd.DataFrame.from_dict(rows, orient="index", columns=["runs", *MEASURES.values()]).fillna("")
    return table.rename_axis("classifier").reset_index()


def _figure(runs: Sequence[Run], groups: dict[Any, pd.DataFrame]) -> Figure:
    """GNC1, GNC2, GNC3 and test accuracy against the epoch, a colour a head and a line style a temperature."""
    titles = {
        "GNC1": "variability within classes (GNC1)",
        "GNC2": "margin (GNC2)",
        "GNC3": "self-duality (GNC3)",
        "test_accuracy": "test accuracy",
    }
    figure, axes = axes_figure(list(titles.values()))
    panels = dict(zip(titles, axes, strict=True))
    histories = {run.settings.key: run.history.set_index("epoch") for run in runs}
    temperatures = list(dict.fromkeys(tau for *_, head, tau in groups if head != "linear"))
    for name, panel in panels.items():
        if name in ("GNC1", "GNC3"):
            panel.set_yscale("log")
        panel.set_xlabel("epoch", fontsize=9)
        panel.xaxis.set_major_locator(MaxNLocator(integer=True))
        for (*_, head, tau), group in groups.items():
            style = "-" if head == "linear" else STYLES[temperatures.index(tau) % len(STYLES)]
            values = pd.DataFrame({row["seed"]: histories[row["key"]][name] for _, row in group.iterrows()})
            band_panel(panel, values, _words(group.iloc[0]), color=HEAD_COLOURS[head], ls=style)
    for K, d in dict.fromkeys((K, d) for K, d, *_ in groups):
        known = best_known_margin(K, d)
        level(panels["GNC2"], known, "best known margin")
        for i, tau in enumerate(temperatures):
            style = STYLES[i % len(STYLES)]
            level(
                panels["GNC2"], ufm_margin(K, d, tau).mean, f"feature model, τ = {tau:.3g}", color=COLOURS[4], ls=style
            )
            level(panels["GNC2"], bound(K, known, tau), f"global minimiser, τ = {tau:.3g}", color=COLOURS[5], ls=style)
    panels["GNC2"].set_ylim(bottom=0)
    legend_below(figure, columns=3)
    return figure
