"""The command: what it prints, its exit codes, one sentence for bad input, and `check` trusting nothing in a file."""

from __future__ import annotations

import copy
import csv
import io
import json
import os
import re
import signal
import struct
import subprocess
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest

import softmaxcode as sc
from softmaxcode.catalog import installed
from softmaxcode.cli.arguments import Resumable, run_command
from softmaxcode.cli.check import CHECK_TOLERANCE, compare
from softmaxcode.cli.command import main
from softmaxcode.report import report
from softmaxcode.sphere import unit_rows
from softmaxcode.storage.files import coordinates_hash, header_hash, measurements
from softmaxcode.tables import rows
from tests.processes import HANG

if TYPE_CHECKING:
    from collections.abc import Callable

SAME = "every stored measurement was derived again from the coordinates, and is the same to rounding"
#: Options for the search alone, without stored codes.
SEARCH = ("--no-catalog", "--no-exact")
MODULE = (sys.executable, "-m", "softmaxcode.cli")
SCRIPT = (str(Path(sys.executable).with_name("softmaxcode")),)


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def run(capsys) -> Callable[..., Ran]:
    """Run the command in this process; a warning or any exception fails the test."""

    def of(*arguments: Any) -> Ran:
        capsys.readouterr()
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            warnings.simplefilter("error", ResourceWarning)
            code = main([str(argument) for argument in arguments])
        return Ran(code, *capsys.readouterr())

    return of


def refused(ran: Ran, *said: str) -> None:
    """Exit code 2, and one clear sentence on standard error."""
    assert ran.code == 2, ran
    assert ran.err.startswith("softmaxcode: ") and ran.err.endswith("\n") and ran.err.count("\n") == 1, ran.err
    assert "Traceback" not in ran.err and "Error" not in ran.err
    assert ran.out == ""
    for text in said:
        assert text in ran.err


@pytest.fixture(scope="module")
def codes() -> dict[str, sc.SoftmaxCode]:
    """Small codes of every origin; two have a rattler (a class that touches no other)."""
    made = sc.Provenance("by hand")
    angles = np.arange(3) * 2 * np.pi / 3
    cap = np.column_stack([np.sin(0.3) * np.cos(angles), np.sin(0.3) * np.sin(angles), np.full(3, np.cos(0.3))])
    pole = np.array([[0.0, 0.0, -1.0]])
    return {
        "searched": sc.solve(12, 3, starts=16, catalog=False, exact=False),
        "tammes": sc.solve(12, 3, starts=16, objective="tammes", catalog=False, exact=False),
        "simplex": sc.solve(4, 3),
        "antipodes": sc.solve(2, 1),
        "pentagon": sc.solve(5, 2, objective="tammes"),
        "cross-polytope": sc.solve(6, 3),
        "rattling": sc.SoftmaxCode(np.vstack([cap, pole]), "softmax", made),
        "rattling, tammes": sc.SoftmaxCode(np.vstack([pole, cap]), "tammes", made),
    }


def parts(path: Path) -> tuple[np.ndarray, dict[str, Any]]:
    with np.load(path, allow_pickle=False) as archive:
        return archive["W"], json.loads(bytes(archive["header"]).decode())


def put(path: Path, W: np.ndarray, header: dict[str, Any]) -> Path:
    raw = np.frombuffer(json.dumps(header).encode(), dtype=np.uint8)
    np.savez_compressed(path, W=W, header=raw)
    return path


def forge(path: Path, W: np.ndarray, header: dict[str, Any]) -> Path:
    """A file with arbitrary content and matching hashes."""
    hashes = {"sha256_coordinates": coordinates_hash(W), "sha256_header": header_hash(header)}
    return put(path, W, {**header, **hashes})


# check: reproduces what was saved


@pytest.mark.parametrize(
    "name",
    ["searched", "tammes", "simplex", "antipodes", "pentagon", "cross-polytope", "rattling", "rattling, tammes"],
)
def test_check_reproduces_every_figure(codes, run, tmp_path, name):
    code = codes[name]
    code.save(tmp_path / "c.npz")
    ran = run("check", tmp_path / "c.npz")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out.endswith(f"{SAME}\n") and "DIFFERENT" not in ran.out
    shown = dict(re.split(r"\s{2,}|(?<=lower bound) |(?<=upper bound) ", line, maxsplit=1) for line in lines(ran.out))
    certificate = code.certificate
    assert shown["classes, dimension"] == f"K = {code.K}, d = {code.d}"
    assert shown["objective"] == code.objective
    assert shown["status"] == certificate.status
    assert float(shown["margin"]) == pytest.approx(code.margin, rel=1e-15)
    assert float(shown["max cosine"]) == pytest.approx(code.max_cosine, rel=1e-15)
    assert float(shown["min distance"]) == pytest.approx(code.min_distance, rel=1e-15)
    assert shown["min angle"] == f"{code.min_angle:.12f} degrees"
    assert int(shown["contacts"]) == len(code.contacts)
    if certificate.status == "feasible":
        assert shown["Tammes rattlers"] == "not counted: these rows are not known to be a local optimum"
    else:
        assert int(shown["Tammes rattlers"].split()[0]) == len(code.tammes_rattlers)
    assert float(shown["rigorous lower bound"].split()[0]) == pytest.approx(certificate.lower_bound, rel=1e-15)
    assert float(shown["proved upper bound"].split()[0]) == pytest.approx(certificate.upper_bound, rel=1e-15)
    assert shown["rigidity"] == certificate.rigidity


def lines(out: str) -> list[str]:
    return [line for line in out.splitlines() if re.match(r"[a-zA-Z, ]+ ", line) and not line.startswith(SAME[:20])]


def test_the_rattlers_are_named(codes, run, tmp_path):
    code = sc.best_known(19, 3)
    code.save(tmp_path / "c.npz")
    out = run("check", tmp_path / "c.npz").out
    (rattler,) = code.tammes_rattlers
    assert re.search(rf"^Tammes rattlers +1 \(classes {rattler}\)$", out, re.M)
    assert re.search(rf"^softmax rattlers +1 \(classes {rattler}\)$", out, re.M)


def test_check_normalize(codes, run, tmp_path):
    codes["searched"].save(tmp_path / "c.npz")
    assert run("check", "--normalize", tmp_path / "c.npz").code == 0


def test_check_reads_classifiers_and_text(codes, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code = codes["searched"]
    np.save("w.npy", code.W)
    code.save("pack.3.12.txt")
    code.save("other.txt")
    for arguments in [("w.npy",), ("pack.3.12.txt",), ("other.txt", "--dim", 3), ("pack.3.12.txt", "--dim", 3)]:
        ran = run("check", *arguments)
        assert (ran.code, ran.err) == (0, "") and SAME not in ran.out
        assert re.search(r"^margin +0\.5527864045000\d+$", ran.out, re.M)
        assert re.search(r"^status +matches Tammes$", ran.out, re.M)
        assert f"read from {arguments[0]}" in ran.out
    assert re.search(r"^status +optimal$", run("check", "w.npy", "--objective", "tammes").out, re.M)
    np.save("w.npy", 3 * code.W)
    refused(run("check", "w.npy"), "rows of unit norm")
    assert run("check", "w.npy", "--normalize").code == 0


def test_duplicates_of_any_row_are_legal(codes, run, tmp_path):
    W = codes["searched"].W.copy()
    W[0] = W[1]
    np.save(tmp_path / "w.npy", W)
    ran = run("check", tmp_path / "w.npy")
    assert ran.code == 0 and re.search(r"^margin +0$", ran.out, re.M)


def test_duplicate_rows_are_legal(run, tmp_path):
    np.save(tmp_path / "w.npy", np.vstack([np.eye(3), np.eye(3)]))
    ran = run("check", tmp_path / "w.npy")
    assert ran.code == 0 and re.search(r"^margin +0$", ran.out, re.M)


# check: finds every change


@pytest.mark.parametrize("name", ["searched", "simplex", "cross-polytope", "rattling", "rattling, tammes"])
@pytest.mark.parametrize("change", [1e-6, -1e-6])
def test_any_coordinate_moved_by_1e_6_is_different(codes, run, tmp_path, name, change):
    """The header is unchanged: the hash detects a change of any coordinate, also of a rattler's."""
    codes[name].save(tmp_path / "c.npz")
    W, header = parts(tmp_path / "c.npz")
    for index in np.ndindex(W.shape):
        moved = W.copy()
        moved[index] += change
        ran = run("check", put(tmp_path / "x.npz", moved, header))
        assert ran.code == 1 and "DIFFERENT" in ran.out and SAME not in ran.out
        assert ran.err == "" and ran.out.count("\n") == 1


def caught_by_figures(code: sc.SoftmaxCode, run: Callable[..., Ran], folder: Path, change: float) -> list[bool]:
    """For each coordinate, whether the measurements reveal its change although both hashes were rewritten."""
    code.save(folder / "c.npz")
    W, header = parts(folder / "c.npz")
    out = []
    for index in np.ndindex(W.shape):
        moved = W.copy()
        moved[index] += change
        ran = run("check", forge(folder / "x.npz", moved, header))
        if ran.code == 2:  # a row that is no longer a unit vector
            refused(ran, "rows of unit norm")
        else:
            assert ran.code == ("DIFFERENT" in ran.out) == (SAME not in ran.out)
        out.append(ran.code != 0)
    return out


@pytest.mark.parametrize("name", ["searched", "tammes", "simplex", "pentagon", "cross-polytope", "rattling"])
@pytest.mark.parametrize("change", [1e-6, -1e-6])
def test_a_moved_coordinate_with_rewritten_hashes_changes_the_figures(codes, run, tmp_path, name, change):
    assert all(caught_by_figures(codes[name], run, tmp_path, change))


def test_a_moved_far_rattler_with_rewritten_hashes_changes_the_figures(run, tmp_path):
    square = np.array([[1, 0], [0, 1], [-1, 0], [0, -1.0]]) * np.sin(0.3)
    W = np.vstack([np.column_stack([square, np.full(4, np.cos(0.3))]), [[0, 0, -1.0]]])
    assert all(caught_by_figures(sc.SoftmaxCode(W, "softmax", sc.Provenance("by hand")), run, tmp_path, 1e-6))


def figure_names(stored: dict[str, Any], prefix: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    out = []
    for name, value in stored.items():
        out += figure_names(value, (*prefix, name)) if isinstance(value, dict) else [(*prefix, name)]
    return out


def other(value: Any) -> Any:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + 1
    if isinstance(value, float):
        return value + 1e-9 if np.isfinite(value) else 1.0
    return [*value, 1] if isinstance(value, list) else 0.5 if value is None else value + "x"


@pytest.mark.parametrize("forged", [False, True], ids=["hash left", "hash rewritten"])
@pytest.mark.parametrize("name", ["searched", "rattling"])
def test_any_figure_changed_is_different(codes, run, tmp_path, name, forged):
    codes[name].save(tmp_path / "c.npz")
    W, header = parts(tmp_path / "c.npz")
    names = figure_names(header["figures"])
    assert len(names) > 20
    for path in names:
        edited = copy.deepcopy(header)
        holder = edited["figures"]
        for step in path[:-1]:
            holder = holder[step]
        holder[path[-1]] = other(holder[path[-1]])
        ran = run("check", (forge if forged else put)(tmp_path / "x.npz", W, edited))
        if path in (("K",), ("d",)):
            refused(ran, "its coordinates have shape")
            continue
        assert ran.code == 1 and "DIFFERENT" in ran.out and SAME not in ran.out, path
        assert (f"DIFFERENT: {'.'.join(path)} is " in ran.out) == forged


@pytest.mark.parametrize("change", ["missing", "extra", "null certificate", "other objective"])
def test_figures_that_are_missing_or_extra_are_different(codes, run, tmp_path, change):
    codes["searched"].save(tmp_path / "c.npz")
    W, header = parts(tmp_path / "c.npz")
    if change == "missing":
        del header["figures"]["margin"]
    elif change == "extra":
        header["figures"]["praise"] = "best ever"
    elif change == "null certificate":
        header["figures"]["certificate"] = None
    else:
        header["objective"] = "tammes"
    ran = run("check", forge(tmp_path / "x.npz", W, header))
    assert ran.code == 1 and "DIFFERENT" in ran.out and SAME not in ran.out


def test_a_better_code_is_not_passed_off_as_this_one(codes, run, tmp_path):
    codes["searched"].save(tmp_path / "c.npz")
    good, header = parts(tmp_path / "c.npz")
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    assert run("check", put(tmp_path / "x.npz", good @ rotation, header)).code == 1
    worse = good.copy()
    worse[0] = unit_rows(good[:1] - 0.2 * good[1])
    ran = run("check", forge(tmp_path / "x.npz", worse, header))
    assert ran.code == 1 and re.search(r"^DIFFERENT: margin is 0\.[0-4]\d+, the file claims 0\.5527", ran.out, re.M)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("seconds", "long"),
        ("seconds", [1]),
        ("seconds", None),
        ("method", f"search\n{SAME}"),
        ("method", "\x1b[2J"),
        ("device", ["cpu"]),
    ],
)
def test_a_provenance_that_is_none_is_refused(codes, run, tmp_path, field, value):
    codes["searched"].save(tmp_path / "c.npz")
    W, header = parts(tmp_path / "c.npz")
    header["provenance"][field] = value
    refused(run("check", put(tmp_path / "x.npz", W, header)), "cannot read", "header")


def test_a_forged_proof_is_found(run, tmp_path):
    sc.solve(4, 3, digits=20).save(tmp_path / "c.npz")
    W, header = parts(tmp_path / "c.npz")
    header["proved"]["value"] = "1.9999999999999999999"
    assert run("check", put(tmp_path / "x.npz", W, header)).code != 0


def test_compare_allows_rounding_and_nothing_else():
    stored = {"a": 1.0, "b": {"c": [1, 2], "d": None, "e": "x", "f": float("inf")}}
    assert compare(stored, json.loads(json.dumps(stored))) == []
    assert compare({"a": 1.0}, {"a": 1.0 + 0.5 * CHECK_TOLERANCE}) == []
    assert compare({"a": 1.0}, {"a": 1}) == []
    for stored, derived in [
        ({"a": 1.0}, {"a": 1.0 + 3 * CHECK_TOLERANCE}),
        ({"a": float("nan")}, {"a": 1.0}),
        ({"a": 1.0}, {"a": float("nan")}),
        ({"a": float("inf")}, {"a": 1.0}),
        ({"a": 1.0}, {}),
        ({}, {"a": 1.0}),
        ({"a": [1]}, {"a": [2]}),
        ({"a": "1"}, {"a": 1.0}),
        ({"a": True}, {"a": 1.5}),
        ({"a": {}}, {"a": 1.0}),
    ]:
        assert len(compare(stored, derived)) == 1, (stored, derived)


# solve


@pytest.mark.parametrize("name", ["c.npz", "pack.3.4.txt", "C.NPZ"])
def test_solve_prints_writes_and_checks(run, tmp_path, name):
    ran = run("solve", 4, 3, "-o", tmp_path / name)
    assert (ran.code, ran.err) == (0, "")
    assert re.search(r"^margin +1\.33333333333333\d*$", ran.out, re.M)
    assert re.search(r"^status +optimal$", ran.out, re.M)
    assert ran.out.endswith(f"{tmp_path / name}\n")
    assert run("check", tmp_path / name).code == 0
    assert sc.load(tmp_path / name).W.tobytes() == sc.solve(4, 3).W.tobytes()


def test_solve_searches_as_the_library_does(codes, run, tmp_path):
    ran = run("solve", 12, 3, "--starts", 16, *SEARCH, "--output", tmp_path / "c.npz")
    assert (ran.code, ran.err) == (0, "")
    assert sc.load(tmp_path / "c.npz").W.tobytes() == codes["searched"].W.tobytes()
    assert re.search(r"^made by +search.*\(seed 0, \d+ starts, \d+ hops", ran.out, re.M)


def test_solve_options(run, tmp_path):
    ran = run(
        "solve",
        12,
        3,
        "--starts",
        16,
        *SEARCH,
        "--seed",
        3,
        "--objective",
        "tammes",
        "--digits",
        20,
        "-o",
        tmp_path / "c.npz",
    )
    assert ran.code == 0 and "seed 3" in ran.out
    assert re.search(r"^objective +tammes$", ran.out, re.M)
    assert re.search(r"^proved max_cosine +0\.44721359549995793928", ran.out, re.M)
    assert sc.load(tmp_path / "c.npz").provenance.seed == 3
    assert "proved" in run("solve", 4, 3, "--digits", 20).out


def test_solve_alone_writes_nothing(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("solve", 6, 3).code == 0
    assert not list(tmp_path.iterdir())


# table and plot


def test_table_prints_rows_and_the_table(run, tmp_path):
    ran = run("table", "--classes", "4:6", "--dims", "2,3", "-o", tmp_path / "t.csv")
    assert (ran.code, ran.err) == (0, "")
    rows = re.findall(r"^K=(\d+) +d=(\d+) ", ran.out, re.M)
    assert rows == [("4", "2"), ("5", "2"), ("6", "2"), ("4", "3"), ("5", "3"), ("6", "3")]
    assert sum(line.startswith("| ") for line in ran.out.splitlines()) == 7
    assert (tmp_path / "t.csv").read_text().count("\n") == 7
    assert [p.name for p in tmp_path.iterdir()] == ["t.csv"]


@pytest.mark.parametrize(
    ("arguments", "pairs"),
    [
        (("--classes", "4:6", "--dims", "3"), [(4, 3), (5, 3), (6, 3)]),
        (("--classes", "4", "--dims", "2,3"), [(4, 2), (4, 3)]),
        (("--classes", "3,5:6", "--dims", "2:3"), [(3, 2), (5, 2), (6, 2), (3, 3), (5, 3), (6, 3)]),
        (("--pairs", "4,2; 5,3"), [(4, 2), (5, 3)]),
        (("--pairs", "4,2 5,3"), [(4, 2), (5, 3)]),
        (("--pairs", "5,3;4,2;5,3"), [(5, 3), (4, 2)]),
        (("--pairs", "5,2", "--classes", "4", "--dims", "3"), [(5, 2), (4, 3)]),
    ],
)
def test_which_pairs_a_table_holds(run, arguments, pairs):
    ran = run("table", *arguments)
    assert ran.code == 0
    assert [(int(K), int(d)) for K, d in re.findall(r"^K=(\d+) +d=(\d+) ", ran.out, re.M)] == pairs


def test_a_table_of_stored_values_has_the_columns_asked_for(run, tmp_path):
    chosen = ("--stored", "--columns", "margin,evidence", "--float-format", ".4f")
    ran = run("table", "--pairs", "24,3;601,3", *chosen, "-o", tmp_path / "t.tex")
    assert (ran.code, ran.err) == (0, "")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in ran.out.splitlines() if line.startswith("|")]
    assert rows[0] == ["K", "d", "margin", "evidence"]
    assert rows[2:] == [["24", "3", "0.2769", "proved"], ["601", "3", "not computed", "not stored"]]
    assert r"24 & 3 & 0.2769 & proved \\" in (tmp_path / "t.tex").read_text()
    refused(run("table", "--pairs", "24,3", *chosen, "-o", tmp_path / "t.tex"), "exists")
    refused(run("table", "--pairs", "24,3", "--stored", "--seed", "1"), "takes none of its options; got ['seed']")
    refused(run("table", "--pairs", "24,3", "--stored", "--columns", "seconds"), "columns must be among K, d, margin")


@pytest.mark.parametrize("pair", [(24, 3), (4, 3), (3, 1), (10, 5), (30, 3)])
def test_bounds_are_labelled_by_what_they_bound(run, pair):
    ran = run("bounds", *pair, "--no-lp")
    assert (ran.code, ran.err) == (0, "")
    margin = sc.margin_bounds(*pair, lp=False)
    mu = sc.max_cosine_lower_bound(*pair, lp=False)
    number = r"at least (\S+) \(.*\), at most (\S+) \("
    ends = re.search(rf"^margin rho\* +{number}", ran.out, re.M)
    assert (float(ends[1]), float(ends[2])) == pytest.approx((margin.lower, margin.upper), rel=1e-15)
    ends = re.search(rf"^1 - mu\* +{number}", ran.out, re.M)
    assert (float(ends[1]), float(ends[2])) == pytest.approx((margin.lower, 1 - mu.value), rel=1e-15, abs=1e-15)
    assert ran.out.splitlines()[-1].startswith(f"max cosine mu*        at least {mu.value:.16g} (")
    assert len(ran.out.splitlines()) == 3


def test_the_catalogue_as_csv_and_json(run):
    chosen = ("catalog", "list", "--classes", "24:26", "--dims", "3,4")
    as_json = json.loads(run(*chosen, "--format", "json").out)
    as_csv = list(csv.DictReader(io.StringIO(run(*chosen, "--format", "csv").out)))
    with installed() as catalog:
        entries = [e for e in catalog.entries() if 24 <= e.K <= 26 and e.d in (3, 4)]
    assert len(as_json) == len(as_csv) == len(entries) == 12
    for entry, one, row in zip(entries, as_json, as_csv, strict=True):
        assert list(one) == list(row)
        for name in ("K", "d", "objective", "status", "sha256"):
            assert one[name] == getattr(entry, name)
        assert one["margin"] == entry.margin == float(row["margin"])
        assert one["lower_bound"] == entry.lower_bound == float(row["lower_bound"])
        assert (one["seed"], one["search_seconds"]) == (entry.provenance.seed, entry.provenance.seconds)
        assert {name: "" if value is None else str(value) for name, value in one.items()} == row
    assert json.loads(run("catalog", "list", "--pairs", "2,2", "--format", "json").out) == []
    refused(run(*chosen, "--format", "xml"), "--format must be one of 'text', 'csv', 'json'; got 'xml'")


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
def test_plot_writes_a_picture(codes, run, tmp_path, suffix):
    codes["searched"].save(tmp_path / "pack.3.12.txt")
    ran = run("plot", tmp_path / "pack.3.12.txt", "-o", tmp_path / f"c.{suffix}")
    assert (ran.code, ran.err) == (0, "") and f"c.{suffix}" in ran.out
    start = (tmp_path / f"c.{suffix}").read_bytes()[:8]
    assert start.startswith({"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}[suffix])


# Bad input


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "name what to do"),
        (
            ("dance",),
            "there is no command 'dance'; the commands are solve, check, table, bounds, diagnose, plot",
        ),
        (("solve",), "K is required (see softmaxcode solve --help)"),
        (("solve", "12"), "d is required (see softmaxcode solve --help)"),
        (("solve", "12", "3", "4"), "unrecognized arguments: 4 (see softmaxcode solve --help)"),
        (("solve", "12", "3", "--start", "4"), "Unknown option: --start. Did you mean --starts?"),
        (("solve", "1", "3"), "K (the number of classes) must be an integer of at least 2; got 1"),
        (("solve", "0", "3"), "at least 2; got 0"),
        (("solve", "-5", "3"), "at least 2; got -5"),
        (("solve", "4", "0"), "d (the dimension) must be an integer of at least 1; got 0"),
        (("solve", "4", "-1"), "at least 1; got -1"),
        (("solve", "4.5", "3"), "K must be an integer; got '4.5'"),
        (("solve", "4", "three"), "d must be an integer; got 'three'"),
        (("solve", "nan", "3"), "K must be an integer; got 'nan'"),
        (("solve", "", "3"), "K must be an integer; got ''"),
        (("solve", "12", "3", "--objective", "margin"), "objective must be one of 'softmax', 'tammes'; got 'margin'"),
        (("solve", "4", "3", "--objective", ""), "objective must be one of"),
        (("solve", "12", "3", "--device", "tpu"), "device must be"),
        (("solve", "4", "3", "--device", "tpu"), "device must be"),
        (("solve", "12", "3", "--device", "cuda:99"), "cuda:99"),
        (("solve", "12", "3", "--budget", "0"), "budget must be a positive number of seconds; got 0.0"),
        (("solve", "4", "3", "--budget", "0"), "budget must be a positive number"),
        (("solve", "12", "3", "--budget", "-1"), "budget must be a positive number"),
        (("solve", "12", "3", "--budget", "nan"), "budget must be a positive number"),
        (("solve", "12", "3", "--budget", "inf"), "budget must be a positive number"),
        (("solve", "12", "3", "--budget", "soon"), "--budget must be a number; got 'soon'"),
        (("solve", "12", "3", "--starts", "0"), "starts must be an integer of at least 1; got 0"),
        (("solve", "12", "3", "--starts", "1.5"), "--starts must be an integer; got '1.5'"),
        (("solve", "12", "3", "--seed", "-1"), "seed must be an integer of at least 0; got -1"),
        (("solve", "12", "3", "--digits", "0"), "digits must be an integer of at least 1; got 0"),
        (("solve", "4", "3", "-o", "no/c.npz"), "the folder no does not exist"),
        (("solve", "12", "3", "-o", "no/c.npz"), "the folder no does not exist"),
        (("solve", "4", "3", "-o", "c.pkl"), "the suffix must be one of .npz, .txt"),
        (("solve", "4", "3", "-o", "c"), "the suffix must be one of .npz, .txt"),
        (("solve", "4", "3", "-o", "folder.npz"), "it is a folder"),
        (("solve", "4", "3", "-o", "a" * 300 + ".npz"), "File name too long"),
        (("solve", "100000000000", "100000000000"), ""),
        (("solve", "4", "3", "-o", "a" * 240 + ".npz"), "File name too long"),
        (("solve", "4", "3", "-o", ""), "a path must name a file or folder; got an empty string"),
        (("solve", "4", "3", "-o", "empty.npz/c.npz"), "empty.npz is a file, not a folder"),
        (("solve", "4", "3", "-o", "folder.npz/"), "it is a folder"),
        (("table", "--classes", "4:", "--dims", "3"), "--classes takes integers and ranges such as 4:32 or 3,4,8:10"),
        (("table", "--classes", "4:1000000004", "--dims", "3"), "'4:1000000004' has more than 1,000,000 values"),
        (("catalog", "import", "folder.npz", "--catalog", "new"), "cannot read folder.npz: it is a folder"),
        (("catalog", "verify", "empty.npz"), "the catalogue empty.npz is empty"),
        (("check",), "file is required (see softmaxcode check --help)"),
        (("check", "missing.npz"), "cannot read missing.npz: there is no such file"),
        (("check", "folder.npz"), "cannot read folder.npz: it is a folder"),
        (("check", "c.pkl"), "the suffix must be one of .npz, .npy, .txt, .csv"),
        (("check", "empty.npz"), "cannot read empty.npz: truncated, or not a file of its kind"),
        (("check", "picture.npz"), "cannot read picture.npz"),
        (("check", "truncated.npz"), "cannot read truncated.npz: truncated, or not a file of its kind"),
        (("check", "foreign.npz"), "cannot read foreign.npz: not a softmaxcode file"),
        (
            ("check", "pickled.npz"),
            "cannot read pickled.npz: not a plain NumPy array, or truncated (it holds Python objects)",
        ),
        (("check", "disagree.npz"), "its header has 4 rows of 3, its coordinates have shape (3, 4)"),
        (("check", "pickled.npy"), "cannot read pickled.npy: not a plain NumPy array, or truncated"),
        (("check", "truncated.npy"), "cannot read truncated.npy: not a plain NumPy array, or truncated"),
        (("check", "empty.npy"), "cannot read empty.npy"),
        (("check", "vector.npy"), "W must have shape (K, d)"),
        (("check", "nan.npy"), "W must be finite; row 1 has a NaN"),
        (("check", "inf.npy"), "W must be finite; row 0 has a NaN or an infinite entry"),
        (("check", "zero.npy"), "W must have no row of zero norm; row 2 is zero"),
        (("check", "zero.npy", "--normalize"), "W must have no row of zero norm; row 2 is zero"),
        (("check", "long.npy"), "rows of unit norm within 1e-06; row 1 has norm 1.00001"),
        (("check", "words.npy"), "W must be an array of real numbers"),
        (("check", "dimensionless.txt"), "its dimension is unknown"),
        (("check", "dimensionless.txt", "--dim", "0"), "the dimension must be an integer of at least 1; got 0"),
        (("check", "dimensionless.txt", "--dim", "5"), "12 numbers do not make rows of 5"),
        (("check", "dimensionless.txt", "--dim", "x"), "--dim must be an integer; got 'x'"),
        (("check", "pack.3.5.txt"), "the name promises 5 rows of 3, the file has 12 numbers"),
        (("check", "pack.3.4.txt"), "it must hold numbers in plain text"),
        (("check", "good.npy", "--objective", "margin"), "objective must be one of"),
        (("table",), "name the (K, d)"),
        (("table", "--pairs", ""), "name the (K, d)"),
        (("table", "--pairs", " ; "), ""),
        (("table", "--pairs", "12"), "--pairs takes pairs K,d such as 12,3; got '12'"),
        (("table", "--pairs", "12,3,4"), "--pairs takes pairs"),
        (("table", "--pairs", "12,x"), "--pairs takes pairs"),
        (("table", "--pairs", "1,3"), "at least 2; got 1"),
        (("table", "--pairs", "4,0"), "at least 1; got 0"),
        (("table", "--classes", "4:6"), "--classes and --dims go together"),
        (("table", "--dims", "3"), "--classes and --dims go together"),
        (
            ("table", "--classes", "6:4", "--dims", "3"),
            "--classes takes ranges such as 4:32; '6:4' runs backwards",
        ),
        (("table", "--classes", "4:6", "--dims", "x"), "--dims takes integers and ranges"),
        (("table", "--classes", "4,,5", "--dims", "3"), "--classes takes integers"),
        (("table", "--classes", "4:5:6", "--dims", "3"), "--classes takes integers"),
        (("table", "--classes", "1:4", "--dims", "3"), "at least 2; got 1"),
        (("table", "--pairs", "4,3", "-o", "t.xls"), "the suffix must be one of .csv, .parquet, .md, .tex"),
        (("table", "--pairs", "4,3", "-o", "no/t.csv"), "the folder no does not exist"),
        (("table", "--pairs", "4,3", "--budget", "0"), "budget must be a positive number"),
        (("table", "--pairs", "4,3", "--starts", "0"), "starts must be an integer of at least 1"),
        (("table", "--pairs", "4,3", "--device", "tpu"), "device must be"),
        (("plot", "good.npy"), "-o/--output is required (see softmaxcode plot --help)"),
        (("plot", "good.npy", "-o", "c.gif"), "the suffix must be one of .png, .pdf, .svg"),
        (("plot", "good.npy", "-o", "no/c.png"), "the folder no does not exist"),
        (("plot", "missing.npy", "-o", "c.png"), "there is no such file"),
        (("plot", "dimensionless.txt", "-o", "c.png"), "its dimension is unknown"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_bad_input_is_one_clear_sentence(run, bad_files, monkeypatch, arguments, said):
    monkeypatch.chdir(bad_files)
    before = sorted(bad_files.iterdir())
    refused(run(*arguments), said)
    assert sorted(bad_files.iterdir()) == before


@pytest.fixture(scope="module")
def bad_files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    code = sc.solve(4, 3)
    code.save(folder / "good.npz")
    data = (folder / "good.npz").read_bytes()
    W, header = parts(folder / "good.npz")
    (folder / "folder.npz").mkdir()
    (folder / "c.pkl").write_bytes(data)
    (folder / "empty.npz").touch()
    (folder / "empty.npy").touch()
    (folder / "picture.npz").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(100))
    (folder / "truncated.npz").write_bytes(data[: len(data) // 2])
    np.savez(folder / "foreign.npz", weights=np.eye(3))
    pickled: Any = np.array([[None, 1]], dtype=object)
    np.savez(folder / "pickled.npz", W=pickled, header=pickled)
    np.save(folder / "pickled.npy", pickled)
    put(folder / "disagree.npz", W.reshape(3, 4), header)
    arrays = {"good": W, "vector": W[0], "words": np.array([["a", "b"]] * 2)}
    for name, (row, value) in {
        "nan": (1, np.nan),
        "inf": (0, np.inf),
        "zero": (2, 0),
        "long": (1, W[1] * 1.00001),
    }.items():
        arrays[name] = W.copy()
        arrays[name][row] = value
    for name, array in arrays.items():
        np.save(folder / f"{name}.npy", array)
    (folder / "truncated.npy").write_bytes((folder / "good.npy").read_bytes()[:-1])
    code.save(folder / "dimensionless.txt")
    (folder / "pack.3.5.txt").write_bytes((folder / "dimensionless.txt").read_bytes())
    (folder / "pack.3.4.txt").write_text("one\ntwo\n")
    return folder


def test_huge_entries_are_one_clear_sentence(run, tmp_path):
    np.save(tmp_path / "w.npy", np.array([[1e300, 0], [0, 1.0]]))
    refused(run("check", tmp_path / "w.npy"), "rows of unit norm")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read and write everything")
def test_files_that_may_not_be_read_or_written(run, tmp_path):
    file = tmp_path / "c.npz"
    sc.solve(4, 3).save(file)
    file.chmod(0)
    refused(run("check", file), "ermission denied")
    tmp_path.chmod(0o500)
    try:
        refused(run("solve", 4, 3, "-o", tmp_path / "d.npz"), "ermission denied")
    finally:
        tmp_path.chmod(0o700)


def test_errors_of_the_system_are_one_clear_sentence(run, tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(sc.SoftmaxCode, "save", full)
    ran = run("solve", 4, 3, "-o", tmp_path / "c.npz")
    assert ran.code == 2 and ran.err == "softmaxcode: No space left on device\n"


def test_an_interrupt_is_one_clear_sentence(run, monkeypatch):
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(rows, "solve_both", stop)
    ran = run("table", "--pairs", "4,3")
    assert ran.code == 130 and ran.err.count("\n") == 1 and "interrupted" in ran.err and ran.out == ""


def test_help_and_version(run):
    ran = run("--version")
    assert (ran.code, ran.out, ran.err) == (0, f"softmaxcode {sc.__version__}\n", "")
    assert run("--help").code == 0
    for command in ("solve", "check", "table", "plot"):
        ran = run(command, "--help")
        assert ran.code == 0 and f"Usage: softmaxcode {command} " in ran.out and ran.err == ""


def test_every_command_is_in_the_help(run):
    out = run("--help").out
    assert all(re.search(rf"^ +{command} ", out, re.M) for command in ("solve", "check", "table", "plot"))


# In processes of their own


def process(*arguments: Any, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(argument) for argument in arguments], cwd=cwd, capture_output=True, text=True, timeout=HANG, check=False
    )


@pytest.mark.processes
@pytest.mark.parametrize("command", [MODULE, SCRIPT], ids=["python -m", "console script"])
def test_the_command_from_a_shell(tmp_path, command):
    if not Path(command[0]).exists():
        pytest.skip("the package is not installed")
    ran = process(*command, "solve", 6, 3, "-o", "c.npz", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "") and "optimal" in ran.stdout
    W, header = parts(tmp_path / "c.npz")
    W[2, 1] += 1e-6
    put(tmp_path / "x.npz", W, header)
    ran = process(*command, "check", "x.npz", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (1, "") and ran.stdout.startswith("DIFFERENT")
    (tmp_path / "x.npz").write_bytes((tmp_path / "c.npz").read_bytes()[:-20])
    refused(Ran(*(lambda r: (r.returncode, r.stdout, r.stderr))(process(*command, "check", "x.npz", cwd=tmp_path))))


@pytest.mark.processes
def test_nothing_but_results_in_a_pipe(tmp_path):
    ran = process(*MODULE, "solve", 12, 3, "--starts", 16, *SEARCH, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "") and "\r" not in ran.stdout
    ran = process(*MODULE, "table", "--pairs", "4,3;5,3", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "") and "\r" not in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["solve", "12", "3"], "interrupted"),
        (
            ["catalog", "improve", "--pairs", "7,3", "--catalog", "MINE"],
            "interrupted; finished pairs are kept, and the same command resumes",
        ),
        (["table", "--pairs", "7,3"], "interrupted"),
        (
            ["table", "--pairs", "7,3", "-o", "t.csv"],
            "interrupted; finished rows are kept beside t.csv, and the same command resumes",
        ),
    ],
)
def test_what_is_kept_is_said_where_it_is(run, tmp_path, monkeypatch, arguments, said):
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    for name in ("solver.solve", "tables.table", "sweep.sweep"):
        monkeypatch.setattr(f"softmaxcode.{name}", stopped)
    ran = run(*(str(tmp_path / "c.sqlite") if argument == "MINE" else argument for argument in arguments))
    assert (ran.code, ran.err) == (130, f"softmaxcode: {said}\n")


def test_a_closed_standard_output_loses_nothing(run, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert main(["solve", "4", "3", "-o", str(tmp_path / "c.npz")]) == 0
    assert sc.load(tmp_path / "c.npz").K == 4


@pytest.mark.processes
def test_a_bad_device_is_one_clear_sentence_in_a_shell(tmp_path):
    ran = process(*MODULE, "solve", 12, 3, "--device", "tpu", cwd=tmp_path)
    refused(Ran(ran.returncode, ran.stdout, ran.stderr), "device must be")


@pytest.mark.processes
@pytest.mark.skipif(os.name != "posix", reason="no SIGINT to send")
def test_a_table_stopped_by_ctrl_c_resumes(tmp_path):
    """Ctrl-C in the middle: exit code 130, and rows that were printed are not solved again."""
    arguments = ["--pairs", "4,3;5,3;300,60", "--starts", "100000", "-o", "t.csv"]
    stopped = subprocess.Popen(
        [*MODULE, "table", *arguments], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert stopped.stdout is not None and stopped.stderr is not None
    first = [stopped.stdout.readline() for _ in range(2)]
    stopped.send_signal(signal.SIGINT)
    _, said = stopped.communicate(timeout=HANG)
    assert [line.split()[:2] for line in first] == [["K=4", "d=3"], ["K=5", "d=3"]]
    assert stopped.returncode == 130 and said == (
        "softmaxcode: interrupted; finished rows are kept beside t.csv, and the same command resumes\n"
    )
    assert (tmp_path / "t.csv").read_text().count("\n") == 3
    assert len((tmp_path / "t.csv.rows").read_text().splitlines()) == 3


def terminal(*arguments: Any, cwd: Path, both: bool = False) -> Ran:
    """Run with standard error (and output too, if ``both``) on a pseudo-terminal 160 columns wide."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 160, 0, 0))
    with (cwd / "stdout").open("w+") as out:
        ran = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=theirs if both else out,
            stderr=theirs,
        )
        os.close(theirs)
        shown = b""
        while True:
            try:
                data = os.read(ours, 65536)
            except OSError:  # how Linux says that the other end is closed
                break
            if not data:
                break
            shown += data
        os.close(ours)
        code = ran.wait(timeout=HANG)
        out.seek(0)
        return Ran(code, out.read(), shown.decode())


@pytest.mark.processes
def test_a_bar_with_the_best_value_on_a_terminal(tmp_path):
    ran = terminal(*MODULE, "solve", 12, 3, "--starts", 16, *SEARCH, cwd=tmp_path)
    assert ran.code == 0 and "\r" not in ran.out and "0.5527864045" in ran.out
    assert "(12, 3):" in ran.err and "%|" in ran.err
    best = [float(value) for value in re.findall(r"best=([0-9.]+)", ran.err)]
    assert best and best == sorted(best) and best[-1] == pytest.approx(0.5527864045, abs=1e-8)
    assert ran.err.rsplit("\r", 2)[-2].strip() == ""  # wiped at the end


@pytest.mark.processes
def test_a_bar_over_the_rows_of_a_table_on_a_terminal(tmp_path):
    ran = terminal(*MODULE, "table", "--pairs", "4,3;5,3;6,3", cwd=tmp_path)
    assert ran.code == 0 and "\r" not in ran.out and ran.out.count("K=") == 3
    assert "table:" in ran.err and "0/3" in ran.err and re.search(r"margin=[0-9.]+", ran.err)


@pytest.mark.processes
def test_the_bar_and_the_rows_share_a_terminal(tmp_path):
    ran = terminal(*MODULE, "table", "--pairs", "4,3;5,3;6,3", cwd=tmp_path, both=True)
    assert ran.code == 0
    shown = [line.rsplit("\r", 1)[-1] for line in ran.err.replace("\r\n", "\n").split("\n")]
    assert sum(line.startswith("K=") for line in shown) == 3


@pytest.mark.processes
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_full_disk_behind_standard_output(tmp_path):
    with Path("/dev/full").open("w") as full:
        ran = subprocess.run(
            [*MODULE, "table", "--pairs", "4,3"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert ran.returncode == 2 and ran.stderr.startswith("softmaxcode: No space left on device")
    assert "Traceback" not in ran.stderr


def test_the_report_says_every_figure(codes):
    said = report(codes["searched"])
    for name, value in measurements(codes["searched"]).items():
        if isinstance(value, float):
            assert f"{value:.10g}"[:10] in said, name


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (ValueError("bad\x1b[2J"), 2, "x: bad\\x1b[2J"),
        (MemoryError(), 2, "x: there is not enough memory for this"),
        (KeyboardInterrupt(), 130, "x: interrupted"),
        (Resumable("stopped"), 130, "x: stopped"),
        (RuntimeError("a\nb"), 3, "x: unexpected RuntimeError: a (SOFTMAXCODE_DEBUG=1 shows where)"),
        (ZeroDivisionError(), 3, "x: unexpected ZeroDivisionError (SOFTMAXCODE_DEBUG=1 shows where)"),
    ],
)
def test_whatever_ends_a_command_is_one_sentence_and_an_exit_code(capsys, monkeypatch, error, code, message):
    def action() -> int:
        raise error

    assert run_command("x", action) == code
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(message)
    # each of several processes reports its own refusal before they connect; afterwards the first reports everything
    assert run_command("x", action, first=lambda: False) == code
    assert bool(capsys.readouterr().err) is (code == 2)
    monkeypatch.setattr("softmaxcode.cli.arguments._have_met", lambda: True)
    assert run_command("x", action, first=lambda: False) == code
    assert capsys.readouterr().err == ""


def test_an_unexpected_error_can_be_seen_where_it_was_raised(monkeypatch):
    monkeypatch.setenv("SOFTMAXCODE_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run_command("x", lambda: 1 // 0)
