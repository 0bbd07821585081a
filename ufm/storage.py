"""Folders of finished runs: `run.json` is written last, and every value is validated on reading."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from softmaxcode.storage.arrays import stored_arrays
from softmaxcode.storage.disk import read_text, written_whole
from softmaxcode.storage.provenance import installed_version
from softmaxcode.storage.records import parse_json, read_record
from softmaxcode.tables import read_table

if TYPE_CHECKING:
    from ufm.run import Run
    from ufm.settings import Settings


#: The possible file names of a history.
HISTORIES = ("history.parquet", "history.csv")
#: Files that a run writes into its folder before run.json.
RESULT_FILES = ("W.npy", "H.npy", "figure.png", *HISTORIES)


def has_parquet() -> bool:
    """Whether pyarrow is installed, which writes parquet; without it, tables are written as CSV."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        return False
    return True


def is_finished(folder: Path, settings: Settings) -> bool:
    """Whether the folder contains the results of this run.

    Raises
    ------
    ValueError
        If it contains those of another run; the message names the first setting that differs.
    """
    if not (folder / "run.json").is_file():
        foreign = [name for name in RESULT_FILES if (folder / name).exists()]
        if foreign and not (folder / "checkpoint.pt").is_file():  # an unfinished run resumes
            raise ValueError(f"{folder} holds {foreign[0]}, which no run wrote; name another folder with -o")
        return False
    stored = read_header(folder)["settings"]
    for name, new in settings.to_dict().items():
        old = stored.get(name)
        if old != new:
            raise ValueError(
                f"{folder} holds another run, with {name} = {old!r} and not {new!r}; name another folder with -o, or "
                "remove it"
            )
    return True


def write_run(run: Run, folder: Path, history: str, device: str) -> None:
    """Write the results of a run, ``run.json`` last, and remove its checkpoint.

    Parameters
    ----------
    run : Run
        The run to write.
    folder : Path
        An existing folder. It receives the history, ``W.npy``, ``H.npy``, ``figure.png`` and ``run.json``.
    history : str
        Name of the history's file, one of ``HISTORIES``.
    device : str
        The device of the run, for ``run.json``.

    Examples
    --------
    >>> import tempfile, ufm
    >>> folder = Path(tempfile.mkdtemp())
    >>> write_run(ufm.simulate(K=4, d=3, n=1, temperature=0.1, steps=50), folder, "history.csv", "cpu")
    >>> read_run(folder).W.shape
    (4, 3)
    """
    from softmaxcode.tables import write
    from ufm.plots import plot_run

    write(run.history, folder / history)
    for name, rows in (("W", run.W), ("H", run.H)):
        with written_whole(folder / f"{name}.npy") as temporary:
            np.save(temporary, rows)
    plot_run(run, folder / "figure.png")
    libraries = ("torch", "geoopt", "numpy", "pandas")
    header = {
        "settings": run.settings.to_dict(),
        "status": run.status,
        "reason": run.reason,
        "device": device,
        "versions": {
            "softmaxcode": installed_version(),
            "python": platform.python_version(),
            **{name: version(name) for name in libraries},
        },
    }
    with written_whole(folder / "run.json") as temporary:
        temporary.write_text(json.dumps(header, indent=1) + "\n")
    (folder / "checkpoint.pt").unlink(missing_ok=True)


class Header(TypedDict):
    """The fields that are read from the ``run.json`` of a run."""

    settings: dict[str, Any]
    status: str
    reason: str


def read_header(folder: Path) -> Header:
    """Read ``run.json`` from a folder.

    Raises
    ------
    ValueError
        If there is no such file, or it is not that of a run.
    """
    path = folder / "run.json"
    if not path.is_file():
        raise ValueError(f"cannot read {folder}: no finished run is there (it has no run.json)")
    try:
        return read_record(Header, parse_json(read_text(path)))
    except ValueError as error:
        raise ValueError(f"cannot read {path}: it is not the header of a run, or damaged ({error})") from None


def read_run(folder: Path) -> Run:
    """Read a run that `write_run` wrote.

    Parameters
    ----------
    folder : Path
        The folder.

    Returns
    -------
    Run
        The same run.

    Raises
    ------
    ValueError
        If no finished run is there, or one of its files is missing or damaged.
    """
    from ufm.recording import COLUMNS
    from ufm.run import Run
    from ufm.settings import Settings

    header = read_header(folder)
    file = next((folder / name for name in HISTORIES if (folder / name).is_file()), folder / HISTORIES[0])
    history = read_table(file, COLUMNS)
    try:
        settings = Settings.from_dict(header["settings"])
    except ValueError as error:
        raise ValueError(f"cannot read {folder / 'run.json'}: {error}") from None
    W, H = (_rows_of(folder / f"{name}.npy", settings) for name in "WH")
    if W.shape != (settings.K, settings.d):
        raise ValueError(f"cannot read {folder}: its files are not of one run")
    return Run(settings, W, H, history, header["status"], header["reason"])


def _rows_of(path: Path, settings: Settings) -> np.ndarray:
    """The vectors of a file, of the dimension and precision of the run."""
    (stored,) = stored_arrays(path)
    if stored.shape[-1:] != (settings.d,) or stored.dtype != settings.dtype:
        raise ValueError(
            f"cannot read {path}: it holds {stored.dtype} of shape {stored.shape}, which is of another run"
        )
    return stored.read()
