"""Solve many (K, d) into a catalogue, on many processes or a Dask cluster; an interrupted sweep resumes."""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from softmaxcode.checks.arguments import (
    OBJECTIVES,
    check_callable,
    check_integer,
    check_path,
    check_progress,
    check_seconds,
    shown,
)
from softmaxcode.checks.renamed import renamed_argument
from softmaxcode.code import SoftmaxCode
from softmaxcode.exact import best, closed_form, greedy_subset
from softmaxcode.parallel.progress import Progress
from softmaxcode.parallel.workers import one_line, run, workers
from softmaxcode.search.neighbours import grow, shrink
from softmaxcode.solver import SearchOptions, solve_both
from softmaxcode.storage.files import checked_provenance
from softmaxcode.storage.journal import Journal, check_pairs, json_options
from softmaxcode.storage.provenance import Provenance, installed_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from softmaxcode.catalog import Catalog
    from softmaxcode.parallel.workers import Outcome
    from softmaxcode.types import Rows

Pair = tuple[int, int]

#: Without ``timeout`` a pair may take this many seconds, and with a budget this many times it and the grace besides.
LONGEST = 86_400.0
OVERRUN = 10.0
GRACE = 300.0
#: A code with one class more must be better by this for `sweep` to use a subset of it.
WORTH_PASSING = 1e-12


class Improvement(NamedTuple):
    """A better value in the catalogue: the margin (softmax) or 1 - mu (tammes); a first code has ``old`` None."""

    K: int
    d: int
    objective: str
    old: float | None
    new: float

    def __str__(self) -> str:
        before = "new" if self.old is None else f"{self.old:.15g}"
        return f"({self.K}, {self.d}) {self.objective}: {before} -> {self.new:.15g}"


@dataclass(frozen=True)
class SweepReport:
    """What a sweep did.

    Attributes
    ----------
    done : tuple of (K, d)
        Pairs solved in this run, in the order of the request.
    improved : tuple of Improvement
        The codes that entered the catalogue, in the same order.
    failed : dict from (K, d) to str
        Pairs that had no result after all tries, with the reason of the last failure.
    skipped : tuple of (K, d)
        Pairs already finished according to the journal of an interrupted run.
    closed : tuple of (K, d)
        Pairs with a closed form, which need no search.
    seconds : float
        Wall-clock time of this run.
    """

    done: tuple[Pair, ...]
    improved: tuple[Improvement, ...]
    failed: dict[Pair, str]
    skipped: tuple[Pair, ...]
    closed: tuple[Pair, ...]
    seconds: float

    def __str__(self) -> str:
        counts = [f"{len(self.done)} done", f"{len(self.improved)} improvements"]
        for name, pairs in (("failed", self.failed), ("done before", self.skipped), ("closed forms", self.closed)):
            if pairs:
                counts.append(f"{len(pairs)} {name}")
        lines = [f"{', '.join(counts)} in {self.seconds:.1f} s"]
        lines += [f"improved {item}" for item in self.improved]
        lines += [f"failed {pair}: {reason}" for pair, reason in self.failed.items()]
        return "\n".join(lines)


def solve_pair(
    K: int, d: int, *, seed: int, starts: int | None, budget: float | None, initial: list[Rows]
) -> dict[str, dict[str, Any]]:
    """The task of a worker: JSON-serialisable data in and out.

    The first search also improves the first code of K rows in ``initial``. A short search follows from each other
    array: codes of the pair unchanged, codes of its neighbours with rows added or removed.

    Parameters
    ----------
    K, d : int
        The pair.
    seed, starts, budget
        As in `softmaxcode.solve`; the attempts share the budget.
    initial : list of ndarray, each of shape (any K, d)
        Codes to start from.

    Returns
    -------
    dict
        For "softmax" and "tammes" the best coordinates ``W``, shape (K, d), and their ``provenance`` as a dict.
    """
    own = [X for X in initial if len(X) == K]
    seeds = [*own[1:], *_from_neighbours(K, d, seed, [X for X in initial if len(X) != K])]
    fraction = None if budget is None else budget / (1 + len(seeds))
    # the first attempt searched from random starts; here one keeps the search from being empty
    few = None if starts is None and budget is not None else 1
    attempts = [(starts, own[0] if own else None), *((few, X) for X in seeds)]
    found = [
        solve_both(K, d, seed=seed, starts=n, budget=fraction, init=X, n_jobs=1, progress=False, catalog=False)
        for n, X in attempts
    ]
    best = {
        "softmax": max((codes["softmax"] for codes in found), key=lambda code: code.margin),
        "tammes": min((codes["tammes"] for codes in found), key=lambda code: code.max_cosine),
    }
    return {name: {"W": np.array(code.W), "provenance": asdict(code.provenance)} for name, code in best.items()}


def _from_neighbours(K: int, d: int, seed: int, neighbours: list[Rows]) -> list[Rows]:
    """Codes of other sizes, with rows added or removed to have K rows."""
    if not neighbours:
        return []
    rng = np.random.default_rng([seed, K, d])
    return [grow(X, K - len(X), rng) if len(X) < K else shrink(X, len(X) - K, rng) for X in neighbours]


@renamed_argument("patience", "timeout")  # codespell:ignore
def sweep(
    pairs: Iterable[Pair],
    *,
    catalog: Catalog,
    starts: int | None = None,
    budget: float | None = None,
    seed: int = 0,
    n_jobs: int = -1,
    scheduler: str | None = None,
    journal: str | Path | None = None,
    progress: bool | None = None,
    tries: int = 3,
    timeout: float | None = None,
    task: Callable[..., dict[str, dict[str, Any]]] = solve_pair,
) -> SweepReport:
    """Solve many pairs for both objectives on many processes, and enter better codes into a catalogue.

    Each pair is searched from random starts and from codes that the catalogue has when the sweep begins. These are
    those of the pair itself, of (K - 1, d) and of (K + 1, d). At the end `sweep` compares each code of K + 1 classes
    with the one of K. If it is better, all its rows but one are entered for K. A worker that dies or hangs costs its
    pair one try. On a cluster it costs every pair that this worker was solving one; they are tried again one at a time.

    Parameters
    ----------
    pairs : iterable of (K, d)
        A pair given twice is solved once. Those with a closed form are counted and skipped.
    catalog : Catalog
        Only this process writes to it, after every pair.
    starts, budget, seed
        Of each pair, as in `softmaxcode.solve`. If counts end the search, results do not depend on the number of
        processes or on the order in which they finish.
    n_jobs : int
        Pairs at the same time, as in joblib; -1 uses every core, of this machine or of the cluster.
    scheduler : str, optional
        Address of a Dask scheduler, such as "tcp://10.0.0.1:8786"; its workers need the same version of softmaxcode.
    journal : path, optional
        Where finished pairs are recorded. The default is beside the catalogue: ``<catalog>.sweep-<hash>``, with a hash
        of pairs and options. An interrupted run with the same pairs and options resumes from there. The journal is
        removed when no pair is left.
    progress : bool, optional
        Show a bar; by default on a terminal only.
    tries : int
        How often a pair is tried before it counts as failed.
    timeout : float, optional
        Seconds that a pair may take before its worker counts as stuck and is ended. The default is ten times the
        budget plus five minutes, or one day without a budget. On a cluster they include the wait for a worker.
    task : callable
        The function that a worker runs; see `solve_pair`.

    Returns
    -------
    SweepReport
        Pairs solved, improved, failed and skipped.

    Raises
    ------
    ValueError
        For a bad pair or option, or a journal that is another file. Also if Dask is not installed or the scheduler
        does not answer. If the catalogue cannot be written, it is a `CatalogError`.
    KeyboardInterrupt
        When interrupted: the workers are ended, and finished pairs stay in the catalogue and the journal.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from softmaxcode.catalog import Catalog
    >>> with Catalog(pathlib.Path(tempfile.mkdtemp()) / "catalog.sqlite") as catalog:
    ...     report = sweep([(7, 3), (6, 3)], catalog=catalog, starts=4, n_jobs=1)
    ...     print(report.done, report.closed, f"{catalog.code(7, 3, 'tammes').min_angle:.6f}")
    ((7, 3),) ((6, 3),) 77.869542
    """
    begin = time.monotonic()
    wanted = check_pairs(pairs)
    if not hasattr(catalog, "improve"):
        raise ValueError(f"catalog must be a Catalog; got {shown(catalog)}")
    if not isinstance(scheduler, str | None):
        raise ValueError(f"scheduler must be the address of a Dask scheduler; got {shown(scheduler)}")
    chosen = SearchOptions.checked(starts=starts, budget=budget, seed=seed, n_jobs=n_jobs)
    options = {"starts": chosen.starts, "budget": chosen.budget, "seed": chosen.seed}
    progress = check_progress(progress)
    check_callable("task", task)
    tries = check_integer("tries", tries, 1)
    if timeout is None:
        timeout = LONGEST if chosen.budget is None else OVERRUN * chosen.budget + GRACE
    timeout = check_seconds("timeout", timeout)
    named = {**options, "task": getattr(task, "__qualname__", type(task).__name__)}
    notes = _journal(catalog, journal, named, wanted)

    closed = [pair for pair in wanted if closed_form(*pair) is not None]
    # a pair in the journal counts only while its codes are in the catalogue
    skipped = [pair for pair in wanted if pair in notes.entries and any(_held(catalog, *pair).values())]
    passed = {*closed, *skipped}
    todo = {
        (K, d): {"K": K, "d": d, **options, "initial": _initial(catalog, K, d)}
        for K, d in wanted
        if (K, d) not in passed
    }
    improved: dict[Pair, list[Improvement]] = {}
    reasons: dict[Pair, str] = {}
    if todo:
        with workers(n_jobs, scheduler, timeout) as processes, Progress("sweep", len(todo), progress) as bar:
            for turn in range(tries):
                left = {pair: todo[pair] for pair in todo if pair not in improved}
                if not left:
                    break
                with contextlib.closing(run(processes, task, left, retry=turn > 0)) as outcomes:
                    for outcome in outcomes:
                        K, d = outcome.key
                        try:
                            codes = _codes(K, d, outcome)
                        except _NoCodeError as error:
                            reasons[K, d] = str(error)
                            continue
                        improved[K, d] = _enter(catalog, codes)
                        notes.add({"K": K, "d": d})
                        bar.step(1, improved=sum(map(len, improved.values())))
    for pair, items in _passed_down(catalog, list(improved)).items():
        improved[pair] = improved[pair] + items
    failed = {pair: reasons[pair] for pair in todo if pair not in improved}
    if not failed:
        notes.remove()
    return SweepReport(
        done=tuple(pair for pair in todo if pair in improved),
        improved=tuple(item for pair in todo for item in improved.get(pair, [])),
        failed=failed,
        skipped=tuple(skipped),
        closed=tuple(closed),
        seconds=time.monotonic() - begin,
    )


def _journal(catalog: Catalog, path: str | Path | None, options: dict[str, Any], wanted: list[Pair]) -> Journal:
    """The journal for these options and pairs."""
    if path is None:
        known = hashlib.sha256(json.dumps([json_options(options), wanted]).encode()).hexdigest()[:12]
        stored = Path(catalog.path)
        return Journal(stored.with_name(f"{stored.name}.sweep-{known}"), options)
    return Journal(check_path(path), options)


def _held(catalog: Catalog, K: int, d: int) -> dict[str, SoftmaxCode | None]:
    """The codes of a pair in the catalogue, by objective."""
    return {name: catalog.code(K, d, name) for name in OBJECTIVES}


def _initial(catalog: Catalog, K: int, d: int) -> list[Rows]:
    """The arrays that a worker starts from: the different stored codes of the pair, and one of each neighbour."""
    arrays: list[Rows] = []
    for rows, most in ((K, 2), (K - 1, 1), (K + 1, 1)):
        codes = [code for code in _held(catalog, rows, d).values() if code is not None]
        different = [code.W for i, code in enumerate(codes) if not i or not np.array_equal(code.W, codes[0].W)]
        arrays += [np.array(W) for W in different[:most]]
    return arrays


class _NoCodeError(Exception):
    """Raised for a worker that sent no codes; the message gives the reason."""


def _codes(K: int, d: int, outcome: Outcome) -> list[SoftmaxCode]:
    """The codes that a worker sent, validated like any other input."""
    if outcome.reason is not None:
        raise _NoCodeError(outcome.reason)
    try:
        sent = [(name, outcome.result[name]) for name in OBJECTIVES]
        codes = [SoftmaxCode(stored["W"], name, Provenance(**stored["provenance"])) for name, stored in sent]
        for code in codes:
            checked_provenance(code.provenance)
        if any((code.K, code.d) != (K, d) for code in codes):
            raise ValueError(f"it has shape {codes[0].W.shape}")
    except (KeyError, TypeError, ValueError) as error:
        raise _NoCodeError(f"the worker's answer is no code ({one_line(error)})") from None
    return codes


def _enter(catalog: Catalog, codes: list[SoftmaxCode]) -> list[Improvement]:
    """Enter the codes of a pair, and return the improvements."""
    K, d = codes[0].K, codes[0].d
    known = best(K, d)
    if known is not None and abs(known.max_cosine - min(code.max_cosine for code in codes)) < WORTH_PASSING:
        codes = [known.code(), *codes]  # the same code to the last bit, stored under its name
    before = {name: _value(code) for name, code in _held(catalog, K, d).items()}
    entered = [catalog.improve(code) for code in codes]
    if not any(entered):
        return []
    after = {name: _value(code) for name, code in _held(catalog, K, d).items()}
    return [
        Improvement(K, d, name, before[name], new)
        for name, new in after.items()
        if new is not None and new != before[name]
    ]


def _passed_down(catalog: Catalog, pairs: list[Pair]) -> dict[Pair, list[Improvement]]:
    """Give a pair all but one of the rows of the code with one class more, wherever that is better."""
    improved: dict[Pair, list[Improvement]] = {}
    for K, d in sorted(pairs, reverse=True):
        here, above = (_held(catalog, n, d) for n in (K, K + 1))
        for name, code in above.items():
            old, new = _value(here[name]), _value(code)
            if code is None or new is None or (old is not None and new <= old + WORTH_PASSING):
                continue
            W = code.W[greedy_subset(code.W, K)]
            made = Provenance(f"subset of a code of {K + 1} ({code.provenance.method})", version=installed_version())
            improved.setdefault((K, d), []).extend(_enter(catalog, [SoftmaxCode(W, name, made)]))
    return improved


def _value(code: SoftmaxCode | None) -> float | None:
    if code is None:
        return None
    return code.margin if code.objective == "softmax" else 1 - code.max_cosine
