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


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_images_are_measured_on_other_backends(backend):
    pytest.importorskip(backend)
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith(f"{backend} The statistics of training batches")
    assert "need Keras' TensorFlow backend" in run.stdout
