"""The diagnosis as one page of plain text."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from tabulate import tabulate

from softmaxcode.checks.arguments import printable
from softmaxcode.compare.reference import label
from softmaxcode.diagnosis.names import listed, shortened

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from softmaxcode.diagnosis.report import Diagnosis
    from softmaxcode.margins.nearest import NearestClasses

#: Classes in danger that the page shows, and competitors of each.
SHOWN = 10
SHOWN_COMPETITORS = 5
#: Groups that the page shows, and members of each.
SHOWN_GROUPS, SHOWN_MEMBERS = 5, 6
#: Columns before the text of a line.
WIDTH = 22
#: Rounding gives distances of equal rows up to about this: the square root of that of their cosine.
ROUNDING = 1e-7
#: Rows of a group are called short where their median norm is below this fraction of that of ungrouped classes.
SHORT = 0.75


def number(x: float) -> str:
    """A number to four decimals; small ones to three digits, unless they are rounding.

    Examples
    --------
    >>> number(0.5), number(1.234e-5), number(8.4e-9), number(0.0)
    ('0.5000', '1.23e-05', '<1e-07', '0')
    """
    if x == 0:
        return "0"
    if 0 < x < ROUNDING:
        return f"<{ROUNDING:.0e}"
    return f"{x:.4f}" if abs(x) >= 0.001 else f"{x:.3g}"


def parts(found: Diagnosis) -> Iterator[str]:
    """The page that ``print`` shows, part by part, the most urgent first; each is made when it is asked for."""
    first = [("classifier", f"{found.source}: K = {found.K:,} classes, d = {found.d:,}")]
    yield columns(first + reading_lines(found)).rstrip()
    yield columns(margin_lines(found)).rstrip()
    yield columns(reference_lines(found))
    yield danger_table(found)
    yield columns(group_lines(found) + row_lines(found) + data_lines(found)).rstrip()


def weight_text(weight: float) -> str:
    """A weight to two decimals.

    Examples
    --------
    >>> weight_text(0.5), weight_text(0.001)
    ('0.50', '<0.01')
    """
    return f"{weight:.2f}" if weight >= 0.01 else "<0.01"


def columns(lines: list[tuple[str, str]]) -> str:
    """Lines with a name and a text each."""
    return "".join(f"{name:<{WIDTH}} {printable(text)}\n" for name, text in lines)


def reading_lines(found: Diagnosis) -> list[tuple[str, str]]:
    """How the classifier was read, and what was left out."""
    lines = [("note", note) for note in found.notes]
    if found.zero_classes:
        count = len(found.zero_classes)
        rows = "1 row is" if count == 1 else f"{count:,} rows are"
        lines.append(("zero rows", f"{rows} zero and left out: {listed(found.zero_classes, SHOWN_MEMBERS)}"))
    return lines


def margin_lines(found: Diagnosis) -> list[tuple[str, str]]:
    """The margin, with all classes and with one of each group."""
    groups = found.directions.groups
    if len(found.distinct) == found.K:
        return [
            (
                "margin",
                _margin(found.smallest, found.names, "the smallest distance of a class from the hull of the others"),
            )
        ]
    inside = sum(len(members) for members in groups)
    named = [found.names[k] for k in found.distinct]
    return [
        ("margin, distinct", _margin(found.most_danger, named, "each group of one direction counts as one class")),
        (
            "  distinct classes",
            f"{len(found.distinct):,}: {inside:,} nearly parallel classes in "
            f"{_counted(len(groups), 'group')} count once per group",
        ),
        ("margin, all classes", _margin(found.smallest, found.names, "every class counts, duplicates too")),
    ]


def _counted(count: int, name: str) -> str:
    return f"{count:,} {name}" + ("" if count == 1 else "s")


def _margin(known: NearestClasses, names: Sequence[str], which: str) -> str:
    """The smallest distance found, and what is known of classes that were not solved."""
    first = f"class {shortened(names[known.classes[0]])}"
    if known.certain:
        return f"{number(known.margin)} ({first}): {which}"
    return (
        f"at most {number(known.margin)} ({first}), at least {number(known.margin - known.gap)}: {which}; time was "
        f"short, and {len(known.classes):,} of {len(names):,} classes were solved"
    )


def reference_lines(found: Diagnosis) -> list[tuple[str, str]]:
    """Where the margin lies between random rows, the best code and the bounds."""
    known = found.references
    lines = []
    draws = "1 draw" if len(known.random) == 1 else f"median of {len(known.random)} draws"
    middle = known.random_margin
    value = f"{number(middle - known.random_gap)} to {number(middle)}" if known.random_gap else number(middle)
    lines.append(("  random rows", f"{value} ({draws}), which ignore that some classes are alike"))
    if known.best is not None:
        best = f"{number(known.best)}, for directions placed to have a large margin ({known.described()})"
        lines.append(("  best code", best))
    if known.free is not None:
        lines.append(
            ("  free features", f"at least {number(known.free)} at this temperature, for every global minimiser")
        )
    lower, upper = number(known.lower), number(known.upper)
    range_ = f"at least {lower} ({known.lower_method}) and at most {upper} ({known.upper_method})"
    if lower == upper:
        range_ = f"{upper} ({known.upper_method})"
    size = f"{found.K:,} classes in {_counted(found.d, 'dimension')}"
    lines.append(("  proved bounds", f"the largest possible margin of {size} is {range_}"))
    lines.append(("  where it lies", position(found)))
    note = known.note(found.distinct_margin)
    return lines + ([("  note", note)] if note else [])


def position(found: Diagnosis) -> str:
    """Where the margin lies, as a sentence that follows from the numbers."""
    known, margin = found.references, found.distinct_margin
    about = "" if found.most_danger.certain else "its upper value is "
    sentences = []
    if margin > known.random.max():
        sentences.append("above every draw of random rows")
    elif margin < known.random.min() - known.random_gap:
        sentences.append("below every draw of random rows")
    elif not known.random_gap:
        sentences.append("within the range of random rows")
    if known.best:
        sentences.append(f"{100 * margin / known.best:.3g} % of the margin of the best code ({label(known.evidence)})")
    elif known.upper > 0:
        sentences.append(f"{100 * margin / known.upper:.3g} % of what no classifier exceeds")
    else:
        sentences.append("no classifier of this size has a margin above 0")
    return about + ", ".join(sentences)


def danger_table(found: Diagnosis) -> str:
    """The classes in most danger, each with its competitors."""
    danger = found.distinct_danger.head(SHOWN)
    sizes = found.groups["size"]
    rows = []
    for _, one in danger.iterrows():
        pairs = list(zip(one["competitors"], one["weights"], strict=True))
        named = ", ".join(f"{shortened(name)} {weight_text(weight)}" for name, weight in pairs[:SHOWN_COMPETITORS])
        more = f" and {len(pairs) - SHOWN_COMPETITORS} more" if len(pairs) > SHOWN_COMPETITORS else ""
        name = shortened(one["class"]) + (f" (one of {sizes[one['group'] - 1]:,})" if one["group"] else "")
        row = [
            name,
            number(one["margin"]),
            named + more,
            f"{one['angle']:.1f}",
            f"{one['norm']:.3g}",
        ]
        rows.append(row + ([f"{one['bias']:.3g}"] if "bias" in danger else []))
    heads = ["class", "margin", "its competitors, with weights", "angle", "norm"] + ["bias"] * ("bias" in danger)
    certain = found.most_danger.certain
    title = f"The {len(danger)} classes in most danger" if certain >= len(danger) else "The classes in danger"
    short = "" if certain >= len(danger) else " (time was short: others may be in more danger)"
    head = (
        f"{title}{short}. The mean of other classes that is nearest to each has these competitors and weights;\n"
        "angle is that to the nearest single class, in degrees"
        + ("; one class of each group counts.\n" if len(found.distinct) < found.K else ".\n")
    )
    return head + tabulate(rows, headers=heads, disable_numparse=True) + "\n"


def group_lines(found: Diagnosis) -> list[tuple[str, str]]:
    """Groups of classes that share a direction."""
    groups = found.groups
    if not len(groups):
        return []
    total = int(groups["size"].sum())
    many = _counted(len(groups), "group")
    text = f"{total:,} of {found.K:,} classes are in {many}, each with a cosine above {found.shared:.4g} to another"
    outside = found.directions.group_of(found.K) == 0
    if (found.directions.largest[outside] > found.shared).any():
        text += "; longer chains are cut, so a class beside a group may be in none"
    lines = [("shared directions", text)]
    for _, one in groups.head(SHOWN_GROUPS).iterrows():
        text = f"{one['size']:,} classes: {listed(one['classes'], SHOWN_MEMBERS)}; median norm {one['median_norm']:.3g}"
        if math.isfinite(one["median_norm_of_others"]):
            text += f" (ungrouped classes {one['median_norm_of_others']:.3g})"
        if "median_bias" in groups:
            text += f", median bias {one['median_bias']:.3g}"
            if math.isfinite(one["median_bias_of_others"]):
                text += f" (ungrouped classes {one['median_bias_of_others']:.3g})"
        lines.append((f"  group {one['group']}", text))
    if len(groups) > SHOWN_GROUPS:
        lines.append(("  more", f"{len(groups) - SHOWN_GROUPS:,} further groups"))
    short = groups[groups["median_norm"] < SHORT * groups["median_norm_of_others"]]
    if len(short):
        which = ", ".join(str(number) for number in short["group"].head(SHOWN_GROUPS))
        which += " and others" if len(short) > SHOWN_GROUPS else ""
        lines.append(
            (
                "  short rows",
                f"group {which} has shorter rows than ungrouped classes: see whether it has training samples",
            )
        )
    return lines


def row_lines(found: Diagnosis) -> list[tuple[str, str]]:
    """Norms, bias and mean of the raw rows."""
    known = found.rows
    low, middle, high = np.quantile(known.norms, [0, 0.5, 1])
    lines = [("norms of rows", f"{low:.3g} to {high:.3g}, median {middle:.3g}; margins use directions alone")]
    if known.bias is not None:
        low, middle, high = np.quantile(known.bias, [0, 0.5, 1])
        lines.append(("bias", f"{low:.3g} to {high:.3g}, median {middle:.3g}; the head adds it, margins ignore it"))
    mean = f"the mean cosine of two rows is {known.mean_cosine:.4f} (it would be {-1 / (found.K - 1):.2g} without one)"
    if known.centred_margin is not None:
        mean += (
            f"; with the mean row subtracted from every row, which changes no softmax, the margin of all classes is "
            f"{number(known.centred_margin)} instead of {number(found.margin)}"
        )
        if len(found.distinct) < found.K and known.distinct_centred_margin is not None:
            mean += (
                f", and with one class of each group {number(known.distinct_centred_margin)} instead of "
                f"{number(found.distinct_margin)}"
            )
    lines.append(("common mean", mean))
    if known.tested:
        norm = f"{known.feature_norm:.3g}"
        if not known.norm_is_measured:
            norm += " (assumed: real features may be longer, pass data to measure them)"
        text = (
            f"fed with the direction in which a class leads by most, it predicts {known.predicted:,} of "
            f"{known.tested:,} classes at feature norm {norm}"
        )
        if known.bias is not None:
            text += f", and {known.predicted_without_bias:,} without its bias"
        lines.append(("raw head", text))
    return lines


def data_lines(found: Diagnosis) -> list[tuple[str, str]]:
    """Collapse of the features, accuracy, and what is confused."""
    known, confused = found.data, found.confused
    if known is None or confused is None:
        return []
    unseen = f", {known.unseen:,} classes without any" if known.unseen else ""
    few = "" if known.compared == known.samples else f", on the first {known.compared:,} features"
    lines = [
        ("data", f"{known.samples:,} features{unseen}; median norm {known.feature_norm:.3g}"),
        ("  accuracy", f"{100 * known.accuracy:.2f} % (nearest class mean {100 * known.mean_accuracy:.2f} %{few})"),
        ("  agreement", f"the head and the nearest class mean agree on {100 * known.agreement:.2f} %{few}"),
        (
            "  collapse",
            f"GNC1 {known.gnc1:.3g}, GNC3 {known.gnc3:.3g} ({known.gnc3_centred:.3g} with centred means), effective "
            f"rank of the class means {known.effective_rank:.1f}",
        ),
    ]
    for _, one in confused.head(SHOWN_GROUPS).iterrows():
        text = f"{shortened(one['class'])} as {shortened(one['predicted'])}: {one['count']:,} times, "
        lines.append(("  confused", text + f"{100 * one['fraction']:.3g} % of the class; cosine {one['cosine']:.3f}"))
    return lines
