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

#: Competitors of a smaller weight are counted, not named.
LEAST_WEIGHT = 0.01
#: What the page calls the columns of the tables.
HEADS = {
    "margin": "margin (distance from the hull of the others)",
    "competitors": "competitors and their weights",
    "group": "group (0: none)",
    "median_norm": "median norm",
    "median_norm_of_others": "median norm of ungrouped classes",
    "median_bias": "median bias",
    "median_bias_of_others": "median bias of ungrouped classes",
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
            "How far is each class from every mean of the others, and how far could it be?",
            Findings(
                [
                    "Rows are scaled to unit norm. The margin of a class is the distance of its row from the nearest "
                    "weighted mean of other rows, and 0 where it is such a mean itself. All these means are the hull "
                    "of the others. The smallest margin is that of the classifier.",
                    *_sentences(margin_lines(found) + reference_lines(found) + reading_lines(found)),
                ],
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
                {"Competitors of the classes in most danger, by weight": pictures.competitor_map(found)},
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
                "Which classes have nearly one direction?",
                Findings(
                    [
                        "A head distinguishes classes of one direction by their norms and biases alone.",
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
                    "Norm of the row and margin of each solved class": pictures.norms_and_margins(found),
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
    solved = len(found.danger)
    every = "All classes" if solved == found.K else f"The {solved:,} of {found.K:,} classes that the time allowed"
    tables = {f"{every}, those in most danger first": found.danger}
    if len(found.distinct) < found.K:
        one = "Classes in most danger, where one class of each group counts, as competitor and as nearest class too"
        tables = {one: found.distinct_danger, **tables}
    shown = {}
    for caption, frame in tables.items():
        table = frame.drop(columns=["weights"] + ([] if found.zero_classes else ["row"]))
        pairs = zip(frame["competitors"], frame["weights"], strict=True)
        table["competitors"] = [_competitors(names, weights) for names, weights in pairs]
        shown[caption] = table.rename(columns=HEADS)
    return shown


def _competitors(names: list[str], weights: list[float]) -> str:
    """The competitors with their weights, those of small weight only counted."""
    large = [(name, weight) for name, weight in zip(names, weights, strict=True) if weight >= LEAST_WEIGHT]
    named = ", ".join(f"{name} {weight_text(weight)}" for name, weight in large)
    more = len(names) - len(large)
    return named + (f" and {more:,} below {LEAST_WEIGHT}" if more else "")


def _sentences(lines: list[tuple[str, str]]) -> list[str]:
    """Lines of the page of text as sentences."""
    return [f"{name.strip().capitalize()}: {text}." for name, text in lines]


def _danger_sentences(found: Diagnosis) -> list[str]:
    """What the table shows, and its first row in words."""
    first = found.distinct_danger.iloc[0]
    pairs = zip(first["competitors"][:3], first["weights"][:3], strict=True)
    named = ", ".join(f"{name} ({weight:.2f})" for name, weight in pairs)
    group = ""
    if first["group"]:
        group = f", which stands for the {found.groups['size'][first['group'] - 1]:,} classes of its group,"
    return [
        f"Class {first['class']}{group} is in most danger: a weighted mean of {named}"
        + (" and others" if len(first["competitors"]) > 3 else "")
        + f" comes within {first['margin']:.4f} of it. With unit rows and no bias, no unit feature gives it a logit "
        "further than that above all others.",
        "The classes of positive weight in that mean are the competitors; the nearest single class need not be one of "
        "them.",
    ]
