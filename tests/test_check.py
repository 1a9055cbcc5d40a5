"""Advised widths that cost too much in the projection check are rejected."""

import pytest

from monitoring.analysis.advice import WidthAdvice
from monitoring.analysis.check import (
    LEVELS,
    Check,
    Projected,
    checked_points,
    enforce_tolerance,
)

COSTS = {"a": 0.004, "b": 0.006, "c": 0.02}  # points lost add up


def advised(*names):
    return [WidthAdvice(name, 16, 8, 8, 8, f"reason {name}") for name in names]


def check(widths):
    rows = [
        Projected(name, "advised", k, 0.9 - COSTS[name], 0.1, COSTS[name])
        for name, k in widths.items()
    ]
    lost = sum(COSTS[name] for name in widths)
    joint = [
        Projected("all", level, k, 0.9 - lost, 0.1, lost * 8 / k)
        for level, k in zip(LEVELS, (4, 8, 12), strict=True)
    ]
    return Check("mIoU", 0.9, [*rows, *joint])


def outcome(names, tolerance):
    checked = []

    def run_check(widths):
        checked.append(tuple(widths))
        return check(widths)

    first = check(dict.fromkeys(names, 8))
    advice, shown = enforce_tolerance(advised(*names), first, tolerance, run_check)
    return {width.probe: width for width in advice}, shown, checked


def test_harmless_advice_is_kept_and_nothing_is_checked_again():
    advice, shown, checked = outcome("ab", 0.011)
    assert [width.suggested for width in advice.values()] == [8, 8] and checked == []
    assert shown == check({"a": 8, "b": 8})


def test_a_width_that_costs_too_much_alone_is_rejected():
    advice, shown, checked = outcome("abc", 0.012)
    assert {name: width.suggested for name, width in advice.items()} == {"a": 8, "b": 8, "c": 16}
    assert advice["c"].reason == "8 directions cost 2.0 points of mIoU, more than 1.2; reason c"
    assert checked == [("a", "b")]
    # Its own row is still shown; the joint rows are of the remaining advice.
    assert [row.probe for row in shown.rows] == ["a", "b", "c", "all", "all", "all"]
    assert shown.rows[4].lost == pytest.approx(0.010)


def test_the_costliest_is_rejected_where_all_together_cost_too_much():
    advice, _, checked = outcome("ab", 0.008)
    assert {name: width.suggested for name, width in advice.items()} == {"a": 8, "b": 16}
    assert "together with the others, 1.0 points; reason b" in advice["b"].reason
    assert checked == [("a",)]


def test_every_width_may_be_rejected():
    advice, shown, checked = outcome("abc", -1)
    assert all(width.keep for width in advice.values())
    # The joint rows then show what all of it would have cost.
    assert shown == check({"a": 8, "b": 8, "c": 8}) and checked == []


@pytest.mark.parametrize("tolerance", [-1, float("nan")])
def test_a_tolerance_is_0_or_more(tolerance):
    with pytest.raises(ValueError, match="Expected a tolerance of 0 or more points"):
        checked_points(tolerance)
