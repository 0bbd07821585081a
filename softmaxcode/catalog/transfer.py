"""Moving codes between catalogues."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from softmaxcode.catalog.file import Catalog
from softmaxcode.catalog.known import installed
from softmaxcode.catalog.schema import CatalogError, sqlite_errors
from softmaxcode.catalog.verification import inconsistency
from softmaxcode.checks.arguments import check_flag, check_path, printable
from softmaxcode.code import load
from softmaxcode.storage.disk import check_output, written_whole
from softmaxcode.storage.files import READABLE
from softmaxcode.storage.journal import check_pairs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from softmaxcode.catalog.entry import Entry
    from softmaxcode.code import SoftmaxCode

#: The prefix of an imported code's provenance; the text of the file follows.
IMPORTED = "imported: "


@dataclass(frozen=True)
class ImportReport:
    """The result of an import: what entered, how many codes beat nothing, and what was refused with the reason.

    A code file counts once, also where its code enters for both objectives.
    """

    entered: tuple[str, ...]
    not_better: int
    refused: tuple[str, ...]


def import_codes(
    path: str | Path, catalog: Catalog, on_entry: Callable[[str], None] = lambda line: None, *, dim: int | None = None
) -> ImportReport:
    """Improve a catalogue by an untrusted file: another catalogue, or a code file that `softmaxcode.load` reads.

    `import_codes` builds and certifies every code from its coordinates, and only compares the claims of the file.
    Provenance cannot be checked, so it is marked as imported. ``dim`` is that of `softmaxcode.load`.

    Raises
    ------
    CatalogError, ValueError
        If the file as a whole cannot be read. Invalid single entries are refused in the report.
    """
    path = check_path(path)
    if path.suffix.lower() in READABLE:
        code = load(path, dim=dim)
        entered = catalog.improve(_imported(code))
        lines = (f"({code.K}, {code.d}) {', '.join(entered)}",) if entered else ()
        return ImportReport(lines, int(not entered), ())
    report: dict[str, list[str]] = {"entered": [], "not better": [], "refused": []}
    with Catalog(path, readonly=True) as other:
        other.check_whole()
        for entry in other.stored():
            kind, line = _import_entry(entry, other, catalog)
            report[kind].append(line)
            on_entry(printable(f"{kind}: {line}"))
    return ImportReport(tuple(report["entered"]), len(report["not better"]), tuple(report["refused"]))


def _imported(code: SoftmaxCode) -> SoftmaxCode:
    method = f"{IMPORTED}{code.provenance.method.removeprefix(IMPORTED)}"
    return replace(code, provenance=replace(code.provenance, method=method))


def _import_entry(entry: Entry | CatalogError, other: Catalog, catalog: Catalog) -> tuple[str, str]:
    if isinstance(entry, CatalogError):
        return "refused", str(entry)
    try:
        entry, code = other.read_latest(entry)
    except CatalogError as error:
        return "refused", str(error)
    problem = inconsistency(entry, code)
    if problem:
        return "refused", f"{entry.name}: {problem}"
    return ("entered" if catalog.improve(_imported(code)) else "not better"), entry.name


def export(path: str | Path, pairs: Iterable[tuple[int, int]] | None = None, *, replace: bool = False) -> int:
    """Write the best entries of the installed catalogues atomically into a new catalogue file.

    Parameters
    ----------
    path : path
        The file to write, with suffix ``.sqlite``.
    pairs : iterable of (K, d), optional
        Export these pairs only.
    replace : bool
        Replace an existing file; without it such a file is refused.

    Returns
    -------
    int
        The number of entries written.

    Raises
    ------
    ValueError
        For another suffix, a folder that does not exist or a file that exists. If no catalogue is installed, it is a
        `CatalogError`.
    """
    path = check_output(path, (".sqlite",), replace=check_flag("replace", replace))
    wanted = None if pairs is None else set(check_pairs(pairs))
    with installed() as catalog, written_whole(path) as temporary:
        if catalog is None:
            raise CatalogError("there is no catalogue to export: none ships with this installation, and none is yours")
        chosen = [entry for entry in catalog.entries() if wanted is None or (entry.K, entry.d) in wanted]
        temporary.unlink()  # an empty file is not a catalogue
        with Catalog(temporary) as target, sqlite_errors(path), target.transaction():
            for entry in chosen:
                target.copy(entry, catalog)
    return len(chosen)
