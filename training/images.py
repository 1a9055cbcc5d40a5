"""Image and mask files: found, checked and decoded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from training.disk_array import DiskArray, MemoryArray
from training.mask_agreement import MaskAgreement, check_classes_present
from training.mask_options import Colour, MaskOptions, mask_options
from training.masks import read_mask
from training.pairs import (
    SPLITS,
    SUFFIXES,
    Pair,
    Pairs,
    check_splits,
    files_in,
    find_pairs,
    pairs_in,
)
from training.pixels import read_pixels, resize
from training.scaling import EIGHT_BITS, Scaling
from training.split import PART, Split, Splits


def read_splits(
    root: str | Path,
    size: tuple[int, int],
    *,
    foreground: Sequence[int | Colour] | None = None,
    ignore: Sequence[int | Colour] = (),
    alpha: str | None = None,
    ignore_value: int | None = None,
    classes: int | Sequence[str] | None = None,
    colours: Mapping[str, Sequence[int | Colour]] | None = None,
) -> Splits:
    """Reads `root`/{train,val,test}/{img,mask}/NAME.{png,jpg}.

    Images and masks are paired by stem, however its accents are encoded. Images are resized
    bilinearly, masks to the nearest pixel.

    Args:
        root: The folder.
        size: Height and width to resize to, in pixels.
        foreground: As in `MaskOptions`. Defaults to None.
        ignore: As in `MaskOptions`. Defaults to none.
        alpha: As in `MaskOptions`. Defaults to None.
        ignore_value: One value for `ignore`, as in version 0.1. Defaults to None.
        classes: How many classes there are, or their names. Defaults to None: foreground and
            background.
        colours: {class: its values or colours}. Defaults to None: masks hold class numbers.

    Returns:
        The three splits, images in the order of their names.

    Raises:
        FileNotFoundError: A folder, an image's mask, or a mask's image does not exist.
        ValueError: A split is empty or all of one class, a file cannot be read to its end or is
            no mask of these classes, a mask and its image differ in size, two files have the same
            stem, or two masks count their classes differently; the message names the file.
    """
    options = mask_options(foreground, ignore, alpha, ignore_value, classes, colours)
    pairs = find_pairs(Path(root))
    check_splits(Path(root), pairs)
    return read_pairs(pairs, ImageOptions(size), options)


@dataclass(frozen=True)
class ImageOptions:
    """How image files are read.

    Attributes:
        size: Height and width to resize to, in pixels.
        channels: 1: grey; 3: RGB; 4: RGBA; others are those of a TIFF or .npy.
        scaling: How their values become a network's input.
        on_disk: Whether they are kept on disk once they are decoded. Defaults to False: in memory.
    """

    size: tuple[int, int]
    channels: int = 3
    scaling: Scaling = EIGHT_BITS
    on_disk: bool = False


def read_pairs(pairs: Pairs, options: ImageOptions, mask_options: MaskOptions) -> Splits:
    """Reads the files of three splits; see `read_splits`.

    Args:
        pairs: {"train", "val", "test": pairs}.
        options: How images are read.
        mask_options: How masks are read.
    """
    agreement = MaskAgreement()
    return Splits(*(_read_split(pairs[name], options, mask_options, agreement) for name in SPLITS))


def read_images(folder: Path, size: tuple[int, int], channels: int = 3) -> np.ndarray:
    """Reads a folder of images, (images, height, width, channels), in the order of their names.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: It holds no images, or a file that is not an image.
    """
    files = files_in(folder)
    if not files:
        raise ValueError(f"{folder} holds no image (expected {', '.join(SUFFIXES)})")
    options = ImageOptions(size, channels)
    return np.stack(list(_each(partial(_read_image, options=options), list(files.values()))))


def read_split(folder: Path, size: tuple[int, int], **options: Any) -> Split:
    """Reads one split, `folder`/{img,mask}/NAME.{png,jpg}; see `read_splits`."""
    pairs = pairs_in(folder)
    return _read_split(pairs, ImageOptions(size), mask_options(**options), MaskAgreement())


def _read_split(
    pairs: Sequence[Pair],
    options: ImageOptions,
    mask_options: MaskOptions,
    agreement: MaskAgreement,
) -> Split:
    """Reads one split.

    Args:
        pairs: Its files, one pair or more.
        options: How images are read.
        mask_options: How masks are read.
        agreement: Knows the masks that were read before.
    """
    read = partial(_read_pair, options=options, mask_options=mask_options)
    names, images, masks = zip(*pairs, strict=True)
    dtype = read_pixels(images[0], options.channels).dtype
    shape = (len(pairs), *options.size)
    array = DiskArray if options.on_disk else MemoryArray
    pictures, labels = array((*shape, options.channels), dtype), array((*shape, 1), np.dtype("u1"))
    for image, path, (picture, mask) in zip(images, masks, _each(read, images, masks), strict=True):
        if picture.dtype != dtype:
            raise ValueError(
                f"{image} has {_depth(picture.dtype)} bits, {images[0]} {_depth(dtype)}: convert "
                "one of them"
            )
        agreement.check(path, mask)
        pictures.add(picture)
        labels.add(mask.labels[..., None])
    split = Split(pictures.rows, labels.rows, names, options.scaling)
    check_classes_present(split.counts, str(masks[0].parent), mask_options.classes)
    if dtype != np.uint8 and options.scaling.mean is None:
        raise ValueError(_scaling_advice(split.images[:PART], str(images[0].parent)))
    return split


def _depth(dtype: np.dtype) -> str:
    return "8" if dtype == np.uint8 else "more than 8"


def _scaling_advice(images: np.ndarray, place: str) -> str:
    """Says which mean and scale images of more than 8 bits have."""
    over = (0, 1, 2)
    mean, scale = (
        ", ".join(f"{value:.4g}" for value in statistic)
        for statistic in (images.mean(axis=over), images.std(axis=over))
    )
    return (
        f"Images in {place} have more than 8 bits, and nothing says how they are scaled: give "
        f"data.mean and data.scale. Their own are mean: [{mean}], scale: [{scale}]"
    )


def _each(read: Callable, *files: Sequence[Path]) -> Iterator:
    """Reads files on several threads, in order; in parts, because each job takes 2 KB."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files[0]), 1000):
            yield from pool.map(read, *(column[start : start + 1000] for column in files))


def _read_pair(image: Path, mask: Path, *, options: ImageOptions, mask_options: MaskOptions):
    """Returns an image (height, width, channels), and its mask, at its size."""
    pixels, found = read_pixels(image, options.channels), read_mask(mask, mask_options)
    height, width = found.labels.shape
    if pixels.shape[:2] != (height, width):
        raise ValueError(
            f"{mask} is {width}x{height} pixels, its image {image.name} "
            f"{pixels.shape[1]}x{pixels.shape[0]}: they must be the same"
        )
    from PIL import Image

    labels = Image.fromarray(found.labels).resize(options.size[::-1], Image.Resampling.NEAREST)
    return resize(pixels, options.size), replace(found, labels=np.asarray(labels))


def _read_image(path: Path, *, options: ImageOptions) -> np.ndarray:
    return resize(read_pixels(path, options.channels), options.size)
