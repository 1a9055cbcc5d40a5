"""Images from a folder for any saved model: their size, their preprocessing, their masks."""

from collections.abc import Callable, Sequence
from pathlib import Path

import keras
import numpy as np

from training.data import scale
from training.images import Split, read_images, read_split
from training.masks import MaskOptions


def preprocessing(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from uint8 images to a model's inputs.

    Args:
        name: "zoo": -1..1; "none": 0..255 in float32; or a module of `keras.applications`,
            whose `preprocess_input` is used.

    Raises:
        ValueError: There is no such module.
    """
    if name == "zoo":
        return scale
    if name == "none":
        return lambda images: np.asarray(images, np.float32)
    module = getattr(keras.applications, name, None)
    if module is None or not hasattr(module, "preprocess_input"):
        raise ValueError(
            "Expected --preprocess zoo, none, or a module of keras.applications such as "
            f"mobilenet_v2. Received: {name!r}"
        )
    return lambda images: module.preprocess_input(np.array(images, np.float32))


def images_size(model: keras.Model, size: Sequence[int] | None) -> tuple[int, int]:
    """Returns the height and width that images are resized to.

    Args:
        model: The model that takes them.
        size: A height and width of the user's. Defaults to None: the model's.

    Raises:
        ValueError: `size` is not two numbers, or the model does not take images of one size.
    """
    if size is not None:
        if len(size) != 2:
            raise ValueError(f"Expected --input-size H,W. Received: {size}")
        return size[0], size[1]
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3:
        raise ValueError(
            "Expected a model of one input (batch, height, width, 3), or --input-size H,W. "
            f"Received: input shape {shape}"
        )
    if None in shape[1:]:
        raise ValueError(f"The model's input has no fixed size, {shape}: give --input-size H,W.")
    return shape[1], shape[2]


def read_model_images(
    data: Path, name: str, size: tuple[int, int], options: MaskOptions
) -> tuple[np.ndarray, Split | None]:
    """Reads a split, with its masks if there are any, or a bare folder of images.

    Args:
        data: A folder of images, or one that holds the split.
        name: Name of the split.
        size: Height and width to resize to, in pixels.
        options: How masks are read.

    Returns:
        Images (images, height, width, 3), uint8; and the split, None if it has no masks.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: A file cannot be used.
    """
    folder = data / name
    if (folder / "mask").is_dir():
        split = read_split(folder, size, **vars(options))
        return split.images, split
    for place in (folder / "img", folder, data):
        if place.is_dir():
            return read_images(place, size), None
    raise FileNotFoundError(f"Data folder {data} does not exist.")


def segments(model: keras.Model, split: Split) -> bool:
    """Returns whether a model's one output has the shape of a split's masks."""
    outputs = model(np.zeros((1, *split.images.shape[1:]), np.float32), training=False)
    return getattr(outputs, "shape", None) == (1, *split.masks.shape[1:])
