"""Every measurement of a code in plain text."""

from __future__ import annotations

import math
import sys
from decimal import Decimal
from typing import TYPE_CHECKING

from softmaxcode.certificates.certificate import FEASIBLE
from softmaxcode.checks.arguments import printable
from softmaxcode.checks.limits import NotComputed
from softmaxcode.storage.files import measurements
from softmaxcode.storage.provenance import Evidence

if TYPE_CHECKING:
    from pathlib import Path

    from softmaxcode.certificates.proof import ProvedValue
    from softmaxcode.code import SoftmaxCode


def report(code: SoftmaxCode, *, made_by: str = "made by") -> str:
    """Every measurement of a code in plain text; ``made_by`` labels its provenance, which is not derived again."""
    derived = measurements(code)
    certificate = derived["certificate"]

    def listed(name: str) -> str:
        if certificate["status"] == FEASIBLE:  # almost everything "rattles" there
            return "not counted: these rows are not known to be a local optimum"
        value = derived[name]
        if isinstance(value, str):
            return value
        return f"{len(value)}" + (f" (classes {', '.join(map(str, value))})" if 0 < len(value) <= 20 else "")

    residual = certificate["residual"]
    objective = "rho" if code.objective == "softmax" else "1 - mu"
    lower = code.certificate.lower_bound
    gap = certificate["next_gap"]
    if gap is None:
        following = "contacts not listed"
    else:
        following = "no further pair" if math.isinf(gap) else f"next pair {gap:.3g} away"
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
        ("symmetry group", symmetries(code)),
        ("status", certificate["status"]),
        ("rigorous lower bound", f"{lower:.16g} on {objective} ({certificate['arithmetic']})"),
        ("proved upper bound", f"{certificate['upper_bound']:.16g} ({certificate['upper_bound_method']})"),
        ("optimality residual", "not computed" if residual is None else f"{residual:.2g}"),
        ("rigidity", certificate["rigidity"]),
        ("contact threshold", f"{certificate['threshold']:.2g}; {following}"),
        (made_by, origin(code)),
    ]
    if code.provenance.evidence is not None:
        lines.append(("evidence", evidence(code.provenance.evidence)))
    if certificate["ambiguous"]:
        lines.append(("warning", "the next pair is near the threshold: contacts and rattlers may be miscounted"))
    return _columns(lines) + ("" if code.proved is None else proof(code.proved))


def symmetries(code: SoftmaxCode) -> str:
    """The order of the symmetry group as text: its digits, or three of them where it has more than 15."""
    try:
        order = code.symmetry_order
    except NotComputed as reason:
        return str(reason)
    return f"order {order:,}" if order < 10**15 else f"order {Decimal(order):.2e}"


def proof(proved: ProvedValue) -> str:
    """A proved value in plain text."""
    return _columns(
        [(f"proved {proved.quantity}", f"{proved.value} +- {proved.radius}"), ("what is proved", proved.statement)]
    )


def _columns(lines: list[tuple[str, str]]) -> str:
    return "".join(f"{name:<21} {printable(text)}\n" for name, text in lines)


def origin(code: SoftmaxCode) -> str:
    """The provenance of a code: the method, and for a search its seed and work."""
    made = code.provenance
    if made.seed is None:
        return made.method
    return (
        f"{made.method} (seed {made.seed}, {made.starts} starts, {made.hops} hops, {made.seconds:.1f} s, {made.device})"
    )


def evidence(found: Evidence) -> str:
    """How hard the pair of a code was searched, as a sentence for the report."""
    meaning = {
        Evidence.PROVED: "an optimal packing",
        Evidence.SEARCHED: "a search of this (K, d) is stored",
        Evidence.CONSTRUCTION: "never searched: solve may find a much better code",
    }
    return f"{found} ({meaning[found]})"


def print_and_save(code: SoftmaxCode, output: Path | None) -> None:
    """Print every measurement of a code and, where a file is named, write the code there."""
    sys.stdout.write(report(code))
    if output is not None:
        code.save(output)
        print(f"{'written':<21} {printable(output)}")
