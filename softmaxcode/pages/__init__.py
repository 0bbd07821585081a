"""What was found, in print and as one HTML page: sentences, tables and figures."""

from softmaxcode.pages.findings import Findings
from softmaxcode.pages.page import ReportSection, effort, write_report

__all__ = [
    "Findings",
    "ReportSection",
    "effort",
    "write_report",
]
