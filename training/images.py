"""Image and mask files: found, checked and decoded."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from training.mask_agreement import MaskAgreement, check_classes_present
from training.mask_options import Colour, MaskOptions, mask_options
from training.masks import IGNORED, read_mask
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


@dataclass(frozen=True)
class Split:
    """One split, decoded.

    Attributes:
        images: (images, height, width, channels), uint8, or float32 of files with more than 8 bits.
        masks: (images, height, width, 1), uint8: 1 is foreground, 0 background, or the number of
            one of several classes; IGNORED is neither learned nor scored.
        names: The files' stems, in the order of the images.
        scaling: How their values become a network's input.
    """

    images: np.ndarray
    masks: np.ndarray
    names: tuple[str, ...]
    scaling: Scaling = EIGHT_BITS

    @property
    def inputs(self) -> np.ndarray:
        """All images as a network takes them, (images, height, width, channels), float32."""
        return self.scaling(self.images)

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.images)

    @property
    def foreground(self) -> float:
        """Fraction of the scored pixels that are foreground, 0..1."""
        return float((self.masks == 1).sum() / max((self.masks != IGNORED).sum(), 1))


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images."""

    train: Split
    val: Split
    test: Split


def class_shares(splits: Splits, classes: Sequence[str] = ()) -> str:
    """Says how much of each split's scored pixels each class has.

    Args:
        splits: The splits.
        classes: Names of several classes. Defaults to none: foreground and background.
    """
    if not classes:
        shares = (f"{name} {100 * getattr(splits, name).foreground:.1f} %" for name in SPLITS)
        return f"Foreground: {', '.join(shares)} of the pixels"
    lines = []
    for name in SPLITS:
        counts = np.bincount(getattr(splits, name).masks.ravel(), minlength=256)[: len(classes)]
        parts = zip(classes, 100 * counts / max(counts.sum(), 1), strict=True)
        lines.append(f"{name}: " + ", ".join(f"{each} {share:.1f} %" for each, share in parts))
    return "Pixels of each class, " + "; ".join(lines)


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
    """

    size: tuple[int, int]
    channels: int = 3
    scaling: Scaling = EIGHT_BITS


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
    return _stacked(list(_each(partial(_read_image, options=options), list(files.values()))))


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
    pictures, labels = [], []
    for path, (picture, mask) in zip(masks, _each(read, images, masks), strict=True):
        pictures.append(picture)
        labels.append(mask.labels[..., None])
        agreement.check(path, mask)
    split = Split(_stacked(pictures), np.stack(labels), names, options.scaling)
    check_classes_present(split.masks, str(masks[0].parent), mask_options.classes)
    if split.images.dtype != np.uint8 and options.scaling.mean is None:
        raise ValueError(_scaling_advice(split.images, str(images[0].parent)))
    return split


def _stacked(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Returns images in one array; uint8 beside float32 becomes float32."""
    return np.stack(pictures)


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
