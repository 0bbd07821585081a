"""One training run on Lightning Fabric, on a CPU or several GPUs; a killed run resumes with the same result."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
import pandas as pd
import torch
from lightning.fabric import Fabric

from experiments.data import fingerprint, load
from experiments.files import Header, read_json, write_json
from experiments.measuring import Measuring
from experiments.model import built, loader
from softmaxcode.nn import CMFClassifier
from softmaxcode.parallel.interrupts import end_with
from softmaxcode.parallel.progress import Progress
from softmaxcode.storage.disk import one_writer, written_whole
from softmaxcode.storage.provenance import installed_version
from softmaxcode.storage.records import Count, NonNegative, parse_json, read_record
from softmaxcode.storage.tensors import read_tensors, write_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch.optim import Optimizer

    from experiments.data import Data
    from experiments.model import Classifier
    from experiments.settings import RunSettings

FORMAT = "experiments 1"
Accelerator = Literal["auto", "cpu", "cuda", "mps"]
ACCELERATORS = get_args(Accelerator)
#: The first columns of every history; the measurements of `Measuring` follow.
COLUMNS = ("epoch", "step", "seconds", "train_loss")
#: The environment variable with the process that started the others of a run.
_FIRST = "SOFTMAXCODE_FIRST_PROCESS"


@dataclass(frozen=True)
class Execution:
    """Where and how a run is executed; these options are not part of the run's identity.

    Attributes
    ----------
    accelerator : {"auto", "cpu", "cuda", "mps"}
        The kind of device.
    devices : int
        Number of processes, one per device, that share each batch (DistributedDataParallel). Batch normalisation uses
        the statistics of each process's part. Only this changes the result; ``run.json`` records it.
    workers : int
        Number of processes that read the data ahead.
    data_root : str or None
        The folder of the data sets; by default $SOFTMAXCODE_DATA, or data.
    checkpoint_seconds : float
        Time between two checkpoints, which are written at the end of an epoch.
    tensorboard : bool
        Log to TensorBoard too; ``history.csv`` is always written.
    progress : bool or None
        Show a progress bar; None shows it only on a terminal.
    """

    accelerator: Accelerator = "auto"
    devices: int = 1
    workers: int = 0
    data_root: str | None = None
    checkpoint_seconds: float = 60.0
    tensorboard: bool = False
    progress: bool | None = None

    def fabric(self, precision: str) -> Fabric:
        """Lightning's Fabric for these options.

        Raises
        ------
        ValueError
            If this machine has no such accelerator, or too few devices.
        """
        if self.accelerator not in ACCELERATORS:
            raise ValueError(
                f"accelerator must be one of {', '.join(map(repr, ACCELERATORS))}; got {self.accelerator!r}"
            )
        if self.accelerator == "cuda" and not torch.cuda.is_available():
            raise ValueError("accelerator 'cuda' needs a CUDA device, and PyTorch finds none here; pass cpu")
        if self.accelerator == "mps" and not torch.backends.mps.is_available():
            raise ValueError("accelerator 'mps' needs an Apple GPU, and PyTorch finds none here; pass cpu")
        if precision == "16-mixed" and (self.accelerator == "cpu" or not torch.cuda.is_available()):
            raise ValueError("precision '16-mixed' needs a CUDA device; pass bf16-mixed")
        if self.accelerator == "cuda" and self.devices > torch.cuda.device_count():
            raise ValueError(f"{self.devices} CUDA devices are asked for; PyTorch finds {torch.cuda.device_count()}")
        try:
            return Fabric(
                accelerator=self.accelerator,
                devices=self.devices,
                strategy="ddp" if self.devices > 1 else "auto",
                precision=precision,  # type: ignore[arg-type]
            )
        except (RuntimeError, ValueError, ImportError) as error:
            first = str(error).strip().split("\n")[0]
            raise ValueError(f"cannot train on {self.devices} x {self.accelerator} in {precision}: {first}") from None


def check_batch(settings: RunSettings, data: Data) -> None:
    """Raise a ValueError if the training data do not fill one batch."""
    if len(data.train) < settings.batch_size:
        raise ValueError(
            f"batch_size is {settings.batch_size}, and {settings.data} has {len(data.train)} training samples with "
            "these options: pass a smaller one"
        )


def loaded(settings: RunSettings, root: str | None = None, **changes: Any) -> Data:
    """The data of a run, with some of its data options changed."""
    return load(settings.data, root, **(settings.data_options | changes))


def learning_rate(settings: RunSettings, step: int, steps: int) -> float:
    """The learning rate of a step: from the initial one down to 0 along half a cosine."""
    return settings.learning_rate * (1 + math.cos(math.pi * step / steps)) / 2


class EpochBatches:
    """The batches of an epoch, the part of one process: indices, and a seed for their random numbers.

    Order and seeds follow from the seed of the run and the epoch.
    """

    def __init__(self, count: int, batch_size: int, seed: int, epoch: int, rank: int = 0, ranks: int = 1) -> None:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(_mixed(seed, epoch)))
        self.batches = [
            (order[start : start + batch_size][rank::ranks].tolist(), _mixed(seed, epoch, start, rank))
            for start in range(0, count - batch_size + 1, batch_size)
        ]

    def __iter__(self) -> Iterator[tuple[list[int], int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def _mixed(*numbers: int) -> int:
    """One seed from several numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


def train(
    settings: RunSettings,
    folder: Path,
    execution: Execution | None = None,
    *,
    build: Callable[[RunSettings, Data], Classifier] = built,
) -> None:
    """Train a run into a folder, or resume an interrupted one; do nothing if it is finished.

    Parameters
    ----------
    settings : RunSettings
        The run to train.
    folder : Path
        It receives ``settings.json`` and ``history.csv``, and ``checkpoint.pt`` until the run ends. At the end it
        receives ``W.npy``, ``model.pt`` and ``run.json``. Each file is written atomically. If the run starts from
        another one, that run's folder must be beside it.
    execution : Execution, optional
        Where and how.
    build : callable
        Builds the initial model; by default from the settings alone.

    Raises
    ------
    ValueError
        If the folder is in use or contains another run, the data are missing, or a device is not available. Also if the
        devices cannot share a batch equally. Also if the run that it starts from is not finished, diverged or is of
        another architecture.
    """
    Training(settings, folder, execution or Execution(), build).run()


@dataclass(frozen=True)
class Progressed:
    """The progress of a run in a checkpoint."""

    epoch: Count
    seconds: NonNegative


class Training:
    """An unfinished run; see `train`."""

    def __init__(
        self,
        settings: RunSettings,
        folder: Path,
        execution: Execution,
        build: Callable[[RunSettings, Data], Classifier] = built,
    ) -> None:
        self.settings, self.folder, self.execution, self.build = settings, folder, execution, build
        self.rows: list[dict[str, float]] = []
        self.epoch = 0
        self.seconds = 0.0

    def run(self) -> None:
        """Train to the end."""
        settings, folder = self.settings, self.folder
        if (folder / "run.json").is_file():
            return
        if settings.batch_size % self.execution.devices:
            raise ValueError(
                f"batch_size must be a multiple of the devices that share it; got {settings.batch_size} and "
                f"{self.execution.devices}"
            )
        if self.execution.tensorboard:
            _summary_writer()
        self.fabric = fabric = self.execution.fabric(settings.precision)
        _launch(fabric)
        data = loaded(settings, self.execution.data_root)
        check_batch(settings, data)
        self.fingerprint, self.skipped = fingerprint(data), getattr(data, "skipped", ())
        model = self.build(settings, data)
        if settings.initial is not None:
            start_from(model, folder.parent / settings.initial)
        with contextlib.ExitStack() as stack:
            if fabric.global_rank == 0:
                folder.mkdir(parents=True, exist_ok=True)
                stack.enter_context(one_writer(folder / "run.json"))
                if (folder / "run.json").is_file() and fabric.world_size == 1:
                    return  # another process has finished it meanwhile
                write_json(folder / "settings.json", settings.to_dict())
            fabric.barrier()
            self._train(model, data)

    def _train(self, model: Classifier, data: Data) -> None:
        settings, fabric = self.settings, self.fabric
        optimizer = _optimizer(settings, model)
        if isinstance(model.head, CMFClassifier):
            model.head.attach(optimizer)
        self._model, self._optimizer = model, optimizer
        wrapped, wrapped_optimizer = fabric.setup(model, optimizer)
        self._resume()
        measure = Measuring(data, settings.d, settings.temperature, self.execution.workers)
        pin = fabric.device.type == "cuda"
        saved = time.monotonic()
        with Progress(
            settings.key, settings.epochs, self.execution.progress if fabric.is_global_zero else False
        ) as bar:
            bar.step(self.epoch)
            while self.epoch < settings.epochs:
                begin = time.perf_counter()
                order = EpochBatches(
                    len(data.train),
                    settings.batch_size,
                    settings.seed,
                    self.epoch,
                    fabric.global_rank,
                    fabric.world_size,
                )
                # every epoch draws (dropout, say) from a state of its own, so a resumed run draws the same
                torch.manual_seed(_mixed(settings.seed, self.epoch, fabric.global_rank))
                wrapped.train()
                total = torch.zeros((), device=fabric.device)
                for i, (inputs, labels) in enumerate(
                    loader(data.train, order, workers=self.execution.workers, pin=pin)
                ):
                    rate = learning_rate(settings, self.epoch * len(order) + i, settings.epochs * len(order))
                    for group in optimizer.param_groups:
                        group["lr"] = rate
                    loss = wrapped(fabric.to_device(inputs), fabric.to_device(labels))
                    wrapped_optimizer.zero_grad()
                    fabric.backward(loss)
                    wrapped_optimizer.step()
                    total += loss.detach()
                mean = float(fabric.all_reduce(total / len(order)))  # type: ignore[arg-type]
                self.seconds += time.perf_counter() - begin
                self.epoch += 1
                if not math.isfinite(mean):
                    self._record(mean, self.epoch * len(order), {})
                    self._finish("diverged", f"the loss was {mean} in epoch {self.epoch}")
                    return
                last = self.epoch == settings.epochs
                if last or self.epoch % settings.measure_every == 0:
                    values = measure(model, fabric)
                    self._record(mean, self.epoch * len(order), values)
                    bar.step(0, GNC2=f"{values['GNC2']:.4f}", test=f"{values['test_accuracy']:.4f}")
                bar.step(1)
                if not last and time.monotonic() - saved >= self.execution.checkpoint_seconds:
                    self._checkpoint()
                    saved = time.monotonic()
        self._finish("finished", f"{settings.epochs} epoch{'s' if settings.epochs > 1 else ''}")

    def _record(self, train_loss: float, step: int, values: dict[str, float]) -> None:
        """Add a row to the history, and write it."""
        row = dict(zip(COLUMNS, (self.epoch, step, round(self.seconds, 3), train_loss), strict=True))
        self.rows.append(row | values)
        if self.fabric.is_global_zero:
            _write_history(self.folder, self.rows)
            if self.execution.tensorboard:
                self._log(row | values)

    def _log(self, row: dict[str, float]) -> None:
        with _summary_writer()(str(self.folder)) as writer:
            for name, value in row.items():
                writer.add_scalar(name, value, int(row["epoch"]))

    def _checkpoint(self) -> None:
        """Write the checkpoint of a run atomically."""
        scaler = self.fabric.strategy.precision.state_dict()
        if self.fabric.is_global_zero:
            stored = {
                "format": FORMAT,
                "settings": json.dumps(self.settings.to_dict(), sort_keys=True),
                "data": self.fingerprint,
                "epoch": self.epoch,
                "seconds": self.seconds,
                "rows": json.dumps(self.rows),
                "model": self._model.state_dict(),
                "optimizer": self._optimizer.state_dict(),
                "scaler": scaler,
            }
            write_tensors(self.folder / "checkpoint.pt", stored)

    def _resume(self) -> None:
        """Resume from the folder's checkpoint, if it has one."""
        path = self.folder / "checkpoint.pt"
        if not path.is_file():
            return
        stored = read_tensors(path)
        try:
            if stored["format"] != FORMAT or json.loads(stored["settings"]) != self.settings.to_dict():
                raise ValueError
            progress = read_record(Progressed, {name: stored[name] for name in ("epoch", "seconds")})
            rows = read_record(list[dict[str, int | float]], parse_json(stored["rows"]))
            every = self.settings.measure_every
            measured = list(range(every, progress.epoch + 1, every))
            if not 0 < progress.epoch < self.settings.epochs or [row["epoch"] for row in rows] != measured:
                raise ValueError
            self.epoch, self.seconds, self.rows = progress.epoch, progress.seconds, rows
            self._model.load_state_dict(stored["model"])
            self._optimizer.load_state_dict(stored["optimizer"])
            self.fabric.strategy.precision.load_state_dict(stored["scaler"])
        except (ValueError, KeyError, RuntimeError, TypeError):
            raise ValueError(f"{path} is not a checkpoint of this run; remove it, or name another folder") from None
        if stored.get("data") != self.fingerprint:
            raise ValueError(
                f"{path} is of other data than {self.settings.data} now is; remove it, or name another folder"
            )

    def _finish(self, status: str, reason: str) -> None:
        """Write the results, ``run.json`` last, and remove the checkpoint."""
        if not self.fabric.is_global_zero:
            return
        folder = self.folder
        weight: Any = self._model.head.weight
        with written_whole(folder / "W.npy") as temporary:
            np.save(temporary, weight.detach().double().cpu().numpy())
        state = {name: tensor.cpu() for name, tensor in self._model.state_dict().items()}
        write_tensors(folder / "model.pt", state, hashed=False)  # an ordinary state dict, readable by any PyTorch
        device = torch.cuda.get_device_name() if self.fabric.device.type == "cuda" else self.fabric.device.type
        header = {
            "settings": self.settings.to_dict(),
            "status": status,
            "reason": reason,
            "seconds": round(self.seconds, 3),
            "device": device,
            "processes": self.fabric.world_size,
            "data": self.fingerprint,
            "skipped": list(self.skipped),
            "versions": {
                "softmaxcode": installed_version(),
                "python": platform.python_version(),
                **{name: version(name) for name in ("torch", "torchvision", "lightning", "numpy", "scikit-learn")},
            },
        }
        write_json(folder / "run.json", header)
        (folder / "checkpoint.pt").unlink(missing_ok=True)


def _launch(fabric: Fabric) -> None:
    """Start the other processes of a run, which end with this one, or join it as one of them."""
    own = str(os.getpid())
    first = os.environ.setdefault(_FIRST, own)
    if first != own:
        end_with(int(first))  # set before the processes connect: otherwise this one would wait if the first is killed
    try:
        fabric.launch()
    finally:
        os.environ.pop(_FIRST)


def _summary_writer() -> Any:
    """TensorBoard's writer.

    Raises
    ------
    ValueError
        If it is not installed.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise ValueError("logging to TensorBoard needs it: pip install tensorboard") from None
    return SummaryWriter


def _optimizer(settings: RunSettings, model: Classifier) -> Optimizer:
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if settings.optimizer == "adamw":
        return torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
    return torch.optim.SGD(
        parameters, settings.learning_rate, momentum=0.9, nesterov=True, weight_decay=settings.weight_decay
    )


def start_from(model: Classifier, folder: Path) -> None:
    """Copy the parameters of a finished run's network into a network; the head does not change.

    Raises
    ------
    ValueError
        If there is no finished run, or its network has another architecture.
    """
    if not (folder / "run.json").is_file():
        raise ValueError(f"cannot start from {folder.name}: no finished run is in {folder}")
    if read_json(folder / "run.json", Header)["status"] != "finished":
        raise ValueError(f"cannot start from {folder.name}: it diverged")
    stored = read_tensors(folder / "model.pt", hashed=False)
    network = {name.removeprefix("network."): t for name, t in stored.items() if name.startswith("network.")}
    try:
        model.network.load_state_dict(network)
    except RuntimeError as error:
        first = str(error).strip().split("\n")[1].strip()
        raise ValueError(f"cannot start from {folder.name}: it is of another architecture ({first})") from None


def _write_history(folder: Path, rows: list[dict[str, float]]) -> None:
    with written_whole(folder / "history.csv") as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, float_format="%.17g")
