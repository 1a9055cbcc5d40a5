"""Widths from records: closed forms, limits, budgets."""

import math
from dataclasses import fields, replace

import pytest

from monitoring.analysis.advice import Cost, WidthAdvice, advise_widths
from monitoring.analysis.budget import fit_budget
from monitoring.records.record import ProbeRecord

ZERO = {field.name: 0 for field in fields(ProbeRecord)}


def record(rank=6.1, low=5.8, high=6.4, channels=16, epoch=9, **values) -> ProbeRecord:
    given = {
        "probe": "probe_bottleneck",
        "source": "images",
        "epoch": epoch,
        "channels": channels,
        "effective_rank": rank,
        "effective_rank_low": low,
        "effective_rank_high": high,
        "verdict": "ok",
    }
    return ProbeRecord(**(ZERO | given | values))


def one(*history, **options) -> WidthAdvice:
    (advice,) = advise_widths({history[-1].probe: history}, **options)
    return advice


def steady(last: ProbeRecord, epochs=10) -> list[ProbeRecord]:
    return [replace(last, epoch=epoch) for epoch in range(-1, epochs)]


@pytest.mark.parametrize(
    ("multiple", "suggested", "low"), [(1, 7, 6), (2, 8, 6), (4, 8, 8), (8, 8, 8), (32, 16, 16)]
)
def test_the_upper_end_is_rounded_up(multiple, suggested, low):
    advice = one(*steady(record()), multiple=multiple)
    assert (advice.suggested, advice.low, advice.high) == (suggested, low, suggested)
    assert "6.1 channels in use (5.8 to 6.4)" in advice.reason
    assert advice.keep == (suggested == 16)


def test_a_whole_number_is_not_rounded_further():
    assert one(*steady(record(7.9, 7.8, 8.0))).suggested == 8


def test_a_stage_is_never_widened_and_never_removed():
    assert one(*steady(record(15.9, 15.8, 16.2))).keep
    assert one(*steady(record(1.0, 0.9, 1.0)), multiple=1).suggested == 1


def test_dead_and_duplicate_channels_are_set_aside():
    wasteful = record(7.0, 6.0, 9.0, dead_channels=7, duplicate_channels=5)
    advice = one(*steady(wasteful), multiple=1)
    assert advice.suggested == 4
    assert "7 dead and 5 duplicate set aside" in advice.reason


def test_too_few_samples_lead_to_no_advice():
    advice = one(*steady(record(verdict="not enough samples: 64 of 128 images")))
    assert advice.keep and "64 of 128 images" in advice.reason
    assert one(*steady(record(math.nan, math.nan, math.nan))).keep


def test_a_width_that_moves_is_said_to():
    growing = [record(n, n - 0.1, n + 0.1, epoch=epoch) for epoch, n in enumerate(range(2, 10))]
    assert "still moving: 7.0 after epoch 6" in one(*growing).reason
    noisy = [record(8 + 0.1 * (-1) ** n, 7.5, 8.5, epoch=n) for n in range(8)]
    assert "moving" not in one(*noisy).reason
    assert "after 1 measurement:" in one(record(epoch=-1), record()).reason
    assert "measurement" not in one(record()).reason  # an analysis, not a training


def test_the_other_rules_read_other_fields():
    known = record(
        redundancy_score=0.5, redundancy_low=0.4, redundancy_high=0.6, intrinsic_dimension=15
    )
    advice = one(*steady(known), rule="participation_ratio", multiple=1)
    assert (advice.low, advice.suggested) == (7, 10)
    assert one(*steady(known), rule="variance", multiple=1).suggested == 15
    with pytest.raises(ValueError, match="Unknown rule 'best'. Known: effective_rank"):
        advise_widths({}, rule="best")
    with pytest.raises(ValueError, match="positive integer. Received: 0"):
        advise_widths({}, multiple=0)


def squares(widths) -> Cost:
    total = sum(width**2 for width in widths.values())
    return Cost(total, 10 * total, 100)


def pieces(**widths) -> list[WidthAdvice]:
    return [WidthAdvice(name, 64, width, width, width, "") for name, width in widths.items()]


def test_each_advice_has_the_cost_of_its_own_network():
    histories = {name: steady(replace(record(), probe=name)) for name in ("probe_one", "probe_two")}
    first, _ = advise_widths(histories, cost=squares)
    assert (first.parameters, first.macs) == (8**2 + 16**2, 10 * (8**2 + 16**2))


def test_a_budget_is_used_up_in_equal_shares():
    *rejected, chosen = fit_budget(pieces(a=8, b=16, c=32), {"parameters": 400}, squares)
    assert chosen.cost.parameters <= 400 and not chosen.over
    assert all(candidate.over or candidate.cost != chosen.cost for candidate in rejected)
    assert rejected[0].over.endswith(" parameters over")
    # No stage could be raised by another 4.
    for name, width in chosen.widths.items():
        if width < {"a": 8, "b": 16, "c": 32}[name]:
            assert squares({**chosen.widths, name: width + 4}).parameters > 400
    # Equal shares: of (8, 16, 32), 4 + 8 + 16 has 336, and 4 more of the first fit.
    assert dict(chosen.widths) == {"a": 8, "b": 8, "c": 16}


def test_a_budget_that_does_not_bind_changes_nothing():
    (chosen,) = fit_budget(pieces(a=8, b=16), {"macs": 10**6}, squares)
    assert dict(chosen.widths) == {"a": 8, "b": 16}


def test_a_budget_that_nothing_fits_is_refused():
    with pytest.raises(
        ValueError, match="No network fits: the narrowest, a 4, b 4, is 1 parameters over"
    ):
        fit_budget(pieces(a=8, b=16), {"parameters": 31}, squares)
    with pytest.raises(ValueError, match="Received: none"):
        fit_budget([], {"parameters": 31}, squares)
