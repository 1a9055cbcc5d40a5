"""The outcome of a projection check, and the widths that it rejects. No Keras."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from .advice import WidthAdvice

LEVELS = ("half", "advised", "between")
TOLERANCE = 1.0  # points of the score


class Projected(NamedTuple):
    """The trained model's score with activations restricted to k directions.

    Attributes:
        probe: The layer, or "all" for all of them together.
        level: "half" of the advised width, "advised", or "between" it and all channels.
        directions: k; for "all" the sum over layers.
        principal: Score with the leading k principal directions.
        random: Mean score with k random directions, over several draws.
        lost: Score without any projection, minus `principal`.
    """

    probe: str
    level: str
    directions: int
    principal: float
    random: float
    lost: float


class Check(NamedTuple):
    """A projection check.

    Attributes:
        score: Name of the score, for example "mIoU".
        whole: The score without any projection.
        rows: One row per layer and k; the rows of all layers together come last.
    """

    score: str
    whole: float
    rows: Sequence[Projected]


def reject_costly(
    advice: Sequence[WidthAdvice],
    rows: Sequence[Projected],
    tolerance: float,
    score: str = "mIoU",
) -> list[WidthAdvice]:
    """Keeps the present width wherever the advised one costs more than the tolerance.

    Args:
        advice: The advice that was checked.
        rows: Rows of its check.
        tolerance: The most that may be lost, in the unit of the score.
        score: Name of the score. Defaults to "mIoU".

    Returns:
        The advice; a rejected width is replaced by the present one, with the reason.
    """
    lost = {row.probe: row.lost for row in rows if row.level == "advised"}
    accepted = []
    for width in advice:
        if lost.get(width.probe, 0.0) > tolerance:
            reason = (
                f"{width.suggested} directions cost {100 * lost[width.probe]:.1f} points of "
                f"{score}, more than {100 * tolerance:g}; {width.reason}"
            )
            width = replace(width, suggested=width.channels, reason=reason)
        accepted.append(width)
    return accepted


def enforce_tolerance(
    advice: Sequence[WidthAdvice],
    check: Check,
    tolerance: float,
    run_check: Callable[[Mapping[str, int]], Check],
) -> tuple[Sequence[WidthAdvice], Check]:
    """Rejects advised widths that cost more than the tolerance, alone or all together.

    Where each width is harmless alone but all of them together are not, the costliest are
    rejected one by one until the others pass.

    Args:
        advice: The advice that was checked.
        check: Its check.
        tolerance: The most that may be lost, in the unit of the score.
        run_check: Checks other {probe: width}.

    Returns:
        The remaining advice, and a check whose joint rows belong to it, or to all of the
        advice where each width costs too much alone.
    """
    alone = {row.probe: row.lost for row in check.rows if row.level == "advised"}
    advice = reject_costly(advice, check.rows, tolerance, check.score)
    narrowed = {width.probe: width.suggested for width in advice if not width.keep}
    joint = _joint_rows(check.rows)
    if narrowed and len(narrowed) < len({row.probe for row in check.rows} - {"all"}):
        joint = _joint_rows(run_check(narrowed).rows)
    while narrowed and joint[1].lost > tolerance:
        costliest = max(narrowed, key=alone.__getitem__)
        del narrowed[costliest]
        advice = [
            _rejected(width, joint[1].lost) if width.probe == costliest else width
            for width in advice
        ]
        joint = _joint_rows(run_check(narrowed).rows) if narrowed else []
    rows = [row for row in check.rows if row.probe != "all"]
    return advice, check._replace(rows=[*rows, *joint])


def checked_points(tolerance: float) -> float:
    """Returns a tolerance in points as a fraction of the score.

    Raises:
        ValueError: It is negative or not a number.

    Example:
        >>> checked_points(1.0)
        0.01
    """
    if not tolerance >= 0:
        raise ValueError(f"Expected a tolerance of 0 or more points. Received: {tolerance}")
    return tolerance / 100


def _joint_rows(rows: Sequence[Projected]) -> list[Projected]:
    """Returns the rows of all layers together: half, advised, between."""
    return [row for row in rows if row.probe == "all"]


def _rejected(width: WidthAdvice, lost: float) -> WidthAdvice:
    reason = f"costs too much together with the others, {100 * lost:.1f} points; {width.reason}"
    return replace(width, suggested=width.channels, reason=reason)
