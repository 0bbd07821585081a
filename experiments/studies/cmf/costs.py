"""Parameters, memory and time of a step of each classifier."""

from __future__ import annotations

import time
from statistics import median
from typing import TYPE_CHECKING, Any, TypedDict

import pandas as pd
import torch

from experiments.drawing import HEAD_LABELS
from softmaxcode.nn import CMFClassifier, SphericalClassifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from experiments.runs import TrainedRun


#: (K, d) at which a step of the head is timed, and the samples of its batch.
TIMED, BATCH = ((100, 64), (1_000, 64), (10_000, 64), (100_000, 64)), 100


def training_step(
    head: str, K: int, d: int
) -> tuple[torch.nn.Module, torch.optim.Optimizer | None, Callable[[], None]]:
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
    module, optimizer, step = training_step(head, K, d)
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
    """Seconds per step of each head alone: loss, gradients of features and of what is learned, and update.

    Parameters
    ----------
    K, d : int
        Classes and dimension; the batch has 100 samples.
    heads : sequence of {"learned", "cmf"}
        What to time.
    seconds : float
        How long to continue; every head takes three steps at least.

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
    steps = {head: training_step(head, K, d)[2] for head in heads}
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


def cost_frame(runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """A row for each head and (K, d) that was trained."""
    rows: dict[tuple[str, int, int], dict[str, Any]] = {}
    for run in runs:
        K, d = run.W.shape
        if (run.settings.head, K, d) not in rows:
            memory = head_memory(run.settings.head, K, d)
            network = sum(p.numel() for p in run.model().network.parameters() if p.requires_grad)
            rows[run.settings.head, K, d] = {
                "classifier": HEAD_LABELS[run.settings.head],
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


def timing_frame(runs: Sequence[TrainedRun]) -> pd.DataFrame:
    """Timings, taken once where both heads have been trained, and kept with the first run of the class means."""
    heads = {run.settings.head: run for run in reversed(runs)}
    if not {"learned", "cmf"} <= heads.keys():
        return pd.DataFrame()

    def measure(run: TrainedRun) -> _Timings:
        return {"steps": [_step_timed(K, d) for K, d in TIMED]}

    table = pd.DataFrame(heads["cmf"].evaluation("step-seconds", _Timings, measure)["steps"])
    table["learned / CMF"] = table["learned"] / table["cmf"]
    table[["learned", "cmf"]] *= 1000
    return table.rename(columns=HEAD_LABELS)
