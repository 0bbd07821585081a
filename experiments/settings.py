"""What a training run is asked to do: one frozen record, validated once and named by its contents."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal, get_args

from cyclopts import Parameter

from experiments.assignments import check_assignment
from experiments.data import DATASETS
from experiments.networks import NETWORKS
from softmaxcode.checks.arguments import (
    check_choice,
    check_flag,
    check_integer,
    check_number,
    check_positive,
    check_temperature,
)
from softmaxcode.storage.records import RecordError, read_record

#: ``learned``: class vectors on the sphere, by gradients. ``cmf``: class-mean features. ``code``: those of the best
#: code known, fixed. ``linear``: the unnormalised baseline, rows and features of any norm.
Head = Literal["learned", "cmf", "code", "linear"]
HEADS = get_args(Head)
Optimizer = Literal["sgd", "adamw"]
Precision = Literal["32-true", "bf16-mixed", "16-mixed"]
OPTIMIZERS, PRECISIONS = get_args(Optimizer), get_args(Precision)
#: A name of a folder beside others, and no path.
KEY = re.compile(r"[a-z0-9][\w.+-]*")

#: What the paper trains with, for photographs.
PAPER: dict[str, Any] = {
    "network": "resnet18",
    "d": 10,
    "optimizer": "sgd",
    "learning_rate": 0.1,
    "weight_decay": 5e-4,
    "epochs": 200,
    "batch_size": 250,
    "measure_every": 5,
}
#: Where a data set differs from it: the small offline sets are done in a minute on one core.
DEFAULTS: dict[str, dict[str, Any]] = {
    "digits": {"network": "small-cnn", "d": 2, "epochs": 60, "batch_size": 64},
    "digit-pairs": {
        "network": "small-cnn",
        "epochs": 20,
        "batch_size": 100,
        "weight_decay": 4e-3,
        "data_options": {"train_per_class": 50},
    },
    "digit-triples": {"network": "small-cnn", "d": 32, "epochs": 20, "batch_size": 100},
    "digit-pairs-32": {"measure_every": 20},
    "text": {
        "network": "text-transformer",
        "network_options": {"width": 64, "layers": 2, "heads": 2},
        "d": 32,
        "optimizer": "adamw",
        "learning_rate": 1e-2,
        "weight_decay": 0.1,
        "epochs": 2,
        "batch_size": 16,
        "measure_every": 2,
        "data_options": {"vocabulary": 512, "size": 1_000_000},
    },
}


def _check_plain(name: str, value: Any) -> dict[str, Any]:
    """A JSON-serialisable dictionary."""
    try:
        if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
            raise TypeError
        out: dict[str, Any] = json.loads(json.dumps(value, sort_keys=True))
    except (TypeError, ValueError):
        raise ValueError(f"{name} must be a JSON-serialisable dictionary; got {value!r}") from None
    return out


@dataclass(frozen=True)
class RunSettings:
    """One training run; `checked` fills in what is not given.

    Attributes
    ----------
    data : str
        The data set, a name in `experiments.data.DATASETS`.
    data_options : dict
        What `experiments.data.load` takes beside it, JSON-serialisable, such as '{"train_per_class": 50}' of
        digit-pairs. Its ``seed`` is 0 unless given, so that runs of
        different seeds share their data.
    network : str
        The network, a name in `experiments.networks.NETWORKS`.
    network_options : dict
        As of `experiments.networks.network`, such as '{"width": 96}' of vit or text-transformer.
    d : int
        Width of the features.
    head : {"learned", "cmf", "code", "linear"}
        Class vectors on the sphere by gradients, class-mean features, the best code known, or the unnormalised
        baseline, whose rows and features have any norm.
    temperature : float
        What cosines (of the linear head: inner products) are divided by.
    cmf_momentum : float or None
        Of the class means; None for other heads.
    assignment : float, tuple of int or None
        Of a fixed code: a level from 1, similar classes to near vectors, over 0, worth a random assignment, to -1 (see
        `experiments.assignments.graded`); or the code's row for each class; or None, the code's own order.
    optimizer : {"sgd", "adamw"}
        SGD with Nesterov's momentum of 0.9, or AdamW.
    learning_rate : float
        Of the first step; it falls to 0 along a cosine.
    weight_decay : float
        Weight decay of every parameter.
    epochs : int
        Passes over the training data.
    batch_size : int
        Images of all processes together; the last images of an epoch that do not fill a batch are left out.
    measure_every : int
        Epochs between two measurements; the last epoch is always measured.
    precision : str
        As of Lightning Fabric: "32-true", "bf16-mixed" or "16-mixed".
    initial : str or None
        `key` of a finished run in the same results folder whose network training starts from.
    frozen : bool
        Keep that network as it is but for its last layer.
    seed : int
        Of the network's and head's first parameters, the order of batches, augmentation and the code's rotation.
    """

    data: str
    data_options: dict[str, Any] = field(hash=False)
    network: str
    network_options: dict[str, Any] = field(hash=False)
    d: int
    head: str
    temperature: float
    cmf_momentum: float | None
    assignment: float | tuple[int, ...] | None
    optimizer: str
    learning_rate: float
    weight_decay: float
    epochs: int
    batch_size: int
    measure_every: int
    precision: str
    initial: str | None
    frozen: bool
    seed: int

    @classmethod
    def checked(
        cls,
        data: Annotated[str, Parameter(choices=tuple(DATASETS), show_default=False)] = "digit-pairs",
        *,
        data_options: dict[str, Any] | None = None,
        network: Annotated[str | None, Parameter(choices=tuple(NETWORKS))] = None,
        network_options: dict[str, Any] | None = None,
        d: int | None = None,
        head: str = "learned",
        temperature: float = 0.1,
        cmf_momentum: float | None = None,
        assignment: float | tuple[int, ...] | None = None,
        optimizer: Optimizer | None = None,
        learning_rate: float | None = None,
        weight_decay: float | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        measure_every: int | None = None,
        precision: Precision = "32-true",
        initial: str | None = None,
        frozen: bool = False,
        seed: int = 0,
    ) -> RunSettings:
        """Check every option; what is None is left to the data set's defaults, and those to the paper's.

        Options given for the data are added to its default ones, and so are those of the network where it is the
        data set's own.

        Raises
        ------
        ValueError
            With a sentence that shows what was received and what is expected.

        Examples
        --------
        >>> settings = RunSettings.checked("cifar100")
        >>> settings.network, settings.epochs, settings.batch_size, settings.learning_rate
        ('resnet18', 200, 250, 0.1)
        """
        check_choice("data", data, tuple(DATASETS))
        defaults = PAPER | DEFAULTS.get(data, {})

        def chosen(name: str, given: Any) -> Any:
            return defaults[name] if given is None else given

        network = check_choice("network", chosen("network", network), tuple(NETWORKS))
        own = defaults.get("network_options", {}) if network == defaults["network"] else {}
        check_choice("head", head, HEADS)
        if cmf_momentum is not None and head != "cmf":
            raise ValueError(f"cmf_momentum is for the head 'cmf'; got it for {head!r}")
        if head == "cmf":
            cmf_momentum = 0.9 if cmf_momentum is None else cmf_momentum
            cmf_momentum = check_number("cmf_momentum", cmf_momentum, 0, 1, "[)")
        if assignment is not None:
            if head != "code":
                raise ValueError(f"assignment is for the head 'code'; got it for {head!r}")
            assignment = check_assignment(assignment)
        weight_decay = chosen("weight_decay", weight_decay)
        if weight_decay != 0:
            weight_decay = check_positive("weight_decay, where it is not 0,", weight_decay)
        if initial is not None and not (isinstance(initial, str) and KEY.fullmatch(initial)):
            raise ValueError(f"initial must be the key of a run; got {initial!r}")
        frozen = check_flag("frozen", frozen)
        if frozen and initial is None:
            raise ValueError("frozen keeps the network of another run: pass initial, that run's key")
        return cls(
            data=data,
            data_options=defaults.get("data_options", {}) | _check_plain("data_options", data_options or {}),
            network=network,
            network_options=own | _check_plain("network_options", network_options or {}),
            d=check_integer("d (the width of the features)", chosen("d", d), 2),
            head=head,
            temperature=check_temperature(temperature),
            cmf_momentum=None if cmf_momentum is None else float(cmf_momentum),
            assignment=assignment,
            optimizer=check_choice("optimizer", chosen("optimizer", optimizer), OPTIMIZERS),
            learning_rate=check_positive("learning_rate", chosen("learning_rate", learning_rate)),
            weight_decay=float(weight_decay),
            epochs=check_integer("epochs", chosen("epochs", epochs), 1),
            batch_size=check_integer("batch_size", chosen("batch_size", batch_size), 2),
            measure_every=check_integer("measure_every", chosen("measure_every", measure_every), 1),
            precision=check_choice("precision", precision, PRECISIONS),
            initial=initial,
            frozen=frozen,
            seed=check_integer("seed", seed, 0),
        )

    def to_dict(self) -> dict[str, Any]:
        """The fields, JSON-serialisable."""
        out: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return out

    @classmethod
    def from_dict(cls, stored: dict[str, Any]) -> RunSettings:
        """From what `to_dict` returned.

        Raises
        ------
        ValueError
            If a field is missing, unknown or of another type, or no run has such options.
        """
        try:
            settings = read_record(cls, stored)
        except RecordError as error:
            raise ValueError(f"not the settings of a run: {error}") from None
        cls.checked(**{one.name: getattr(settings, one.name) for one in fields(cls)})
        return settings  # as stored: its key names the run, also where defaults have changed since

    @property
    def key(self) -> str:
        """Name of the run: what matters most of it, and a hash of all of it.

        Examples
        --------
        >>> RunSettings.checked("digit-pairs", seed=3).key.rpartition("-")[0]
        'digit-pairs-learned-d10-tau0.1-seed3'
        """
        digest = hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:10]
        return f"{self.data}-{self.head}-d{self.d}-tau{self.temperature:g}-seed{self.seed}-{digest}"
