"""The package: quick to import, its names listed once and documented, its files shipped, its core free of torch."""

from __future__ import annotations

import ast
import configparser
import dataclasses
import enum
import importlib
import importlib.metadata
import importlib.resources
import inspect
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from numpydoc.docscrape import get_doc_object
from numpydoc.validate import validate

import softmaxcode as sc
import ufm
from tests.processes import HANG

PACKAGE = Path(sc.__file__).parent
ROOT = PACKAGE.parent
MODULES = sorted(PACKAGE.rglob("*.py"))
HEAVY = {"torch", "geoopt", "numba", "scipy", "pandas", "matplotlib", "flint", "tqdm", "joblib", "loky", "numpy"}
#: Modules whose public names other code uses directly.
SUBMODULES = (
    "assignment",
    "compare",
    "certificates.loss",
    "metrics",
    "metrics.callback",
    "metrics.figure",
    "nn",
    "nn.functional",
)
CLASSES = [name for name in sc.__all__ if inspect.isclass(getattr(sc, name))]


def public(module: str) -> dict[str, object]:
    """Functions and classes that a module defines, or that a package lists, by their full name."""
    home = importlib.import_module(module)
    if hasattr(home, "__all__"):
        return {f"{module}.{name}": getattr(home, name) for name in home.__all__}
    return {
        f"{module}.{name}": value
        for name, value in vars(home).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module
    }


PUBLIC = {name: value for module in SUBMODULES for name, value in public(f"softmaxcode.{module}").items()}
PUBLIC |= public("ufm")
FUNCTIONS = {name: getattr(sc, name) for name in sc.__all__} | PUBLIC
FUNCTIONS = {name: value for name, value in FUNCTIONS.items() if inspect.isfunction(value)}
INTERNAL = {"cosines", "default_starts", "trace", "guesses", "sorted_rows", "swaps", "log_softplus"}


def loaded_after(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has loaded after running the code."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(sorted({sorted(HEAVY)!r} & sys.modules.keys())))"
    script = script.replace(f"sorted({sorted(HEAVY)!r} &", f"sorted(set({sorted(HEAVY)!r}) &")
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=HANG, check=False)
    assert ran.returncode == 0 and ran.stderr == "", ran.stderr
    return set(json.loads(ran.stdout))


# Imports


@pytest.mark.processes
def test_importing_the_package_loads_nothing_heavy():
    code = "import softmaxcode; dir(softmaxcode); softmaxcode.__all__; softmaxcode.__doc__; softmaxcode.__version__"
    assert not loaded_after(code) & {"torch", "geoopt", "numba", "scipy", "pandas", "matplotlib"}


@pytest.mark.processes
def test_importing_ufm_loads_nothing_heavy():
    assert not loaded_after("import ufm; dir(ufm); ufm.__all__; ufm.__doc__")


@pytest.mark.processes
def test_solving_and_saving_load_neither_torch_nor_pandas_nor_matplotlib():
    code = (
        "import os, tempfile, softmaxcode as sc\n"
        "with tempfile.TemporaryDirectory() as folder:\n"
        "    name = os.path.join(folder, 'c.npz')\n"
        "    sc.solve(12, 3, starts=16, catalog=False, exact=False).save(name)\n"
        "    sc.load(name).certificate"
    )
    assert not loaded_after(code) & {"torch", "geoopt", "pandas", "matplotlib"}


@pytest.mark.processes
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["catalog", "--help"], [], ["dance"]])
@pytest.mark.parametrize("module", ["softmaxcode.cli.command", "ufm.cli", "experiments.cli"])
def test_a_command_loads_nothing_heavy_before_it_is_named(module, arguments):
    code = (
        f"import contextlib, io\nfrom {module} import main\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):\n"
        f"    main({arguments!r})"
    )
    assert not loaded_after(code)


@pytest.mark.processes
def test_the_options_of_the_feature_model_are_read_without_pytorch():
    code = "import contextlib, io\nfrom ufm.cli import main\nwith contextlib.redirect_stdout(io.StringIO()):\n"
    assert "torch" not in loaded_after(code + "    main(['simulate', '--help']), main(['sweep', '--help'])")


# Names


def test_names_are_sorted_and_unique():
    assert sc.__all__ == sorted(set(sc.__all__))


@pytest.mark.parametrize("name", sc.__all__)
def test_every_name_resolves(name):
    value = getattr(sc, name)
    assert value is getattr(sc, name)
    assert value.__module__.split(".")[0] == "softmaxcode"
    assert getattr(importlib.import_module(value.__module__), name) is value
    assert name in dir(sc)


@pytest.mark.parametrize("name", ufm.__all__)
def test_every_name_of_ufm_resolves(name):
    value = getattr(ufm, name)
    assert value.__module__ == f"ufm.{ufm._HOME[name]}" and name in dir(ufm)


def test_names_of_ufm_are_sorted_and_the_same_for_type_checkers():
    block = next(node for node in ast.parse(Path(ufm.__file__).read_text()).body if isinstance(node, ast.If))
    names = {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert ufm.__all__ == sorted(set(ufm.__all__)) == sorted(names)
    assert names == {name: f"ufm.{home}" for name, home in ufm._HOME.items()}
    with pytest.raises(AttributeError, match="module 'ufm' has no attribute 'nonsense'"):
        _ = ufm.nonsense


def test_dir_lists_the_public_names_and_no_others():
    names = [name for name in dir(sc) if not name.startswith("_")]
    assert names == sc.__all__


def test_star_import():
    space: dict[str, object] = {}
    exec("from softmaxcode import *", space)
    assert set(sc.__all__) == {name for name in space if not name.startswith("__")}


@pytest.mark.parametrize("name", ["nonsense", "Solve", "torch", "np", "annotation"])
def test_unknown_names_are_refused_as_python_does(name):
    with pytest.raises(AttributeError, match=f"module 'softmaxcode' has no attribute '{name}'"):
        getattr(sc, name)
    with pytest.raises(ImportError):
        exec(f"from softmaxcode import {name}")


def test_names_for_type_checkers_are_those_at_run_time():
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    names = {a.name: n.module for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names}
    assert sorted(names) == sc.__all__
    assert names == {name: f"softmaxcode.{home}" for name, home in sc._HOME.items()}


# Docstrings

#: Those of numpydoc: a summary that is a sentence; every parameter and no other; what is returned or yielded; examples.
CHECKS = {"GL08", "SS01", "SS02", "SS03", "PR01", "PR02", "PR03", "PR06", "PR07", "RT01", "RT03", "YD01", "EX01"}


def errors(name: str, left_out: frozenset[str] = frozenset()) -> list[tuple[str, str]]:
    return [error for error in validate(name)["errors"] if error[0] in CHECKS - left_out]


def whole(name: str) -> str:
    return f"softmaxcode.{name}" if name in sc.__all__ else name


def test_the_checks_of_docstrings_can_fail() -> None:
    assert {code for code, _ in errors("softmaxcode.assignment.guesses")} >= {"PR01", "EX01", "YD01"}


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name.split(".")[-1] not in INTERNAL])
def test_every_public_function_has_a_numpydoc_docstring(name):
    assert not errors(whole(name))


@pytest.mark.parametrize("name", [*CLASSES, *(name for name, value in PUBLIC.items() if inspect.isclass(value))])
def test_every_public_class_is_documented(name):
    cls = PUBLIC.get(name) or getattr(sc, name)
    record = dataclasses.is_dataclass(cls) or issubclass(cls, BaseException | enum.Enum)  # what is returned or raised
    assert not errors(whole(name), frozenset({"PR01", "EX01"} if record else ()))
    doc = get_doc_object(cls)
    if dataclasses.is_dataclass(cls):
        entries = [*doc["Parameters"], *doc["Attributes"]]
        described = {one for entry in entries for one in entry.name.split(", ")}
        assert {field.name for field in dataclasses.fields(cls) if not field.name.startswith("_")} <= described
    elif not record:
        assert doc["Raises"]
    for attribute, value in vars(cls).items():
        documented = isinstance(value, property) or inspect.isfunction(value) or hasattr(value, "attrname")
        if documented and not attribute.startswith("_"):
            assert inspect.getdoc(value), attribute


def test_results_are_frozen():
    for name in ("SoftmaxCode", "Certificate", "Provenance", "Margins", "ProvedValue", "SampledMargin"):
        assert getattr(sc, name).__dataclass_params__.frozen
    assert all(value.__dataclass_params__.frozen for value in public("ufm").values() if inspect.isclass(value))


def test_refusals_are_value_errors():
    assert issubclass(sc.NotComputed, ValueError) and issubclass(sc.NotRegular, ValueError)


# Shipped files


def config() -> configparser.ConfigParser:
    if not (ROOT / "setup.cfg").is_file():
        pytest.skip("not a source tree")
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


def test_version():
    version = sc.__version__
    assert version == importlib.metadata.version("softmaxcode") == config()["metadata"]["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", version)
    assert re.search(rf"^version: \"?{re.escape(version)}\"?$", (ROOT / "CITATION.cff").read_text(), re.M)


def test_the_marker_of_typed_packages_is_shipped():
    assert (importlib.resources.files("softmaxcode") / "py.typed").is_file()
    shipped = ["py.typed", "data/*.npz", "data/*.sqlite", "pages/templates/*.j2"]
    assert config()["options.package_data"]["softmaxcode"].split() == shipped


def test_every_folder_of_modules_is_a_package():
    folders = {path.parent for path in MODULES}
    assert all((folder / "__init__.py").is_file() for folder in folders)


def test_the_command_is_declared():
    entry = [e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == "softmaxcode"]
    assert [e.value for e in entry] == ["softmaxcode.cli:main"]
    assert callable(entry[0].load())


def test_python_version_licence_and_extras():
    options = config()
    assert options["options"]["python_requires"] == ">=3.11"
    assert (ROOT / "LICENSE").read_text().startswith("MIT License")
    ordinary = options["options"]["install_requires"]
    assert all(re.search(rf"^{name}\b", ordinary, re.M) for name in ("torch", "geoopt", "numpy", "python-flint"))
    assert not re.search(r"^(pyarrow|pymanopt|pytest|hypothesis|lightning|scikit-learn)", ordinary, re.M)
    extras = options["options.extras_require"]
    assert "pyarrow" in extras["parquet"] and "pymanopt" in extras["benchmarks"]


def test_numba_kernels_are_compiled_once_per_machine():
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            for decorator in getattr(node, "decorator_list", []):
                text = ast.unparse(decorator)
                if "njit" in text or "numba.jit" in text:
                    assert "cache=True" in text, f"{path.name}: {node.name}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_into_the_source_tree_lead_somewhere(name):
    config()
    tokens = MarkdownIt().parse((ROOT / name).read_text())
    inline = [one for token in tokens for one in token.children or ()]
    targets = [one.attrs.get("href") or one.attrs.get("src") for one in inline if one.type in ("link_open", "image")]
    assert targets or name != "README.md"
    for target in map(str, targets):
        if not re.match(r"[a-z]+:", target):
            assert (ROOT / target.split("#")[0]).exists(), target
