"""The commands of ``python -m ufm``; their options are those of `ufm.Settings`, `ufm.simulate` and `ufm.sweep`."""

from __future__ import annotations

import contextlib
import functools
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from softmaxcode.checks.arguments import printable
from softmaxcode.cli.arguments import chosen_output, resumable
from softmaxcode.cli.options import Force, Output, takes
from softmaxcode.storage.disk import check_output, one_writer
from softmaxcode.tables import read_table
from ufm import simulation, sweeps
from ufm.settings import OPTIONS, Settings
from ufm.storage import HISTORIES, has_parquet, is_finished, read_run, write_run

#: Where results go that no ``-o`` names.
RESULTS = Path("out", "ufm")
#: What an interrupted simulation leaves.
KEPT = "what was done is kept"


@takes(
    settings=(Settings,),
    place=(simulation.simulate, "device"),
    execution=(simulation.simulate, "checkpoint_every", "progress"),
)
def simulate(settings, place, execution, *, align: bool = False, csv: bool = False, output: Output = None) -> int:
    """Run one simulation: its history, its rows and a figure, in a folder.

    Parameters
    ----------
    align : bool
        Compare with the best code known as relabelled and rotated.
    csv : bool
        Write history.csv in place of history.parquet, as without pyarrow.
    output : str
        The folder where results go (default: one in out/ufm).
    """
    from ufm.parallel import first_process  # with PyTorch, in seconds
    from ufm.running import chosen_device, run_batch

    chosen, device = Settings(**settings), chosen_device(**place)
    csv = csv or not has_parquet()
    folder = RESULTS / _run_name(chosen) if output is None else Path(output)
    if finished := is_finished(folder, chosen):
        run = read_run(folder)
    else:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; name a folder with -o")
        folder.mkdir(parents=True, exist_ok=True)
        with one_writer(folder if first_process() else None), resumable(KEPT):
            try:
                (run,) = run_batch([chosen], device=device, checkpoint=folder / "checkpoint.pt", **execution)
            except ValueError:
                with contextlib.suppress(OSError):  # what was refused leaves no empty folder
                    folder.rmdir()
                raise
            if first_process():
                write_run(run, folder, HISTORIES[csv], str(device))
    if first_process():
        print(run.final.to_string(float_format="{:.10g}".format), end="\n\n")
        print(run.compare(align=align))
        print(f"\n{'was finished before, and is in' if finished else 'written to'} {printable(folder)}")
        if run.status == "diverged":
            print(f"ufm: {run.reason}", file=sys.stderr)
    return int(run.status == "diverged")


def _run_name(settings: Settings) -> str:
    features = f"n{settings.n}" if isinstance(settings.n, int) else f"N{settings.samples}"
    return f"K{settings.K}-d{settings.d}-{features}-tau{settings.temperature:g}-seed{settings.seed}"


@takes(
    grid=(sweeps.sweep, "K", "d", "temperature", "seeds", "n"),
    settings=(Settings, *OPTIONS),
    execution=(simulation.simulate, "device", "progress"),
)
def sweep(grid, settings, execution, *, output: Output = None, force: Force = False) -> int:
    """Simulate every combination of classes, dimension, temperature and seed: a table.

    Parameters
    ----------
    output : str
        The table, .parquet, .csv, .md or .tex, with a .png beside; an unfinished one is continued (default: in
        out/ufm, as .parquet, or as .csv without pyarrow).
    """
    from ufm.plots import plot_sweep

    runs = {**grid, **settings}

    @functools.cache  # it reads checkpoints
    def resumes(path: Path) -> bool:
        return sweeps.continues(path, **runs)

    # a file in the command's own folder is made again
    path = chosen_output(output, force, sweeps.SUFFIXES, resumes=resumes) or RESULTS / _sweep_name(runs)
    figure = path.with_suffix(".png")
    if output is not None:
        check_output(figure, (".png",), replace=force or resumes(path))
    if path.suffix.lower() == ".parquet" and not has_parquet():  # before hours of work
        raise ValueError(
            "writing parquet needs pyarrow: pip install 'softmaxcode[parquet]', or write to a .csv with -o"
        )
    if output is None:
        RESULTS.mkdir(parents=True, exist_ok=True)
    with resumable(KEPT):
        table = sweeps.sweep(**runs, path=path, **execution)
    plot_sweep(table, figure)
    print(summary(table).to_string(index=False, float_format="{:.6g}".format))
    print(f"\nwritten to {printable(path)} and {printable(figure)}")
    diverged = table[table["status"] == "diverged"]
    for _, row in diverged.iterrows():
        which = f"K = {row['K']}, d = {row['d']}, temperature {row['temperature']:g}, seed {row['seed']}"
        print(f"ufm: {which} diverged; its row is that of step {row['step']:g}", file=sys.stderr)
    return int(len(diverged) > 0)


def _sweep_name(runs: dict[str, Any]) -> str:
    """A file name from every option that was given, so that two sweeps never share a file."""
    parts = []
    for name, given in runs.items():
        values = given if isinstance(given, tuple) else (given,)
        parts.append(name + "-".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values))
    return f"sweep-{'-'.join(parts)}.{'parquet' if has_parquet() else 'csv'}"


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Summarise a sweep at each temperature, over its seeds.

    Parameters
    ----------
    table : DataFrame
        From `ufm.sweep`.

    Returns
    -------
    DataFrame
        One row for each K, d and temperature: the best GNC2 over the seeds and its fraction of the best known margin,
        the largest GNC1 and GNC3, the best certified margin, the bound of T6 (c), how many seeds meet it, and the
        violations of all of them.

    Examples
    --------
    >>> import ufm
    >>> table = ufm.sweep(K=6, d=3, temperature=0.02, seeds=2, n=1, steps=300)
    >>> summary(table)[["GNC2", "of best known", "meet it", "violations"]].round(3).values.tolist()
    [[1.0, 1.0, '2 of 2', 0]]
    """
    rows = []
    for (K, d, temperature), seeds in table.groupby(["K", "d", "temperature"], sort=False):
        bound = seeds["minimizer_bound"].iloc[0]
        rows.append(
            {
                "K": K,
                "d": d,
                "temperature": temperature,
                "GNC2": seeds["GNC2"].max(),
                "of best known": seeds["ratio"].max(),
                "GNC1": seeds["GNC1"].max(),
                "GNC3": seeds["GNC3"].max(),
                "certified": seeds["certified_margin"].max(),
                "bound": bound,
                "meet it": "" if not bound > 0 else f"{seeds['meets_bound'].eq(True).sum()} of {len(seeds)}",
                "violations": seeds["violations"].sum(),
            }
        )
    return pd.DataFrame(rows)


@takes()
def plot(source: str, /, *, output: Output, force: Force = False) -> int:
    """Draw a run or a sweep again.

    Parameters
    ----------
    source : str
        Folder of a run, its history, or the .parquet or .csv table of a sweep.
    output : str
        Write the figure: .png, .pdf or .svg.
    """
    from ufm.plots import SUFFIXES, plot_run, plot_sweep

    path, what = chosen_output(output, force, SUFFIXES), Path(source)
    if what.is_dir() or what.name in HISTORIES:
        plot_run(read_run(what if what.is_dir() else what.parent), path)
    else:
        plot_sweep(read_table(what), path)
    print(f"written to {printable(path)}")
    return 0
