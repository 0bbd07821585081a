"""Classifiers from files, their closest pairs, and Mantel's test, against definitions written out here."""

from __future__ import annotations

import itertools
import json
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from scipy.stats import kstest, spearmanr

import softmaxcode as sc
from experiments import checkpoints, class_similarity
from experiments.checkpoints import compare_file, read_classifier
from experiments.class_similarity import mantel, nearest_pairs
from softmaxcode.storage import arrays

SEEDS = st.integers(0, 2**32 - 1)
W = torch.randn(20, 8, generator=torch.Generator().manual_seed(3))


def written(folder: Path, suffix: str, tensors: dict[str, torch.Tensor]) -> Path:
    path = folder / f"file{suffix}"
    if suffix == ".safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path)
    return path


# Reading


@pytest.mark.parametrize("suffix", [".safetensors", ".pt", ".pth", ".ckpt", ".PT"])
def test_the_only_matrix_is_taken(tmp_path: Path, suffix: str) -> None:
    others = {
        "conv.weight": torch.randn(4, 3, 3, 3),
        "fc.bias": torch.randn(20),
        "counts": torch.ones(5, 5, dtype=torch.int64),
        "row": torch.randn(1, 8),
    }
    path = written(tmp_path, suffix, others | {"fc.weight": W})
    assert torch.equal(read_classifier(path), W)
    assert torch.equal(read_classifier(path, "fc.weight"), W)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_half_precision_becomes_float32(tmp_path: Path, suffix: str, dtype: torch.dtype) -> None:
    found = read_classifier(written(tmp_path, suffix, {"embeddings": W.to(dtype)}))
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(found, W.to(dtype).to(found.dtype))


def test_tensors_without_their_numbers_are_refused(tmp_path: Path) -> None:
    for tensor, message in (
        (torch.empty(30, 6, device="meta"), "without its numbers"),
        (W.to_sparse(), "not stored in full"),
        (W.to_sparse_csr(), "not stored in full"),
    ):
        with pytest.raises(ValueError, match=rf"cannot read .*file\.pt: fc\.weight is {message}"):
            read_classifier(written(tmp_path, ".pt", {"fc.weight": tensor}))


def test_dictionaries_within_each_other(tmp_path: Path) -> None:
    """As Lightning and training scripts save them: the optimiser's moments also have the classifier's shape."""
    net = torch.nn.Sequential(OrderedDict(features=torch.nn.Conv2d(1, 8, 3), fc=torch.nn.Linear(8, 20)))
    optimizer = torch.optim.AdamW(net.parameters())
    net.fc(torch.randn(2, 8)).sum().backward()
    optimizer.step()
    lightning = {"epoch": 3, "state_dict": net.state_dict(), "optimizer_states": [optimizer.state_dict()], "none": None}
    plain = {"model": {"net": net.state_dict()}, "optimizer": optimizer.state_dict()}
    for stored, name in ((lightning, "state_dict.fc.weight"), (plain, "model.net.fc.weight")):
        path = tmp_path / "net.ckpt"
        torch.save(stored, path)
        for key in (None, name, "fc.weight"):
            found = read_classifier(path, key)
            assert torch.equal(found, net.fc.weight.detach())
            assert not found.requires_grad


def test_a_bare_tensor_or_parameter(tmp_path: Path) -> None:
    for stored in (W, torch.nn.Parameter(W)):
        torch.save(stored, tmp_path / "W.pt")
        assert torch.equal(read_classifier(tmp_path / "W.pt"), W)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4", ">f8", np.longdouble])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpy_arrays(tmp_path: Path, dtype: Any, order: Any) -> None:
    array = np.asarray(W.numpy().astype(dtype), order=order)
    np.save(tmp_path / "W.npy", array)
    np.testing.assert_array_equal(read_classifier(tmp_path / "W.npy"), array.astype(np.float64))


BERT = {
    "encoder.layer.0.attention.self.query.weight": (8, 8),
    "encoder.layer.0.mlp.fc1.weight": (32, 8),
    "embeddings.position_embeddings.weight": (4, 8),
    "embeddings.word_embeddings.weight": (20, 8),
    "cls.bias": (20,),
}


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_candidates_are_listed_the_likely_ones_first(tmp_path: Path, suffix: str) -> None:
    path = written(tmp_path, suffix, {name: torch.randn(shape) for name, shape in BERT.items()})
    with pytest.raises(ValueError, match="a key is needed; its 5 tensors have 4 floating-point matrices") as error:
        read_classifier(path)
    order = [
        "embeddings.word_embeddings.weight (20, 8)",
        "embeddings.position_embeddings.weight (4, 8)",
        "encoder.layer.0.mlp.fc1.weight (32, 8)",
        "encoder.layer.0.attention.self.query.weight (8, 8)",
    ]
    assert str(error.value).endswith(": " + ", ".join(order))
    assert read_classifier(path, "word_embeddings.weight").shape == (20, 8)


def test_long_lists_of_candidates_are_cut(tmp_path: Path) -> None:
    path = written(tmp_path, ".pt", {f"layer.{i}.weight": W for i in range(30)} | {"net.head.weight": W})
    with pytest.raises(ValueError, match=r"net\.head\.weight \(20, 8\), .* and 21 more$"):
        read_classifier(path)


def test_keys_that_name_nothing_or_several(tmp_path: Path) -> None:
    path = written(tmp_path, ".pt", {"student.fc.weight": W, "teacher.fc.weight": W, "bias": torch.randn(20)})
    with pytest.raises(ValueError, match=r"the key 'fc\.bias' is that of none; .*student\.fc\.weight \(20, 8\)"):
        read_classifier(path, "fc.bias")
    with pytest.raises(ValueError, match=r"'c\.weight' is that of none"):  # parts of a name are between dots
        read_classifier(path, "c.weight")
    with pytest.raises(ValueError, match=r"the key 'fc\.weight' is that of 2"):
        read_classifier(path, "fc.weight")
    with pytest.raises(ValueError, match=r"bias must have shape \(K, d\); got \(20,\)"):
        read_classifier(path, "bias")
    np.save(tmp_path / "W.npy", W.numpy())
    with pytest.raises(ValueError, match=r"'fc' is that of none; .*: one without a name \(20, 8\)"):
        read_classifier(tmp_path / "W.npy", "fc")


def test_arrays_of_an_archive(tmp_path: Path) -> None:
    """As for a code that the package saves."""
    code = sc.best_known(12, 3)
    code.save(tmp_path / "code.npz")
    np.testing.assert_array_equal(read_classifier(tmp_path / "code.npz").numpy(), code.W)
    np.savez(tmp_path / "two.npz", first=W.numpy(), second=2 * W.numpy(), names=np.array(["a", "b"]))
    assert torch.equal(read_classifier(tmp_path / "two.npz", "second"), 2 * W)
    with pytest.raises(ValueError, match=r"its 2 tensors have 2 .*: first \(20, 8\), second \(20, 8\)"):
        read_classifier(tmp_path / "two.npz")
    np.savez(tmp_path / "object.npz", W=np.array([{}, {}]))
    with pytest.raises(ValueError, match="it holds Python objects"):
        read_classifier(tmp_path / "object.npz")


class _Opaque:
    """An object that only unpickling could restore, which may run any code."""


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    def refused(name: str, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            read_classifier(tmp_path / name)

    refused("W.bin", "the suffix must be one of .safetensors, .pt, .pth, .ckpt, .npy")
    refused("missing.pt", "there is no such file")
    messages = {".safetensors": "not a safetensors file", ".pt": "damaged", ".npy": "not a plain NumPy array"}
    for suffix, message in messages.items():
        (tmp_path / f"garbage{suffix}").write_bytes(b"garbage" * 100)
        refused(f"garbage{suffix}", message)
        (tmp_path / f"empty{suffix}").write_bytes(b"")
        refused(f"empty{suffix}", message)
    for suffix in (".safetensors", ".pt"):
        path = written(tmp_path, suffix, {"fc.weight": W})
        path.write_bytes(path.read_bytes()[:-200])
        refused(path.name, "not a safetensors file|damaged")
    np.save(tmp_path / "W.npy", W.numpy())
    (tmp_path / "W.npy").write_bytes((tmp_path / "W.npy").read_bytes()[:-8])
    refused("W.npy", "or truncated")

    torch.save({"fc.weight": W, "config": _Opaque()}, tmp_path / "opaque.pt")
    refused("opaque.pt", "no code of a file is ever run")
    np.save(tmp_path / "object.npy", np.array([{}, {}]))
    refused("object.npy", "it holds Python objects")
    np.save(tmp_path / "text.npy", np.array([["1", "2"], ["3", "4"]]))
    refused("text.npy", "no floating-point matrix")
    np.save(tmp_path / "integers.npy", np.eye(3, dtype=int))
    refused("integers.npy", r"no floating-point matrix of two rows or more; its 1 tensors have the shapes \(.*\)$")
    torch.save({"epoch": 5}, tmp_path / "nothing.pt")
    refused("nothing.pt", "no floating-point matrix of two rows or more$")
    broken = W.clone()
    broken[7, 1] = torch.nan
    refused(written(tmp_path, ".pt", {"fc.weight": broken}).name, r"fc.weight must be finite; row 7")


def test_tensors_that_a_file_does_not_hold_in_full(tmp_path: Path) -> None:
    def refused(tensor: torch.Tensor, message: str) -> None:
        torch.save({"fc.weight": tensor}, tmp_path / "W.pt")
        with pytest.raises(ValueError, match=message):
            read_classifier(tmp_path / "W.pt")

    refused(torch.ones(1, 3).expand(10**9, 3), r"fc.weight is of shape \(1000000000, 3\), with fewer numbers than that")
    refused(torch.ones(5, 3, device="meta"), "without its numbers")
    refused(torch.eye(3).to_sparse(), "not stored in full")
    torch.save({"fc.weight": torch._neg_view(W)}, tmp_path / "W.pt")
    assert torch.equal(read_classifier(tmp_path / "W.pt"), -W)


@pytest.mark.parametrize("dtype", ["F4", "F8_E8M0", "U128", "F65"])
def test_safetensors_of_types_that_pytorch_lacks(tmp_path: Path, dtype: str) -> None:
    header = json.dumps({"fc.weight": {"dtype": dtype, "shape": [6, 4], "data_offsets": [0, 12]}}).encode()
    (tmp_path / "W.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(12))
    with pytest.raises(ValueError, match=r"cannot (read|use) .*W.safetensors"):
        read_classifier(tmp_path / "W.safetensors")


def test_only_the_matrix_that_is_asked_for_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The declared sizes of an archive are known from its headers."""
    np.savez(tmp_path / "two.npz", W=W.numpy(), other=np.ones(5))
    read, seen = np.lib.format.read_array, []
    monkeypatch.setattr(np.lib.format, "read_array", lambda s, **o: seen.append(s.name) or read(s, **o))
    assert torch.equal(read_classifier(tmp_path / "two.npz"), W)
    assert seen == ["W.npy"]


def test_an_archive_that_inflates_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "W.npz", W=np.zeros((10**4, 10)))
    monkeypatch.setattr(arrays, "SMALL_ARCHIVE", 10**4)
    with pytest.raises(ValueError, match=r"cannot read .*W.npz: it declares 800,\d+ bytes, more than the limit of"):
        read_classifier(tmp_path / "W.npz")


# Comparing


@pytest.mark.parametrize("suffix", [".safetensors", ".pt"])
def test_compare_file(tmp_path: Path, suffix: str) -> None:
    code = sc.best_known(12, 3).W
    rng = np.random.default_rng(0)
    learned = (code + 0.1 * rng.standard_normal(code.shape)) * rng.uniform(0.5, 2, (12, 1))
    path = written(tmp_path, suffix, {"fc.weight": torch.tensor(learned), "fc.bias": torch.zeros(12)})
    found = compare_file(path, names=[f"class {k}" for k in range(12)], count=3)
    expected = sc.margin(learned, normalize=True)
    assert found.comparison is not None and found.margins is not None and found.sampled is None
    np.testing.assert_allclose(found.margins.margins, expected.margins, atol=1e-13)
    assert found.comparison.margin == pytest.approx(expected.margin, abs=1e-13)
    assert found.comparison.margin_ratio == pytest.approx(expected.margin / sc.best_known(12, 3).margin)
    assert found.comparison.alignment is not None and found.comparison.alignment.rms_angle < 12
    assert len(found.nearest) == 3
    assert found.nearest["cosine"][0] == pytest.approx(found.comparison.learned.max_cosine, abs=1e-13)
    plain = compare_file(path, align=False).comparison
    assert plain is not None and plain.alignment is None


def test_margins_of_all_classes_are_left_out_where_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, ".pt", {"fc.weight": W})
    monkeypatch.setattr(checkpoints, "MAX_ALL_MARGINS", 20 * 20 * 8 - 1)
    found = compare_file(path, align=False)
    assert found.margins is None and found.comparison is not None
    assert found.comparison.margin == pytest.approx(sc.margin(W, normalize=True).margin, abs=1e-13)


def test_the_margin_of_a_sample(tmp_path: Path) -> None:
    path = written(tmp_path, ".pt", {"embeddings": W})
    found = compare_file(path, sample=20)
    assert found.comparison is None and found.margins is None
    assert found.sampled is not None and found.sampled.sampled == 20
    assert found.sampled.margin == pytest.approx(sc.margin(W, normalize=True).margin, abs=1e-13)
    with pytest.raises(ValueError, match="must be an integer of at least 1; got 0"):
        compare_file(path, sample=0)


def test_a_row_of_zeros_is_refused(tmp_path: Path) -> None:
    padded = W.clone()
    padded[4] = 0
    with pytest.raises(ValueError, match="no row of zero norm; row 4 is zero"):
        compare_file(written(tmp_path, ".pt", {"embeddings": padded}))


# Nearest pairs


@given(SEEDS, st.integers(2, 30), st.integers(1, 6), st.integers(1, 40), st.integers(1, 200))
def test_nearest_pairs(seed: int, K: int, d: int, count: int, tile: int) -> None:
    X = np.random.default_rng(seed).standard_normal((K, d))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(class_similarity, "TILE_COSINES", tile)
        found = nearest_pairs(X, count=count)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    pairs = {(i, j): unit[i] @ unit[j] for i, j in itertools.combinations(range(K), 2)}
    wanted = sorted(pairs.values(), reverse=True)[:count]
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found["cosine"], wanted, atol=1e-12)
    assert found["cosine"].is_monotonic_decreasing
    rows = list(zip(found["first"], found["second"], strict=True))
    assert len(set(rows)) == len(rows)
    np.testing.assert_allclose(found["cosine"], [pairs[row] for row in rows], atol=1e-12)
    np.testing.assert_allclose(np.cos(np.radians(found["angle"])), np.clip(wanted, -1, 1), atol=1e-12)


def test_nearest_pairs_of_named_classes() -> None:
    found = nearest_pairs(torch.eye(3) + torch.tensor([0.0, 0.2, 0.1]), ("cat", "dog", "ship"))
    assert found[["first", "second"]].to_numpy().tolist() == [["dog", "ship"], ["cat", "dog"], ["cat", "ship"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "count must be an integer of at least 1; got 0"),
        ({"names": ["a", "b"]}, "names must be 3, one for each class; got 2"),
    ],
)
def test_nearest_pairs_refuses(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        nearest_pairs(np.eye(3), **options)
    with pytest.raises(ValueError, match="row 1 is zero"):
        nearest_pairs([[1, 0], [0, 0]])


# Mantel's test


def similarity(rng: np.random.Generator, K: int, levels: int | None = None) -> np.ndarray:
    """A random symmetric matrix; with ``levels`` its entries have few different values (but more than one)."""
    S = rng.standard_normal((K, K)) if levels is None else rng.integers(levels, size=(K, K)).astype(float)
    if levels is not None:
        S[0, 1:3] = 0, 1
    return np.triu(S, 1) + np.triu(S, 1).T


def off_diagonal(S: np.ndarray) -> np.ndarray:
    return np.array([S[i, j] for i, j in itertools.combinations(range(len(S)), 2)])


EXTREME = {"two-sided": abs, "greater": lambda r: r, "less": lambda r: -r}


@pytest.mark.parametrize("alternative", EXTREME)
@pytest.mark.parametrize("levels", [None, 3])
@pytest.mark.parametrize("K", [3, 4, 5, 6])
def test_all_relabellings_of_few_classes(K: int, levels: int | None, alternative: str) -> None:
    rng = np.random.default_rng([K, 17])
    G, S = similarity(rng, K), similarity(rng, K, levels)
    of = EXTREME[alternative]
    observed = spearmanr(off_diagonal(G), off_diagonal(S)).statistic
    tried = [
        spearmanr(off_diagonal(G), off_diagonal(S[np.ix_(p, p)])).statistic for p in itertools.permutations(range(K))
    ]
    found = mantel(G, S, alternative=alternative)
    assert (found.exact, found.permutations, found.alternative) == (True, len(tried), alternative)
    assert found.correlation == pytest.approx(observed, abs=1e-12)
    assert found.p_value == pytest.approx(np.mean([of(r) >= of(observed) - 1e-12 for r in tried]), abs=1e-12)


def test_random_relabellings_agree_with_all() -> None:
    rng = np.random.default_rng(5)
    G, S = similarity(rng, 6), similarity(rng, 6)
    exact, drawn = mantel(G, S, 719), mantel(G, S, 718)
    assert (exact.exact, drawn.exact) == (True, False)
    assert drawn.permutations == 718
    error = (exact.p_value * (1 - exact.p_value) / 718) ** 0.5
    assert drawn.p_value == pytest.approx(exact.p_value, abs=4 * error + 1 / 718)
    assert drawn.correlation == exact.correlation


@given(SEEDS, st.integers(3, 12), st.sampled_from([None, 2, 4]))
def test_what_changes_nothing(seed: int, K: int, levels: int | None) -> None:
    """Relabelling both, the diagonal, and a monotone function of the entries; a falling one changes the sign."""
    rng = np.random.default_rng(seed)
    G, S = similarity(rng, K), similarity(rng, K, levels)
    found = mantel(G, S, 99)
    assert found.correlation == pytest.approx(spearmanr(off_diagonal(G), off_diagonal(S)).statistic, abs=1e-12)
    p = rng.permutation(K)
    assert mantel(G[np.ix_(p, p)], S[np.ix_(p, p)], 1).correlation == pytest.approx(found.correlation, abs=1e-12)
    assert mantel(G + 5 * np.eye(K), S, 99) == found
    assert mantel(np.exp(G), 3 * S - 1, 99) == found
    assert mantel(-G, S, 99).correlation == pytest.approx(-found.correlation, abs=1e-12)
    assert mantel(-G, S, 99).p_value == pytest.approx(found.p_value)
    assert mantel(S, G, 1).correlation == pytest.approx(found.correlation, abs=1e-12)


def test_p_values_are_uniform_where_there_is_nothing() -> None:
    """Cosines of random points, whose pairs are dependent as a classifier's are."""
    rng = np.random.default_rng(2024)
    for alternative in EXTREME:
        p_values = []
        for trial in range(300):
            X, Y = rng.standard_normal((2, 10, 2))
            X, Y = (A / np.linalg.norm(A, axis=1, keepdims=True) for A in (X, Y))
            p_values.append(mantel(X @ X.T, Y @ Y.T, 99, trial, alternative=alternative).p_value)
        # of 99 relabellings the p-value is a multiple of 1/100: spread each uniformly over its step
        smeared = np.array(p_values) - rng.random(300) / 100
        assert kstest(smeared, "uniform").pvalue > 0.001
        assert np.mean(np.array(p_values) <= 0.05) < 0.05 + 4 * (0.05 * 0.95 / 300) ** 0.5


def test_similar_classes_that_are_close_are_found() -> None:
    rng = np.random.default_rng(1)
    X = rng.standard_normal((30, 5))
    close = X + rng.standard_normal(X.shape)
    found = mantel(X @ X.T, close @ close.T, 999, alternative="greater")
    assert found.p_value == 1 / 1000
    assert mantel(X @ X.T, close @ close.T, 999, alternative="less").p_value == 1
    assert mantel(X @ X.T, -close @ close.T, 999).p_value == 1 / 1000
    assert found.correlation > 0.3


def test_equal_cosines_share_a_rank_in_spite_of_rounding() -> None:
    """A polygon's cosines take few values, which a rotation changes in the last digit."""
    code = sc.best_known(7, 2).W
    angle = np.random.default_rng(0).uniform(0, 6)
    turned = code @ np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    S = similarity(np.random.default_rng(1), 7)
    steps = abs(np.arange(7)[:, None] - np.arange(7))
    exact = -np.minimum(steps, 7 - steps)  # nearer on the circle is more alike
    assert mantel(turned @ turned.T, S, 50) == mantel(code @ code.T, S, 50) == mantel(exact, S, 50)


def test_float32_and_gradients() -> None:
    rng = np.random.default_rng(3)
    X, S = torch.tensor(rng.standard_normal((9, 4)), dtype=torch.float32, requires_grad=True), similarity(rng, 9)
    plain = X.detach().double().numpy()
    assert mantel(X @ X.T, S, 99).correlation == pytest.approx(mantel(plain @ plain.T, S, 99).correlation, abs=0.01)


ORDER = similarity(np.random.default_rng(0), 4)


@pytest.mark.parametrize(
    ("G", "S", "options", "message"),
    [
        (ORDER, ORDER, {"alternative": "both"}, "'two-sided', 'greater', 'less'; got 'both'"),
        (ORDER, ORDER, {"permutations": 0}, "permutations must be an integer of at least 1; got 0"),
        (ORDER, ORDER, {"seed": -1}, "seed must be an integer of at least 0; got -1"),
        (ORDER[:2, :2], ORDER, {}, r"G must have K >= 3 rows; got shape \(2, 2\)"),
        (ORDER, ORDER[:3], {}, r"S must be square, with K >= 2 rows; got shape \(3, 4\)"),
        (ORDER, ORDER[:3, :3], {}, r"one K; got shapes \(4, 4\) and \(3, 3\)"),
        (ORDER, np.full((4, 4), np.nan), {}, "S must be finite"),
        (ORDER, "similar", {}, "S must be a matrix"),
        (ORDER, ORDER + 2 * np.eye(4, k=3), {}, r"S must be symmetric; entries \(0, 3\) and \(3, 0\) are .*S \+ S\.T"),
        (ORDER, np.eye(4), {}, "S has no order of pairs: all its off-diagonal entries are equal"),
    ],
)
def test_mantel_refuses(G: Any, S: Any, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mantel(G, S, **options)
