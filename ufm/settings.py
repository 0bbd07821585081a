"""What a simulation is asked to do: one frozen record, validated once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

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

OBJECTIVES = ("log-cross-entropy", "cross-entropy", "hardmax")
OPTIMIZERS = ("lbfgs", "adam", "sgd")
DTYPES = ("float64", "float32")
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


def check_options(options: Mapping[str, Any], otherwise: str) -> None:
    """Refuse what is no option of a run.

    Raises
    ------
    ValueError
        That names the first, and where it may belong.
    """
    known = [field.name for field in fields(Settings) if field.name not in ("K", "d", "n", "temperature", "seed")]
    for name in options:
        if name not in known:
            raise ValueError(f"{name} is not an option here ({otherwise}); the options are {', '.join(known)}")


@dataclass(frozen=True)
class Settings:
    """One run of the unconstrained feature model; `ufm.simulate` describes each field.

    Examples
    --------
    >>> settings = Settings.checked(K=100, d=10, n=1, temperature=0.05)
    >>> settings.optimizer, settings.dtype, settings.samples
    ('lbfgs', 'float64', 100)
    """

    K: int
    d: int
    n: int | tuple[int, ...]
    temperature: float
    anneal: float | None
    objective: str
    optimizer: str
    learning_rate: float | None
    weight_decay: float | None
    steps: int
    record_every: int
    tolerance: float
    seed: int
    dtype: str

    @classmethod
    def checked(
        cls,
        K: Any,
        d: Any,
        n: Any = 5,
        temperature: Any = 0.05,
        *,
        anneal: Any = None,
        objective: Any = "log-cross-entropy",
        optimizer: Any = "auto",
        learning_rate: Any = None,
        weight_decay: Any = None,
        steps: Any = 5000,
        record_every: Any = None,
        tolerance: Any = 1e-6,
        seed: Any = 0,
        dtype: Any = "auto",
    ) -> Settings:
        """Check every option, and choose what was left to us.

        Raises
        ------
        ValueError
            With a sentence that shows what was received and what is expected.
        """
        K, d = check_pair(K, d)
        if d < 2:
            raise ValueError(f"d (the dimension) must be at least 2, where a sphere is connected; got {d}")
        n = check_counts(n, K)
        samples = K * n if isinstance(n, int) else sum(n)
        temperature = check_temperature(temperature)
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
        check_choice("optimizer", optimizer, ("auto", *OPTIMIZERS))
        if optimizer == "auto":
            optimizer = "lbfgs" if small and objective != "hardmax" else "adam"
        if optimizer == "lbfgs" and objective == "hardmax":
            raise ValueError(
                "lbfgs needs a smooth objective, which hardmax is not: take adam, sgd or a small temperature"
            )
        if optimizer == "lbfgs" and learning_rate is not None:
            raise ValueError(f"lbfgs finds its own steps and takes no learning_rate; got {shown(learning_rate)}")
        check_choice("dtype", dtype, ("auto", *DTYPES))
        if dtype == "auto":
            dtype = "float64" if small or temperature < FLOAT32_TEMPERATURE else "float32"
        lowest = 4 * float(np.finfo(dtype).smallest_normal)
        if temperature < lowest:
            raise ValueError(
                f"temperature must be at least {lowest:.1e} in {dtype}, or logits overflow; got {temperature}"
            )
        steps = check_integer("steps", steps, 1)
        if record_every is None:
            record_every = -(-steps // (50 if K <= CHEAP else 5))
        tolerance = check_number("tolerance (a relative gap of margins)", tolerance, 0, 1, "[)")
        seed = check_integer("seed", seed, 0, MAX_SEED)
        return cls(
            K=K,
            d=d,
            n=n,
            temperature=temperature,
            anneal=None if anneal is None else float(anneal),
            objective=objective,
            optimizer=optimizer,
            learning_rate=None if learning_rate is None else check_positive("learning_rate", learning_rate),
            weight_decay=weight_decay,
            steps=steps,
            record_every=check_integer("record_every", record_every, 1),
            tolerance=tolerance,
            seed=seed,
            dtype=dtype,
        )

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
        settings = read_record(cls, stored)
        return cls.checked(**{field.name: getattr(settings, field.name) for field in fields(cls)})
