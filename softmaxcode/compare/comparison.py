"""A learned classifier against a code: margin, cosines, and how near a rotation and relabelling bring the two."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from scipy.linalg import block_diag, orthogonal_procrustes, qr
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from softmaxcode.assignment import cosines, default_starts, guesses, sorted_rows, swaps
from softmaxcode.catalog import NotHeldError, best_known
from softmaxcode.checks.arguments import check_flag, check_integer
from softmaxcode.code import NotComputed, SoftmaxCode
from softmaxcode.margins.exact import smallest_margin
from softmaxcode.search.energy import HARDMAX
from softmaxcode.search.multistart import optimise, random_start
from softmaxcode.sphere import check_rows, largest_cosines, random_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import ArrayLike

    from softmaxcode.assignment import Permutation
    from softmaxcode.types import PerClass, Rows, Square

#: More classes are not aligned: at this many one alignment takes about twenty seconds.
MAX_ALIGN_CLASSES = 1000
#: Spectra hold K (K - 1)/2 cosines, 400 MB at this many classes.
MAX_SPECTRUM_CLASSES = 10_000
#: Quadratic assignments tried without ``starts``, at most.
MOST_STARTS = 64
#: An alignment to within this distance of every vector ends the search.
EXACT = 1e-6
#: Rows of a frame: enough to tell the other rows apart by their cosines with them.
FRAME_ROWS = 32
#: Cosines compared at a row of a frame; partial frames are dropped, the worst first, to keep to that.
BEAM = 2_500_000
#: Quadratic assignments tried for each two frames.
STARTS_PER_FRAMES = 16
#: Sets of rows of V followed to the end for each frame of W.
FRAMES_KEPT = 8
#: Starts of the search for other local optima, up to `FEW_OPTIMA_CLASSES` classes and above: each is aligned.
OPTIMA, FEW_OPTIMA, FEW_OPTIMA_CLASSES = 10, 3, 200
#: Two codes whose sorted cosines differ by less (root mean square) are one: the search ends about 1e-5 from an optimum.
SAME_SPECTRUM = 1e-3


@dataclass(frozen=True, eq=False)
class Alignment:
    r"""A relabelling and a rotation that bring a code to a classifier.

    Attributes
    ----------
    permutation : ndarray of int, shape (K,), read-only
        Class c of W is matched to vector ``permutation[c]`` of V.
    rotation : ndarray, shape (d, d), read-only
        Orthogonal R with :math:`w_c \approx R v_{p(c)}`, that is W close to ``(V @ R.T)[permutation]``. Its determinant
        may be -1: no distance within a code tells a reflection.
    residual_angles : ndarray, shape (K,), read-only
        Degrees between :math:`w_c` and :math:`R v_{p(c)}`.
    """

    permutation: Permutation
    rotation: Square
    residual_angles: PerClass

    @property
    def mean_angle(self) -> float:
        """Mean of the residual angles, in degrees."""
        return float(self.residual_angles.mean())

    @property
    def rms_angle(self) -> float:
        """Root mean square of the residual angles, in degrees."""
        return float(np.sqrt(np.mean(self.residual_angles**2)))

    @property
    def max_angle(self) -> float:
        """The largest residual angle, in degrees."""
        return float(self.residual_angles.max())


def align(W: ArrayLike, V: SoftmaxCode | ArrayLike, *, starts: int | None = None, seed: int = 0) -> Alignment:
    r"""Find the relabelling and rotation of V that bring it nearest to W.

    Parameters
    ----------
    W : array_like, shape (K, d)
        Rows of any non-zero norm; their directions count. At most ``MAX_ALIGN_CLASSES`` rows.
    V : SoftmaxCode or array_like, shape (K, d)
        Likewise.
    starts : int, optional
        Quadratic assignments tried, with two frames for every 16 or part of 16; by default 64 up to K = 100,
        falling to 2 from K = 300 on.
    seed : int
        Everything random follows from it.

    Returns
    -------
    Alignment
        ``permutation``, ``rotation`` and ``residual_angles``. Where V has symmetries, one of the equally good answers.

    Raises
    ------
    ValueError
        If an array is not one of finite non-zero rows, or the shapes differ.
    NotComputed
        For more classes than ``MAX_ALIGN_CLASSES``.

    Notes
    -----
    The problem is

    .. math:: \min_{p, R^T R = I} \sum_c \|w_c - R v_{p(c)}\|^2 .

    For fixed p the best R is that of the orthogonal Procrustes problem, for fixed R the best p is a linear assignment;
    the two alternate to a fixed point, which depends on the start. Starts are (a) the matching of rows with the most
    alike sorted cosines; (b) frames: a few rows of W and sets of rows of V with nearly their mutual
    cosines, found by a beam search, every other row being matched by its cosines with the frame, which succeeds on
    symmetric codes, where (a) sees no difference between rows; (c) local maxima of
    :math:`\|W^T P V\|_F`, the quadratic assignment of the two Gram matrices. The best is kept: a local minimum, unless
    the residuals vanish.

    References
    ----------
    P. H. Schoenemann, A generalized solution of the orthogonal Procrustes problem, Psychometrika 31 (1966) 1-10.

    Examples
    --------
    >>> import numpy as np, softmaxcode as sc
    >>> V = sc.best_known(12, 3).W
    >>> W = V[::-1] @ np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]])
    >>> found = align(W, V)
    >>> found.max_angle < 1e-6, np.allclose((V @ found.rotation.T)[found.permutation], W)
    (True, True)
    """
    W = check_rows(W, normalize=True)
    V = check_rows(V, normalize=True, name="V")
    _check_alike(W, V, "V")
    _check_alignable(len(W))
    starts = min(MOST_STARTS, default_starts(len(W))) if starts is None else check_integer("starts", starts, 1)
    rng = np.random.default_rng(check_integer("seed", seed, 0))
    return _align(W, V, starts, rng)


def _check_alignable(K: int) -> None:
    if K > MAX_ALIGN_CLASSES:
        raise NotComputed(f"not computed: the alignment of {K} classes (the limit is {MAX_ALIGN_CLASSES})")


def _check_alike(W: Rows, V: Rows, name: str) -> None:
    if W.shape != V.shape:
        raise ValueError(f"W and {name} must have one shape (K, d); got {W.shape} and {V.shape}")


def _align(W: Rows, V: Rows, starts: int, rng: np.random.Generator) -> Alignment:
    """`align` for rows that were checked before."""
    K, d = W.shape
    if d > K:  # in coordinates of the two spans, whose complements then go to each other
        (Q_W, A), (Q_V, B) = qr(W.T), qr(V.T)
        p, turn = _nearest(A[:K].T.copy(), B[:K].T.copy(), starts, rng)
        R = Q_W @ block_diag(turn, np.eye(d - K)) @ Q_V.T
    else:
        p, R = _nearest(W, V, starts, rng)
    angles = np.degrees(2 * np.arcsin(np.minimum(1.0, np.linalg.norm(W - V[p] @ R.T, axis=1) / 2)))
    for array in (p, R, angles):
        array.flags.writeable = False
    return Alignment(p, R, angles)


def _nearest(W: Rows, V: Rows, starts: int, rng: np.random.Generator) -> tuple[Permutation, Square]:
    """The best fixed point of all starts, and whatever swaps of two classes make of it."""
    S, G = cosines(W), cosines(V)
    by_gram = guesses(S, G, starts, rng)
    by_frame = _frames(S, G, W.shape[1], starts, rng)
    best, p, R = -np.inf, np.arange(len(W)), np.eye(W.shape[1])
    for guess in itertools.chain(itertools.islice(by_gram, 1), by_frame, by_gram):
        found, turn, fit = _fixed_point(W, V, guess)
        if fit > best:
            best, p, R = fit, found, turn
        if np.linalg.norm(W - V[found] @ turn.T, axis=1).max() < EXACT:
            return found, turn
    found, turn, fit = _fixed_point(W, V, swaps(S, G, p))
    return (found, turn) if fit > best else (p, R)


def _fixed_point(W: Rows, V: Rows, p: Permutation) -> tuple[Permutation, Square, float]:
    """Procrustes and linear assignment in turn until the sum of cosines, the fit, no longer grows."""
    R, fit = _rotation(W, V, p)
    while True:
        trial = linear_sum_assignment(W @ (R @ V.T), maximize=True)[1]
        turn, better = _rotation(W, V, trial)
        if better <= fit + 1e-13 * len(W):
            return p, R, fit
        p, R, fit = trial, turn, better


def _rotation(W: Rows, V: Rows, p: Permutation) -> tuple[Square, float]:
    """The orthogonal R nearest to w_c = R v_p(c), and the sum of cosines <w_c, R v_p(c)> it reaches."""
    R, fit = orthogonal_procrustes(V[p], W)
    return R.T, float(fit)


def _frames(S: Square, G: Square, d: int, starts: int, rng: np.random.Generator) -> Iterator[Permutation]:
    """Permutations from frames of rows of W, spread and random in turn; S and G are the cosines of W and V.

    A spread frame is a random row and those that a pivoted factorisation adds, each the furthest from the span of the
    ones before: it bears noise best. In very symmetric codes its cosines are all alike and fit many sets of rows;
    those of a random frame are not.
    """
    K = len(S)
    size = min(K, d + 2, FRAME_ROWS)
    unlike = cdist(_fingerprints(S), _fingerprints(G), "sqeuclidean") / (K - 1)
    S, G = S + np.eye(K), G + np.eye(K)
    for _ in range(-(-starts // STARTS_PER_FRAMES)):
        weights = np.ones(K)
        weights[rng.integers(K)] = 2.0
        spread = qr(S * weights, mode="r", pivoting=True)[1][:size]
        yield from _by_frame(S, G, unlike, spread, rng)
        yield from _by_frame(S, G, unlike, rng.choice(K, size, replace=False), rng)


def _fingerprints(S: Square) -> np.ndarray:
    """For each row what no relabelling changes: its sorted cosines, and those of S^2, which see a row's neighbours."""
    return np.hstack([sorted_rows(S), sorted_rows(S @ S) / max(1.0, np.mean(np.sum(S * S, axis=1)))])


def _by_frame(
    S: Square, G: Square, unlike: Square, frame: np.ndarray, rng: np.random.Generator
) -> Iterator[Permutation]:
    """Permutations from the sets of rows of V that are the most like a frame of W.

    Sets grow a row at a time. They are ranked by the squared differences of their mutual cosines from the frame's,
    and of each row's fingerprint, which tells apart rows that few cosines cannot.
    """
    K, size = len(S), len(frame)
    width = max(1, BEAM // (K * size))
    sets, cost = np.arange(K)[:, None], unlike[frame[0]]
    for r in range(1, size):
        costs = cost[:, None] + unlike[frame[r]]
        for column, cosine in zip(sets.T, S[frame[r], frame[:r]], strict=True):
            costs += (G[column] - cosine) ** 2
        np.put_along_axis(costs, sets, np.inf, axis=1)  # no row twice
        # in symmetric codes many are equally good, and some cannot be continued: noise draws among them
        kept = np.argsort(costs + 1e-12 * rng.random(costs.shape), axis=None)[:width]
        kept = kept[np.isfinite(costs.flat[kept])]
        parents, rows = np.unravel_index(kept, costs.shape)
        sets, cost = np.column_stack([sets[parents], rows]), costs.flat[kept]
    for chosen in sets[:FRAMES_KEPT]:
        yield linear_sum_assignment(cdist(S[:, frame], G[:, chosen], "sqeuclidean"))[1]


@dataclass(frozen=True, eq=False)
class Figures:
    """What one set of K unit vectors measures, and how it compares with the reference code.

    Attributes
    ----------
    margin, gap : float
        The smallest one-vs-rest distance rho(W), and its primal-dual gap.
    max_cosine : float
        The largest cosine of two rows.
    spectrum : ndarray, shape (K (K - 1)/2,), read-only, or None
        Cosines of all pairs i < j, sorted; None for more than ``MAX_SPECTRUM_CLASSES`` classes.
    spectrum_distance : float or None
        Root mean square difference of the sorted cosines and the code's: the 2-Wasserstein distance of the two
        distributions. None without a code or spectra.
    alignment : Alignment or None
        The code brought to this set; None where it was not asked for or not computed.
    """

    margin: float
    gap: float
    max_cosine: float
    spectrum: np.ndarray | None
    spectrum_distance: float | None
    alignment: Alignment | None


@dataclass(frozen=True, eq=False)
class Comparison:
    """A classifier compared with a code; `print` shows it as a table.

    Attributes
    ----------
    K, d : int
        Number of classes and dimension.
    code : SoftmaxCode or None
        The reference; None where none was given and none is held.
    learned : Figures
        Of the classifier.
    random : Figures or None
        Of K independent uniform points, as a null: what no structure at all gives.
    local_optimum : Figures or None
        Of another code, found by one random start of the search for a large margin, as a second null: how near any
        good code comes to this one. Where (K, d) has essentially one local optimum it is the code itself, and aligns
        with it. Whether the classifier is nearer to this code than to others is for `other_optima` to say. Both are
        None without alignment.
    reference_margin : float
        The code's margin, else the proved upper bound on rho*.
    reference : str
        "code", or the name of the bound.
    note : str
        What was not computed and why; empty where everything was.
    """

    K: int
    d: int
    code: SoftmaxCode | None
    learned: Figures
    random: Figures | None
    local_optimum: Figures | None
    reference_margin: float
    reference: str
    note: str

    @property
    def margin(self) -> float:
        """The classifier's margin, rho(W)."""
        return self.learned.margin

    @property
    def margin_ratio(self) -> float:
        """The margin as a share of the reference's; NaN where that is 0. At most rho(W)/rho* against a bound."""
        return self.margin / self.reference_margin if self.reference_margin > 0 else float("nan")

    @property
    def spectrum_distance(self) -> float | None:
        """Root mean square difference of the sorted cosines of classifier and code."""
        return self.learned.spectrum_distance

    @property
    def alignment(self) -> Alignment | None:
        """The code brought to the classifier."""
        return self.learned.alignment

    @cached_property
    def figures(self) -> dict[str, Figures]:
        """Classifier and nulls by name, those that were computed."""
        named = {"learned": self.learned, "random": self.random, "local_optimum": self.local_optimum}
        return {name: figures for name, figures in named.items() if figures is not None}

    def to_dict(self) -> dict[str, float | int | str]:
        """Scalars alone, for a row of a data frame: names of a null carry its own as a prefix.

        What was not computed is NaN, so that every comparison has the same names.
        """
        code = self.code
        scalars: dict[str, float | int | str] = {
            "K": self.K,
            "d": self.d,
            "reference": self.reference,
            "reference_margin": self.reference_margin,
            "reference_max_cosine": float("nan") if code is None else code.max_cosine,
            "margin_ratio": self.margin_ratio,
        }
        for name, figures in (("", self.learned), ("random_", self.random), ("local_optimum_", self.local_optimum)):
            scalars |= {name + key: value for key, value in _scalars(figures).items()}
        return scalars

    def __str__(self) -> str:
        keys = ("margin", "max_cosine", "spectrum_distance", "mean_angle", "rms_angle", "max_angle")
        lines = [f"K = {self.K}, d = {self.d}, margin ratio {self.margin_ratio:.6f} to the {self.reference}"]
        lines.append(" " * 14 + "".join(f"{key:>19}" for key in keys))
        for name, figures in self.figures.items():
            scalars = _scalars(figures)
            lines.append(f"{name:<14}" + "".join(f"{scalars[key]:>19.6g}" for key in keys))
        if self.code is not None:
            lines.append(f"{'code':<14}{self.code.margin:>19.6g}{self.code.max_cosine:>19.6g}")
        return "\n".join([*lines, self.note] if self.note else lines)


def _scalars(figures: Figures | None) -> dict[str, float]:
    """The scalars of one row, NaN where not computed; angles in degrees."""
    alignment = None if figures is None else figures.alignment

    def of(owner: Figures | Alignment | None, name: str) -> float:
        value = None if owner is None else getattr(owner, name)
        return float("nan") if value is None else value

    measured = {name: of(figures, name) for name in ("margin", "gap", "max_cosine", "spectrum_distance")}
    return measured | {name: of(alignment, name) for name in ("mean_angle", "rms_angle", "max_angle")}


def compare(
    W: ArrayLike,
    code: SoftmaxCode | ArrayLike | None = None,
    *,
    align: bool = True,
    starts: int | None = None,
    seed: int = 0,
) -> Comparison:
    """Compare a classifier with a code: margins, cosine spectra, and the nearest relabelling and rotation.

    Parameters
    ----------
    W : array_like, shape (K, d)
        A classifier; rows of any non-zero norm, scaled to norm 1.
    code : SoftmaxCode or array_like, shape (K, d), optional
        The reference, by default `softmaxcode.best_known`. Where none is held, the margin is compared with the proved
        upper bound on rho* and nothing is aligned.
    align : bool
        Align the code with the classifier, and with two nulls: random points and another local optimum.
    starts : int, optional
        As in `softmaxcode.compare.comparison.align`.
    seed : int
        Everything random follows from it.

    Returns
    -------
    Comparison
        Figures of the classifier and of the nulls beside the code's; ``print`` shows a table and ``to_dict`` gives
        the scalars.

    Raises
    ------
    ValueError
        If an array is not one of finite non-zero rows, or the shapes differ.

    Examples
    --------
    >>> import numpy as np, softmaxcode as sc
    >>> code = sc.best_known(12, 3)
    >>> W = code.W + 0.05 * np.random.default_rng(0).standard_normal((12, 3))
    >>> found = compare(W, code)
    >>> found.margin_ratio < 1, found.alignment.rms_angle < 6 < found.random.alignment.rms_angle
    (True, True)
    >>> round(compare(W, code, align=False).to_dict()["reference_margin"], 6)
    0.552786
    """
    W = check_rows(W, normalize=True)
    K, d = W.shape
    starts = min(MOST_STARTS, default_starts(K)) if starts is None else check_integer("starts", starts, 1)
    seed = check_integer("seed", seed, 0)
    align = check_flag("align", align)
    reference: SoftmaxCode | None = None
    note = ""
    try:
        reference = _as_code(code, K, d)
        _check_alike(W, reference.W, "code")
        reference_margin, reference_name = reference.margin, "code"
        if align and K > MAX_ALIGN_CLASSES:
            note = f"alignment not computed: {K} classes (the limit is {MAX_ALIGN_CLASSES})"
    except NotHeldError as error:
        bound = error.bracket
        reference_margin, reference_name = bound.upper, f"upper bound ({bound.upper_method})"
        note = f"spectrum distance and alignment not computed: no code of (K, d) = ({K}, {d}) is held"
    aligned = align and not note

    def measured(X: Rows) -> Figures:
        return _measure(X, reference, starts if aligned else 0, np.random.default_rng(seed))

    random = optimum = None
    if aligned:
        points, search = np.random.SeedSequence(seed).spawn(2)
        random = measured(random_rows(K, d, np.random.default_rng(points)))
        optimum = measured(optimise(HARDMAX, *random_start(HARDMAX, K, d, search)).X[:K])

    return Comparison(
        K=K,
        d=d,
        code=reference,
        learned=measured(W),
        random=random,
        local_optimum=optimum,
        reference_margin=reference_margin,
        reference=reference_name,
        note=note,
    )


def other_optima(
    W: ArrayLike,
    code: SoftmaxCode | ArrayLike,
    *,
    count: int | None = None,
    starts: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """How near a classifier is to local optima other than a code: what its angle from that code is to be held against.

    Good codes come within some degrees of each other, so a classifier is that code in particular only if it is nearer
    to it than to the others.

    Parameters
    ----------
    W : array_like, shape (K, d)
        A classifier; rows of any non-zero norm. At most ``MAX_ALIGN_CLASSES`` rows.
    code : SoftmaxCode or array_like, shape (K, d)
        Which optimum is left out: those whose sorted cosines differ from the code's by less than ``SAME_SPECTRUM``.
    count : int, optional
        Random starts of the search; by default 10 up to K = 200, and 3 above.
    starts : int, optional
        As in `softmaxcode.compare.comparison.align`.
    seed : int
        Everything random follows from it.

    Returns
    -------
    ndarray, shape (n,)
        Root mean square angle in degrees from W to each of the n <= ``count`` other optima, relabelled and rotated to
        fit; rising.

    Raises
    ------
    ValueError
        If an array is not one of finite non-zero rows, or the shapes differ.
    NotComputed
        For more classes than ``MAX_ALIGN_CLASSES``.

    Examples
    --------
    >>> import numpy as np, softmaxcode as sc
    >>> code = sc.best_known(20, 8)
    >>> W = code.W + 0.05 * np.random.default_rng(0).standard_normal((20, 8))
    >>> bool(align(W, code).rms_angle < other_optima(W, code, count=4).min())
    True
    """
    W = check_rows(W, normalize=True)
    known = _as_code(code, *W.shape)
    _check_alike(W, known.W, "code")
    K, d = W.shape
    _check_alignable(K)
    if count is None:
        count = OPTIMA if K <= FEW_OPTIMA_CLASSES else FEW_OPTIMA
    count, seed = check_integer("count", count, 1), check_integer("seed", seed, 0)
    spectrum, angles = _spectrum(known.W), []
    # the first two children of the seed are those of the nulls of `compare`
    for search in np.random.SeedSequence(seed).spawn(2 + count)[2:]:
        found = optimise(HARDMAX, *random_start(HARDMAX, K, d, search)).X[:K]
        if np.sqrt(np.mean((_spectrum(found) - spectrum) ** 2)) >= SAME_SPECTRUM:
            angles.append(align(W, found, starts=starts, seed=seed).rms_angle)
    return np.sort(angles)


def _as_code(code: SoftmaxCode | ArrayLike | None, K: int, d: int) -> SoftmaxCode:
    """The reference: a code, anyone's rows, or the best one known."""
    if code is None:
        return best_known(K, d)
    return (
        code if isinstance(code, SoftmaxCode) else SoftmaxCode.from_rows(check_rows(code, normalize=True, name="code"))
    )


def _measure(X: Rows, code: SoftmaxCode | None, starts: int, rng: np.random.Generator) -> Figures:
    """The figures of unit rows; with ``starts`` the code is aligned with them."""
    smallest = smallest_margin(X)
    spectrum = distance = None
    if len(X) <= MAX_SPECTRUM_CLASSES:
        spectrum = _spectrum(X)
        if code is not None:
            distance = float(np.sqrt(np.mean((spectrum - _spectrum(code.W)) ** 2)))
    return Figures(
        margin=smallest.margin,
        gap=smallest.gap,
        max_cosine=float(largest_cosines(X).max()),
        spectrum=spectrum,
        spectrum_distance=distance,
        alignment=None if code is None or not starts else _align(X, code.W, starts, rng),
    )


def _spectrum(X: Rows) -> np.ndarray:
    """Cosines of all pairs i < j, sorted."""
    spectrum = np.sort((X @ X.T)[np.triu_indices(len(X), 1)])
    spectrum.flags.writeable = False
    return spectrum
