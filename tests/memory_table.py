"""Speed and memory of training on many images, in memory and from disk.

    python tests/memory_table.py FOLDER [IMAGES] [STEPS]

Fills FOLDER with as many drawn scenes of 240x320 (20,000 unless given; what is there is kept), and
measures each setting of data.memory in a process of its own, A B B A: seconds of reading, steps a
second and the peak of memory.
"""

import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import checkout  # noqa: F401
import numpy as np
from PIL import Image

SIZE = (240, 320)
SETTINGS = ("200MB", "100G", "100G", "200MB")


def write_images(root: Path, count: int) -> None:
    """Writes the drawn scenes over and over, enlarged, with noise that makes each another file."""
    from training.synthetic import synthetic_splits

    scenes = synthetic_splits().train
    rng = np.random.default_rng(0)
    for split, number in (("train", count), ("val", 64), ("test", 64)):
        for kind in ("img", "mask"):
            (root / split / kind).mkdir(parents=True, exist_ok=True)
        for index in range(number):
            path = root / split / "img" / f"{index:05d}.jpg"
            if path.is_file():
                continue
            image, mask = (array[index % len(scenes)] for array in (scenes.images, scenes.masks))
            shifted = np.clip(image.astype(int) + rng.integers(-20, 21, 3), 0, 255).astype("u1")
            labels = Image.fromarray(255 * mask[..., 0]).resize(
                SIZE[::-1], Image.Resampling.NEAREST
            )
            labels.save(root / split / "mask" / f"{index:05d}.png")
            Image.fromarray(shifted).resize(SIZE[::-1]).save(path)


def measure(root: Path, memory: str, steps: int) -> dict:
    """Reads a folder and trains Nano_U for some steps."""
    from models import Nano_U
    from training.compilation import compile_model
    from training.config import read_config
    from training.data import training_batches
    from training.splits import read_config_splits

    config = read_config(
        None, {"data": {"root": str(root), "memory": memory}, "model": {"input_size": SIZE}}
    )
    began = time.monotonic()
    splits = read_config_splits(config)
    reading = time.monotonic() - began
    model = Nano_U((*SIZE, 3))
    compile_model(model, config, steps=steps)
    batches = training_batches(
        splits.train, 8, epochs=1, seed=0, augmentation=config.data.augmentation
    )
    model.fit(batches, steps_per_epoch=5, verbose=0)
    began, cpu = time.monotonic(), time.process_time()
    model.fit(batches, steps_per_epoch=steps, verbose=0)
    return {
        "memory": memory,
        "kind": type(splits.train.images).__name__,
        "reading_s": round(reading, 1),
        "steps_per_s": round(steps / (time.monotonic() - began), 3),
        "cpu_s_per_step": round((time.process_time() - cpu) / steps, 3),
        "peak_MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }


def main(folder: str, count: str = "20000", steps: str = "100", memory: str = "") -> None:
    """Measures one setting, or each in a process of its own."""
    root = Path(folder)
    if memory:
        print(json.dumps(measure(root, memory, int(steps))))
        return
    write_images(root, int(count))
    for each in SETTINGS:
        command = [sys.executable, __file__, folder, count, steps, each]
        print(subprocess.run(command, capture_output=True, text=True).stdout.strip(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
