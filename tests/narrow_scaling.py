"""Time and peak memory of narrowing, over channels and layers: `python tests/narrow_scaling.py`.

Chains of 3x3 convolutions at 16x16 pixels, narrowed to half of their multiply-adds by 64 images,
each in a process of its own, with labels and without. Prints a row for each, then the exponents of
power laws fitted to time and to memory beyond what the process held before.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import time

import checkout  # noqa: F401
import numpy as np

CHANNELS = (16, 32, 64, 128)  # of a chain of 4 layers
LAYERS = (2, 4, 8, 16)  # of 32 channels each
MIDDLE = (32, 4)


def measured(channels: int, depth: int, weighted: bool) -> dict:
    """Narrows one chain; returns what it took."""
    import keras

    from models import narrow
    from models.cost import model_cost
    from monitoring import InputMoments

    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    x = inputs = keras.Input((16, 16, 3))
    for _ in range(depth):
        x = keras.layers.Conv2D(channels, 3, padding="same", use_bias=False)(x)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
    model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(x))
    images = rng.normal(size=(64, 16, 16, 3)).astype("float32")
    targets = rng.normal(size=(64, 16, 16, 1)).astype("float32")
    moments = InputMoments(images, targets, "mse") if weighted else InputMoments(images)
    model.predict(images[:8], verbose=0)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    small = narrow(model, moments, {"macs": model_cost(model).macs // 2})
    seconds = time.process_time() - began
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "mebibytes": (after - before) / 1024, "rounds": small.rounds}


def in_process(channels: int, depth: int, weighted: bool) -> dict:
    """Measures one chain in a process of its own."""
    command = [sys.executable, __file__, "--one", str(channels), str(depth), str(int(weighted))]
    threads = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=os.environ | threads)
    return json.loads(run.stdout.splitlines()[-1])


def exponent(sizes: list[int], values: list[float]) -> float:
    """Returns the slope of the logarithms."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0])


def main() -> None:
    """Prints the table and the exponents."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", nargs=3, type=int, help=argparse.SUPPRESS)
    one = parser.parse_args().one
    if one:
        print(json.dumps(measured(one[0], one[1], bool(one[2]))))
        return
    print(
        "| labels | channels | layers | rounds | CPU, s | memory, MiB |\n|---|---|---|---|---|---|"
    )
    for weighted in (False, True):
        rows = {}
        for channels, depth in [(c, MIDDLE[1]) for c in CHANNELS] + [
            (MIDDLE[0], d) for d in LAYERS
        ]:
            if (channels, depth) not in rows:
                found = rows[channels, depth] = in_process(channels, depth, weighted)
                print(
                    f"| {'yes' if weighted else 'no'} | {channels} | {depth} | {found['rounds']} "
                    f"| {found['seconds']:.1f} | {found['mebibytes']:.0f} |",
                    flush=True,
                )
        for what, sizes, keys in (
            ("channels", CHANNELS, [(c, MIDDLE[1]) for c in CHANNELS]),
            ("layers", LAYERS, [(MIDDLE[0], d) for d in LAYERS]),
        ):
            slopes = [
                exponent(list(sizes), [rows[key][name] for key in keys])
                for name in ("seconds", "mebibytes")
            ]
            print(f"over {what}: time ~ n^{slopes[0]:.2f}, memory ~ n^{slopes[1]:.2f}")


if __name__ == "__main__":
    main()
