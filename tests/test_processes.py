"""Keras on JAX over two processes: measured in each, alike; written by the first."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models import Nano_U
from monitoring import NASMonitorCallback

pytestmark = pytest.mark.slow

MULTI_WORKER = """
import numpy as np, tensorflow as tf
with tf.distribute.MultiWorkerMirroredStrategy().scope():
    from models import Nano_U
    from monitoring import NASMonitorCallback
    model = Nano_U(filters=(2, 4), bottleneck=4, enable_probes=True)
    model.compile("sgd", "mse")
images = np.zeros((4, 60, 80, 3), "float32")
model.fit(images, images[..., :1], callbacks=[NASMonitorCallback(images)], verbose=0)
"""


@pytest.mark.skipif(not importlib.util.find_spec("jax"), reason="JAX is not installed")
def test_two_processes_measure_alike_and_the_first_writes(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    script = str(Path(__file__).with_name("data_parallel.py"))
    processes = [
        subprocess.Popen(
            [sys.executable, script, port, str(number), str(tmp_path)],
            cwd=Path(__file__).parents[1],
            env=os.environ
            | {"PYTHONPATH": str(Path(__file__).parents[1])}
            | {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for number in (0, 1)
    ]
    try:
        said = [process.communicate(timeout=180)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], said

    found = [json.loads((tmp_path / f"found{n}.json").read_text()) for n in (0, 1)]
    assert found[0] == found[1]
    assert found[0]["same"] and found[0]["devices"] == 2
    rows = pd.read_csv(tmp_path / "logs" / "monitor.csv")
    assert len(rows) == found[0]["records"] == 3 * (1 + 2 * 2)
    assert not rows.duplicated(["probe", "step"]).any()

    # The shared weights, on one device of another backend.
    model = Nano_U(filters=(2, 4), bottleneck=4, enable_probes=True)
    with np.load(tmp_path / "weights0.npz") as weights:
        model.set_weights([weights[name] for name in weights.files])
    images = np.random.default_rng(9).normal(size=(6, 60, 80, 3)).astype("float32")
    callback = NASMonitorCallback(images)
    callback.set_model(model)
    for name, record in callback.compute_redundancy().items():
        last = rows[rows.probe == name].iloc[-1]
        for metric in ("redundancy_score", "trace", "effective_rank"):
            expected = pytest.approx(getattr(record, metric), 1e-3, nan_ok=True)
            assert last[metric] == expected, (name, metric)
    assert rows.trace.notna().all() and rows.redundancy_score.notna().any()


def test_several_workers_of_tensorflow_are_refused_before_the_first_step():
    said = subprocess.run(
        [sys.executable, "-c", MULTI_WORKER],
        cwd=Path(__file__).parents[1],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert said.returncode == 1
    assert "ValueError: Keras 3 does not train under MultiWorkerMirroredStrategy" in said.stderr
