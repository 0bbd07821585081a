"""A row of the table: solved, derived from the codes, and noted in a journal."""

from __future__ import annotations

import base64
import time
from typing import Any

import numpy as np

from softmaxcode.checks.arguments import OBJECTIVES
from softmaxcode.checks.limits import NotComputed
from softmaxcode.code import SoftmaxCode
from softmaxcode.solver import solve_both
from softmaxcode.storage.journal import Noted
from softmaxcode.storage.provenance import Provenance
from softmaxcode.storage.records import NonNegative


def _count(code: SoftmaxCode, name: str) -> int | None:
    try:
        return len(getattr(code, name))
    except NotComputed:
        return None


class Finished(Noted):
    """The journal's entry of a finished row: the coordinates of both codes, from which the row is derived again."""

    seconds: NonNegative
    softmax: str
    tammes: str


def solved(K: int, d: int, **options: Any) -> tuple[dict[str, SoftmaxCode], float]:
    """Solve one pair for both objectives: the codes, and the seconds taken, certificates included."""
    begin = time.monotonic()
    codes = solve_both(K, d, **options)
    for code in codes.values():
        _ = code.certificate
    return codes, round(time.monotonic() - begin, 3)


def row(codes: dict[str, SoftmaxCode], seconds: float) -> dict[str, Any]:
    """The row of a pair, derived from its two codes."""
    tammes, softmax = codes["tammes"], codes["softmax"]
    return {
        "K": softmax.K,
        "d": softmax.d,
        "margin": softmax.margin,
        "tammes_distance": tammes.min_distance,
        "one_minus_cosine": 1 - tammes.max_cosine,
        "difference": softmax.margin - (1 - tammes.max_cosine),
        "softmax_rattlers": _count(softmax, "softmax_rattlers"),
        "tammes_rattlers": _count(tammes, "tammes_rattlers"),
        "contacts": _count(tammes, "contacts"),
        "margin_lower_bound": softmax.certificate.lower_bound,
        "status": softmax.certificate.status,
        "seconds": seconds,
        "max_cosine": tammes.max_cosine,
        "angle_deg": tammes.min_angle,
        "margin_upper_bound": softmax.certificate.upper_bound,
        "one_minus_cosine_upper_bound": tammes.certificate.upper_bound,
    }


def noted_row(codes: dict[str, SoftmaxCode], seconds: float) -> dict[str, Any]:
    """The entry of a journal: little-endian float64 coordinates, row by row, in base 64."""
    text = {name: base64.b64encode(codes[name].W.astype("<f8").tobytes()).decode() for name in OBJECTIVES}
    return {"K": codes["softmax"].K, "d": codes["softmax"].d, "seconds": seconds, **text}


def derived_row(entry: dict[str, Any] | None) -> dict[str, Any] | None:
    """The row of a journal entry, derived from its coordinates; None where they are not valid codes."""
    if entry is None:
        return None
    try:
        codes = {
            name: SoftmaxCode(
                np.frombuffer(base64.b64decode(entry[name], validate=True), "<f8").reshape(entry["K"], entry["d"]),
                name,
                Provenance("read from a journal"),
            )
            for name in OBJECTIVES
        }
    except ValueError:
        return None
    return row(codes, entry["seconds"])
