"""One rule for every command: a file that ``-o`` names is checked before any work, and replaced only with --force."""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

import numpy as np
import pytest

import softmaxcode as sc
from experiments.cli import main as experiments
from softmaxcode.cli.command import main as softmaxcode
from softmaxcode.storage.disk import one_writer
from ufm.cli import main as ufm

if TYPE_CHECKING:
    from collections.abc import Callable

SWEEP = "sweep -K 4 -d 3 --temperature 0.1 --seeds 1 --steps 2 -o OUT.csv"
COMMANDS = {
    "solve": (softmaxcode, "solve 4 3 -o OUT.npz"),
    "solve txt": (softmaxcode, "solve 4 3 -o OUT.txt"),
    "show": (softmaxcode, "catalog show 4 3 -o OUT.npz"),
    "table": (softmaxcode, "table --pairs 4,3 -o OUT.csv"),
    "plot": (softmaxcode, "plot code.npz -o OUT.png"),
    "landscape": (softmaxcode, "landscape --dims 3 --max-classes 8 -o OUT.png"),
    "export": (softmaxcode, "catalog export OUT.sqlite --pairs 7,3"),
    "sweep": (ufm, SWEEP),
    "ufm plot": (ufm, "plot sweep.csv -o OUT.png"),
    "report": (experiments, "report --results results -o OUT.html"),
    "diagnose": (softmaxcode, "diagnose W.npy -o OUT.html"),
    "diagnose csv": (softmaxcode, "diagnose W.npy -o OUT.csv"),
    "compare": (experiments, "compare W.npy -o OUT.html"),
}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with the input files of the commands."""
    monkeypatch.chdir(tmp_path)
    sc.solve(4, 3).save("code.npz")
    np.save("W.npy", sc.best_known(7, 3).W)
    (tmp_path / "results").mkdir()
    assert ufm(SWEEP.replace("OUT", "sweep").split()) == 0
    return tmp_path


def call(main: Callable[[list[str]], int], command: str, output: str, capsys) -> tuple[int, str, str]:
    capsys.readouterr()
    code = main([argument.replace("OUT", output) for argument in command.split()])
    return code, *capsys.readouterr()


@pytest.mark.parametrize("name", COMMANDS)
def test_an_existing_file_is_refused_before_any_work_and_replaced_with_force(place, capsys, name):
    main, command = COMMANDS[name]
    assert call(main, command, "made", capsys)[0] == 0
    suffix = command.partition("OUT")[2].split()[0]
    made = place / f"made{suffix}"
    made.write_text("the user's own")
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    code, out, err = call(main, command, "made", capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and f"cannot write {made.name}: it exists already; pass --force" in err
    assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert call(main, f"{command} --force", "made", capsys)[0] == 0
    assert made.read_bytes() != b"the user's own"


@pytest.mark.skipif(os.name != "posix", reason="a folder in which nothing can be made")
@pytest.mark.parametrize("name", COMMANDS)
def test_a_folder_in_which_nothing_can_be_made_is_refused_before_any_work(place, capsys, name):
    main, command = COMMANDS[name]
    code, out, err = call(main, command, "/proc/made", capsys)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1 and "cannot write /proc/made" in err and "no file can be made in /proc" in err


@pytest.mark.parametrize("name", ["table", "sweep"])
def test_an_unfinished_table_is_continued_without_force(place, capsys, monkeypatch, name):
    main, command = COMMANDS[name]
    longer = command.replace("4,3", "4,3;5,3").replace("-K 4", "-K 4 5")
    module = {"table": "softmaxcode.tables.searched.row", "sweep": "ufm.sweeps._rows"}[name]
    where, _, what = module.rpartition(".")
    original = getattr(importlib.import_module(where), what)
    calls = iter([original])

    def stopped(*arguments: object, **options: object) -> object:
        once = next(calls, None)
        if once is None:
            raise KeyboardInterrupt
        return once(*arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(module, stopped)
        assert call(main, longer, "made", capsys)[0] == 130
    assert (place / "made.csv").exists()
    before = {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}
    others = {"table": (("4,3;", ""), (" -o", " --seed 7 -o")), "sweep": (("-K 4 5", "-K 5"), ("steps 2", "steps 3"))}
    for old, new in others[name]:
        code, out, err = call(main, longer.replace(old, new), "made", capsys)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert "cannot write made.csv: an unfinished" in err and "--force" in err
        assert {path: path.read_bytes() for path in place.rglob("*") if path.is_file()} == before
    assert call(main, longer, "made", capsys)[0] == 0
    assert len((place / "made.csv").read_text().splitlines()) == 3
    assert call(main, longer, "made", capsys)[0] == 2


def test_the_report_in_its_own_folder_is_made_again(place, capsys):
    for _ in range(2):
        assert call(experiments, "report --results results", "", capsys)[0] == 0


@pytest.mark.parametrize("name", ["table", "sweep"])
def test_a_table_that_another_process_writes_is_refused(place, capsys, name):
    main, command = COMMANDS[name]
    with one_writer(place / "made.csv"):
        code, out, err = call(main, command, "made", capsys)
        assert (code, out) == (2, "") and err.count("\n") == 1
        assert "cannot write made.csv: another process is writing it" in err
    assert call(main, command, "made", capsys)[0] == 0
    assert not [path for path in place.iterdir() if path.name.startswith(".")]


def test_names_are_printed_with_their_control_characters_shown(place, capsys):
    """A file name could move the cursor, or end a line and forge the next one."""
    hostile, shown = "a\x1b[2J\nforged", r"a\x1b[2J\nforged"
    commands = [
        (softmaxcode, ["solve", "4", "3", "-o", f"{hostile}.npz"]),
        (softmaxcode, ["table", "--pairs", "4,3", "-o", f"{hostile}.csv"]),
        (softmaxcode, ["plot", "code.npz", "-o", f"{hostile}.png"]),
        (softmaxcode, ["catalog", "export", f"{hostile}.sqlite", "--pairs", "7,3"]),
        (softmaxcode, ["catalog", "verify", f"{hostile}.sqlite", "--jobs", "1"]),
        (softmaxcode, ["catalog", "import", f"{hostile}.sqlite", "--catalog", f"{hostile}2.sqlite"]),
        (softmaxcode, ["catalog", "improve", "--pairs", "4,3", "--catalog", f"{hostile}2.sqlite"]),
        (softmaxcode, ["check", f"{hostile}3.npz"]),
        (ufm, ["plot", "sweep.csv", "-o", f"{hostile}.pdf"]),
    ]
    for main, arguments in commands:
        capsys.readouterr()
        main(arguments)
        out, err = capsys.readouterr()
        assert "\x1b" not in out + err and "\nforged" not in out + err, arguments
        assert arguments[1] == "import" or shown in out + err, arguments
