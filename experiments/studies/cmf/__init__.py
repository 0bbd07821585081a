"""Learned class vectors against class-mean features: accuracy, parameters, memory and time (the paper's Table 1)."""

from experiments.studies.cmf.plan import plan
from experiments.studies.cmf.report import QUESTION, TITLE, findings

__all__ = ["QUESTION", "TITLE", "findings", "plan"]
