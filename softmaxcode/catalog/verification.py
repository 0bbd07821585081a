"""Verify a catalogue by deriving its certificates again."""

from __future__ import annotations

import contextlib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from softmaxcode.catalog.entry import IMPROVEMENT, STATUSES, Entry, assess
from softmaxcode.catalog.file import Catalog
from softmaxcode.catalog.schema import CatalogError
from softmaxcode.checks.arguments import check_jobs, check_progress
from softmaxcode.parallel.progress import Progress
from softmaxcode.parallel.workers import run, workers

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from softmaxcode.code import SoftmaxCode


@dataclass(frozen=True)
class Verified:
    """The result of deriving the certificate of one entry again; ``problem`` is empty where it agrees."""

    entry: Entry
    problem: str


def verify(path: str | Path, *, n_jobs: int = -1, progress: bool | None = None) -> list[Verified]:
    """Derive the certificate of every entry of a catalogue again from its coordinates, and compare.

    Parameters
    ----------
    path : path
        The catalogue.
    n_jobs : int
        Processes, as in joblib.
    progress : bool, optional
        Show a bar; by default on a terminal only.

    Returns
    -------
    list of Verified
        One per entry; a ``problem`` that is not empty describes the disagreement.

    Raises
    ------
    CatalogError
        If the file as a whole cannot be read.
    """
    n_jobs, progress = check_jobs(n_jobs), check_progress(progress)
    with Catalog(path, readonly=True) as catalog:
        catalog.check_whole()
        entries = list(map(_read_or_raise, catalog.stored()))
    results: dict[int, Verified] = {}
    with (
        Progress("verify", len(entries), progress) as bar,
        contextlib.closing(_verified(str(path), entries, n_jobs)) as finished,
    ):
        for i, result in finished:
            results[i] = result
            bar.step(1)
    return [results[i] for i in range(len(entries))]


def _verified(path: str, entries: list[Entry], n_jobs: int) -> Generator[tuple[int, Verified], None, None]:
    """The number of each entry and what `verify_entry` found, in any order."""
    if n_jobs == 1:
        yield from ((i, verify_entry(path, entry)) for i, entry in enumerate(entries))
        return
    tasks = {i: {"path": path, "entry": entry} for i, entry in enumerate(entries)}
    with workers(n_jobs, None, math.inf) as processes:
        for outcome in run(processes, verify_entry, tasks):
            yield outcome.key, outcome.result or Verified(entries[outcome.key], outcome.reason or "no result")


def _read_or_raise(entry: Entry | CatalogError) -> Entry:
    if isinstance(entry, CatalogError):
        raise entry
    return entry


def verify_entry(path: str | Path, entry: Entry) -> Verified:
    """Derive the certificate of one entry again from its coordinates, and compare."""
    try:
        with Catalog(path, readonly=True) as catalog:
            entry, code = catalog.read_latest(entry)
    except CatalogError as error:
        return Verified(entry, str(error))
    return Verified(entry, inconsistency(entry, code))


def inconsistency(entry: Entry, code: SoftmaxCode) -> str:
    """The claims of an entry that the coordinates of its code do not support, as text; empty if there are none."""
    derived = assess(code, entry.objective, entry.construction)
    for name in ("lower_bound", "margin", "max_cosine"):
        mine, claimed = getattr(derived, name), getattr(entry, name)
        if (mine < claimed - 10 * IMPROVEMENT) if name == "lower_bound" else (abs(mine - claimed) > 10 * IMPROVEMENT):
            return f"{name} {mine!r} where {claimed!r} is claimed"
    if STATUSES.index(derived.status) < STATUSES.index(entry.status):
        return f"status {derived.status!r} where {entry.status!r} is claimed"
    return ""
