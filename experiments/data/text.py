"""Next-token prediction on local text, with byte-pair tokens learned from the training files."""

from __future__ import annotations

import platform
import sysconfig
from pathlib import Path

import torch

from experiments.data.dataset import TextData, TokenContexts
from experiments.data.seeding import stream
from softmaxcode.checks.arguments import check_integer, check_number
from softmaxcode.storage import disk

#: Folders of the standard library that are skipped: packages of others, tests, and character tables. The tables are
#: near copies of one another, and would be in both the training and the test text.
LEFT_OUT = frozenset({"site-packages", "dist-packages", "test", "tests", "idle_test", "encodings"})


def _files(root: str | Path | None, suffix: str) -> tuple[list[Path], str]:
    """Text files in the order of their paths, and a description."""
    if root is None:
        folder = Path(sysconfig.get_path("stdlib"))
        files = [p for p in folder.rglob(f"*{suffix}") if not LEFT_OUT.intersection(p.relative_to(folder).parts)]
        name = f"the standard library of Python {platform.python_version()}"
    else:
        folder = Path(root).expanduser()
        files = list(folder.rglob(f"*{suffix}"))
        name = folder.name
    files = sorted((p for p in files if p.is_file()), key=lambda p: p.relative_to(folder).as_posix())
    if len(files) < 2:
        raise ValueError(f"text needs at least two files that end in {suffix!r} in {folder}; got {len(files)}")
    return files, name


def read_text(
    root: str | Path | None,
    *,
    vocabulary: int = 1024,
    context: int = 64,
    size: int = 4_000_000,
    test_fraction: float = 0.1,
    suffix: str = ".py",
    seed: int = 0,
) -> TextData:
    """Text as contexts of byte-pair tokens; the task is to predict each next token.

    Files are taken in a random order until their size reaches the requested one. The first of them, until the test
    fraction is reached, are the test text. Byte-pair encoding learns the tokens from the training text alone, for the
    bytes that occur there. Other bytes are dropped from the test text.

    Parameters
    ----------
    root : path, optional
        A folder of text files; by default the source of Python's own standard library.
    vocabulary : int
        K, the number of tokens: from 512 to 8,192.
    context : int
        T, the number of tokens per context.
    size : int
        Characters of text, reached by the last file that is taken; less if there is not that much.
    test_fraction : float
        Fraction of the characters for testing, reached by the last test file. Each text has at least one file.
    suffix : str
        Suffix of the names of the files.
    seed : int
        Seed of the order.

    Raises
    ------
    ValueError
        If there are fewer than two files, or too little text for this vocabulary or for one context.

    Notes
    -----
    Bytes that are not UTF-8 are read as U+FFFD. A token may occur only inside longer tokens, and then it is never a
    next token. The ``counts`` of the result show which classes have no features.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    K = check_integer("vocabulary", vocabulary, 512)
    if K > 8192:
        raise ValueError(f"vocabulary must be at most 8192; got {K}")
    T = check_integer("context", context, 1)
    size = check_integer("size", size, 1)
    fraction = check_number("test_fraction", test_fraction, 0, 1)
    files, name = _files(root, suffix)
    taken: list[str] = []
    length = 0
    for i in stream(seed, "files").permutation(len(files)).tolist():
        if length >= size and len(taken) > 1:
            break
        taken.append(disk.read_text(files[i]))
        length += len(taken[-1])
    length_taken, count = 0, 0
    while count == 0 or (length_taken < fraction * length and count < len(taken) - 1):
        length_taken += len(taken[count])
        count += 1
    parts = taken[count:], taken[:count]

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    # no token for bytes that the training text does not have: their classes would have no features
    trainer = trainers.BpeTrainer(vocab_size=K, show_progress=False)
    tokenizer.train_from_iterator(parts[0], trainer)
    if tokenizer.get_vocab_size() < K:
        raise ValueError(
            f"the training text of {sum(map(len, parts[0]))} characters gives {tokenizer.get_vocab_size()} tokens; "
            f"vocabulary asks for {K}"
        )
    ids = tokenizer.get_vocab()
    contexts = []
    for part, split in zip(parts, ("training", "test"), strict=True):
        tokens = [token for encoding in tokenizer.encode_batch(part) for token in encoding.ids]
        if len(tokens) <= T:
            raise ValueError(f"the {split} text has {len(tokens)} tokens; a context of {T} needs {T + 1}")
        contexts.append(TokenContexts(torch.tensor(tokens), T))
    return TextData(
        name="text",
        train=contexts[0],
        train_unaugmented=contexts[0],
        test=contexts[1],
        class_names=tuple(sorted(ids, key=ids.__getitem__)),
        source=f"{len(taken)} files of {name}, {length} characters, {count} of the files for the test",
        decode=tokenizer.decode,
    )
