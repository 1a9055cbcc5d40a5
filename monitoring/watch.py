"""One measurement of any Keras model, without a training."""

from collections.abc import Sequence

import keras

from .loggers.console import print_table
from .records.measurement import Measurement, summarise
from .records.record import ProbeRecord
from .taps.images_tap import ImagesTap
from .taps.watched import Watched


def watch(
    model: keras.Model,
    images,
    layers: Sequence[str] | None = None,
    *,
    data_format: str | None = None,
) -> list[ProbeRecord]:
    """Measures what the channels of a model's layers do, and prints the table.

    Args:
        model: Any Keras model, built.
        images: What `model.predict` takes, already preprocessed: arrays, or a dataset of
            batches, of whose tuples the first element counts.
        layers: Names, "outer/inner/layer" where a bare name is not unique. Defaults to
            None: the model's probes or, where it has none, its output.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.

    Returns:
        A record for each layer.

    Raises:
        ValueError: A layer is not there or cannot be watched, or there are no images.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="mix")])
        >>> images = np.random.default_rng(0).normal(size=(64, 4))
        >>> records = watch(model, images, ["mix"])  # doctest: +ELLIPSIS
        mix  3 channels  ... in use  0 dead  0 duplicates  redundancy ...
        >>> records[0].images
        64
    """
    tap = ImagesTap(Watched(model, layers, data_format))
    step = int(model.optimizer.iterations) if getattr(model, "optimizer", None) else 0
    records = [
        summarise(Measurement(grouped, name, tap.source, epoch=0, step=step))[0]
        for name, grouped in tap.measure(images).items()
    ]
    print_table(records)
    return records
