"""Assignments of classes to the vectors of a fixed code, graded from the best to the worst."""

from __future__ import annotations

import hashlib
import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.data import TextData
from softmaxcode.assignment import assign, cosines, default_starts, similarity_from_means, trace
from softmaxcode.checks.arguments import check_number, shown

if TYPE_CHECKING:
    from experiments.data import Data
    from experiments.settings import RunSettings
    from softmaxcode.assignment import Assignment, Permutation
    from softmaxcode.code import SoftmaxCode
    from softmaxcode.types import Rows, Square

#: Transpositions tried per class to reach a level; this many usually reach it to within 1e-3.
TRIES_PER_CLASS = 30
#: The most searches for the best and the worst assignment; fewer where there are many classes.
STARTS = 32
#: Images read at once.
BATCH = 1000


@dataclass(frozen=True, eq=False)
class GradedAssignment:
    r"""Classes matched to the vectors of a code at a given level.

    Attributes
    ----------
    permutation : ndarray of int, shape (K,), read-only
        Class c gets row ``permutation[c]`` of the code.
    objective : float
        :math:`\operatorname{tr}(S P G P^T)`, the similarity-weighted sum of cosines.
    level : float
        The requested level.
    best, mean, worst : float
        The objective of the best assignment found, the mean over all assignments, and that of the worst found.
    """

    permutation: Permutation
    objective: float
    level: float
    best: float
    mean: float
    worst: float


def check_assignment(assignment: Any) -> float | tuple[int, ...]:
    """A level from -1 to 1, or a permutation; see `experiments.settings.Settings`."""
    wanted = f"assignment must be a level from -1 to 1 or the code's row for each class; got {shown(assignment)}"
    if not np.iterable(assignment):
        try:
            return check_number("assignment", assignment, -1, 1) + 0.0  # never -0.0, which would be another run
        except ValueError:
            raise ValueError(wanted) from None
    try:
        rows = tuple(operator.index(row) for row in assignment)
    except (TypeError, ValueError):
        rows = ()
    if sorted(rows) != list(range(len(rows))) or len(rows) < 2:
        raise ValueError(wanted)
    return rows


def input_similarity(data: Data) -> Square:
    r"""Similarity of classes before training, from the training inputs alone.

    For images it is the cosines of the mean normalised image of each class. For text it is the cosines of
    :math:`\sqrt{p_k}`, with :math:`p_k` the distribution of the token before a token k. The mean over the classes is
    subtracted from both first.

    Parameters
    ----------
    data : ImageData or TextData

    Returns
    -------
    ndarray, shape (K, K)
        Symmetric, with a diagonal of zeros. Entries of a class without training samples are also 0.

    Raises
    ------
    ValueError
        If fewer than two classes have training samples, or the mean of one equals that of all.

    Notes
    -----
    With the square root, Euclidean distances are Hellinger distances. A token before k counts by its fraction there, so
    the few tokens that precede every token do not dominate. Zero counts need no smoothing.

    Examples
    --------
    >>> from experiments.data import load
    >>> S = input_similarity(load("digits"))
    >>> np.unravel_index(S.argmax(), S.shape)  # doctest: +ELLIPSIS
    (...3..., ...9...)
    """
    rows = _contexts(data) if isinstance(data, TextData) else _mean_images(data)
    seen = np.flatnonzero(data.counts.numpy())
    if len(seen) < 2:
        raise ValueError(f"a similarity of classes needs training samples of at least two; {data.name} has {len(seen)}")
    S = np.zeros((data.K, data.K))
    S[np.ix_(seen, seen)] = similarity_from_means(rows[seen])
    return S


def _mean_images(data: Data) -> Rows:
    """The mean normalised training image of each class, shape (K, channels * height * width)."""
    sums: Any = 0.0
    for start in range(0, len(data.train_unaugmented), BATCH):
        images, labels = data.train_unaugmented.batch(range(start, min(start + BATCH, len(data.train_unaugmented))))
        members = np.eye(data.K)[labels.numpy()]
        sums = sums + members.T @ images.flatten(1).double().numpy()
    return sums / np.maximum(data.counts.numpy(), 1)[:, None]


def _contexts(data: Data) -> Rows:
    """The square root of the fraction of each token before a token, shape (K, K)."""
    labels = data.train.labels.numpy()
    before = data.train.tokens[: len(labels)].numpy()
    counts = np.bincount(labels * data.K + before, minlength=data.K**2).reshape(data.K, data.K)
    return np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))


def graded(similarity: Square, code: SoftmaxCode, level: float, seed: int = 0) -> GradedAssignment:
    r"""An assignment of a given quality, between the best and the worst one found.

    Parameters
    ----------
    similarity : ndarray, shape (K, K)
        From `input_similarity`.
    code : SoftmaxCode
    level : float
        1 is the best assignment that `softmaxcode.assignment.assign` finds, and -1 the worst. 0 is a random one whose
        objective is the mean over all. At level l between them, the objective is a fraction |l| of the way from that
        mean to the best or worst one.
    seed : int
        Seed of the random choices between the levels 1 and -1, which do not depend on it.

    Returns
    -------
    GradedAssignment

    Raises
    ------
    ValueError
        If the level is not from -1 to 1, or similarity and code differ in K.

    Notes
    -----
    The start is the best or worst permutation (at level 0 a random one). Random transpositions are tried, and accepted
    if they bring the objective nearer to the target. Exchanging the vectors of classes i and j adds

    .. math:: 2 \sum_{k \ne i, j} (S_{ik} - S_{jk}) (G_{p(j)p(k)} - G_{p(i)p(k)}),

    which costs O(K).

    Examples
    --------
    >>> import softmaxcode as sc
    >>> S = np.abs(np.subtract.outer(np.arange(20), np.arange(20))) == 1.0
    >>> found = graded(S, sc.best_known(20, 2), 0.5)
    >>> print(f"{(found.objective - found.mean) / (found.best - found.mean):.2f}")
    0.50
    """
    checked = check_assignment(level)
    if not isinstance(checked, float):
        raise ValueError(f"level must be a number from -1 to 1; got {level!r}")
    best, worst = _extremes(similarity, code)
    mean = float(best.mean_objective)
    extreme = best if checked >= 0 else worst
    target = mean + abs(checked) * (extreme.objective - mean)
    permutation, objective = extreme.permutation, extreme.objective
    if abs(checked) < 1:
        S, G = (similarity + similarity.T) / 2, cosines(code.W)
        np.fill_diagonal(S, 0.0)
        rng = np.random.default_rng(seed)
        permutation = _moved(S, G, permutation if checked else rng.permutation(len(S)), target, rng)
        permutation.flags.writeable = False
        objective = trace(S, G, permutation)
    return GradedAssignment(permutation, objective, checked, best.objective, mean, worst.objective)


def _moved(S: Square, G: Square, p: Permutation, target: float, rng: np.random.Generator) -> Permutation:
    """The permutation after random transpositions, each of which brings its objective nearer to the target."""
    p, K, objective = p.copy(), len(S), trace(S, G, p)
    for _ in range(TRIES_PER_CLASS * K):
        i, j = rng.choice(K, 2, replace=False)
        change = (S[i] - S[j]) * (G[p[j], p] - G[p[i], p])
        change[[i, j]] = 0.0
        moved = objective + 2 * change.sum()
        if abs(moved - target) < abs(objective - target):
            p[[i, j]] = p[[j, i]]
            objective = moved
    return p


_found: dict[str, tuple[Assignment, Assignment]] = {}


def _extremes(similarity: Square, code: SoftmaxCode) -> tuple[Assignment, Assignment]:
    """The best and the worst assignment found; the searches run once per process."""
    key = hashlib.sha256(similarity.tobytes() + code.W.tobytes()).hexdigest()
    if key not in _found:
        starts = min(STARTS, default_starts(len(code.W)))
        best, worst = (assign(similarity, code, maximize=most, starts=starts) for most in (True, False))
        _found[key] = best, worst
    return _found[key]


def permutation_for(settings: RunSettings, data: Data, code: SoftmaxCode) -> Permutation | None:
    """The permutation of a run's classes given by its settings: class c gets row ``permutation[c]`` of the code.

    Parameters
    ----------
    settings : RunSettings
        Its ``assignment`` and ``seed`` are used.
    data : Data
        The run's data set.
    code : SoftmaxCode
        A code with the data set's K.

    Returns
    -------
    ndarray of int, shape (K,), or None
        None where the settings keep the code's own order.

    Raises
    ------
    ValueError
        If the settings list more or fewer rows than the data set has classes.
    """
    assignment = settings.assignment
    if assignment is None:
        return None
    if isinstance(assignment, tuple):
        if len(assignment) != data.K:
            raise ValueError(f"assignment must have a row for each of {data.K} classes; got {len(assignment)}")
        return np.array(assignment)
    return graded(input_similarity(data), code, assignment, settings.seed).permutation
