"""Copies of a monitor, as tuners make one for each trial."""

import copy

import keras
import numpy as np
import pytest
import tensorflow as tf

from monitoring import NASMonitorCallback
from monitoring.records.reading import read_run


@pytest.fixture
def x(rng):
    return rng.normal(size=(32, 8)).astype("float32")


def network(width=4):
    wide = keras.layers.Dense(width, "relu", name="wide")
    model = keras.Sequential([keras.Input((8,)), wide, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    return model


class Subclass(NASMonitorCallback):
    def __init__(self, *args, note, **options):
        super().__init__(*args, **options)
        self.note = note


def test_each_copy_has_its_own_folder_and_records(tmp_path, x):
    images = tf.data.Dataset.from_tensor_slices(x).batch(16)  # cannot be copied
    monitor = Subclass(images, ["wide"], log_dir=tmp_path / "log", note=["mine"])
    copies = [copy.deepcopy([monitor])[0] for _ in range(3)]
    assert not list(tmp_path.iterdir())  # a copy that is not used leaves nothing
    for number, each in enumerate(copies[:2], 1):
        network().fit(x, x[:, :1], epochs=number, verbose=0, callbacks=[each])
        assert [record.epoch for record in each.records] == list(range(-1, number))
        assert each.monitor_data is images
        assert each.note == ["mine"] and each.note is not monitor.note
    assert sorted(path.name for path in tmp_path.iterdir()) == ["log", "log-1"]
    for name, each in zip(("log", "log-1"), copies, strict=False):
        assert len(read_run(tmp_path / name).records["wide"]) == len(each.records)
    assert monitor.records == []
    network().fit(x, x[:, :1], verbose=0, callbacks=[copy.deepcopy(copies[0])])
    assert (tmp_path / "log-2" / "monitor.csv").is_file()


def test_a_copy_made_before_training_measures_as_the_original(x):
    monitor = NASMonitorCallback(probe_layers=["wide"], monitor_frequency="batch", loggers=[])
    values = []
    for each in (copy.deepcopy(monitor), monitor):
        keras.utils.set_random_seed(0)
        network().fit(x, x[:, :1], batch_size=8, shuffle=False, verbose=0, callbacks=[each])
        values.append([record.trace for record in each.records])
    assert values[0] == values[1] and len(values[0]) == 4


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_keras_tuner_searches_by_redundancy(tmp_path, x):
    tuner = pytest.importorskip("keras_tuner")
    search = tuner.GridSearch(
        lambda hp: network(hp.Choice("width", [4, 8])),
        objective=tuner.Objective("redundancy", "min"),
        directory=tmp_path,
        project_name="search",
        executions_per_trial=2,
    )
    monitor = NASMonitorCallback(x, ["wide"], log_dir=tmp_path / "log")
    search.search(x, x[:, :1], epochs=1, verbose=0, callbacks=[monitor])
    assert np.isfinite([trial.score for trial in search.oracle.trials.values()]).all()
    folders = [tmp_path / f"log{number}" for number in ("", "-1", "-2", "-3")]
    assert [len(read_run(folder).records["wide"]) for folder in folders] == [2] * 4
