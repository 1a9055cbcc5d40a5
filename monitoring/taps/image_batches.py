"""Whatever `model.predict` takes, as batches of images that can be read repeatedly."""

from collections.abc import Iterable, Iterator
from typing import Any

import keras
from keras import ops

from ..statistics.types import Images

BATCH_SIZE = 32


def image_batches(images: Images) -> Iterator[Images]:
    """Yields batches of images, always the same ones in the same order.

    Each has as many images as the first, at most 32; the last of an array, or of a dataset's
    batch, may have fewer.

    Args:
        images: Arrays, or an iterable of batches; of a tuple, the first element is used.

    Raises:
        ValueError: The images can be read only once, like those of a generator, or never end.
    """
    if isinstance(images, Iterator):
        raise ValueError(
            "Expected an array or a dataset, because images are measured more than once. "
            f"Received: {type(images).__name__}, which can be read only once"
        )
    if hasattr(images, "cardinality") and int(images.cardinality()) == -1:
        raise ValueError("Expected images that end. Received: a dataset that repeats forever")
    elements = (_images_of(batch) for batch in images) if _is_dataset(images) else [images]
    size = 0
    for element in elements:
        arrays = keras.tree.flatten(element)
        length = len(arrays[0]) if arrays else 0
        size = size or min(length, BATCH_SIZE)
        for start in range(0, length, size or 1):
            part = slice(start, start + size)
            yield keras.tree.map_structure(lambda array, part=part: array[part], element)


def _images_of(batch: Any) -> Images:
    """Returns the images of a dataset's element."""
    return batch[0] if isinstance(batch, tuple) else batch


def _is_dataset(images: Images) -> bool:
    """Tells an iterable of batches from arrays, also in lists, tuples and dicts."""
    structure = isinstance(images, (list, tuple, dict))
    array = hasattr(images, "__array__") or ops.is_tensor(images)
    return isinstance(images, Iterable) and not structure and not array
