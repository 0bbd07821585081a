"""Local optima other than the best known code, to compare a classifier with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from softmaxcode.checks.arguments import check_integer
from softmaxcode.code import SoftmaxCode
from softmaxcode.compare.alignment import align, check_alignable, check_alike
from softmaxcode.compare.comparison import SAME_SPECTRUM, as_code, sorted_cosines
from softmaxcode.search.energy import HARDMAX
from softmaxcode.search.multistart import optimise, random_start
from softmaxcode.sphere import check_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


#: Starts of the search for other local optima, up to `FEW_OPTIMA_CLASSES` classes and above: each optimum is aligned.
OPTIMA, FEW_OPTIMA, FEW_OPTIMA_CLASSES = 10, 3, 200


def other_optima(
    W: ArrayLike,
    code: SoftmaxCode | ArrayLike,
    *,
    count: int | None = None,
    starts: int | None = None,
    seed: int = 0,
) -> np.ndarray:
    """Angles of a classifier to local optima other than a code, to compare with its angle to that code.

    Good codes differ by only some degrees. So a classifier matches one code in particular only if it is nearer to that
    one than to the others.

    Parameters
    ----------
    W : array_like, shape (K, d)
        A classifier; rows of any non-zero norm. At most ``MAX_ALIGN_CLASSES`` rows.
    code : SoftmaxCode or array_like, shape (K, d)
        The optimum to omit: one whose sorted cosines differ from the code's by less than ``SAME_SPECTRUM``.
    count : int, optional
        Random starts of the search; by default 10 up to K = 200, and 3 above.
    starts : int, optional
        As in `softmaxcode.compare.comparison.align`.
    seed : int
        Everything random follows from it.

    Returns
    -------
    ndarray, shape (n,)
        Root mean square angle in degrees from W to each of the n <= ``count`` other optima, in increasing order. Each
        optimum is relabelled and rotated to fit.

    Raises
    ------
    ValueError
        If an array is not one of finite non-zero rows, or the shapes differ.
    NotComputed
        For more classes than ``MAX_ALIGN_CLASSES``.

    Examples
    --------
    >>> import numpy as np, softmaxcode as sc
    >>> code = sc.best_known(13, 5)
    >>> W = code.W + 0.05 * np.random.default_rng(0).standard_normal((13, 5))
    >>> bool(align(W, code).rms_angle < other_optima(W, code, count=2).min())
    True
    """
    W = check_rows(W, normalize=True)
    known = as_code(code, *W.shape)
    check_alike(W, known.W, "code")
    K, d = W.shape
    check_alignable(K)
    if count is None:
        count = OPTIMA if K <= FEW_OPTIMA_CLASSES else FEW_OPTIMA
    count, seed = check_integer("count", count, 1), check_integer("seed", seed, 0)
    spectrum, angles = sorted_cosines(known.W), []
    # the first two children of the seed are those of the nulls of `compare`
    for search in np.random.SeedSequence(seed).spawn(2 + count)[2:]:
        found = optimise(HARDMAX, *random_start(HARDMAX, K, d, search)).X[:K]
        if np.sqrt(np.mean((sorted_cosines(found) - spectrum) ** 2)) >= SAME_SPECTRUM:
            angles.append(align(W, found, starts=starts, seed=seed).rms_angle)
    return np.sort(angles)
