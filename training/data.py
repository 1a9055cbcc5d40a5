"""Images and masks: read and checked once, cached, shuffled and augmented by seed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from training.config import AugmentationConfig

SPLITS = ("train", "val", "test")
SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
MASK_MODES = ("1", "L", "LA", "RGB", "RGBA")
DARK, BRIGHT = 31, 224  # values between are neither, unless a mask has so many that edges are soft
FEW = 16
MAX_PIXELS = 50_000_000  # decoded, as RGB, 150 MB


@dataclass(frozen=True)
class Split:
    """One split, decoded.

    Attributes:
        images: (images, height, width, 3), uint8, RGB.
        masks: (images, height, width, 1), uint8, 1 is foreground.
        names: The files' stems, in the order of the images.
    """

    images: np.ndarray
    masks: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.images)


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images."""

    train: Split
    val: Split
    test: Split


def read_splits(root: str | Path, size: tuple[int, int]) -> Splits:
    """Reads `root`/{train,val,test}/{img,mask}/NAME.{png,jpg}.

    Images and masks are paired by stem. Images are resized bilinearly, masks, of which
    everything above half is foreground, to the nearest pixel.

    Args:
        root: The folder.
        size: Height and width to resize to, in pixels.

    Returns:
        The three splits, images in the order of their names.

    Raises:
        FileNotFoundError: A folder, or an image's mask, or a mask's image is not there.
        ValueError: A split is empty, a file cannot be read to its end, a mask is of
            another size than its image, or two files have one stem. Each names the file.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"Data folder {root} is not there. Expected {root}/{{train,val,test}}/{{img,mask}}/"
        )
    return Splits(**{name: read_split(root / name, size) for name in SPLITS})


def scale(images):
    """Maps 0..255 to -1..1, as the networks take it: (x / 255 - 0.5) / 0.5, in float32.

    Example:
        >>> scale(np.array([0, 255], np.uint8)).tolist()
        [-1.0, 1.0]
    """
    return (np.asarray(images, np.float32) / 255.0 - 0.5) / 0.5


def draw_images(split: Split, count: int, seed: int) -> np.ndarray:
    """Draws `count` images without repetition, scaled, (count, height, width, 3).

    All of them, in a seeded order, where the split has no more than `count`.
    """
    order = np.random.default_rng(seed).permutation(len(split))[:count]
    return scale(split.images[np.sort(order)])


def batches(split: Split, batch_size: int, answers: Callable | None = None):
    """Returns a tf.data.Dataset of (images, masks) in order, scaled, in float32.

    Args:
        split: Images and masks.
        batch_size: Images a batch.
        answers: From scaled images and their indices to channels that are put behind the
            mask's. Defaults to None: none.
    """
    import tensorflow as tf

    images, masks = tf.constant(split.images), tf.constant(split.masks)

    def gather(index):
        pictures = _scaled(tf.gather(images, index))
        labels = tf.cast(tf.gather(masks, index), tf.float32)
        return pictures, _answered(pictures, labels, index, answers)

    dataset = tf.data.Dataset.range(len(split)).batch(batch_size)
    return dataset.map(gather, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def training_batches(
    split: Split,
    batch_size: int,
    *,
    epochs: int,
    first: int = 0,
    seed: int,
    augmentation: AugmentationConfig,
    answers: Callable | None = None,
):
    """Returns a tf.data.Dataset of all epochs' batches, shuffled and augmented.

    What an epoch sees depends on `seed`, `batch_size` and the epoch's number alone. Its last
    batch may be smaller.

    Args:
        split: Images and masks.
        batch_size: Images a batch.
        epochs: How many times through the split.
        first: The epoch to begin with. Defaults to 0.
        seed: Decides order and augmentation.
        augmentation: Ranges to draw from.
        answers: As of `batches`; it is given augmented images.

    Returns:
        Batches of images (batch, height, width, 3) in -1..1 and masks (batch, height,
        width, 1) of 0 and 1, in float32, with `answers` behind them; ceil(images /
        batch_size) of them an epoch.
    """
    import tensorflow as tf

    from training.augmentation import augment

    images, masks = tf.constant(split.images), tf.constant(split.masks)

    def epoch_batches(epoch):
        order = tf.random.experimental.stateless_shuffle(
            tf.range(len(split), dtype=tf.int64), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
        )
        # Numbers that no other batch of any epoch has: augmentation is drawn from them.
        return tf.data.Dataset.from_tensor_slices(order).batch(batch_size).enumerate(epoch * 2**32)

    def load(number, index):
        draw = tf.stack([tf.cast(seed, tf.int64), number])
        batch = tf.gather(images, index), tf.gather(masks, index)
        pictures, labels = augment(*batch, draw, augmentation=augmentation)
        pictures = _scaled(pictures)
        return pictures, _answered(pictures, labels, index, answers)

    order = tf.data.Dataset.range(first, epochs).flat_map(epoch_batches)
    return order.map(load, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def _answered(pictures, labels, index, answers: Callable | None):
    import tensorflow as tf

    return labels if answers is None else tf.concat([labels, answers(pictures, index)], axis=-1)


def _scaled(images):
    import tensorflow as tf

    return (tf.cast(images, tf.float32) / 255.0 - 0.5) / 0.5


def read_images(folder: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads a folder of images, (images, height, width, 3), uint8, in the order of their names.

    Raises:
        FileNotFoundError: The folder is not there.
        ValueError: It holds no image, or a file that is none.
    """
    files = _files(folder)
    if not files:
        raise ValueError(f"{folder} holds no image (expected {', '.join(SUFFIXES)})")
    with ThreadPoolExecutor() as pool:
        return np.stack(list(pool.map(partial(_read_image, size=size), files.values())))


def read_split(folder: Path, size: tuple[int, int]) -> Split:
    """Reads one split, `folder`/{img,mask}/NAME.{png,jpg}; as `read_splits`."""
    images, masks = _files(folder / "img"), _files(folder / "mask")
    for stem in sorted(images.keys() ^ masks.keys()):
        there, missing = (images, "mask") if stem in images else (masks, "img")
        raise FileNotFoundError(f"{there[stem]} has no partner {stem}.* in {folder / missing}")
    if not images:
        raise ValueError(f"{folder / 'img'} holds no image (expected {', '.join(SUFFIXES)})")
    names = tuple(sorted(images))
    read = partial(_read_pair, size=size)
    with ThreadPoolExecutor() as pool:
        pairs = pool.map(read, (images[name] for name in names), (masks[name] for name in names))
        pictures, labels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    if not labels.any():
        found = np.unique(np.asarray(_open(masks[names[0]], "L", MASK_MODES)))
        raise ValueError(
            f"No mask in {folder / 'mask'} has a pixel of 128 to 255: nothing is foreground. "
            f"{masks[names[0]].name} has the values {', '.join(map(str, found[:FEW]))}"
        )
    return Split(pictures, labels, names)


def _files(folder: Path) -> dict[str, Path]:
    """Returns {stem: file} of a folder's images."""
    if not folder.is_dir():
        raise FileNotFoundError(f"Data folder {folder} is not there.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path} is not one of {', '.join(SUFFIXES)}: move it elsewhere")
        if path.stem in files:
            raise ValueError(f"{files[path.stem]} and {path} have the same stem: keep one")
        files[path.stem] = path
    return files


def _read_pair(image: Path, mask: Path, *, size: tuple[int, int]):
    """Returns an image (height, width, 3) and its mask (height, width, 1), uint8."""
    picture, label = _open(image, "RGB", IMAGE_MODES), _open(mask, "L", MASK_MODES)
    if picture.size != label.size:
        raise ValueError(
            f"{mask} is {label.width}x{label.height} pixels, its image {image.name} "
            f"{picture.width}x{picture.height}: they must be the same"
        )
    from PIL import Image

    values = np.unique(np.asarray(label))
    between = values[(values > DARK) & (values < BRIGHT)]
    if len(between) and len(values) <= FEW:
        raise ValueError(
            f"{mask} has the values {', '.join(map(str, values))}: expected two, dark for "
            "background and bright for foreground. Map the others to 0 or 255"
        )
    labels = np.asarray(label.resize(size[::-1], Image.Resampling.NEAREST))
    return _resized(picture, size), (labels > 127).astype(np.uint8)[..., None]


def _read_image(path: Path, *, size: tuple[int, int]) -> np.ndarray:
    return _resized(_open(path, "RGB", IMAGE_MODES), size)


def _resized(picture, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))


def _open(path: Path, mode: str, modes: tuple[str, ...]):
    """Decodes a whole file of one of `modes` to `mode`."""
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise ValueError(f"{image.width}x{image.height} pixels are too many")
            if image.mode in modes:
                return ImageOps.exif_transpose(image).convert(mode)  # as a viewer shows it
            found = image.mode
    # What Pillow's decoders raise on damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    raise ValueError(
        f"{path} has Pillow's mode {found}, where {', '.join(modes)} can be read: convert it to "
        "8 bits of grey or RGB"
    )
