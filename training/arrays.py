"""Images and masks that are given from Python: arrays, datasets of TensorFlow, or of Keras."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np

from training.class_masks import IGNORED
from training.mask_agreement import check_classes_present
from training.mask_options import MaskOptions
from training.pairs import SPLITS
from training.pixels import MOST_CHANNELS
from training.scaling import Scaling
from training.split import Split, Splits


def given_images(data: Any) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns the arrays of three splits.

    Args:
        data: (train, val, test); each is (images, masks), a tf.data.Dataset of such pairs, batched
            or not, or a keras.utils.PyDataset.

    Returns:
        Images (images, height, width, channels) and masks (images, height, width, 1) of each.

    Raises:
        ValueError: There are not three, or one is something else, endless, or empty.
    """
    if not isinstance(data, (tuple, list)) or len(data) != len(SPLITS):
        received = (
            f"{len(data)} of them" if isinstance(data, (tuple, list)) else type(data).__name__
        )
        raise ValueError(
            f"Expected data as (train, val, test), each (images, masks). Received: {received}"
        )
    return [_pair(part, name) for part, name in zip(data, SPLITS, strict=True)]


def splits_of(
    pairs: Sequence[tuple[np.ndarray, np.ndarray]], options: MaskOptions, scaling: Scaling
) -> Splits:
    """Returns splits of arrays.

    Args:
        pairs: As `given_images` returns them.
        options: How masks are read.
        scaling: How images become a network's input.

    Raises:
        ValueError: Values have no meaning: masks that are not classes, or images that are not
            0..255 in uint8 and have no scaling.
    """
    splits = []
    for (images, masks), name in zip(pairs, SPLITS, strict=True):
        if images.dtype != np.uint8:
            if scaling.mean is None:
                raise ValueError(_scaling_advice(images, name))
            images = images.astype(np.float32)
        labels = _labels(masks, options, name)
        names = tuple(f"{name}_{number}" for number in range(len(images)))
        split = Split(images, labels, names, scaling)
        check_classes_present(split.counts, f"data of {name}", options.classes)
        splits.append(split)
    return Splits(*splits)


def digest(pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> str:
    """Returns what tells arrays from others, 16 hexadecimal digits."""
    sums = hashlib.sha256()
    for array in (array for pair in pairs for array in pair):
        sums.update(f"{array.shape}{array.dtype}".encode())
        sums.update(np.ascontiguousarray(array).tobytes())
    return sums.hexdigest()[:16]


def _pair(part: Any, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns the arrays of one split."""
    if isinstance(part, (tuple, list)) and len(part) == 2:
        images, masks = (keras.ops.convert_to_numpy(each) for each in part)
    else:
        batches = list(_batches(part, name))
        if not batches:
            raise ValueError(f"The data of {name} are empty")
        images, masks = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
    if masks.ndim == 3:
        masks = masks[..., None]
    fits = images.ndim == 4 and masks.shape == (*images.shape[:3], 1)
    if not fits or not len(images) or images.shape[-1] > MOST_CHANNELS:
        raise ValueError(
            f"Data of {name}: expected images (images, height, width, channels) and masks (images, "
            f"height, width, 1) of the same size. Received: {images.shape} and {masks.shape}"
        )
    if images.dtype.kind not in "uif" or not np.isfinite(images).all():
        raise ValueError(
            f"Data of {name}: expected images of finite numbers. Received: {images.dtype}"
        )
    return images, masks


def _batches(part: Any, name: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields the batches of a dataset."""
    source: Iterable
    if isinstance(part, keras.utils.PyDataset):
        if part.num_batches is None:
            raise ValueError(f"Data of {name}: expected a PyDataset that ends")
        source = (part[index] for index in range(part.num_batches))
    elif hasattr(part, "cardinality") and hasattr(part, "as_numpy_iterator"):
        if int(part.cardinality()) == -1:
            raise ValueError(f"Data of {name}: expected a dataset that ends. Omit repeat()")
        source = part.as_numpy_iterator()
    else:
        raise ValueError(
            f"Data of {name}: expected (images, masks), a tf.data.Dataset or a PyDataset. "
            f"Received: {type(part).__name__}"
        )
    for element in source:
        if not isinstance(element, (tuple, list)) or len(element) != 2:
            raise ValueError(f"Data of {name}: expected pairs of images and masks")
        images, masks = (np.asarray(keras.ops.convert_to_numpy(each)) for each in element)
        if images.ndim == 3:
            images, masks = images[None], masks[None]
        yield images, masks


def _labels(masks: np.ndarray, options: MaskOptions, name: str) -> np.ndarray:
    """Returns masks as labels, uint8."""
    values, places = np.unique(masks, return_inverse=True)
    count = max(len(options.classes), 2)
    ignored = [float(value) for value in options.ignore if isinstance(value, int)]
    meaning = {float(label): label for label in range(count)} | dict.fromkeys(ignored, IGNORED)
    if not options.classes and 1.0 not in values:
        meaning[255.0] = meaning.get(255.0, 1)  # black and white
    unknown = [value for value in values.tolist() if float(value) not in meaning]
    if unknown:
        shown = ", ".join(f"{value:g}" for value in unknown[:8])
        raise ValueError(
            f"Masks of {name} hold {shown}{', ...' if len(unknown) > 8 else ''}: expected "
            f"0..{count - 1}, as classes says, and the values of data.ignore"
        )
    labels = np.array([meaning[float(value)] for value in values.tolist()], np.uint8)
    return labels[places.reshape(masks.shape)]


def _scaling_advice(images: np.ndarray, name: str) -> str:
    low, high = float(images.min()), float(images.max())
    return (
        f"Images of {name} are {images.dtype} with values of {low:.4g} to {high:.4g}, and nothing "
        "says how they are scaled. Give them as uint8, 0..255, or give data.mean and data.scale: "
        "the network takes (value - mean) / scale, which should be about -1..1"
    )
