"""The runs: a fixed code under graded assignments, with the learned head beside it."""

from __future__ import annotations

from typing import Any, Literal, get_args

from experiments.settings import RunSettings
from experiments.studies.common import check_not_fixed
from softmaxcode.checks.arguments import check_integer

Part = Literal["square", "pairs", "text", "control"]
PARTS = get_args(Part)
#: The two digits whose mean images are the most alike, then the two of the others.
SQUARE_CLASSES = (3, 9, 4, 6)
#: Rows of the square for its four classes: the first class is opposite the second, the third and the fourth.
ARRANGEMENTS = ((0, 2, 1, 3), (0, 1, 2, 3), (0, 1, 3, 2))
#: So few images leave errors to be made, and such a rate trains every arrangement to the end.
SQUARE = {"d": 2, "epochs": 40, "batch_size": 20, "learning_rate": 0.02, "measure_every": 40}
SQUARE_SHOTS = 20
#: 100 classes of ten numbers each, alike by their first two digits or dealt at random.
GROUPS = {"d": 10, "epochs": 10, "weight_decay": 2e-3, "measure_every": 10}
GROUPS_DATA = {"train_per_class": 10, "test_per_class": 5}
RELABELLED_EPOCHS = 15


def plan(
    *,
    seeds: int = 5,
    levels: tuple[float, ...] = (1.0, 0.6, 0.3, 0.0, -0.5, -1.0),
    square_seeds: int = 20,
    square_classes: tuple[int, ...] = SQUARE_CLASSES,
    parts: tuple[Part, ...] = PARTS,
    **settings: Any,
) -> list[RunSettings]:
    """A fixed code under graded assignments, with the learned head beside it.

    Parameters
    ----------
    seeds : int
        Runs of each assignment and of the learned head, at least 1.
    levels : tuple of float
        Levels of the assignments: 1 gives similar classes near vectors, 0 is worth a random assignment, -1 gives them
        vectors far apart.
    square_seeds : int
        Runs of each arrangement of the four classes, at least 1; every seed has training images of its own.
    square_classes : tuple of int
        The four classes on the circle; the first is opposite each of the others in turn.
    parts : tuple of str
        What to train: square (the three arrangements of four classes on the circle), pairs (the levels at K = 100,
        d = 10), text (the levels on next-token prediction), control (100 groups of numbers that are alike or random,
        and pairs whose images are relabelled at random).
    **settings
        Of all runs, as `RunSettings.checked` takes them. With ``data``, the parts "square" and "pairs" are of that data
        set, and no other part can be asked for.

    Returns
    -------
    list of RunSettings

    Raises
    ------
    ValueError
        If ``settings`` fixes what is varied here, parts do not go with the data, or something is out of range.

    Examples
    --------
    >>> runs = plan(seeds=1, parts=("pairs",))
    >>> [run.assignment for run in runs if run.head == "code"]
    [1.0, 0.6, 0.3, 0.0, -0.5, -1.0]
    """
    check_not_fixed(settings, head="parts", assignment="levels", seed="seeds")
    seeds = check_integer("seeds", seeds, 1)
    square_seeds = check_integer("square_seeds", square_seeds, 1)
    unknown = [part for part in parts if part not in PARTS]
    if unknown or not parts:
        raise ValueError(f"parts must be some of {', '.join(map(repr, PARTS))}; got {parts!r}")
    if "data" in settings and not set(parts) <= {"square", "pairs"}:
        raise ValueError(f"data {settings['data']!r} goes with the parts 'square' and 'pairs' alone; got {parts!r}")
    if len(set(square_classes)) != 4:
        raise ValueError(f"square_classes must be four different classes; got {square_classes!r}")
    runs: list[RunSettings] = []
    if "square" in parts:
        runs += _square(square_classes, square_seeds, settings)
    if "pairs" in parts:
        runs += _levels({}, levels, seeds, settings)
    if "control" in parts:
        for groups in ("leading", "random"):
            own = GROUPS | {"data": "digit-triples", "data_options": GROUPS_DATA | {"groups": groups}}
            runs += _levels(own, levels, seeds, settings)
        own = {"data": "digit-pairs", "data_options": {"relabel": "images"}, "epochs": RELABELLED_EPOCHS}
        runs += _levels(own, levels, seeds, settings)
    if "text" in parts:
        runs += _levels({"data": "text"}, levels, seeds, settings)
    return runs


def _merged(own: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """A part's own settings, which give way to those of all runs; options of the data are joined."""
    options = own.get("data_options", {}) | (settings.get("data_options") or {})
    return own | settings | {"data_options": options}


def _levels(own: dict[str, Any], levels: tuple[float, ...], seeds: int, settings: dict[str, Any]) -> list[RunSettings]:
    heads = [{"head": "learned"}, *({"head": "code", "assignment": float(one)} for one in levels)]
    return [
        RunSettings.checked(**_merged(own, settings), **head, seed=seed)  # type: ignore[arg-type]
        for seed in range(seeds)
        for head in heads
    ]


def _square(classes: tuple[int, ...], seeds: int, settings: dict[str, Any]) -> list[RunSettings]:
    few_shot = {str(k): SQUARE_SHOTS for k in range(4)}
    own: dict[str, Any] = {"data_options": {"classes": list(classes)}}
    if settings.get("data", "digits") == "digits":
        own = SQUARE | {"data": "digits", "data_options": own["data_options"] | {"few_shot": few_shot}}
    heads = [{"head": "learned"}, *({"head": "code", "assignment": rows} for rows in ARRANGEMENTS)]
    runs = []
    for seed in range(seeds):
        merged = _merged(own, settings)
        merged["data_options"] = merged["data_options"] | {"seed": seed}
        # the four vectors are a square in the plane alone
        runs += [RunSettings.checked(**(merged | {"d": 2}), **head, seed=seed) for head in heads]  # type: ignore[arg-type]
    return runs
