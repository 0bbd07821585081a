"""Learned class vectors against class-mean features: accuracy, parameters, memory and time (the paper's Table 1)."""

from __future__ import annotations

import time
from collections import Counter
from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict

import pandas as pd
import torch

from experiments import paper
from experiments.drawing import HEAD_COLOURS, HEAD_WORDS, axes_figure, errorbar_panel, shared_legend
from experiments.settings import Settings
from experiments.shifted import correct, shifted_accuracy
from experiments.statistics import Interval, mean_interval, non_inferior
from experiments.studies.common import (
    check_not_fixed,
    class_count,
    diverged_sentences,
    missing_sentences,
    nothing_found,
    paired_groups,
    side,
)
from experiments.studies.findings import Findings
from softmaxcode.checks.arguments import check_integer
from softmaxcode.nn import CMFClassifier, SphericalClassifier
from softmaxcode.plotting.style import COLOURS, INK

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure
    from torch import Tensor

    from experiments.runs import Run

TITLE = "Learned classifier against class-mean features (Table 1)"
QUESTION = "Is a classifier of class means, which has no parameters, as accurate as a learned one, also under stress?"

#: Shifts of the test images, each at several severities; of digits eight high little is left after two pixels.
SHIFTS = {"gaussian-noise": (0.1, 0.2, 0.4), "translation": (1, 2), "contrast": (0.25, 0.5, 0.75)}
SHIFTED = ", shifted by "
#: Points of test accuracy whose loss would be accepted.
MARGIN = 1.0
#: (K, d) at which a step of the head is timed, and the samples of its batch.
TIMED, BATCH = ((100, 64), (1_000, 64), (10_000, 64), (100_000, 64)), 100


def plan(
    *,
    seeds: int = 20,
    stress_seeds: int = 10,
    momenta: tuple[float, ...] = (0.9, 0.1),
    few_shot: tuple[int, ...] = (2, 5, 10),
    label_noise: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6),
    many_classes: str = "digit-triples",
    many_epochs: int = 4,
    **settings: Any,
) -> list[Settings]:
    """Learned head and class means: plain, with few images of every second class, with wrong labels, many classes.

    Parameters
    ----------
    seeds : int
        Runs of each classifier in the plain comparison, at least 1.
    stress_seeds : int
        Runs of each classifier in every other comparison, at least 1.
    momenta : tuple of float
        Momenta of the class means in the plain comparison; the first one alone in the others.
    few_shot : tuple of int
        Training images that every second class keeps, a comparison each; 0 is the plain comparison.
    label_noise : tuple of float
        Shares of wrong training labels, a comparison each; 0 is the plain comparison.
    many_classes : str
        Data set of many classes; none leaves it out.
    many_epochs : int
        Epochs on the data set of many classes, unless epochs are given for every run.
    **settings
        Of all runs, as `Settings.checked` takes them.

    Returns
    -------
    list of Settings

    Raises
    ------
    ValueError
        If ``settings`` fixes what is varied here, the data set does not say its number of classes, or something is out
        of range.

    Examples
    --------
    >>> len(plan()), len(plan(seeds=1, stress_seeds=1, momenta=(0.9,), few_shot=(0,), label_noise=(0.2,)))
    (200, 6)
    """
    if "head" in settings:
        raise ValueError(f"this study compares the heads 'learned' and 'cmf': leave head out; got {settings['head']!r}")
    check_not_fixed(settings, cmf_momentum="momenta", seed="seeds")
    main = Settings.checked(**settings)
    classes = class_count(main)

    def runs(count: int, momenta: tuple[float, ...], settings: dict[str, Any], **options: Any) -> list[Settings]:
        """Every classifier with every seed, with some more options of the data."""
        settings = settings | {"data_options": settings.get("data_options", {}) | options}
        heads = [{"head": "learned"}] + [{"head": "cmf", "cmf_momentum": momentum} for momentum in momenta]
        return [Settings.checked(seed=seed, **head, **settings) for seed in range(count) for head in heads]

    seeds, stress_seeds = check_integer("seeds", seeds, 1), check_integer("stress_seeds", stress_seeds, 1)
    out = runs(seeds, momenta, settings)
    for shots in few_shot:
        if shots:
            out += runs(stress_seeds, momenta[:1], settings, few_shot=dict.fromkeys(range(0, classes, 2), shots))
    for share in label_noise:
        if share:
            out += runs(stress_seeds, momenta[:1], settings, label_noise=share)
    if many_classes not in ("none", main.data):
        out += runs(stress_seeds, momenta[:1], {"epochs": many_epochs} | settings | {"data": many_classes})
    return out


def findings(runs: Sequence[Run]) -> Findings:
    """Class means less learned head under every condition, and what either costs.

    Parameters
    ----------
    runs : sequence of Run
        Finished runs of the plan, or some of them.

    Returns
    -------
    Findings
    """
    finished = [run for run in runs if run.status == "finished"]
    if not finished:
        return nothing_found(runs, _words)
    accuracies = _accuracies(finished)
    compared = _compared(accuracies)
    costs, timed = _costs(finished), _timed(finished)
    return Findings(
        _sentences(compared)
        + _cost_sentences(costs, timed)
        + diverged_sentences(runs, _words)
        + missing_sentences(runs, _words, _trained),
        {
            "Test accuracy in % (mean and 95 % interval), class means less learned head in points": _table(compared),
            "For reference: the paper's networks on CIFAR100 (K = 100, d = 10): test accuracy in %": _paper_table(),
            "Parameters and memory of a classifier, and of the whole model": costs,
            "Milliseconds a step of the classifier alone": timed,
            "Every run: test accuracy in %": accuracies.drop(columns=["group"]),
        },
        {"Test accuracy (mean and 95 % interval) under stress, and time a step": _figure(accuracies, timed)},
    )


def _trained(run: Run) -> str:
    """The condition that a run was trained under."""
    words = f"{run.settings.data}, K = {len(run.W)}"
    if shots := _shots(run):
        return f"{words}, {shots} images of every second class"
    noise = run.settings.data_options.get("label_noise", 0.0)
    return f"{words}, {100 * noise:g} % wrong labels" if noise else words


def _shots(run: Run) -> int:
    """Training images that every second class keeps; 0 for all."""
    return next(iter((run.settings.data_options.get("few_shot") or {}).values()), 0)


def _classifier(settings: Settings) -> str:
    momentum = "" if settings.cmf_momentum is None else f", momentum {settings.cmf_momentum:g}"
    return HEAD_WORDS[settings.head] + momentum


def _words(run: Run) -> str:
    return f"{_trained(run)}, {_classifier(run.settings)}"


def _accuracies(runs: Sequence[Run]) -> pd.DataFrame:
    """A row a run and a set of test images: all, those of few-shot and other classes, or all of them shifted."""
    rows = []
    for run in runs:
        own, trained = run.settings, _trained(run)
        shots, noise = _shots(run), own.data_options.get("label_noise", 0.0)
        common = {
            "data": own.data,
            "label_noise": noise,
            "shots": shots,
            "classifier": _classifier(own),
            "head": own.head,
            "momentum": own.cmf_momentum,
            "seed": own.seed,
            "key": own.key,
        }
        if shots:
            parts = {
                f"{trained}: {name}": (name, accuracy)
                for name, accuracy in dict[str, Any](run.evaluation("few-shot", _FewShot, _few_shot)).items()
            }
        else:
            parts = {trained: ("all", float(run.final["test_accuracy"]))}
            if not noise:
                shifts = [f"{kind}:{severity:g}" for kind, severities in SHIFTS.items() for severity in severities]
                shifted = shifted_accuracy(run, shifts)
                parts |= {f"{trained}{SHIFTED}{shift}": (shift, accuracy) for shift, accuracy in shifted.items()}
        rows += [
            {"condition": condition, "group": group, **common, "accuracy": 100 * accuracy}
            for condition, (group, accuracy) in parts.items()
        ]
    return pd.DataFrame(rows)


_FewShot = TypedDict("_FewShot", {"few-shot classes": float, "other classes": float})


def _few_shot(run: Run) -> _FewShot:
    """Test accuracy of the classes that kept few training images, and of the others."""
    right, labels = correct(run.model(), run.data().test)
    few = torch.isin(labels, torch.tensor([int(k) for k in run.settings.data_options["few_shot"]]))
    return {
        "few-shot classes": float(right[few].double().mean()),
        "other classes": float(right[~few].double().mean()),
    }


def _compared(accuracies: pd.DataFrame) -> list[dict[str, Any]]:
    """Class means against the learned head, under every condition that has both."""
    out = []
    for condition, group in accuracies.groupby("condition", sort=False):
        learned = group[group["head"] == "learned"]
        for name, cmf in group[group["head"] == "cmf"].groupby("classifier", sort=False):
            if len(learned):
                out.append(
                    {
                        "condition": condition,
                        "classifier": name,
                        "learned": mean_interval(learned["accuracy"]),
                        "cmf": mean_interval(cmf["accuracy"]),
                        "difference": paired_groups(cmf, learned, "accuracy"),
                    }
                )
    return out


def _verdict(difference: Interval) -> str:
    """What the interval of a difference in points shows."""
    shown = non_inferior(difference, MARGIN)
    if shown is None:
        return f"undecided at a margin of {MARGIN:g} point{side(difference, '', ', though worse', '')}"
    if not shown:
        return f"worse by more than {MARGIN:g} point"
    return f"non-inferior by {MARGIN:g} point{side(difference, ', and better', ', though worse', '')}"


def _sentences(compared: list[dict[str, Any]]) -> list[str]:
    """A sentence for every condition, but one for all shifts of a data set."""
    out = []
    shifts: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for row in compared:
        unshifted, shifted, _ = row["condition"].partition(SHIFTED)
        if shifted:
            shifts.setdefault((unshifted, row["classifier"]), []).append(row)
            continue
        out.append(
            f"{row['condition']}: {row['classifier']} {row['cmf']} %, learned {row['learned']} %; difference "
            f"{row['difference']} points: {_verdict(row['difference'])}."
        )
    for (unshifted, classifier), rows in shifts.items():
        verdicts = Counter(_verdict(row["difference"]) for row in rows)
        worst = min(rows, key=lambda row: row["difference"].lower)
        out.append(
            f"{unshifted}{SHIFTED.removesuffix(' by ')}: {classifier} is "
            + "; ".join(f"{verdict} under {count} of {len(rows)} shifts" for verdict, count in verdicts.items())
            + f". Its least favourable interval is {worst['difference']} points, under "
            f"{worst['condition'].removeprefix(unshifted + SHIFTED)}."
        )
    return out


def _table(compared: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "condition": row["condition"],
                "classifier": row["classifier"],
                "accuracy": row["cmf"].text,
                "learned": row["learned"].text,
                "difference": row["difference"].text,
                "pairs": row["difference"].n,
                "which is": _verdict(row["difference"]),
            }
            for row in compared
        ]
    )


def _paper_table() -> pd.DataFrame:
    """The paper's Table 1."""
    rows = []
    for network, cmf in paper.CIFAR100_CMF.items():
        learned = paper.CIFAR100[network]["test_accuracy"]
        for momentum, accuracy in cmf.items():
            rows.append(
                {
                    "network": network,
                    "classifier": f"{HEAD_WORDS['cmf']}, momentum {momentum:g}",
                    "accuracy": accuracy,
                    "learned": learned,
                    "difference": accuracy - learned,
                }
            )
    return pd.DataFrame(rows)


def _step(head: str, K: int, d: int) -> tuple[torch.nn.Module, torch.optim.Optimizer | None, Callable[[], None]]:
    """A head, its optimiser, if it has parameters, and a function that takes a step of it on a fixed batch."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(BATCH, d, generator=generator).requires_grad_()
    labels = torch.randint(K, (BATCH,), generator=generator)
    if head == "cmf":
        cmf = CMFClassifier(K, d, temperature=0.1, seed=0)

        def step_means() -> None:
            cmf(features, labels).backward()
            cmf.step()

        return cmf, None, step_means
    learned = SphericalClassifier(K, d, temperature=0.1, seed=0)
    optimizer = torch.optim.SGD(learned.parameters(), lr=0.1, momentum=0.9, nesterov=True)

    def step_learned() -> None:
        optimizer.zero_grad()
        learned(features, labels).backward()
        optimizer.step()

    return learned, optimizer, step_learned


def head_memory(head: str, K: int, d: int) -> dict[str, int]:
    """What a head keeps between steps, counted after one of them.

    Parameters
    ----------
    head : {"learned", "cmf"}
    K, d : int
        Classes and dimension.

    Returns
    -------
    dict
        ``parameters``: trainable numbers. Bytes of the class vectors (``vectors``), their ``gradient`` and the
        ``optimizer`` state, which is SGD's with momentum.

    Examples
    --------
    >>> head_memory("learned", 100, 10)
    {'parameters': 1000, 'vectors': 4000, 'gradient': 4000, 'optimizer': 4000}
    >>> head_memory("cmf", 100, 10)
    {'parameters': 0, 'vectors': 4000, 'gradient': 0, 'optimizer': 0}
    """
    module, optimizer, step = _step(head, K, d)
    step()
    parameters = list(module.parameters())
    state = [] if optimizer is None else [value for one in optimizer.state.values() for value in one.values()]

    def size(tensors: Sequence[Tensor]) -> int:
        return sum(tensor.nbytes for tensor in tensors)

    return {
        "parameters": sum(parameter.numel() for parameter in parameters),
        "vectors": size([*parameters, *module.buffers()]),
        "gradient": size([parameter.grad for parameter in parameters if parameter.grad is not None]),
        "optimizer": size([value for value in state if isinstance(value, torch.Tensor)]),
    }


def step_seconds(K: int, d: int, heads: Sequence[str] = ("learned", "cmf"), seconds: float = 1.5) -> dict[str, float]:
    """Seconds a step of each head alone: loss, gradients of features and of what is learned, and update.

    Parameters
    ----------
    K, d : int
        Classes and dimension; the batch has 100 samples.
    heads : sequence of {"learned", "cmf"}
        What to time.
    seconds : float
        How long to go on; every head takes three steps at least.

    Returns
    -------
    dict
        The median by head.

    Notes
    -----
    The heads take turns, so that what else the machine does slows all of them.

    Examples
    --------
    >>> list(step_seconds(10, 2, seconds=0))
    ['learned', 'cmf']
    """
    steps = {head: _step(head, K, d)[2] for head in heads}
    taken: dict[str, list[float]] = {head: [] for head in heads}
    for step in steps.values():
        step()  # the first one also sets up the optimiser's state
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or min(map(len, taken.values())) < 3:
        for head, step in steps.items():
            begin = time.perf_counter()
            step()
            taken[head].append(time.perf_counter() - begin)
    return {head: median(times) for head, times in taken.items()}


def _costs(runs: Sequence[Run]) -> pd.DataFrame:
    """A row for each head and (K, d) that was trained."""
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    for run in runs:
        K, d = run.W.shape
        if (run.settings.head, K, d) not in rows:
            memory = head_memory(run.settings.head, K, d)
            network = sum(p.numel() for p in run.model().network.parameters() if p.requires_grad)
            rows[run.settings.head, K, d] = {
                "classifier": HEAD_WORDS[run.settings.head],
                "K": K,
                "d": d,
                "parameters": memory["parameters"],
                "parameters with network": memory["parameters"] + network,
                "bytes of vectors": memory["vectors"],
                "bytes of gradient": memory["gradient"],
                "bytes of optimizer state": memory["optimizer"],
            }
    return pd.DataFrame(list(rows.values()))


class _Step(TypedDict):
    K: int
    d: int
    learned: float
    cmf: float


class _Timings(TypedDict):
    steps: list[_Step]


def _step_timed(K: int, d: int) -> _Step:
    took = step_seconds(K, d)
    return {"K": K, "d": d, "learned": took["learned"], "cmf": took["cmf"]}


def _timed(runs: Sequence[Run]) -> pd.DataFrame:
    """Timings, taken once where both heads have been trained, and kept with the first run of the class means."""
    heads = {run.settings.head: run for run in reversed(runs)}
    if not {"learned", "cmf"} <= heads.keys():
        return pd.DataFrame()

    def measure(run: Run) -> _Timings:
        return {"steps": [_step_timed(K, d) for K, d in TIMED]}

    table = pd.DataFrame(heads["cmf"].evaluation("step-seconds", _Timings, measure)["steps"])
    table["learned / CMF"] = table["learned"] / table["cmf"]
    table[["learned", "cmf"]] *= 1000
    return table.rename(columns=HEAD_WORDS)


def _cost_sentences(costs: pd.DataFrame, timed: pd.DataFrame) -> list[str]:
    out = []
    for (K, d), group in costs.groupby(["K", "d"]):
        by_head = group.set_index("classifier")
        if {HEAD_WORDS["learned"], HEAD_WORDS["cmf"]} <= set(by_head.index):
            learned, cmf = by_head.loc[HEAD_WORDS["learned"]], by_head.loc[HEAD_WORDS["cmf"]]
            saved = learned[["bytes of gradient", "bytes of optimizer state"]].sum()
            kept = cmf[["bytes of gradient", "bytes of optimizer state"]].sum()
            out.append(
                f"K = {K}, d = {d}: the learned classifier has {learned['parameters']} of the model's "
                f"{learned['parameters with network']} parameters, {HEAD_WORDS['cmf']} {cmf['parameters']} of "
                f"{cmf['parameters with network']}; gradient and SGD momentum take {saved} and {kept} bytes."
            )
    if len(timed):
        ratios = ", ".join(f"{row['learned / CMF']:.2f} at K = {row['K']:,.0f}" for _, row in timed.iterrows())
        out.append(
            f"Time of a step of the learned classifier alone over that of {HEAD_WORDS['cmf']} "
            f"(batch {BATCH}, d = {TIMED[0][1]}, medians of steps taken in turns; one measurement on one machine): "
            f"{ratios}."
        )
    return out


def _figure(accuracies: pd.DataFrame, timed: pd.DataFrame) -> Figure:
    """Accuracy against the share of wrong labels, the images of few-shot classes and severities; the time of a step."""
    plain = accuracies[accuracies["group"].isin(["all", "few-shot classes", "other classes"])]
    shifted = accuracies.drop(plain.index)
    titles = ["wrong labels", "few images of every second class", *SHIFTS, "time of a step, learned / CMF"]
    figure, axes = axes_figure(titles)
    noise_panel, shots_panel, *shift_panels, time_panel = axes
    # the conditions under stress are those of one data set; others are in the table
    main = accuracies.groupby("data")["condition"].nunique().idxmax()
    for name, of_classifier in accuracies[accuracies["data"] == main].groupby("classifier", sort=False):
        head, momentum = of_classifier[["head", "momentum"]].iloc[0]
        style = {"color": HEAD_COLOURS[head]}
        if head == "cmf" and momentum < 0.5:
            style = {"color": COLOURS[3], "ls": "--", "marker": "s"}
        own = plain.loc[plain.index.intersection(of_classifier.index)]
        everything = own[own["group"] == "all"]
        errorbar_panel(noise_panel, _intervals(everything, "label_noise"), str(name), **style)
        for group, marker in (("few-shot classes", "o"), ("other classes", "^")):
            points = _intervals(own[own["group"] == group], "shots")
            if points:
                label = f"{name}: {group}"
                errorbar_panel(shots_panel, points, label, **style | {"marker": marker, "mfc": "none"})
        turned = shifted.loc[shifted.index.intersection(of_classifier.index)]
        kinds = turned["group"].str.partition(":")
        for panel, kind in zip(shift_panels, SHIFTS, strict=True):
            rows = turned[kinds[0] == kind].assign(severity=kinds[2].astype(float))
            unshifted = everything[everything["label_noise"] == 0].assign(severity=0.0)
            errorbar_panel(panel, _intervals(pd.concat([unshifted, rows]), "severity"), str(name), **style)
    below = ["share of wrong labels", "images a class", *["severity"] * 3, "K"]
    for panel, label in zip(axes, below, strict=True):
        panel.set_xlabel(label, fontsize=9)
    for panel in axes[:-1]:
        panel.set_ylabel("test accuracy, %", fontsize=9)
        panel.set_ylim(0, min(100, panel.get_ylim()[1]))
    if len(timed):
        time_panel.semilogx(timed["K"], timed["learned / CMF"], "s-", color=INK, ms=4, label="learned / CMF")
        time_panel.axhline(1, color=INK, lw=0.8, ls=":")
        time_panel.set_ylim(bottom=0)
    shared_legend(figure, columns=3)
    return figure


def _intervals(rows: pd.DataFrame, by: str) -> dict[float, Interval]:
    """Accuracy by the value of a column."""
    return {at: mean_interval(rows.loc[rows[by] == at, "accuracy"]) for at in rows[by].unique().tolist()}
