"""Pages of the documentation: each part stands in its page once, one command writes it, and people's text stays."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import benchmarks
from benchmarks import cost, frontier, head_step, recipes, report, solve
from benchmarks.report import Page

ROOT = Path(__file__).parents[2]
PAGE = Page("b.md", ("one", "two"))
TEXT = "# Title\n\nabove\n\n<!-- one -->\nold\n<!-- /one -->\n\nbetween\n\n<!-- two -->\n<!-- /two -->\n\nbelow\n"


def commands() -> dict[str, Page]:
    """The page of each command, by module."""
    names = [found.name for found in pkgutil.walk_packages(benchmarks.__path__, "benchmarks.")]
    modules = {name: importlib.import_module(name) for name in names if not name.endswith("__main__")}
    return {name: module.PAGE for name, module in modules.items() if hasattr(module, "PAGE")}


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/**/*.md")), ids=lambda page: page.name)
def test_the_parts_of_a_page_are_pairs_that_occur_once(page: Path) -> None:
    markers = re.findall(r"^<!-- (/?)(\w+) -->$", page.read_text(encoding="utf-8"), re.M)
    names = [name for _, name in markers[::2]]
    assert markers == [(slash, name) for name in names for slash in ("", "/")]
    assert len(set(names)) == len(names)


def test_each_part_of_the_documentation_is_written_by_one_command() -> None:
    wanted = Counter((page.path, part) for page in commands().values() for part in page.parts)
    found = Counter(
        (page.relative_to(ROOT).as_posix(), name)
        for page in ROOT.glob("docs/**/*.md")
        for name in re.findall(r"^<!-- (\w+) -->$", page.read_text(encoding="utf-8"), re.M)
    )
    assert wanted == found and set(found.values()) == {1}


def test_no_text_between_the_markers_but_tables_and_machines(parts_of) -> None:
    """All but the report of the experiments, which makes its own headings and statements."""
    for page in commands().values():
        parts = parts_of(ROOT / page.path)
        for name in set(page.parts) - {"findings"}:
            lines = parts[name].splitlines()
            assert lines and all(line.startswith(("| ", "|:", "|-", "- ")) or line == "No rows." for line in lines)


def test_parts_are_replaced_and_the_text_around_them_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "b.md"
    path.write_text(TEXT)
    PAGE.publish({"two": r"\1 \g<0>", "one": pd.DataFrame({"K": ["3"], "s": ["0.10"]})}, path)
    table = "| K   |    s |\n|:----|-----:|\n| 3   | 0.10 |"
    wanted = TEXT.replace("old", table).replace("<!-- two -->\n", "<!-- two -->\n\\1 \\g<0>\n")
    assert path.read_text() == wanted
    assert capsys.readouterr().out == f"two:\n\n\\1 \\g<0>\n\none:\n\n{table}\n"
    PAGE.publish({"one": pd.DataFrame()}, path)
    assert path.read_text() == wanted.replace(table, "No rows.")
    assert not list(tmp_path.glob(".*"))


def test_a_new_file_has_the_parts_alone(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "b.md"
    PAGE.publish({"one": "- a", "two": "- b"}, path)
    assert path.read_text() == "<!-- one -->\n- a\n<!-- /one -->\n\n<!-- two -->\n- b\n<!-- /two -->\n"


@pytest.mark.parametrize(
    "text",
    [
        "no markers\n",
        "<!-- two -->\nno end\n",
        "<!-- /two -->\n",
        "<!-- /two -->\n<!-- two -->\n",
        "<!-- two -->\n<!-- /two -->\n" * 2,
    ],
)
def test_a_page_without_a_pair_of_markers_is_refused_and_stays(tmp_path: Path, text: str) -> None:
    path = tmp_path / "b.md"
    path.write_text(f"<!-- one -->\n<!-- /one -->\n{text}")
    with pytest.raises(ValueError, match="must have one line <!-- two --> and below it one line <!-- /two -->"):
        report.replace_parts(path, {"one": "new", "two": "new"}, PAGE.parts)
    assert path.read_text() == f"<!-- one -->\n<!-- /one -->\n{text}"


@pytest.mark.parametrize("command", [frontier, head_step, recipes, solve])
def test_a_command_refuses_such_a_page_before_it_measures(command, tmp_path, capsys) -> None:
    path = tmp_path / "b.md"
    path.write_text("# Title\n")
    with pytest.raises(SystemExit) as ended:
        command.main(["--write", str(path)])
    assert ended.value.code == 2
    assert f"must have one line <!-- {command.PAGE.parts[0]} -->" in capsys.readouterr().err
    assert path.read_text() == "# Title\n"


def test_a_part_that_the_command_does_not_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"parts must be among \('one', 'two'\); got \['three'\]"):
        PAGE.publish({"one": "", "three": ""}, None)


def test_a_command_writes_its_parts_into_a_copy_of_the_page(tmp_path, monkeypatch) -> None:
    """The parts of other commands and people's text stay; the figure goes to the folder of images beside the page."""
    costs = {(name, K, d): 0.1 * K * d for name in cost.KINDS for K, d in cost.GROWING_K + cost.GROWING_D}
    monkeypatch.setattr(cost, "measure", lambda seeds, quick: costs)
    path = tmp_path / "benchmarks.md"
    old = (ROOT / solve.PAGE.path).read_text(encoding="utf-8")
    path.write_text(old, encoding="utf-8")
    solve.main(["--quick", "--tables", "cost", "--write", str(path)])
    new = path.read_text(encoding="utf-8")
    parts = re.compile(r"^<!-- (machine|cost) -->$.*?^<!-- /\1 -->$", re.M | re.S)
    assert parts.sub("", new) == parts.sub("", old)
    assert "| 25         |         10 |" in new and "`python -m benchmarks.solve --quick`; PyTorch threads: " in new
    assert (tmp_path / "images" / "cost.png").read_bytes().startswith(b"\x89PNG")


def test_a_new_page_has_every_part_and_no_part_has_markers(tmp_path: Path) -> None:
    path = tmp_path / "new.md"
    PAGE.publish({"two": pd.DataFrame({"K": ["3"]})}, path)
    PAGE.publish({"one": pd.DataFrame({"K": ["4"]})}, path)
    assert [path.read_text().count(f"<!-- {slash}{name} -->") for slash in ("", "/") for name in PAGE.parts] == [1] * 4
    before = path.read_text()
    with pytest.raises(ValueError, match="the part one has a line that marks a part"):
        PAGE.publish({"one": "<!-- two -->"}, path)
    assert path.read_text() == before
