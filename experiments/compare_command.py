"""``python -m experiments compare``: a classifier's diagnosis, and its cosines beside the similarity of its classes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy.stats import percentileofscore

from experiments.class_similarity import mantel, nearest_pairs
from experiments.drawing import axes_figure
from experiments.rendering import statements
from softmaxcode.assignment import check_square
from softmaxcode.checkpoints import read_classifier
from softmaxcode.checks.arguments import check_integer, printable
from softmaxcode.cli.arguments import chosen_output
from softmaxcode.cli.diagnose import read_names
from softmaxcode.cli.options import Force, Output, takes
from softmaxcode.diagnosis.entry_point import diagnose
from softmaxcode.diagnosis.html import sections
from softmaxcode.diagnosis.text import parts
from softmaxcode.pages import Findings, ReportSection, write_report
from softmaxcode.plotting.style import COLOURS
from softmaxcode.sphere import check_rows
from softmaxcode.storage.arrays import stored_arrays

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from softmaxcode.types import Rows, Square

TITLE = "Cosines and the similarity of classes"
QUESTION = "Are similar classes closer together?"
#: Of more classes so many, drawn at random, are tested for a relation with their similarity.
MAX_MANTEL_CLASSES = 1000
#: Up to so many classes Mantel's test tries 9999 relabellings, above it 999: each takes of the order of K^2.
MANY_PERMUTATIONS_CLASSES = 300
#: Level of significance of that test.
LEVEL = 0.05
#: More pairs than that are drawn as a density.
MAX_POINTS = 5000


@dataclass(frozen=True, eq=False)
class Similarity:
    """How alike classes are, from a matrix or from the cosines of vectors.

    Attributes
    ----------
    values : ndarray, shape (K, K) or (K, any)
        The matrix, or unit vectors.
    is_matrix : bool
        Which of both.
    """

    values: np.ndarray
    is_matrix: bool

    def among(self, classes: np.ndarray) -> Square:
        """The similarity of some classes; the symmetric part of a matrix."""
        if not self.is_matrix:
            return self.values[classes] @ self.values[classes].T
        S = self.values[np.ix_(classes, classes)]
        return (S + S.T) / 2


def compare_findings(
    W: ArrayLike,
    *,
    names: Sequence[str] | None = None,
    similarity: ArrayLike | None = None,
    similarity_vectors: ArrayLike | None = None,
    count: int = 10,
    seed: int = 0,
) -> Findings:
    """Relate the cosines of a classifier to the similarity of its classes.

    Parameters
    ----------
    W : array_like, shape (K, d)
        Rows of any non-zero norm; their directions count.
    names : sequence of str, optional
        What the K classes are called; their numbers without it.
    similarity : array_like, shape (K, K), optional
        Larger where classes are more alike; its symmetric part counts and its diagonal does not.
    similarity_vectors : array_like, shape (K, any), optional
        In its place: a vector for each class, whose cosines are the similarity.
    count : int
        Closest pairs wanted.
    seed : int
        Of the classes drawn for Mantel's test, and of its relabellings.

    Returns
    -------
    Findings
        The rank correlation of similarity and cosines with Mantel's test of it, among all classes or
        ``MAX_MANTEL_CLASSES`` drawn at random, and the closest pairs.

    Raises
    ------
    ValueError
        If an array is not finite or of another K, or not exactly one similarity is given.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> W = sc.best_known(8, 2).W
    >>> print(compare_findings(W, similarity=-abs(W[:, :1] - W[:, 0])).statements[0][:55])
    The closest pair is class 6 and class 7: cosine 0.7071,
    """
    X = check_rows(W, normalize=True)
    K = len(X)
    seed = check_integer("seed", seed, 0)
    given = _similarity(similarity, similarity_vectors, K)
    called = [f"class {k}" for k in range(K)] if names is None else list(names)
    nearest = nearest_pairs(X, None, count)
    pairs = nearest[["first", "second"]].to_numpy(dtype=np.int64)
    tested = _drawn(K, seed)
    G, S = X[tested] @ X[tested].T, given.among(tested)
    upper = np.triu_indices(len(tested), 1)
    if np.ptp(S[upper]) == 0:
        raise ValueError("the similarity is the same for all pairs of classes, so nothing can go with it")
    relation = mantel(G, S, 9999 if len(tested) <= MANY_PERMUTATIONS_CLASSES else 999, seed)
    nearest["similarity"] = np.array([given.among(pair)[0, 1] for pair in pairs])
    nearest["similarity_percentile"] = percentileofscore(S[upper], nearest["similarity"], kind="mean")
    nearest[["first", "second"]] = nearest[["first", "second"]].map(lambda k: called[k]).astype(object)
    sentences = statements(
        "compare",
        closest=nearest.iloc[0],
        relation=relation,
        K=K,
        tested=len(tested),
        level=LEVEL,
        pairs=len(nearest),
        percentile=nearest["similarity_percentile"].median(),
    )
    return Findings(
        sentences,
        {"Closest pairs of classes (angles in degrees)": nearest},
        {"Cosine and similarity of every pair of classes": _agreement(S[upper], G[upper])},
    )


@takes(
    key=(read_classifier, "key", "transpose"),
    options=(diagnose, "temperature", "shared", "seconds", "search", "seed"),
    pairs=(compare_findings, "count"),
)
def run(
    file: str,
    /,
    key,
    options,
    pairs,
    *,
    names: str | None = None,
    similarity: str | None = None,
    similarity_from: str | None = None,
    similarity_key: str | None = None,
    output: Output = None,
    force: Force = False,
) -> int:
    """Diagnose a classifier out of a file, and relate it to the similarity of its classes.

    Parameters
    ----------
    file : str
        As of softmaxcode diagnose; nothing of it is executed.
    names : str
        File with the names of the classes, a line each.
    similarity : str
        .npy with the similarity of the classes, K x K.
    similarity_from : str
        Another such file with a vector for each class, whose cosines are the similarity.
    similarity_key : str
        Name of its matrix.
    output : str
        Write an .html page with figures as well.

    Raises
    ------
    ValueError
        As `diagnose` and `compare_findings`; if a file is missing or is not what it should be; if ``--similarity-key``
        comes without ``--similarity-from``.
    """
    if similarity_key is not None and similarity_from is None:
        raise ValueError(
            "--similarity-key is the name of a matrix in the file of --similarity-from, which is not given"
        )
    page = chosen_output(output, force, (".html",))
    called = None if names is None else read_names(names)
    matrix = None if similarity is None else _read_matrix(Path(similarity))
    vectors = None if similarity_from is None else read_classifier(similarity_from, similarity_key).W
    read = read_classifier(file, names=called, **key)
    found = diagnose(read, names=called, **options)
    related = None
    if matrix is not None or vectors is not None:
        seed = {name: value for name, value in options.items() if name == "seed"}
        related = compare_findings(read.W, names=called, similarity=matrix, similarity_vectors=vectors, **pairs, **seed)
    for part in parts(found):
        print(part, flush=True)
    if related is not None:
        print(f"\n{related}")
    if page is not None:
        more = [] if related is None else [ReportSection("similarity", TITLE, QUESTION, related)]
        written = write_report([*sections(found), *more], page, title="Comparison")
        print(f"\nwritten to {printable(written)}")
    return 0


def _read_matrix(path: Path) -> np.ndarray:
    if path.suffix.lower() != ".npy":
        raise ValueError(f"cannot read {path}: the similarity of the classes must be an .npy file")
    return stored_arrays(path)[0].read()


def _similarity(matrix: ArrayLike | None, vectors: ArrayLike | None, K: int) -> Similarity:
    """The similarity that was given, validated."""
    if (matrix is None) == (vectors is None):
        raise ValueError("similarity is either a matrix or the cosines of vectors: pass one of them")
    if matrix is not None:
        S = check_square(matrix, "similarity")
        _check_classes(S, K)
        return Similarity(S, True)
    assert vectors is not None
    X = check_rows(vectors, normalize=True, name="similarity_vectors")
    _check_classes(X, K)
    return Similarity(X, False)


def _check_classes(array: Rows, K: int) -> None:
    if len(array) != K:
        raise ValueError(f"the similarity must be of the classifier's {K} classes; got shape {array.shape}")


def _drawn(K: int, seed: int) -> np.ndarray:
    """All classes, or as many as are tested."""
    if K <= MAX_MANTEL_CLASSES:
        return np.arange(K)
    return np.sort(np.random.default_rng(seed).choice(K, MAX_MANTEL_CLASSES, replace=False))


def _agreement(similarity: np.ndarray, cosine: np.ndarray) -> Figure:
    figure, (axes,) = axes_figure([""], width=8, height=4.5)
    if len(cosine) <= MAX_POINTS:
        axes.scatter(similarity, cosine, s=10, alpha=0.5, color=COLOURS[0], lw=0)
    else:
        density = axes.hexbin(similarity, cosine, gridsize=50, bins="log", mincnt=1, cmap="Blues")
        figure.colorbar(density, label="pairs")
    axes.set_xlabel("similarity of the classes")
    axes.set_ylabel("cosine of their vectors")
    return figure
