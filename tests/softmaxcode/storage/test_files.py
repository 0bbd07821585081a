"""Code files: bit-for-bit round trips, damage that is always detected, no unpickling, atomic writes."""

from __future__ import annotations

import dataclasses
import io
import json
import os
import pickle
import random
import re
import shutil
import signal
import stat
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import softmaxcode as sc
from softmaxcode import solver
from softmaxcode.certificates.proof import NotRegular
from softmaxcode.cli.command import main
from softmaxcode.sphere import random_rows, unit_rows
from softmaxcode.storage import files
from softmaxcode.storage.disk import written_whole
from softmaxcode.storage.files import (
    DifferentCoordinatesError,
    StoredCode,
    coordinates_hash,
    header_hash,
    measurements,
    read_code,
)
from tests.processes import HANG

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.filterwarnings("error")


@pytest.fixture(scope="module")
def code() -> sc.SoftmaxCode:
    found = sc.solve(12, 3, starts=16, catalog=False, exact=False)
    provenance = dataclasses.replace(found.provenance, seconds=1.25)  # the same bytes in every run
    return sc.SoftmaxCode(found.W, "softmax", provenance)


@pytest.fixture(scope="module")
def originals(code, tmp_path_factory) -> dict[str, bytes]:
    """The bytes of one code in every kind of file."""
    folder = tmp_path_factory.mktemp("originals")
    code.save(folder / "c.npz")
    code.save(folder / "pack.3.12.txt")
    np.save(folder / "c.npy", code.W)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def parts(data: bytes) -> tuple[np.ndarray, dict[str, Any]]:
    with np.load(io.BytesIO(data), allow_pickle=False) as archive:
        return archive["W"], json.loads(bytes(archive["header"]).decode())


def put(path: Path, W: Any, header: Any) -> Path:
    """An .npz with any coordinates and header."""
    if isinstance(header, dict):
        header = json.dumps(header).encode()
    raw = np.frombuffer(header, dtype=np.uint8) if isinstance(header, bytes) else header
    np.savez_compressed(path, W=W, header=raw)
    return path


# Round trips


@pytest.mark.parametrize("objective", ["softmax", "tammes"])
@pytest.mark.parametrize(("K", "d"), [(2, 1), (5, 2), (4, 3), (5, 3), (6, 3), (9, 5)])
def test_npz_round_trip_is_bit_for_bit(K, d, objective, tmp_path):
    code = sc.solve(K, d, objective=objective)
    code.save(tmp_path / "c.npz")
    again = sc.load(tmp_path / "c.npz")
    assert again.W.tobytes() == code.W.tobytes() and again.W.shape == (K, d)
    assert again.W.dtype == np.float64 and again.W.flags.c_contiguous and not again.W.flags.writeable
    assert (again.objective, again.provenance) == (code.objective, code.provenance)
    assert measurements(again) == measurements(code)


def test_a_searched_code_keeps_its_provenance(code, tmp_path):
    code.save(tmp_path / "c.npz")
    again = sc.load(tmp_path / "c.npz")
    assert again.provenance == code.provenance and again.provenance.seed == 0 and again.provenance.starts
    assert again.certificate == code.certificate and again.W.tobytes() == code.W.tobytes()


def test_npz_holds_hashes_figures_and_plain_arrays(code, originals):
    W, header = parts(originals["c.npz"])
    assert W.tobytes() == code.W.tobytes()
    assert header["sha256_coordinates"] == coordinates_hash(code.W)
    assert header["sha256_header"] == header_hash(header)
    assert header["figures"]["margin"] == code.margin
    assert header["figures"]["certificate"]["status"] == code.certificate.status


def test_the_same_code_is_the_same_file_twice(code, originals, tmp_path):
    code.save(tmp_path / "c.npz")
    assert parts((tmp_path / "c.npz").read_bytes())[1] == parts(originals["c.npz"])[1]


def test_npz_of_other_byte_and_row_order_is_the_same_code(code, originals, tmp_path):
    W, header = parts(originals["c.npz"])
    for other in (W.astype(">f8"), np.asfortranarray(W)):
        again = sc.load(put(tmp_path / "x.npz", other, header)).W
        assert again.tobytes() == code.W.tobytes() and again.dtype.isnative


def test_txt_is_one_number_a_line_as_in_sloanes_tables(code, originals):
    text = originals["pack.3.12.txt"].decode("ascii")
    lines = text.split("\n")
    assert lines.pop() == ""
    assert [float(line) for line in lines] == code.W.ravel().tolist()


@given(st.integers(2, 9), st.integers(1, 6), st.integers(0, 10**6), st.booleans())
def test_txt_round_trip_is_bit_for_bit(tmp_path_factory, K, d, seed, sparse):
    rng = np.random.default_rng(seed)
    W = random_rows(K, d, rng)
    if sparse:  # signed zeros, subnormal and tiny entries
        W[:, 1:] *= rng.choice([0.0, -0.0, 5e-324, 1e-200, 1.0], W[:, 1:].shape)
        W = unit_rows(W)
    code = sc.SoftmaxCode(W, "softmax", sc.Provenance("test"))
    folder = tmp_path_factory.mktemp("txt")
    code.save(folder / f"pack.{d}.{K}.txt")
    assert sc.load(folder / f"pack.{d}.{K}.txt").W.tobytes() == W.tobytes()
    code.save(folder / "other.txt")
    assert sc.load(folder / "other.txt", dim=d).W.tobytes() == W.tobytes()
    shutil.rmtree(folder)


def test_txt_may_hold_a_row_a_line_and_needs_no_last_newline(code, tmp_path):
    file = tmp_path / "pack.3.12.txt"
    file.write_text("\n".join(" ".join(map(repr, row)) for row in code.W.tolist()))
    assert sc.load(file).W.tobytes() == code.W.tobytes()
    assert sc.load(file, dim=3).W.tobytes() == code.W.tobytes()
    assert sc.load(file).provenance.method == "read from pack.3.12.txt"


@pytest.mark.parametrize("change", [lambda W: W, np.asfortranarray, lambda W: W.astype(">f8")])
def test_npy_classifiers_are_read_bit_for_bit(code, tmp_path, change):
    np.save(tmp_path / "w.npy", change(code.W))
    again = sc.load(tmp_path / "w.npy")
    assert again.W.tobytes() == code.W.tobytes()
    assert again.objective == "softmax" and again.provenance.method == "read from w.npy"


def test_npy_of_single_precision_and_of_integers(code, tmp_path):
    np.save(tmp_path / "w.npy", code.W.astype(np.float32))
    W = code.W.astype(np.float32).astype(np.float64)
    W /= np.linalg.norm(W, axis=1, keepdims=True)
    np.testing.assert_allclose(sc.load(tmp_path / "w.npy").W, W, rtol=0, atol=4e-16)
    np.save(tmp_path / "w.npy", np.eye(3, dtype=int))
    assert sc.load(tmp_path / "w.npy").margin == pytest.approx(1.5, abs=0.3)


@pytest.mark.parametrize("name", ["w.npy", "pack.3.12.txt"])
def test_normalize_mends_the_norms(code, tmp_path, name):
    scaled = code.W * np.linspace(0.5, 3, 12)[:, None]
    if name == "w.npy":
        np.save(tmp_path / name, scaled)
    else:
        (tmp_path / name).write_text("".join(f"{x!r}\n" for x in scaled.ravel().tolist()))
    with pytest.raises(ValueError, match=r"cannot read .*rows of unit norm within 1e-06; row \d+ has norm"):
        sc.load(tmp_path / name)
    np.testing.assert_allclose(sc.load(tmp_path / name, normalize=True).W, code.W, rtol=0, atol=1e-15)


def test_normalize_leaves_a_saved_code_checkable(code, tmp_path):
    code.save(tmp_path / "c.npz")
    np.testing.assert_allclose(sc.load(tmp_path / "c.npz", normalize=True).W, code.W, rtol=0, atol=3e-16)


def test_suffixes_in_capitals(code, tmp_path):
    code.save(tmp_path / "C.NPZ")
    assert sc.load(tmp_path / "C.NPZ").W.tobytes() == code.W.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == ["C.NPZ"]


# Points in text: the formats of published tables


POINTS = [
    ("spaces", " ", "", "\n"),
    ("commas", ",", "", "\n"),
    ("commas and spaces", ", ", "", "\n"),
    ("tabs", "\t", "", "\n"),
    ("CRLF", ",", "", "\r\n"),
    ("BOM", ",", "\ufeff", "\n"),
    ("comments", ",", "# Größe 12, d = 3\n\n  # more\n", " # a point\n"),
    ("heading", ",", "x,y,z\n", "\n"),
    ("quoted heading", ",", '"w1","w2","w3"\n', "\n"),
    ("heading of pandas", ",", "0,1,2\n", "\n"),
    ("blank lines", " ", "\n\n", "\n\n"),
]


@pytest.mark.parametrize("suffix", [".csv", ".txt"])
@pytest.mark.parametrize(("between", "before", "end"), [row[1:] for row in POINTS], ids=[row[0] for row in POINTS])
def test_one_point_per_line_needs_no_dimension(code, tmp_path, suffix, between, before, end):
    file = tmp_path / f"points{suffix}"
    text = before + "".join(between.join(map(repr, row)) + end for row in code.W.tolist())
    file.write_bytes(text.encode())
    for options in ({}, {"dim": 3}):
        assert sc.load(file, **options).W.tobytes() == code.W.tobytes()


def test_a_table_of_pandas_is_read(code, tmp_path):
    pd.DataFrame(code.W).to_csv(tmp_path / "w.csv", index=False)
    assert sc.load(tmp_path / "w.csv").W.tobytes() == code.W.tobytes()
    np.savetxt(tmp_path / "w.txt", code.W, fmt="%.17g", header="twelve points")
    assert sc.load(tmp_path / "w.txt").W.tobytes() == code.W.tobytes()


@pytest.mark.parametrize(("K", "d"), [(2, 1), (5, 2), (4, 3), (9, 5)])
def test_csv_round_trip_is_bit_for_bit(tmp_path, K, d):
    code = sc.solve(K, d, starts=2)
    code.save(tmp_path / "c.CSV")
    assert sc.load(tmp_path / "c.CSV").W.tobytes() == code.W.tobytes()
    lines = (tmp_path / "c.CSV").read_text().split("\n")
    assert len(lines) == K + 1 and all(line.count(",") == d - 1 for line in lines[:-1])


def test_what_save_writes_as_txt_is_read_or_the_option_named(code, tmp_path):
    code.save(tmp_path / "s.txt")
    with pytest.raises(ValueError, match=r"dimension is unknown; .*\(dim=, or --dim in the shell\)"):
        sc.load(tmp_path / "s.txt")
    assert sc.load(tmp_path / "s.txt", dim=3).W.tobytes() == code.W.tobytes()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1,0,0\n0,1\n", r"its lines differ in length: line 1 has 3 numbers, and line 2 has 2"),
        ("1,0,0\n0,1,\n", "line 2 is something else"),
        (",0,1,2\n0,1.0,0.0,0.0\n", "line 1 is something else"),
        ("x,y,z\nx,y,z\n1,0,0\n", "line 2 is something else"),
        ("1,0,0\nx,y,z\n0,1,0\n", "line 2 is something else"),
        ("0.1x,0,0\n0,1,0\n", "line 1 is something else"),
        ("1_0,0,0\n0,1,0\n", "line 1 is something else"),
        ("١,0,0\n0,1,0\n", "line 1 is something else"),
        ("1,0,0\n0,1,0\n<html>", "line 3 is something else"),
        ("1;0;0\n0;1;0\n", "line 1 is something else"),
        ("1,0,0\n0,1,0\n0,nan,1\n", "must be finite; row 2"),
        ("x,y,z\n", "it holds no numbers"),
        ("", "it holds no numbers"),
    ],
)
def test_points_that_are_none_are_refused(tmp_path, text, message):
    (tmp_path / "w.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"cannot read .*w\.csv: .*({message})"):
        sc.load(tmp_path / "w.csv")


def test_a_line_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_LINE", 100)
    (tmp_path / "pack.3.4.txt").write_text("1 " * 100)
    with pytest.raises(ValueError, match="line 1 is something else"):
        sc.load(tmp_path / "pack.3.4.txt")


# Sizes that a file declares


def member_of(size: int, shape: str, descr: str = "<f8") -> bytes:
    """The beginning of an .npy member that declares a shape, and zeros up to ``size`` bytes."""
    header = f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117).encode() + b"\n"
    return (b"\x93NUMPY\x01\x00v\x00" + header).ljust(size, b"\0")


def never(*_: object, **__: object) -> Any:
    raise AssertionError("numbers were read")


@pytest.mark.parametrize(
    ("W", "message"),
    [
        (member_of(2**25, "(1398000, 3)"), r"its header has 12 rows of 3, its coordinates have shape \(1398000, 3\)"),
        (member_of(128, "(10000000000, 3)"), "it declares 240,000,000,000 bytes of numbers and has 0"),
        (member_of(416, "(3, 12)"), r"its header has 12 rows of 3, its coordinates have shape \(3, 12\)"),
        (member_of(416, "(-12, -3)"), r"it declares the shape"),
        (member_of(416, "(12, 3)", "|O"), "it holds Python objects"),
        (b"\x93NUMPY\x02\x00" + b"\xff" * 400, "not a plain NumPy array, or truncated"),
        (b"", "not a plain NumPy array, or truncated"),
    ],
    ids=["too many", "a claim", "another shape", "negative", "objects", "endless header", "empty"],
)
def test_coordinates_are_measured_before_they_are_read(originals, tmp_path, monkeypatch, W, message):
    _, header = parts(originals["c.npz"])
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        member(archive, "W.npy", W)
        member(archive, "header.npy", np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))
    read = np.lib.format.read_array

    def only_headers(stream: Any, **options: Any) -> Any:
        return (never if stream.name == "W.npy" else read)(stream, **options)

    monkeypatch.setattr(np.lib.format, "read_array", only_headers)
    with pytest.raises(ValueError, match=f"cannot read .*{message}") as caught:
        sc.load(tmp_path / "x.npz")
    assert "\n" not in str(caught.value)


def test_a_header_is_measured_before_it_is_read(code, tmp_path, monkeypatch):
    monkeypatch.setattr(np.lib.format, "read_array", never)
    with zipfile.ZipFile(tmp_path / "x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        member(archive, "W.npy", code.W)
        member(archive, "header.npy", member_of(files.MAX_HEADER_BYTES + 200, "(16777217,)", "|u1"))
    with pytest.raises(ValueError, match=r"it declares 16,777,217 numbers, more than the limit of 16,777,216"):
        sc.load(tmp_path / "x.npz")


def test_an_archive_of_more_than_a_code_can_have_is_not_opened(originals, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "MAX_FILE_COORDINATES", 35)
    monkeypatch.setattr(files, "MAX_HEADER_BYTES", 10**5)
    (tmp_path / "c.npz").write_bytes(originals["c.npz"])
    with pytest.raises(ValueError, match=r"it declares 36 numbers, more than the limit of 35"):
        sc.load(tmp_path / "c.npz")
    (tmp_path / "c.npy").write_bytes(originals["c.npy"])
    with pytest.raises(ValueError, match=r"it declares 36 numbers, more than the limit of 35"):
        sc.load(tmp_path / "c.npy")


def test_members_of_one_name_are_refused(originals, tmp_path):
    W, header = parts(originals["c.npz"])
    put(tmp_path / "x.npz", W, header)
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(tmp_path / "x.npz", "a") as archive:
        member(archive, "W.npy", W)
    with pytest.raises(ValueError, match="not a softmaxcode file"):
        sc.load(tmp_path / "x.npz")


@pytest.mark.parametrize("shape", ["(1000000000, 1000)", "(13, 3)", "(-1, 3)", "(10000000000000000000000, 3)"])
def test_an_npy_file_that_claims_more_than_it_has_is_refused(tmp_path, monkeypatch, shape):
    monkeypatch.setattr(np.lib.format, "read_array", never)
    (tmp_path / "x.npy").write_bytes(member_of(128 + 8 * 36, shape))
    with pytest.raises(ValueError, match=r"not a plain NumPy array, or truncated \(it declares"):
        sc.load(tmp_path / "x.npy")


@pytest.mark.skipif(os.name != "posix", reason="no pipes")
@pytest.mark.parametrize("name", ["x.npz", "x.npy", "x.txt", "x.csv"])
def test_a_pipe_is_refused(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(ValueError, match="it is not a regular file"):
        sc.load(tmp_path / name)


def test_a_link_is_read(originals, tmp_path):
    (tmp_path / "c.npz").write_bytes(originals["c.npz"])
    (tmp_path / "link.npz").symlink_to("c.npz")
    assert sc.load(tmp_path / "link.npz").K == 12
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    with pytest.raises(ValueError, match=r"cannot read .*loop\.npz"):
        sc.load(tmp_path / "loop.npz")


# Claims of a file


def forged(path: Path, W: np.ndarray, header: dict[str, Any]) -> Path:
    """A file with arbitrary content and matching hashes."""
    hashes = {"sha256_coordinates": coordinates_hash(W), "sha256_header": header_hash(header)}
    return put(path, W, {**header, **hashes})


@pytest.fixture(scope="module")
def proved(tmp_path_factory) -> dict[str, Path]:
    """Files with proofs: of closed forms, and of packings for either objective."""
    folder = tmp_path_factory.mktemp("proved")
    made = {
        "closed": sc.solve(4, 3, digits=20),
        "zero": sc.solve(6, 3, objective="tammes", digits=5),
        "polygon": sc.solve(5, 2, digits=30),
        "margin": sc.solve(12, 3, starts=4, digits=30),
        "tammes": sc.solve(13, 3, starts=4, digits=30, objective="tammes"),
    }
    for name, code in made.items():
        code.save(folder / f"{name}.npz")
    return {name: folder / f"{name}.npz" for name in made}


@pytest.mark.parametrize("name", ["closed", "zero", "polygon", "margin", "tammes"])
def test_a_proof_is_made_again_before_it_is_shown(proved, capsys, name):
    _, header = parts(proved[name].read_bytes())
    assert header["proved"] is not None and sc.load(proved[name]).proved is None
    assert main(["check", str(proved[name])]) == 0
    out = capsys.readouterr().out
    assert f"{header['proved']['value']} +- {header['proved']['radius']}\n" in out
    assert f"{header['proved']['statement']}\n" in out
    assert "made by (its claim)" in out


CLAIMS = [
    {"statement": "Proved: no other code is better."},
    {"radius": "0"},
    {"radius": "1.0e-40"},
    {"value": "0.9", "radius": "1.0e+03"},
    {"quantity": "max_cosine"},
]


@pytest.mark.parametrize("claim", CLAIMS)
@pytest.mark.parametrize("name", ["polygon", "margin"])
def test_a_claim_beyond_the_proof_is_different_and_not_shown_as_proved(proved, tmp_path, capsys, name, claim):
    W, header = parts(proved[name].read_bytes())
    true = dict(header["proved"])
    header["proved"].update(claim)
    file = forged(tmp_path / "x.npz", W, header)
    assert sc.load(file).proved is None
    assert main(["check", str(file)]) == 1
    out = capsys.readouterr().out
    if "value" not in claim:  # else fewer digits are proved
        assert f"\nproved {true['quantity']}" in out and f" {true['value']} +- {true['radius']}\n" in out
    assert f"what is proved        {true['statement']}\n" in out
    for field in claim if "value" not in claim else ["value"]:
        assert re.search(
            rf"^DIFFERENT: the proved {field} is .*, the file claims {re.escape(claim[field])}$", out, re.M
        )


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text.replace("within ", "within 1.0e-30, not "),
        lambda text: re.sub(r"\d\.\de-(\d+)", "1.0e-40", text),
        lambda text: re.sub(r"\d\.\de-(\d+)", "#", text),
        lambda text: re.sub(r"\d\.\de-(\d+)", "1.0e+999999999", text),
        lambda text: re.sub(r"(\d+) contact equations", "99 contact equations", text),
        lambda text: text.replace("that no other code is better is not part of this proof", "no other code is better"),
    ],
)
def test_a_statement_that_claims_more_is_different(proved, tmp_path, capsys, change):
    W, header = parts(proved["margin"].read_bytes())
    ours = header["proved"]["statement"]
    header["proved"]["statement"] = change(ours)
    assert header["proved"]["statement"] != ours
    assert main(["check", str(forged(tmp_path / "x.npz", W, header))]) == 1
    out = capsys.readouterr().out
    assert f"what is proved        {ours}\n" in out and "DIFFERENT: the proved statement is" in out


def test_a_proof_of_another_code_is_different(proved, tmp_path, capsys):
    W, header = parts(proved["margin"].read_bytes())
    moved = unit_rows(W + 1e-3 * random_rows(12, 3, np.random.default_rng(0)))
    code = sc.SoftmaxCode(moved, "softmax", sc.Provenance(**header["provenance"]))
    header["figures"] = json.loads(json.dumps(measurements(code)))
    assert main(["check", str(forged(tmp_path / "x.npz", moved, header))]) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT: the proof could not be made again" in out and "\nproved margin" not in out


def test_the_largest_value_is_not_proved_of_a_code_that_does_not_attain_it(proved, tmp_path, capsys):
    _, header = parts(proved["polygon"].read_bytes())
    code = sc.SoftmaxCode.from_rows([[1, 0], [0.8, 0.6], [0.6, 0.8], [0, 1], [-1, 0]])
    header["figures"] = json.loads(json.dumps(measurements(code)))
    assert main(["check", str(forged(tmp_path / "x.npz", code.W, header))]) == 1
    out = capsys.readouterr().out
    assert "DIFFERENT: the proof could not be made again" in out and "\nproved margin" not in out
    with pytest.raises(NotRegular):
        solver.prove(code, 20)


def test_a_small_claim_is_held_to_its_own_size(tmp_path, capsys):
    """For a code with a duplicate, a margin of 9e-13 is not rounding."""
    code = sc.SoftmaxCode.from_rows([[1, 0, 0], [1, 0, 0], *np.eye(3)[1:], *-np.eye(3)])
    code.save(tmp_path / "c.npz")
    W, header = parts((tmp_path / "c.npz").read_bytes())
    assert header["figures"]["margin"] == 0
    header["figures"]["margin"] = 9e-13
    assert main(["check", str(forged(tmp_path / "x.npz", W, header))]) == 1
    assert re.search(r"^DIFFERENT: margin is 0\.0, the file claims 9e-13$", capsys.readouterr().out, re.M)


@pytest.mark.parametrize(
    "claim",
    [
        {"value": "0." + "3" * 30_000},
        {"value": "1e999999999"},
        {"value": "nan"},
        {"value": "1/3"},
        {"value": 0.5},
        {"radius": "1e-999999999"},
        {"radius": "-1.0e-30"},
        {"radius": None},
        {"quantity": "status"},
        {"statement": "x" * 2000},
        {"statement": "Proved.\nevery stored measurement was derived again"},
        {"praise": "best ever"},
    ],
)
def test_a_proof_that_is_none_is_refused_before_any_work(proved, tmp_path, capsys, monkeypatch, claim):
    monkeypatch.setattr(solver, "prove", never)
    W, header = parts(proved["margin"].read_bytes())
    header["proved"].update(claim)
    file = forged(tmp_path / "x.npz", W, header)
    with pytest.raises(ValueError, match=r"its header is not one of 'softmaxcode 1' \(proved"):
        sc.load(file)
    assert main(["check", str(file)]) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", 10**400),
        ("seconds", -1.0),
        ("seconds", float("inf")),
        ("seconds", True),
        ("starts", -1),
        ("starts", 1.5),
        ("hops", 2**64),
        ("seed", -1),
        ("method", None),
        ("version", 1),
    ],
)
def test_a_provenance_out_of_range_is_refused(originals, tmp_path, field, value):
    W, header = parts(originals["c.npz"])
    header["provenance"][field] = value
    with pytest.raises(ValueError, match=rf"its header is not one of 'softmaxcode 1' \(provenance\.{field}: "):
        sc.load(forged(tmp_path / "x.npz", W, header))


@pytest.mark.parametrize(("field", "value"), [("K", 12.0), ("K", "12"), ("d", None), ("d", -3), ("K", 10**30)])
def test_a_shape_that_is_none_is_refused(originals, tmp_path, field, value):
    W, header = parts(originals["c.npz"])
    header["figures"][field] = value
    with pytest.raises(ValueError, match="its header is not one of 'softmaxcode 1'"):
        sc.load(forged(tmp_path / "x.npz", W, header))


def test_figures_of_other_kinds_are_different_in_one_short_line_each(originals, tmp_path, capsys):
    W, header = parts(originals["c.npz"])
    header["figures"]["margin"] = {"a": [{"b": "x" * 1000}] * 1000}
    header["figures"]["margins"] = list(range(10**5))
    header["figures"]["contacts"] = None
    assert main(["check", str(forged(tmp_path / "x.npz", W, header))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len([line for line in lines if line.startswith("DIFFERENT: ")]) == 3 and max(map(len, lines)) < 500


def test_what_is_saved_can_be_read(code, tmp_path):
    """A file name is part of a provenance, and so is text from a caller."""
    odd = "we\nird\x1b.npy" if os.name == "posix" else "weird.npy"
    np.save(tmp_path / odd, code.W)
    sc.load(tmp_path / odd).save(tmp_path / "c.npz")
    assert sc.load(tmp_path / "c.npz").provenance.method.isprintable()
    for made in (sc.Provenance("two\nlines"), sc.Provenance("x", seconds=float("nan")), sc.Provenance("x", starts=-1)):
        with pytest.raises(ValueError, match="this provenance cannot be stored: "):
            sc.SoftmaxCode(code.W, "softmax", made).save(tmp_path / "d.npz")
    assert not (tmp_path / "d.npz").exists()


# Damage


def read_or_refused(path: Path) -> StoredCode | None:
    """The result of `read_code`, or None where it refuses in one sentence; any other exception fails the test."""
    try:
        return read_code(path)
    except ValueError as error:
        if "\n" in str(error):
            raise AssertionError("more than one line") from error
        return None


@pytest.mark.parametrize("name", ["c.npz", "c.npy"])
def test_every_truncation_is_refused(originals, tmp_path, name):
    data = originals[name]
    for length in range(len(data)):
        (tmp_path / name).write_bytes(data[:length])
        with pytest.raises(ValueError, match="cannot read") as caught:
            sc.load(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_every_truncation_of_a_text_file_is_refused_until_the_last_digits(code, originals, tmp_path):
    """The last digits of the last number can be missing undetected: text has no hash, and needs no last newline."""
    data = originals["pack.3.12.txt"]
    file = tmp_path / "pack.3.12.txt"
    last = code.W[-1, -1]
    for length in range(len(data)):
        file.write_bytes(data[:length])
        read = read_or_refused(file)
        if read is not None:
            W = read.W
            # missing digits change the norm of the last row, by its last number times their value, at most 1e-6
            cut = float(data[:length].split()[-1])
            assert len(data[:length].split()) == code.W.size and abs(last * (cut - last)) < 1.1e-6
            np.testing.assert_array_equal(W[:-1], code.W[:-1])
            np.testing.assert_allclose(W, code.W, rtol=0, atol=max(1.1e-6, 1.1e-6 / abs(last)))


def loads_or_refuses(path: Path, code: sc.SoftmaxCode) -> bool:
    """Whether a damaged .npz is read; if so it must be what was saved, and only a ValueError may be raised."""
    read = read_or_refused(path)
    if read is None:
        return False
    assert read.W.tobytes() == code.W.tobytes() and read.W.shape == code.W.shape
    assert (read.objective, read.provenance) == (code.objective, code.provenance)
    assert read.header is not None and read.header["figures"] == measurements(code)
    return True


def test_a_flip_in_any_byte_is_refused_or_harmless(code, originals, tmp_path):
    data = originals["c.npz"]
    rng = random.Random(0)
    refused = 0
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= rng.randrange(1, 256)
        (tmp_path / "c.npz").write_bytes(damaged)
        refused += not loads_or_refuses(tmp_path / "c.npz", code)
    assert refused > len(data) // 2


@given(st.data())
def test_several_flips_are_refused_or_harmless(code, originals, tmp_path_factory, data):
    damaged = bytearray(originals["c.npz"])
    where = st.tuples(st.integers(0, len(damaged) - 1), st.integers(1, 255))
    for position, change in data.draw(st.lists(where, min_size=1, max_size=8)):
        damaged[position] ^= change
    file = tmp_path_factory.getbasetemp() / "flips.npz"
    file.write_bytes(damaged)
    loads_or_refuses(file, code)


@given(st.data())
def test_inserted_removed_and_repeated_bytes_are_refused_or_harmless(code, originals, tmp_path_factory, data):
    original = originals["c.npz"]
    cut = sorted(data.draw(st.tuples(*[st.integers(0, len(original))] * 2)))
    inserted = data.draw(st.one_of(st.binary(max_size=40), st.just(original[cut[0] : cut[1]] * 2)))
    file = tmp_path_factory.getbasetemp() / "splices.npz"
    file.write_bytes(original[: cut[0]] + inserted + original[cut[1] :])
    loads_or_refuses(file, code)


@pytest.mark.parametrize("name", ["c.npy", "pack.3.12.txt"])
def test_a_flip_in_a_file_without_hash_never_raises_anything_else(originals, tmp_path, name):
    data = originals[name]
    rng = random.Random(1)
    for position in range(len(data)):
        damaged = bytearray(data)
        damaged[position] ^= rng.randrange(1, 256)
        (tmp_path / name).write_bytes(damaged)
        with np.errstate(over="ignore"):  # see test_huge_entries_give_no_warning
            read = read_or_refused(tmp_path / name)
        if read is not None:
            W = read.W
            assert np.isfinite(W).all() and abs(np.linalg.norm(W, axis=1) - 1).max() <= 1e-6


@given(st.binary(max_size=300), st.sampled_from(["x.npz", "x.npy", "x.txt", "pack.3.4.txt"]))
def test_any_bytes_are_refused(tmp_path_factory, data, name):
    file = tmp_path_factory.getbasetemp() / name
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"^(cannot read|.* is different)"):
        sc.load(file)


def test_huge_entries_give_no_warning(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[1e300, 0], [0, 1.0]]))
    with pytest.raises(ValueError, match="rows of unit norm"):
        sc.load(tmp_path / "x.npy")


# Pickles


class Malice:
    """Creates a folder when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable[..., None], tuple[str]]:
        return os.mkdir, (str(self.marker),)


def member(archive: zipfile.ZipFile, name: str, data: Any) -> None:
    with archive.open(name, "w") as stream:
        if isinstance(data, bytes):
            stream.write(data)
        else:
            np.lib.format.write_array(stream, data, allow_pickle=True)


@pytest.mark.parametrize("kind", ["npy", "raw npy", "raw npz", "W", "header", "extra", "raw W", "raw header"])
def test_nothing_is_ever_unpickled(originals, tmp_path, kind):
    marker = tmp_path / "unpickled"
    pickled = np.array([Malice(marker)], dtype=object)
    raw = pickle.dumps(Malice(marker))
    file = tmp_path / ("x.npy" if kind.endswith("npy") else "x.npz")
    if kind == "npy":
        np.save(file, pickled, allow_pickle=True)
    elif kind in ("raw npy", "raw npz"):
        file.write_bytes(raw)
    else:
        W, header = parts(originals["c.npz"])
        stored: dict[str, Any] = {"W": W, "header": np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)}
        stored[kind.removeprefix("raw ")] = raw if kind.startswith("raw") else pickled
        with zipfile.ZipFile(file, "w") as archive:
            for name, data in stored.items():
                member(archive, f"{name}.npy", data)
    with pytest.raises(ValueError, match="cannot read"):
        sc.load(file)
    assert not marker.exists()
    pickle.loads(raw)  # the trap works
    assert marker.exists()


@pytest.mark.parametrize("data", [np.array([[1, "a"]], dtype=object), np.array([None, None])])
def test_object_arrays_are_refused(tmp_path, data):
    np.save(tmp_path / "x.npy", data, allow_pickle=True)
    with pytest.raises(ValueError, match="not a plain NumPy array"):
        sc.load(tmp_path / "x.npy")


# Other kinds of file

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "pack.3.4.txt"])
@pytest.mark.parametrize(
    "data",
    [b"", PNG, b"<html></html>", b"PK\x05\x06" + bytes(18), b"\x93NUMPY", b"one two\n", b"\n\n", b"\0" * 64],
    ids=["empty", "PNG", "HTML", "empty zip", "half a header", "words", "blank lines", "zero bytes"],
)
def test_files_of_another_kind_are_refused(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match="cannot read") as caught:
        sc.load(tmp_path / name)
    assert str(tmp_path / name) in str(caught.value)


def test_a_file_with_the_wrong_suffix_is_refused(originals, tmp_path):
    for right, wrong in [("c.npz", "x.npy"), ("c.npy", "x.npz"), ("c.npz", "x.txt"), ("pack.3.12.txt", "x.npz")]:
        (tmp_path / wrong).write_bytes(originals[right])
        with pytest.raises(ValueError, match="cannot read"):
            sc.load(tmp_path / wrong, dim=3)


@pytest.mark.parametrize("name", ["missing.npz", "missing.npy", "pack.3.4.txt", "no/folder.npz", "a.csv"])
def test_missing_files_are_named(tmp_path, name):
    with pytest.raises(ValueError, match="there is no such file"):
        sc.load(tmp_path / name)


@pytest.mark.parametrize("name", ["x.npz", "x.npy", "pack.3.4.txt", "x"])
def test_folders_are_refused(tmp_path, name):
    (tmp_path / name).mkdir()
    with pytest.raises(ValueError, match="it is a folder"):
        sc.load(tmp_path / name)


@pytest.mark.parametrize("name", ["x.pkl", "x.pt", "x.tsv", "x", "x.npz.bak"])
def test_unknown_suffixes_are_refused(originals, tmp_path, name):
    (tmp_path / name).write_bytes(originals["c.npz"])
    with pytest.raises(ValueError, match=r"the suffix must be one of \.npz, \.npy, \.txt, \.csv"):
        sc.load(tmp_path / name)


@pytest.mark.parametrize(
    "stored", [{}, {"a": np.eye(3)}, {"W": np.eye(3)}, {"header": np.eye(3)}, {"W": np.eye(3), "header": 1, "c": 2}]
)
def test_foreign_npz_files_are_refused(tmp_path, stored):
    np.savez(tmp_path / "x.npz", **stored)
    named = ", ".join(map(repr, sorted(stored))) or "nothing"
    with pytest.raises(ValueError, match=f"not a softmaxcode file .it holds {named}"):
        sc.load(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "W",
    [
        np.eye(3)[0],
        np.eye(3)[None],
        np.float64(1),
        np.empty((0, 3)),
        np.ones((3, 0)),
        np.eye(1),
        np.full((3, 3), np.nan),
        np.full((2, 2), np.inf),
        np.zeros((3, 3)),
        np.eye(3) * 2,
        np.array([["a", "b"]] * 2),
        np.eye(3) + 0j,
        np.zeros(3, dtype=[("a", "f8")]),
        np.eye(3, dtype="M8[s]"),
    ],
    ids=[
        "1d",
        "3d",
        "0d",
        "no rows",
        "no columns",
        "one row",
        "nan",
        "inf",
        "zero",
        "norm 2",
        "str",
        "complex",
        "struct",
        "dates",
    ],
)
def test_npy_files_that_hold_no_unit_rows_are_refused(tmp_path, W):
    np.save(tmp_path / "x.npy", W)
    with pytest.raises(ValueError, match=r"cannot read .*W must") as caught:
        sc.load(tmp_path / "x.npy")
    assert "\n" not in str(caught.value)


# Headers that do not belong to the arrays


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"3",
        b'"softmaxcode 1"',
        b"{}",
        b'{"format": "softmaxcode 1"}',
        b"\xff\xfe",
        b"[" * 10**5,
    ],
)
def test_headers_that_are_none_are_refused(code, tmp_path, header):
    with pytest.raises(ValueError, match="its header is not one of 'softmaxcode 1'"):
        sc.load(put(tmp_path / "x.npz", code.W, header))


@pytest.mark.parametrize(
    "field", ["format", "sha256_coordinates", "sha256_header", "objective", "provenance", "figures"]
)
def test_headers_that_lack_a_field_are_refused(originals, tmp_path, field):
    W, header = parts(originals["c.npz"])
    del header[field]
    with pytest.raises(ValueError, match="its header is not one of"):
        sc.load(put(tmp_path / "x.npz", W, header))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", "softmaxcode 2"),
        ("format", None),
        ("format", ["softmaxcode 1"]),
        ("provenance", None),
        ("provenance", []),
        ("provenance", {}),
        ("provenance", {"method": "x", "author": "y"}),
        ("figures", None),
        ("figures", []),
        ("figures", {}),
        ("figures", "K"),
    ],
)
def test_headers_with_a_field_of_another_kind_are_refused(originals, tmp_path, field, value):
    W, header = parts(originals["c.npz"])
    with pytest.raises(ValueError, match="its header is not one of"):
        sc.load(put(tmp_path / "x.npz", W, {**header, field: value}))


@pytest.mark.parametrize("objective", ["", "margin", None, 1, ["softmax"], {"softmax": 1}])
def test_headers_with_an_unknown_objective_are_refused(originals, tmp_path, objective):
    W, header = parts(originals["c.npz"])
    header["objective"] = objective
    header["sha256_header"] = header_hash(header)
    with pytest.raises(ValueError, match=r"cannot read .*objective must be one of 'softmax', 'tammes'"):
        sc.load(put(tmp_path / "x.npz", W, header))


@pytest.mark.parametrize("field", ["sha256_coordinates", "sha256_header"])
@pytest.mark.parametrize("value", ["", "0" * 64, None, 5, ["x"]])
def test_a_wrong_hash_is_reported_as_different(originals, tmp_path, field, value):
    W, header = parts(originals["c.npz"])
    with pytest.raises(DifferentCoordinatesError, match="is different from what was saved"):
        sc.load(put(tmp_path / "x.npz", W, {**header, field: value}))


@pytest.mark.parametrize("name", ["margin", "max_cosine", "contacts", "tammes_rattlers"])
def test_edited_figures_are_reported_as_different(originals, tmp_path, name):
    W, header = parts(originals["c.npz"])
    header["figures"][name] = [1] if isinstance(header["figures"][name], list) else header["figures"][name] + 1e-15
    with pytest.raises(DifferentCoordinatesError):
        sc.load(put(tmp_path / "x.npz", W, header))


def test_any_coordinate_changed_by_1e_6_is_reported_as_different(code, originals, tmp_path):
    W, header = parts(originals["c.npz"])
    for index in np.ndindex(W.shape):
        for change in (1e-6, -1e-6):
            moved = W.copy()
            moved[index] += change
            with pytest.raises(DifferentCoordinatesError):
                sc.load(put(tmp_path / "x.npz", moved, header))


def test_a_coordinate_changed_by_its_last_bit_is_reported_as_different(originals, tmp_path):
    W, header = parts(originals["c.npz"])
    moved = W.copy()
    moved[5, 1] = np.nextafter(moved[5, 1], 2)
    with pytest.raises(DifferentCoordinatesError):
        sc.load(put(tmp_path / "x.npz", moved, header))
    moved = W.copy()
    moved[[0, 1]] = moved[[1, 0]]
    with pytest.raises(DifferentCoordinatesError):
        sc.load(put(tmp_path / "x.npz", moved, header))


@pytest.mark.parametrize("shape", [(3, 12), (18, 2), (6, 6), (36, 1), (36,), (1, 12, 3), ()])
def test_coordinates_of_another_shape_than_the_header_says_are_refused(originals, tmp_path, shape):
    W, header = parts(originals["c.npz"])
    other = W.reshape(shape) if shape else np.float64(1)
    with pytest.raises(ValueError, match="cannot read"):
        sc.load(put(tmp_path / "x.npz", other, header))


def test_the_shape_is_part_of_the_hash(code):
    assert coordinates_hash(code.W.reshape(18, 2)) != coordinates_hash(code.W)
    assert coordinates_hash(code.W.astype(">f8")) == coordinates_hash(code.W)


@pytest.mark.parametrize(
    "change",
    [
        lambda W: W.astype(np.float32),
        lambda W: W.astype(str),
        lambda W: W.view("u8"),
        lambda W: W.astype([("a", "f8")]),
        lambda W: W[:-1],
        lambda W: W * 2,
        np.zeros_like,
        lambda W: W * np.nan,
    ],
    ids=["float32", "str", "bits", "struct", "a row less", "norm 2", "zero", "nan"],
)
def test_coordinates_of_another_kind_are_refused(originals, tmp_path, change):
    W, header = parts(originals["c.npz"])
    with pytest.raises(ValueError, match=r"^(cannot read|.* is different)"):
        sc.load(put(tmp_path / "x.npz", change(W), header))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda W: np.where(np.arange(36).reshape(12, 3) == 4, np.nan, W), "must be finite"),
        (lambda W: W * 1.1, "rows of unit norm"),
        (lambda W: W * (np.arange(12) != 3)[:, None], "zero norm"),
    ],
)
def test_a_consistent_hash_does_not_let_bad_coordinates_in(originals, tmp_path, change, message):
    W, header = parts(originals["c.npz"])
    bad = change(W)
    with pytest.raises(ValueError, match=f"cannot read .*{message}"):
        sc.load(put(tmp_path / "x.npz", bad, {**header, "sha256_coordinates": coordinates_hash(bad)}))


# Text


@pytest.mark.parametrize("name", ["c.txt", "pack.3.txt", "pack.txt", "pack.3.x.txt", "pack.three.12.txt"])
def test_a_text_file_must_say_its_dimension(originals, tmp_path, name):
    (tmp_path / name).write_bytes(originals["pack.3.12.txt"])
    with pytest.raises(ValueError, match=r"its dimension is unknown; name it pack\.d\.K\.txt or give the dimension"):
        sc.load(tmp_path / name)
    assert len(sc.load(tmp_path / name, dim=3).W) == 12


def test_the_given_dimension_goes_before_the_name(originals, tmp_path):
    (tmp_path / "pack.9.4.txt").write_bytes(originals["pack.3.12.txt"])
    assert sc.load(tmp_path / "pack.9.4.txt", dim=3).W.shape == (12, 3)


@pytest.mark.parametrize("dim", [0, -1, 2.0, "3", True, np.nan])
def test_the_dimension_must_be_a_positive_integer(originals, tmp_path, dim):
    (tmp_path / "c.txt").write_bytes(originals["pack.3.12.txt"])
    with pytest.raises(ValueError, match="the dimension must be an integer of at least 1"):
        sc.load(tmp_path / "c.txt", dim=dim)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("pack.3.13.txt", None, "the name promises 13 rows of 3, the file has 36 numbers"),
        ("pack.4.12.txt", None, "the name promises 12 rows of 4, the file has 36 numbers"),
        ("pack.7.5.txt", None, "36 numbers do not make rows of 7"),
        ("pack.0.12.txt", None, "the dimension must be an integer of at least 1; got 0"),
        ("pack.3.4.txt", "", "it holds no numbers"),
        ("pack.3.4.txt", " \n\t\n", "it holds no numbers"),
        ("pack.3.2.txt", "1\n0\n0\n0\none\n0\n", "it must hold numbers in plain text"),
        ("pack.3.2.txt", "1;0;0\n0;1;0\n", "it must hold numbers in plain text"),
        ("pack.3.2.txt", "1,0,0\n0,,0\n", "it must hold numbers in plain text.*; line 2 is something else"),
        ("pack.3.2.txt", "1 0 0 0 nan 0\n", "must be finite; row 1"),
        ("pack.3.2.txt", "1 0 0 0 1e999 0\n", "must be finite; row 1"),
        ("pack.3.2.txt", "1 0 0 0 0 0\n", "no row of zero norm; row 1"),
        ("pack.3.2.txt", "1 0 0 0 2 0\n", "row 1 has norm 2"),
        ("pack.3.1.txt", "1 0 0\n", "K >= 2"),
    ],
)
def test_text_files_that_hold_something_else_are_refused(originals, tmp_path, name, text, message):
    (tmp_path / name).write_text(originals["pack.3.12.txt"].decode() if text is None else text)
    with pytest.raises(ValueError, match=message):
        sc.load(tmp_path / name)


def test_text_files_that_are_not_text_are_refused(tmp_path):
    (tmp_path / "pack.3.2.txt").write_bytes("1 0 0 0 1 0\n".encode("utf-16"))
    with pytest.raises(ValueError, match="it must hold numbers in plain text"):
        sc.load(tmp_path / "pack.3.2.txt")


# Writing


@pytest.mark.parametrize("name", ["c.npy", "c.pkl", "c", "c.txt.gz", ".npz"])
def test_only_known_suffixes_are_written(code, tmp_path, name):
    with pytest.raises(ValueError, match=r"the suffix must be one of \.npz, \.txt"):
        code.save(tmp_path / name)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["no/c.npz", "no/such/pack.3.12.txt", "file/c.npz"])
def test_the_folder_must_exist(code, tmp_path, name):
    (tmp_path / "file").touch()
    wrong = "file is a file, not a folder" if name.startswith("file") else "the folder .* does not exist"
    with pytest.raises(ValueError, match=rf"cannot write .*: .*{wrong}"):
        code.save(tmp_path / name)


def test_folders_are_not_overwritten(code, tmp_path):
    (tmp_path / "c.npz").mkdir()
    with pytest.raises(ValueError, match="it is a folder"):
        code.save(tmp_path / "c.npz")


@pytest.mark.parametrize("name", ["c.npz", "c.txt"])
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0o002])
def test_file_mode_honours_the_umask(code, tmp_path, name, mask):
    before = os.umask(mask)
    try:
        code.save(tmp_path / name)
        now = os.umask(mask)
    finally:
        os.umask(before)
    assert now == mask
    assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o666 & ~mask


@pytest.mark.parametrize("name", ["c.npz", "c.txt"])
def test_an_old_file_is_replaced(code, tmp_path, name):
    (tmp_path / name).write_text("old")
    code.save(str(tmp_path / name))
    assert sc.load(tmp_path / name, dim=3).W.tobytes() == code.W.tobytes()
    assert [p.name for p in tmp_path.iterdir()] == [name]


class Stop(Exception):
    pass


@pytest.mark.parametrize("name", ["c.npz", "c.txt"])
@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, OSError(28, "No space left on device")])
@pytest.mark.parametrize("old", [True, False])
def test_a_failed_replacement_leaves_the_old_file_whole(code, tmp_path, monkeypatch, name, error, old):
    def fail(*_: object) -> None:
        raise error

    if old:
        (tmp_path / name).write_text("old")
    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(error if isinstance(error, type) else OSError):
        code.save(tmp_path / name)
    assert [p.read_text() for p in tmp_path.iterdir()] == (["old"] if old else [])


@pytest.mark.parametrize("error", [Stop, KeyboardInterrupt, SystemExit])
def test_an_error_while_writing_leaves_the_old_file_whole(tmp_path, error):
    file = tmp_path / "c.npz"
    file.write_text("old")

    def write() -> None:
        with written_whole(file) as temporary:
            assert temporary.parent == tmp_path and temporary != file
            temporary.write_text("half")
            raise error

    with pytest.raises(error):
        write()
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


def test_an_error_inside_numpy_leaves_the_old_file_whole(code, tmp_path, monkeypatch):
    def half(stream: Any, **_: object) -> None:
        stream.write(b"PK half")
        raise OSError(28, "No space left on device")

    (tmp_path / "c.npz").write_text("old")
    monkeypatch.setattr(files.np, "savez_compressed", half)
    with pytest.raises(OSError, match="No space left"):
        code.save(tmp_path / "c.npz")
    assert [p.read_text() for p in tmp_path.iterdir()] == ["old"]


KILLED = """
import os, signal, sys
import numpy as np
import softmaxcode as sc
from softmaxcode.storage import files
from softmaxcode import solver
from softmaxcode.cli.command import main

def half(stream, **arrays):
    stream.write(b"PK half a file")
    stream.flush()
    print("half written", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

files.np.savez_compressed = half
sc.solve(4, 3).save(sys.argv[1])
"""


@pytest.mark.processes
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_a_run_killed_while_writing_leaves_the_old_file_whole(tmp_path):
    file = tmp_path / "c.npz"
    sc.solve(6, 3).save(file)
    before = file.read_bytes()
    ran = subprocess.run(
        [sys.executable, "-c", KILLED, file], capture_output=True, text=True, timeout=HANG, check=False
    )
    assert (ran.returncode, ran.stdout) == (-signal.SIGKILL, "half written\n")
    assert file.read_bytes() == before
    assert sc.load(file).K == 6
    assert [p.suffix for p in tmp_path.iterdir() if p != file and not p.name.startswith(".")] == []
    sc.solve(4, 3).save(file)  # what the killed run left does not stand in the way
    assert sc.load(file).K == 4
