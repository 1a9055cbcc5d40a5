"""Advice, checks, budgets and savings as text."""

from collections.abc import Sequence

from .advice import Cost, WidthAdvice
from .budget import Candidate
from .check import Check

MEASURABLE = 0.001  # points that random directions must cost for a check to mean anything


def short(probe: str) -> str:
    """Returns a probe's name without its prefix.

    Example:
        >>> short("probe_encoder_1")
        'encoder_1'
    """
    return probe.removeprefix("probe_")


def advice_table(advice: Sequence[WidthAdvice]) -> str:
    """Returns advice as text, one line per layer."""
    lines = []
    room = max([12, *(len(short(width.probe)) for width in advice)])
    for width in advice:
        change = "keep" if width.keep else f"-> {width.suggested}"
        lines.append(
            f"{short(width.probe):{room}} {width.channels:4} channels  {change:7}  {width.reason}"
        )
    return "\n".join(lines)


def check_table(check: Check) -> str:
    """Returns a projection check as text."""
    room = max([12, *(len(short(row.probe)) for row in check.rows)])
    if not check.rows:
        return "\nProjection check: every width is kept, so there is nothing to try."
    lines = [
        "",
        f"Projection check: {check.score} {check.whole:.4f} as it is; "
        "with activations restricted to",
        f"{'':{room + 9}} {'directions':>10}  {'leading':>8}  {'lost':>6}  {'random':>8}",
    ]
    for row in check.rows:
        lines.append(
            f"{short(row.probe):{room}} {row.level:8} {row.directions:10}  "
            f"{row.principal:8.4f}  "
            f"{100 * row.lost:6.2f}  {row.random:8.4f}"
        )
    lines.append(f"(lost: points of {check.score} with the leading directions)")
    if max(check.whole - row.random for row in check.rows) < MEASURABLE:
        lines.append("note: random directions lose nothing either, so this check says nothing")
    return "\n".join(lines)


def candidates_table(candidates: Sequence[Candidate]) -> str:
    """Returns the widths considered under a budget as text, one line each."""
    lines = ["", "Considered under the budget, the chosen one last:"]
    for candidate in candidates:
        widths = ", ".join(map(str, candidate.widths.values()))
        cost = candidate.cost
        lines.append(
            f"  {widths:20} {cost.parameters:9,} parameters {cost.macs:13,} multiply-adds  "
            f"{candidate.over or 'fits'}"
        )
    return "\n".join(lines)


def savings_table(now: Cost, advised: Cost) -> str:
    """Returns what the advised widths save as text, one line per cost."""
    names = ("parameters", "multiply-adds", "peak activation bytes, INT8")
    lines = [
        f"{name:28} {before:13,} -> {after:13,}  ({change(before, after)})"
        for name, before, after in zip(names, now, advised, strict=True)
    ]
    return "\n".join(["", *lines])


def change(before: int, after: int) -> str:
    """Returns a change in percent.

    Example:
        >>> change(200, 150), change(0, 3)
        ('-25%', 'from 0')
    """
    return f"{after / before - 1:+.0%}" if before else "from 0"
