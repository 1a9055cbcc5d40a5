"""`advise` with plain arguments: a folder in, advice out, and its files."""

import json
from dataclasses import FrozenInstanceError, replace

import pytest
from synthetic_run import record, two_rungs, write_records

from monitoring.analysis.advice import Cost
from monitoring.analysis.advice_file import read_advice
from monitoring.analysis.tables import ladder_table
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
    assert advice.costs is None and advice.ladder is None
    assert "encoder_1      16 channels  -> 6     5.0 channels in use" in str(advice)
    assert "what these widths save is not known" in str(advice)
    values = json.loads((folder / "advice.json").read_text())
    assert values["widths"] == advice.widths and values["multiple"] == 2
    assert "now" not in values
    assert "narrow it from 16 to <strong>6</strong>" in (folder / "report.html").read_text()
    with pytest.raises(FrozenInstanceError):
        advice.ladder = None


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


def test_a_ladder_is_measured_once_and_kept(folder):
    first = advise(folder, ladder=two_rungs)
    assert first.ladder == two_rungs()
    assert ladder_table(first.ladder, {FIRST: 5.0}) in str(first)
    text = (folder / "report.html").read_text()
    assert "mIoU over multiply-adds" in text and "has mIoU 0.8950 of 0.9000" in text
    # Whatever else is asked for: it is the network's, not the advice's.
    again = advise(folder, multiple=1)
    assert again.ladder == first.ladder
    assert "mIoU over multiply-adds" in write_report(folder).read_text()
    (folder / "advice.json").write_text('{"advice": 3}')
    assert advise(folder).ladder is None  # a damaged file is replaced
    assert read_advice(folder / "advice.json").ladder is None
    assert "Not measured yet" in (folder / "report.html").read_text()


def test_numbers_that_are_not_finite_keep_a_width(tmp_path):
    write_records(tmp_path, [0])
    text = (tmp_path / "monitor.jsonl").read_text()
    for field in ("effective_rank_low", "effective_rank_high", "dead_channels"):
        (tmp_path / "monitor.jsonl").write_text(text.replace(f'"{field}": 0.5', f'"{field}": null'))
        (width,) = advise(tmp_path).advice
        assert width.keep and width.reason == "nothing to measure"
