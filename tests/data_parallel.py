"""One of two processes that train together, Keras on JAX: PORT PROCESS FOLDER."""

import os
import sys

os.environ |= {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}

import json
from pathlib import Path

import keras
import numpy as np

from models import Nano_U
from monitoring import NASMonitorCallback


def trained(callbacks) -> tuple[list[np.ndarray], dict]:
    keras.utils.set_random_seed(0)
    model = Nano_U(filters=(2, 4), bottleneck=4, enable_probes=True)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    rng = np.random.default_rng(process)  # each process has images of its own
    images = rng.normal(size=(8, 60, 80, 3)).astype("float32")
    masks = (images[..., :1] > 0).astype("float32")
    history = model.fit(
        images, masks, batch_size=4, epochs=2, shuffle=False, callbacks=callbacks, verbose=0
    )
    return model.get_weights(), history.history


port, process, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
keras.distribution.initialize(f"127.0.0.1:{port}", 2, process)
devices = keras.distribution.list_devices("cpu")
keras.distribution.set_distribution(
    keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
)
watched = np.random.default_rng(9).normal(size=(6, 60, 80, 3)).astype("float32")
plain, _ = trained([])
callback = NASMonitorCallback(watched, log_dir=folder / "logs", monitor_frequency="batch")
weights, history = trained([callback])
same = all(np.array_equal(a, b) for a, b in zip(plain, weights, strict=True))
np.savez(folder / f"weights{process}.npz", *weights)
found = {
    "same": same,
    "history": history,
    "records": len(callback.records),
    "devices": len(devices),
}
(folder / f"found{process}.json").write_text(json.dumps(found))
