"""Where the optimizer's step stands still, each measurement still has its own place in time."""

import json
import shutil

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from monitoring import NASMonitorCallback
from monitoring.__main__ import main
from monitoring.records.reading import read_records, read_run, read_snapshots

X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
BATCHES = 8  # of 8 rows, in each epoch
LAYERS = ["wide", "narrow"]
FREQUENCIES, SOURCES = ("epoch", "batch"), ("images", "batches")
ADDED = "global_step"


class OwnOptimizer(keras.Model):
    """Trains with an optimizer that Keras does not know of."""

    def __init__(self, optimizers=1):
        super().__init__()
        self.layers_in_order = [keras.layers.Dense(6, name="wide")]
        self.layers_in_order += [keras.layers.Dense(4, name="narrow"), keras.layers.Dense(1)]
        self.own = [keras.optimizers.Adam(0.01) for _ in range(optimizers)]

    def call(self, x):
        for layer in self.layers_in_order:
            x = layer(x)
        return x

    def train_step(self, data):
        x, y = data
        for number, optimizer in enumerate(self.own):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(x) - y) ** 2)
            weights = self.trainable_weights[2 * number : 2 * number + 2]
            optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return {"loss": loss}


def network(kind):
    if kind in ("own", "two"):
        model = OwnOptimizer(1 if kind == "own" else 2)
        model(X[:1])
        model.compile(keras.optimizers.Adam())  # which its train_step leaves alone
        return model
    widths = (6, "wide"), (4, "narrow"), (1, "out")
    layers = [keras.layers.Dense(units, name=name) for units, name in widths]
    model = keras.Sequential([keras.Input((8,)), *layers])
    steps = 4 if kind == "accumulating" else None
    model.compile(keras.optimizers.Adam(0.01, gradient_accumulation_steps=steps), "mse")
    return model


def fit(model, folder, frequency, images=None, monitor=None, *more, **options):
    monitor = monitor or NASMonitorCallback(
        images, LAYERS, monitor_frequency=frequency, log_dir=folder
    )
    options = {"epochs": 3, "batch_size": 8, "verbose": 0} | options
    model.fit(X, X[:, :1], callbacks=[monitor, *more], **options)
    return monitor


def shown(folder):
    """The steps at which TensorBoard shows the values of each probe."""
    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [[event.step for event in events.Scalars(f"trace/{name}")] for name in LAYERS]


def kept(folder):
    """The global steps in the names of the files of each probe."""
    paths = sorted((folder / "arrays").iterdir())
    return [[int(p.stem.rsplit("-")[1]) for p in paths if p.name.startswith(n)] for n in LAYERS]


def places(folder):
    """The global step of each measurement, which all probes share."""
    table = pd.read_csv(folder / "monitor.csv")
    first, second = (table[table.probe == name].global_step.tolist() for name in LAYERS)
    assert first == second
    records, _ = read_records(folder / "monitor.jsonl")
    assert [record.global_step for record in records] == table.global_step.tolist()
    return first


def assert_grows(numbers):
    assert (np.diff(numbers) > 0).all(), numbers


@pytest.mark.parametrize(
    "kind, frequency, source",
    [
        *(("own", frequency, source) for frequency in FREQUENCIES for source in SOURCES),
        *(("two", "epoch", "batches"), ("two", "batch", "images")),
        *(("accumulating", frequency, "images") for frequency in FREQUENCIES),
        *(("accumulating", "batch", "batches"), ("ordinary", "batch", "images")),
    ],
)
def test_every_reader_sees_every_measurement(tmp_path, kind, frequency, source):
    folder, images = tmp_path / "run", X if source == "images" else None
    monitor = fit(network(kind), folder, frequency, images)
    measured = 3 if frequency == "epoch" else 3 * BATCHES
    baseline = images is not None
    at = places(folder)
    assert_grows(at)
    assert len(at) == measured + baseline

    metrics = monitor.get_metrics()
    assert metrics["steps"] == ([0, 1, 2] if frequency == "epoch" else at[baseline:])
    assert {len(metrics[name]) for name in ("steps", "redundancy", "trace")} == {measured}
    assert {len(lists["trace"]) for lists in metrics["probes"].values()} == {measured}

    stride = 1 if len(at) <= 16 else 2
    expected = sorted({*at[::stride], at[-1]})
    assert kept(folder) == [expected] * 2
    for snapshots in read_snapshots(folder).values():
        assert [snapshot.global_step for snapshot in snapshots] == expected
    assert shown(folder) == [at] * 2

    steps = [record.step for record in monitor.records if record.probe == "wide"]
    if kind == "ordinary":
        assert steps == at
    elif kind == "accumulating":
        batches = BATCHES if frequency == "epoch" else 1
        first = 0 if baseline else batches
        assert steps == [number // 4 for number in range(first, 3 * BATCHES + 1, batches)]
    else:
        assert set(steps) == {0} and at == list(range(len(at)))

    assert main(["report", str(folder)]) == 0
    assert main(["compare", str(folder), str(folder)]) == 0
    page = (folder / "report.html").read_text()
    assert ("global_step<" in page) == (frequency == "batch" and kind != "ordinary")


@pytest.mark.parametrize(
    "kind, frequency", [("own", "epoch"), ("two", "batch"), ("accumulating", "batch")]
)
def test_a_resumed_run_continues_the_count(tmp_path, kind, frequency):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    fit(network(kind), whole, frequency, X, epochs=5)
    model = network(kind)
    fit(model, stopped, frequency, X, epochs=3)
    # The third epoch is measured again, as after a kill before its checkpoint.
    monitor = fit(model, stopped, frequency, X, initial_epoch=2, epochs=5)
    at = places(stopped)
    assert_grows(at)
    assert len(at) == len(places(whole))
    assert shown(stopped) == [at] * 2
    assert monitor.get_metrics()["steps"] == ([0, 1, 2, 3, 4] if frequency == "epoch" else at[1:])
    numbers = [[at.index(step) for step in steps] for steps in kept(stopped)]
    whole_at = places(whole)
    assert numbers == [[whole_at.index(step) for step in steps] for steps in kept(whole)]
    if kind != "accumulating":  # whose optimizer has taken the steps of the epoch twice
        assert at == list(range(len(at)))


def test_a_resumed_run_with_a_new_optimizer_keeps_what_was_before(tmp_path):
    fit(network("ordinary"), tmp_path, "epoch", X, epochs=3)
    fit(network("ordinary"), tmp_path, "epoch", X, initial_epoch=3, epochs=7)
    assert pd.read_csv(tmp_path / "monitor.csv").step[::2].tolist() == [0, 8, 16, 24, 8, 16, 24, 32]
    at = places(tmp_path)
    assert at == [0, 8, 16, 24, 25, 26, 27, 32]
    assert shown(tmp_path) == kept(tmp_path) == [at] * 2


def test_a_second_fit_adds_to_the_files_of_the_first(tmp_path):
    model, monitor = network("own"), NASMonitorCallback(X, LAYERS, log_dir=tmp_path)
    fit(model, tmp_path, "epoch", monitor=monitor)
    fit(model, tmp_path, "epoch", monitor=monitor)
    assert places(tmp_path) == list(range(8))  # two baselines
    assert shown(tmp_path) == kept(tmp_path) == [list(range(8))] * 2
    assert monitor.get_metrics()["steps"] == [0, 1, 2]


def test_without_files_a_second_fit_counts_anew():
    monitor = NASMonitorCallback(X, LAYERS)
    for _ in range(2):
        fit(network("ordinary"), None, "epoch", monitor=monitor)
        assert [record.global_step for record in monitor.records[::2]] == [0, 8, 16, 24]


@pytest.mark.parametrize("kind", ["own", "ordinary"])
def test_a_measurement_on_demand_does_not_count(tmp_path, kind):
    found = []
    ask = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: found.append(monitor.compute_redundancy())
    )
    monitor = NASMonitorCallback(X, LAYERS, log_dir=tmp_path)
    fit(network(kind), tmp_path, "epoch", None, monitor, ask)
    at = places(tmp_path)
    assert at == ([0, 1, 2, 3] if kind == "own" else [0, 8, 16, 24])
    found.append(monitor.compute_redundancy())
    answered = [{record.global_step for record in records.values()} for records in found]
    assert answered == [{at[1]}, {at[2]}, {at[3]}, {at[3]}]


def make_old(folder):
    """Takes global_step out of a run's files, as older versions wrote them."""
    lines = [json.loads(line) for line in (folder / "monitor.jsonl").read_text().splitlines()]
    for values in lines:
        del values[ADDED]
    text = "".join(json.dumps(values) + "\n" for values in lines)
    (folder / "monitor.jsonl").write_text(text)
    table = pd.read_csv(folder / "monitor.csv", dtype=str, keep_default_na=False)
    table.drop(columns=ADDED).to_csv(folder / "monitor.csv", index=False)
    for path in (folder / "arrays").iterdir():
        with np.load(path) as archive:
            arrays = dict(archive)
        del arrays[ADDED]
        np.savez(path, **arrays)


def test_files_of_older_versions_are_read_and_continued(tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    model = network("ordinary")
    fit(model, new, "epoch", X)
    before = {name: (new / name).read_text() for name in ("monitor.csv", "monitor.jsonl")}
    shutil.copytree(new, old)
    make_old(old)
    assert ADDED not in (old / "monitor.csv").read_text() + (old / "monitor.jsonl").read_text()
    assert read_run(old).records == read_run(new).records
    assert [s.global_step for s in read_snapshots(old)["wide"]] == [0, 8, 16, 24]
    assert main(["report", str(old)]) == 0

    fit(model, old, "epoch", X, initial_epoch=3, epochs=4)
    for name, text in before.items():  # rewritten whole, in the form of this version
        assert (old / name).read_text().startswith(text)
    table = pd.read_csv(old / "monitor.csv")
    assert table.global_step.tolist() == table.step.tolist()
    assert table.global_step[::2].tolist() == [0, 8, 16, 24, 32]
    lines = pd.read_json(old / "monitor.jsonl", lines=True)
    assert lines.global_step.dtype.kind == "i"
    assert shown(old) == kept(old) == [[0, 8, 16, 24, 32]] * 2
