"""Image and mask files: found, checked and decoded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
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
from training.tiling import Tiling, cut, plan_axis


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
        overlap: Fewest pixels that the tiles share into which images are cut; None: images are
            resized instead.
        on_disk: Whether they are kept on disk once they are decoded. Defaults to False: in memory.
    """

    size: tuple[int, int]
    channels: int = 3
    scaling: Scaling = EIGHT_BITS
    overlap: int | None = None
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


def decoded_bytes(pairs: Pairs, options: ImageOptions) -> int:
    """Estimates how much memory decoded images and masks take, by the first image.

    Raises:
        ValueError: That image cannot be read.
    """
    first = next(pair.image for part in pairs.values() for pair in part)
    pixels = read_pixels(first, options.channels)
    each = options.size[0] * options.size[1] * (options.channels * pixels.itemsize + 1)
    if options.overlap is not None:
        each *= len(_tiling(pixels, options))
    return each * sum(map(len, pairs.values()))


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
    _, images, masks = zip(*pairs, strict=True)
    dtype = read_pixels(images[0], options.channels).dtype
    array: type[DiskArray] | type[MemoryArray] = DiskArray if options.on_disk else MemoryArray
    pictures = array((*options.size, options.channels), dtype)
    labels, numbered = array((*options.size, 1), np.dtype("u1")), []
    for pair, (tiles, mask) in zip(pairs, _each(read, images, masks), strict=True):
        image, picture = pair.image, tiles[0][0]
        if picture.dtype != dtype:
            raise ValueError(
                f"{image} has {_depth(picture.dtype)} bits, {images[0]} {_depth(dtype)}: convert "
                "one of them"
            )
        agreement.check(pair.mask, mask)
        for number, (picture, label) in enumerate(tiles):
            pictures.add(picture)
            labels.add(label)
            numbered.append(f"{pair.name}#{number}" if len(tiles) > 1 else pair.name)
    split = Split(pictures.rows, labels.rows, tuple(numbered), options.scaling)
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
    """Returns an image's tiles, each with its labels, and its mask; resized, it is one tile.

    Images are (height, width, channels), labels (height, width, 1), both of the size to read.
    """
    pixels, decoded = read_pixels(image, options.channels), read_mask(mask, mask_options)
    height, width = decoded.labels.shape
    if pixels.shape[:2] != (height, width):
        raise ValueError(
            f"{mask} is {width}x{height} pixels, its image {image.name} "
            f"{pixels.shape[1]}x{pixels.shape[0]}: they must be the same"
        )
    from PIL import Image

    if options.overlap is not None:
        tiling = _tiling(pixels, options)
        parts = (cut(array, tiling) for array in (pixels, decoded.labels[..., None]))
        return list(zip(*parts, strict=True)), decoded
    labels = Image.fromarray(decoded.labels).resize(options.size[::-1], Image.Resampling.NEAREST)
    return [(resize(pixels, options.size), np.asarray(labels)[..., None])], decoded


def _tiling(pixels: np.ndarray, options: ImageOptions) -> Tiling:
    """Returns how an image is cut into tiles."""
    sides = zip(pixels.shape[:2], options.size, strict=True)
    return Tiling(*(plan_axis(side, tile, options.overlap or 0) for side, tile in sides))


def _read_image(path: Path, *, options: ImageOptions) -> np.ndarray:
    return resize(read_pixels(path, options.channels), options.size)
