"""The best code known for each (K, d) and objective, on disk: one SQLite file.

A read-only catalogue ships with the package; improvements go to a second one in the user's data folder. A code enters
only if the certificate derived from its coordinates beats the stored one. A code of an exact family is stored as the
name of the construction and the indices of its rows.
"""

from softmaxcode.catalog.entry import Entry
from softmaxcode.catalog.file import Catalog
from softmaxcode.catalog.known import (
    Found,
    Known,
    UnknownCodeError,
    best_known,
    installed,
    look_up,
    look_up_pairs,
    objective_bounds,
    shipped_path,
    stored,
    stored_both,
    user_catalog,
    user_path,
)
from softmaxcode.catalog.schema import CatalogError
from softmaxcode.catalog.transfer import ImportReport, export, import_codes
from softmaxcode.catalog.verification import verify
from softmaxcode.checks.renamed import renamed_names

__all__ = [
    "Catalog",
    "CatalogError",
    "Entry",
    "Found",
    "ImportReport",
    "Known",
    "UnknownCodeError",
    "best_known",
    "export",
    "import_codes",
    "installed",
    "look_up",
    "look_up_pairs",
    "objective_bounds",
    "shipped_path",
    "stored",
    "stored_both",
    "user_catalog",
    "user_path",
    "verify",
]

__getattr__ = renamed_names(
    __name__, {"NotHeldError": "UnknownCodeError", "bracket": "objective_bounds", "held": "stored"}
)
