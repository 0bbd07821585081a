"""The margin lost to the temperature: measure, and write the parts of a document."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Section, machine, write_parts
from benchmarks.temperature.cases import FULL, QUICK
from benchmarks.temperature.figure import draw
from benchmarks.temperature.runs import SAME, SAME_MARGIN, MeasuredCase, simulate
from benchmarks.temperature.tables import (
    RATTLING,
    by_temperature,
    certificate_table,
    constants_table,
    crossing_table,
    duality_table,
    needed_by_bound,
    needed_table,
    rattling_table,
    unequal_table,
)
from softmaxcode import best_known

if TYPE_CHECKING:
    from benchmarks.temperature.cases import Plan


def summary(measured: Sequence[MeasuredCase]) -> str:
    """The answer in a few sentences, with the numbers of these runs."""
    tau = min(min(each.lowest) for each in measured)
    exact = [each for each in measured if each.finds_best and each.deficits[tau] > 0]
    off = [abs(each.constants.margin * tau / each.deficits[tau] - 1) for each in exact]
    over = [each.bound(tau) / each.deficits[tau] for each in exact]
    last = measured[-1]
    allowed = 0.01 * last.optimum
    lines = [
        "Near a Softmax Code the margin lost is proportional to the temperature, ρ* − ρ(W_τ) ≈ c τ: at "
        f"τ = {tau:g} T10 gives the measured deficit to {max(off):.2%} at all {len(exact)} pairs whose runs of lowest "
        "loss tend to the best known code and lose anything."
        if exact
        else "",
        f"T6 (c) promises the same rate with a constant {min(over):.0f} to {max(over):.0f} times as large."
        if exact
        else "",
        f"For 99 % of the best known margin at {last.case} T10 asks for τ = {allowed / last.constants.margin:.1g} and "
        f"T6 (c) for τ = {needed_by_bound(last.case.K, last.optimum, 0.99):.1g}; the runs of lowest loss have it "
        + _reached(last, allowed)
        if last.constants.margin > SAME_MARGIN
        else "",
    ]
    return " ".join(line for line in lines if line)


def _reached(each: MeasuredCase, allowed: float) -> str:
    enough = [tau for tau in each.lowest if each.deficits[tau] <= allowed]
    if not enough:
        return "at no temperature: they end in local optima."
    short = each.deficits[min(each.lowest)] / each.optimum
    return (
        "at τ = "
        + ", ".join(f"{tau:g}" for tau in enough)
        + (
            f", and end in a local optimum, {short:.1%} below at τ = {min(each.lowest):g}."
            if not each.finds_best
            else "."
        )
    )


def _margin_sections(main: Sequence[MeasuredCase], plan: Plan) -> list[Section]:
    """How the margin depends on the temperature."""
    return [
        Section(
            "Temperature needed",
            "The largest temperature from which on the run of lowest loss has 99 % and 99.9 % of the best known "
            "margin, interpolated between those measured; the value of T10, (1 − fraction) ρ* / c; and what suffices "
            "by T6 (c) for every global minimiser.",
            needed_table(main),
        ),
        Section(
            "Deficit in temperatures",
            "(ρ* − ρ(W)) / τ of the run of lowest loss at each τ, with ρ* the best margin known. T10 predicts that it "
            "tends to c at the minimisers near the best known code.",
            by_temperature(main, "deficit / τ"),
        ),
        Section(
            "Local rate",
            "d log(ρ* − ρ(W)) / d log τ between neighbouring temperatures: 1 is proportional.",
            by_temperature(main, "slope"),
        ),
        Section(
            "How often it was found",
            f"Runs whose τ log L is within {SAME:g} of the lowest at that τ. † the best known code has a lower loss as "
            "it is: no run found a global minimiser there.",
            by_temperature(main, "found"),
        ),
        Section(
            f"At τ = {min(plan.temperatures):g}",
            "The run of lowest loss, polished into the local Softmax Code that it is near (*limit*), and the constants "
            "of that code: c and rate of T10 (*rate*: slope of log deficit over the three smallest temperatures, where "
            "the limit is the best known code), and T6 (c), which is stated for ρ*. The deficit is from the limit. "
            "*Next gap*: how far above its margin the nearest pair without contact is; T10 sets in well below it.",
            constants_table(main),
        ),
    ]


def _code_sections(main: Sequence[MeasuredCase]) -> list[Section]:
    """Which local Softmax Code has the lower loss, and what its certificate costs."""
    return [
        Section(
            "Which code has the lower loss",
            "Near a code τ log(K L) = −ρ + τ Ent(λ) to first order (T10 (a)), so a local Softmax Code of less entropy "
            "has the lower loss above τ = (ρ* − ρ) / (Ent* − Ent). These are the limits of runs at the smallest τ that "
            "have such a τ.",
            crossing_table(main),
        ),
        Section(
            "What the certificate costs",
            "The margin that the loss certifies (T6 (b)) is below that of the limit by Ent(λ) temperatures to first "
            "order (T10 (a)), however small the deficit of the margin itself. With n features per class, add log n.",
            certificate_table(main),
        ),
    ]


def _feature_sections(measured: Sequence[MeasuredCase], rattling: Sequence[MeasuredCase], plan: Plan) -> list[Section]:
    """Where the features are."""
    cases = [each.case for each in rattling]
    known = ", ".join(f"{len(best_known(case.K, case.d).softmax_rattlers)} at {case}" for case in cases)
    return [
        Section(
            "Self-duality and projections",
            "GNC3 / distance of the features from the projection directions of T1 (`Run.projection_distance`), both "
            "means over classes of 1 − cosine, of the run of lowest loss; n = 1.",
            duality_table(measured, plan.temperatures),
        ),
        Section(
            "Rattlers",
            "Of the run of lowest loss: the largest 1 − cosine of a feature with its own classifier vector and with "
            "its projection direction. *Rattling*: classes whose one-vs-rest distance exceeds the smallest by more "
            f"than {RATTLING} τ. Rattlers of the best known codes: {known}.",
            rattling_table(rattling),
        ),
        Section(
            "Unequal classes",
            "The same two distances where classes have different numbers of features, at fixed temperatures.",
            unequal_table(plan.unequal, measured[0].case.steps),
        ),
    ]


def parts(plan: Plan, command: str, link: str, figure: Path | None) -> dict[str, str]:
    """Run the plan, draw, and describe: the answer, and the tables behind it."""
    begin = time.perf_counter()
    measured = []
    for case in (*plan.cases, *plan.rattling):
        measured.append(MeasuredCase(case, simulate(case, plan.temperatures)))
        print(f"{case}: {time.perf_counter() - begin:.0f} s", file=sys.stderr, flush=True)
    main, rattling = measured[: len(plan.cases)], measured[len(plan.cases) :]
    if figure is not None:
        draw(main, figure)
    sections = [*_margin_sections(main, plan), *_code_sections(main), *_feature_sections(measured, rattling, plan)]
    how = (
        "Every number is of random starts of `ufm` (n = 1, L-BFGS, float64, τ log L), none started from a known code: "
        + "; ".join(
            f"{seeds} seeds from each of τ = {', '.join(map(str, starts))} downwards, at most {steps:,} steps, at "
            + ", ".join(str(case) for case in plan.cases if (case.starts, case.seeds, case.steps) == key)
            for key in dict.fromkeys((case.starts, case.seeds, case.steps) for case in plan.cases)
            for starts, seeds, steps in (key,)
        )
        + ". Where τ is not below a start it is fixed. At each τ the run of lowest loss counts. T6 and T10 are "
        "sections of [theory.md](theory.md). ρ* is that of the best known code, not proved optimal in general.\n"
    )
    tail = (
        f"## How it was made\n\nMade by `{command}` in {time.perf_counter() - begin:.0f} s, "
        f"{time.process_time():.0f} s of them on a processor, on\n\n{machine()}\n\n"
        "with one thread of PyTorch. Runs are deterministic on one machine; on another, rounding can lead one to "
        "another local optimum.\n"
    )
    image = f"![Deficit by temperature, bounds, and duality]({link})\n"
    first, *rest = (section.markdown() for section in sections if len(section.table))
    return {"answer": "\n".join([f"{summary(main)}\n", how, first, image]), "tables": "\n".join([*rest, tail])}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the parts of the document and write them."""
    write_parts("temperature", "temperature", __doc__, parts, FULL, QUICK, arguments)
