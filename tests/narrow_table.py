"""Narrows networks of keras.applications: `python tests/narrow_table.py [NAME ...]`.

Weights are random, moving statistics are those of the images. Each row is printed when it is done.
"""

import resource
import sys
import time

import checkout  # noqa: F401
import keras
import numpy as np
from test_narrow import draw_images, widened

from models import channel_groups, narrow
from models.cost import model_cost
from monitoring import InputMoments

NAMES = (
    "VGG16", "ResNet50V2", "MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0", "DenseNet121",
    "Xception", "NASNetMobile", "ConvNeXtTiny",
)  # fmt: skip
SHARES = (0.75, 0.5)
IMAGES = 64


def build(name: str) -> keras.Model:
    """Returns a network with random weights and the statistics of `images`."""
    keras.utils.set_random_seed(0)
    size = 224 if name == "NASNetMobile" else 96
    model = getattr(keras.applications, name)(weights=None, input_shape=(size, size, 3), classes=10)
    images = draw_images(16, size=(size, size, 3))
    norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    for norm in norms:
        norm.momentum = 0.0
    for _ in range(2):
        model(images, training=True)
    return model


def row(name: str) -> None:
    model = build(name)
    images = draw_images(IMAGES, seed=1, size=model.input_shape[1:])
    groups = channel_groups(model)
    cost = model_cost(model)
    print(
        f"{model.name}: {cost.macs / 1e6:.1f} M multiply-adds, {cost.parameters:,} parameters, "
        f"{sum(not g.fixed for g in groups)} of {len(groups)} groups can be cut"
    )
    for reason in sorted({group.fixed for group in groups if group.fixed}):
        print(f"    stays: {reason}")
    for share in SHARES:
        start, cpu = time.perf_counter(), time.process_time()
        small = narrow(model, InputMoments(images), {"macs": share * cost.macs})
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu
        found = small.model.predict(images[:8], verbose=0)
        expected = widened(model, small).predict(images[:8], verbose=0)
        error = np.abs(found - expected).max() / np.abs(expected).max()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"    {share:.0%}: {small.cost.macs / 1e6:.1f} M, "
            f"{small.cost.parameters:,} parameters, {small.rounds} rounds, "
            f"{seconds:.0f} s ({cpu:.0f} s of CPU), peak {peak:.1f} GB; "
            f"from the wide one without the rows {error:.1e}",
            flush=True,
        )
    keras.backend.clear_session()


if __name__ == "__main__":
    for each in sys.argv[1:] or NAMES:
        row(each)
