"""Old names of modules that have moved into folders: importing one gives the new module, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

#: From the old name to the new one, both below ``softmaxcode``.
MOVED = {
    "arguments": "cli.arguments",
    "arrays": "storage.arrays",
    "certificate": "certificates.certificate",
    "cli_catalog": "cli.catalog",
    "compiled": "parallel.compiled",
    "contact_system": "contacts.system",
    "device_margins": "margins.on_device",
    "digits": "certificates.proof",
    "disk": "storage.disk",
    "files": "storage.files",
    "interior_point": "contacts.interior_point",
    "interrupts": "parallel.interrupts",
    "journal": "storage.journal",
    "landscape": "plotting.landscape",
    "loss_certificate": "certificates.loss",
    "min_norm": "margins.min_norm",
    "plots": "plotting.picture",
    "polish": "contacts.polish",
    "progress": "parallel.progress",
    "records": "storage.records",
    "rigorous": "certificates.rigorous",
    "sampled_margins": "margins.sampled",
    "stress": "contacts.stress",
    "tensors": "checks.tensors",
    "threads": "parallel.threads",
    "tiles": "parallel.tiles",
    "workers": "parallel.workers",
}


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, _Redirection()) if package == "softmaxcode" and name in MOVED else None


class _Redirection(Loader):
    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__
        new = f"softmaxcode.{MOVED[old.removeprefix('softmaxcode.')]}"
        warnings.warn(f"{old} is now {new}", DeprecationWarning, stacklevel=2)
        sys.modules[old] = importlib.import_module(new)


def redirect() -> None:
    """Have imports of the old names give the new modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
