"""A learned classifier compared with a code: margins, cosines and angles."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.assignment import default_starts
from softmaxcode.catalog import UnknownCodeError
from softmaxcode.checks.arguments import check_flag, check_integer, check_number
from softmaxcode.code import SoftmaxCode
from softmaxcode.compare.alignment import MAX_ALIGN_CLASSES, MOST_STARTS, aligned_rows, check_alike
from softmaxcode.compare.reference import label, reference_code, weakness
from softmaxcode.margins.exact import smallest_margin
from softmaxcode.parallel.deadline import Deadline
from softmaxcode.search.energy import HARDMAX
from softmaxcode.search.multistart import optimise, random_start
from softmaxcode.sphere import check_rows, largest_cosines, random_rows
from softmaxcode.storage.provenance import Evidence

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from softmaxcode.compare.alignment import Alignment
    from softmaxcode.types import Rows


#: Seconds for the alignments of a comparison.
SECONDS = 60.0
#: Spectra store K (K - 1)/2 cosines, 400 MB at this many classes.
MAX_SPECTRUM_CLASSES = 10_000
#: Codes whose sorted cosines differ by less (root mean square) count as one; a search ends about 1e-5 from an optimum.
SAME_SPECTRUM = 1e-3


@dataclass(frozen=True, eq=False)
class Measurements:
    """Measurements of one set of K unit vectors, and their comparison with the reference code.

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
        The code aligned with this set; None where it was not requested or not computed.
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
        The reference; None where neither a code was given nor one is stored.
    learned : Measurements
        Measurements of the classifier.
    random : Measurements or None
        Those of K independent uniform points, as a null without any structure.
    local_optimum : Measurements or None
        Those of another code, found by one random start of the search for a large margin. As a second null, it shows
        how near any good code comes to this one. Where (K, d) has essentially one local optimum, it is the code itself
        and aligns with it. `other_optima` answers whether the classifier is nearer to this code than to others. Both
        nulls are None without alignment.
    reference_margin : float
        The code's margin, else the proved upper bound on rho*.
    reference : str
        "code", or the name of the bound; "code (construction only, never searched)" for a stored code whose pair was
        never searched.
    note : str
        What was not computed, and why; whether the reference was never searched, and by how much the margin exceeds
        that of the reference. Empty where there is nothing to note.
    """

    K: int
    d: int
    code: SoftmaxCode | None
    learned: Measurements
    random: Measurements | None
    local_optimum: Measurements | None
    reference_margin: float
    reference: str
    note: str

    @property
    def evidence(self) -> Evidence | None:
        """How hard the reference was searched (`softmaxcode.Evidence`); None for a given code or a bound."""
        return None if self.code is None else self.code.provenance.evidence

    @property
    def reference_label(self) -> str:
        """What the reference may be called, such as "best known"; the name of the bound where there is no code."""
        return self.reference if self.code is None else label(self.evidence)

    @property
    def margin(self) -> float:
        """The classifier's margin, rho(W)."""
        return self.learned.margin

    @property
    def margin_ratio(self) -> float:
        """The margin as a fraction of the reference margin; NaN where that is 0. At most rho(W)/rho* for a bound."""
        return self.margin / self.reference_margin if self.reference_margin > 0 else float("nan")

    @property
    def spectrum_distance(self) -> float | None:
        """Root mean square difference of the sorted cosines of classifier and code."""
        return self.learned.spectrum_distance

    @property
    def alignment(self) -> Alignment | None:
        """The code aligned with the classifier."""
        return self.learned.alignment

    @cached_property
    def measurements(self) -> dict[str, Measurements]:
        """Measurements of the classifier and of the computed nulls, by name."""
        named = {"learned": self.learned, "random": self.random, "local_optimum": self.local_optimum}
        return {name: measured for name, measured in named.items() if measured is not None}

    @property
    def figures(self) -> dict[str, Measurements]:
        """The old name of `measurements`."""
        warnings.warn("Comparison.figures is now Comparison.measurements", DeprecationWarning, stacklevel=2)
        return self.measurements

    def to_dict(self) -> dict[str, float | int | str]:
        """Scalars alone, for a row of a data frame: names of a null have its own name as a prefix.

        Values that were not computed are NaN, so that every comparison has the same names.
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
        for name, measured in (("", self.learned), ("random_", self.random), ("local_optimum_", self.local_optimum)):
            scalars |= {name + key: value for key, value in _scalars(measured).items()}
        return scalars

    def __str__(self) -> str:
        keys = ("margin", "max_cosine", "spectrum_distance", "mean_angle", "rms_angle", "max_angle")
        lines = [f"K = {self.K}, d = {self.d}, margin ratio {self.margin_ratio:.6f} to the {self.reference}"]
        lines.append(" " * 14 + "".join(f"{key:>19}" for key in keys))
        for name, measured in self.measurements.items():
            scalars = _scalars(measured)
            lines.append(f"{name:<14}" + "".join(f"{scalars[key]:>19.6g}" for key in keys))
        if self.code is not None:
            lines.append(f"{'code':<14}{self.code.margin:>19.6g}{self.code.max_cosine:>19.6g}")
        return "\n".join([*lines, self.note] if self.note else lines)


def _scalars(measured: Measurements | None) -> dict[str, float]:
    """The scalars of one row, NaN where not computed; angles in degrees."""
    alignment = None if measured is None else measured.alignment

    def of(owner: Measurements | Alignment | None, name: str) -> float:
        value = None if owner is None else getattr(owner, name)
        return float("nan") if value is None else value

    scalars = {name: of(measured, name) for name in ("margin", "gap", "max_cosine", "spectrum_distance")}
    return scalars | {name: of(alignment, name) for name in ("mean_angle", "rms_angle", "max_angle")}


def compare(
    W: ArrayLike,
    code: SoftmaxCode | ArrayLike | None = None,
    *,
    align: bool = True,
    starts: int | None = None,
    seconds: float = SECONDS,
    seed: int = 0,
    search: bool = True,
) -> Comparison:
    """Compare a classifier with a code: margins, cosine spectra, and the nearest relabelling and rotation.

    Parameters
    ----------
    W : array_like, shape (K, d)
        A classifier; rows of any non-zero norm, scaled to norm 1.
    code : SoftmaxCode or array_like, shape (K, d), optional
        The reference, by default `softmaxcode.best_known`. If its pair was never searched, a search of five seconds
        improves it. If no code is stored, the margin is compared with the proved upper bound on rho*, and nothing is
        aligned.
    align : bool
        Align the code with the classifier, and with two nulls: random points and another local optimum.
    starts : int, optional
        As in `softmaxcode.compare.comparison.align`.
    seconds : float
        About the time for the alignments, a quarter for each and for the search of the second null. Where it is short,
        ``note`` says so, and the angles depend on the machine.
    seed : int
        Everything random follows from it.
    search : bool
        Whether to search where the stored reference was never searched. The search is announced by a warning, and its
        result is stored in the user's catalogue.

    Returns
    -------
    Comparison
        Measurements of the classifier, the nulls and the code. ``print`` shows a table and ``to_dict`` returns the
        scalars.

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
    share = check_number("seconds", seconds, 0, np.inf, "[)") / 4
    reference: SoftmaxCode | None = None
    missing = ""
    try:
        reference = as_code(code, K, d, search=check_flag("search", search))
        check_alike(W, reference.W, "code")
        reference_margin, reference_name = reference.margin, "code"
        if align and K > MAX_ALIGN_CLASSES:
            missing = f"alignment not computed: {K} classes (the limit is {MAX_ALIGN_CLASSES})"
    except UnknownCodeError as error:
        bound = error.bounds
        reference_margin, reference_name = bound.upper, f"upper bound ({bound.upper_method})"
        missing = f"spectrum distance and alignment not computed: no code of (K, d) = ({K}, {d}) is stored"
    aligned = align and not missing

    def measured(X: Rows) -> Measurements:
        return _measure(X, reference, starts if aligned else 0, np.random.default_rng(seed), share)

    random = optimum = None
    if aligned:
        points, start = np.random.SeedSequence(seed).spawn(2)
        random = measured(random_rows(K, d, np.random.default_rng(points)))
        begin = random_start(HARDMAX, K, d, start)
        optimum = measured(optimise(HARDMAX, *begin, deadline=Deadline(share).end).X[:K])

    learned = measured(W)
    notes = [missing]
    every = (learned, random, optimum)
    if any(one is not None and one.alignment is not None and not one.alignment.complete for one in every):
        notes.append(
            f"alignments stopped after {share:.3g} s each, before every start was tried: nearer ones may exist"
        )
    if reference is not None:
        evidence = reference.provenance.evidence
        if evidence == Evidence.CONSTRUCTION:
            reference_name = f"code ({label(evidence)})"
            notes.append(f"the reference is {label(evidence)}: a search may beat it by far")
        notes.append(weakness(learned.margin, reference_margin, evidence, K, d))
    return Comparison(
        K=K,
        d=d,
        code=reference,
        learned=learned,
        random=random,
        local_optimum=optimum,
        reference_margin=reference_margin,
        reference=reference_name,
        note="; ".join(filter(None, notes)),
    )


def as_code(code: SoftmaxCode | ArrayLike | None, K: int, d: int, *, search: bool = False) -> SoftmaxCode:
    """The reference: a code, given rows, or the best stored code, after a short search on request."""
    if code is None:
        return reference_code(K, d, search=search)
    return (
        code if isinstance(code, SoftmaxCode) else SoftmaxCode.from_rows(check_rows(code, normalize=True, name="code"))
    )


def _measure(X: Rows, code: SoftmaxCode | None, starts: int, rng: np.random.Generator, seconds: float) -> Measurements:
    """The measurements of unit rows; with ``starts`` the code is aligned with them in about so many seconds."""
    smallest = smallest_margin(X)
    spectrum = distance = None
    if len(X) <= MAX_SPECTRUM_CLASSES:
        spectrum = sorted_cosines(X)
        if code is not None:
            distance = float(np.sqrt(np.mean((spectrum - sorted_cosines(code.W)) ** 2)))
    return Measurements(
        margin=smallest.margin,
        gap=smallest.gap,
        max_cosine=float(largest_cosines(X).max()),
        spectrum=spectrum,
        spectrum_distance=distance,
        alignment=None if code is None or not starts else aligned_rows(X, code.W, starts, rng, Deadline(seconds)),
    )


def sorted_cosines(X: Rows) -> np.ndarray:
    """Cosines of all pairs i < j, sorted."""
    spectrum = np.sort((X @ X.T)[np.triu_indices(len(X), 1)])
    spectrum.flags.writeable = False
    return spectrum
