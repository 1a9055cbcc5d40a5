"""`advise` with plain arguments: a folder in, advice out, and its files."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from synthetic_run import record, write_records

from monitoring.analysis.advice import Cost
from monitoring.analysis.advice_file import read_advice
from monitoring.analysis.check import LEVELS, Check, Projected
from monitoring.loggers.lines import JsonLinesLogger
from monitoring.report.advise import advise
from monitoring.report.run_page import write_report

FIRST, SECOND = "probe_encoder_1", "probe_bottleneck"


class Squares:
    """A network whose parameters are the sum of the squares of its widths."""

    now = {FIRST: 16, SECOND: 16}

    def cost(self, widths):
        total = sum(width**2 for width in (self.now | dict(widths)).values())
        return Cost(total, 10 * total, 100)

    def arguments(self, widths):
        widths = self.now | dict(widths)
        return {"filters": (widths[FIRST],), "bottleneck": widths[SECOND]}


class Checks:
    """Checks of which each narrowed layer costs so many points; remembers what was asked."""

    def __init__(self, **points):
        self.lost, self.asked = {name: p / 100 for name, p in points.items()}, []

    def __call__(self, widths):
        self.asked.append(dict(widths))
        rows = [
            Projected(name, "advised", k, 0.9 - self.lost[name], 0.1, self.lost[name])
            for name, k in widths.items()
        ]
        lost = sum(self.lost[name] for name in widths)
        if widths:
            rows += [Projected("all", level, 8, 0.9 - lost, 0.1, lost) for level in LEVELS]
        return Check("mIoU", 0.9, rows)


@pytest.fixture
def folder(tmp_path):
    """A run whose first stage uses 5 of 16 channels, the other 7."""
    logger = JsonLinesLogger(tmp_path / "monitor.jsonl")
    for probe, rank in ((FIRST, 5.0), (SECOND, 7.0)):
        steady = record(probe, channels=16, effective_rank=rank, dead_channels=0.0)
        steady = replace(steady, effective_rank_low=rank - 1, effective_rank_high=rank)
        for epoch in range(-1, 8):
            logger.write(replace(steady, epoch=epoch, duplicate_channels=0.0))
    logger.close()
    return tmp_path


def test_a_run_without_a_network_is_advised_on(folder):
    advice = advise(folder, multiple=2)
    assert advice.widths == {FIRST: 6, SECOND: 8}
    assert advice.costs is None and advice.check is None
    assert "encoder_1      16 channels  -> 6     5.0 channels in use" in str(advice)
    assert "what these widths save is not known" in str(advice)
    values = json.loads((folder / "advice.json").read_text())
    assert values["widths"] == advice.widths and values["multiple"] == 2
    assert "now" not in values
    assert "narrow it from 16 to <strong>6</strong>" in (folder / "report.html").read_text()
    with pytest.raises(FrozenInstanceError):
        advice.check = None


def test_a_network_tells_what_the_widths_save(folder):
    advice = advise(str(folder), network=Squares())
    assert advice.costs == (Cost(512, 5120, 100), Cost(128, 1280, 100))
    assert "parameters                             512 ->           128  (-75%)" in str(advice)
    values = json.loads((folder / "advice.json").read_text())
    assert values["advised"] == {
        **{"parameters": 128, "macs": 1280, "peak_activation_bytes": 100},
        **{"filters": [8], "bottleneck": 8},
    }
    # A later report takes the costs from the file: nothing is built.
    text = write_report(folder).read_text()
    assert "512" in text and "128" in text and "-75 %" in text
    assert read_advice(folder / "advice.json").costs == advice.costs


def test_a_budget_narrows_further_and_needs_a_network(folder):
    advice = advise(folder, parameters=100, network=Squares())
    assert advice.widths == {FIRST: 8, SECOND: 4}
    assert advice.candidates[-1].cost.parameters <= 100
    assert advice.advice[1].reason.startswith("8 without the budget: ")
    assert advice.advice[1].parameters == 4**2 + 16**2
    for limit in ({"parameters": 100}, {"macs": 100}, {"peak_ram": 100}):
        with pytest.raises(ValueError, match="A budget needs a network .*Received: budget="):
            advise(folder, **limit)
    with pytest.raises(ValueError, match="No network fits"):
        advise(folder, macs=10, network=Squares())


def test_a_check_rejects_what_costs_more_than_the_tolerance(folder):
    check = Checks(**{FIRST: 3, SECOND: 0.5})
    advice = advise(folder, check=check)
    assert check.asked == [{FIRST: 8, SECOND: 8}, {SECOND: 8}]
    assert advice.widths == {FIRST: 16, SECOND: 8}
    assert "8 directions cost 3.0 points of mIoU, more than 1" in str(advice)
    assert advise(folder, check=check, tolerance=5).widths == {FIRST: 8, SECOND: 8}
    for tolerance in (-1, float("nan")):
        with pytest.raises(ValueError, match="Expected a tolerance of 0 or more"):
            advise(folder, check=check, tolerance=tolerance)
    with pytest.raises(ValueError, match="A tolerance belongs to the projection check"):
        advise(folder, tolerance=2)


def test_under_a_budget_a_check_rejects_nothing(folder):
    advice = advise(
        folder, parameters=100, network=Squares(), check=Checks(**{FIRST: 30, SECOND: 30})
    )
    assert advice.widths == {FIRST: 8, SECOND: 4}
    assert [row.directions for row in advice.check.rows][:2] == [8, 4]


def test_where_every_width_is_kept_the_check_is_asked_for_the_score_alone(folder):
    check = Checks()
    advice = advise(folder, multiple=16, check=check)
    assert check.asked == [{}] and list(advice.check.rows) == []
    assert "every width is kept, so there is nothing to try" in str(advice)


def test_an_earlier_check_stays_with_the_same_widths_alone(folder):
    check = Checks(**{FIRST: 0.1, SECOND: 0.1})
    first = advise(folder, check=check)
    assert advise(folder).check == first.check and len(check.asked) == 1
    other = advise(folder, multiple=1)
    assert other.check is None
    assert "the earlier projection check was of other widths" in str(other)
    assert (
        "the earlier projection check was of other widths" in (folder / "report.html").read_text()
    )
    (folder / "advice.json").write_text('{"advice": 3}')
    assert advise(folder).check is None  # a damaged file is replaced
    assert read_advice(folder / "advice.json").widths == {FIRST: 8, SECOND: 8}


def test_numbers_that_are_not_finite_keep_a_width(tmp_path):
    write_records(tmp_path, [0])
    text = (tmp_path / "monitor.jsonl").read_text()
    for field in ("effective_rank_low", "effective_rank_high", "dead_channels"):
        (tmp_path / "monitor.jsonl").write_text(text.replace(f'"{field}": 0.5', f'"{field}": null'))
        (width,) = advise(tmp_path).advice
        assert width.keep and width.reason == "nothing to measure"
