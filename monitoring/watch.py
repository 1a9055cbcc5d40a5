"""One measurement of any Keras model, without training."""

from collections.abc import Sequence

import keras

from .loggers.console import print_table
from .measuring import Measurer
from .records.record import ProbeRecord
from .statistics.types import Images


def watch(
    model: keras.Model,
    images: Images,
    layers: Sequence[str] | None = None,
    *,
    data_format: str | None = None,
    monitor_steps: int | None = None,
) -> list[ProbeRecord]:
    """Measures what the channels of a model's layers do, and prints the table.

    Args:
        model: Any Keras model, built.
        images: Whatever `model.predict` takes, already preprocessed: arrays, or a dataset of
            batches; if a batch is a tuple, its first element is used.
        layers: Names, "outer/inner/layer" where a bare name is not unique. Defaults to
            None: the model's probes or, if it has none, its output.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
        monitor_steps: Most batches of `images` to read, needed where they never end. Defaults
            to None: all.

    Returns:
        One record per layer.

    Raises:
        ValueError: A layer does not exist or cannot be watched, or there are no images.

    Example:
        >>> import numpy as np
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3, name="mix")])
        >>> images = np.random.default_rng(0).normal(size=(64, 4))
        >>> records = watch(model, images, ["mix"])  # doctest: +ELLIPSIS
        mix  3 channels  ... in use  0 dead  0 duplicates  redundancy ...
        >>> records[0].images
        64
    """
    if images is None:
        raise ValueError("Expected images to measure. Received: None")
    measurer = Measurer(model, images, layers, data_format, None, monitor_steps)
    records = list(measurer.measure_now(0).values())
    print_table(records)
    return records
