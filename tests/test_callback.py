"""A dummy model whose activations are known in closed form."""

import keras
import numpy as np
import pandas as pd
import pytest

from models import Probe
from monitoring import NASMonitorCallback


def orthogonal(count, channels):
    """Zero mean, unit variance, no correlation: exactly, but for float32."""
    x = np.random.default_rng(1).normal(size=(count, channels))
    q, _ = np.linalg.qr(x - x.mean(axis=0))
    return (q * np.sqrt(count - 1)).astype(np.float32)


IMAGES = orthogonal(256, 4)


def dummy(*, learning_rate=0.0):
    """4 inputs; "half" sees each twice, "all" sees them once, the output is their sum."""
    inputs = keras.Input((4,))
    doubled = keras.layers.Dense(8, use_bias=False, name="double")(inputs)
    half = Probe(name="probe_half")(doubled)
    back = keras.layers.Dense(4, use_bias=False, name="back")(half)
    every = Probe(name="probe_all")(back)
    model = keras.Model(inputs, keras.layers.Dense(1, use_bias=False, name="sum")(every))
    model.get_layer("double").set_weights([np.concatenate([np.eye(4), np.eye(4)], axis=1)])
    model.get_layer("back").set_weights([np.concatenate([np.eye(4), np.eye(4)]) / 2])
    model.get_layer("sum").set_weights([np.ones((4, 1))])
    model.compile(keras.optimizers.SGD(learning_rate), "mse")
    return model


class Kept:
    """A user's own logger."""

    def __init__(self):
        self.written, self.closed = [], 0

    def write(self, record, snapshot):
        self.written.append((record, snapshot))

    def close(self):
        self.closed += 1


def fit(monitor, model=None, **options):
    model = model or dummy()
    options = {"epochs": 3, "batch_size": 64, "verbose": 0} | options
    targets = IMAGES.sum(axis=1, keepdims=True)
    return model.fit(IMAGES, targets, callbacks=[monitor], **options)


def test_records_hold_the_closed_form():
    monitor = NASMonitorCallback(IMAGES)
    fit(monitor, epochs=2)
    names = [(record.probe, record.epoch, record.step) for record in monitor.records]
    assert names == [
        *(("probe_half", -1, 0), ("probe_all", -1, 0)),
        *(("probe_half", 0, 4), ("probe_all", 0, 4)),
        *(("probe_half", 1, 8), ("probe_all", 1, 8)),
    ]
    half, every = monitor.records[2:4]
    assert half.redundancy_plugin == pytest.approx(0.5, abs=1e-6)
    assert half.redundancy_low < half.redundancy_score < half.redundancy_high
    assert half.effective_rank == pytest.approx(4, abs=0.05)
    assert half.condition_number == np.inf
    assert (half.channels, half.duplicate_channels, half.dead_channels) == (8, 4, 0)
    assert (half.images, half.samples, half.source, half.verdict) == (256, 256, "images", "ok")
    assert every.redundancy_plugin == pytest.approx(0, abs=1e-6)
    assert every.redundancy_low < every.redundancy_score < every.redundancy_high
    assert every.effective_rank == pytest.approx(4, abs=0.05)
    assert every.condition_number == pytest.approx(1, abs=1e-4)
    assert every.trace == pytest.approx(4, abs=1e-4)


def test_logs_hold_the_mean_over_probes_and_reach_history():
    monitor = NASMonitorCallback(IMAGES)
    history = fit(monitor).history
    half, every = (r.redundancy_score for r in monitor.records[:2])
    assert (half, every) == (pytest.approx(0.5, abs=0.02), pytest.approx(0, abs=0.02))
    assert history["redundancy"] == pytest.approx([(half + every) / 2] * 3, abs=1e-9)
    assert history["redundancy/half"] == pytest.approx([half] * 3, abs=1e-9)
    assert history["redundancy/all"] == pytest.approx([every] * 3, abs=1e-9)


@pytest.mark.parametrize("verbose", [1, 2])
def test_progress_bar_shows_redundancy(capsys, verbose):
    fit(NASMonitorCallback(IMAGES), verbose=verbose)
    assert "redundancy: 0.2" in capsys.readouterr().out


def test_log_frequency_counts_epochs_and_leaves_nan_between():
    monitor = NASMonitorCallback(IMAGES, log_frequency=2)
    history = fit(monitor, epochs=5).history
    assert [record.epoch for record in monitor.records] == [-1, -1, 1, 1, 3, 3]
    for name in ("redundancy", "redundancy/half", "redundancy/all"):
        assert np.isnan(history[name]).tolist() == [True, False, True, False, True]


@pytest.mark.parametrize(
    "steps_per_execution, steps", [(1, [0, 3, 6, 11, 14]), (4, [0, 4, 8, 12, 16])]
)
def test_images_are_measured_every_few_training_batches(steps_per_execution, steps):
    model = dummy(learning_rate=0.01)
    model.compile("sgd", "mse", steps_per_execution=steps_per_execution)
    monitor = NASMonitorCallback(IMAGES, ["back"], monitor_frequency="batch", log_frequency=3)
    history = fit(monitor, model, epochs=2, batch_size=32).history
    assert [record.step for record in monitor.records] == steps
    assert [record.global_step for record in monitor.records] == steps
    assert monitor.get_metrics()["steps"] == steps[1:]
    assert {(record.source, record.images) for record in monitor.records} == {("images", 256)}
    assert monitor.records[-1].redundancy_score == monitor.get_metrics()["redundancy"][-1]
    assert history["redundancy"][-1] == monitor.records[-1].redundancy_score


def test_get_metrics_lists_means_over_probes():
    monitor = NASMonitorCallback(IMAGES)
    fit(monitor, epochs=2)
    metrics = monitor.get_metrics()
    assert metrics["steps"] == [0, 1]
    assert metrics["redundancy"] == pytest.approx([0.25, 0.25], abs=0.02)
    assert metrics["correlation"] == pytest.approx([(8 / 56) / 2] * 2, abs=1e-5)
    assert metrics["trace"] == pytest.approx([6, 6], abs=1e-4)
    assert metrics["condition_number"] == [np.inf, np.inf]
    assert list(metrics["probes"]) == ["probe_half", "probe_all"]
    assert metrics["probes"]["probe_half"]["trace"] == pytest.approx([8, 8], abs=1e-4)
    assert set(metrics["probes"]["probe_all"]) == {
        *("redundancy", "correlation", "condition_number", "trace")
    }


def test_get_metrics_before_any_measurement():
    assert NASMonitorCallback(IMAGES).get_metrics() == {
        **{"steps": [], "redundancy": [], "correlation": []},
        **{"condition_number": [], "trace": [], "probes": {}},
    }


def test_statistics_follow_the_weights():
    model = dummy()
    monitor = NASMonitorCallback(IMAGES)
    fit(monitor, model, epochs=1)
    model.get_layer("back").set_weights([np.ones((8, 4)) / 2])
    records = monitor.compute_redundancy()
    assert records["probe_all"].redundancy_plugin == pytest.approx(0.75, abs=1e-6)
    assert len(monitor.records) == 4


def test_another_model_is_measured_after_set_model():
    first, second = dummy(), dummy()
    second.get_layer("double").set_weights([np.ones((4, 8))])
    monitor = NASMonitorCallback(IMAGES)
    fit(monitor, first, epochs=1)
    assert monitor.compute_redundancy()["probe_half"].redundancy_plugin == pytest.approx(0.5)
    monitor.set_model(second)
    assert monitor.compute_redundancy()["probe_half"].redundancy_plugin == pytest.approx(7 / 8)


def test_compute_redundancy_needs_a_model():
    with pytest.raises(ValueError, match="Expected a model"):
        NASMonitorCallback(IMAGES).compute_redundancy()


def test_probe_layers_names_any_layer():
    monitor = NASMonitorCallback(IMAGES, ["double"])
    fit(monitor, epochs=1)
    assert [record.probe for record in monitor.records] == ["double", "double"]


def test_without_probes_the_output_is_watched_and_one_channel_says_so():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.Dense(1, name="mask")(inputs))
    model.compile("sgd", "mse")
    monitor = NASMonitorCallback(IMAGES)
    history = fit(monitor, model, epochs=1).history
    _, record = monitor.records
    assert record.probe == "mask"
    assert "enable_probes=True" in record.verdict
    assert np.isnan(record.redundancy_score)
    assert np.isnan(history["redundancy"][0])


def test_users_loggers_are_used_and_closed():
    logger = Kept()
    fit(NASMonitorCallback(IMAGES, loggers=[logger]), epochs=2)
    assert [record.epoch for record, _ in logger.written] == [-1, -1, 0, 0, 1, 1]
    assert [snapshot.probe for _, snapshot in logger.written][:2] == ["probe_half", "probe_all"]
    assert logger.written[0][1].duplicates == {4: (0, 1), 5: (1, 1), 6: (2, 1), 7: (3, 1)}
    assert logger.closed == 1


def test_no_loggers_is_no_output(capsys, tmp_path):
    fit(NASMonitorCallback(IMAGES, log_dir=tmp_path, loggers=[]), verbose=2)
    assert "Channels after" not in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verbose, shown", [(0, False), (2, True)])
def test_table_is_printed_unless_silent(capsys, verbose, shown):
    fit(NASMonitorCallback(IMAGES), verbose=verbose)
    assert ("Channels after epoch 3, step 12" in capsys.readouterr().out) is shown


def test_files_of_a_log_dir(tmp_path):
    monitor = NASMonitorCallback(IMAGES, log_dir=tmp_path / "run")
    fit(monitor)
    table = pd.read_csv(tmp_path / "run" / "monitor.csv")
    assert table.redundancy_score.tolist() == [r.redundancy_score for r in monitor.records]
    lines = pd.read_json(tmp_path / "run" / "monitor.jsonl", lines=True)
    assert lines.probe.tolist() == table.probe.tolist()
    with pytest.raises(FileExistsError, match="another run"):
        fit(NASMonitorCallback(IMAGES, log_dir=tmp_path / "run"))
    assert pd.read_csv(tmp_path / "run" / "monitor.csv").equals(table)


def test_a_second_fit_starts_new_records_and_keeps_the_rows_of_the_first(tmp_path):
    model, monitor = dummy(), NASMonitorCallback(IMAGES, log_dir=tmp_path)
    fit(monitor, model, epochs=2)
    fit(monitor, model, epochs=1)
    assert [record.step for record in monitor.records] == [8, 8, 12, 12]
    table = pd.read_csv(tmp_path / "monitor.csv")
    assert table.step.tolist() == [0, 0, 4, 4, 8, 8, 8, 8, 12, 12]
    assert table.global_step.tolist() == table.step.tolist()


@pytest.mark.parametrize(
    "data",
    [
        IMAGES,
        [IMAGES[:100], IMAGES[100:]],
        pytest.param("dataset", id="dataset"),
        pytest.param("pairs", id="dataset of pairs"),
    ],
    ids=lambda data: type(data).__name__,
)
def test_images_as_array_or_dataset(data):
    import tensorflow as tf

    if isinstance(data, list):
        data = Batches(data)
    elif isinstance(data, str):
        content = IMAGES if data == "dataset" else (IMAGES, IMAGES[:, :1])
        data = tf.data.Dataset.from_tensor_slices(content).batch(100)
    monitor = NASMonitorCallback(data)
    fit(monitor, epochs=2)
    assert [record.images for record in monitor.records] == [256] * 6
    assert monitor.records[2].redundancy_plugin == pytest.approx(0.5, abs=1e-6)


class Batches(keras.utils.PyDataset):
    def __init__(self, parts):
        super().__init__()
        self.parts = parts

    def __len__(self):
        return len(self.parts)

    def __getitem__(self, index):
        return self.parts[index]


@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"monitor_data": IMAGES, "monitor_frequency": "step"}, "Received: 'step'"),
        ({"monitor_data": IMAGES, "log_frequency": 0}, "positive integer. Received: 0"),
        ({"monitor_data": IMAGES, "log_frequency": 1.5}, "positive integer. Received: 1.5"),
        ({"redundancy_weight": -0.1}, "0 or more. Received: -0.1, 0"),
        ({"redundancy_weight": float("nan")}, "0 or more. Received: nan"),
        ({"redundancy_warmup": -1}, "0 or more. Received: 0.0, -1"),
    ],
)
def test_impossible_arguments(arguments, says):
    with pytest.raises(ValueError, match=says):
        NASMonitorCallback(**arguments)


@pytest.mark.parametrize(
    "monitor, says",
    [
        (lambda: NASMonitorCallback(IMAGES, ["nowhere"]), "no layer 'nowhere'"),
        (lambda: NASMonitorCallback(iter([IMAGES])), "read only once"),
        (lambda: NASMonitorCallback(IMAGES[:0]), "at least one image"),
        (lambda: NASMonitorCallback([]), "at least one image"),
        (lambda: NASMonitorCallback(IMAGES[:, :2]), "incompatible with the layer"),
        (lambda: NASMonitorCallback(IMAGES, []), "list of names. Received: \\[\\]"),
        (lambda: NASMonitorCallback(IMAGES, data_format="last"), "channels_last, channels_first"),
    ],
)
def test_what_cannot_be_measured_is_an_error_before_the_first_step(monitor, says):
    model = dummy(learning_rate=0.1)
    before = model.get_weights()
    with pytest.raises(ValueError, match=says):
        fit(monitor(), model)
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_after_an_exception_detach_closes_and_the_next_fit_works(tmp_path):
    class Fails(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                raise RuntimeError("full disk")

    model, logger = dummy(), Kept()
    monitor = NASMonitorCallback(IMAGES, loggers=[logger])
    with pytest.raises(RuntimeError, match="full disk"):
        model.fit(IMAGES, IMAGES[:, :1], epochs=3, verbose=0, callbacks=[monitor, Fails()])
    assert logger.closed == 0
    monitor.detach()
    monitor.detach()
    assert logger.closed == 1
    fit(monitor, model)
    assert len(monitor.records) == 8
