"""SoftmaxCode: the data that `solve` returns and `load` reads, with every measurement derived from the coordinates."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from softmaxcode.certificates.certificate import derive_certificate
from softmaxcode.certificates.rigorous import exact_rounding
from softmaxcode.checks.arguments import check_flag, check_objective, shown
from softmaxcode.checks.limits import MAX_ALL_MARGINS, MAX_CONTACT_CLASSES, NotComputed
from softmaxcode.contacts.system import tammes_system
from softmaxcode.margins.exact import SmallestMargin, margins, smallest_margin
from softmaxcode.sphere import angle_degrees, check_rows, largest_cosines
from softmaxcode.storage.files import read_code, write_code
from softmaxcode.storage.provenance import Provenance
from softmaxcode.symmetry import symmetry_group

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import ArrayLike

    from softmaxcode.certificates.certificate import Certificate
    from softmaxcode.certificates.proof import ProvedValue
    from softmaxcode.exact import ClosedForm, ExactCode
    from softmaxcode.margins.exact import Margins
    from softmaxcode.types import Mask, Pairs, PerClass, Rows

#: Rows of a large exact code among whose cosines `max_cosine` looks for one that reaches the bound of the family.
ATTAINING_ROWS = 64


def check_code(name: str, code: Any) -> None:
    """Raise a ValueError unless ``code`` is a SoftmaxCode; ``name`` is the caller that the message names."""
    if not isinstance(code, SoftmaxCode):
        raise ValueError(
            f"{name} takes a SoftmaxCode, from softmaxcode.solve, load or SoftmaxCode.from_rows(W); got {shown(code)}"
        )


@dataclass(frozen=True, eq=False)
class SoftmaxCode:
    """K unit vectors in R^d and the measurements derived from them.

    ``np.asarray(code)`` is ``code.W``. Measurements are derived from the coordinates on first use, then cached.

    Attributes
    ----------
    W : ndarray, shape (K, d), float64, read-only
        Unit rows.
    objective : {"softmax", "tammes"}
        What the code was made to maximise: the margin, or the smallest distance.
    provenance : Provenance
        Closed form or search, seed, starts, seconds, version.
    proved : ProvedValue or None
        With ``solve(..., digits=n)``: the value to n digits with a proved radius. A loaded code has None, since a proof
        in a file is only a claim. ``softmaxcode check`` proves it again.
    """

    W: Rows
    objective: str
    provenance: Provenance
    proved: ProvedValue | None = None
    _exact: ExactCode | ClosedForm | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self._exact is not None and self.W is self._exact.W:  # read-only already, and possibly large
            W = self.W
        else:
            W = np.array(check_rows(self.W), order="C")
            object.__setattr__(self, "_exact", None)
        W.flags.writeable = False
        object.__setattr__(self, "W", W)
        check_objective(self.objective)

    @classmethod
    def from_rows(cls, W: ArrayLike, *, objective: str = "softmax", normalize: bool = False) -> SoftmaxCode:
        """Make a code from any unit rows, such as a trained classifier, to measure, certify or plot them.

        Parameters
        ----------
        W : array_like, shape (K, d)
            Unit vectors, one per row.
        objective : {"softmax", "tammes"}
            The objective that the certificate's status refers to.
        normalize : bool
            Scale the rows to unit norm first.

        Raises
        ------
        ValueError
            For rows that are not finite unit vectors, or an unknown objective.

        Examples
        --------
        >>> import numpy as np
        >>> round(SoftmaxCode.from_rows(np.eye(3)).margin, 12)
        1.224744871392
        """
        return cls(check_rows(W, normalize=normalize), objective, Provenance("rows given by the caller"))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if dtype is None or np.dtype(dtype) == self.W.dtype:
            return self.W.copy() if copy else self.W
        if copy is False:
            raise ValueError(f"a copy is needed to convert {self.W.dtype} to {np.dtype(dtype)}")
        return self.W.astype(dtype)

    def __repr__(self) -> str:
        return (
            f"SoftmaxCode(K={self.K}, d={self.d}, objective={self.objective!r}, margin={self.margin:.15g}, "
            f"max_cosine={self.max_cosine:.15g})"
        )

    @property
    def cosine_bound(self) -> float | None:
        """A proved upper bound on the largest cosine of the exact code that these rows round, or None.

        Codes of the exact families have one. It never comes from a file.
        """
        return None if self._exact is None else self._exact.max_cosine

    @property
    def closed_margin(self) -> float | None:
        """The margin of the closed form that these rows round; None where there is no closed form."""
        return None if self._exact is None else self._exact.margin

    @property
    def is_long(self) -> bool:
        """Whether a pass over all pairs takes so long that the values proved for the exact code are used instead."""
        return self._exact is not None and self.K * self.K * self.d > MAX_ALL_MARGINS

    @property
    def K(self) -> int:
        """Number of classes."""
        return len(self.W)

    @property
    def d(self) -> int:
        """Dimension."""
        return self.W.shape[1]

    # The margin side

    @cached_property
    def _all(self) -> Margins:
        if self.K * self.K * self.d > MAX_ALL_MARGINS:
            raise NotComputed(
                f"not computed: all {self.K} margins at d = {self.d} exceed K*K*d = {MAX_ALL_MARGINS:g}; "
                "code.margin is the smallest one, and softmaxcode.margin(code.W) computes all of any size"
            )
        return margins(self.W)

    @cached_property
    def _smallest(self) -> SmallestMargin:
        if self.is_long and self.closed_margin is not None:  # docs/theory.md, T3: its last class attains the margin
            return SmallestMargin(self.closed_margin, exact_rounding(self.d), self.K - 1, 0)
        return smallest_margin(self.W, max_cosine=self.cosine_bound if self.is_long else None)

    @property
    def margin(self) -> float:
        """The smallest one-vs-rest distance, rho(W)."""
        return self._smallest.margin

    @property
    def margins(self) -> PerClass:
        """One-vs-rest distance of every class, shape (K,), read-only; `NotComputed` for very large codes."""
        return self._all.margins

    @property
    def H(self) -> Rows:
        """Unit vectors (K, d) at which the margins are attained: h_k separates class k best from the rest."""
        return self._all.H

    # The Tammes side

    @cached_property
    def largest_cosines(self) -> PerClass:
        """For every row its largest cosine with another row, shape (K,), read-only."""
        largest = largest_cosines(self.W)
        largest.flags.writeable = False
        return largest

    @property
    def max_cosine(self) -> float:
        """The largest cosine of two different rows, mu(W).

        For a large code of an exact family, not every pair is computed. The family has a proved bound on the largest
        cosine; a first pair that reaches the bound shows that it is attained.
        """
        bound = self.cosine_bound
        if bound is not None and self._attaining is not None:
            return bound
        return float(self.largest_cosines.max())

    @cached_property
    def _attaining(self) -> tuple[int, int] | None:
        """A pair of a long exact code whose cosine reaches, up to rounding, the proved bound of its family."""
        bound = self.cosine_bound
        if bound is None or not self.is_long:
            return None
        C = self.W[:ATTAINING_ROWS] @ self.W.T
        C[np.arange(len(C)), np.arange(len(C))] = -np.inf
        i, j = np.unravel_index(int(np.argmax(C)), C.shape)
        return (int(i), int(j)) if C[i, j] > bound - 1e-13 else None

    @cached_property
    def min_distance(self) -> float:
        """The smallest chord between two rows: sqrt(2 - 2 mu), from the closest pair's difference."""
        if self._attaining is not None:
            i, j = self._attaining
            return float(np.linalg.norm(self.W[i] - self.W[j]))
        i = int(np.argmax(self.largest_cosines))
        distances = np.linalg.norm(self.W - self.W[i], axis=1)
        distances[i] = np.inf
        return float(distances.min())

    @property
    def min_angle(self) -> float:
        """The smallest angle between two rows, in degrees."""
        if self.max_cosine > 0.9:  # the chord is the better-conditioned value for near points
            return float(np.degrees(2 * np.arcsin(min(1.0, self.min_distance / 2))))
        return angle_degrees(self.max_cosine)

    @cached_property
    def contacts(self) -> Pairs:
        """Pairs i < j at the largest cosine, within the certificate's threshold: integer array, shape (n, 2)."""
        if self.K > MAX_CONTACT_CLASSES:
            raise NotComputed(f"not computed: contacts of {self.K} classes (the limit is {MAX_CONTACT_CLASSES})")
        system = tammes_system(self.W, self.certificate.threshold)
        pairs = np.column_stack([system.a, system.b])
        pairs.flags.writeable = False
        return pairs

    @cached_property
    def tammes_rattlers(self) -> np.ndarray:
        """Rows with no contact: integer array."""
        free = np.flatnonzero(self.largest_cosines < self.max_cosine - self.certificate.threshold)
        free.flags.writeable = False
        return free

    @cached_property
    def softmax_rattlers(self) -> np.ndarray:
        """Classes whose one-vs-rest distance exceeds the margin by more than the threshold: integer array."""
        free = np.flatnonzero(self.margins > self.margin + self.certificate.threshold)
        free.flags.writeable = False
        return free

    @property
    def is_tammes_rattler(self) -> Mask:
        """Boolean form of `tammes_rattlers`, shape (K,)."""
        mask = np.zeros(self.K, dtype=bool)
        mask[self.tammes_rattlers] = True
        return mask

    @property
    def is_softmax_rattler(self) -> Mask:
        """Boolean form of `softmax_rattlers`, shape (K,)."""
        mask = np.zeros(self.K, dtype=bool)
        mask[self.softmax_rattlers] = True
        return mask

    @cached_property
    def symmetry_order(self) -> int:
        """The number of permutations of the rows that preserve every cosine (`softmaxcode.symmetry.symmetry_group`).

        `NotComputed` for very large codes.
        """
        return symmetry_group(self.W).order

    @cached_property
    def certificate(self) -> Certificate:
        """Rigorous lower bound, optimality residual, upper bound and status; derived from the coordinates alone."""
        return derive_certificate(self)

    def save(self, path: str | Path) -> None:
        """Write ``.npz`` (coordinates, measurements and their SHA-256), ``.csv`` (one point per line) or ``.txt``.

        A ``.txt`` file has one number per line, as Sloane's tables do. If its name is ``pack.d.K.txt``, `load` reads it
        without ``dim``.

        An existing file is replaced, as `numpy.save` does (the commands refuse it without ``--force``). The file is
        written atomically.

        Raises
        ------
        ValueError
            If the suffix is another one, the folder does not exist, or the provenance does not fit the file format.
        """
        write_code(self, path)


def code_of_unit_rows(W: Rows, objective: str, provenance: Provenance) -> SoftmaxCode:
    """A code of float64 rows that are unit already: they become read-only and are neither checked nor copied."""
    W.flags.writeable = False
    code = object.__new__(SoftmaxCode)
    values = {"W": W, "objective": objective, "provenance": provenance, "proved": None, "_exact": None}
    for name, value in values.items():
        object.__setattr__(code, name, value)
    return code


def certify(code: SoftmaxCode, *, lp: bool = True) -> Certificate:
    """Derive the certificate of a code from its coordinates and its objective alone.

    Parameters
    ----------
    code : SoftmaxCode
        From `solve`, `load` or `SoftmaxCode.from_rows`.
    lp : bool
        Whether Delsarte's linear programme, which takes seconds, may be solved for the upper bound.

    Returns
    -------
    Certificate
        The same object as ``code.certificate``, derived again.

    Examples
    --------
    >>> import softmaxcode as sc
    >>> certificate = sc.certify(sc.solve(6, 3))
    >>> certificate.status, certificate.lower_bound <= 1 <= certificate.upper_bound
    ('optimal', True)
    """
    check_code("certify", code)
    lp = check_flag("lp", lp)
    return derive_certificate(code, lp=lp)


def load(path: str | Path, *, dim: int | None = None, normalize: bool = False) -> SoftmaxCode:
    """Read a code from ``.npz``, a classifier from ``.npy``, or points from ``.txt`` or ``.csv``; nothing is unpickled.

    Measurements are derived again from the coordinates. Those in the file are not used; `softmaxcode check` compares
    them. A proof in the file is a claim that anyone can write, so ``proved`` is None. `softmaxcode check` proves it
    again.

    Parameters
    ----------
    path : path
        ``.npz`` as `SoftmaxCode.save` writes it; ``.npy`` with a (K, d) array; ``.txt`` or ``.csv`` with numbers
        between spaces, commas or line ends. In text files a ``#`` begins a comment. A first line of names is a
        heading, and so is one that counts 0, 1, 2, ..., as pandas writes it.
    dim : int, optional
        Dimension of a ``.txt`` or ``.csv`` file. By default a name ``pack.d.K.txt`` gives it. With other names it is
        the number of columns, which must be the same in all lines; a ``.txt`` file needs two or more.
    normalize : bool
        Scale the rows to unit norm first.

    Returns
    -------
    SoftmaxCode
        Its provenance is the one that an ``.npz`` file claims.

    Raises
    ------
    ValueError
        If the file is missing, truncated, pickled, of another kind, or declares more than 10^8 coordinates. Also if
        its arrays disagree, or its coordinates have changed since it was saved. The message names the fault.

    Examples
    --------
    >>> import softmaxcode as sc, tempfile, pathlib
    >>> file = pathlib.Path(tempfile.mkdtemp()) / "pack.3.4.txt"
    >>> sc.solve(4, 3).save(file)
    >>> round(sc.load(file).margin, 12)
    1.333333333333
    """
    stored = read_code(path, dim=dim, normalize=normalize)
    return SoftmaxCode(stored.W, stored.objective, stored.provenance)
