"""The report page: complete, self-contained, escaped, and without a script error in a browser."""

from __future__ import annotations

import base64
import importlib.util
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from softmaxcode.pages import Findings, ReportSection, write_report
from softmaxcode.pages import page as module
from softmaxcode.pages.tables import LARGEST, SMALLEST, as_html, as_text
from tests.processes import HANG

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
EVIL = '<script>alert("x")</script> & \'"'
VOID = {"meta", "img", "br", "link"}


class Page(HTMLParser):
    """Elements of a page with their attributes and texts; every element must be closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[dict[str, Any]] = []
        self.elements: list[dict[str, Any]] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = {"tag": tag, "text": "", **dict(attrs)}
        self.elements.append(element)
        if tag == "data":
            self.open[-1]["number"] = float(element["value"])
        if tag == "th":
            assert [parent["tag"] for parent in self.open[-2:]] == ["thead", "tr"]  # it heads a column
        if tag not in VOID:
            self.open.append(element)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop()["tag"] == tag

    def handle_data(self, data: str) -> None:
        for element in self.open:
            element["text"] += data

    def all(self, tag: str) -> list[dict[str, Any]]:
        return [element for element in self.elements if element["tag"] == tag]

    def cells(self, number: int) -> list[dict[str, Any]]:
        """Cells of a column of the only table."""
        return self.all("td")[number :: len(self.all("th"))]

    def column(self, number: int) -> list[str]:
        """Their texts."""
        return [cell["text"] for cell in self.cells(number)]

    def numbers(self, number: int) -> list[float | None]:
        """The numbers that they sort by."""
        return [cell.get("number") for cell in self.cells(number)]


def figure(points: int = 3) -> Figure:
    out = Figure()
    axes = out.subplots()
    axes.plot(np.random.default_rng(0).random(points), "o", label="learned")
    axes.set_xlabel("epoch")
    axes.set_ylabel("GNC2")
    axes.legend()
    return out


def section(findings: Findings | None = None, name: str = "gnc", **others: Any) -> ReportSection:
    return ReportSection(name, "A title", "A question?", findings or Findings(), **others)


def page_of(folder: Path, *sections: ReportSection, **options: Any) -> Page:
    return Page(write_report(sections, folder / "page.html", **options).read_text())


def full(folder: Path) -> Path:
    """A page with everything on it."""
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["head", "d"])
    columns = pd.MultiIndex.from_product([["GNC2", "accuracy"], ["mean", "±"]])
    tables = {
        "Heads": pd.DataFrame({"head": ["learned", "cmf", EVIL], "GNC2": [0.57, np.nan, 0.6], "n": [5, 3, 12]}),
        "By head": pd.DataFrame(np.arange(16.0).reshape(4, 4), index, columns),
        "Nothing": pd.DataFrame(),
        "No rows": pd.DataFrame({"head": []}),
    }
    findings = Findings(["GNC2 is 0.57 < 0.67."], tables, {"Epochs": figure(), "Again": figure()})
    sections = [section(findings, runs=2, planned=3, seconds=130.0), section(name="text", runs=0, planned=4)]
    return write_report(sections, folder / "page.html", title="Everything", meta={"Results": EVIL})


def test_page_is_self_contained(tmp_path: Path) -> None:
    """The page loads nothing from outside; links lead within it or to tables beside it."""
    text = full(tmp_path).read_text()
    page = Page(text)
    assert page.all("html")[0]["lang"] == "en"
    assert [element["text"] for element in page.all("title") + page.all("h1")] == ["Everything", "Everything"]
    assert not page.all("link")
    assert not re.search(r"https?://|url\(|@import", text)
    ids = {element["id"] for element in page.elements if "id" in element}
    assert len(ids) == sum("id" in element for element in page.elements)
    for element in page.elements:
        assert element["tag"] == "img" or "src" not in element
        link = element.get("href", "#gnc")
        assert link[1:] in ids if link.startswith("#") else (tmp_path / unquote(link)).is_file()
    for element in page.all("img"):
        assert element["src"].startswith("data:image/svg+xml;base64,")
        assert element["alt"] in ("Epochs: GNC2 against epoch", "Again: GNC2 against epoch")
    assert {element["aria-labelledby"] for element in page.elements if "aria-labelledby" in element} <= ids
    assert "2 of 3 planned runs, 2 min of training" in text
    assert "0 of 4 planned runs" in text
    assert "Nothing was found yet." in text


def test_letters_that_no_font_has_are_left_to_the_browser(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    rare = "\U0010fffd"  # of private use: no font has it
    strange = figure()
    strange.axes[0].set_title(f"class {rare}")
    images = page_of(tmp_path, section(Findings([], {}, {"Strange": strange, "Plain": figure()}))).all("img")
    drawn, plain = (base64.b64decode(image["src"].partition(",")[2]).decode() for image in images)
    assert rare in drawn and "<text" not in plain
    assert not [str(one.message) for one in recwarn if "Glyph" in str(one.message)]


def test_what_comes_from_outside_is_escaped(tmp_path: Path) -> None:
    frame = pd.DataFrame({EVIL: [EVIL, None]}, index=pd.Index([EVIL, "b"], name=EVIL + "index"))
    found = Findings([EVIL], {EVIL: frame}, {EVIL: figure()})
    page = page_of(tmp_path, ReportSection(EVIL, EVIL, EVIL, found), title=EVIL, meta={EVIL: EVIL})
    assert len(page.all("script")) == 2
    for tag in ("title", "h1", "h2", "dt", "dd", "li", "figcaption"):
        assert EVIL in {element["text"] for element in page.all(tag)}
    assert page.all("img")[0]["alt"].startswith(EVIL)
    assert [element["text"] for element in page.all("th")] == [EVIL + "index", EVIL]
    assert page.column(1) == [EVIL, "–"]


def test_names_of_files_that_are_no_text(tmp_path: Path) -> None:
    page = page_of(tmp_path, section(), meta={"folder": b"/data/\xff".decode(errors="surrogateescape")})
    assert page.all("dd")[0]["text"] == r"/data/\udcff"


def test_control_characters_are_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Names of classes and files could move the cursor, forge a line, or reverse the direction of text."""
    name = "cat\x1b[2J\n- forged\u202e"
    found = Findings([f"The closest is {name}."], {name: pd.DataFrame({"class": [name]})})
    shown = r"cat\x1b[2J\n- forged\u202e"
    page = page_of(tmp_path, section(findings=found), title=name)
    assert page.all("h1")[0]["text"] == shown and page.column(0) == [shown]
    print(found)
    said = capsys.readouterr().out
    assert "\x1b" not in said and "\u202e" not in said and "\n- forged" not in said and said.count("\n") == 5


def test_an_empty_page(tmp_path: Path) -> None:
    assert "Nothing was found yet." in write_report([], tmp_path / "page.html").read_text()


# Tables


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
def test_tables_are_written_whole_beside_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str) -> None:
    if suffix == ".csv":
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["head", "d"])
    frame = pd.DataFrame({"GNC2": [1 / 3, np.nan, 0.1, 1e-9], "n": [1, 2, 3, 4]}, index)
    long = pd.DataFrame({"x": np.random.default_rng(0).random(module.MAX_ROWS + 7)})
    found = Findings(tables={"A table, of heads": frame, "A table: of heads": long})
    page = page_of(tmp_path, section(found))
    links = [element["href"] for element in page.all("a")]
    assert links == [f"page-tables/gnc-a-table-of-heads{suffix}", f"page-tables/gnc-a-table-of-heads-2{suffix}"]
    read = pd.read_parquet if suffix == ".parquet" else pd.read_csv
    first, second = (read(tmp_path / link) for link in links)
    pd.testing.assert_frame_equal(first, frame.reset_index(), check_exact=True, check_dtype=False)
    pd.testing.assert_frame_equal(second, long, check_exact=True)
    assert len(page.all("tr")) == 1 + 4 + 1 + module.MAX_ROWS
    assert any(f"The first {module.MAX_ROWS} of {len(long)} rows" in element["text"] for element in page.all("p"))


class Thing:
    """Anything with a text."""

    def __str__(self) -> str:
        return "5 things"


def test_cells_of_every_kind(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "thing": [Thing(), Thing(), None],
            "GNC2": [0.571, 0.4, np.nan],
            "GNC2, lower": [0.559, np.nan, np.nan],
            "GNC2, upper": [0.583, np.nan, np.nan],
            "mixed": [1, "two", 0.5],
            "truth": [True, False, True],
            "maybe": [True, None, np.bool_(False)],
            "empty": ["0.1912", "", "1.5 %"],
            "path": [Path("a"), Path("b"), None],
            "whole": pd.array([1, None, 10**9], dtype="Int64"),
            "time": [pd.Timestamp("2026-01-02"), pd.NaT, pd.Timestamp("2026-01-03")],
            "infinite": [np.inf, -np.inf, np.nan],
            7: [0.25, 0.5, 10.0],
        }
    )
    page = page_of(tmp_path, section(Findings(tables={"Cells": frame})))
    columns = {heading["text"]: page.column(i) for i, heading in enumerate(page.all("th"))}
    assert columns == {
        "thing": ["5 things", "5 things", "–"],
        "GNC2": ["0.571 ± 0.012", "0.4", "–"],
        "mixed": ["1", "two", "0.5"],
        "truth": ["yes", "no", "yes"],
        "maybe": ["yes", "–", "no"],
        "empty": ["0.1912", "–", "1.5 %"],
        "path": ["a", "b", "–"],
        "whole": ["1", "–", "1000000000"],
        "time": ["2026-01-02 00:00:00", "–", "2026-01-03 00:00:00"],
        "infinite": ["inf", "-inf", "–"],
        "7": ["0.25", "0.50", "10.00"],
    }
    numbers = {heading["text"]: page.numbers(i) for i, heading in enumerate(page.all("th"))}
    assert {name: found for name, found in numbers.items() if any(x is not None for x in found)} == {
        "GNC2": [0.571, 0.4, None],
        "whole": [1, None, 10**9],
        "7": [0.25, 0.5, 10],
    }
    aligned = re.findall(r"\.col(\d+) \{\s*text-align: right;\s*\}", page.all("style")[1]["text"])
    assert [page.all("th")[int(i)]["text"] for i in aligned] == ["GNC2", "whole", "infinite", "7"]
    stored = pd.read_parquet(next(tmp_path.glob("page-tables/*")))
    assert stored["thing"].tolist()[:2] == ["5 things"] * 2
    for name in ("GNC2", "GNC2, lower", "GNC2, upper"):
        pd.testing.assert_series_equal(stored[name], frame[name], check_exact=True)
    assert stored["mixed"].tolist() == ["1", "two", "0.5"]


def test_columns_of_one_name(tmp_path: Path) -> None:
    frame = pd.DataFrame([[1, 2, 3]], columns=["x", "x", "head"], index=pd.Index(["a"], name="head"))
    page = page_of(tmp_path, section(Findings(tables={"Columns": frame})))
    assert [heading["text"] for heading in page.all("th")] == ["head", "x", "x-2", "head-2"]


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8))
def test_numbers_stand_in_the_page_in_full(values: list[float]) -> None:
    page = Page(as_html(pd.DataFrame({"x": values}), "x", "label"))
    assert page.numbers(0) == values


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=8))
def test_numbers_keep_their_digits(values: list[float]) -> None:
    """The largest number shown without an exponent is right to 4 digits, and every other to 2."""
    shown = as_text(pd.DataFrame({"x": values}))["x"]
    plain = [abs(x) for x in values if x and SMALLEST <= abs(x) < LARGEST]
    for x, text in zip(values, shown, strict=True):
        if x == 0:
            assert float(text) == 0
        elif "e" in text:
            assert abs(x) not in plain
            assert float(text) == pytest.approx(x, rel=5.01e-4)
        else:
            assert float(text) == pytest.approx(x, rel=5.01e-4 if abs(x) == max(plain) else 5.01e-2)
    decimals = {len(text.partition(".")[2]) for text in shown if "e" not in text}
    assert len(decimals) <= 1


# Figures


def test_the_same_figure_gives_the_same_page(tmp_path: Path) -> None:
    texts = [
        write_report([section(Findings(figures={"A": figure()}))], tmp_path / "page.html").read_text() for _ in "ab"
    ]
    assert texts[0] == texts[1]


def test_a_large_figure_is_a_png(tmp_path: Path) -> None:
    (image,) = page_of(tmp_path, section(Findings(figures={"Points": figure(60_000)}))).all("img")
    kind, _, content = image["src"].partition(";base64,")
    assert kind == "data:image/png"
    assert base64.b64decode(content).startswith(b"\x89PNG")
    assert image["width"] == "614"  # 6.4 inches of 96 pixels


# Errors


def test_an_old_page_stays_where_the_new_one_fails(tmp_path: Path) -> None:
    page = full(tmp_path)
    before = page.read_bytes()

    class Broken:
        def __str__(self) -> str:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        write_report([section(Findings([Broken()]))], page)  # type: ignore[list-item]
    assert page.read_bytes() == before
    assert {path.name for path in tmp_path.iterdir()} == {"page.html", "page-tables"}


def test_bad_input_says_what_is_wanted(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"the suffix must be one of \.html"):
        write_report([], tmp_path / "page.pdf")
    with pytest.raises(ValueError, match="does not exist"):
        write_report([], tmp_path / "none" / "page.html")
    with pytest.raises(ValueError, match="sections must have a name each; got gnc, gnc"):
        write_report([section(), section()], tmp_path / "page.html")


# In a browser


def dumped(path: Path, profile: Path) -> Page:
    """The page after its scripts have run."""
    assert BROWSER is not None
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}", "--dump-dom"]
    done = subprocess.run([*command, path.as_uri()], capture_output=True, text=True, timeout=HANG, check=True)
    return Page(done.stdout)


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH")
def test_no_script_error_in_a_browser(tmp_path: Path) -> None:
    page = dumped(full(tmp_path), tmp_path / "profile")
    (root,) = page.all("html")
    assert root.get("data-ready") == "yes"
    assert "data-error" not in root
    assert len(page.all("button")) == len(page.all("th")) > 0


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH")
def test_a_click_on_a_heading_sorts(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "number": [10.5, -1.0, np.nan, 9.25, 1e-7],
            "interval": [10, 9.5, np.nan, -3, 0.1],
            "interval, lower": [9, 9.35, np.nan, -5, 0.1],
            "interval, upper": [11, 9.65, np.nan, -1, 0.1],
            "name": ["class 10", "class 9", None, "Alpha", "beta"],
        }
    )
    path = write_report([section(Findings(tables={"Table": frame}))], tmp_path / "page.html")
    text = path.read_text()
    orders = {
        (0, 1): ["-1.00", "1.000e-07", "9.25", "10.50", "–"],
        (0, 2): ["10.50", "9.25", "1.000e-07", "-1.00", "–"],
        (1, 1): ["-3.0 ± 2.0", "0.1 ± 0", "9.50 ± 0.15", "10.0 ± 1.0", "–"],
        (2, 1): ["Alpha", "beta", "class 9", "class 10", "–"],
        (2, 2): ["class 10", "class 9", "beta", "Alpha", "–"],
    }
    for (column, clicks), expected in orders.items():
        script = "<script>" + f"document.querySelectorAll('th button')[{column}].click();" * clicks + "</script>"
        path.write_text(text.replace("</body>", f"{script}</body>"))
        page = dumped(path, tmp_path / "profile")
        assert "data-error" not in page.all("html")[0]
        assert page.column(column) == expected
        sorts = [heading.get("aria-sort") for heading in page.all("th")]
        assert sorts[column] == ("ascending" if clicks == 1 else "descending")
        assert sorts.count(None) == 2


@pytest.mark.processes
@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium on PATH")
def test_a_script_error_would_be_seen(tmp_path: Path) -> None:
    path = full(tmp_path)
    path.write_text(path.read_text().replace("</body>", "<script>nothing.at.all</script></body>"))
    assert "nothing is not defined" in dumped(path, tmp_path / "profile").all("html")[0]["data-error"]
