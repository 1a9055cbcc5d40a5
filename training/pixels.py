"""Images of one channel or many: decoded from files, and resized."""

import struct
from pathlib import Path

import numpy as np

from monitoring.optional import needed_for
from training.pictures import open_picture

EIGHT_BITS = {1: "L", 3: "RGB", 4: "RGBA"}  # Pillow's modes, by channels
MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
DEEP_MODES = ("I", "I;16", "I;16B", "F")  # one channel of more than 8 bits
TIFF = (".tif", ".tiff")
MOST_CHANNELS = 12


def read_pixels(path: Path, channels: int) -> np.ndarray:
    """Decodes a file.

    Args:
        path: An image, or an array of NumPy (.npy).
        channels: 1: grey; 3: RGB; 4: RGBA. Other numbers are those of a TIFF or an array.

    Returns:
        (height, width, channels), uint8 if the file has 8 bits, else float32.

    Raises:
        ValueError: It cannot be read, has other channels, or values that are no numbers.
        MissingPackageError: It is a TIFF that needs tifffile, which is not installed.
    """
    if path.suffix.lower() == ".npy":
        return _checked(path, _load_array(path), channels)
    if channels in EIGHT_BITS:
        try:
            return _decode(path, channels)
        except ValueError:
            if path.suffix.lower() not in TIFF:
                raise
    elif path.suffix.lower() not in TIFF:
        raise ValueError(
            f"{path}: expected a TIFF or .npy, which have {channels} channels (data.channels). "
            f"Received: {path.suffix}"
        )
    with needed_for("A TIFF of several channels or more than 8 bits", "tifffile"):
        import tifffile
    try:
        array = tifffile.imread(path)
    except (OSError, ValueError, LookupError, struct.error) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    return _checked(path, array, channels)


def resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resizes an image bilinearly.

    Args:
        pixels: (height, width, channels), uint8 or float32.
        size: Height and width.
    """
    from PIL import Image

    def resized(part: np.ndarray) -> np.ndarray:
        picture = Image.fromarray(np.ascontiguousarray(part))
        return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))

    channels = pixels.shape[-1]
    if channels == 1:
        return resized(pixels[..., 0])[..., None]
    if pixels.dtype == np.uint8 and channels == 3:
        return resized(pixels)
    return np.stack([resized(pixels[..., channel]) for channel in range(channels)], axis=-1)


def shown(pixels: np.ndarray) -> np.ndarray:
    """Returns an image as a picture can show it, (height, width, 3), uint8.

    The first three channels are red, green and blue; if there are fewer, the first is grey. Values
    of more than 8 bits are stretched from their 1st to their 99th percentile.
    """
    picture = pixels[..., :3] if pixels.shape[-1] >= 3 else pixels[..., :1].repeat(3, axis=-1)
    if picture.dtype == np.uint8:
        return picture
    low, high = np.percentile(picture, (1, 99))
    stretched = (picture - low) / max(high - low, 1e-12)
    return np.round(255 * np.clip(stretched, 0, 1)).astype(np.uint8)


def _decode(path: Path, channels: int) -> np.ndarray:
    """Decodes a file with Pillow."""
    picture = open_picture(path, (*MODES, *(DEEP_MODES if channels == 1 else ())))
    if picture.mode in DEEP_MODES:
        return np.asarray(picture, np.float32)[..., None]
    if channels == 4 and "A" not in picture.mode and "transparency" not in picture.info:
        raise ValueError(
            f"{path} has no alpha channel, and data.channels is 4 (RGBA). Pillow's mode is "
            f"{picture.mode}"
        )
    pixels = np.asarray(picture.convert(EIGHT_BITS[channels]))
    return pixels.reshape(*pixels.shape[:2], channels)


def _load_array(path: Path) -> np.ndarray:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array: {error}") from error
    if not isinstance(array, np.ndarray):
        raise ValueError(f"{path}: expected one array, as numpy.save writes it")
    return array


def _checked(path: Path, array: np.ndarray, channels: int) -> np.ndarray:
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[-1] != channels:
        turned = array.ndim == 3 and array.shape[0] == channels
        advice = "move its first axis to the end" if turned else "set data.channels"
        raise ValueError(
            f"{path}: expected (height, width, {channels}), as data.channels says. Received: "
            f"{array.shape}; {advice}"
        )
    if array.dtype.kind not in "uif" or not np.isfinite(array).all():
        raise ValueError(f"{path}: expected finite numbers. Received: {array.dtype}")
    return array if array.dtype == np.uint8 else array.astype(np.float32)
