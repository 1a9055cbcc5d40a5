"""Images from a folder for any saved model: their size, their preprocessing, their masks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from monitoring.analysis.single_output import single_output
from training.data import scale
from training.images import read_images, read_split
from training.mask_options import MaskOptions
from training.split import Split

MODES = {1: "L", 3: "RGB"}  # Pillow's, by channels
BOLD_ENDS = "\x1b[0m"  # in Keras' messages


def preprocessing(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from uint8 images to a model's inputs.

    Args:
        name: "zoo": -1..1; "none": 0..255 in float32; or a module of `keras.applications`,
            whose `preprocess_input` is used.

    Raises:
        ValueError: There is no such module; or, when the function is called, the images are grey
            and the module's are RGB.
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

    def preprocess(images: np.ndarray) -> np.ndarray:
        try:
            return module.preprocess_input(np.array(images, np.float32))
        except IndexError:  # it subtracts a mean from each of three channels
            raise ValueError(
                f"--preprocess {name} is for RGB, and the model takes grey images: give "
                "--preprocess zoo or none"
            ) from None

    return preprocess


def image_shape(model: keras.Model, size: Sequence[int] | None) -> tuple[int, int, int]:
    """Returns the height, width and channels of the images that a model takes.

    Args:
        model: The model that takes them.
        size: A height and width of the user's. Defaults to None: the model's.

    Raises:
        ValueError: `size` is not two numbers or not the model's, or the model does not take grey
            or RGB images of one size.
    """
    if size is not None and len(size) != 2:
        raise ValueError(f"Expected --input-size H,W. Received: {size}")
    shape = _input_shape(model)
    if shape is None:
        if size is None:
            raise ValueError(f"Model '{model.name}' tells no size of images: give --input-size H,W")
        return size[0], size[1], 3
    if len(shape) != 4:
        raise ValueError(
            "Expected a model of one input (batch, height, width, channels). Received: input "
            f"shape {shape}"
        )
    channels = shape[-1] or 3
    if channels not in MODES:
        raise ValueError(
            f"Model '{model.name}' takes {channels} channels, input shape {shape}; images are "
            "read as grey (1) or RGB (3), channels last. Analyze a model that takes one of these"
        )
    fixed = shape[1:3] if getattr(model, "inputs", None) else (None, None)
    height, width = size or fixed
    if height is None or width is None:
        if getattr(model, "inputs", None):
            raise ValueError(f"The model's input has no fixed size, {shape}: give --input-size H,W")
        raise ValueError(
            f"Model '{model.name}' is subclassed and has no fixed size: give --input-size H,W"
        )
    if any(side not in (None, given) for side, given in zip(fixed, (height, width), strict=True)):
        raise ValueError(
            f"Model '{model.name}' takes images of {fixed[0]}x{fixed[1]} pixels. Received: "
            f"--input-size {height},{width}"
        )
    return height, width, channels


def _input_shape(model: keras.Model) -> tuple[int | None, ...] | None:
    """Returns the shape of a model's one input; of a subclassed model, as it was built."""
    inputs = getattr(model, "inputs", None)
    if inputs:
        return tuple(inputs[0].shape)
    shape = (model.get_build_config() or {}).get("input_shape")
    return tuple(shape) if shape and not keras.tree.is_nested(shape[0]) else None


def output_shape(model: keras.Model, shape: tuple[int, int, int]) -> tuple[int | None, ...]:
    """Returns the shape of what a model returns for one image, without the batch axis.

    Args:
        model: A model of one input.
        shape: Height, width and channels of an image.

    Raises:
        ValueError: It cannot take such images, or returns several outputs.
    """
    inputs = getattr(model, "inputs", None)
    batch = (inputs[0].shape[0] if inputs else None) or 1
    try:
        outputs = model(np.zeros((batch, *shape), np.float32), training=False)
    except (ValueError, TypeError) as error:
        reason = str(error).split("Arguments received by")[0].split("\x1b[1m")[-1]
        raise ValueError(
            f"Model '{model.name}' cannot take images of shape {shape}: "
            f"{' '.join(reason.replace(BOLD_ENDS, '').split())[:300]}"
        ) from None
    return tuple(single_output(model, outputs).shape[1:])


def read_model_images(
    data: Path, name: str, shape: tuple[int, int, int], options: MaskOptions
) -> tuple[np.ndarray, Split | None]:
    """Reads a split, with its masks if there are any, or a bare folder of images.

    Args:
        data: A folder of images, or one that holds the split.
        name: Name of the split.
        shape: Height and width to resize to, in pixels, and channels: 1 for grey, 3 for RGB.
        options: How masks are read.

    Returns:
        Images (images, height, width, channels), uint8; and the split, None if it has no masks.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: A file cannot be used.
    """
    folder, size, channels = data / name, shape[:2], shape[2]
    if (folder / "mask").is_dir():
        split = read_split(folder, size, **vars(options))
        converted = convert_images(np.asarray(split.images), channels)
        return converted, replace(split, images=converted)
    for place in (folder / "img", folder, data):
        if place.is_dir():
            return convert_images(read_images(place, size), channels), None
    raise FileNotFoundError(f"Data folder {data} does not exist.")


def convert_images(images: np.ndarray, channels: int) -> np.ndarray:
    """Converts RGB images to a number of channels.

    Args:
        images: (images, height, width, 3), uint8.
        channels: 3 changes nothing; 1 gives grey by ITU-R 601, as Pillow's mode "L".

    Returns:
        Images (images, height, width, channels), uint8.

    Example:
        >>> convert_images(np.array([[[[255, 0, 0], [9, 9, 9]]]], np.uint8), 1).tolist()
        [[[[76], [9]]]]
    """
    if channels == 3:
        return images
    from PIL import Image

    pictures = (Image.fromarray(image).convert(MODES[channels]) for image in images)
    return np.stack([np.asarray(picture) for picture in pictures])[..., None]
