"""A results folder: runs by their key, trained once, read lazily."""

from __future__ import annotations

import functools
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from experiments.data import fingerprint, load
from experiments.files import Header, Kind, read_json, write_json
from experiments.measuring import MEASURED
from experiments.settings import RunSettings
from experiments.training import Execution, loaded, train
from softmaxcode.parallel.workers import LocalWorkers
from softmaxcode.parallel.workers import run as run_tasks
from softmaxcode.storage.arrays import stored_arrays
from softmaxcode.storage.tensors import read_tensors
from softmaxcode.tables import read_table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from experiments.data import Data
    from experiments.model import Classifier


@dataclass(frozen=True, eq=False)
class TrainedRun:
    """A finished run.

    Attributes
    ----------
    settings : RunSettings
        What it was.
    folder : Path
        Where its files are.
    status : {"finished", "diverged"}
        How it ended.
    seconds : float
        Time spent training, without measuring.
    fingerprint : str
        Of the data that it was trained on; see `experiments.data.fingerprint`.
    data_root : str or None
        The folder of the data sets.
    """

    settings: RunSettings
    folder: Path
    status: str
    seconds: float
    fingerprint: str
    data_root: str | None = None

    @classmethod
    def read(cls, folder: Path, data_root: str | None = None) -> TrainedRun:
        """The run of a folder.

        Raises
        ------
        ValueError
            If no finished run is there, or its header is damaged.
        """
        path = folder / "run.json"
        if not path.is_file():
            raise ValueError(f"cannot read {folder}: no finished run is there (it has no run.json)")
        try:
            header = read_json(path, Header)
            settings = RunSettings.from_dict(header["settings"])
            if settings.key != folder.name:
                raise ValueError(f"it is that of {settings.key}")
        except ValueError as error:
            raise ValueError(f"cannot read {path}: it is not the header of this run, or damaged ({error})") from None
        return cls(settings, folder, header["status"], header["seconds"], header["data"], data_root)

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """One row per measurement; `experiments.measuring.Measuring` documents what is measured."""
        measured = MEASURED if self.status == "finished" else ()  # one that diverged may never have been measured
        return read_table(self.folder / "history.csv", ("epoch", *measured))

    @property
    def final(self) -> pd.Series:
        """The last measurement."""
        return self.history.iloc[-1]

    @functools.cached_property
    def W(self) -> np.ndarray:
        """The classifier, shape (K, d), float64."""
        (stored,) = stored_arrays(self.folder / "W.npy")
        if stored.dtype != np.float64 or len(stored.shape) != 2 or stored.shape[1] != self.settings.d:
            raise ValueError(
                f"cannot read {stored.path}: it holds {stored.dtype} of shape {stored.shape}, which is of another run"
            )
        return stored.read()

    def data(self, **changes: Any) -> Data:
        """The data of the run, with some data options changed: ``run.data(shift="contrast:0.5")``.

        Raises
        ------
        ValueError
            If the data are not those that it was trained on, or the options do not exist.
        """
        data, found = _loaded(self.settings, self.data_root)
        if found != self.fingerprint:
            raise ValueError(
                f"{self.settings.key} was trained on other data than {self.settings.data} now is (of another data "
                "folder, perhaps): train it again in another results folder"
            )
        return loaded(self.settings, self.data_root, **changes) if changes else data

    def model(self) -> Classifier:
        """Network and head, trained, in evaluation mode, on the CPU."""
        from experiments.model import built

        model = built(self.settings, self.data())
        try:
            model.load_state_dict(read_tensors(self.folder / "model.pt", hashed=False))
        except RuntimeError:
            raise ValueError(f"cannot read {self.folder / 'model.pt'}: it is of another architecture") from None
        return model.eval()

    def evaluation(self, name: str, kind: type[Kind], measure: Callable[[TrainedRun], Kind]) -> Kind:
        """What ``measure(run)`` finds, JSON-serialisable: computed once, and kept in the folder as ``name.json``.

        A file that does not hold data of this ``kind`` (`softmaxcode.storage.records.read_record`) is written again.
        """
        path = self.folder / f"{name}.json"
        try:
            return read_json(path, kind)
        except ValueError:
            found = measure(self)
            write_json(path, found)
            return found


def _loaded(settings: RunSettings, root: str | None) -> tuple[Data, str]:
    """The data of a run and their fingerprint; runs of the same data share them."""
    return _shared(settings.data, json.dumps(settings.data_options, sort_keys=True), root)


@functools.lru_cache(maxsize=4)
def _shared(name: str, options: str, root: str | None) -> tuple[Data, str]:
    data = load(name, root, **json.loads(options))
    return data, fingerprint(data)


class Results:
    """A results folder.

    Parameters
    ----------
    root : path
        Its runs are in ``root/runs``, a folder each, named by their keys.
    data_root : str, optional
        The folder of the data sets.

    Examples
    --------
    >>> import tempfile
    >>> results = Results(tempfile.mkdtemp())
    >>> results.finished([RunSettings.checked("digits")])
    []
    """

    def __init__(self, root: str | Path, data_root: str | None = None) -> None:
        self.root, self.data_root = Path(root), data_root

    def folder(self, settings: RunSettings) -> Path:
        """Where a run is, or will be."""
        return self.root / "runs" / settings.key

    def finished(self, wanted: Iterable[RunSettings]) -> list[TrainedRun]:
        """Those of the runs that are finished, in their order, each once."""
        folders = dict.fromkeys(self.folder(settings) for settings in wanted)
        return [TrainedRun.read(folder, self.data_root) for folder in folders if (folder / "run.json").is_file()]

    def train(
        self, wanted: Sequence[RunSettings], execution: Execution, *, jobs: int = 1
    ) -> Iterator[tuple[RunSettings, str | None]]:
        """Train what is not finished; those that start from another run come after all that do not.

        Parameters
        ----------
        wanted : sequence of RunSettings
            What is to be there.
        execution : Execution
            Where and how.
        jobs : int
            Runs at once, each in a process of its own with one thread.

        Yields
        ------
        settings : RunSettings
            Of a run that has just ended.
        reason : str or None
            Why it failed, if it did.
        """
        missing = {s.key: s for s in wanted if not (self.folder(s) / "run.json").is_file()}
        for later in (False, True):
            wave = {key: s for key, s in missing.items() if (s.initial is not None) == later}
            if jobs == 1 or len(wave) < 2:
                for settings in wave.values():
                    yield settings, self._attempt(settings, execution)
                continue
            tasks = {key: {"settings": s, "folder": self.folder(s), "execution": execution} for key, s in wave.items()}
            with LocalWorkers(jobs, timeout=math.inf) as workers:
                for outcome in run_tasks(workers, train, tasks):
                    yield wave[outcome.key], outcome.reason

    def _attempt(self, settings: RunSettings, execution: Execution) -> str | None:
        """Train a run here; what is refused becomes the reason, so that other runs are done."""
        try:
            train(settings, self.folder(settings), execution)
        except ValueError as error:
            if execution.devices > 1:  # the other processes would wait for this one
                raise
            return str(error)
        return None
