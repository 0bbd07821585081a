"""Checkpoints of ufm and experiments: a difference from what was written is refused, and so is an impossible state."""

from __future__ import annotations

import json
import os
import zipfile

import numpy as np
import pytest
import torch

import ufm
from experiments.data.folders import read_image
from softmaxcode.storage.tensors import HASH, content_hash, read_tensors, write_tensors

OPTIONS = {"K": 6, "d": 3, "n": 2, "temperature": 0.1, "optimizer": "adam", "steps": 20}


@pytest.fixture
def checkpoint(tmp_path):
    """The checkpoint of an interrupted run."""

    def step(*_: object, **__: object) -> None:
        if next(left, None) is None:
            raise KeyboardInterrupt

    path = tmp_path / "run.pt"
    left = iter(range(8))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ufm.running.Progress.step", lambda *_, **__: step())
        with pytest.raises(KeyboardInterrupt):
            ufm.simulate(**OPTIONS, checkpoint=path)
    return path


def forged(path, change, *, rehash: bool) -> None:
    """The file with a change, as made by somebody who knows the format."""
    stored = torch.load(path, weights_only=True)
    expected = stored.pop(HASH)
    change(stored)
    torch.save(stored | {HASH: content_hash(stored) if rehash else expected}, path)


def plain(**changes):
    def change(stored):
        stored["plain"] = json.dumps(json.loads(stored["plain"]) | changes)

    return change


def scaled(factor):
    def change(stored):
        stored["tensors"]["W"] = stored["tensors"]["W"] * factor

    return change


@pytest.mark.parametrize("change", [scaled(2.0), scaled(0.0), plain(step=3), plain(records=[]), plain(seconds=9.0)])
def test_a_state_that_was_changed_is_refused(checkpoint, change):
    forged(checkpoint, change, rehash=False)
    with pytest.raises(ValueError, match="different from what was written; remove it to start again"):
        ufm.simulate(**OPTIONS, checkpoint=checkpoint)


def shape(stored):
    stored["tensors"]["W"] = stored["tensors"]["W"][:, :4]


def kind(stored):
    stored["tensors"]["W"] = stored["tensors"]["W"].float()


@pytest.mark.parametrize(
    "change",
    [
        scaled(2.0),
        scaled(0.0),
        shape,
        kind,
        plain(step=-5),
        plain(step=10**30),
        plain(step=21),
        plain(step="3"),
        plain(seconds=float("nan")),
        plain(seconds=-1.0),
        plain(records=[]),
        plain(runs=5),
        plain(more=1),
        lambda stored: stored.update(plain="[" * 100_000),
        lambda stored: stored.update(tensors=5),
        lambda stored: stored.pop("tensors"),
    ],
)
def test_what_cannot_be_a_state_is_refused_whatever_its_hash(checkpoint, change):
    forged(checkpoint, change, rehash=True)
    with pytest.raises(ValueError, match=r"is not a checkpoint of ufm, or it is damaged; remove it to start again"):
        ufm.simulate(**OPTIONS, checkpoint=checkpoint)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_state_that_is_not_finite_ends_as_diverged(checkpoint, value):
    forged(checkpoint, scaled(value), rehash=True)
    assert ufm.simulate(**OPTIONS, checkpoint=checkpoint).status == "diverged"


def test_tensors_come_back_as_they_were_written(tmp_path):
    stored = {
        "W": torch.arange(6.0).reshape(2, 3),
        "inner": {"step": torch.tensor(3), "b": [1, 2.5, None, "x"]},
        3: True,
    }
    write_tensors(tmp_path / "t.pt", stored)
    found = read_tensors(tmp_path / "t.pt")
    assert torch.equal(found.pop("W"), stored["W"]) and torch.equal(found["inner"].pop("step"), torch.tensor(3))
    assert found == {"inner": {"b": [1, 2.5, None, "x"]}, 3: True}
    write_tensors(tmp_path / "plain.pt", {"W": stored["W"]}, hashed=False)
    assert list(torch.load(tmp_path / "plain.pt", weights_only=True)) == ["W"]
    with pytest.raises(ValueError, match="missing, damaged or not one of ours"):
        read_tensors(tmp_path / "plain.pt")


@pytest.mark.parametrize(
    "tensor",
    [
        torch.zeros(1).expand(10**9, 3),
        torch.eye(3).to_sparse(),
        torch.empty(3, 3, device="meta"),
        torch.view_as_complex(torch.ones(3, 2)).conj(),
    ],
    ids=["stride 0", "sparse", "meta", "conjugate"],
)
def test_tensors_that_are_not_dense_are_refused(tmp_path, tensor):
    torch.save({"W": tensor, HASH: "0" * 64}, tmp_path / "t.pt")
    with pytest.raises(ValueError, match="missing, damaged or not one of ours"):
        read_tensors(tmp_path / "t.pt")


def test_a_member_that_inflates_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "t.pt"
    write_tensors(path, {"W": torch.zeros(10)})
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content if "data/" not in name else bytes(10**8))
    with pytest.raises(ValueError, match="missing, damaged or not one of ours"):
        read_tensors(path)


# --- images ---------------------------------------------------------------------------------------------------

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n%%EOF\n"


def test_an_image_is_read_by_the_formats_allowed_and_starts_no_program(tmp_path, monkeypatch):
    import subprocess

    def started(*_: object, **__: object) -> None:
        raise AssertionError("a program was started")

    monkeypatch.setattr(subprocess, "Popen", started)
    path = tmp_path / "cat.jpg"
    path.write_bytes(EPS)
    with pytest.raises(ValueError, match=r"cat\.jpg is not a whole image"):
        read_image(path, 8)


@pytest.mark.skipif(os.name != "posix", reason="a named pipe")
def test_a_pipe_in_an_image_folder_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "cat.jpg")
    with pytest.raises(ValueError, match="not a regular file"):
        read_image(tmp_path / "cat.jpg", 8)


def test_an_image_of_too_many_pixels_is_refused_before_it_is_decoded(tmp_path):
    from PIL import Image

    Image.fromarray(np.zeros((10, 10), dtype=np.uint8)).save(tmp_path / "small.png")
    assert read_image(tmp_path / "small.png", 10).shape == (3, 10, 10)
    for side, name in ((8000, "large.png"), (20_000, "bomb.png")):
        Image.new("1", (side, side)).save(tmp_path / name)
        with pytest.raises(ValueError, match="is not a whole image"):
            read_image(tmp_path / name, 10)
