"""What monitoring costs: `pytest tests/test_benchmarks.py --benchmark-only`, or make benchmark.

Skipped by the ordinary tests. Each case puts what it found into pytest-benchmark's
`extra_info`, in the form of `report`; tests/benchmark_report.py makes a table of it, a picture
and a check against the targets. docs/benchmarks.md says how to read them.
"""

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import unit_states
from paired import Interval, median, paired

from models import BU_Net, Nano_U, Probe
from monitoring import GroupedCovariance, NASMonitorCallback
from monitoring.loggers.folder import KINDS
from monitoring.records.measurement import Measurement, summarise
from monitoring.statistics.covariance import measure_batch
from monitoring.taps.accumulator import Accumulator

ROOT = Path(__file__).resolve().parents[1]
SIZE, BATCH, EPOCH = (60, 80, 3), 16, 266 / 16  # steps of an epoch of 266 images
STAGES, ALL = ("encoder", "bottleneck"), ("encoder", "bottleneck", "decoder")
NETWORKS = {
    "Nano_U (4, 8, 16)": lambda groups: Nano_U(SIZE, enable_probes=groups),
    "Nano_U (16, 32, 64)": lambda groups: Nano_U(SIZE, (16, 32, 64), 64, enable_probes=groups),
    "BU_Net (32, 64, 128)": lambda groups: BU_Net(SIZE, enable_probes=groups),
}
CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)


def report(benchmark, value: Interval, unit: str, *, group: str, case: str, **more):
    """Puts one line of the table into the benchmark's extra_info.

    `target` is the most that the value may be, the least with `at_least`; `target_high` the
    most that the upper end of its interval may be.
    """
    benchmark.extra_info.update(
        {
            "group": group,
            "case": case,
            "value": value.median,
            "low": value.low,
            "high": value.high,
            "unit": unit,
        }
        | more
    )


class Training:
    """A model, its plain training step and, once asked for, its monitored one."""

    def __init__(self, network: str, groups=STAGES):
        keras.utils.set_random_seed(0)
        self.model = NETWORKS[network](groups)
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        self.model.compile(keras.optimizers.AdamW(1e-3), loss)
        images = np.random.default_rng(0).uniform(-1, 1, (BATCH, *SIZE)).astype("float32")
        masks = (images[..., :1] > 0).astype("float32")
        self.batches = iter(tf.data.Dataset.from_tensors((images, masks)).repeat())
        self.model.make_train_function()
        self.function = self.model.train_function

    def plain(self):
        self.function(self.batches)

    def watched(self, monitor):
        """Starts the monitor as `fit` does; returns the step that it has taken over."""
        monitor.set_params({"verbose": 0})
        monitor.set_model(self.model)
        monitor.on_train_begin()
        monitor.on_epoch_begin(0)
        function = self.model.train_function
        return lambda: function(self.batches)


CASES = {
    "plain against plain": {},
    "probes": {"target": 1.02, "target_high": 1.05},
    "probes and decoder": {},
    "every convolution": {},
    "every convolution, 100 positions": {"target": 1.08},
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("network", NETWORKS)
def test_training_step(benchmark, network, case):
    training = Training(network, ALL if case == "probes and decoder" else STAGES)
    layers = None
    if case.startswith("every convolution"):
        layers = [x.name for x in training.model.layers if isinstance(x, CONVOLUTIONS)]
    positions = 100 if case.endswith("100 positions") else 400
    monitor = NASMonitorCallback(None, layers, loggers=[], max_positions=positions)
    step = training.plain if case == "plain against plain" else training.watched(monitor)
    pairs = paired(training.plain, step)
    wall, cpu = pairs.ratios()
    benchmark.pedantic(step, rounds=10)
    monitor.detach()
    report(
        benchmark,
        wall,
        "x",
        group="training step, with / without",
        case=f"{network}, {case}",
        cpu=list(cpu),
        layers=len(layers or ()),
        step_ms=float(1e3 * np.median(pairs.wall[:, 0])),
        pairs=len(pairs.wall),
        **CASES[case],
    )


AFTER = 2  # steps after a measurement, timed with it

EVENTS = {
    "16 images every 10 steps": (16, 10, False, {"target": 1.02}),
    "16 images every epoch": (16, EPOCH, False, {"target": 1.01}),
    "64 images every epoch": (64, EPOCH, False, {"target": {"Nano_U": 1.04, "BU_Net": 1.025}}),
    "64 images every epoch, all files": (64, EPOCH, True, {}),
}


@pytest.mark.parametrize("case", EVENTS)
@pytest.mark.parametrize("network", NETWORKS)
def test_images(benchmark, tmp_path, network, case):
    """A measurement and the next two steps, beside which its spectra and files are made."""
    count, share, files, target = EVENTS[case]
    training = Training(network)
    images = np.random.default_rng(1).uniform(-1, 1, (count, *SIZE)).astype("float32")
    monitor = NASMonitorCallback(images, log_dir=tmp_path if files else None)
    training.watched(monitor)
    waited = []

    def steps():
        for _ in range(AFTER):
            training.plain()

    def event():
        start = time.perf_counter()
        monitor.on_epoch_end(0, {})
        waited.append(time.perf_counter() - start)
        steps()

    pairs = paired(steps, event)
    wall, cpu = pairs.ratios(share / AFTER)
    benchmark.pedantic(event, rounds=10)
    monitor.detach()
    most = target.get("target")
    report(
        benchmark,
        wall,
        "x",
        group="images, with / without",
        case=f"{network}, {case}",
        cpu=list(cpu),
        step_ms=float(1e3 * np.median(pairs.wall[:, 0]) / AFTER),
        event_ms=float(1e3 * np.median(pairs.wall[:, 1] - pairs.wall[:, 0])),
        waited_ms=float(1e3 * np.median(waited)),
        pairs=len(pairs.wall),
        target=most[network.split()[0]] if isinstance(most, dict) else most,
    )


@pytest.mark.parametrize(
    "shape", [(16, 60, 80, 64), (16, 15, 20, 256), (16, 4, 5, 1024), (64, 2048)], ids=str
)
def test_covariance_update(benchmark, shape):
    """One batch's mean and scatter, against the bare product of the same matrix."""
    samples = tf.reshape(tf.random.stateless_normal(shape, (0, 0)), (-1, shape[-1]))
    update = tf.function(lambda: measure_batch(samples).scatter)
    product = tf.function(lambda: tf.matmul(samples, samples, transpose_a=True))
    pairs = paired(lambda: product().numpy(), lambda: update().numpy())
    wall = median(pairs.wall[:, 0] / pairs.wall[:, 1])
    flops = 2 * samples.shape[0] * shape[-1] ** 2
    benchmark.pedantic(lambda: update().numpy(), rounds=10)
    report(
        benchmark,
        wall,
        "of matmul",
        group="covariance update",
        case=str(shape),
        gflops=float(flops / np.median(pairs.wall[:, 1]) / 1e9),
        matmul_gflops=float(flops / np.median(pairs.wall[:, 0]) / 1e9),
        pairs=len(pairs.wall),
        target=0.5,
        at_least=True,
    )


def wide(channels: int):
    """A model of one watched layer, and a monitor of its training batches."""
    inputs = keras.Input((channels,))
    output = keras.layers.Dense(1)(Probe(name="probe_wide")(inputs))
    model = keras.Model(inputs, output)
    model.compile("sgd", "mse")
    return model, NASMonitorCallback(loggers=[])


@pytest.mark.parametrize("channels", [16, 256, 1024, 2048])
def test_epoch_end(benchmark, channels):
    """What the training thread spends at an epoch's end on one layer of so many channels."""
    model, monitor = wide(channels)
    x = np.random.default_rng(0).normal(size=(32 * 64, channels)).astype("float32")
    waited = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            start = time.perf_counter()
            monitor.on_epoch_end(epoch, logs)
            waited.append(time.perf_counter() - start)
            _ = monitor.records  # the next epoch begins with nothing waiting

    monitor.set_params({"verbose": 0})
    monitor.set_model(model)
    monitor.on_train_begin()

    class Begin(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            monitor.on_epoch_begin(epoch)

    epochs = 7 if channels > 512 else 12
    callbacks = [Begin(), Clock()]
    model.fit(x, x[:, :1], batch_size=64, epochs=epochs, verbose=0, callbacks=callbacks)
    benchmark.pedantic(lambda: monitor.compute_redundancy(), rounds=1)
    monitor.detach()
    report(
        benchmark,
        median(1e3 * np.array(waited[1:])),
        "ms",
        group="epoch end, training thread",
        case=f"{channels} channels",
        target={16: 20, 256: 20, 2048: 1000}.get(channels),
        pairs=len(waited) - 1,
    )


def measured(channels: int) -> GroupedCovariance:
    rng = np.random.default_rng(0)
    grouped = GroupedCovariance(channels)
    for _ in range(grouped.size):
        grouped.add_units(unit_states(rng.normal(size=(1, 2 * channels, channels))))
    return grouped


@pytest.mark.parametrize("channels", [16, 256, 1024, 2048])
def test_host_metrics(benchmark, channels):
    """Everything of one record, on the thread beside the training."""
    grouped = measured(channels)
    times = []

    def everything():
        start = time.perf_counter()
        summarise(Measurement(grouped, "probe", "images", 0, 0))
        times.append(1e3 * (time.perf_counter() - start))

    benchmark.pedantic(everything, rounds=2 if channels > 512 else 20, warmup_rounds=1)
    report(
        benchmark,
        median(np.array(times[1:])),
        "ms",
        group="host metrics, one record",
        case=f"{channels} channels",
        groups_mb=grouped.nbytes / 1e6,
    )


def test_logging(benchmark, tmp_path):
    """CSV, JSON Lines, TensorBoard and .npz of one record of 128 channels."""
    pair = summarise(Measurement(measured(128), "probe", "images", 0, 0))
    loggers = [kind(tmp_path / name) for name, kind in KINDS.items()]
    times = []

    def write():
        start = time.perf_counter()
        for logger in loggers:
            logger.write(*pair)
        times.append(1e3 * (time.perf_counter() - start))

    benchmark.pedantic(write, rounds=50, warmup_rounds=2)
    for logger in loggers:
        logger.close()
    report(
        benchmark,
        median(np.array(times[2:])),
        "ms",
        group="files, one record",
        case="128 channels, all loggers",
    )


def seconds_of(call, repeat=15) -> float:
    call()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def accumulating(shapes):
    """Returns one call that adds a batch at each of several probes."""
    probes = [
        (Accumulator(s[-1], "float32"), tf.random.stateless_uniform(s, (0, i)))
        for i, s in enumerate(shapes)
    ]

    @tf.function
    def add():
        for accumulator, samples in probes:
            accumulator.add(samples)

    return add


CURVES = {
    "channels": ([8, 32, 128, 512, 2048], lambda c: [(1280, c)]),
    "probes": ([1, 4, 16, 64], lambda p: [(6400, 32)] * p),
    "positions an image": ([100, 400, 1200, 4800, 19200], lambda s: [(16 * s, 32)]),
}


@pytest.mark.parametrize("what", CURVES)
def test_cost_against_work(benchmark, what):
    """The training step's tap alone, for more and more of one thing."""
    amounts, shapes = CURVES[what]
    costs = [1e3 * seconds_of(accumulating(shapes(amount))) for amount in amounts]
    half = len(amounts) // 2
    exponent, _ = np.polyfit(np.log(amounts[half:]), np.log(costs[half:]), 1)
    benchmark.pedantic(accumulating(shapes(amounts[0])), rounds=5, warmup_rounds=1)
    report(
        benchmark,
        Interval(float(exponent), float(exponent), float(exponent)),
        "exponent",
        group="cost against work",
        case=f"{what}, upper half",
        amounts=amounts,
        ms=costs,
    )


def child(code: str, *arguments) -> float:
    """Returns the number that a process of its own prints last."""
    run = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    return float(run.stdout.split()[-1])


IMPORT = """
import time, keras
start = time.perf_counter()
import monitoring
print(1e3 * (time.perf_counter() - start))
"""


def test_import(benchmark):
    times = np.array([child(IMPORT) for _ in range(7)])
    benchmark.pedantic(lambda: None, rounds=1)
    report(
        benchmark,
        median(times),
        "ms",
        group="start",
        case="import monitoring, beyond Keras",
        target=50,
    )


FIT = """
import sys, time
import keras, numpy as np
from models import MODELS
from monitoring import NASMonitorCallback

what, name, source = sys.argv[1:]
images = np.random.default_rng(0).uniform(-1, 1, (64, 60, 80, 3)).astype("float32")
model = MODELS[name]((60, 80, 3), enable_probes=True)
model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
monitors = {"none": [], "images": [images], "batches": [None]}[source]

class First(keras.callbacks.Callback):
    at = None

    def on_train_batch_end(self, batch, logs=None):
        self.at = self.at or time.perf_counter()

first = First()
callbacks = [*(NASMonitorCallback(data, loggers=[]) for data in monitors), first]
start = time.perf_counter()
epochs = 1 if what == "first" else 4
arrays = 0

class Arrays(keras.callbacks.Callback):
    def on_epoch_end(self, epoch, logs=None):
        global arrays
        window = callbacks[0]._measurer.tap._accumulators.values() if source == "batches" else []
        arrays = sum(v.numpy().nbytes for a in window for v in a._variables.values()) / 1e6

if what == "arrays":
    callbacks.append(Arrays())
model.fit(images, images[..., :1] > 0, batch_size=16, epochs=epochs, verbose=0, callbacks=callbacks)
# Not ru_maxrss, which a process inherits from the one that has started it.
status = open("/proc/self/status").read()
peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
print({"first": first.at - start, "peak": peak, "arrays": arrays}[what])
"""


@pytest.mark.parametrize("source", ["images", "batches"])
@pytest.mark.parametrize("name", ["nano_u", "bu_net"])
def test_first_step(benchmark, name, source):
    later = [child(FIT, "first", name, source) - child(FIT, "first", name, "none") for _ in "123"]
    benchmark.pedantic(lambda: None, rounds=1)
    report(
        benchmark,
        median(np.array(later)),
        "s",
        group="start",
        case=f"{name}, {source}: first step later by",
        target=2,
    )


@pytest.mark.parametrize("source", ["images", "batches"])
@pytest.mark.parametrize("name", ["nano_u", "bu_net"])
def test_peak_memory(benchmark, name, source):
    """Resident set of processes of their own, and what of it are the window's arrays."""
    with_and_without = [
        [child(FIT, "peak", name, monitored) for monitored in ("none", source)] for _ in "123"
    ]
    benchmark.pedantic(lambda: None, rounds=1)
    plain = statistics.median(one for one, _ in with_and_without)
    more = median(np.array([other - one for one, other in with_and_without]))
    arrays = child(FIT, "arrays", name, source)
    report(
        benchmark,
        more,
        "MB",
        group="peak resident memory, more",
        case=f"{name}, {source}",
        plain_mb=plain,
        accumulators_mb=arrays,
        target=arrays + 0.02 * plain,
    )
