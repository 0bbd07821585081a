"""Many independent streams of random numbers from one seed."""

from __future__ import annotations

import numpy as np


def stream(seed: int, purpose: str) -> np.random.Generator:
    """The generator of a seed for one purpose; streams for different purposes are independent.

    Examples
    --------
    >>> bool(stream(0, "label noise").random() == stream(0, "label noise").random())
    True
    >>> bool(stream(0, "label noise").random() == stream(0, "few shot").random())
    False
    """
    return np.random.default_rng([seed, *purpose.encode()])
