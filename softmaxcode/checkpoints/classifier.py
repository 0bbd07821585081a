"""The classifier that was read: its rows as they are stored, its bias, and how they were read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from softmaxcode.sphere import as_array, check_unmasked

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from torch import nn

    from softmaxcode.types import PerClass, Rows

#: Rows, or layers, that a message names; the others are counted.
MAX_NAMED = 5
#: The largest entry: norms of larger rows may overflow.
LARGEST = 1e300


@dataclass(frozen=True, eq=False)
class Classifier:
    """A classifier's weights before any scaling.

    Attributes
    ----------
    W : ndarray, shape (K, d), float64
        One row per class, finite; rows of zeros are allowed.
    bias : ndarray, shape (K,), or None
        The bias that belongs to it.
    source : str
        Where it is from, such as a file and the name of its matrix.
    notes : tuple of str
        How it was read: which way the matrix was turned, and what was found beside it. A sentence each.
    """

    W: Rows
    bias: PerClass | None
    source: str
    notes: tuple[str, ...]

    @property
    def K(self) -> int:
        """Number of classes."""
        return len(self.W)

    @property
    def d(self) -> int:
        """Dimension of the features."""
        return self.W.shape[1]


def checked_classifier(
    matrix: Any,
    bias: Any,
    source: str,
    *,
    turned: bool | None = None,
    transpose: bool | None = None,
    names: Sequence[str] | None = None,
    kind: str = "",
) -> Classifier:
    """Validate a matrix and its bias, and turn the matrix so that each row is a class.

    Parameters
    ----------
    matrix : array_like or Tensor
        Of two dimensions, or of more where all but two have length 1 (a convolution of size 1).
    bias : array_like, Tensor or None
        Its bias. A bias as long as the columns and not the rows shows that the columns are the classes.
    source : str
        Where they are from.
    turned : bool, optional
        Whether the columns are the classes, where the file or module shows it.
    transpose : bool, optional
        What the user states; it overrides everything else.
    names : sequence of str, optional
        Names of the classes; their number shows which axis has the classes.
    kind : str
        What shows ``turned``, for the note, such as "a Gemm node".

    Raises
    ------
    ValueError
        If the matrix is not a finite real (K, d) with K >= 2, or no axis has as many entries as there are names.
    """
    array = _matrix(matrix, source)
    rows, columns = array.shape
    vector = None if bias is None else _vector(bias, source)
    fits = None if vector is None or rows == columns else {rows: False, columns: True}.get(len(vector))
    named = None if names is None or rows == columns else {rows: False, columns: True}.get(len(names))
    reasons = (
        (transpose, "as was asked for"),
        (turned, f"as {kind} shows" if kind else "as its module shows"),
        (fits, f"since the bias has {0 if vector is None else len(vector)} entries"),
        (named, f"since there are {0 if names is None else len(names)} names"),
    )
    chosen, reason = next(((bool(given), why) for given, why in reasons if given is not None), (False, ""))
    notes = []
    if chosen:
        notes.append(f"the matrix is stored {rows} x {columns}; its columns were read as the classes, {reason}")
        array, (rows, columns) = array.T, (columns, rows)
    elif not reason and rows <= columns:
        notes.append(
            f"nothing shows which axis has the classes: the {rows} rows were read as classes; if the {columns} columns "
            "are the classes, pass transpose=True (--transpose)"
        )
    if rows < 2:
        raise ValueError(f"{source} must have at least two classes; got {rows} of dimension {columns}")
    if names is not None and len(names) != rows:
        other = f"; the other axis has {columns}: pass transpose=True (--transpose)" if len(names) == columns else ""
        raise ValueError(f"there must be {rows} names, one per class of {source}; got {len(names)}{other}")
    if vector is not None and len(vector) != rows:
        notes.append(f"its bias has {len(vector)} entries, not one per class, and was left out")
        vector = None
    with np.errstate(over="ignore"):
        W = np.ascontiguousarray(array, dtype=np.float64)
    bad = np.flatnonzero(~np.isfinite(W).all(axis=1))
    if len(bad):
        listed = ", ".join(map(str, bad[:MAX_NAMED])) + (", ..." if len(bad) > MAX_NAMED else "")
        raise ValueError(
            f"{source} must be finite; {len(bad)} of its {rows} rows have NaN or infinite entries: {listed}"
        )
    if np.abs(W).max() > LARGEST:
        raise ValueError(f"{source} must have entries of at most {LARGEST:g}; got {np.abs(W).max():g}: scale it")
    return Classifier(W, vector, source, tuple(notes))


def _matrix(matrix: Any, source: str) -> np.ndarray:
    array = as_array(matrix, source)
    check_unmasked(matrix, source)
    if array.dtype.kind not in "fiub":
        raise ValueError(f"{source} must be an array of real numbers; got {array.dtype}")
    if array.ndim > 2 and all(n == 1 for n in array.shape[2:]):  # the kernel of a convolution of size 1
        array = array.reshape(array.shape[:2])
    if array.ndim != 2:
        raise ValueError(f"{source} must be a matrix, one row per class; got shape {array.shape}")
    return array


def _vector(bias: Any, source: str) -> PerClass:
    vector = np.asarray(as_array(bias, f"the bias of {source}"), dtype=np.float64).reshape(-1)
    if not np.isfinite(vector).all():
        raise ValueError(f"the bias of {source} must be finite; {int((~np.isfinite(vector)).sum())} entries are not")
    return vector


def layers_with_weights(model: Any) -> str:
    """The layers of a network that have a weight matrix, for a message."""
    named = [name for name, one in model.named_modules() if name and _dimensions(one) >= 2]
    return f"its layers with a weight matrix, the last first: {', '.join(named[-MAX_NAMED:][::-1]) or 'none'}"


def _dimensions(layer: Any) -> int:
    """The number of axes of a layer's weight; 0 without one."""
    return getattr(getattr(layer, "weight", None), "ndim", 0)


def _is_turned(layer: Any) -> bool | None:
    """Whether a layer stores one column per output; None where it does not show."""
    if getattr(layer, "transposed", False) or hasattr(layer, "nf"):  # Conv1D of transformers has nf outputs
        return True
    names = ("out_features", "num_embeddings", "out_channels", "K")
    outputs = next((getattr(layer, name) for name in names if hasattr(layer, name)), None)
    rows, columns = layer.weight.shape[:2]
    return None if outputs is None else outputs == columns != rows


def classifier_of(
    model: nn.Module | ArrayLike, *, transpose: bool | None = None, names: Sequence[str] | None = None
) -> Classifier:
    """The classifier of a layer, or of a matrix.

    Parameters
    ----------
    model : Module or array_like
        A layer with one weight matrix: `torch.nn.Linear`, `torch.nn.Embedding`, a convolution of size 1, a head of
        `softmaxcode.nn`, or any module with a ``weight``. Or a matrix (K, d).
    transpose : bool, optional
        Whether the columns are the classes; by default what the layer, its bias and the names show, else the rows.
    names : sequence of str, optional
        Names of the classes.

    Returns
    -------
    Classifier
        With float64 rows.

    Raises
    ------
    ValueError
        If the module has no single weight matrix, or the matrix is not finite, real and two-dimensional.

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Linear(3, 8)
    >>> found = classifier_of(layer)
    >>> (found.K, found.d), found.bias.shape, found.notes
    ((8, 3), (8,), ())
    """
    if not hasattr(model, "named_parameters"):  # not a module
        return checked_classifier(model, None, "W", transpose=transpose, names=names)
    layer: Any = model
    kind = type(layer).__name__
    if _dimensions(layer) < 2:
        hint = layers_with_weights(layer)
        raise ValueError(f"the module {kind} has no weight matrix of its own: pass its last layer; {hint}")
    if getattr(layer, "groups", 1) != 1:
        raise ValueError(f"the module {kind} has {layer.groups} groups of channels, so no class has all features")
    bias = getattr(layer, "bias", None)
    found = checked_classifier(
        as_array(layer.weight, f"the weight of {kind}"),
        None if bias is None else as_array(bias, f"the bias of {kind}"),
        kind,
        turned=_is_turned(layer),
        transpose=transpose,
        names=names,
    )
    return replace(found, source=f"{kind} layer")
