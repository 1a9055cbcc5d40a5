"""What becomes of advice that costs too much in the projection check."""

import pytest

from monitoring.analysis.advice import WidthAdvice
from monitoring.analysis.projection import LEVELS, Check, Projected
from training.projection_check import settled

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
    asked = []

    def again(widths):
        asked.append(tuple(widths))
        return check(widths)

    found = check(dict.fromkeys(names, 8))
    advice, shown = settled(advised(*names), found, tolerance, again)
    return {one.probe: one for one in advice}, shown, asked


def test_harmless_advice_is_left_and_nothing_is_tried_again():
    advice, shown, asked = outcome("ab", 0.011)
    assert [one.suggested for one in advice.values()] == [8, 8] and asked == []
    assert shown == check({"a": 8, "b": 8})


def test_what_costs_too_much_alone_is_taken_back():
    advice, shown, asked = outcome("abc", 0.012)
    assert {name: one.suggested for name, one in advice.items()} == {"a": 8, "b": 8, "c": 16}
    assert advice["c"].reason == "8 directions cost 2.0 points of mIoU, more than 1.2; reason c"
    assert asked == [("a", "b")]
    # Its own row stays to be seen, the joint rows are of what is left.
    assert [row.probe for row in shown.rows] == ["a", "b", "c", "all", "all", "all"]
    assert shown.rows[4].lost == pytest.approx(0.010)


def test_the_costliest_is_taken_back_where_all_together_cost_too_much():
    advice, _, asked = outcome("ab", 0.008)
    assert {name: one.suggested for name, one in advice.items()} == {"a": 8, "b": 16}
    assert "together with the others, 1.0 points; reason b" in advice["b"].reason
    assert asked == [("a",)]


def test_nothing_may_be_left():
    advice, shown, asked = outcome("abc", -1)
    assert all(one.keep for one in advice.values())
    # Then the joint rows say what all of it would have cost.
    assert shown == check({"a": 8, "b": 8, "c": 8}) and asked == []
