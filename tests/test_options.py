"""Options: declared once, for the command, its help and its checks; and lists, written alike in every command."""

from __future__ import annotations

import inspect
import re
from dataclasses import fields
from typing import TYPE_CHECKING, Any

import pytest
from docstring_parser import DocstringStyle, parse

import softmaxcode as sc
from experiments import training
from experiments.cli import app as experiments
from experiments.compare_command import compare_findings
from experiments.settings import RunSettings
from experiments.studies import STUDIES, study
from softmaxcode import solver
from softmaxcode.bounds.best import margin_bounds
from softmaxcode.catalog import best_known
from softmaxcode.cli.arguments import run_command
from softmaxcode.cli.command import app as softmaxcode
from softmaxcode.cli.options import application, execute, takes
from softmaxcode.plotting import landscape
from ufm import simulation, sweeps
from ufm.cli import app as ufm
from ufm.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

    from cyclopts import App, Argument


def documented(source: Any) -> set[str]:
    """The names that a numpydoc docstring describes, without ``**options``."""
    params = parse(inspect.getdoc(source) or "", DocstringStyle.NUMPYDOC).params
    return {name.strip() for one in params for name in one.arg_name.split(",") if not name.startswith("*")}


def options(app: App, *chain: str) -> dict[str, Argument]:
    command = app.parse_commands(chain)[1][-1]
    return {one.field_info.name: one for one in command.assemble_argument_collection()}


def given(app: App, *arguments: Any) -> dict[str, Any]:
    """What a command is called with."""
    _, bound, _ = app.parse_args([str(one) for one in arguments], exit_on_error=False, print_error=False)
    return dict(bound.arguments)


WRITES = {"output", "force"}
PAIRS = {"classes", "dims", "pairs"}
#: What `softmaxcode.table` adds to the options of the search.
LAYOUT = {"stored", "columns", "float_format"}
TABLE = {"starts", "budget", "seed", "device", "catalog"}
EXECUTION = {"checkpoint_seconds"}
#: Commands with what declares their options, which of these are for Python alone, and what the command adds.
DECLARED: dict[str, tuple[App, tuple[Any, ...], set[str], set[str]]] = {
    "solve": (softmaxcode, (solver.solve,), {"init", "n_jobs", "progress"}, WRITES),
    "table": (softmaxcode, (solver.solve,), documented(solver.solve) - TABLE, WRITES | PAIRS | LAYOUT),
    "bounds": (softmaxcode, (margin_bounds,), set(), set()),
    "catalog list": (softmaxcode, (), set(), PAIRS | {"objective", "format"}),
    "landscape": (softmaxcode, (landscape.plot_landscape,), {"path"}, WRITES),
    "catalog show": (softmaxcode, (best_known,), set(), WRITES),
    "simulate": (ufm, (Settings, simulation.simulate), {"checkpoint"}, {"align", "csv", "output"}),
    "sweep": (ufm, (Settings, sweeps.sweep), {"seed", "path"}, WRITES),
    "diagnose": (softmaxcode, (sc.diagnose,), {"model", "loader", "layer"}, {"file"} | WRITES),
    "compare": (
        experiments(),
        (sc.diagnose, compare_findings),
        {"model", "loader", "layer", "W", "similarity_vectors"},
        {"file", "similarity_from", "similarity_key"} | WRITES,
    ),
    "report": (experiments(), (), set(), {"results", "data_root"} | WRITES),
}


@pytest.mark.parametrize("name", DECLARED)
def test_the_options_of_a_command_are_those_documented(name: str) -> None:
    app, sources, python, added = DECLARED[name]
    found = options(app, *name.split())
    declared = {one for source in sources for one in documented(source)}
    assert python <= declared and not added & (declared - python) - {"names", "similarity"}
    assert set(found) == declared - python | added
    assert all(one.parameter.help for one in found.values())


@pytest.mark.parametrize("name", STUDIES)
def test_the_options_of_a_study_are_those_of_its_plan_of_runs_and_of_their_execution(name: str) -> None:
    plan = documented(study(name).plan)
    assert plan == {n for n, one in inspect.signature(study(name).plan).parameters.items() if one.kind == 3}
    runs = {field.name for field in fields(RunSettings)}
    assert runs == documented(RunSettings) == set(inspect.signature(RunSettings.checked).parameters)
    runs -= {"head", "cmf_momentum", "assignment", "initial", "frozen", "seed"}
    runs -= {one for one in runs if f"{one}s" in plan}
    found = options(experiments(), name)
    execution = documented(training.Execution) - {"checkpoint_seconds"}
    assert set(found) == plan | runs | execution | {"jobs", "results"}
    assert all(one.parameter.help for one in found.values())


@pytest.mark.parametrize(
    ("app", "chain", "source"),
    [
        (softmaxcode, ("solve",), solver.solve),
        (ufm, ("simulate",), Settings),
        (ufm, ("sweep",), sweeps.sweep),
        (experiments(), ("temperature",), study("temperature").plan),
        (softmaxcode, ("diagnose",), sc.diagnose),
    ],
)
def test_defaults_are_those_of_the_declaration(app: App, chain: tuple[str, ...], source: Any) -> None:
    declared, shared = inspect.signature(source).parameters, 0
    for name, one in options(app, *chain).items():
        if name in declared and name not in ("K", "d", "names", "similarity"):
            assert one.field_info.default == declared[name].default, name
            shared += 1
    assert shared >= 4


def test_what_is_not_given_is_left_to_the_declaration() -> None:
    assert given(softmaxcode, "solve", 12, 3) == {"K": 12, "d": 3}
    assert given(ufm, "simulate", "-K", 5, "-d", 2) == {"K": 5, "d": 2}
    assert given(experiments(), "gnc") == {}
    assert given(ufm, "sweep", "--K", 5, "--d", 2, "--no-progress") == {"K": 5, "d": 2, "progress": False}


@pytest.mark.parametrize(
    ("app", "command", "same", "value"),
    [
        (softmaxcode, "table", ["--classes 4:6,9", "--classes 4:6 9", "--classes 4,5 6 9"], {"classes": (4, 5, 6, 9)}),
        (softmaxcode, "table", ["--dims 3,4", "--dims 3 4", "--dims 3:4", "--dims=3,4"], {"dims": (3, 4)}),
        (softmaxcode, "table", ["--pairs 12,3;24,3", "--pairs 12,3 24,3"], {"pairs": ((12, 3), (24, 3))}),
        (softmaxcode, "table", ["--columns K,margin", "--columns K margin"], {"columns": ("K", "margin")}),
        (softmaxcode, "landscape -o a.png", ["--dims 3,4", "--dims 3 4"], {"output": "a.png", "dims": (3, 4)}),
        (softmaxcode, "catalog list", ["--classes 4:32,40", "--classes 4:32 40"], {"classes": (*range(4, 33), 40)}),
        (softmaxcode, "catalog export a", ["--pairs 4,2", "--pairs 4,2;"], {"file": "a", "pairs": ((4, 2),)}),
        (ufm, "sweep -d 3", ["-K 6 8 10", "-K 6,8,10", "--K 6 8,10"], {"d": 3, "K": (6, 8, 10)}),
        (ufm, "sweep -K 9", ["-d 3 4", "-d 3,4", "--d 3:4"], {"K": 9, "d": (3, 4)}),
        (ufm, "sweep", ["--temperature 1 0.5", "--temperature 1,0.5"], {"temperature": (1.0, 0.5)}),
        (ufm, "sweep", ["--seeds 0,2", "--seeds 0 2"], {"seeds": (0, 2)}),
        (ufm, "sweep", ["--seeds 4"], {"seeds": 4}),
        (ufm, "simulate", ["-n 1 2 3", "-n 1,2,3", "--n 1:3"], {"n": (1, 2, 3)}),
        (ufm, "simulate", ["-n 5"], {"n": 5}),
        (experiments(), "gnc", ["--heads learned cmf", "--heads learned,cmf"], {"heads": ("learned", "cmf")}),
        (experiments(), "gnc", ["--temperatures 1 0.5", "--temperatures 1,.5"], {"temperatures": (1.0, 0.5)}),
        (experiments(), "temperature", ["--dims 4 20", "--dims 4,20"], {"dims": (4, 20)}),
        (experiments(), "cmf", ["--few-shot 0", "--few-shot 0:0"], {"few_shot": (0,)}),
        (experiments(), "assignment", ["--levels 1 -0.5", "--levels 1,-0.5"], {"levels": (1.0, -0.5)}),
    ],
)
def test_lists_are_written_alike_everywhere(app: App, command: str, same: list[str], value: dict[str, Any]) -> None:
    required = {"sweep": {"K": 2, "d": 2}, "simulate": {"K": 2, "d": 2}}.get(command, {})
    for written in same:
        more = [part for name, one in required.items() for part in (f"--{name}", one)]
        assert given(app, *command.split(), *more, *written.split()) == required | value


@pytest.mark.parametrize(
    ("app", "chain"), [(softmaxcode, ()), (softmaxcode, ("catalog",)), (ufm, ()), (experiments(), ())]
)
def test_the_sentence_of_a_command_is_that_of_its_docstring(app: App, chain: tuple[str, ...]) -> None:
    group, compared = app.parse_commands(chain)[1][-1], 0
    for name in (one for one in group if not one.startswith("-") and one not in STUDIES):
        if function := group[name].default_command:
            assert group[name].help == (inspect.getdoc(function) or "").split("\n")[0]
            compared += 1
    assert compared >= 2


def test_the_last_of_an_option_given_twice_counts_and_no_option_is_abbreviated() -> None:
    assert given(softmaxcode, "solve", 4, 3, "--seed", 1, "--seed", 2)["seed"] == 2
    with pytest.raises(
        ValueError, match=r"^Unknown option: --see\. Did you mean --seed\? \(see softmaxcode solve --help\)"
    ):
        execute(softmaxcode, ["solve", "4", "3", "--see", "1"])


@pytest.mark.parametrize("app", [softmaxcode, ufm, experiments()], ids=["softmaxcode", "ufm", "experiments"])
def test_help_is_plain_text(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    names = [name for name in app if not name.startswith("-")]
    for arguments in ([], *([name] for name in names)):
        assert execute(app, [*arguments, "--help"]) == 0
        out, err = capsys.readouterr()
        assert err == "" and out.startswith(f"Usage: {' '.join([*app.name, *arguments])} ")
        assert not re.search("[\x1b\u2500-\u257f`]", out)
        assert max(map(len, out.splitlines())) <= 80


def test_a_command_that_returns_nothing_is_done(capsys: pytest.CaptureFixture[str]) -> None:
    @takes()
    def hello(*, name: str = "you") -> None:
        """Greet.

        Parameters
        ----------
        name : str
            Whom.
        """
        print(f"hello {name}")

    app = application("greet", "Greet.", {"hello": (hello, "Greet someone.")})
    assert execute(app, ["hello", "--name", "K"]) == 0
    assert capsys.readouterr().out == "hello K\n"
    with pytest.raises(ValueError, match=r"name what to do: hello \(see greet --help\)"):
        execute(app, [])
    with pytest.raises(ValueError, match=r"there is no command 'x\\x1b'; the commands are hello"):
        execute(app, ["x\x1b"])


def test_a_missing_package_is_named() -> None:
    app = application("greet", "Greet.", {"hello": ("no_such_package:hello", "Greet someone.")})
    with pytest.raises(ModuleNotFoundError, match="No module named 'no_such_package'"):
        execute(app, ["hello"])


def test_an_interrupt_while_a_command_is_imported_ends_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "interrupted_module.py").write_text("raise KeyboardInterrupt\n")
    monkeypatch.syspath_prepend(tmp_path)
    app = application("greet", "Greet.", {"hello": ("interrupted_module:hello", "Greet someone.")})
    assert run_command("greet", lambda: execute(app, ["hello"])) == 130
    assert capsys.readouterr() == ("", "greet: interrupted\n")
