"""Names for the shapes of arrays, for annotations only (imported under ``TYPE_CHECKING``).

Arrays store one vector per row. K is the number of classes and d the dimension. N is the number of unknown vectors
(K for Tammes, 2K for HardMax), E the number of contact inequalities.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float, Int

Rows = Float[np.ndarray, "K d"]
Square = Float[np.ndarray, "K K"]
PerClass = Float[np.ndarray, " K"]
PerContact = Float[np.ndarray, " E"]
Pairs = Int[np.ndarray, "E 2"]
Mask = Bool[np.ndarray, " K"]
