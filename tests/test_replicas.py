"""Two devices see what one sees: MirroredStrategy over two logical CPU devices."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytestmark = pytest.mark.slow

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

class Seen:
    def __init__(self):
        self.found = []

    def write(self, record, snapshot):
        counts = ("probe", "epoch", "step", "samples", "images")
        values = ("trace", "decov", "redundancy_score", "redundancy_low", "effective_rank",
                  "condition_number", "drift_share")
        self.found.append({
            "counts": [getattr(record, name) for name in counts],
            "values": [getattr(record, name) for name in values],
            "mean": snapshot.mean.tolist(),
            "correlation": np.nan_to_num(snapshot.correlation, nan=9).tolist(),
        })

    def close(self):
        pass

def train(scope):
    keras.utils.set_random_seed(0)
    with scope:
        layers = [keras.layers.Conv2D(5, 3, activation="relu", name=n) for n in ("a", "b")]
        model = keras.Sequential([keras.Input((6, 6, 3)), *layers, keras.layers.Flatten()])
        model.compile("sgd", "mse", steps_per_execution=steps)
    seen = Seen()
    monitor = NASMonitorCallback(images[:8] if given else None, ["a", "b"], loggers=[seen])
    model.fit(images, np.zeros((40, 20)), batch_size=8, epochs=2, shuffle=False, verbose=0,
              callbacks=[monitor])
    return {"weights": [w.tolist() for w in model.get_weights()], "seen": seen.found}

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
    assert len(one["seen"]) == (6 if source == "images" else 4)
    for mine, theirs in zip(two["weights"], one["weights"], strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-6)
    for mine, theirs in zip(two["seen"], one["seen"], strict=True):
        assert mine["counts"] == theirs["counts"]
        np.testing.assert_allclose(mine["values"], theirs["values"], rtol=2e-4)
        np.testing.assert_allclose(mine["mean"], theirs["mean"], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(mine["correlation"], theirs["correlation"], atol=1e-5)


def test_what_keras_cannot_do_is_said_before_the_first_step():
    done = outcome("batches", steps=2)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "ValueError: Keras does not train on 2 replicas with steps_per_execution"
    )
