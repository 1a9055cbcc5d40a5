"""One of two processes that train together, with KERAS_BACKEND=jax: PORT PROCESS FOLDER."""

import json
import sys
from pathlib import Path

import checkout  # noqa: F401
import keras
import numpy as np

from models import Nano_U
from monitoring import NASMonitorCallback


def trained(process: int, callbacks: list) -> tuple[list[np.ndarray], dict]:
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


def main(port: str, process: int, folder: Path) -> None:
    """Trains without and with the monitor, and writes what came out."""
    keras.distribution.initialize(f"127.0.0.1:{port}", 2, process)
    devices = keras.distribution.list_devices("cpu")
    keras.distribution.set_distribution(
        keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    )
    watched = np.random.default_rng(9).normal(size=(6, 60, 80, 3)).astype("float32")
    plain, _ = trained(process, [])
    callback = NASMonitorCallback(watched, log_dir=folder / "logs", monitor_frequency="batch")
    weights, history = trained(process, [callback])
    same = all(np.array_equal(a, b) for a, b in zip(plain, weights, strict=True))
    np.savez(folder / f"weights{process}.npz", *weights)
    found = {
        "same": same,
        "history": history,
        "records": len(callback.records),
        "devices": len(devices),
    }
    (folder / f"found{process}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
