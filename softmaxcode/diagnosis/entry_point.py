"""`diagnose`: read a classifier out of a layer, a matrix or a file, and report on it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from softmaxcode.checkpoints import Classifier, classifier_of, read_classifier
from softmaxcode.checks.arguments import check_flag, check_integer, check_number, check_temperature, shown
from softmaxcode.diagnosis.report import Diagnosis, Options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike
    from torch import nn

#: Seconds for all margins.
SECONDS = 30.0


def diagnose(
    model: nn.Module | ArrayLike | str | Path | Classifier,
    loader: Iterable[Any] | None = None,
    *,
    layer: str | None = None,
    key: str | None = None,
    names: Sequence[str] | None = None,
    transpose: bool | None = None,
    temperature: float | None = None,
    shared: float | None = None,
    seconds: float = SECONDS,
    search: bool = True,
    seed: int = 0,
) -> Diagnosis:
    """Diagnose a trained classifier or an embedding: its margin, the classes in danger, and how it was made.

    Parameters
    ----------
    model : Module, array_like, path or Classifier
        A layer such as `torch.nn.Linear`, a head of `softmaxcode.nn`, a matrix (K, d), or a checkpoint
        (`softmaxcode.checkpoints.read_classifier`), or what was read from one. With ``layer`` a whole network.
    loader : iterable, optional
        Batches of inputs and labels for the network; a label is the number of a row. With it the report has the
        collapse of the features, the accuracy, and the classes that are confused. It needs ``layer``.
    layer : str, optional
        The name of the classifier in the network, such as "fc".
    key : str, optional
        The name of the matrix in a checkpoint that has several.
    names : sequence of str, optional
        Names of the K classes, in the order of the rows. Their row numbers without it.
    transpose : bool, optional
        Whether the columns of the stored matrix are the classes. By default what the layer, the ONNX graph, the bias or
        the number of names shows, else the rows.
    temperature : float, optional
        The temperature of the training, to state what free features reach there.
    shared : float, optional
        Classes whose cosine is above this share a direction. By default 0.95, and more where so many classes cannot all
        be three times as far apart.
    seconds : float
        About the time for all margins, which come in the order of danger. What was not solved by then is stated with
        its bounds. Passes over all pairs of classes are not included.
    search : bool
        Whether to search for five seconds where the best code of this size was never searched.
    seed : int
        Of the random rows that the margin is compared with.

    Returns
    -------
    Diagnosis
        ``print`` shows one page. ``danger`` and ``groups`` are data frames. Measurements are made when they are first
        asked for.

    Raises
    ------
    ValueError
        If the model or file has no classifier that can be told, fewer than two rows are not zero, its numbers are not
        finite, or there are not K names.

    Examples
    --------
    >>> import numpy as np
    >>> import softmaxcode as sc
    >>> W = np.array([[1.0, 0, 0], [0.8, 0.6, 0], [0, 1, 0.2], [-1, 0, 0], [0, 0, 1], [0, 0, 0]])
    >>> report = sc.diagnose(W, names=["cat", "lynx", "dog", "ship", "sky", "pad"])
    >>> report.danger[["class", "competitors"]].values.tolist()[0]
    ['lynx', ['cat', 'dog']]
    >>> report.zero_classes
    ['pad']
    """
    transpose = None if transpose is None else check_flag("transpose", transpose)
    temperature = None if temperature is None else check_temperature(temperature)
    shared = None if shared is None else check_number("shared", shared, -1, 1, "[)")
    seconds = check_number("seconds", seconds, 0, np.inf, "[)")
    search, seed = check_flag("search", search), check_integer("seed", seed, 0)
    names = None if names is None else _checked_names(names)
    if loader is not None and layer is None:
        raise ValueError("data run through a network need the name of its classifier: pass layer, such as layer='fc'")
    if isinstance(model, Classifier):
        read = model
    elif isinstance(model, str | Path):
        read = read_classifier(model, key, transpose=transpose, names=names)
    elif key is not None:
        raise ValueError(f"key names a matrix in a file, and a {type(model).__name__} was given: omit key")
    else:
        head: Any = model
        if layer is not None:
            from softmaxcode.diagnosis.data import named_layer

            if not hasattr(model, "named_modules"):
                raise ValueError(f"layer names a part of a network, and a {type(model).__name__} was given: omit layer")
            head = named_layer(model, layer)  # type: ignore[arg-type]
        read = classifier_of(head, transpose=transpose, names=names)
    data = None
    if loader is not None:
        from softmaxcode.diagnosis.data import measure_data

        data = measure_data(model, head, loader, read.W)  # type: ignore[arg-type]
    return Diagnosis(read, names, Options(temperature, shared, seconds, search, seed), data)


def _checked_names(names: Any) -> list[str]:
    """Names as a list of text."""
    if isinstance(names, str) or not isinstance(names, Iterable):
        raise ValueError(f"names must be a list of names, one per class; got {shown(names)}")
    return [str(name) for name in names]
