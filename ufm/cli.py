"""The command ``python -m ufm``: simulate, sweep, plot."""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from softmaxcode.checks.arguments import printable
from softmaxcode.cli.arguments import Parser, chosen_output, output_option, run_command
from softmaxcode.storage.disk import check_output, one_writer
from softmaxcode.tables import read_table
from ufm.storage import HISTORIES, check_parquet, is_finished, read_run, write_run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ufm.settings import Settings


#: Where results go that no ``-o`` names.
RESULTS = Path("out", "ufm")

#: Options that are settings of a run; what is not given is left to `ufm.simulate`.
OPTIONS = (
    "n",
    "temperature",
    "seed",
    "anneal",
    "objective",
    "optimizer",
    "learning_rate",
    "weight_decay",
    "steps",
    "record_every",
    "tolerance",
    "dtype",
)


def _parser() -> argparse.ArgumentParser:
    """Of K, d and n also with one dash: ``torchrun`` takes ``--d`` and ``--n`` for its own before it starts us."""
    description = "The unconstrained feature model: features and classifier free on the sphere, at small temperature."
    parser = Parser(prog="python -m ufm", description=description)
    commands = parser.add_subparsers(dest="command", parser_class=Parser)

    one = commands.add_parser("simulate", help="one run: its history, its rows and a figure, in a folder")
    one.add_argument("-K", "--K", type=int, required=True, help="number of classes")
    one.add_argument("-d", "--d", type=int, required=True, help="dimension")
    _option(one, "--temperature", type=float, help="the temperature (default 0.05)")
    _option(one, "--seed", type=int, help="what the random start follows from (default 0)")
    _settings_options(one)
    one.add_argument(
        "--checkpoint-every", type=int, metavar="STEPS", help="steps between checkpoints (default: a minute)"
    )
    one.add_argument("--align", action="store_true", help="compare with the best code known as relabelled and rotated")
    one.add_argument("--csv", action="store_true", help="write history.csv in place of history.parquet")
    one.add_argument("-o", "--output", metavar="FOLDER", help=f"where results go (default: a folder in {RESULTS})")

    many = commands.add_parser("sweep", help="every combination of classes, dimension, temperature and seed: a table")
    many.add_argument("-K", "--K", type=int, nargs="+", required=True, help="numbers of classes")
    many.add_argument("-d", "--d", type=int, nargs="+", required=True, help="dimensions")
    _option(many, "--temperature", type=float, nargs="+", help="temperatures (default 1 0.5 0.2 0.1 0.05 0.02 0.01)")
    _option(many, "--seeds", type=int, metavar="COUNT", help="seeds of each, from 0 on (default 4)")
    _settings_options(many)
    output_option(
        many,
        f".parquet, .csv, .md or .tex, with a .png beside; an unfinished one is continued (default: in {RESULTS})",
        metavar="TABLE",
    )

    picture = commands.add_parser("plot", help="draw a run or a sweep again")
    picture.add_argument("source", help="folder of a run, its history, or the .parquet or .csv table of a sweep")
    output_option(picture, "write the figure: .png, .pdf or .svg", required=True)
    return parser


def _option(parser: argparse.ArgumentParser, *names: str, **how: Any) -> None:
    """One that is absent where it is not given: its default stands in `ufm.simulate` or `ufm.sweep` alone."""
    parser.add_argument(*names, default=argparse.SUPPRESS, **how)


def _settings_options(parser: argparse.ArgumentParser) -> None:
    """What `simulate` and `sweep` share."""
    _option(parser, "-n", "--n", type=int, nargs="+", help="features per class: one number or K of them (default 5)")
    _option(parser, "--anneal", type=float, metavar="TEMPERATURE", help="begin here and cool down (default: do not)")
    _option(parser, "--objective", help="log-cross-entropy (default), cross-entropy or hardmax")
    _option(parser, "--optimizer", help="auto (default), lbfgs, adam or sgd")
    _option(parser, "--learning-rate", type=float, help="of adam and sgd at the first step (default: by temperature)")
    _option(parser, "--weight-decay", type=float, help="take the free model: rows of any norm, with this decay")
    _option(parser, "--steps", type=int, help="steps at most (default 5000)")
    _option(parser, "--record-every", type=int, metavar="STEPS", help="steps between two measurements")
    _option(parser, "--tolerance", type=float, help="end at this gap of certified and best known margin (default 1e-6)")
    _option(parser, "--dtype", help="auto (default), float64 or float32")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda or cuda:N")
    parser.add_argument(
        "--progress",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="show a progress bar (default: on a terminal)",
    )


def _given(arguments: argparse.Namespace, *names: str) -> dict[str, Any]:
    """Those of the options that were given; features per class as a number where there is one."""
    options = {name: value for name, value in vars(arguments).items() if name in names}
    if len(options.get("n", ())) == 1:
        options["n"] = options["n"][0]
    return options


def _first_process() -> bool:
    """Whether this is the process of several that prints and writes."""
    from ufm.parallel import started

    return started() == 1 or os.environ.get("RANK") == "0"


def _simulate(arguments: argparse.Namespace) -> int:
    from ufm.settings import Settings
    from ufm.simulation import chosen_device, run_batch

    settings = Settings.checked(arguments.K, arguments.d, **_given(arguments, *OPTIONS))
    device = chosen_device(arguments.device)
    if not arguments.csv:
        check_parquet("pass --csv")
    folder = RESULTS / _run_name(settings) if arguments.output is None else Path(arguments.output)
    if finished := is_finished(folder, settings):
        run = read_run(folder)
    else:
        if folder.exists() and not folder.is_dir():
            raise ValueError(f"{folder} is a file; name a folder with -o")
        folder.mkdir(parents=True, exist_ok=True)
        with one_writer(folder if _first_process() else None):
            try:
                (run,) = run_batch(
                    [settings],
                    device=device,
                    checkpoint=folder / "checkpoint.pt",
                    checkpoint_every=arguments.checkpoint_every,
                    progress=arguments.progress,
                )
            except ValueError:
                with contextlib.suppress(OSError):  # what was refused leaves no empty folder
                    folder.rmdir()
                raise
            if _first_process():
                write_run(run, folder, HISTORIES[arguments.csv], str(device))
    if _first_process():
        print(run.final.to_string(float_format="{:.10g}".format), end="\n\n")
        print(run.compare(align=arguments.align))
        print(f"\n{'was finished before, and is in' if finished else 'written to'} {printable(folder)}")
        if run.status == "diverged":
            print(f"ufm: {run.reason}", file=sys.stderr)
    return int(run.status == "diverged")


def _run_name(settings: Settings) -> str:
    features = f"n{settings.n}" if isinstance(settings.n, int) else f"N{settings.samples}"
    return f"K{settings.K}-d{settings.d}-{features}-tau{settings.temperature:g}-seed{settings.seed}"


def _sweep(arguments: argparse.Namespace) -> int:
    from ufm.plots import plot_sweep
    from ufm.sweeps import SUFFIXES, continues, sweep

    options = _given(arguments, "seeds", *OPTIONS)

    @functools.cache  # it reads checkpoints
    def resumes(path: Path) -> bool:
        return continues(path, arguments.K, arguments.d, **options)

    # a file in the command's own folder is made again
    path = chosen_output(arguments, SUFFIXES, resumes=resumes) or RESULTS / _sweep_name(arguments)
    figure = path.with_suffix(".png")
    if arguments.output is not None:
        check_output(figure, (".png",), replace=arguments.force or resumes(path))
    if path.suffix.lower() == ".parquet":
        check_parquet("write to a .csv with -o")
    if arguments.output is None:
        RESULTS.mkdir(parents=True, exist_ok=True)
    table = sweep(arguments.K, arguments.d, **options, path=path, device=arguments.device, progress=arguments.progress)
    plot_sweep(table, figure)
    print(summary(table).to_string(index=False, float_format="{:.6g}".format))
    print(f"\nwritten to {printable(path)} and {printable(figure)}")
    diverged = table[table["status"] == "diverged"]
    for _, row in diverged.iterrows():
        which = f"K = {row['K']}, d = {row['d']}, temperature {row['temperature']:g}, seed {row['seed']}"
        print(f"ufm: {which} diverged; its row is that of step {row['step']:g}", file=sys.stderr)
    return int(len(diverged) > 0)


def _sweep_name(arguments: argparse.Namespace) -> str:
    """Of every option that was given, so that two sweeps never share a file."""
    parts = []
    for name, given in vars(arguments).items():
        if name in ("K", "d", "seeds", *OPTIONS):
            values = given if isinstance(given, list) else [given]
            parts.append(name + "-".join(f"{value:g}" if isinstance(value, float) else str(value) for value in values))
    return f"sweep-{'-'.join(parts)}.parquet"


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """What a sweep comes to at each temperature, over its seeds.

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


def _plot(arguments: argparse.Namespace) -> int:
    from ufm.plots import SUFFIXES, plot_run, plot_sweep

    output = chosen_output(arguments, SUFFIXES)
    source = Path(arguments.source)
    if source.is_dir() or source.name in HISTORIES:
        plot_run(read_run(source if source.is_dir() else source.parent), output)
    else:
        plot_sweep(read_table(source), output)
    print(f"written to {printable(output)}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 1 a run diverged, else as `run_command`)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.command is None:
        parser.error("name what to do: simulate, sweep or plot")
    actions = {"simulate": _simulate, "sweep": _sweep, "plot": _plot}
    return run_command(
        "ufm",
        lambda: actions[arguments.command](arguments),
        interrupted="interrupted"
        + ("" if arguments.command == "plot" else "; what was done is kept, and the same command resumes"),
        first=_first_process,
        program=argv is None,
    )
