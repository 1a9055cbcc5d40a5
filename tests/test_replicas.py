"""Two devices see what one sees: MirroredStrategy over two logical CPU devices."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

# One strategy a process; the network has no batch normalisation, whose statistics Keras takes
# of each device's own part of the batch.
SCRIPT = """
import contextlib, json, sys
import numpy as np, tensorflow as tf, keras
from monitoring import NASMonitorCallback

given, steps = sys.argv[1] == "images", int(sys.argv[2])
device = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(device, two)
images = np.random.default_rng(0).normal(3, 1, (40, 6, 6, 3)).astype("float32")

def train(scope):
    keras.utils.set_random_seed(0)
    with scope:
        layers = [keras.layers.Conv2D(5, 3, activation="relu", name=n) for n in ("a", "b")]
        model = keras.Sequential([keras.Input((6, 6, 3)), *layers, keras.layers.Flatten()])
        model.compile("sgd", "mse", steps_per_execution=steps)
    monitor = NASMonitorCallback(images[:8] if given else None, ["a", "b"])
    model.fit(images, np.zeros((40, 20)), batch_size=8, epochs=2, shuffle=False, verbose=0,
              callbacks=[monitor])
    names = ("probe", "epoch", "step", "samples", "images", "trace", "redundancy_score",
             "drift_share", "effective_rank")
    return [[getattr(record, name) for name in names] for record in monitor.records]

strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
print(json.dumps([train(contextlib.nullcontext()), train(strategy.scope())]))
"""


def outcome(source: str, steps: int = 1) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", SCRIPT, source, str(steps)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("source", ["images", "batches"])
def test_records_of_two_devices_are_those_of_one(source):
    done = outcome(source)
    assert done.returncode == 0, done.stderr[-2000:]
    one, two = json.loads(done.stdout)
    assert len(one) == (6 if source == "images" else 4)
    for mine, theirs in zip(two, one, strict=True):
        assert mine[:5] == theirs[:5]
        assert mine[5:] == pytest.approx(theirs[5:], rel=2e-4, nan_ok=True)


def test_what_keras_cannot_do_is_said_before_the_first_step():
    done = outcome("batches", steps=2)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ValueError: Keras does not train on 2 replicas with steps_per_execution"
    )
