"""``python -m experiments compare``: a classifier out of a file against the best code known, as text and tables."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.stats import percentileofscore

from experiments.checkpoints import FileComparison, compare_file, read_classifier
from experiments.class_similarity import mantel
from experiments.drawing import axes_figure
from experiments.rendering import statements
from experiments.report import ReportSection, write_report
from experiments.studies.findings import Findings
from softmaxcode.assignment import check_square
from softmaxcode.checks.arguments import check_integer, printable
from softmaxcode.cli.arguments import chosen_output
from softmaxcode.cli.options import Force, Output, takes
from softmaxcode.plotting.style import COLOURS, INK
from softmaxcode.sphere import check_rows
from softmaxcode.storage.arrays import stored_arrays
from softmaxcode.storage.disk import read_text

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.figure import Figure
    from numpy.typing import ArrayLike

    from softmaxcode.compare import Comparison
    from softmaxcode.types import Rows, Square

TITLE = "A classifier against the best code known"
QUESTION = "How large is its margin, is it that code, and which of its classes are closest?"
#: Of more classes so many, drawn at random, are tested for a relation with their similarity.
MAX_MANTEL_CLASSES = 1000
#: Up to so many classes Mantel's test tries 9999 relabellings, above it 999: each takes of the order of K^2.
MANY_PERMUTATIONS_CLASSES = 300
#: Level of significance of that test.
LEVEL = 0.05
#: More pairs than that are drawn as a density.
MAX_POINTS = 5000
BINS = 60
#: Rows of the table of measurements, with the prefix of their names in `Comparison.to_dict`.
_ROWS = {"classifier": "", "random points": "random_", "another local optimum": "local_optimum_"}
_COLUMNS = ("margin", "max_cosine", "spectrum_distance", "mean_angle", "rms_angle", "max_angle")


def compare_findings(
    path: str | Path,
    key: str | None = None,
    *,
    names: Sequence[str] | None = None,
    similarity: ArrayLike | None = None,
    similarity_vectors: ArrayLike | None = None,
    count: int = 10,
    sample: int | None = None,
    align: bool = True,
    seed: int = 0,
    search: bool = True,
) -> Findings:
    """Compare a classifier of a file with the best code known, and its cosines with class similarity.

    Parameters
    ----------
    path, key
        As in `experiments.checkpoints.read_classifier`. Rows of any non-zero norm; their directions count.
    names : sequence of str, optional
        What the K classes are called; their numbers without it.
    similarity : array_like, shape (K, K), optional
        Larger where classes are more alike; its symmetric part counts and its diagonal does not.
    similarity_vectors : array_like, shape (K, any), optional
        In its place: a vector for each class, whose cosines are the similarity.
    count : int
        Closest pairs wanted.
    sample : int, optional
        Take the margin from so many classes drawn at random, and compare with no code: for very large matrices.
    align : bool
        Bring the code and the classifier together, up to `softmaxcode.compare.alignment.MAX_ALIGN_CLASSES` classes.
    seed : int
        Of the classes drawn for Mantel's test, and of its relabellings.
    search : bool
        Search for five seconds where the stored code of this size was never searched.

    Returns
    -------
    Findings
        Margin, largest cosine, alignment and closest pairs; with a similarity, its rank correlation with the cosines
        and Mantel's test of it, among all classes or ``MAX_MANTEL_CLASSES`` drawn at random.

    Raises
    ------
    ValueError
        As `experiments.checkpoints.compare_file`; if ``similarity`` is not finite and square, both similarities are
        given, or names or similarity are of another K.

    Examples
    --------
    >>> import tempfile
    >>> import softmaxcode as sc
    >>> path = Path(tempfile.mkdtemp()) / "classifier.npy"
    >>> np.save(path, 3 * sc.best_known(12, 3).W)
    >>> print(compare_findings(path, align=False).statements[0])
    classifier.npy, K = 12, d = 3: margin (GNC2) 0.5528, 1.000 of 0.5528, the best known.
    """
    W = check_rows(read_classifier(path, key), normalize=True)
    K, d = W.shape
    seed = check_integer("seed", seed, 0)
    if names is not None and len(names) != K:
        raise ValueError(f"names must be {K}, one for each class; got {len(names)}")
    among = _similarity(similarity, similarity_vectors, K)
    found = compare_file(path, key, count=count, align=align, sample=sample, search=search)

    def name(k: int) -> str:
        return f"class {k}" if names is None else names[k]

    tables, figures = {}, {}
    if found.comparison is not None:
        tables["Classifier, code and what chance gives (angles in degrees)"] = _measurements_table(found.comparison)
        if found.comparison.learned.spectrum is not None:
            figures["Cosines of all pairs of classes"] = _spectra(found.comparison)
    nearest = found.nearest
    pairs = nearest[["first", "second"]].to_numpy(dtype=np.int64)
    nearest[["first", "second"]] = nearest[["first", "second"]].map(name).astype(object)
    relation = tested = None
    if among is not None:
        tested = _drawn(K, seed)
        G, S = W[tested] @ W[tested].T, among(tested)
        upper = np.triu_indices(len(tested), 1)
        if np.ptp(S[upper]) == 0:
            raise ValueError("the similarity is the same for all pairs of classes, so nothing can go with it")
        relation = mantel(G, S, 9999 if len(tested) <= MANY_PERMUTATIONS_CLASSES else 999, seed)
        nearest["similarity"] = np.array([among(pair)[0, 1] for pair in pairs])
        nearest["similarity_percentile"] = percentileofscore(S[upper], nearest["similarity"], kind="mean")
        figures["Cosine and similarity of every pair of classes"] = _agreement(S[upper], G[upper])
    tables["Closest pairs of classes (angles in degrees)"] = nearest
    sentences = statements(
        "compare",
        title=f"{Path(path).name}{f', {key}' if key else ''}, K = {K}, d = {d}",
        name=name,
        sampled=found.sampled,
        comparison=found.comparison,
        distances=None if found.margins is None else _distances(found.margins.margins),
        aligned=_aligned(found),
        closest=nearest.iloc[0],
        relation=relation,
        K=K,
        tested=None if tested is None else len(tested),
        level=LEVEL,
        pairs=len(nearest),
        percentile=None if relation is None else nearest["similarity_percentile"].median(),
    )
    return Findings(sentences, tables, figures)


@takes(key=(read_classifier, "key"), options=(compare_findings, "count", "sample", "align", "seed", "search"))
def run(
    file: str,
    /,
    key,
    options,
    *,
    names: str | None = None,
    similarity: str | None = None,
    similarity_from: str | None = None,
    similarity_key: str | None = None,
    output: Output = None,
    force: Force = False,
) -> int:
    """Compare a classifier out of a file with the best code known.

    Parameters
    ----------
    file : str
        .safetensors, .pt, .pth, .ckpt, .npy or .npz; nothing of it is executed.
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
        As `compare_findings`; if a file is missing or is not what it should be; if ``--similarity-key`` comes without
        ``--similarity-from``.
    """
    if similarity_key is not None and similarity_from is None:
        raise ValueError(
            "--similarity-key is the name of a matrix in the file of --similarity-from, which is not given"
        )
    page = chosen_output(output, force, (".html",))
    findings = compare_findings(
        file,
        **key,
        names=None if names is None else _read_names(Path(names)),
        similarity=None if similarity is None else _read_matrix(Path(similarity)),
        similarity_vectors=None if similarity_from is None else read_classifier(similarity_from, similarity_key),
        **options,
    )
    print(findings)
    if page is not None:
        written = write_report([ReportSection("compare", TITLE, QUESTION, findings)], page, title="Comparison")
        print(f"\nwritten to {printable(written)}")
    return 0


def _read_names(path: Path) -> list[str]:
    # no other separator: tokens may hold those
    return read_text(path, strict=True).removesuffix("\n").split("\n")


def _read_matrix(path: Path) -> np.ndarray:
    if path.suffix.lower() != ".npy":
        raise ValueError(f"cannot read {path}: the similarity of the classes must be an .npy file")
    return stored_arrays(path)[0].read()


def _similarity(matrix: ArrayLike | None, vectors: ArrayLike | None, K: int) -> Callable[[np.ndarray], Square] | None:
    """The similarity among some classes, as a function of their numbers."""
    if matrix is not None and vectors is not None:
        raise ValueError("similarity is either a matrix or the cosines of vectors, not both")
    if matrix is not None:
        S = check_square(matrix, "similarity")
        _check_classes(S, K)
        return lambda classes: (S[np.ix_(classes, classes)] + S[np.ix_(classes, classes)].T) / 2
    if vectors is not None:
        X = check_rows(vectors, normalize=True, name="similarity_vectors")
        _check_classes(X, K)
        return lambda classes: X[classes] @ X[classes].T
    return None


def _check_classes(array: Rows, K: int) -> None:
    if len(array) != K:
        raise ValueError(f"the similarity must be of the classifier's {K} classes; got shape {array.shape}")


def _drawn(K: int, seed: int) -> np.ndarray:
    """All classes, or as many as are tested."""
    if K <= MAX_MANTEL_CLASSES:
        return np.arange(K)
    return np.sort(np.random.default_rng(seed).choice(K, MAX_MANTEL_CLASSES, replace=False))


# What the sentences are made of


def _distances(margins: np.ndarray) -> dict[str, float]:
    """The smallest, the median and the largest distance from the hull of the others, and the classes that have them."""
    smallest, median, largest = np.quantile(margins, [0, 0.5, 1])
    classes = {"at_smallest": int(margins.argmin()), "at_largest": int(margins.argmax())}
    return {"smallest": smallest, "median": median, "largest": largest, **classes}


def _aligned(found: FileComparison) -> dict[str, Any] | None:
    """Angles of the classifier and of random points from the code, and of the classifier from other optima."""
    comparison, optima = found.comparison, found.optima
    if comparison is None or comparison.learned.alignment is None or comparison.random is None or optima is None:
        return None
    assert comparison.random.alignment is not None
    angle, random = comparison.learned.alignment.rms_angle, comparison.random.alignment.rms_angle
    return {"angle": angle, "random": random, "optima": optima.tolist(), "nearer": int((optima <= angle).sum())}


# Tables and figures


def _code_name(comparison: Comparison) -> str:
    """What the code may be called."""
    label = comparison.reference_label
    return "best code known" if label == "best known" else f"code ({label})"


def _measurements_table(comparison: Comparison) -> pd.DataFrame:
    scalars = comparison.to_dict()
    rows: list[dict[str, Any]] = [
        {"vectors": name} | {column: scalars[prefix + column] for column in _COLUMNS} for name, prefix in _ROWS.items()
    ]
    reference = _code_name(comparison) if comparison.code is not None else comparison.reference
    rows.append(
        {"vectors": reference, "margin": comparison.reference_margin, "max_cosine": scalars["reference_max_cosine"]}
    )
    table = pd.DataFrame(rows).dropna(subset="margin", ignore_index=True)
    if comparison.reference_margin > 0:
        table.insert(2, "fraction", table["margin"] / comparison.reference_margin)
    return table.dropna(axis="columns", how="all")


def _spectra(comparison: Comparison) -> Figure:
    figure, (axes,) = axes_figure([""], width=8, height=4)
    drawn = [("classifier", comparison.learned.spectrum, COLOURS[0])]
    if comparison.random is not None:
        drawn.append(("random points", comparison.random.spectrum, COLOURS[1]))
    if comparison.code is not None:
        gram = comparison.code.W @ comparison.code.W.T
        drawn.append((_code_name(comparison), gram[np.triu_indices(comparison.K, 1)], INK))
    edges = np.linspace(-1, 1, BINS + 1).tolist()
    for name, spectrum, colour in drawn:
        if spectrum is not None:
            inside = np.clip(spectrum, -1, 1)  # rounding may carry a cosine past 1
            axes.hist(inside, edges, density=True, histtype="step", lw=1.6, color=colour, label=name)
    axes.set_xlabel("cosine")
    axes.set_ylabel("density")
    axes.legend(frameon=False)
    return figure


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
