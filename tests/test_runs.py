"""What a run has left is read back as it was written."""

import json

import numpy as np
import pytest
from conftest import grouped_units

from monitoring import NASMonitorCallback
from monitoring.loggers.arrays import ArraysLogger
from monitoring.loggers.lines import JsonLinesLogger
from monitoring.records.measurement import Measurement, summarise
from monitoring.records.reading import read_records, read_run, read_snapshots


def measured(rng, channels=3, probe="probe_a/b", epoch=0):
    x = rng.normal(size=(20, 50, channels))
    x[..., 1] = 2.0
    return summarise(Measurement(grouped_units(x), probe, "images", epoch, 7 * epoch))


@pytest.fixture
def folder(tmp_path, rng):
    loggers = [JsonLinesLogger(tmp_path / "monitor.jsonl"), ArraysLogger(tmp_path / "arrays")]
    written = [measured(rng, epoch=epoch) for epoch in range(3)]
    for record, snapshot in written:
        for logger in loggers:
            logger.write(record, snapshot)
    for logger in loggers:
        logger.close()
    return tmp_path, written


def test_records_and_snapshots_come_back_as_they_were(folder):
    path, written = folder
    run = read_run(path)
    assert list(run.records) == ["probe_a/b"]
    for found, (record, _) in zip(run.records["probe_a/b"], written, strict=True):
        assert str(found) == str(record)  # nan is not equal to itself
    (snapshots,) = read_snapshots(path).values()
    for found, (_, snapshot) in zip(snapshots, written, strict=True):
        assert (found.probe, found.epoch, found.step) == (
            "probe_a/b",
            snapshot.epoch,
            snapshot.step,
        )
        assert found.dead == snapshot.dead == (1,)
        np.testing.assert_array_equal(found.eigenvalues, snapshot.eigenvalues)
        np.testing.assert_allclose(found.correlation, snapshot.correlation, atol=1e-6)
    assert any("evaluation.json" in note for note in run.notes)


def test_a_torn_last_line_is_left_out_and_said(folder):
    path, _ = folder
    file = path / "monitor.jsonl"
    file.write_text(file.read_text()[:-40])
    run = read_run(path)
    assert len(run.records["probe_a/b"]) == 2
    assert "torn" in run.notes[0]


@pytest.mark.parametrize("left", ["2,0.1", "2,"])
def test_a_torn_line_of_history_is_left_out_and_said(folder, left):
    path, _ = folder
    (path / "history.csv").write_text("epoch,loss\n0,0.5\n1,0.25\n" + left)
    run = read_run(path)
    assert run.history == {"epoch": [0, 1], "loss": [0.5, 0.25]}
    assert run.notes[-1] == "history.csv: its last line is torn and was left out"
    (path / "history.csv").write_text("epoch,loss\n0,0.5\n1,oh\n")
    with pytest.raises(ValueError, match="history.csv is not a Keras log"):
        read_run(path)


def test_a_broken_line_in_the_middle_is_an_error_that_names_it(folder):
    path, _ = folder
    file = path / "monitor.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text(lines[0] + '{"probe": 1}\n' + lines[2])
    with pytest.raises(ValueError, match="line 2, is not a record \\(missing or unknown: channels"):
        read_run(path)
    file.write_text(lines[0] + "[]\n" + lines[2])
    with pytest.raises(ValueError, match="line 2, is not a record"):
        read_run(path)


def test_folders_without_records_say_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read_run(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="train with --probes"):
        read_run(tmp_path)
    (tmp_path / "monitor.jsonl").touch()
    with pytest.raises(FileNotFoundError, match="holds no records yet"):
        read_run(tmp_path)


def test_a_callbacks_folder_is_a_run(tmp_path, rng):
    import keras

    x = rng.normal(size=(32, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="wide")])
    model.compile("sgd", "mse")
    monitor = NASMonitorCallback(x, ["wide"], log_dir=tmp_path)
    model.fit(x, x[:, :3], epochs=2, verbose=0, callbacks=[monitor])
    run = read_run(tmp_path)
    assert [record.epoch for record in run.records["wide"]] == [-1, 0, 1]
    assert run.config == {} and run.evaluation == {}


def test_of_a_long_file_every_kth_record_is_read_and_the_last(folder, monkeypatch):
    path, _ = folder
    file = path / "monitor.jsonl"
    line = json.loads(file.read_text().splitlines()[-1])
    rows = [
        line | {"probe": probe, "step": step}
        for step in range(101)
        for probe in ("probe_a", "probe_b")
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setattr("monitoring.records.reading.LIMIT", 10)
    run = read_run(path)
    for probe in ("probe_a", "probe_b"):
        assert [r.step for r in run.records[probe]] == [*range(0, 101, 16), 100]
    assert any("every 16th record" in note for note in run.notes)
    assert len(read_records(file)[0]) == 202
