"""Whatever `model.predict` takes, as batches of images: again and again, in one order."""

from collections.abc import Iterable, Iterator

import keras
import numpy as np
from keras import ops

BATCH_SIZE = 32


def image_batches(images) -> Iterator:
    """Yields batches of at most 32 images, always the same in the same order.

    Raises:
        ValueError: The images can be read only once, as a generator's.
    """
    if isinstance(images, Iterator):
        raise ValueError(
            "Images are measured again and again, and these can be read only once. Give an "
            f"array or a dataset. Received: {type(images).__name__}"
        )
    if hasattr(images, "cardinality") and int(images.cardinality()) == -1:
        raise ValueError("Expected images that end. Received: a dataset that repeats for ever")
    whole = (_first(batch) for batch in images) if _is_dataset(images) else [images]
    for part in whole:
        arrays = keras.tree.flatten(part)
        length = len(arrays[0]) if arrays else 0
        for start in range(0, length, BATCH_SIZE):
            yield keras.tree.map_structure(
                lambda array, start=start: array[start : start + BATCH_SIZE], part
            )


def filled(array, size: int) -> np.ndarray:
    """Returns the array with its last row repeated up to `size` rows."""
    if not isinstance(array, np.ndarray):
        array = ops.convert_to_numpy(array)
    missing = size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing > 0 else array


def _first(batch):
    """Returns the images of a dataset's element."""
    return batch[0] if isinstance(batch, tuple) else batch


def _is_dataset(images) -> bool:
    """Tells an iterable of batches from arrays, also in lists, tuples and dicts."""
    structure = isinstance(images, (list, tuple, dict))
    array = hasattr(images, "__array__") or ops.is_tensor(images)
    return isinstance(images, Iterable) and not structure and not array
