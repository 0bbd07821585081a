"""Damaged and forged files of every kind that is read: one sentence, or values that the file supports."""

from __future__ import annotations

import copy
import hashlib
import io
import json
import math
import random
import shutil
import signal
import sqlite3
import tempfile
import warnings
import zipfile
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch
from PIL import Image

import softmaxcode as sc
import ufm
from experiments.compare_command import _read_matrix
from experiments.data.cifar import read_cifar100
from experiments.data.folders import read_image, read_tiny_imagenet
from experiments.measuring import MEASURED
from experiments.report import _asked
from experiments.runs import TrainedRun
from experiments.settings import RunSettings
from softmaxcode.catalog import Catalog, import_codes
from softmaxcode.checkpoints import read_classifier
from softmaxcode.cli.diagnose import read_names
from softmaxcode.storage import files
from softmaxcode.storage.journal import Journal
from softmaxcode.storage.tensors import read_tensors, write_tensors
from softmaxcode.tables import Finished, read_table, solved, write
from softmaxcode.tables.rows import derived_row, noted_row
from tests.experiments.test_data import cifar_files, packed, tiny_imagenet
from ufm.storage import read_run, write_run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: Limits for one file: seconds of this process, whatever else the machine does, and bytes.
SECONDS = 5
MEMORY = 10**9
#: Replacements of a stored value.
HOSTILE: tuple[Any, ...] = (
    None,
    True,
    -5,
    0,
    10**30,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "a\x1b[2J\nb",
    "9" * 5000,
    [],
    [1],
    {},
    {"runs": 5},
    [[[[[[]]]]]],
)


@contextmanager
def within_limits() -> Iterator[None]:
    """Fail if the block uses more processor time or memory than one file may."""

    def too_long(*_: Any) -> None:
        raise AssertionError(f"took more than {SECONDS} s")

    before = signal.signal(signal.SIGPROF, too_long)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    stored = _peak(start=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
    taken = _peak() - stored
    assert taken < MEMORY, f"took {taken / 1e9:.1f} GB"


def _peak(*, start: bool = False) -> int:
    """The peak memory of this process since ``start``, in bytes; 0 if the system does not report it."""
    try:
        if start:
            Path("/proc/self/clear_refs").write_text("5")
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return 0
    return 1024 * int(next(line.split()[1] for line in lines if line.startswith("VmHWM")))


# --- damage ---------------------------------------------------------------------------------------------------


def damaged(content: bytes, draw: random.Random) -> bytes:
    """A file with some of its bytes changed, removed, repeated or made up."""
    data = bytearray(content)
    kind = draw.randrange(7)
    at = draw.randrange(len(data) + 1)
    length = draw.choice((1, 8, 64, len(data) // 3))
    if kind == 0:
        return bytes(data[:at])
    if kind == 1:
        del data[at : at + length]
    elif kind == 2:
        data[at:at] = data[at : at + length]
    elif kind == 3:
        data[at:at] = draw.randbytes(length)
    elif kind == 4:
        data[at : at + 8] = draw.choice((b"\xff" * 8, b"\0" * 8, b"99999999", b"-1e400,\n"))
    else:
        for _ in range(draw.choice((1, 3, 30))):
            data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return bytes(data)


def forged(stored: Any, draw: random.Random) -> Any:
    """JSON data with one of its values, at any depth, removed, added or replaced."""
    stored = copy.deepcopy(stored)
    places: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for name, inner in items:
            places.append((value, name))
            walk(inner)

    walk(stored)
    if not places or draw.random() < 0.05:
        return draw.choice(HOSTILE)
    holder, name = draw.choice(places)
    if draw.random() < 0.2:
        del holder[name]
    else:
        holder[name] = draw.choice(HOSTILE)
    return stored


def archive_of(path: Path, draw: random.Random) -> bytes:
    """An archive with a damaged member under a checksum that fits."""
    stream = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(stream, "w", old.infolist()[0].compress_type) as new:
        chosen = draw.choice(old.infolist())
        for member in old.infolist():
            content = old.read(member)
            new.writestr(member.filename, damaged(content, draw) if member is chosen else content)
    return stream.getvalue()


def json_of(path: Path, draw: random.Random) -> bytes:
    return json.dumps(forged(json.loads(path.read_text()), draw)).encode()


def code_of(path: Path, draw: random.Random) -> bytes:
    """A code file with a forged header and matching hashes."""
    with np.load(path) as stored:
        W, header = stored["W"], json.loads(stored["header"].tobytes())
    header = forged(header, draw)
    if isinstance(header, dict):
        with suppress(KeyError):
            header |= {"sha256_coordinates": files.coordinates_hash(W), "sha256_header": files.header_hash(header)}
    stream = io.BytesIO()
    np.savez(stream, W=W, header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8))
    return stream.getvalue()


def journal_of(path: Path, draw: random.Random) -> bytes:
    """A journal with a forged line and a matching checksum."""
    lines = [line.partition("\t")[0] for line in path.read_text().splitlines()]
    at = draw.randrange(len(lines))
    lines[at] = json.dumps(forged(json.loads(lines[at]), draw))
    return "".join(f"{line}\t{hashlib.sha256(line.encode()).hexdigest()[:16]}\n" for line in lines).encode()


def catalogue_of(path: Path, draw: random.Random) -> bytes:
    """A catalogue with another value in one cell."""
    copied = path.with_name("forged.sqlite")
    shutil.copy(path, copied)
    with closing(sqlite3.connect(copied)) as database, database:
        tables = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        table = draw.choice(tables)
        columns = [row[1] for row in database.execute(f"PRAGMA table_info('{table}')")]
        value = draw.choice((None, 0, -3, 10**15, 0.9, 1e300, "x\x1b\n", "", b"abc", b"\0" * 800, "{}", '{"a": 1}'))
        with warnings.catch_warnings():
            try:
                database.execute(f"UPDATE '{table}' SET {draw.choice(columns)} = ?", (value,))
            except sqlite3.Error:  # which the schema itself refuses
                database.execute(f"DELETE FROM '{table}'")
    content = copied.read_bytes()
    copied.unlink()
    return content


def tensors_of(path: Path, draw: random.Random) -> bytes:
    """A file of tensors with one of its values, at any depth, replaced by another kind."""
    stored = torch.load(path, weights_only=True)
    holders = [stored, *(value for value in stored.values() if isinstance(value, dict) and value)]
    holder = draw.choice(holders)
    name = draw.choice(list(holder))
    holder[name] = draw.choice(
        (
            torch.zeros(1).expand(10**9, 3),
            torch.eye(3).to_sparse(),
            torch.empty(5, 3, device="meta"),
            torch._neg_view(torch.ones(6, 3)),
            torch.full((6, 3), torch.nan),
            torch.ones(6, 3, dtype=torch.complex64),
            torch.ones(6, 3).to(torch.float8_e5m2),
            torch.zeros(0, 3),
            torch.ones(4),
            *(value for value in HOSTILE if value != 10**30),
        )
    )
    stream = io.BytesIO()
    torch.save(stored, stream)
    return stream.getvalue()


def safetensors_of(path: Path, draw: random.Random) -> bytes:
    """Safetensors with a forged header of the length that it declares."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    if draw.random() < 0.3:
        header["fc.weight"]["dtype"] = draw.choice(("F4", "F8_E5M2", "BF16", "BOOL", "I64", "C64", "F16"))
    else:
        header = forged(header, draw)
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


# --- kinds of file --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of file: how to make one, how to read it into values, and how to forge it beside damaging it.

    ``same`` means that a file that is read must equal what was written: it has a hash, or its values are derived
    again.
    """

    make: Callable[[Path], Path]
    read: Callable[[Path], Any]
    forge: tuple[Callable[[Path, random.Random], bytes], ...] = ()
    same: bool = False
    tries: int = 25


CODE = sc.best_known(12, 3)


def saved(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        CODE.save(folder / name)
        return folder / name

    return make


def loaded(path: Path) -> float:
    code = sc.load(path)
    assert code.K >= 2 and np.isfinite(code.W).all()
    assert np.linalg.norm(code.W, axis=1) == pytest.approx(1, abs=1e-12)
    return code.max_cosine


def array(folder: Path) -> Path:
    np.save(folder / "W.npy", CODE.W)
    return folder / "W.npy"


def archive(folder: Path) -> Path:
    np.savez(folder / "W.npz", W=CODE.W, labels=np.arange(3))
    return folder / "W.npz"


def catalogue(folder: Path) -> Path:
    with closing(Catalog(folder / "mine.sqlite")) as mine:
        mine.improve(sc.solve(7, 3, seed=0, catalog=False, exact=False, budget=0.5))
        mine.improve(sc.solve(9, 3, seed=0, catalog=False, exact=False, budget=0.5))
    return folder / "mine.sqlite"


def imported(path: Path) -> None:
    target = path.with_name("target.sqlite")
    target.unlink(missing_ok=True)
    with closing(Catalog(target)) as mine:
        report = import_codes(path, mine)
        assert all(line.isprintable() for line in report.refused)
        for entry in mine.entries():
            code = mine.code(entry.K, entry.d, entry.objective)
            assert code.certificate.lower_bound == pytest.approx(entry.lower_bound, abs=1e-12)


def journal(folder: Path) -> Path:
    kept = Journal(folder / "t.csv.rows", {"seed": 0}, Finished)
    kept.add(noted_row(*solved(4, 3)))
    return folder / "t.csv.rows"


def rows_of_journal(path: Path) -> None:
    for entry in Journal(path, {"seed": 0}, Finished).entries.values():
        row = derived_row(entry)
        assert row is None or row["margin"] <= 2


def table(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        data = pd.DataFrame({"K": [4, 5], "GNC2": [0.5, 0.25], "status": ["steps", "gap"], "meets_bound": [True, None]})
        write(data, folder / f"t{suffix}")
        return folder / f"t{suffix}"

    return make


def figures_of_table(path: Path) -> None:
    assert pd.api.types.is_numeric_dtype(read_table(path, ["K", "GNC2"])["GNC2"])


RUN = ufm.simulate(K=5, d=3, n=1, temperature=0.2, steps=20)


def ufm_run(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        write_run(RUN, folder, "history.csv", "cpu")
        return folder / name

    return make


def ufm_figures(path: Path) -> Any:
    run = read_run(path.parent)
    return run.W.shape, run.settings.K, float(run.margin)


def ufm_checkpoint(folder: Path) -> Path:
    simulated(folder / "c.pt")
    return folder / "c.pt"


def simulated(path: Path) -> float:
    return ufm.simulate(K=5, d=3, n=1, temperature=0.2, steps=20, checkpoint=path).margin


SETTINGS = RunSettings.checked("digits", epochs=1)


def experiment(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        run = folder / SETTINGS.key
        run.mkdir()
        header = {"settings": SETTINGS.to_dict(), "status": "finished", "seconds": 1.5, "data": "0" * 64}
        (run / "run.json").write_text(json.dumps(header))
        (run / "gnc.json").write_text(json.dumps({"runs": [SETTINGS.to_dict()]}))
        pd.DataFrame([dict.fromkeys(("epoch", *MEASURED), 0.5)]).to_csv(run / "history.csv", index=False)
        np.save(run / "W.npy", np.eye(10, 2))
        state = {"network.weight": torch.ones(6, 3), "head.weight": torch.eye(10, 2)}
        write_tensors(run / "model.pt", state, hashed=False)
        write_tensors(run / "checkpoint.pt", {"format": 1, "rows": "[]", "model": state})
        return run / name

    return make


def experiment_figures(path: Path) -> Any:
    run = TrainedRun.read(path.parent)
    assert run.W.shape[1] == 2 and math.isfinite(run.seconds)
    return run.settings.key, run.status, float(run.final["GNC2"]) * 0


def same_tensors(path: Path) -> str:
    return repr(read_tensors(path))


def classifier(path: Path) -> None:
    found = read_classifier(path)
    assert found.K > 1 and bool(np.isfinite(found.W).all())


def state_dict(folder: Path) -> Path:
    torch.save({"epoch": 5, "model": {"fc.weight": torch.eye(6, 3), "fc.bias": torch.zeros(6)}}, folder / "net.pt")
    return folder / "net.pt"


def safe(folder: Path) -> Path:
    safetensors.torch.save_file({"fc.weight": torch.eye(6, 3), "fc.bias": torch.zeros(6)}, folder / "n.safetensors")
    return folder / "n.safetensors"


def text(name: str, content: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        (folder / name).write_text(content)
        return folder / name

    return make


def picture(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        pixels = np.random.default_rng(0).integers(0, 256, (12, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"p{suffix}")
        return folder / f"p{suffix}"

    return make


def pixels(path: Path) -> None:
    assert read_image(path, 8).shape == (3, 8, 8)


def cifar(folder: Path) -> Path:
    packed(folder, 100, cifar_files(100, 100, np.random.default_rng(0)))
    return folder / "cifar-100-binary.tar.gz"


def cifar_figures(path: Path) -> None:
    data = read_cifar100(path.parent)
    assert len(data.class_names) == 100 and data.train.labels.max() < 100


def tiny(name: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        tiny_imagenet(folder)
        return folder / "tiny-imagenet-200" / name

    return make


def tiny_figures(root: str) -> Callable[[Path], None]:
    def read(path: Path) -> None:
        data = read_tiny_imagenet(next(p for p in path.parents if p.name == root).parent)
        assert data.train.labels.max() < len(data.class_names)

    return read


ZIP = (archive_of,)
JSON = (json_of,)
TINY = "tiny-imagenet-200"
KINDS = {
    "code .npz": Kind(saved("c.npz"), loaded, (archive_of, code_of), same=True),
    "code .npy": Kind(array, loaded),
    "code .txt": Kind(saved("pack.3.12.txt"), loaded),
    "code .csv": Kind(saved("c.csv"), loaded),
    "catalogue": Kind(catalogue, imported, (catalogue_of,), tries=15),
    "journal": Kind(journal, rows_of_journal, (journal_of,)),
    "table .csv": Kind(table(".csv"), figures_of_table),
    "table .parquet": Kind(table(".parquet"), figures_of_table),
    "ufm run.json": Kind(ufm_run("run.json"), ufm_figures, JSON),
    "ufm history.csv": Kind(ufm_run("history.csv"), ufm_figures),
    "ufm W.npy": Kind(ufm_run("W.npy"), ufm_figures),
    "ufm checkpoint": Kind(ufm_checkpoint, simulated, (archive_of, tensors_of), same=True),
    "experiments run.json": Kind(experiment("run.json"), experiment_figures, JSON),
    "experiments history.csv": Kind(experiment("history.csv"), experiment_figures),
    "experiments W.npy": Kind(experiment("W.npy"), experiment_figures),
    "experiments plan": Kind(experiment("gnc.json"), lambda path: len(_asked(path)), JSON),
    "experiments checkpoint": Kind(experiment("checkpoint.pt"), same_tensors, (archive_of, tensors_of), same=True),
    "classifier .pt": Kind(state_dict, classifier, (archive_of, tensors_of)),
    "classifier .npy": Kind(array, classifier),
    "classifier .npz": Kind(archive, classifier, ZIP),
    "classifier .safetensors": Kind(safe, classifier, (safetensors_of,)),
    "names": Kind(text("names.txt", "cat\ndog\n"), lambda path: len(read_names(path))),
    "similarity": Kind(array, lambda path: _read_matrix(path).shape),
    **{f"image {suffix}": Kind(picture(suffix), pixels) for suffix in (".png", ".jpg", ".bmp", ".webp", ".ppm")},
    "cifar": Kind(cifar, cifar_figures, tries=8),
    "tiny-imagenet wnids": Kind(tiny("wnids.txt"), tiny_figures(TINY), tries=10),
    "tiny-imagenet annotations": Kind(tiny("val/val_annotations.txt"), tiny_figures(TINY), tries=10),
}


def outcome(kind: Kind, path: Path) -> Any:
    """The values, or None where the file is refused in one sentence."""
    try:
        with within_limits():
            return kind.read(path)
    except ValueError as error:
        if isinstance(error, UnicodeError) or len(str(error).splitlines()) != 1:
            raise AssertionError(f"no sentence: {error!r}") from error
        return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", KINDS)
def test_a_damaged_or_forged_file_is_refused_in_one_sentence_or_read_right(name: str, tmp_path: Path) -> None:
    kind, draw = KINDS[name], random.Random(name)
    path = kind.make(tmp_path)
    content = path.read_bytes()
    figures = kind.read(path)
    for i in range(kind.tries):
        path.write_bytes(content)
        changed = kind.forge[i % len(kind.forge)](path, draw) if kind.forge and i % 2 else damaged(content, draw)
        path.write_bytes(changed)
        try:
            found = outcome(kind, path)
        except Exception as error:
            kept = Path(tempfile.mkdtemp()) / path.name
            kept.write_bytes(changed)
            raise AssertionError(f"{kept}, try {i}: {error!r}") from error
        if kind.same and found is not None:
            assert found == figures
