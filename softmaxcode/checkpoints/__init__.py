"""Classifiers out of checkpoints and modules of others: found, turned if need be, and validated once."""

from softmaxcode.checkpoints.classifier import Classifier, classifier_of
from softmaxcode.checkpoints.reading import SUFFIXES, read_classifier

__all__ = [
    "SUFFIXES",
    "Classifier",
    "classifier_of",
    "read_classifier",
]
