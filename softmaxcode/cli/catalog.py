"""``softmaxcode catalog``: list, show, improve, export, import, verify."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from softmaxcode.checks.arguments import printable
from softmaxcode.cli.arguments import (
    Parser,
    chosen_output,
    chosen_pairs,
    numbers,
    output_option,
    pairs_options,
    search_options,
)
from softmaxcode.storage.disk import check_input

if TYPE_CHECKING:
    import argparse

    from softmaxcode.catalog import Catalog


def add_catalog(parser: argparse.ArgumentParser) -> None:
    """Add the actions to the parser of ``softmaxcode catalog``."""
    actions = parser.add_subparsers(dest="action", parser_class=Parser)

    listing = actions.add_parser("list", help="what is stored, one line per entry")
    listing.add_argument("--classes", help="only these K, such as 4:32 or 10,20,30")
    listing.add_argument("--dims", help="only these d, such as 3,4")
    listing.add_argument("--objective", help="only softmax, or only tammes")

    show = actions.add_parser("show", help="every figure of one code, without any search")
    show.add_argument("K", type=int, help="number of classes")
    show.add_argument("d", type=int, help="dimension")
    show.add_argument("--objective", default="softmax", help="softmax (default) or tammes")
    output_option(show, "write the code: .npz, .csv, or .txt as pack.d.K.txt")

    improve = actions.add_parser("improve", help="search many (K, d), and keep what is better than what is stored")
    pairs_options(improve)
    search_options(improve)
    improve.add_argument("--jobs", type=int, default=-1, help="local processes (default: every core)")
    improve.add_argument("--scheduler", help="address of a Dask scheduler, such as tcp://host:8786")
    improve.add_argument("--catalog", help="the file to improve (default: yours, in the user's data folder)")

    out = actions.add_parser("export", help="write what is stored into a new catalogue file")
    out.add_argument("file", help="the file to write")
    out.add_argument("--force", action="store_true", help="replace a file that exists")
    pairs_options(out)

    into = actions.add_parser("import", help="improve by another catalogue or code file, verifying every code")
    into.add_argument("file", help=".sqlite, or a code as .npz, .npy, .txt or .csv")
    into.add_argument("--dim", type=int, help="dimension of a .txt or .csv file that does not show it")
    into.add_argument("--catalog", help="the file to improve (default: yours, in the user's data folder)")

    verify = actions.add_parser("verify", help="derive the certificate of every entry again")
    verify.add_argument("file", nargs="?", help="the catalogue (default: the one that ships with the package)")
    verify.add_argument("--jobs", type=int, default=-1, help="processes (default: every core)")


def catalog(arguments: argparse.Namespace) -> int:
    """Run one action; returns the exit code."""
    actions = {
        "list": _list,
        "show": _show,
        "improve": _improve,
        "export": _export,
        "import": _import,
        "verify": _verify,
    }
    if arguments.action is None:
        raise ValueError(f"name what to do with the catalogue: {', '.join(actions)}")
    return actions[arguments.action](arguments)


def _list(arguments: argparse.Namespace) -> int:
    from softmaxcode.catalog import installed
    from softmaxcode.checks.arguments import check_objective

    classes = set(numbers(arguments.classes, "classes")) if arguments.classes else None
    dims = set(numbers(arguments.dims, "dims")) if arguments.dims else None
    objective = check_objective(arguments.objective) if arguments.objective else None
    with installed() as stored:
        entries = [] if stored is None else stored.entries()
    chosen = [
        e
        for e in entries
        if (classes is None or e.K in classes) and (dims is None or e.d in dims) and objective in (None, e.objective)
    ]
    for e in chosen:
        status = e.status if e.verified else f"claims {e.status}"  # `catalog verify` derives it
        print(
            f"K={e.K:<6} d={e.d:<4} {e.objective:<8} margin={e.margin:.15f} mu={e.max_cosine:.15f} "
            f"{status:<15} {printable(e.construction or e.provenance.method)}"
        )
    print(f"{len(chosen)} of {len(entries)} entries")
    return 0


def _show(arguments: argparse.Namespace) -> int:
    from softmaxcode.catalog import UnknownCodeError, best_known
    from softmaxcode.report import print_and_save
    from softmaxcode.storage.files import WRITABLE

    output = chosen_output(arguments, WRITABLE)
    try:
        code = best_known(arguments.K, arguments.d, objective=arguments.objective)
    except UnknownCodeError as error:
        print(error)
        return 1
    print_and_save(code, output)
    return 0


def _target(arguments: argparse.Namespace) -> Catalog:
    from softmaxcode.catalog import Catalog, user_catalog

    return Catalog(arguments.catalog) if arguments.catalog else user_catalog()


def _improve(arguments: argparse.Namespace) -> int:
    from softmaxcode.sweep import sweep

    pairs = chosen_pairs(arguments)
    if not pairs:
        raise ValueError("name the (K, d): --classes 4:32 --dims 3,4, or --pairs '12,3; 24,3'")
    with closing(_target(arguments)) as target:
        report = sweep(
            pairs,
            catalog=target,
            starts=arguments.starts,
            budget=arguments.budget,
            seed=arguments.seed,
            n_jobs=arguments.jobs,
            scheduler=arguments.scheduler,
        )
        for line in str(report).splitlines():
            print(printable(line))
        print(f"{'catalogue':<21} {printable(target.path)}")
    return 1 if report.failed else 0


def _export(arguments: argparse.Namespace) -> int:
    from softmaxcode.catalog import export

    count = export(arguments.file, chosen_pairs(arguments) or None, replace=arguments.force)
    print(f"{count} entries written to {printable(arguments.file)}")
    return 0


def _import(arguments: argparse.Namespace) -> int:
    from softmaxcode.catalog import import_codes

    check_input(arguments.file)  # before a catalogue is made
    with closing(_target(arguments)) as target:
        report = import_codes(arguments.file, target, lambda line: print(printable(line)), dim=arguments.dim)
    print(f"{len(report.entered)} entered, {report.not_better} not better, {len(report.refused)} refused")
    return 1 if report.refused else 0


def _verify(arguments: argparse.Namespace) -> int:
    from softmaxcode.catalog import shipped_path, verify

    path = arguments.file or shipped_path()
    results = verify(path, n_jobs=arguments.jobs)
    wrong = [result for result in results if result.problem]
    for result in wrong:
        print(printable(f"WRONG: {result.entry.name}: {result.problem}"))
    print(
        f"{len(results) - len(wrong)} of {len(results)} certificates of {printable(path)} were derived again and hold"
    )
    return 1 if wrong else 0
