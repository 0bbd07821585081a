"""The runs: class means and a learned head, with few images, wrong labels and many classes."""

from __future__ import annotations

from typing import Any

from experiments.settings import RunSettings
from experiments.studies.common import check_not_fixed, class_count
from softmaxcode.checks.arguments import check_integer


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
) -> list[RunSettings]:
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
        Fractions of wrong training labels, a comparison each; 0 is the plain comparison.
    many_classes : str
        Data set of many classes; none leaves it out.
    many_epochs : int
        Epochs on the data set of many classes, unless epochs are given for every run.
    **settings
        Of all runs, as `RunSettings.checked` takes them.

    Returns
    -------
    list of RunSettings

    Raises
    ------
    ValueError
        If ``settings`` fixes what is varied here, the data set does not define its number of classes, or something is
        out of range.

    Examples
    --------
    >>> len(plan()), len(plan(seeds=1, stress_seeds=1, momenta=(0.9,), few_shot=(0,), label_noise=(0.2,)))
    (200, 6)
    """
    if "head" in settings:
        raise ValueError(f"this study compares the heads 'learned' and 'cmf': leave head out; got {settings['head']!r}")
    check_not_fixed(settings, cmf_momentum="momenta", seed="seeds")
    main = RunSettings.checked(**settings)
    classes = class_count(main)

    def runs(count: int, momenta: tuple[float, ...], settings: dict[str, Any], **options: Any) -> list[RunSettings]:
        """Every classifier with every seed, with some more options of the data."""
        settings = settings | {"data_options": settings.get("data_options", {}) | options}
        heads = [{"head": "learned"}] + [{"head": "cmf", "cmf_momentum": momentum} for momentum in momenta]
        return [RunSettings.checked(seed=seed, **head, **settings) for seed in range(count) for head in heads]

    seeds, stress_seeds = check_integer("seeds", seeds, 1), check_integer("stress_seeds", stress_seeds, 1)
    out = runs(seeds, momenta, settings)
    for shots in few_shot:
        if shots:
            out += runs(stress_seeds, momenta[:1], settings, few_shot=dict.fromkeys(range(0, classes, 2), shots))
    for fraction in label_noise:
        if fraction:
            out += runs(stress_seeds, momenta[:1], settings, label_noise=fraction)
    if many_classes not in ("none", main.data):
        out += runs(stress_seeds, momenta[:1], {"epochs": many_epochs} | settings | {"data": many_classes})
    return out
