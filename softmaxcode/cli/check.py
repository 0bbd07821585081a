"""``softmaxcode check``: every measurement of a file is derived again from its coordinates."""

from __future__ import annotations

import json
import reprlib
import sys
from typing import Any

from softmaxcode.certificates.proof import ProvedValue, claims_more
from softmaxcode.checks.arguments import Objective, printable
from softmaxcode.cli.options import takes
from softmaxcode.code import SoftmaxCode, load
from softmaxcode.report import proof, report
from softmaxcode.solver import prove
from softmaxcode.storage.files import DifferentCoordinatesError, measurements, read_code

#: Derived values may differ from stored ones by this much, which is what another machine's rounding can do; small ones
#: by 1e-9 of themselves and the rounding of a distance.
CHECK_TOLERANCE, CHECK_ROUNDING = 1e-12, 2.0**-46


@takes(options=(load, "dim", "normalize"))
def check(file: str, /, options, *, objective: Objective | None = None) -> int:
    """Derive every value of a file again from its coordinates.

    Parameters
    ----------
    file : str
        .npz, .npy, .txt or .csv.
    objective : {"softmax", "tammes"}
        What to certify in a .npy, .txt or .csv file (default softmax).
    """
    if file.lower().endswith(".npz") and ("dim" in options or objective):
        raise ValueError("--dim and --objective are for files of bare coordinates; an .npz file names both itself")
    try:
        stored = read_code(file, **options)
    except DifferentCoordinatesError as error:
        print(printable(f"DIFFERENT: {error}"))
        return 1
    header = stored.header
    code = SoftmaxCode(stored.W, objective if header is None and objective else stored.objective, stored.provenance)
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
