"""Old names of modules that have moved into folders; importing one warns and redirects to the new names."""

from __future__ import annotations

import contextlib
import importlib
import sys
import warnings
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

#: From the old name to the modules that now define its names, both below ``softmaxcode``.
MOVED: dict[str, tuple[str, ...]] = {
    "arguments": ("cli.arguments", "cli.options"),
    "arrays": ("storage.arrays",),
    "certificate": ("certificates.certificate", "code"),
    "cli_catalog": ("cli.catalog",),
    "compiled": ("parallel.compiled",),
    "contact_system": ("contacts.system",),
    "device_margins": ("margins.on_device",),
    "digits": ("certificates.proof",),
    "disk": ("storage.disk",),
    "files": ("storage.files", "code"),
    "interior_point": ("contacts.interior_point",),
    "interrupts": ("parallel.interrupts",),
    "journal": ("storage.journal",),
    "landscape": ("plotting.landscape",),
    "loss_certificate": ("certificates.loss",),
    "min_norm": ("margins.min_norm",),
    "plots": ("plotting.picture", "plotting.style"),
    "polish": ("contacts.polish",),
    "progress": ("parallel.progress",),
    "records": ("storage.records", "checks.arguments"),
    "rigorous": ("certificates.rigorous",),
    "sampled_margins": ("margins.sampled",),
    "stress": ("contacts.stress",),
    "tensors": ("checks.tensors", "storage.tensors", "parallel.torch_threads"),
    "threads": ("parallel.threads",),
    "tiles": ("parallel.tiles",),
    "workers": ("parallel.workers",),
}


class _Finder(MetaPathFinder):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, name = fullname.rpartition(".")
        return ModuleSpec(fullname, _Redirection()) if package == "softmaxcode" and name in MOVED else None


class _Redirection(Loader):
    def exec_module(self, module: ModuleType) -> None:
        homes = [f"softmaxcode.{name}" for name in MOVED[module.__name__.removeprefix("softmaxcode.")]]
        warnings.warn(f"{module.__name__} is now {' and '.join(homes)}", DeprecationWarning, stacklevel=2)

        def find(name: str) -> Any:
            for home in homes if not name.startswith("__") else ():
                with contextlib.suppress(AttributeError):
                    return getattr(importlib.import_module(home), name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__getattr__ = find  # type: ignore[method-assign]


def redirect() -> None:
    """Make imports of the old names find the new modules."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
