"""The studies: each plans training runs and reports what they show.

A study is a module with ``TITLE``, ``QUESTION``, ``plan`` (keyword options to a list of `RunSettings`) and ``findings``
(finished runs to `Findings`).
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

#: What each is about, in the order of a report.
STUDIES = {
    "gnc": "GNC1 to GNC3 along training, by head",
    "temperature": "temperature and dimension, and training off the sphere",
    "cmf": "class-mean features against a learned classifier",
    "assignment": "which class gets which vector of a fixed code",
    "finetune": "fine-tuning with a learned classifier or class-mean features",
    "text": "a language model: frequent and rare tokens",
    "retrieval": "classes that were never trained on",
}


def study(name: str) -> ModuleType:
    """The module of a study."""
    return importlib.import_module(f"experiments.studies.{name}")


def first_process() -> bool:
    """Whether this is the process of several that prints and writes."""
    return int(os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))) == 0
