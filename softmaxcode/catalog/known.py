"""The two catalogues of an installation, and the best code in them and in the exact families."""

from __future__ import annotations

import contextlib
import importlib.resources
import os
import warnings
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from softmaxcode import exact
from softmaxcode.bounds.best import margin_bounds, max_cosine_lower_bound
from softmaxcode.bounds.rounding import one_minus_above
from softmaxcode.catalog.entry import IMPROVEMENT
from softmaxcode.catalog.file import Catalog
from softmaxcode.catalog.schema import CatalogError
from softmaxcode.checks.arguments import Objective, check_objective, check_pair, machine_memory, search_memory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from softmaxcode.bounds.best import MarginBounds
    from softmaxcode.code import SoftmaxCode

#: The environment variable that replaces the file in the user's data folder by another.
ENVIRONMENT = "SOFTMAXCODE_CATALOG"


class UnknownCodeError(LookupError):
    """Raised where no code of a pair is stored.

    Attributes
    ----------
    K, d, objective
        The pair and objective of the request.
    bounds : MarginBounds
        Bounds on the optimal value: rho*, or 1 - mu*.
    """

    def __init__(self, K: int, d: int, objective: str, bounds: MarginBounds) -> None:
        self.K, self.d, self.objective, self.bounds = K, d, objective, bounds
        value = "the largest margin" if objective == "softmax" else "1 - mu*"
        fits = search_memory(K, d) <= machine_memory()
        hint = f"solve({K}, {d}) searches" if fits else "the memory here is too small to search for one"
        super().__init__(
            f"no code of (K, d) = ({K}, {d}) is stored for {objective}; {value} lies between {bounds.lower:.10g} "
            f"({bounds.lower_method}) and {bounds.upper:.10g} ({bounds.upper_method}); {hint}"
        )

    def __reduce__(self) -> tuple[type, tuple[int, int, str, MarginBounds]]:
        return type(self), (self.K, self.d, self.objective, self.bounds)

    @property
    def bracket(self) -> MarginBounds:
        """The old name of ``bounds``."""
        warnings.warn("UnknownCodeError.bracket is now UnknownCodeError.bounds", DeprecationWarning, stacklevel=2)
        return self.bounds


def shipped_path() -> Path:
    """The read-only catalogue in the package."""
    return Path(str(importlib.resources.files("softmaxcode"))) / "data" / "catalog.sqlite"


def user_path() -> Path:
    """The file for improvements: ``$SOFTMAXCODE_CATALOG``, else one in the user's data folder."""
    named = os.environ.get(ENVIRONMENT)
    return Path(named) if named else Path(platformdirs.user_data_dir("softmaxcode")) / "catalog.sqlite"


def user_catalog() -> Catalog:
    """The user's catalogue above the shipped one; created if it does not exist."""
    path = user_path()
    if ENVIRONMENT not in os.environ:
        path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        base = _shipped()
        if base is not None:
            stack.callback(base.close)
        catalog = Catalog(path, base=base)
        stack.pop_all()  # from here on the catalogue closes the one below it
        return catalog


def _shipped() -> Catalog | None:
    path = shipped_path()
    return Catalog(path, readonly=True, trusted=True) if path.is_file() else None


def _is_readable(path: Path) -> bool:
    """Whether this process may access a path; a catalogue in another user's home folder is ignored."""
    try:
        path.exists()
    except PermissionError:
        return False
    return True


@contextlib.contextmanager
def installed() -> Iterator[Catalog | None]:
    """The catalogue to read: the user's above the shipped one, or the one that exists."""
    with contextlib.ExitStack() as stack:
        catalog = _shipped()
        if catalog is not None:
            stack.callback(catalog.close)
        path = user_path()
        if not _is_readable(path):
            path = Path(os.devnull)
        if path.is_dir():
            raise CatalogError(f"the catalogue {path} is a folder")
        if path.is_file() and path.stat().st_size:  # an empty file is still being created
            catalog = stack.enter_context(Catalog(path, readonly=True, base=catalog))
        yield catalog


def stored(K: int, d: int, objective: str, *, families: bool = True) -> SoftmaxCode | None:
    """The best code of the catalogues and the exact families, with provenance that names the entry; None if none."""
    known = exact.best(K, d) if families else None
    with installed() as catalog:
        entry = None if catalog is None else catalog.entry(K, d, objective)
        if known is not None and (entry is None or 1 - known.max_cosine > entry.lower_bound - IMPROVEMENT):
            return known.code(objective)
        if catalog is None or entry is None:
            return None
        code = catalog.code(K, d, objective)
    assert code is not None
    named = replace(code.provenance, method=f"catalogue entry {entry.name}: {code.provenance.method}")
    return replace(code, provenance=named)


def best_known(K: int, d: int, *, objective: Objective = "softmax") -> SoftmaxCode:
    """The best stored code of K unit vectors in R^d, without any search.

    `best_known` compares closed forms, exact families, the catalogue in the package and the user's own.

    Parameters
    ----------
    K : int
        Number of classes, at least 2.
    d : int
        Dimension, at least 1.
    objective : {"softmax", "tammes"}
        The largest margin, or the largest smallest distance.

    Returns
    -------
    SoftmaxCode
        Its provenance names the entry.

    Raises
    ------
    ValueError
        For a bad pair or objective; `CatalogError` (a ValueError) for a catalogue that cannot be read.
    UnknownCodeError
        If no code is stored; its ``bounds`` are those of the optimal value.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> code = sc.best_known(240, 8)
    >>> code.margin, code.certificate.status
    (0.5, 'matches Tammes')
    >>> try:
    ...     sc.best_known(10**6, 3)
    ... except sc.UnknownCodeError as error:
    ...     print(f"{error.bounds.lower:.1e} {error.bounds.upper:.1e}")
    2.0e-06 3.8e-03
    """
    K, d = check_pair(K, d)
    objective = check_objective(objective)
    code = stored(K, d, objective)
    if code is None:
        raise UnknownCodeError(K, d, objective, objective_bounds(K, d, objective))
    return code


def objective_bounds(K: int, d: int, objective: str) -> MarginBounds:
    """The bounds on rho* ("softmax") or 1 - mu* ("tammes")."""
    both = margin_bounds(K, d)
    if objective == "softmax":
        return both
    bound = max_cosine_lower_bound(K, d)
    upper = one_minus_above(bound.value)
    # the volume bound and 1 - mu* bound rho* from below through 1 - mu*
    return replace(both, upper=upper, upper_method=bound.method)
