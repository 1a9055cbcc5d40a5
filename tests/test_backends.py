"""Keras' other backends, each in a process of its own."""

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.slow

SCRIPT = """
import numpy as np, keras
from models import Nano_U
from monitoring import NASMonitorCallback, RunningCovariance

keras.utils.set_random_seed(0)
images = np.random.default_rng(0).uniform(-1, 1, (40, 12, 16, 3)).astype("float32")
masks = (images[..., :1] > 0).astype("float32")
results = []
for monitored in (False, True):
    keras.utils.set_random_seed(0)
    model = Nano_U((12, 16, 3), (4, 4), 6, enable_probes=True)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    monitor = NASMonitorCallback(images, monitor_frequency="batch", log_frequency=2, loggers=[])
    history = model.fit(images, masks, batch_size=8, epochs=2, verbose=0,
                        callbacks=[monitor] if monitored else [])
    results.append((model.get_weights(), history.history["loss"]))
for one, other in zip(results[0][0], results[1][0], strict=True):
    np.testing.assert_array_equal(one, other)
assert results[0][1] == results[1][1]
assert [r.step for r in monitor.records[::3]] == [0, 2, 4, 7, 9], monitor.records
activations = keras.Model(model.input, model.get_layer("probe_bottleneck").output)
running = RunningCovariance(6)
running.update(activations.predict(images, verbose=0))
record = monitor.compute_redundancy()["probe_bottleneck"]
expected = np.trace(running.covariance())
assert abs(record.trace - expected) < 1e-4 * expected, (record.trace, expected)
try:
    model.fit(images, masks, verbose=0, callbacks=[NASMonitorCallback()])
except ValueError as error:
    print(keras.backend.backend(), error)
"""


def printed_on(backend: str, script: str) -> str:
    pytest.importorskip(backend)
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_images_are_measured_on_other_backends(backend):
    printed = printed_on(backend, SCRIPT)
    assert printed.startswith(f"{backend} The statistics of training batches")
    assert "need Keras' TensorFlow backend" in printed


NARROW = """
import keras, numpy as np
from keras import layers
from models import narrow
from models.cost import model_cost
from monitoring import InputMoments

keras.utils.set_random_seed(0)
inputs = keras.Input((12, 16, 3))
x = layers.Conv2D(12, 1, activation="relu")(inputs)
x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(10, 3)(x)))
model = keras.Model(inputs, layers.Conv2D(2, 1)(x))
images = np.random.default_rng(0).normal(size=(24, 12, 16, 3)).astype("float32")
outputs = model.predict(images, verbose=0)
moments = InputMoments(images, outputs, "mse")
small = narrow(model, moments, {"macs": model_cost(model).macs // 2})
again = model.predict(images, verbose=0)
np.testing.assert_array_equal(again, outputs)
assert not small.weighted and moments.reason == "gradients need the TensorFlow backend"
lost = np.square(small.model.predict(images, verbose=0) - outputs).mean()
assert lost < outputs.var(), (lost, outputs.var())
assert 0.1 * lost < sum(group.loss for group in small.groups) < 10 * lost, small.groups
"""


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_networks_are_narrowed_without_gradients_on_other_backends(backend):
    printed_on(backend, NARROW)
