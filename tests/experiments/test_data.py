"""The data sets of the experiments: readers against small files in the official formats, labels against definitions."""

from __future__ import annotations

import inspect
import io
import math
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from sklearn.datasets import load_digits
from torch.utils.data import DataLoader

from experiments.data import DATASETS, Augmentation, ImageData, Shift, TextData, describe, load
from experiments.data.augmentation import moved
from experiments.data.labels import few_shot_rows, noisy, of_classes, permuted

if TYPE_CHECKING:
    from collections.abc import Callable

OFFLINE = [name for name, entry in DATASETS.items() if entry.description.endswith("offline")]
PAIRS = {"train_per_class": 4, "test_per_class": 2}


def images(name: str, root: Any = None, **options: Any) -> ImageData:
    data = load(name, root, **options)
    assert isinstance(data, ImageData)
    return data


def raw(data: ImageData, split: str) -> np.ndarray:
    """The bytes of a split, shape (N, channels, height, width), from its normalised images."""
    part = getattr(data, split)
    mean = np.array(data.normalisation.mean)[:, None, None]
    std = np.array(data.normalisation.std)[:, None, None]
    return np.rint((np.stack([np.asarray(image) for image, _ in part]) * std + mean) * 255).astype(int)


# --- CIFAR ----------------------------------------------------------------------------------------------------


def cifar_files(K: int, n_test: int, rng: np.random.Generator) -> dict[str, bytes]:
    """The files of the official binary version with ``n_test`` test images instead of 10,000, five times to train."""

    def records(n: int) -> bytes:
        fine = np.arange(n) % K
        labels = [fine] if K == 10 else [fine // 5, fine]
        pixels = rng.integers(0, 256, (n, 3072))
        return np.column_stack([*labels, pixels]).astype(np.uint8).tobytes()

    names = "\n".join(f"thing_{k}" for k in range(K)) + "\n\n"  # the official file of CIFAR10 ends in an empty line
    if K == 10:
        files = {f"data_batch_{i}.bin": records(n_test) for i in range(1, 6)}
        return {**files, "test_batch.bin": records(n_test), "batches.meta.txt": names.encode()}
    files = {"train.bin": records(5 * n_test), "test.bin": records(n_test), "fine_label_names.txt": names.encode()}
    return {**files, "coarse_label_names.txt": "\n".join(f"super_{k}" for k in range(20)).encode()}


FOLDERS = {10: "cifar-10-batches-bin", 100: "cifar-100-binary"}
ARCHIVES = {10: "cifar-10-binary.tar.gz", 100: "cifar-100-binary.tar.gz"}


def extracted(root: Path, K: int, files: dict[str, bytes]) -> Path:
    folder = root / FOLDERS[K]
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return root


def packed(root: Path, K: int, files: dict[str, bytes]) -> Path:
    with tarfile.open(root / ARCHIVES[K], "w:gz") as archive:
        directory = tarfile.TarInfo(FOLDERS[K])
        directory.type = tarfile.DIRTYPE
        archive.addfile(directory)
        for name, content in files.items():
            member = tarfile.TarInfo(f"{FOLDERS[K]}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return root


@pytest.mark.parametrize("K", [10, 100])
@pytest.mark.parametrize("lay", [extracted, packed])
def test_cifar_reads_every_byte_of_the_official_format(tmp_path: Path, K: int, lay: Callable[..., Path]) -> None:
    files = cifar_files(K, 20, np.random.default_rng(K))
    data = images(f"cifar{K}", lay(tmp_path, K, files))
    train_names = [n for n in files if "train" in n or "data_batch" in n]
    for split, names in (("train_unaugmented", train_names), ("test", [n for n in files if n.startswith("test")])):
        content = b"".join(files[name] for name in names)
        size = len(content) // (3072 + (1 if K == 10 else 2))
        records = np.frombuffer(content, np.uint8).reshape(size, -1)
        assert np.array_equal(raw(data, split), records[:, -3072:].reshape(size, 3, 32, 32))
        assert [label for _, label in getattr(data, split)] == records[:, -3073].tolist()
    assert data.K == K == len(data.class_names)
    assert data.class_names[3] == "thing_3"
    assert (data.image_size, data.channels) == ((32, 32), 3)
    if K == 100:
        assert data.similarity is not None
        same = np.arange(100)[:, None] // 5 == np.arange(100) // 5
        assert np.array_equal(data.similarity, same)
    else:
        assert data.similarity is None


@pytest.mark.parametrize("K", [10, 100])
def test_cifar_is_found_where_the_root_is_the_folder_or_the_variable_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, K: int
) -> None:
    extracted(tmp_path, K, cifar_files(K, 20, np.random.default_rng(0)))
    assert len(load(f"cifar{K}", tmp_path / FOLDERS[K]).test) == 20
    packed(tmp_path, K, cifar_files(K, 20, np.random.default_rng(0)))
    assert len(load(f"cifar{K}", tmp_path / ARCHIVES[K]).test) == 20
    monkeypatch.setenv("SOFTMAXCODE_DATA", str(tmp_path))
    assert len(load(f"cifar{K}").test) == 20


RECORD = 3073


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data_batch_2.bin": None}, "data_batch_2.bin is missing: the archive was extracted in part"),
        ({"data_batch_2.bin": lambda b: b[:-1]}, "has 61459 bytes, which is no whole number of records of 3073"),
        ({"data_batch_2.bin": lambda b: b""}, "has 0 bytes, which is no whole number"),
        (
            {"data_batch_2.bin": lambda b: b[:-RECORD]},
            "data_batch_2.bin has 19 images where test_batch.bin with its 20",
        ),
        ({"test_batch.bin": lambda b: b[:-RECORD]}, "data_batch_1.bin has 20 images .* goes with 19"),
        (
            {"test_batch.bin": lambda b: b[:RECORD] + b"\x0a" + b[RECORD + 1 :]},
            "record 1 has label 10, .* below K = 10",
        ),
        ({"batches.meta.txt": lambda b: b"a\nb\n"}, "batches.meta.txt must name 10 classes; got 2"),
    ],
)
@pytest.mark.parametrize("lay", [extracted, packed])
def test_cifar10_in_part_or_damaged(tmp_path: Path, change: dict, message: str, lay: Callable[..., Path]) -> None:
    files = cifar_files(10, 20, np.random.default_rng(0))
    for name, edit in change.items():
        content = files.pop(name)
        if edit is not None:
            files[name] = edit(content)
        elif lay is packed:
            message = f"has no file cifar-10-batches-bin/{name}: it is not the official binary archive"
    with pytest.raises(ValueError, match=message):
        load("cifar10", lay(tmp_path, 10, files))


def test_cifar100_class_of_two_superclasses(tmp_path: Path) -> None:
    files = cifar_files(100, 40, np.random.default_rng(0))
    files["train.bin"] = b"\x13" + files["train.bin"][1:]
    with pytest.raises(ValueError, match=r"train.bin: class 0 has more than one superclass"):
        load("cifar100", extracted(tmp_path, 100, files))


def test_cifar100_label_outside_its_classes(tmp_path: Path) -> None:
    files = cifar_files(100, 100, np.random.default_rng(0))
    label = 3074 * 7 + 1  # after the superclass, in the record of number 7
    files["train.bin"] = files["train.bin"][:label] + b"\x64" + files["train.bin"][label + 1 :]
    with pytest.raises(ValueError, match=r"train\.bin: record 7 has label 100, which must be below K = 100"):
        load("cifar100", extracted(tmp_path, 100, files))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.999])
def test_cifar_archive_cut_off(tmp_path: Path, kept: float) -> None:
    packed(tmp_path, 10, cifar_files(10, 20, np.random.default_rng(0)))
    archive = tmp_path / ARCHIVES[10]
    content = archive.read_bytes()
    archive.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"is not a whole .tar.gz archive|has no file"):
        load("cifar10", tmp_path)


@pytest.mark.parametrize("where", ["member", "header"])
def test_an_archive_that_inflates_beyond_its_limit_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Both a file of the archive and an extended header may declare any size."""
    monkeypatch.setattr("experiments.data.cifar.MAX_BYTES", 10**6)
    with tarfile.open(tmp_path / ARCHIVES[10], "w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo(f"{FOLDERS[10]}/data_batch_1.bin")
        if where == "member":
            member.size = 10**7
        else:
            member.pax_headers = {"comment": "x" * 10**7}
        archive.addfile(member, io.BytesIO(bytes(member.size)))
    with pytest.raises(ValueError, match=r"is not a whole .tar.gz archive: it inflates to more than 1,000,000 bytes"):
        load("cifar10", tmp_path)


def test_a_class_without_training_images(tmp_path: Path) -> None:
    files = cifar_files(100, 10, np.random.default_rng(0))
    with pytest.raises(ValueError, match=r"class 50 \(thing_50\) has none, and so have 49 more"):
        load("cifar100", extracted(tmp_path, 100, files))


# --- folders --------------------------------------------------------------------------------------------------


def picture(path: Path, array: np.ndarray) -> np.ndarray:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array.astype(np.uint8)).save(path, quality=95)
    return array


def tiny_imagenet(root: Path, per_class: int = 3) -> Path:
    """The official layout, three classes instead of 200; every image is of one colour, one of each class is grey."""
    folder = root / "tiny-imagenet-200"
    wnids = ["n03", "n01", "n02"]  # the official list is not sorted
    for k, wnid in enumerate(wnids):
        for i in range(per_class):
            shape = (64, 64) if i == 0 else (64, 64, 3)
            picture(folder / "train" / wnid / "images" / f"{wnid}_{i}.JPEG", np.full(shape, 40 * k + 10 * i))
        (folder / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t62\t63\n")
    lines = []
    for i, wnid in enumerate(["n02", "n03", "n01", "n02"]):
        picture(folder / "val" / "images" / f"val_{i}.JPEG", np.full((64, 64, 3), 50 * i))
        lines.append(f"val_{i}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(wnids))
    (folder / "words.txt").write_text("n00\tnothing here\nn01\tgoldfish, Carassius auratus\nn02\tcat\n")
    return root


def test_tiny_imagenet(tmp_path: Path) -> None:
    data = images("tiny-imagenet", tiny_imagenet(tmp_path))
    assert data.class_names == ("goldfish, Carassius auratus", "cat", "n03")
    assert (data.K, data.image_size, data.channels, data.skipped) == (3, (64, 64), 3, ())
    assert data.augmentation == Augmentation(padding=8, flip=True, rotation=15)
    assert [label for _, label in data.test] == [1, 2, 0, 1]
    assert np.abs(raw(data, "test") - 50 * np.arange(4)[:, None, None, None]).max() <= 2  # JPEG loses a little
    shade = {0: 40, 1: 80, 2: 0}  # by class, sorted
    wanted = np.array([shade[label] + 10 * (i % 3) for i, (_, label) in enumerate(data.train_unaugmented)])
    assert np.abs(raw(data, "train_unaugmented") - wanted[:, None, None, None]).max() <= 2


@pytest.mark.parametrize(
    ("remove", "message"),
    [
        ("wnids.txt", "wnids.txt is missing: the archive was extracted in part"),
        ("words.txt", "words.txt is missing"),
        ("train/n01/images", "n01/images is missing"),
        ("train/n01/images/*", "n01/images has no images"),
        ("train/n01/images/n01_1.JPEG", "n01 has 2 images where the others have 3: the archive was extracted in part"),
        ("val/val_annotations.txt", "val_annotations.txt is missing"),
        ("val/images/val_2.JPEG", "val_2.JPEG is missing"),
    ],
)
def test_tiny_imagenet_in_part(tmp_path: Path, remove: str, message: str) -> None:
    folder = tiny_imagenet(tmp_path) / "tiny-imagenet-200"
    for path in folder.glob(remove):
        if path.is_dir():
            path.rename(folder / "elsewhere")
        else:
            path.unlink()
    with pytest.raises(ValueError, match=message):
        load("tiny-imagenet", tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("wnids.txt", b"", "must name each class once"),
        ("wnids.txt", b"n02\nn01\nn02\n", "must name each class once"),
        ("words.txt", b"n01\t\xff\xfe\n", r"words\.txt: it must be text in UTF-8"),
    ],
)
def test_tiny_imagenet_lists_that_are_damaged(tmp_path: Path, name: str, content: bytes, said: str) -> None:
    (tiny_imagenet(tmp_path) / "tiny-imagenet-200" / name).write_bytes(content)
    with pytest.raises(ValueError, match=said):
        load("tiny-imagenet", tmp_path)


def test_tiny_imagenet_annotations_cut_off(tmp_path: Path) -> None:
    annotations = tiny_imagenet(tmp_path) / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    lines = annotations.read_text().splitlines(keepends=True)
    annotations.write_text("".join(lines[:-1]))
    with pytest.raises(ValueError, match=r"val_annotations\.txt names 3 images, and its folder has 4"):
        load("tiny-imagenet", tmp_path)


def test_tiny_imagenet_annotation_of_no_class(tmp_path: Path) -> None:
    annotations = tiny_imagenet(tmp_path) / "tiny-imagenet-200" / "val" / "val_annotations.txt"
    annotations.write_text("val_0.JPEG\tn99\t0\t0\t1\t1\n")
    with pytest.raises(ValueError, match=r"gives val_0.JPEG the class 'n99', which wnids.txt does not have"):
        load("tiny-imagenet", tmp_path)
    annotations.write_text("val_0.JPEG\n")
    with pytest.raises(ValueError, match=r"gives val_0\.JPEG the class '', which"):
        load("tiny-imagenet", tmp_path)
    annotations.write_text("")
    with pytest.raises(ValueError, match="names 0 images, and its folder has 4"):
        load("tiny-imagenet", tmp_path)


@pytest.mark.parametrize("inner", ["", "images"])
def test_faces_are_split_within_each_identity(tmp_path: Path, inner: str) -> None:
    folder = tmp_path / "BUPT-CBFace-50" / inner
    for person in range(3):
        for i in range(10):
            picture(folder / f"m.0{person}" / f"{i}.jpg", np.full((94, 70, 3), 60 * person + 5 * i))
    data = images("bupt-cbface-50", tmp_path)
    assert (data.K, data.image_size, data.class_names) == (3, (50, 50), ("m.00", "m.01", "m.02"))
    assert data.counts.tolist() == [8, 8, 8]
    assert np.bincount(data.test.labels).tolist() == [2, 2, 2]
    shades = {split: raw(data, split).mean(axis=(1, 2, 3)).round() for split in ("train_unaugmented", "test")}
    together = np.sort(np.concatenate(list(shades.values())))
    assert np.allclose(together, np.sort((60 * np.arange(3)[:, None] + 5 * np.arange(10)).ravel()), atol=2)
    assert raw(images("bupt-cbface-50", tmp_path, image_size=20), "test").shape == (6, 3, 20, 20)
    paths = [images("bupt-cbface-50", tmp_path, seed=seed).test.pixels.paths for seed in (0, 0, 1)]  # type: ignore[attr-defined]
    assert paths[0] == paths[1] != paths[2]
    (folder / "m.00" / "0.jpg").unlink()
    with pytest.raises(ValueError, match=r"m\.00 has 9 images where the others have 10: BUPT-CBFace-50 is balanced"):
        load("bupt-cbface-50", tmp_path)


def folders(root: Path, counts: dict[str, int], rng: np.random.Generator, size: int = 8) -> dict[str, np.ndarray]:
    return {
        f"{name}/{i}.png": picture(root / name / f"{i}.png", rng.integers(0, 256, (size, size, 3)))
        for name, count in counts.items()
        for i in range(count)
    }


def test_image_folder_with_train_and_test(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    train = folders(tmp_path / "train", {"b": 2, "a": 3}, rng)
    test = folders(tmp_path / "test", {"b": 1}, rng)
    (tmp_path / "train" / "a" / "notes.txt").write_text("no image")
    (tmp_path / "train" / ".hidden").mkdir()
    data = images("image-folder", tmp_path, image_size=8)
    assert data.class_names == ("a", "b")
    assert [label for _, label in data.train] == [0, 0, 0, 1, 1]
    wanted = [train[f"a/{i}.png"] for i in range(3)] + [train[f"b/{i}.png"] for i in range(2)]
    assert np.array_equal(raw(data, "train_unaugmented"), np.stack(wanted).transpose(0, 3, 1, 2))
    assert np.array_equal(raw(data, "test")[0], test["b/0.png"].transpose(2, 0, 1))
    folders(tmp_path / "train", {"c": 1}, rng)
    with pytest.raises(ValueError, match=r"image-folder has no test images of the chosen classes \[0, 2\]"):
        load("image-folder", tmp_path, classes=[0, 2])
    folders(tmp_path / "test", {"d": 1}, rng)
    with pytest.raises(ValueError, match=r"test/d is a class that .*train does not have"):
        load("image-folder", tmp_path)


@pytest.mark.parametrize("name", ["test", "val", "validation"])
def test_image_folder_with_a_test_folder_of_any_usual_name(tmp_path: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    folders(tmp_path / "train", {"a": 3, "b": 2}, rng)
    folders(tmp_path / name, {"a": 1, "b": 1}, rng)
    data = images("image-folder", tmp_path, image_size=8)
    assert data.class_names == ("a", "b") and (len(data.train), len(data.test)) == (5, 2)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_image_folder_split_by_a_share(tmp_path: Path, fraction: float) -> None:
    files = folders(tmp_path, {"a": 10, "b": 2}, np.random.default_rng(0))
    data = images("image-folder", tmp_path, image_size=8, test_fraction=fraction)
    wanted = {0.0: [1, 1], 0.3: [3, 1], 1.0: [9, 1]}[fraction]
    assert np.bincount(data.test.labels).tolist() == wanted
    together = np.concatenate([raw(data, "train_unaugmented"), raw(data, "test")])
    assert sorted(image.tobytes() for image in together.astype(np.uint8)) == sorted(
        file.astype(np.uint8).transpose(2, 0, 1).tobytes() for file in files.values()
    )


def test_image_folder_errors(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"image-folder needs a data root \(--data-root\)"):
        load("image-folder")
    with pytest.raises(ValueError, match=r"there is no folder .*nowhere"):
        load("image-folder", tmp_path / "nowhere")
    folders(tmp_path, {"a": 2}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="a folder of images for each of at least two classes; got 1"):
        load("image-folder", tmp_path)
    folders(tmp_path, {"b": 1}, np.random.default_rng(0))
    with pytest.raises(ValueError, match="b has one image; a class that is split into train and test needs two"):
        load("image-folder", tmp_path)
    (tmp_path / "b" / "0.png").unlink()
    with pytest.raises(ValueError, match="b has no images"):
        load("image-folder", tmp_path)
    with pytest.raises(ValueError, match="image_size must be an integer of at least 1; got 0"):
        load("image-folder", tmp_path, image_size=0)
    with pytest.raises(ValueError, match=r"test_fraction must be a number from 0 to 1; got 1.5"):
        load("image-folder", tmp_path, test_fraction=1.5)


@pytest.mark.parametrize("content", [b"", b"not an image", None])
def test_corrupt_images_are_named_and_left_out_only_where_asked(tmp_path: Path, content: bytes | None) -> None:
    files = folders(tmp_path, {"a": 4, "b": 4}, np.random.default_rng(0))
    broken = tmp_path / "b" / "2.png"
    broken.write_bytes(broken.read_bytes()[:100] if content is None else content)
    data = images("image-folder", tmp_path, image_size=8)
    with pytest.raises(ValueError, match=r"b/2.png is not a whole image .*; the data option skip_corrupt leaves"):
        raw(data, "train_unaugmented"), raw(data, "test")
    data = images("image-folder", tmp_path, image_size=8, skip_corrupt=True)
    assert data.skipped == (str(broken),)
    assert len(raw(data, "train_unaugmented")) + len(raw(data, "test")) == len(files) - 1


def test_corrupt_images_of_the_official_folders(tmp_path: Path) -> None:
    """An interrupted extraction leaves damaged files: an error names them, or they are skipped on request."""
    tiny_imagenet(tmp_path)
    for person in range(2):
        for i in range(5):
            picture(tmp_path / "BUPT-CBFace-50" / f"m.0{person}" / f"{i}.jpg", np.full((94, 70, 3), 20 * i))
    for name, file in {
        "tiny-imagenet": "tiny-imagenet-200/val/images/val_2.JPEG",
        "bupt-cbface-50": "BUPT-CBFace-50/m.01/3.jpg",
    }.items():
        whole = images(name, tmp_path)
        broken = tmp_path / file
        broken.write_bytes(broken.read_bytes()[:200])
        with pytest.raises(ValueError, match=f"{file} is not a whole image"):
            raw(whole, "train_unaugmented"), raw(whole, "test")
        data = images(name, tmp_path, skip_corrupt=True)
        assert data.skipped == (str(broken),)
        assert len(raw(data, "train_unaugmented")) + len(raw(data, "test")) == len(whole.train) + len(whole.test) - 1


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("test", "the test set needs at least one image; got none"),
        ("train", r"every class needs training images; class 0 \(a\) has none, and so have 1 more"),
        ("train/b", r"every class needs training images; class 1 \(b\) has none"),
    ],
)
def test_nothing_is_left_where_all_are_corrupt(tmp_path: Path, part: str, message: str) -> None:
    rng = np.random.default_rng(0)
    folders(tmp_path / "train", {"a": 2, "b": 2}, rng)
    folders(tmp_path / "test", {"a": 1, "b": 1}, rng)
    for path in (tmp_path / part).rglob("*.png"):
        path.write_bytes(b"not an image")
    with pytest.raises(ValueError, match=message):
        load("image-folder", tmp_path, image_size=8, skip_corrupt=True)


def test_missing_data_says_what_to_put_where(tmp_path: Path) -> None:
    for name, wanted in {
        "cifar10": "cifar-10-batches-bin and cifar-10-binary.tar.gz not found in .*download cifar-10-binary.tar.gz",
        "cifar100": "cifar-100-binary and cifar-100-binary.tar.gz not found in .*cs.toronto.edu",
        "tiny-imagenet": "tiny-imagenet-200 not found in .*tiny-imagenet-200.zip and extract it there",
        "bupt-cbface-50": "BUPT-CBFace-50 not found in .*one folder per identity",
    }.items():
        with pytest.raises(ValueError, match=wanted):
            load(name, tmp_path)
    (tmp_path / "BUPT-CBFace-50").mkdir()
    with pytest.raises(ValueError, match="must have a folder for each identity; got 0"):
        load("bupt-cbface-50", tmp_path)


# --- digits ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [name for name in OFFLINE if name != "text"])
def test_offline_sets_are_as_registered(name: str) -> None:
    options = {"train_per_class": 100, "test_per_class": 1} if name == "digit-pairs-32" else {}
    data, entry = images(name, **options), DATASETS[name]
    assert (data.K, data.image_size, data.channels) == (entry.K, entry.image_size, entry.channels)  # type: ignore[union-attr]
    assert data.augmentation == entry.augmentation  # type: ignore[union-attr]
    pixels, _ = data.train_unaugmented.batch(torch.arange(len(data.train)))
    assert pixels.dtype == torch.float32
    assert pixels.mean(dim=(0, 2, 3)).abs().max() < 0.04
    assert (pixels.std(dim=(0, 2, 3)) - 1).abs().max() < 0.04


def test_digits_are_those_of_scikit_learn_in_their_order() -> None:
    data, truth = images("digits"), load_digits()
    pixels = np.concatenate([raw(data, "train_unaugmented"), raw(data, "test")])[:, 0]
    assert np.array_equal(np.rint(pixels / 255 * 16), truth.images)
    assert torch.equal(torch.cat([data.train.labels, data.test.labels]), torch.from_numpy(truth.target))


def test_the_split_is_where_a_form_begins() -> None:
    """The form begins with 0 to 9 three times over, and again with the first test image."""
    target = load_digits().target
    assert np.array_equal(target[:60], target[1287 : 1287 + 60])


@pytest.mark.parametrize(("name", "places"), [("digit-pairs", 2), ("digit-triples", 3)])
def test_every_part_of_a_number_is_a_source_image_of_its_digit_and_split(name: str, places: int) -> None:
    truth = load_digits()
    data = images(name, train_per_class=3, test_per_class=2)
    for split, first, last, count in (("train_unaugmented", 0, 1287, 3), ("test", 1287, 1797, 2)):
        digit_of = {
            np.rint(image / 16 * 255).astype(int).tobytes(): digit
            for image, digit in zip(truth.images[first:last], truth.target[first:last], strict=True)
        }
        pixels, labels = raw(data, split)[:, 0], getattr(data, split).labels.numpy()
        for image, label in zip(pixels, labels, strict=True):
            parts = [image[:, 8 * i : 8 * i + 8].tobytes() for i in range(places)]
            assert "".join(str(digit_of[part]) for part in parts) == data.class_names[label]
        assert np.array_equal(np.bincount(labels), np.full(10**places, count))
        assert len({image.tobytes() for image in pixels}) == len(pixels)


def test_pairs_share_digits_and_similarity_says_so() -> None:
    data = images("digit-pairs", **PAIRS)
    wanted = [[sum(a == b for a, b in zip(i, j, strict=True)) / 2 for j in data.class_names] for i in data.class_names]
    assert np.array_equal(data.similarity, wanted)  # type: ignore[arg-type]


def doubled(image: np.ndarray) -> np.ndarray:
    """Twice the rows, each a quarter of a row from an old one, linearly; the ends are extrapolated."""
    before, after = np.vstack([image[:1], image[:-1]]), np.vstack([image[1:], image[-1:]])
    return np.stack([0.75 * image + 0.25 * before, 0.75 * image + 0.25 * after], axis=1).reshape(-1, image.shape[1])


def test_colour_pairs_are_the_grey_pairs_in_two_colours() -> None:
    colour, grey = raw(images("digit-pairs-32", **PAIRS), "test"), raw(images("digit-pairs", **PAIRS), "test")
    for image, small in zip(colour, grey, strict=True):
        low, high = image.min(axis=(1, 2)), image.max(axis=(1, 2))
        ink = (image - low[:, None, None]) / (high - low)[:, None, None]
        assert np.abs(ink - ink.mean(axis=0)).max() < 0.04  # one shape, whatever the colours
        large = doubled(doubled(small[0]).T).T
        wanted = (large - large.min()) / np.ptp(large)
        misses = [np.abs(ink.mean(axis=0)[top : top + 16] - wanted).max() for top in range(17)]
        assert min(misses) < 0.04  # bytes of as few as 51 levels between the colours
        assert ink.mean() * 32 == pytest.approx(wanted.mean() * 16, abs=0.02 * 32)  # and nothing else on the square


def test_groups_keep_the_images_and_change_their_classes() -> None:
    plain = images("digit-triples", train_per_class=2, test_per_class=1)
    leading = images("digit-triples", train_per_class=2, test_per_class=1, groups="leading")
    random = images("digit-triples", train_per_class=2, test_per_class=1, groups="random")
    assert plain.K == 1000
    assert leading.K == random.K == 100
    assert leading.class_names[7] == "07-"
    numbers = [plain.class_names[label] for label in plain.train.labels]
    for i, number in enumerate(numbers):
        assert leading.class_names[leading.train.labels[i]] == number[:2] + "-"
        assert number in random.class_names[random.train.labels[i]].split()
    assert torch.equal(plain.train.pixels[torch.arange(50)], random.train.pixels[torch.arange(50)])
    assert set(random.counts.tolist()) == {20}
    members = [name.split() for name in random.class_names]
    assert sorted(number for ten in members for number in ten) == list(plain.class_names)
    common = [
        [np.mean([a == b for x in first for y in second for a, b in zip(x, y, strict=True)]) for second in members]
        for first in members[:4]
    ]
    assert random.similarity is not None
    assert leading.similarity is not None
    off = ~np.eye(100, dtype=bool)
    assert np.allclose(random.similarity[:4][off[:4]], np.array(common)[off[:4]])
    assert leading.similarity[12, 17] == pytest.approx((1 + 0 + 0.1) / 3)
    # in the control nothing is left of the spread of similarities
    assert random.similarity[off].std() < leading.similarity[off].std() / 4


def test_too_many_combinations_are_refused() -> None:
    counts = np.bincount(load_digits().target[1287:])
    most = counts[0] ** 2
    with pytest.raises(ValueError, match=rf"test_per_class is at most {most}, the combinations of .*\(0, 0\)"):
        load("digit-pairs", train_per_class=1, test_per_class=int(counts.max() ** 2))
    with pytest.raises(ValueError, match="train_per_class must be an integer of at least 1; got 0"):
        load("digit-pairs", train_per_class=0)
    with pytest.raises(ValueError, match="groups must be one of 'leading', 'random'; got 'odd'"):
        load("digit-pairs", groups="odd")


# --- labels ---------------------------------------------------------------------------------------------------

LABELS = st.tuples(st.integers(2, 6), st.integers(1, 60), st.integers(0, 2**32)).map(
    lambda t: (t[0], np.random.default_rng(t[2]).integers(0, t[0], t[1]), t[2])
)


@given(case=LABELS, fraction=st.floats(0, 1))
def test_noise_changes_exactly_its_share(case: tuple[int, np.ndarray, int], fraction: float) -> None:
    K, labels, seed = case
    out = noisy(labels, fraction, K, seed)
    assert (out != labels).sum() == math.floor(fraction * len(labels) + 0.5)
    assert 0 <= out.min() <= out.max() < K
    assert np.array_equal(out, noisy(labels, fraction, K, seed))


def test_noise_is_uniform_over_the_other_classes() -> None:
    out = noisy(np.full(30_000, 1), 1.0, 4, seed=0)
    counts = np.bincount(out, minlength=4)
    assert counts[1] == 0
    assert np.abs(counts[[0, 2, 3]] - 10_000).max() < 6 * math.sqrt(30_000 * 2 / 9)


@given(case=LABELS)
def test_permuted_labels_are_the_same_labels(case: tuple[int, np.ndarray, int]) -> None:
    K, labels, seed = case
    out = permuted(labels, seed, "train")
    assert np.array_equal(np.bincount(out, minlength=K), np.bincount(labels, minlength=K))


@given(case=LABELS, data=st.data())
def test_chosen_classes_are_renumbered_in_their_order(case: tuple[int, np.ndarray, int], data: st.DataObject) -> None:
    K, labels, _ = case
    chosen = data.draw(st.permutations(range(K)))[: data.draw(st.integers(2, K))]
    rows, out = of_classes(labels, np.array(chosen))
    assert rows.tolist() == [i for i, label in enumerate(labels) if label in chosen]
    assert [chosen[k] for k in out] == labels[rows].tolist()


@given(case=LABELS, data=st.data())
def test_few_shots_keep_what_is_asked_and_the_rest(case: tuple[int, np.ndarray, int], data: st.DataObject) -> None:
    K, labels, seed = case
    counts = np.bincount(labels, minlength=K)
    few = {k: data.draw(st.integers(1, int(counts[k]))) for k in range(K) if counts[k] and data.draw(st.booleans())}
    rows = few_shot_rows(labels, few, K, seed)
    assert np.all(np.diff(rows) > 0)
    assert np.bincount(labels[rows], minlength=K).tolist() == [few.get(k, int(counts[k])) for k in range(K)]


def test_label_options_of_load() -> None:
    clean = images("digit-pairs", **PAIRS)
    noise = images("digit-pairs", label_noise=0.25, **PAIRS)
    assert torch.equal(noise.train.rows, clean.train.rows)
    assert (noise.train.labels != clean.train.labels).sum() == 100
    assert torch.equal(noise.train.labels, noise.train_unaugmented.labels)
    assert torch.equal(noise.test.labels, clean.test.labels)

    part = images("digit-pairs", classes=range(90, 100), few_shot={0: 1, 9: 2}, **PAIRS)
    assert part.class_names == clean.class_names[90:]
    assert part.counts.tolist() == [1, *[4] * 8, 2]
    assert part.similarity is not None
    assert clean.similarity is not None
    assert np.array_equal(part.similarity, clean.similarity[90:, 90:])
    assert np.array_equal(raw(part, "test"), raw(clean, "test")[clean.test.labels >= 90])

    control = images("digit-pairs", relabel="images", **PAIRS)
    assert control.similarity is None
    assert torch.equal(control.counts, clean.counts)
    assert torch.equal(control.test.labels.bincount(), clean.test.labels.bincount())
    # a random permutation of 400 or 200 labels of 100 classes leaves four or two where they were, on average
    assert (control.train.labels == clean.train.labels).sum() < 30
    assert (control.test.labels == clean.test.labels).sum() < 30


@pytest.mark.parametrize("name", [name for name in OFFLINE if name not in ("text", "digits")])
def test_one_seed_gives_one_data_set(name: str) -> None:
    options = {**PAIRS, "label_noise": 0.3, "relabel": "images", "shift": "gaussian-noise:0.1"}
    first, again, other = (images(name, **options, seed=seed) for seed in (1, 1, 2))
    for split in ("train_unaugmented", "test"):
        batches = [getattr(data, split).batch(torch.arange(0, 200, 9)) for data in (first, again, other)]
        assert torch.equal(batches[0][0], batches[1][0])
        assert torch.equal(getattr(first, split).labels, getattr(again, split).labels)
        assert not torch.equal(batches[0][0], batches[2][0])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {}, "data set must be one of 'cifar10', 'cifar100', .*; got 'mnist'"),
        (
            "digits",
            {"train_per_class": 3},
            "digits has no option 'train_per_class'; it has augmentation, classes, few_sho",
        ),
        ("digit-pairs", {"vocabulary": 512}, "has no option 'vocabulary'; .*test_per_class, train_per_class"),
        ("text", {"label_noise": 0.1}, "text has no option 'label_noise'; it has context, seed, size"),
        ("digits", {"classes": [3]}, r"classes must be at least two, none twice; got \[3\]"),
        ("digits", {"classes": [3, 4, 3]}, r"none twice; got \[3, 4, 3\]"),
        ("digits", {"classes": [3, 10]}, r"classes must be from 0 to 9 \(K = 10 classes\); got 10"),
        ("digits", {"classes": [3, -1]}, "each of classes must be an integer of at least 0; got -1"),
        ("digits", {"classes": 3}, "classes must be a sequence of integers; got 3"),
        ("digits", {"few_shot": 5}, "few_shot must map classes to numbers of images; got 5"),
        ("digits", {"few_shot": {10: 1}}, r"few_shot takes classes from 0 to 9 \(K = 10 classes\); got 10"),
        ("digits", {"few_shot": {1: 0}}, "few_shot of class 1 must be an integer of at least 1; got 0"),
        ("digits", {"few_shot": {1: 1000}}, "few_shot asks for 1000 images of class 1, which has 1"),
        ("digits", {"label_noise": 1.2}, "label_noise must be a number from 0 to 1; got 1.2"),
        ("digits", {"label_noise": True}, "label_noise must be a number from 0 to 1; got True"),
        ("digits", {"relabel": "classes"}, "relabel must be 'images' or None; got 'classes'"),
        (
            "digits",
            {"augmentation": "strong"},
            "augmentation must be 'standard', None or an Augmentation; got 'strong'",
        ),
        ("digits", {"seed": -1}, "seed must be an integer of at least 0; got -1"),
        ("digits", {"shift": "blur"}, "shift must be one of 'translation', 'gaussian-noise', 'contrast'; got 'blur'"),
        ("digits", {"shift": "contrast:much"}, "a shift is written kind:severity, such as .*; got 'contrast:much'"),
        ("digits", {"shift": "contrast:-1"}, "severity of a shift must be a finite number of at least 0; got -1"),
        ("digits", {"shift": "gaussian-noise:inf"}, "must be a finite number of at least 0; got inf"),
        ("digits", {"shift": "contrast:2"}, "the severity of contrast is a fraction from 0 to 1; got 2"),
        ("digits", {"shift": "translation:1.5"}, "a translation is by whole pixels; got 1.5"),
        ("digits", {"shift": 3}, "shift must be a Shift, a string such as 'contrast:0.5', or None; got 3"),
    ],
)
def test_options_that_are_refused(name: str, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load(name, **options)


# --- augmentation and shifts ----------------------------------------------------------------------------------

IMAGES = st.tuples(
    st.integers(1, 4), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32)
).map(lambda t: torch.from_numpy(np.random.default_rng(t[4]).random(t[:4], dtype=np.float32)))


@given(pixels=IMAGES, data=st.data())
def test_a_move_by_whole_pixels_is_a_crop_of_the_padded_image(pixels: torch.Tensor, data: st.DataObject) -> None:
    N, _, height, width = pixels.shape
    padded = np.pad(pixels.numpy(), ((0, 0), (0, 0), (12, 12), (12, 12)))
    offsets = [data.draw(st.tuples(st.integers(-12, 12), st.integers(-12, 12))) for _ in range(N)]
    flipped = torch.tensor([data.draw(st.booleans()) for _ in range(N)])
    out = moved(pixels, torch.tensor(offsets, dtype=torch.float32), flipped=flipped).numpy()
    for i, (x, y) in enumerate(offsets):
        # the crop whose columns are then mirrored
        crop = padded[i, :, 12 + y : 12 + y + height, 12 + x : 12 + x + width]
        assert np.array_equal(out[i], crop[:, :, ::-1] if flipped[i] else crop)


@given(pixels=IMAGES, turns=st.integers(-3, 3))
def test_quarter_turns_lose_nothing(pixels: torch.Tensor, turns: int) -> None:
    N, _, height, width = pixels.shape
    side = min(height, width)
    square = pixels[:, :, :side, :side]
    out = moved(square, torch.zeros(N, 2), torch.full((N,), turns * math.pi / 2))
    assert torch.equal(out, torch.rot90(square, turns, dims=(2, 3)))


@given(pixels=IMAGES, degrees=st.floats(-15, 15))
def test_a_rotation_samples_the_nearest_pixel(pixels: torch.Tensor, degrees: float) -> None:
    N, _, height, width = pixels.shape
    out = moved(pixels, torch.zeros(N, 2), torch.full((N,), math.radians(degrees)))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    for row in range(height):
        for column in range(width):
            x, y = column - (width - 1) / 2, row - (height - 1) / 2
            source_x, source_y = cos * x - sin * y + (width - 1) / 2, sin * x + cos * y + (height - 1) / 2
            if min(abs(source_x % 1 - 0.5), abs(source_y % 1 - 0.5)) < 1e-4:
                continue  # between two pixels either will do
            i, j = round(source_y), round(source_x)
            inside = 0 <= i < height and 0 <= j < width
            wanted = pixels[:, :, i, j] if inside else torch.zeros_like(pixels[:, :, 0, 0])
            assert torch.equal(out[:, :, row, column], wanted)


def test_the_standard_augmentation_crops_everywhere_mirrors_half_and_turns() -> None:
    torch.manual_seed(0)
    point = torch.zeros(4000, 1, 9, 9)
    point[:, 0, 4, 4] = 1
    places = np.argwhere(Augmentation(padding=2)(point).numpy())[:, 2:]
    counts = np.unique(places, axis=0, return_counts=True)[1]
    assert len(counts) == 25
    assert np.abs(counts - 160).max() < 6 * math.sqrt(160)
    left = torch.zeros(4000, 1, 2, 2)
    left[:, 0, :, 0] = 1
    mirrored = Augmentation(flip=True)(left)[:, 0, 0, 1].sum()
    assert abs(mirrored - 2000) < 6 * math.sqrt(1000)
    far = torch.zeros(500, 1, 65, 65)
    far[:, 0, 32 - 1 : 32 + 2, 60:63] = 1
    rows = torch.stack([image[0].sum(dim=1).argmax() for image in Augmentation(rotation=15)(far)]) - 32
    assert rows.abs().max() <= 30 * math.sin(math.radians(15)) + 3
    assert rows.min() < -6
    assert rows.max() > 6


def test_shifts_do_not_depend_on_the_batch() -> None:
    for shift in ("translation", "gaussian-noise", "contrast"):
        data = images("digit-pairs", shift=shift, **PAIRS)
        together, _ = data.test.batch(torch.arange(40))
        order = torch.randperm(40, generator=torch.Generator().manual_seed(0))
        assert torch.equal(data.test.batch(order)[0], together[order])
        assert torch.equal(data.test[11][0], together[11])
        assert not torch.equal(together, images("digit-pairs", **PAIRS).test.batch(torch.arange(40))[0])
        assert torch.equal(
            data.train_unaugmented.batch([0, 1])[0], images("digit-pairs", **PAIRS).train_unaugmented.batch([0, 1])[0]
        )


@pytest.mark.parametrize("size", [0, 1, 2])
def test_translation_is_by_its_severity_in_every_direction(size: int) -> None:
    point = torch.zeros(800, 1, 9, 11)
    point[:, 0, 4, 5] = 1
    out = Shift("translation", size, seed=3)(point, torch.arange(800))
    offsets = np.argwhere(out.numpy())[:, 2:] - [4, 5]
    assert np.all(np.abs(offsets).max(axis=1) == size)
    assert len(np.unique(offsets, axis=0)) == max(8 * size, 1)


def test_noise_has_its_standard_deviation_and_is_clipped() -> None:
    grey = torch.full((50, 3, 20, 20), 0.5)
    out = Shift("gaussian-noise", 0.1)(grey, torch.arange(50))
    N = out.numel()
    assert abs(float(out.mean()) - 0.5) < 6 * 0.1 / math.sqrt(N)
    assert abs(float(out.std()) / 0.1 - 1) < 6 / math.sqrt(2 * N)
    wide = Shift("gaussian-noise", 3.0)(grey, torch.arange(50))
    assert (wide.min(), wide.max()) == (0, 1)


@given(pixels=IMAGES, severity=st.floats(0, 1))
def test_contrast_keeps_the_mean(pixels: torch.Tensor, severity: float) -> None:
    out = Shift("contrast", severity)(pixels, torch.arange(len(pixels))).numpy().astype(float)
    mean = pixels.numpy().astype(float).mean(axis=(1, 2, 3), keepdims=True)
    assert np.allclose(out, severity * mean + (1 - severity) * pixels.numpy(), atol=1e-6)


# --- as PyTorch reads them ------------------------------------------------------------------------------------


def test_data_loader() -> None:
    data = images("digit-pairs-32", **PAIRS)

    def epoch() -> list[torch.Tensor]:
        torch.manual_seed(5)
        loader = DataLoader(data.train, batch_size=150, shuffle=True)
        return [part for batch in loader for part in batch]

    batches = epoch()
    assert [tuple(part.shape) for part in batches[:2]] == [(150, 3, 32, 32), (150,)]
    assert batches[1].dtype == torch.int64
    assert len(batches) == 6
    assert all(torch.equal(a, b) for a, b in zip(batches, epoch(), strict=True))
    plain = DataLoader(data.train_unaugmented, batch_size=400)
    (pixels, labels), *_ = plain
    assert torch.equal(labels, data.train.labels)
    assert torch.equal(pixels[7], data.train_unaugmented[7][0])
    assert isinstance(data.train_unaugmented[7][1], int)
    assert torch.equal(images("digit-pairs-32", augmentation=None, **PAIRS).train[7][0], pixels[7])


# --- text -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve files, each with a word of its own in it two hundred times, and words in common."""
    root = tmp_path_factory.mktemp("library")
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    common = ["".join(rng.choice(letters, 6)) for _ in range(300)]
    for i in range(12):
        own = f"X{''.join(rng.choice(letters, 6))}X"
        words = [str(rng.choice(common)) for _ in range(1500)] + [own] * 200
        (root / f"folder{i % 3}").mkdir(exist_ok=True)
        (root / f"folder{i % 3}" / f"file{i}.txt").write_text(own + " " + " ".join(rng.permutation(words)))
    return root


def text(root: Path | None, **options: Any) -> TextData:
    data = load("text", root, **options)
    assert isinstance(data, TextData)
    return data


def test_text_is_split_by_files_and_its_tokens_are_of_the_training_files(library: Path) -> None:
    data = text(library, suffix=".txt", vocabulary=1024, context=16, test_fraction=0.2)
    assert data.K == 1024 == len(set(data.class_names))
    parts = {"train": data.train, "test": data.test}
    decoded = {split: data.decode(part.tokens.tolist()) for split, part in parts.items()}
    files = {path.read_text() for path in library.rglob("*.txt")}
    tested = {content for content in files if content in decoded["test"]}
    trained = {content for content in files if content in decoded["train"]}
    assert tested | trained == files
    assert not tested & trained
    assert sum(map(len, files)) == len(decoded["train"]) + len(decoded["test"])
    assert 0.2 <= len(decoded["test"]) / sum(map(len, files)) < 0.2 + 1 / 11
    for own in (content.split()[0] for content in trained):
        assert f"Ġ{own}" in data.class_names
    for own in (content.split()[0] for content in tested):
        assert f"Ġ{own}" not in data.class_names
    assert data.source.startswith("12 files of library")


def test_contexts_are_consecutive_and_shifted_by_one(library: Path) -> None:
    data = text(library, suffix=".txt", vocabulary=512, context=16)
    assert data.context == 16
    assert data.train_unaugmented is data.train
    tokens = data.train.tokens
    pairs = [data.train[i] for i in range(len(data.train))]
    assert len(pairs) == (len(tokens) - 1) // 16
    assert torch.equal(torch.cat([a for a, _ in pairs]), tokens[: 16 * len(pairs)])
    assert torch.equal(torch.cat([b for _, b in pairs]), tokens[1 : 16 * len(pairs) + 1])
    assert torch.equal(torch.cat([b for _, b in pairs]), data.train.labels)
    assert data.counts.sum() == 16 * len(pairs)
    assert torch.equal(data.counts, torch.from_numpy(np.bincount(data.train.labels, minlength=512)))
    with pytest.raises(IndexError, match=f"contexts are numbered from 0 to {len(pairs) - 1}; got {len(pairs)}"):
        data.train[len(pairs)]
    (inputs, targets), *_ = DataLoader(data.train, batch_size=4)
    assert inputs.shape == targets.shape == (4, 16)


def test_text_is_the_same_for_one_seed_and_reaches_its_size(library: Path) -> None:
    options = {"suffix": ".txt", "vocabulary": 512, "size": 60_000}
    first, again, other = (text(library, **options, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.train.tokens, again.train.tokens)
    assert not torch.equal(first.train.tokens[:500], other.train.tokens[:500])
    length = sum(len(first.decode(part.tokens.tolist())) for part in (first.train, first.test))
    longest = max(len(path.read_text()) for path in library.rglob("*.txt"))
    assert 60_000 <= length < 60_000 + longest


def test_bytes_that_training_text_does_not_have_are_no_tokens(library: Path, tmp_path: Path) -> None:
    for i, path in enumerate(sorted(library.rglob("*.txt"))):
        (tmp_path / f"{i}.txt").write_bytes(path.read_bytes() + (b" caf\xc3\xa9 \xff" if i == 0 else b""))
    seeds = {}
    for seed in range(40):  # one of twelve files is the test file: find a seed for either case
        data = text(tmp_path, suffix=".txt", vocabulary=512, context=8, test_fraction=0.01, seed=seed)
        seeds["caf" in data.decode(data.test.tokens.tolist())] = data
        if len(seeds) == 2:
            break
    assert "é" in seeds[False].decode(seeds[False].train.tokens.tolist())
    assert "�" in seeds[False].decode(seeds[False].train.tokens.tolist())
    assert "é" not in seeds[True].decode(seeds[True].test.tokens.tolist())


def test_text_of_the_standard_library_by_default() -> None:
    data = text(None, size=300_000, vocabulary=512)
    assert "standard library of Python" in data.source
    assert {"Ġself", "def"} <= set(data.class_names) | {"Ġdef"}
    assert "Ġself" in data.class_names


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"vocabulary": 511}, "vocabulary must be an integer of at least 512; got 511"),
        ({"vocabulary": 8193}, "vocabulary must be at most 8192; got 8193"),
        ({"context": 0}, "context must be an integer of at least 1; got 0"),
        ({"size": 0}, "size must be an integer of at least 1; got 0"),
        ({"test_fraction": -0.1}, "test_fraction must be a number from 0 to 1; got -0.1"),
        ({"suffix": ".rs"}, "text needs at least two files that end in '.rs' in .*; got 0"),
        ({"vocabulary": 8192}, "the training text of .* characters gives .* tokens; vocabulary asks for 8192"),
        ({"context": 10**6}, "the training text has .* tokens; a context of 1000000 needs 1000001"),
    ],
)
def test_text_errors(library: Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load("text", library, **{"suffix": ".txt", "vocabulary": 512, **options})


# --- the registry ---------------------------------------------------------------------------------------------


def test_every_entry_describes_itself_in_a_line() -> None:
    assert list(DATASETS) == [entry.name for entry in DATASETS.values()]
    for name in DATASETS:
        assert describe(name).startswith(f"{name}: ")
        assert "\n" not in describe(name)
    assert describe("cifar100").endswith("(K = 100, 32 x 32 colour)")
    assert describe("text").endswith("(K = 1024)")
    with pytest.raises(ValueError, match="got 'cifar'"):
        describe("cifar")


def test_every_option_is_documented() -> None:
    text = (Path(__file__).parents[2] / "docs" / "experiments.md").read_text()
    for entry in DATASETS.values():
        for parameter in inspect.signature(entry.read).parameters.values():
            if parameter.kind == inspect.Parameter.KEYWORD_ONLY:
                assert f"`{parameter.name}`" in text
    for parameter in inspect.signature(DATASETS["digits"].load).parameters.values():
        if parameter.kind == inspect.Parameter.KEYWORD_ONLY:
            assert f"`{parameter.name}`" in text


def test_an_option_by_its_old_name_still_works(tmp_path: Path) -> None:
    for folder in "ab":
        for i in range(5):
            (tmp_path / folder).mkdir(exist_ok=True)
            Image.fromarray(np.full((8, 8, 3), i, dtype=np.uint8)).save(tmp_path / folder / f"{i}.png")
    with pytest.warns(DeprecationWarning, match="test_share of load is now test_fraction"):
        old = load("image-folder", tmp_path, image_size=8, test_share=0.4)
    assert len(old.test) == len(load("image-folder", tmp_path, image_size=8, test_fraction=0.4).test) == 4
