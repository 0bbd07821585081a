"""The ``softmaxcode`` command: solve, check, table, plot, landscape, catalog."""

from __future__ import annotations

import argparse
import json
import reprlib
import sys
from typing import TYPE_CHECKING, Any

from softmaxcode.checks.arguments import printable
from softmaxcode.cli.arguments import (
    Parser,
    chosen_output,
    chosen_pairs,
    device_option,
    numbers,
    output_option,
    pairs_options,
    run_command,
    search_options,
)
from softmaxcode.cli.catalog import add_catalog, catalog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.certificates.proof import ProvedValue
    from softmaxcode.code import SoftmaxCode

#: Derived values may differ from stored ones by this much, which is what another machine's rounding can do; small ones
#: by 1e-9 of themselves and the rounding of a distance.
CHECK_TOLERANCE, CHECK_ROUNDING = 1e-12, 2.0**-46


def _parser() -> argparse.ArgumentParser:
    parser = Parser(prog="softmaxcode", description="Softmax Codes and Tammes packings, with certificates.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", parser_class=Parser)

    one = commands.add_parser("solve", help="solve one (K, d) and print its measurements")
    one.add_argument("K", type=int, help="number of classes")
    one.add_argument("d", type=int, help="dimension")
    one.add_argument("--objective", default="softmax", help="softmax (default) or tammes")
    one.add_argument("--digits", type=int, help="prove the value to so many digits")
    output_option(one, "write the code: .npz, .csv, or .txt as pack.d.K.txt")
    search_options(one)
    device_option(one)
    one.add_argument("--no-catalog", action="store_true", help="do not start from the catalogue of known codes")
    one.add_argument("--no-exact", action="store_true", help="do not start from the exact families")

    check = commands.add_parser("check", help="derive every figure of a file again from its coordinates")
    check.add_argument("file", help=".npz, .npy, .txt or .csv")
    check.add_argument("--dim", type=int, help="dimension of a .txt or .csv file that does not show it")
    check.add_argument("--objective", help="what to certify in a .npy, .txt or .csv file: softmax (default) or tammes")
    check.add_argument("--normalize", action="store_true", help="scale rows to unit norm first")

    many = commands.add_parser("table", help="margin against Tammes distance for many (K, d)")
    pairs_options(many)
    output_option(many, "write the table: .csv, .parquet, .md or .tex; an unfinished one is continued")
    search_options(many)
    device_option(many)
    many.add_argument("--no-catalog", action="store_true", help="do not start from the catalogue of known codes")

    picture = commands.add_parser("plot", help="draw a code: sphere, cosine spectrum, margins")
    picture.add_argument("file", help=".npz, .npy, .txt or .csv")
    picture.add_argument("--dim", type=int, help="dimension of a .txt or .csv file that does not show it")
    picture.add_argument("--normalize", action="store_true", help="scale rows to unit norm first")
    output_option(picture, "write the figure: .png, .pdf or .svg", required=True)

    frontier = commands.add_parser("landscape", help="draw the best margins known against K, one panel per dimension")
    frontier.add_argument("--dims", required=True, help="dimensions, each a panel, such as 3,4,8")
    frontier.add_argument("--max-classes", type=int, help="the largest K shown (default: by what is known)")
    output_option(frontier, "write the figure: .png, .pdf or .svg", required=True)

    add_catalog(
        commands.add_parser("catalog", help="the best codes known: list, show, improve, export, import, verify")
    )
    return parser


def _solve(arguments: argparse.Namespace) -> int:
    from softmaxcode.report import print_and_save
    from softmaxcode.solver import solve
    from softmaxcode.storage.files import WRITABLE

    output = chosen_output(arguments, WRITABLE)
    code = solve(
        arguments.K,
        arguments.d,
        objective=arguments.objective,
        starts=arguments.starts,
        budget=arguments.budget,
        seed=arguments.seed,
        device=arguments.device,
        digits=arguments.digits,
        catalog=not arguments.no_catalog,
        exact=not arguments.no_exact,
    )
    print_and_save(code, output)
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from softmaxcode.certificates.proof import ProvedValue
    from softmaxcode.checks.arguments import check_objective
    from softmaxcode.code import SoftmaxCode
    from softmaxcode.report import proof, report
    from softmaxcode.storage.files import DifferentCoordinatesError, measurements, read_code

    if arguments.file.lower().endswith(".npz") and (arguments.dim is not None or arguments.objective):
        raise ValueError("--dim and --objective are for files of bare coordinates; an .npz file names both itself")
    try:
        stored = read_code(arguments.file, dim=arguments.dim, normalize=arguments.normalize)
    except DifferentCoordinatesError as error:
        print(printable(f"DIFFERENT: {error}"))
        return 1
    header, objective = stored.header, stored.objective
    if header is None and arguments.objective:
        objective = check_objective(arguments.objective)
    code = SoftmaxCode(stored.W, objective, stored.provenance)
    if header is None:
        sys.stdout.write(report(code))
        return 0
    sys.stdout.write(report(code, made_by="made by (its claim)"))
    # through JSON, as the stored ones went
    differences = compare(header["figures"], json.loads(json.dumps(measurements(code))))
    if header["proved"] is not None:
        proved, off = _proved_again(code, ProvedValue(**header["proved"]))
        sys.stdout.write("" if proved is None else proof(proved))
        differences += off
    for line in differences:
        print(printable(f"DIFFERENT: {line}"))
    if differences:
        return 1
    print("every stored measurement was derived again from the coordinates, and is the same to rounding")
    return 0


def _proved_again(code: SoftmaxCode, claimed: ProvedValue) -> tuple[ProvedValue | None, list[str]]:
    """The proof that a file claims, made again to the same number of digits, and where the claim goes beyond it."""
    from softmaxcode.certificates.proof import claims_more
    from softmaxcode.solver import prove

    try:
        proved = prove(code, max(1, claimed.digits))
    except ValueError as error:
        return None, [f"the proof could not be made again ({error})"]
    return proved, claims_more(claimed, proved)


def compare(stored: Any, derived: Any, name: str = "") -> list[str]:
    """Where two sets of measurements differ by more than rounding, one sentence each."""
    if isinstance(stored, dict) and isinstance(derived, dict):
        out = []
        for key in sorted({*stored, *derived}):
            out += compare(stored.get(key), derived.get(key), f"{name}.{key}" if name else key)
        return out
    if isinstance(stored, list) and isinstance(derived, list) and len(stored) == len(derived):
        return [
            line for i, pair in enumerate(zip(stored, derived, strict=True)) for line in compare(*pair, f"{name}[{i}]")
        ]
    if isinstance(stored, float) and isinstance(derived, (int, float)) and not isinstance(derived, bool):
        same = stored == derived or abs(stored - derived) <= min(CHECK_TOLERANCE, 1e-9 * abs(derived) + CHECK_ROUNDING)
    else:
        same = stored == derived
    return [] if same else [f"{printable(name)} is {_shown(derived)}, the file claims {_shown(stored)}"]


def _shown(value: Any) -> str:
    """A value in one line, shortened where it is long."""
    return repr(value) if isinstance(value, int | float) else reprlib.repr(value)


def _table(arguments: argparse.Namespace) -> int:
    from softmaxcode.tables import SUFFIXES, continues, markdown, table

    pairs = chosen_pairs(arguments)
    if not pairs:
        raise ValueError("name the (K, d): --classes 4:32 --dims 3,4, or --pairs '12,3; 24,3'")
    options = {
        "starts": arguments.starts,
        "budget": arguments.budget,
        "seed": arguments.seed,
        "device": arguments.device,
        "catalog": not arguments.no_catalog,
    }
    output = chosen_output(arguments, SUFFIXES, resumes=lambda path: continues(path, pairs, **options))

    def show(row: dict[str, Any]) -> None:
        print(
            f"K={row['K']:<6} d={row['d']:<4} margin={row['margin']:.12f} 1-mu={row['one_minus_cosine']:.12f} "
            f"{row['status']:<15} {row['seconds']:.2f} s",
            flush=True,
        )

    result = table(
        pairs,
        path=output,
        on_row=show,
        **options,
    )
    print()
    sys.stdout.write(markdown(result.drop(columns=["lower_bound", "upper_bound", "max_cosine"])))
    if output is not None:
        print(f"\nwritten to {printable(output)}")
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from softmaxcode.code import load
    from softmaxcode.plotting.picture import plot
    from softmaxcode.plotting.style import SUFFIXES

    output = chosen_output(arguments, SUFFIXES)
    plot(load(arguments.file, dim=arguments.dim, normalize=arguments.normalize), output)
    print(f"written to {printable(output)}")
    return 0


def _landscape(arguments: argparse.Namespace) -> int:
    from softmaxcode.plotting.landscape import plot_landscape
    from softmaxcode.plotting.style import SUFFIXES

    output = chosen_output(arguments, SUFFIXES)
    plot_landscape(numbers(arguments.dims, "dims"), output, max_classes=arguments.max_classes)
    print(f"written to {printable(output)}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 1 a checked file is different, else as `run_command`)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        from softmaxcode.storage.provenance import installed_version

        print(f"softmaxcode {installed_version()}")
        return 0
    if arguments.command is None:
        parser.error("name what to do: solve, check, table, plot, landscape or catalog")
    actions = {
        "solve": _solve,
        "check": _check,
        "table": _table,
        "plot": _plot,
        "landscape": _landscape,
        "catalog": catalog,
    }
    return run_command(
        "softmaxcode",
        lambda: actions[arguments.command](arguments),
        interrupted=_interrupted(arguments),
        program=argv is None,
    )


def _interrupted(arguments: argparse.Namespace) -> str:
    """What is left of a command that was interrupted."""
    if arguments.command == "table" and arguments.output is not None:
        return f"interrupted; finished rows are kept beside {arguments.output}, and the same command resumes"
    if arguments.command == "catalog" and arguments.action == "improve":
        return "interrupted; finished pairs are kept, and the same command resumes"
    return "interrupted"


if __name__ == "__main__":
    sys.exit(main())
