"""Stored records: valid ones are read, and all others give one sentence."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from softmaxcode.checks.arguments import printable
from softmaxcode.storage.provenance import Provenance
from softmaxcode.storage.records import Count, Finite, RecordError, parse_json, read_record


@dataclass(frozen=True)
class Point:
    x: Finite
    n: Count
    name: str | None


@dataclass(frozen=True)
class Line:
    points: list[Point]


GOOD = {"x": 1, "n": 2, "name": "a"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"x": math.nan}, "x: expected a finite number"),
        ({"x": -math.inf}, "x: expected a finite number"),
        ({"x": 10**400}, "x: expected an integer of at most 64 bits"),
        ({"x": "1"}, "x: expected float, got str"),
        ({"n": -1}, "n: expected int >= 0"),
        ({"n": True}, "n: expected int, got bool"),
        ({"n": 1.0}, "n: expected int, got float"),
        ({"n": 10**30}, "n: expected an integer of at most 64 bits"),
        ({"name": "a\x1b[2J"}, "name: expected one printable line"),
        ({"name": 5}, r"name: expected str | null, got int"),
        ({"more": 5}, "expected exactly its fields, differs in more"),
    ],
)
def test_what_does_not_fit_is_named(change, message):
    assert read_record(Point, GOOD) == Point(1.0, 2, "a")
    with pytest.raises(RecordError, match=f"^{message}"):
        read_record(Point, GOOD | change)
    nested = message if message.startswith("expected") else f"points\\[1\\].{message}"
    with pytest.raises(RecordError, match=nested):
        read_record(Line, {"points": [GOOD, GOOD | change]})


@pytest.mark.parametrize("stored", [None, 5, "text", [1], {}, {"x": 1}])
def test_what_is_no_record_is_refused(stored):
    with pytest.raises(RecordError):
        read_record(Point, stored)


def test_a_dataclass_has_all_its_fields_also_those_with_defaults():
    stored = asdict(Provenance("search"))
    assert read_record(Provenance, stored) == Provenance("search")
    with pytest.raises(RecordError, match="differs in seed"):
        read_record(Provenance, {name: value for name, value in stored.items() if name != "seed"})


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "1" * 5000, b"\xff", "{'a': 1}"])
def test_what_is_no_json_is_one_sentence(text):
    with pytest.raises(RecordError, match="not JSON"):
        parse_json(text)


def test_depth_that_no_parser_made_is_refused_too():
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(RecordError, match="nested too deeply"):
        read_record(Point, deep)


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
values = st.recursive(leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10)


@given(stored=st.dictionaries(st.sampled_from(["x", "n", "name", "more"]), values) | values)
def test_any_json_is_a_record_or_one_sentence(stored):
    try:
        point = read_record(Point, stored)
    except RecordError as error:
        message = str(error)
    else:
        assert json.loads(json.dumps(asdict(point))) == stored
        return
    assert message.isprintable()


@given(text=st.text())
def test_printable_text_is_one_line_and_keeps_what_was_printable(text):
    shown = printable(text)
    assert shown.isprintable()
    assert not text.isprintable() or shown == text
