"""What a simulation is asked to do: one frozen record, validated once."""

from __future__ import annotations

from dataclasses import KW_ONLY, asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from softmaxcode.checks.arguments import (
    check_choice,
    check_integer,
    check_number,
    check_pair,
    check_positive,
    check_temperature,
    shown,
)
from softmaxcode.storage.records import read_record

if TYPE_CHECKING:
    from collections.abc import Mapping

Objective = Literal["log-cross-entropy", "cross-entropy", "hardmax"]
Optimizer = Literal["auto", "lbfgs", "adam", "sgd"]
DType = Literal["auto", "float64", "float32"]
OBJECTIVES, OPTIMIZERS, DTYPES = get_args(Objective), get_args(Optimizer), get_args(DType)
#: The most logits of a small problem, which uses L-BFGS and has all its logits in memory at once.
SMALL = 2**22
#: Float32 moves a log-odds by 6e-8 / tau; below this temperature that is felt in the gradient.
FLOAT32_TEMPERATURE = 1e-3
#: PyTorch takes no larger seed.
MAX_SEED = 2**64 - 1
#: Classes up to which fifty measurements of a run are cheap; beyond it there are five.
CHEAP = 2000


def check_counts(n: Any, K: int) -> int | tuple[int, ...]:
    """Features per class: one number, or one for each class.

    Raises
    ------
    ValueError
        If it is neither, or a number is below 1.
    """
    try:
        given = list(n)
    except TypeError:
        return check_integer("n (features per class)", n, 1)
    if len(given) != K:
        raise ValueError(f"n must be one number or one for each of the K = {K} classes; got {len(given)} numbers")
    counts = tuple(check_integer("n (features per class)", count, 1) for count in given)
    return counts[0] if len(set(counts)) == 1 else counts


@dataclass(frozen=True)
class Settings:
    """One run of the unconstrained feature model: every option is checked, and what is left to us is chosen.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 2.
    n : int or sequence of int
        Features of each class, at least 1: one number, or K of them where classes are imbalanced.
    temperature : float
        The temperature tau, above 0.
    anneal : float, optional
        The initial temperature. It falls to ``temperature`` by equal factors over the first half of the steps. By
        default the temperature is fixed.
    objective : {"log-cross-entropy", "cross-entropy", "hardmax"}
        The function to minimise. "log-cross-entropy" is tau log L, whose gradient never underflows. "cross-entropy" is
        L itself; at small temperatures its gradient is exactly 0 long before the margin is near its limit. "hardmax" is
        the largest negative logit margin, the limit of the first.
    optimizer : {"auto", "lbfgs", "adam", "sgd"}
        L-BFGS on the sphere, deterministic, for small problems; or geoopt's RiemannianAdam or RiemannianSGD. SGD has
        momentum 0.9, but none for hardmax. The subgradient of hardmax moves one feature per step, so with n above 1 it
        takes many steps. "auto" is L-BFGS where K N is at most 2^22, and Adam beyond that and for hardmax.
    learning_rate : float, optional
        The rate of Adam and SGD at the first step. It falls to 0 along a cosine (hardmax: linearly). By default it
        depends on the temperature.
    weight_decay : float, optional
        Use the *free* model instead: rows of any norm, with half of this times all squared norms added to L. Metrics
        are of unit rows; no margin is certified.
    steps : int
        The most steps, each over all samples.
    record_every : int, optional
        Steps between two measurements; by default a fiftieth of all steps, or a fifth for more than 2000 classes.
    tolerance : float
        A run ends at a measured step where the relative gap, 1 - certified / known, is at most this. It compares the
        certified margin with the best known one.
    seed : int
        Determines the random start.
    dtype : {"auto", "float64", "float32"}
        "auto" is float32 for problems that are not small, at temperatures of at least 1e-3, where its rounding has no
        effect. Measurements are always in float64.

    Raises
    ------
    ValueError
        With a sentence that shows what was received and what is expected.

    Examples
    --------
    >>> settings = Settings(K=100, d=10, n=1, temperature=0.05)
    >>> settings.optimizer, settings.dtype, settings.samples
    ('lbfgs', 'float64', 100)
    """

    K: int
    d: int
    n: int | tuple[int, ...] = 5
    temperature: float = 0.05
    _: KW_ONLY
    anneal: float | None = None
    objective: Objective = "log-cross-entropy"
    optimizer: Optimizer = "auto"
    learning_rate: float | None = None
    weight_decay: float | None = None
    steps: int = 5000
    record_every: int = None  # type: ignore[assignment]  # chosen by the number of steps
    tolerance: float = 1e-6
    seed: int = 0
    dtype: DType = "auto"

    def __post_init__(self) -> None:
        """Check every option, and choose what was left to us."""
        for name, value in self._checked().items():
            object.__setattr__(self, name, value)

    def _checked(self) -> dict[str, Any]:
        K, d = check_pair(self.K, self.d)
        if d < 2:
            raise ValueError(f"d (the dimension) must be at least 2, where a sphere is connected; got {d}")
        n = check_counts(self.n, K)
        samples = K * n if isinstance(n, int) else sum(n)
        temperature = check_temperature(self.temperature)
        anneal, objective, weight_decay = self.anneal, self.objective, self.weight_decay
        if anneal is not None and check_positive("anneal", anneal) < temperature:
            raise ValueError(
                f"anneal, where the temperature begins, must be at least {temperature:g}, where it ends; got {anneal:g}"
            )
        check_choice("objective", objective, OBJECTIVES)
        small = K * samples <= SMALL
        if weight_decay is not None:
            weight_decay = check_positive("weight_decay", weight_decay)
            if objective == "log-cross-entropy":
                objective = "cross-entropy"
            if objective == "hardmax":
                raise ValueError("hardmax has no minimum off the sphere: leave weight_decay out")
        optimizer, learning_rate, dtype = self.optimizer, self.learning_rate, self.dtype
        check_choice("optimizer", optimizer, OPTIMIZERS)
        if optimizer == "auto":
            optimizer = "lbfgs" if small and objective != "hardmax" else "adam"
        if optimizer == "lbfgs" and objective == "hardmax":
            raise ValueError(
                "lbfgs needs a smooth objective, which hardmax is not: take adam, sgd or a small temperature"
            )
        if optimizer == "lbfgs" and learning_rate is not None:
            raise ValueError(f"lbfgs finds its own steps and takes no learning_rate; got {shown(learning_rate)}")
        check_choice("dtype", dtype, DTYPES)
        if dtype == "auto":
            dtype = "float64" if small or temperature < FLOAT32_TEMPERATURE else "float32"
        lowest = 4 * float(np.finfo(dtype).smallest_normal)
        if temperature < lowest:
            raise ValueError(
                f"temperature must be at least {lowest:.1e} in {dtype}, or logits overflow; got {temperature}"
            )
        steps = check_integer("steps", self.steps, 1)
        record_every = self.record_every
        if record_every is None:
            record_every = -(-steps // (50 if K <= CHEAP else 5))
        return {
            "K": K,
            "d": d,
            "n": n,
            "temperature": temperature,
            "anneal": None if anneal is None else float(anneal),
            "objective": objective,
            "optimizer": optimizer,
            "learning_rate": None if learning_rate is None else check_positive("learning_rate", learning_rate),
            "weight_decay": weight_decay,
            "steps": steps,
            "record_every": check_integer("record_every", record_every, 1),
            "tolerance": check_number("tolerance (a relative gap of margins)", self.tolerance, 0, 1, "[)"),
            "seed": check_integer("seed", self.seed, 0, MAX_SEED),
            "dtype": dtype,
        }

    @property
    def counts(self) -> tuple[int, ...]:
        """Features of each class."""
        return (self.n,) * self.K if isinstance(self.n, int) else self.n

    @property
    def samples(self) -> int:
        """Features of all classes, N."""
        return self.K * self.n if isinstance(self.n, int) else sum(self.n)

    @property
    def spherical(self) -> bool:
        """Whether rows are kept on the unit sphere; in the free model they are weight-decayed instead."""
        return self.weight_decay is None

    @property
    def imbalance(self) -> float:
        """Mean over smallest count of features per class: 1 when all are equal."""
        return 1.0 if isinstance(self.n, int) else self.samples / self.K / min(self.n)

    def to_dict(self) -> dict[str, Any]:
        """The fields, JSON-serialisable."""
        out = asdict(self)
        out["n"] = self.n if isinstance(self.n, int) else list(self.n)
        return out

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> Settings:
        """From what `to_dict` returned.

        Raises
        ------
        ValueError
            If a field is missing, unknown or of another type, or no run has such options.
        """
        return read_record(cls, stored)


#: The options that all runs of a batch or sweep share.
OPTIONS = tuple(field.name for field in fields(Settings) if field.name not in ("K", "d", "n", "temperature", "seed"))


def check_options(options: Mapping[str, Any], otherwise: str) -> None:
    """Refuse what is no option of a run.

    Raises
    ------
    ValueError
        That names the first, and where it may belong.
    """
    for name in options:
        if name not in OPTIONS:
            raise ValueError(f"{name} is not an option here ({otherwise}); the options are {', '.join(OPTIONS)}")
