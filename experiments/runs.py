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

from experiments.files import read_tensors, write_json
from experiments.settings import Settings
from experiments.training import Execution, loaded, train
from softmaxcode.workers import LocalWorkers
from softmaxcode.workers import run as run_tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from experiments.data import Data
    from experiments.model import Classifier


@dataclass(frozen=True, eq=False)
class Run:
    """A finished run.

    Attributes
    ----------
    settings : Settings
        What it was.
    folder : Path
        Where its files are.
    status : {"finished", "diverged"}
        How it ended.
    seconds : float
        Time spent training, without measuring.
    data_root : str or None
        The folder of the data sets.
    """

    settings: Settings
    folder: Path
    status: str
    seconds: float
    data_root: str | None = None

    @classmethod
    def read(cls, folder: Path, data_root: str | None = None) -> Run:
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
            header = json.loads(path.read_text())
            settings = Settings.from_plain(header["settings"])
            return cls(settings, folder, str(header["status"]), float(header["seconds"]), data_root)
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"cannot read {path}: it is not the header of a run, or damaged") from None

    @functools.cached_property
    def history(self) -> pd.DataFrame:
        """One row a measurement; `experiments.measuring.Measuring` says what is measured."""
        try:
            return pd.read_csv(self.folder / "history.csv")
        except (OSError, ValueError):
            raise ValueError(f"cannot read {self.folder / 'history.csv'}: it is missing or damaged") from None

    @property
    def final(self) -> pd.Series:
        """The last measurement."""
        return self.history.iloc[-1]

    @functools.cached_property
    def W(self) -> np.ndarray:
        """The classifier, shape (K, d), float64."""
        try:
            return np.load(self.folder / "W.npy", allow_pickle=False)
        except (OSError, ValueError):
            raise ValueError(f"cannot read {self.folder / 'W.npy'}: it is missing or damaged") from None

    def data(self, **changes: Any) -> Data:
        """The data of the run, with some data options changed: ``run.data(shift="contrast:0.5")``."""
        return _loaded(json.dumps([self.settings.plain(), changes], sort_keys=True), self.data_root)

    def model(self) -> Classifier:
        """Network and head, trained, in evaluation mode, on the CPU."""
        from experiments.model import built

        model = built(self.settings, self.data())
        try:
            model.load_state_dict(read_tensors(self.folder / "model.pt"))
        except RuntimeError:
            raise ValueError(f"cannot read {self.folder / 'model.pt'}: it is of another architecture") from None
        return model.eval()

    def evaluation(self, name: str, measure: Callable[[Run], dict[str, Any]]) -> dict[str, Any]:
        """What ``measure(run)`` finds, plain data: computed once, and kept in the folder as ``name.json``."""
        path = self.folder / f"{name}.json"
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except (OSError, ValueError):
            found = measure(self)
            write_json(path, found)
        return found


@functools.lru_cache(maxsize=4)
def _loaded(request: str, root: str | None) -> Data:
    stored, changes = json.loads(request)
    return loaded(Settings.from_plain(stored), root, **changes)


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
    >>> results.finished([Settings.checked("digits")])
    []
    """

    def __init__(self, root: str | Path, data_root: str | None = None) -> None:
        self.root, self.data_root = Path(root), data_root

    def folder(self, settings: Settings) -> Path:
        """Where a run is, or will be."""
        return self.root / "runs" / settings.key

    def finished(self, wanted: Iterable[Settings]) -> list[Run]:
        """Those of the runs that are finished, in their order, each once."""
        folders = dict.fromkeys(self.folder(settings) for settings in wanted)
        return [Run.read(folder, self.data_root) for folder in folders if (folder / "run.json").is_file()]

    def train(
        self, wanted: Sequence[Settings], execution: Execution, *, jobs: int = 1
    ) -> Iterator[tuple[Settings, str | None]]:
        """Train what is not finished; those that start from another run come after all that do not.

        Parameters
        ----------
        wanted : sequence of Settings
            What is to be there.
        execution : Execution
            Where and how.
        jobs : int
            Runs at once, each in a process of its own with one thread.

        Yields
        ------
        settings : Settings
            Of a run that has just ended.
        reason : str or None
            Why it failed, if it did.
        """
        missing = {s.key: s for s in wanted if not (self.folder(s) / "run.json").is_file()}
        for later in (False, True):
            wave = {key: s for key, s in missing.items() if (s.initial is not None) == later}
            if jobs == 1 or len(wave) < 2:
                for settings in wave.values():
                    train(settings, self.folder(settings), execution)
                    yield settings, None
                continue
            tasks = {key: {"settings": s, "folder": self.folder(s), "execution": execution} for key, s in wave.items()}
            with LocalWorkers(jobs, patience=math.inf) as workers:
                for outcome in run_tasks(workers, train, tasks):
                    yield wave[outcome.key], outcome.reason
