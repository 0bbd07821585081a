"""The diagnosis as one HTML page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from softmaxcode.diagnosis import pictures
from softmaxcode.diagnosis.text import (
    data_lines,
    group_lines,
    margin_lines,
    reading_lines,
    reference_lines,
    row_lines,
    weight_text,
)
from softmaxcode.pages import Findings, ReportSection, write_report
from softmaxcode.storage.disk import check_output
from softmaxcode.storage.provenance import installed_version

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from softmaxcode.diagnosis.report import Diagnosis

#: What the page calls the columns of the tables.
HEADS = {
    "margin": "margin (distance from the hull of the others)",
    "competitors": "competitors, by weight",
    "weights": "their weights",
    "group": "group (0: none)",
    "nearest": "nearest single class",
    "angle": "angle to it, degrees",
    "smallest_cosine": "smallest cosine to the mean direction",
}


def write_html(found: Diagnosis, path: str | Path, *, replace: bool = True) -> Path:
    """Write the page; see `Diagnosis.to_html`."""
    path = check_output(path, (".html",), replace=replace)
    meta = {"Classifier": found.source, "Classes": f"{found.K:,}", "Dimension": f"{found.d:,}"}
    meta |= {"softmaxcode": installed_version()}
    return write_report(sections(found), path, title="Diagnosis of a classifier", meta=meta)


def sections(found: Diagnosis) -> list[ReportSection]:
    """The parts of the page."""
    made = [
        ReportSection(
            "margin",
            "The margin, and what it is compared with",
            "How far is the class in most danger from the convex hull of all others?",
            Findings(
                _sentences(reading_lines(found) + margin_lines(found) + reference_lines(found)),
                figures={"Margins of the classes, in order": pictures.sorted_margins(found)},
            ),
        ),
        ReportSection(
            "danger",
            "Classes in danger",
            "Which classes are easily taken for a mixture of others, and of which?",
            Findings(
                _danger_sentences(found),
                _danger_tables(found),
                {"Competitors of the classes in most danger": pictures.competitor_map(found)},
            ),
        ),
    ]
    groups = found.groups.copy()
    if len(groups):
        groups["classes"] = groups["classes"].map(", ".join)
        made.append(
            ReportSection(
                "groups",
                "Classes that share one direction",
                "Which classes were never told apart, or never trained?",
                Findings(
                    [
                        "A head tells classes of one direction apart by their norms and biases alone. Classes that the "
                        "training data lack often end in one such group.",
                        *_sentences(group_lines(found)),
                    ],
                    {"Groups, the largest first": groups.rename(columns=HEADS)},
                ),
            )
        )
    made.append(
        ReportSection(
            "rows",
            "Norms, bias, common mean and cosines",
            "What else is in the rows, beside their directions?",
            Findings(
                _sentences(row_lines(found)),
                figures={
                    "Norm of the row and margin of each class": pictures.norms_and_margins(found),
                    "Cosines of pairs of classes": pictures.cosines(found),
                },
            ),
        )
    )
    if found.confused is not None:
        made.append(
            ReportSection(
                "data",
                "Data",
                "Have the features collapsed, and which classes are confused?",
                Findings(_sentences(data_lines(found)), {"Confused classes, the most frequent first": found.confused}),
            )
        )
    return made


def _danger_tables(found: Diagnosis) -> dict[str, pd.DataFrame]:
    """The classes in most danger with one of each group, and all classes."""
    tables = {"All classes, those in most danger first": found.danger}
    if len(found.distinct) < found.K:
        tables = {"Classes in most danger, with one class of each group": found.distinct_danger, **tables}
    shown = {}
    for caption, frame in tables.items():
        table = frame.drop(columns=[] if found.zero_classes else "row")
        table["competitors"] = table["competitors"].map(", ".join)
        table["weights"] = table["weights"].map(lambda weights: ", ".join(weight_text(weight) for weight in weights))
        shown[caption] = table.rename(columns=HEADS)
    return shown


def _sentences(lines: list[tuple[str, str]]) -> list[str]:
    """Lines of the page of text as sentences."""
    return [f"{name.strip().capitalize()}: {text}." for name, text in lines]


def _danger_sentences(found: Diagnosis) -> list[str]:
    """What the table shows, and its first row in words."""
    first = found.distinct_danger.iloc[0]
    pairs = zip(first["competitors"][:3], first["weights"][:3], strict=True)
    named = ", ".join(f"{name} ({weight:.2f})" for name, weight in pairs)
    return [
        f"{first['class']} is in most danger: a mixture of {named}"
        + (" and others" if len(first["competitors"]) > 3 else "")
        + f" comes within {first['margin']:.4f} of it. Its features have the least room to turn towards others.",
        "Rows are scaled to unit norm first. The margin of a class is the distance of its row from the nearest "
        "weighted mean of other rows, and 0 where it is such a mean itself. The classes with a positive weight are its "
        "competitors; the nearest single class need not be one of them.",
    ]
