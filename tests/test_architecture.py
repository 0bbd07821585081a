"""The layers of the packages, imports that run one way, and what each module may import."""

from __future__ import annotations

import graphlib
import importlib
import importlib.metadata
import re
import sys
from functools import cache
from typing import TYPE_CHECKING

import grimp
import pytest

import softmaxcode as sc
import softmaxcode.bounds
import softmaxcode.catalog
from softmaxcode.catalog import Catalog
from softmaxcode.metrics import GNC2
from softmaxcode.sweep import sweep

if TYPE_CHECKING:
    from pathlib import Path

#: From the top: a module imports from its own layer and those below.
LAYERS = (
    ("cli",),
    ("diagnosis",),
    ("metrics", "pages", "report", "sweep", "tables"),
    ("compare", "nn", "plotting", "solver"),
    ("catalog",),
    ("assignment", "exact"),
    ("code",),
    ("checkpoints", "storage"),
    ("certificates", "search"),
    ("bounds", "contacts", "margins", "symmetry"),
    ("sphere",),
    ("parallel",),
    ("checks",),
    ("types",),
)
#: Folders and modules that need PyTorch; everything else runs without it.
WITH_TORCH = (
    "checkpoints.torch_file",
    "checks.geoopt",
    "checks.tensors",
    "diagnosis.data",
    "margins.on_device",
    "metrics",
    "nn",
    "parallel.torch_threads",
    "search.geoopt_batch",
    "search.large.tensors",
    "storage.tensors",
)
#: Modules that import an optional package, each named in an extra of `setup.cfg`.
OPTIONAL = {
    "softmaxcode.checkpoints.onnx_file": {"onnx"},
    "softmaxcode.metrics.callback": {"lightning"},
    "softmaxcode.parallel.workers": {"distributed"},
    "softmaxcode.tables.files": {"pyarrow"},
    "softmaxcode.types": {"jaxtyping"},  # imported by type checkers alone
    "ufm.storage": {"pyarrow"},
}
#: Top-level modules of `softmaxcode` outside the layers: the list of public names, and names of earlier versions.
NO_LAYER = {"moved"}


@cache
def graph() -> grimp.ImportGraph:
    """Imports anywhere in a module, also inside functions; those for type checkers alone are omitted."""
    return grimp.build_graph(
        "softmaxcode",
        "ufm",
        "experiments",
        include_external_packages=True,
        exclude_type_checking_imports=True,
        cache_dir=None,
    )


def modules(package: str) -> list[str]:
    return sorted(name for name in graph().modules if name == package or name.startswith(f"{package}."))


def external(module: str) -> set[str]:
    """Top-level packages of others that a module imports."""
    own = {"softmaxcode", "ufm", "experiments"}
    return {name.split(".")[0] for name in graph().find_modules_directly_imported_by(module)} - own


def ordinary() -> set[str]:
    """The packages that are installed with this one, by import name, and the standard library."""
    required = importlib.metadata.requires("softmaxcode") or []
    names = {re.split(r"[^\w-]", text)[0].replace("python-", "") for text in required if "extra ==" not in text}
    return names | set(sys.stdlib_module_names)


def test_the_graph_sees_imports_inside_functions() -> None:
    assert "pyarrow" in external("ufm.storage") and "softmaxcode.types" not in {
        name for module in modules("softmaxcode") for name in graph().find_modules_directly_imported_by(module)
    }


def test_no_imports_run_in_a_circle() -> None:
    order = {name: graph().find_modules_directly_imported_by(name) for name in graph().modules}
    graphlib.TopologicalSorter(order).prepare()  # raises CycleError with the circle


def test_every_module_has_a_layer() -> None:
    listed = {name for layer in LAYERS for name in layer}
    assert graph().find_children("softmaxcode") == {f"softmaxcode.{name}" for name in listed | NO_LAYER}


def test_a_module_imports_from_its_layer_and_below() -> None:
    layers = tuple(grimp.Layer(*(f"softmaxcode.{name}" for name in layer), independent=False) for layer in LAYERS)
    found = graph().find_illegal_dependencies_for_layers(layers=layers)
    assert not found, [(one.importer, one.imported) for one in found]


def test_packages_import_one_way() -> None:
    layers = tuple(grimp.Layer(name) for name in ("experiments", "ufm", "softmaxcode"))
    found = graph().find_illegal_dependencies_for_layers(layers=layers)
    assert not found, [(one.importer, one.imported) for one in found]


def test_at_most_ten_modules_at_the_top() -> None:
    folders = {name.split(".")[1] for name in modules("softmaxcode") if name.count(".") > 1}
    single = graph().find_children("softmaxcode") - {f"softmaxcode.{name}" for name in folders}
    assert len(single) + 1 <= 10  # with __init__


@pytest.mark.parametrize("module", [*modules("softmaxcode"), *modules("ufm")])
def test_what_a_module_imports(module: str) -> None:
    found = external(module)
    assert found <= ordinary() | OPTIONAL.get(module, set())
    name = module.removeprefix("softmaxcode.")
    if not module.startswith("ufm") and not name.startswith(WITH_TORCH):
        assert not found & {"torch", "geoopt", "torchmetrics"}, "the numerical core runs without PyTorch"


@pytest.mark.parametrize("name", WITH_TORCH)
def test_pytorch_is_imported_where_it_is_said_to_be(name: str) -> None:
    assert any({"torch", "geoopt"} & external(module) for module in modules(f"softmaxcode.{name}"))


#: Public names by the modules that they were imported from in version 0.1.
OLD_NAMES = {
    "arguments": "run_command",
    "certificate": "Certificate certify lower_bounds",
    "cli": "main",
    "bounds": "delsarte levenshtein margin_bounds max_cosine_lower_bound volume",
    "compare": "align compare other_optima",
    "device_margins": "smallest_margin_on_device",
    "digits": "NotRegular ProvedValue claims_more",
    "files": "coordinates_hash figures load",
    "journal": "Journal",
    "landscape": "PAPER_LINES panel plot_landscape",
    "loss_certificate": "certified_margin minimizer_margin",
    "margins": "Margins margin margins smallest_margin",
    "min_norm": "refine wolfe",
    "plots": "DPI SUFFIXES plot",
    "polish": "polish_hardmax",
    "progress": "Progress",
    "rigorous": "rigorous_bounds",
    "sampled_margins": "SampledMargin sampled_margin",
    "stress": "balance rigidity",
    "tensors": "check_classifier one_thread unit_rows write_tensors",
    "threads": "Threads",
    "workers": "LocalWorkers run",
}


@pytest.mark.parametrize("module", OLD_NAMES)
def test_names_are_still_found_where_they_were(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from softmaxcode.moved import MOVED

    name = f"softmaxcode.{module}"
    if module in MOVED:
        monkeypatch.delitem(sys.modules, name, raising=False)
        with pytest.warns(DeprecationWarning, match=f"{name} is now softmaxcode."):
            home = importlib.import_module(name)
        monkeypatch.delitem(sys.modules, name)
    else:
        home = importlib.import_module(name)
    for public in OLD_NAMES[module].split():
        assert getattr(home, public) is not None
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = home.nonsense


def test_old_names_still_work() -> None:
    with pytest.warns(DeprecationWarning, match="softmaxcode.NotHeldError is now softmaxcode.UnknownCodeError"):
        assert sc.NotHeldError is sc.UnknownCodeError
    with pytest.warns(DeprecationWarning, match="bounds.Bracket is now .*MarginBounds"):
        assert softmaxcode.bounds.Bracket is softmaxcode.bounds.MarginBounds
    for old, new in (("held", "stored"), ("bracket", "objective_bounds"), ("NotHeldError", "UnknownCodeError")):
        with pytest.warns(DeprecationWarning, match=f"catalog.{old} is now softmaxcode.catalog.{new}"):
            assert getattr(softmaxcode.catalog, old) is getattr(softmaxcode.catalog, new)
    with pytest.raises(sc.UnknownCodeError) as caught:
        sc.best_known(10**6, 3)
    with pytest.warns(DeprecationWarning, match="UnknownCodeError.bounds"):
        assert caught.value.bracket is caught.value.bounds
    metric = GNC2(7, 3)
    with pytest.warns(DeprecationWarning, match="GNC2.bounds"):
        assert metric.bracket == metric.bounds == sc.margin_bounds(7, 3)


def test_an_old_argument_still_works_but_not_with_its_new_name(tmp_path: Path) -> None:
    with Catalog(tmp_path / "catalog.sqlite") as catalog:
        with pytest.warns(DeprecationWarning, match="the argument patience of sweep is now timeout"):
            sweep([(6, 3)], catalog=catalog, n_jobs=1, patience=60)
        with pytest.raises(ValueError, match="patience is the old name of timeout: pass one of them"):
            sweep([(6, 3)], catalog=catalog, n_jobs=1, patience=60, timeout=60)
