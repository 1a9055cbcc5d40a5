"""A ladder of cuts as values: table, file, page."""

import json
from dataclasses import replace

import pytest
from synthetic_run import record, two_rungs

from monitoring.__main__ import next_step
from monitoring.analysis.ladder import Ladder, check_shares, ladder_from, ladder_values
from monitoring.analysis.tables import ladder_table
from monitoring.report.ladder_section import ladder_figure, ladder_section

TABLE = """
Cut to a share of its multiply-adds, before any training (mIoU on images that were not measured):
         multiply-adds  parameters  peak bytes       mIoU    lost  all alike   estimate
as it is        10,000       1,000         300     0.9000
75 %             7,500         750         275     0.8950    0.50     0.8500       0.01
50 %             5,000         500         250     0.8000   10.00     0.7000        0.1
(lost: points of mIoU; all alike: every group of channels cut to the same share, at the same \
multiply-adds; estimate: loss that the cut adds)

channels        now  in use    75 %    50 %
encoder_1        16     5.0      12       8"""


def changed(rung, score):
    return rung._replace(cut=rung.cut._replace(score=score))


def test_the_table_shows_a_line_per_budget_and_the_channels_beside_those_in_use():
    assert ladder_table(two_rungs(), {"probe_encoder_1": 5.0}) == TABLE
    unweighted = replace(two_rungs(), weighted=False, score="agreement")
    assert "estimate: share of the layers' variance lost" in ladder_table(unweighted, {})


def test_what_cannot_be_cut_is_a_note():
    ladder = Ladder("mIoU", 4, True, notes=("This model cannot be cut: it has no graph",))
    assert ladder_table(ladder, {}) == "\nnote: This model cannot be cut: it has no graph"
    section = ladder_section(ladder, {})
    assert (section.figure, section.rows, section.notes) == (None, (), ladder.notes)


def test_a_file_holds_all_of_it():
    ladder = two_rungs()
    undefined = replace(ladder, rungs=[changed(ladder.rungs[0], float("nan"))])
    for each in (ladder, replace(ladder, parent=None, rungs=(), notes=("no",))):
        assert ladder_from(json.loads(json.dumps(ladder_values(each)))) == each
    values = json.loads(json.dumps(ladder_values(undefined), allow_nan=False))
    assert values["rungs"][0]["score"] is None
    (rung,) = ladder_from(values).rungs
    assert rung.cut.score != rung.cut.score
    assert values["rungs"][0]["uniform"]["score"] == 0.85


def test_the_nearest_is_the_last_budget_before_a_point_is_lost():
    ladder = two_rungs()
    assert ladder.nearest == ladder.rungs[0]
    first, second = ladder.rungs
    assert replace(ladder, rungs=[first, changed(second, 0.8901)]).nearest.share == 0.5
    for score in (0.8, float("nan")):  # what comes back further down is luck
        assert replace(ladder, rungs=[changed(first, score), changed(second, 0.9)]).nearest is None
    assert replace(ladder, parent=None).nearest is None


def test_the_next_step_is_to_measure_then_to_cut_as_far_as_it_costs_little():
    ladder = two_rungs()
    assert next_step("run", None).endswith(": python -m monitoring advise run --cut")
    assert next_step("run", ladder).endswith(": python train.py --narrow run --macs 7600")
    costly = replace(ladder, rungs=ladder.rungs[1:])
    assert next_step("run", costly).startswith("No budget leaves it within a point")
    assert "note above" in next_step("run", replace(ladder, rungs=()))


def test_the_figure_has_both_curves_and_the_network_as_it_is():
    figure = ladder_figure(two_rungs())
    assert figure.count("<polyline") == 3 and figure.count("<circle") == 3 + 3 + 1
    assert "multiply-adds per image, millions" in figure
    for name in ("cut where it costs least", "all groups cut alike", "as it is"):
        assert f"</span>{name}</li>" in figure


def test_the_section_lists_only_layers_that_lose_channels():
    section = ladder_section(two_rungs(), {"probe_encoder_1": record(effective_rank=5.0)})
    assert section.layers == [("pointwise", 16, [12, 8])]
    assert section.probes == [("probe_encoder_1", 16, 5.0, [12, 8])]
    assert [row.lost for row in section.rows] == [None, pytest.approx(0.5), pytest.approx(10)]
    assert ladder_section(None, {}) is None


@pytest.mark.parametrize("shares", [(), (0.5, 1), (0,), (float("nan"),)])
def test_a_share_is_between_0_and_1(shares):
    with pytest.raises(ValueError, match="Expected a ladder of shares of the multiply-adds"):
        check_shares(shares)
