"""The report on a trained classifier: its margin, the classes in danger, and what it is compared with."""

from softmaxcode.diagnosis.entry_point import diagnose
from softmaxcode.diagnosis.report import Diagnosis

__all__ = [
    "Diagnosis",
    "diagnose",
]
