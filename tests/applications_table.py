"""Watches every network of keras.applications, and holds each trace against Keras' own predict.

    python tests/applications_table.py [NAME ...]

Prints a row for each network: its layers, how many can be watched and why others cannot, how many
of them were watched at once, the largest relative error of a trace, and Keras' own: how far the
same traces of a plain call and of `predict` are apart, as float32 has them.
"""

import contextlib
import gc
import inspect
import io
import os
import re
import sys
from collections import Counter

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import checkout  # noqa: F401
import keras
import numpy as np

from monitoring import watch
from monitoring.taps.layers import layer_paths
from monitoring.taps.recording import symbolic_outputs
from monitoring.taps.samples import find_problem

HEADING = """| network | layers | can be watched | refused | compared | largest error | Keras' own |
|---|---|---|---|---|---|---|"""
SIDE, IMAGES = 64, 4
WATCHED = 24  # layers of a network, evenly spread
WIDEST = 768  # channels; the covariances of wider layers of all images would not fit


def networks() -> dict:
    """Returns {name: builder} of all networks of keras.applications."""
    found = {name: getattr(keras.applications, name) for name in dir(keras.applications)}
    return {name: builder for name, builder in found.items() if inspect.isfunction(builder)}


def row(name: str, builder) -> str:
    """Returns a network's row of the table."""
    keras.utils.set_random_seed(0)
    try:
        model = builder(weights=None, input_shape=(SIDE, SIDE, 3))
    except ValueError as error:
        return f"| {name} | does not build at {SIDE} pixels: {_short(error)} | | | | |"
    images = np.random.default_rng(0).uniform(-1, 1, (IMAGES, SIDE, SIDE, 3)).astype("float32")
    return compared(name, model, images)


def compared(name: str, model: keras.Model, images, inputs=None) -> str:
    """Watches a model, and returns its row.

    Args:
        name: Its name in the table.
        model: The model.
        images: What `model.predict` takes.
        inputs: What its layers get, if it preprocesses images. Defaults to None: the same.
    """
    inputs = images if inputs is None else inputs
    paths = layer_paths(model)
    outputs = symbolic_outputs(model, paths, inputs, training=False)
    assert outputs is not None, f"{name} cannot run on shapes"
    problems = {path: find_problem(calls, -1) for path, calls in outputs.items()}
    possible = [path for path, problem in problems.items() if problem is None]
    reasons = Counter(re.sub(r"\(.*\)", "(...)", why) for why in problems.values() if why)
    refused = "; ".join(f"{count} {why}" for why, count in reasons.most_common())
    # `layer.output` is that of the first call alone.
    single = [p for p in possible if "/" not in p and len(outputs[p]) == 1]
    narrow = [p for p in single if outputs[p][0].shape[-1] <= WIDEST]
    chosen = [narrow[n] for n in np.linspace(0, len(narrow) - 1, min(WATCHED, len(narrow))).round()
              .astype(int)]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        records = watch(model, images, chosen)
    part = keras.Model(model.input, [model.get_layer(path).output for path in chosen])
    predicted = part.predict(inputs, batch_size=IMAGES, verbose=0)
    called = part(inputs, training=False)
    rows = []
    for record, output, eager in zip(records, predicted, called, strict=True):
        expected = trace(output)
        scale = expected or 1.0
        rows.append((abs(record.trace - expected) / scale, abs(trace(eager) - expected) / scale))
    counts = f"{len(paths)} | {len(possible)} | {refused} | {len(chosen)}"
    ours, keras_own = (max(column) for column in zip(*rows, strict=True))
    return f"| {name} | {counts} | {ours:.0e} | {keras_own:.0e} |"


def trace(output) -> float:
    """Returns the trace of the covariance of an output's channels, by NumPy in float64."""
    samples = np.asarray(output, np.float64).reshape(-1, output.shape[-1])
    return samples.var(axis=0, ddof=1).sum()


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:80]


def main(names) -> None:
    """Prints the table, of some networks or of all."""
    print(HEADING)
    for name, builder in networks().items():
        if not names or name in names:
            print(row(name, builder), flush=True)
            keras.backend.clear_session()
            gc.collect()


if __name__ == "__main__":
    main(sys.argv[1:])
