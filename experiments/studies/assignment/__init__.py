"""Whether it matters which class gets which vector of a fixed code (the paper's Figure 4 and open question 3)."""

from experiments.studies.assignment.plan import plan
from experiments.studies.assignment.report import QUESTION, TITLE, findings

__all__ = ["QUESTION", "TITLE", "findings", "plan"]
