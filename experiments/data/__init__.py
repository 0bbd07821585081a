"""Data sets of the experiments: a registry of readers, none of which downloads or unpickles anything.

`load` returns train and test sets with all information that a run needs; `describe` returns one line on an entry.
"""

from experiments.data.augmentation import Augmentation
from experiments.data.dataset import Data, ImageData, LabelledImages, Normalisation, TextData, TokenContexts
from experiments.data.fingerprint import fingerprint
from experiments.data.registry import DATASETS, describe, load
from experiments.data.shifts import Shift

__all__ = [
    "DATASETS",
    "Augmentation",
    "Data",
    "ImageData",
    "LabelledImages",
    "Normalisation",
    "Shift",
    "TextData",
    "TokenContexts",
    "describe",
    "fingerprint",
    "load",
]
