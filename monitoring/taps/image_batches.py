"""Whatever `model.predict` takes, as batches of images that can be read repeatedly."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import keras
from keras import ops

from ..statistics.types import Images
from .recording import symbolic_outputs

BATCH_SIZE = 32
BOUND = "monitor_steps, the number of batches to read"
UNKNOWN_BATCHES = 100_000  # batches after which images of unknown number are taken for endless


def fixed_batch_size(model: keras.Model) -> int | None:
    """Returns the only batch size that a model takes; None if it takes any.

    Example:
        >>> inputs = keras.Input(batch_shape=(16, 4))
        >>> fixed_batch_size(keras.Model(inputs, keras.layers.Dense(2)(inputs)))
        16
    """
    for tensor in getattr(model, "inputs", None) or ():
        if tensor.shape and tensor.shape[0]:
            size = int(tensor.shape[0])
            return None if _takes_other_sizes(model, size) else size
    return None


def _takes_other_sizes(model: keras.Model, size: int) -> bool:
    """Returns whether the size is only that of the batch by which a Sequential model was built."""
    if not isinstance(model, keras.Sequential):
        return False
    larger = keras.tree.map_structure(
        lambda tensor: keras.KerasTensor((size + 1, *tensor.shape[1:]), tensor.dtype), model.inputs
    )
    return symbolic_outputs(model, {}, larger[0], training=False) is not None


def image_batches(
    images: Images, *, size: int | None = None, steps: int | None = None
) -> Iterator[Images]:
    """Yields batches of images, always the same ones in the same order.

    Each has as many images as the first, at most 32; the last of an array, or of a dataset's
    batch, may have fewer.

    Args:
        images: Arrays, or batches: a dataset, a `PyDataset`, or whatever can be iterated over
            again. Of a tuple, the first element is used.
        size: The only number of images that a batch may have. Defaults to None: any.
        steps: Most of the given batches to read. Defaults to None: all.

    Raises:
        ValueError: The images can be read only once, like those of a generator, or never end
            and `steps` is None, or do not fill batches of `size`.
    """
    yield from _sliced(_elements(images, steps, _images_of), size, BATCH_SIZE)


def batches_with_targets(
    images: Images, targets: Any = None, *, size: int | None = None, largest: int = BATCH_SIZE
) -> Iterator[tuple[Images, Any]]:
    """Yields batches of images with their targets, always the same ones in the same order.

    Args:
        images: As for `image_batches`; the second element of a dataset's tuple is the targets.
        targets: Arrays of as many targets as images, if the images are arrays. Defaults to
            None: those of the dataset, or none.
        size: The only number of images that a batch may have. Defaults to None: any.
        largest: Most images of a batch, unless `size` is given. Defaults to 32.

    Yields:
        Images and targets; None for the targets if there are none.

    Raises:
        ValueError: As for `image_batches`.
    """
    elements: Iterator[Any]
    if is_dataset(images):
        elements = _elements(images, None, _images_and_targets_of, "some of its batches")
    else:
        elements = iter([(images,) if targets is None else (images, targets)])
    for batch in _sliced(elements, size, largest):
        yield batch if len(batch) == 2 else (*batch, None)


def has_targets(images: Images) -> bool:
    """Returns whether the images are a dataset whose batches have targets.

    Example:
        >>> has_targets([[1.0], [2.0]])
        False
    """
    if not is_dataset(images):
        return False
    return any(len(pair) == 2 for pair in _elements(images, 1, _images_and_targets_of))


def _sliced(elements: Iterator[Any], size: int | None, largest: int) -> Iterator[Any]:
    """Yields slices of elements, each with as many images as the first, at most `largest`."""
    limit = size or 0
    for element in elements:
        element = keras.tree.map_structure(_as_array, element)
        arrays = keras.tree.flatten(element)
        length = len(arrays[0]) if arrays else 0
        lengths = {len(array) for array in arrays}
        if len(lengths) > 1:
            raise ValueError(
                "Expected inputs of the same number of images. Received: "
                f"{', '.join(map(str, sorted(lengths)))}"
            )
        limit = limit or min(length, largest)
        if size is not None and length % size:
            raise ValueError(
                f"The model takes batches of {size} images. Expected a multiple of {size} "
                f"images. Received: {length}"
            )
        for start in range(0, length, limit or 1):
            part = slice(start, start + limit)
            yield keras.tree.map_structure(lambda array, part=part: array[part], element)


def _elements(
    images: Images, steps: int | None, choose: Callable[[Any], Any], bound: str = BOUND
) -> Iterator[Images]:
    """Yields arrays as they are, or what `choose` takes from each given batch."""
    if not is_dataset(images):
        yield images
        return
    for number, batch in enumerate(islice(_batches(images, steps, bound), steps)):
        if steps is None and number >= UNKNOWN_BATCHES:
            raise ValueError(
                f"The images have not ended after {UNKNOWN_BATCHES} batches: give {bound}"
            )
        yield choose(batch)


def _batches(images: Any, steps: int | None, bound: str) -> Iterator[Any]:
    """Yields the batches of a dataset.

    Raises:
        ValueError: It can be read only once, or never ends and `steps` is None.
    """
    endless = ValueError(
        f"Expected images that end. Received: a dataset that repeats forever. Give {bound}"
    )
    if hasattr(images, "cardinality") and int(images.cardinality()) == -1 and steps is None:
        raise endless
    if hasattr(images, "__getitem__") and (
        hasattr(images, "__len__") or isinstance(images, keras.utils.PyDataset)
    ):
        count = images.num_batches if hasattr(images, "num_batches") else len(images)
        count = steps if count is None else count
        if count is None:
            raise endless
        # One by one: iterating over some of them, like Keras' old generators, never ends.
        yield from (images[number] for number in range(count))
        return
    if isinstance(images, Iterator):
        raise ValueError(
            "Expected an array or a dataset, because images are measured more than once. "
            f"Received: {type(images).__name__}, which can be read only once"
        )
    yield from images


def _images_of(batch: Any) -> Images:
    """Returns the images of a dataset's element."""
    return _images_and_targets_of(batch)[0]


def _images_and_targets_of(batch: Any) -> tuple[Any, ...]:
    """Returns the images of a dataset's element and, if it has some, the targets."""
    is_torch_pair = isinstance(batch, list) and type(batch[0]).__module__ == "torch"
    return tuple(batch[:2]) if isinstance(batch, tuple) or is_torch_pair else (batch,)


def _as_array(array: Any) -> Any:
    """Returns what can be sliced by images: a table of pandas as NumPy, as `predict` has it."""
    if type(array).__module__.partition(".")[0] != "pandas":
        return array
    values = array.to_numpy()
    return values[:, None] if values.ndim == 1 else values


def is_dataset(images: Images) -> bool:
    """Tells an iterable of batches from arrays, also in lists, tuples and dicts."""
    structure = isinstance(images, (list, tuple, dict))
    array = hasattr(images, "__array__") or ops.is_tensor(images)
    return isinstance(images, (Iterable, keras.utils.PyDataset)) and not structure and not array
