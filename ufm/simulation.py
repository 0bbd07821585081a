"""Simulate the unconstrained feature model: one run, or several at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from softmaxcode.checks.arguments import check_list, shown
from ufm.settings import Settings, check_options

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from ufm.run import Run


def simulate(
    K: int,
    d: int,
    n: int | Sequence[int] = Settings.n,
    temperature: float = Settings.temperature,
    *,
    device: Any = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> Run:
    r"""Simulate the unconstrained feature model: features and classifier free on the sphere, from a random start.

    .. math::
        \min_{W, H} \; L = \frac1N \sum_i
        \log\Bigl(1 + \sum_{j \ne y_i} e^{\langle w_j - w_{y_i}, h_i\rangle/\tau}\Bigr),
        \qquad \|w_k\| = \|h_i\| = 1

    Parameters
    ----------
    K, d, n, temperature
        Numbers of classes, dimension, features of each class and the temperature tau, as in `ufm.Settings`.
    device : str
        "auto" (a GPU where there is one), "cpu", "cuda" or "cuda:<number>".
    checkpoint : path, optional
        A ``.pt`` file, written every minute, when interrupted and at the end. A run that finds its own checkpoint there
        resumes from it, bit for bit.
    checkpoint_every : int, optional
        Steps between two checkpoints, instead of one minute.
    progress : bool, optional
        Show a bar; by default where standard error is a terminal.
    **options
        The other options of `ufm.Settings`: ``seed``, ``anneal``, ``objective``, ``optimizer``, ``learning_rate``,
        ``weight_decay``, ``steps``, ``record_every``, ``tolerance``, ``dtype``.

    Returns
    -------
    Run
        Its history, its rows, and ``compare()``.

    Raises
    ------
    ValueError
        If an option is out of range or unknown, the device is not available, or there are more processes than classes.
        Also if the checkpoint is of another run or damaged. The message is one sentence that names the fault.
    KeyboardInterrupt
        After a checkpoint was written, if a file was named.

    Notes
    -----
    A run ends with one of these statuses: "gap" (see ``tolerance``), "stationary", "stalled", "steps" or "diverged".
    "stationary": L-BFGS gains nothing above rounding, and there is no slope. "stalled": it gains nothing although there
    is a slope, because the loss or the steps underflow. A "diverged" run keeps its last measurement.

    If ``torchrun`` started several processes, they share the classes, one GPU each. The rows of W and H are split, and
    a log-sum-exp is reduced. Every process returns the whole run.

    References
    ----------
    Jiang et al., ICML 2024 (arXiv:2310.05351); docs/theory.md, T6; docs/ufm.md.

    Examples
    --------
    >>> import ufm
    >>> run = ufm.simulate(K=5, d=2, n=1, temperature=0.02, steps=500)
    >>> round(run.margin, 6), round(run.best_known, 6)  # the pentagon
    (0.690983, 0.690983)
    >>> run.violations
    0
    """
    seed = options.pop("seed", Settings.seed)
    for name, given in (("temperature", temperature), ("seed", seed)):
        if np.iterable(given) and not isinstance(given, str):
            raise ValueError(
                f"{name} must be one number, for several call ufm.simulate_batch or sweep; got {shown(given)}"
            )
    (run,) = simulate_batch(
        K,
        d,
        n,
        [temperature],
        [seed],
        device=device,
        checkpoint=checkpoint,
        checkpoint_every=checkpoint_every,
        progress=progress,
        **options,
    )
    return run


def simulate_batch(
    K: int,
    d: int,
    n: int | Sequence[int],
    temperatures: Sequence[float],
    seeds: Sequence[int],
    *,
    device: Any = "auto",
    checkpoint: str | Path | None = None,
    checkpoint_every: int | None = None,
    progress: bool | None = None,
    **options: Any,
) -> list[Run]:
    """Simulate several temperatures and seeds in one batch, which is faster than one run after another.

    Products of a batch may round differently from those of a single run. A long descent can amplify this to another
    local optimum. So the same batch gives the same bits, but a run may differ in another batch.

    Parameters
    ----------
    K, d, n
        As in `simulate`.
    temperatures : sequence of float
        Temperatures, each above 0.
    seeds : sequence of int
        Seeds; each is run at every temperature.
    device, checkpoint, checkpoint_every, progress, **options
        As in `simulate`; one checkpoint file contains all runs.

    Returns
    -------
    list of Run
        One for each temperature and seed, temperatures outermost.

    Raises
    ------
    ValueError
        As `simulate`, or if a list is empty.

    Examples
    --------
    >>> import ufm
    >>> runs = ufm.simulate_batch(4, 2, 1, [0.1, 0.05], [0, 1], steps=300)
    >>> [round(run.margin, 6) for run in runs]  # the square
    [1.0, 1.0, 1.0, 1.0]
    """
    temperatures, seeds = check_list("temperatures", temperatures), check_list("seeds", seeds)
    check_options(options, "temperatures and seeds are lists of their own")
    from ufm.running import run_batch  # with PyTorch, in seconds

    options["n"] = n
    runs = [Settings(K, d, temperature=tau, seed=seed, **options) for tau in temperatures for seed in seeds]
    return run_batch(runs, device=device, checkpoint=checkpoint, checkpoint_every=checkpoint_every, progress=progress)
