"""The ``softmaxcode`` command: solve, check, table, plot."""

from __future__ import annotations

import argparse
import json
import math
import sys
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from softmaxcode.code import SoftmaxCode

#: Re-derived figures may differ from stored ones by this much, which is what another machine's rounding can do.
CHECK_TOLERANCE = 1e-12


class _Parser(argparse.ArgumentParser):
    """One clear sentence and exit code 2, without the usage text."""

    def error(self, message: str) -> Any:
        self.exit(2, f"softmaxcode: {message} (see {self.prog} --help)\n")


def _numbers(text: str, name: str) -> list[int]:
    """``3,4,8:12`` as a list of integers, both ends of a range included."""
    out: list[int] = []
    try:
        for part in text.split(","):
            first, _, last = part.partition(":")
            low, high = int(first), int(last or first)
            if high < low:
                raise ValueError
            out.extend(range(low, high + 1))
    except ValueError:
        raise ValueError(f"--{name} takes integers and ranges such as 4:32 or 3,4,8:10; got {text!r}") from None
    return out


def _search_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--starts", type=int, help="random starts (default: by size)")
    parser.add_argument("--budget", type=float, metavar="SECONDS", help="time to spend on the search of each code")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (default 0)")
    parser.add_argument("--device", help="run the starts on PyTorch: cpu, cuda or cuda:N (default: CPU kernels)")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="softmaxcode", description="Softmax Codes and Tammes packings, with certificates.")
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", parser_class=_Parser)

    one = commands.add_parser("solve", help="solve one (K, d) and print its figures")
    one.add_argument("K", type=int, help="number of classes")
    one.add_argument("d", type=int, help="dimension")
    one.add_argument("--objective", default="softmax", help="softmax (default) or tammes")
    one.add_argument("--digits", type=int, help="prove the value to so many digits")
    one.add_argument("-o", "--output", help="write the code: .npz, or .txt as pack.d.K.txt")
    _search_options(one)

    check = commands.add_parser("check", help="derive every figure of a file again from its coordinates")
    check.add_argument("file", help=".npz, .npy or .txt")
    check.add_argument("--dim", type=int, help="dimension of a .txt file whose name does not tell")
    check.add_argument("--objective", help="what to certify in a .npy or .txt file: softmax (default) or tammes")
    check.add_argument("--normalize", action="store_true", help="scale rows to unit norm first")

    many = commands.add_parser("table", help="margin against Tammes distance for many (K, d)")
    many.add_argument("--classes", help="values of K, such as 4:32 or 10,20,30")
    many.add_argument("--dims", help="values of d, such as 3,4")
    many.add_argument("--pairs", help="single pairs K,d separated by spaces or semicolons, such as '12,3; 24,3'")
    many.add_argument("-o", "--output", help="write the table: .csv, .parquet, .md or .tex")
    _search_options(many)

    picture = commands.add_parser("plot", help="draw a code: sphere, cosine spectrum, margins")
    picture.add_argument("file", help=".npz, .npy or .txt")
    picture.add_argument("--dim", type=int, help="dimension of a .txt file whose name does not tell")
    picture.add_argument("--normalize", action="store_true", help="scale rows to unit norm first")
    picture.add_argument("-o", "--output", required=True, help="write the figure: .png, .pdf or .svg")
    return parser


def _report(code: SoftmaxCode) -> str:
    """Every figure of a code in plain text."""
    from softmaxcode.files import figures

    derived = figures(code)
    certificate = derived["certificate"]

    def listed(name: str) -> str:
        value = derived[name]
        if isinstance(value, str):
            return value
        return f"{len(value)}" + (f" (classes {', '.join(map(str, value))})" if 0 < len(value) <= 20 else "")

    residual = certificate["residual"]
    objective = "rho" if code.objective == "softmax" else "1 - mu"
    lower = code.certificate.lower_bound
    gap = "none" if math.isinf(certificate["next_gap"]) else f"{certificate['next_gap']:.3g}"
    lines = [
        ("classes, dimension", f"K = {code.K}, d = {code.d}"),
        ("objective", code.objective),
        ("margin", f"{code.margin:.16g}"),
        ("max cosine", f"{code.max_cosine:.16g}"),
        ("min distance", f"{code.min_distance:.16g}"),
        ("min angle", f"{code.min_angle:.12f} degrees"),
        ("contacts", str(derived["contacts"])),
        ("Tammes rattlers", listed("tammes_rattlers")),
        ("softmax rattlers", listed("softmax_rattlers")),
        ("status", certificate["status"]),
        ("rigorous lower bound", f"{lower:.16g} on {objective} ({certificate['arithmetic']})"),
        ("proved upper bound", f"{certificate['upper_bound']:.16g} ({certificate['upper_bound_method']})"),
        ("optimality residual", "not computed" if residual is None else f"{residual:.2g}"),
        ("rigidity", certificate["rigidity"]),
        ("contact threshold", f"{certificate['threshold']:.2g}; next pair {gap} away"),
        ("made by", _origin(code)),
    ]
    if certificate["ambiguous"]:
        lines.append(("warning", "the next pair is near the threshold: contacts and rattlers may be miscounted"))
    if code.proved is not None:
        lines.append((f"proved {code.proved.quantity}", f"{code.proved.value} +- {code.proved.radius}"))
        lines.append(("what is proved", code.proved.statement))
    return "".join(f"{name:<21} {text}\n" for name, text in lines)


def _origin(code: SoftmaxCode) -> str:
    made = code.provenance
    if made.seed is None:
        return made.method
    return (
        f"{made.method} (seed {made.seed}, {made.starts} starts, {made.hops} hops, {made.seconds:.1f} s, {made.device})"
    )


def _solve(arguments: argparse.Namespace) -> int:
    from softmaxcode.files import check_output
    from softmaxcode.solver import solve

    if arguments.output:
        check_output(arguments.output, (".npz", ".txt"))
    code = solve(
        arguments.K,
        arguments.d,
        objective=arguments.objective,
        starts=arguments.starts,
        budget=arguments.budget,
        seed=arguments.seed,
        device=arguments.device,
        digits=arguments.digits,
    )
    sys.stdout.write(_report(code))
    if arguments.output:
        code.save(arguments.output)
        print(f"{'written':<21} {arguments.output}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from softmaxcode.code import SoftmaxCode, check_objective
    from softmaxcode.files import DifferentCoordinatesError, figures, read_file

    if arguments.file.endswith(".npz") and (arguments.dim is not None or arguments.objective):
        raise ValueError("--dim and --objective are for files of bare coordinates; an .npz file says both itself")
    try:
        code, header = read_file(arguments.file, dim=arguments.dim, normalize=arguments.normalize)
    except DifferentCoordinatesError as error:
        print(f"DIFFERENT: {error}")
        return 1
    if header is None:
        if arguments.objective:
            code = SoftmaxCode(code.W, check_objective(arguments.objective), code.provenance)
        sys.stdout.write(_report(code))
        return 0
    sys.stdout.write(_report(code))
    # through JSON, as the stored figures went
    differences = compare(header["figures"], json.loads(json.dumps(figures(code)))) + _disproved(code)
    for line in differences:
        print(f"DIFFERENT: {line}")
    if differences:
        return 1
    print("every stored figure was derived again from the coordinates, and is the same")
    return 0


def _disproved(code: SoftmaxCode) -> list[str]:
    """What is wrong with the proof that came with a code: it is made again, to the same number of digits."""
    from softmaxcode.solver import prove

    if code.proved is None:
        return []
    digits = sum(character.isdigit() for character in code.proved.value.split("e")[0].lstrip("-0."))
    try:
        again = prove(code, max(1, digits))
        off = abs(Decimal(again.value) - Decimal(code.proved.value))
        same = again.quantity == code.proved.quantity and off <= Decimal(again.radius) + Decimal(code.proved.radius)
    except (ValueError, ArithmeticError) as error:
        return [f"the proof could not be made again ({error})"]
    return [] if same else [f"proved {again.quantity} is {again.value}, the file says {code.proved.value}"]


def compare(stored: Any, derived: Any, name: str = "") -> list[str]:
    """Where two sets of figures differ by more than rounding, one sentence each."""
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
        same = stored == derived or abs(stored - derived) <= CHECK_TOLERANCE
    else:
        same = stored == derived
    return [] if same else [f"{name} is {derived!r}, the file says {stored!r}"]


def _table(arguments: argparse.Namespace) -> int:
    from softmaxcode.tables import markdown, table

    pairs: list[tuple[int, int]] = []
    if arguments.pairs:
        for text in arguments.pairs.replace(";", " ").split():
            try:
                K, d = (int(part) for part in text.split(","))
            except ValueError:
                raise ValueError(f"--pairs takes pairs K,d such as '12,3; 24,3'; got {text!r}") from None
            pairs.append((K, d))
    if arguments.classes or arguments.dims:
        if not (arguments.classes and arguments.dims):
            raise ValueError("--classes and --dims go together")
        pairs += [(K, d) for d in _numbers(arguments.dims, "dims") for K in _numbers(arguments.classes, "classes")]
    if not pairs:
        raise ValueError("say which (K, d): --classes 4:32 --dims 3,4, or --pairs '12,3; 24,3'")

    def show(row: dict[str, Any]) -> None:
        print(
            f"K={row['K']:<6} d={row['d']:<4} margin={row['margin']:.12f} 1-mu={row['one_minus_cosine']:.12f} "
            f"{row['status']:<15} {row['seconds']:.2f} s",
            flush=True,
        )

    result = table(
        pairs,
        path=arguments.output,
        on_row=show,
        starts=arguments.starts,
        budget=arguments.budget,
        seed=arguments.seed,
        device=arguments.device,
    )
    print()
    sys.stdout.write(markdown(result.drop(columns=["lower_bound", "upper_bound", "max_cosine"])))
    if arguments.output:
        print(f"\nwritten to {arguments.output}")
    return 0


def _plot(arguments: argparse.Namespace) -> int:
    from softmaxcode.files import load
    from softmaxcode.plots import plot

    plot(load(arguments.file, dim=arguments.dim, normalize=arguments.normalize), arguments.output)
    print(f"written to {arguments.output}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code (0 done, 1 a checked file is different, 2 bad input, 130 interrupted)."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        from softmaxcode.code import installed_version

        print(f"softmaxcode {installed_version()}")
        return 0
    if arguments.command is None:
        parser.error("say what to do: solve, check, table or plot")
    actions = {"solve": _solve, "check": _check, "table": _table, "plot": _plot}
    try:
        return actions[arguments.command](arguments)
    except ValueError as error:
        print(f"softmaxcode: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        sys.stdout = None  # the reader has gone; there is nobody to tell
        return 0
    except OSError as error:
        print(
            f"softmaxcode: {error.strerror or error}" + (f": {error.filename}" if error.filename else ""),
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        print(
            "softmaxcode: interrupted; the finished rows of a table are kept beside it, and the same command resumes",
            file=sys.stderr,
        )
        return 130


if __name__ == "__main__":
    sys.exit(main())
