import dataclasses
import io
import json
import math

import numpy as np
import pandas as pd
import pytest
from conftest import grouped_units

from monitoring.loggers.console import ConsoleLogger
from monitoring.loggers.lines import CsvLogger, JsonLinesLogger
from monitoring.records.measurement import Measurement, summarise
from monitoring.records.record import COLUMNS, METRIC_COLUMNS
from monitoring.statistics.metrics import METRIC_NAMES

INTEGERS = ("epoch", "step", "global_step", "images", "samples", "channels", "dead_channels")


def record_of(x, epoch=0, probe="probe_bottleneck"):
    """The record of one image a row."""
    return summarise(Measurement(grouped_units(x[:, None]), probe, "images", epoch, step=7))


@pytest.fixture
def written(rng):
    """Records with ordinary, infinite and undefined numbers, and one awkward name."""
    x = rng.normal(size=(500, 4))
    return [
        record_of(x),
        record_of(np.concatenate([x, x], axis=1), epoch=1),
        record_of(x[:, :1], epoch=2, probe='odd, "name"'),
    ]


def test_pandas_reads_the_csv_to_the_last_bit(written, tmp_path):
    logger = CsvLogger(tmp_path / "monitor.csv")
    for record, snapshot in written:
        logger.write(record, snapshot)
    logger.close()
    table = pd.read_csv(tmp_path / "monitor.csv")
    assert tuple(table.columns) == COLUMNS
    expected = pd.DataFrame([dataclasses.asdict(record) for record, _ in written])
    pd.testing.assert_frame_equal(table, expected, check_exact=True)
    assert table.condition_number[1] == math.inf
    assert math.isnan(table.redundancy_score[2])
    assert all(table[name].dtype.kind == "i" for name in INTEGERS)


def test_every_line_of_the_jsonl_is_one_record_in_strict_json(written, tmp_path):
    logger = JsonLinesLogger(tmp_path / "monitor.jsonl")
    for record, snapshot in written:
        logger.write(record, snapshot)
    logger.close()

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    lines = (tmp_path / "monitor.jsonl").read_text().splitlines()
    rows = [json.loads(line, parse_constant=refuse) for line in lines]
    assert [tuple(row) for row in rows] == [COLUMNS] * 3
    assert rows[0]["redundancy_score"] == written[0][0].redundancy_score
    assert rows[1]["condition_number"] == "Infinity"
    assert rows[2]["redundancy_score"] is None
    assert rows[2]["probe"] == 'odd, "name"'


@pytest.mark.parametrize("kind, name", [(CsvLogger, "monitor.csv"), (JsonLinesLogger, "m.jsonl")])
def test_files_are_there_after_each_write_and_go_on_after_close(written, tmp_path, kind, name):
    path = tmp_path / "new" / "folder" / name
    logger = kind(path)
    assert not path.exists()
    lengths = []
    for record, snapshot in written:
        logger.write(record, snapshot)
        lengths.append(len(path.read_text().splitlines()))
    logger.close()
    logger.write(*written[0])
    logger.close()
    header = 1 if kind is CsvLogger else 0
    assert lengths == [1 + header, 2 + header, 3 + header]
    assert len(path.read_text().splitlines()) == 4 + header


@pytest.mark.parametrize("kind", [CsvLogger, JsonLinesLogger])
def test_another_runs_file_is_never_touched(written, tmp_path, kind):
    path = tmp_path / "monitor"
    path.write_text("precious")
    for begin in (lambda: kind(path).start(0, 0, {}), lambda: kind(path).write(*written[0])):
        with pytest.raises(FileExistsError, match="holds the records of another run"):
            begin()
    assert path.read_text() == "precious"


def test_console_shows_a_row_a_probe_with_its_last_record(rng):
    x = rng.normal(size=(4096, 4))
    x[:, 1] = 2 * x[:, 0]
    x[:, 3] = 0
    file = io.StringIO()
    logger = ConsoleLogger(file)
    for epoch in (-1, 0, 1):
        logger.write(*record_of(x, epoch))
        logger.write(*record_of(x[:20], epoch, probe="probe_encoder_1"))
    logger.close()
    lines = file.getvalue().splitlines()
    assert lines[0] == "Channels after epoch 2, step 7"
    record = record_of(x)[0]
    half = (record.effective_rank_high - record.effective_rank_low) / 2
    score = f"{record.redundancy_score:.3f}"
    assert " ".join(lines[1].split()) == (
        f"bottleneck 4 channels {record.effective_rank:.1f} ± {half:.1f} in use 1 dead "
        f"1 duplicates redundancy {score} (start {score})"
    )
    assert lines[2].split()[0] == "encoder_1"
    assert lines[3] == "encoder_1: not enough samples: 20 of 60"
    assert len(lines) == 4


def test_console_without_records_says_nothing():
    file = io.StringIO()
    ConsoleLogger(file).close()
    assert file.getvalue() == ""


def test_undefined_numbers_are_dashes_on_the_console(rng):
    file = io.StringIO()
    logger = ConsoleLogger(file)
    logger.write(*record_of(rng.normal(size=(100, 1))))
    logger.close()
    assert "one channel: redundancy needs two" in file.getvalue()
    row = " ".join(file.getvalue().splitlines()[1].split())
    assert row == "bottleneck 1 channels 1.0 in use 0 dead 0 duplicates redundancy -"


def test_a_records_fields_are_the_columns():
    assert COLUMNS[:5] == ("probe", "source", "epoch", "step", "global_step")
    assert COLUMNS[5:8] == ("images", "samples", "channels")
    assert COLUMNS[-2:] == ("verdict", "seconds")
    intervals = {"redundancy_low", "redundancy_high", "effective_rank_low", "effective_rank_high"}
    assert set(METRIC_COLUMNS) == {*METRIC_NAMES, *intervals, "drift_share"}
    assert [name for name in COLUMNS if name in METRIC_COLUMNS] == list(METRIC_COLUMNS)


def test_a_snapshot_numbers_channels_as_the_layer_does(rng):
    x = rng.normal(size=(4096, 5))
    x[:, 1] = 0
    x[:, 4] = -x[:, 2]
    _, snapshot = record_of(x)
    assert snapshot.dead == (1,)
    assert dict(snapshot.duplicates) == {4: (2, -1)}
    assert np.isnan(snapshot.correlation[1]).all()
    assert snapshot.correlation[2, 4] == pytest.approx(-1)
    assert snapshot.eigenvalues.sum() == pytest.approx(4)
    assert (np.diff(snapshot.eigenvalues) <= 0).all()
    np.testing.assert_allclose(snapshot.mean, x.mean(axis=0), atol=1e-6)
