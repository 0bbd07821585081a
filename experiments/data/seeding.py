"""One seed, many independent streams of random numbers."""

from __future__ import annotations

import numpy as np


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The generator of a seed for one purpose: what is drawn for one leaves what is drawn for another as it is.

    Examples
    --------
    >>> bool(stream(0, "label noise").random() == stream(0, "label noise").random())
    True
    >>> bool(stream(0, "label noise").random() == stream(0, "few shot").random())
    False
    """
    return np.random.default_rng([seed, *purpose.encode()])
