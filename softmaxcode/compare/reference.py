"""The code that a measurement is compared with: the best stored one, after a short search where there was none."""

from __future__ import annotations

import warnings
from dataclasses import replace
from typing import TYPE_CHECKING

from softmaxcode.catalog import best_known, user_catalog, user_path
from softmaxcode.catalog.schema import CatalogError
from softmaxcode.checks.arguments import (
    Objective,
    check_flag,
    check_objective,
    check_pair,
    machine_memory,
    search_memory,
)
from softmaxcode.solver import solve
from softmaxcode.storage.provenance import Evidence

if TYPE_CHECKING:
    from softmaxcode.code import SoftmaxCode

#: Seconds of the short search.
SEARCH_SECONDS = 5.0
#: Pairs of at most this K K d are searched: a start takes about a second there.
MAX_SEARCH_WORK = 10**7
#: Margins that exceed the reference's by this relative difference, which is more than float32 rounds.
EXCEEDS = 1e-6

#: The results of this process, by pair, objective and catalogue of the user.
_FOUND: dict[tuple[object, ...], SoftmaxCode] = {}


class UnsearchedCodeWarning(UserWarning):
    """A reference is weak, or is being searched for; the message states which."""


def reference_code(K: int, d: int, *, objective: Objective = "softmax", search: bool = True) -> SoftmaxCode:
    """`softmaxcode.best_known`, improved by a search of five seconds where the pair was never searched.

    The search is announced by an `UnsearchedCodeWarning`, and its result is stored in the user's catalogue, so that it
    is made once. Pairs with K K d above 10^7 are not searched.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.
    objective : {"softmax", "tammes"}
        As in `softmaxcode.best_known`.
    search : bool
        Whether to search at all.

    Returns
    -------
    SoftmaxCode
        Its ``provenance.evidence`` is "construction only" if it was not searched.

    Raises
    ------
    ValueError, UnknownCodeError
        As `softmaxcode.best_known`. Where it knows no code, none is searched for.

    Examples
    --------
    >>> str(reference_code(100, 10).provenance.evidence)
    'searched'
    >>> str(reference_code(230, 9, search=False).provenance.evidence)
    'construction only'
    """
    K, d = check_pair(K, d)
    objective, search = check_objective(objective), check_flag("search", search)
    key = (K, d, objective, str(user_path()))
    if key in _FOUND:
        return _FOUND[key]
    code = best_known(K, d, objective=objective)
    if not search or code.provenance.evidence != Evidence.CONSTRUCTION or not can_search(K, d):
        return code
    warnings.warn(
        f"(K, d) = ({K}, {d}) was never searched: searching for {SEARCH_SECONDS:g} s to have a reference "
        f"(search=False omits this; solve({K}, {d}) searches longer)",
        UnsearchedCodeWarning,
        stacklevel=3,
    )
    _FOUND[key] = code = _searched(code)
    return code


def can_search(K: int, d: int) -> bool:
    """Whether the short search is long enough for a pair."""
    return K * K * d <= MAX_SEARCH_WORK and search_memory(K, d) <= machine_memory()


def _searched(code: SoftmaxCode) -> SoftmaxCode:
    """The better one of a code and the result of a short search, stored in the user's catalogue."""
    found = solve(code.K, code.d, objective=check_objective(code.objective), budget=SEARCH_SECONDS, progress=False)
    made = found.provenance
    if made.seed is None:  # the construction is as good as what the search found: record that it was searched
        method = f"{code.provenance.method}; a search of {SEARCH_SECONDS:g} s found nothing better"
        found = replace(code, provenance=replace(made, method=method, seed=0, seconds=SEARCH_SECONDS, evidence=None))
    try:
        with user_catalog() as catalog:
            catalog.improve(found)
    except (CatalogError, OSError) as error:
        warnings.warn(f"the result of the search is not stored: {error}", UnsearchedCodeWarning, stacklevel=4)
    return replace(found, provenance=replace(found.provenance, evidence=Evidence.SEARCHED))


def label(evidence: Evidence | None) -> str:
    """What a reference may be called.

    Examples
    --------
    >>> label(Evidence.PROVED), label(Evidence.CONSTRUCTION)
    ('best known', 'construction only, never searched')
    """
    if evidence is None:
        return "given code"
    return "construction only, never searched" if evidence == Evidence.CONSTRUCTION else "best known"


def weakness(margin: float, reference: float, evidence: Evidence | None, K: int, d: int) -> str:
    """The note on a margin above that of its reference: by how much, and what to do; empty where it is not above.

    Examples
    --------
    >>> weakness(0.5, 0.5, Evidence.SEARCHED, 20, 4)
    ''
    >>> weakness(0.55, 0.5, Evidence.CONSTRUCTION, 20, 4)[:58]
    'the margin exceeds that of the reference by 0.05 (10 %): t'
    """
    if not reference > 0 or margin <= reference * (1 + EXCEEDS):
        return ""
    excess = margin - reference
    return (
        f"the margin exceeds that of the reference by {excess:.4g} ({100 * excess / reference:.2g} %): the reference "
        f"({label(evidence)}) is weak; solve({K}, {d}) searches for a better one"
    )
