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
from training.pictures import open_picture

IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class Split:
    """One split, decoded.

    Attributes:
        images: (images, height, width, 3), uint8, RGB.
        masks: (images, height, width, 1), uint8: 1 is foreground, 0 background, or the number of
            one of several classes; IGNORED is neither learned nor scored.
        names: The files' stems, in the order of the images.
    """

    images: np.ndarray
    masks: np.ndarray
    names: tuple[str, ...]

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
    return read_pairs(pairs, size, options)


def read_pairs(pairs: Pairs, size: tuple[int, int], options: MaskOptions) -> Splits:
    """Reads the files of three splits; see `read_splits`.

    Args:
        pairs: {"train", "val", "test": pairs}.
        size: Height and width to resize to, in pixels.
        options: How masks are read.
    """
    agreement = MaskAgreement()
    return Splits(*(_read_split(pairs[name], size, options, agreement) for name in SPLITS))


def read_images(folder: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads a folder of images, (images, height, width, 3), uint8, in the order of their names.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: It holds no images, or a file that is not an image.
    """
    files = files_in(folder)
    if not files:
        raise ValueError(f"{folder} holds no image (expected {', '.join(SUFFIXES)})")
    return np.stack(list(_each(partial(_read_image, size=size), list(files.values()))))


def read_split(folder: Path, size: tuple[int, int], **options: Any) -> Split:
    """Reads one split, `folder`/{img,mask}/NAME.{png,jpg}; see `read_splits`."""
    return _read_split(pairs_in(folder), size, mask_options(**options), MaskAgreement())


def _read_split(
    pairs: Sequence[Pair], size: tuple[int, int], options: MaskOptions, agreement: MaskAgreement
) -> Split:
    """Reads one split.

    Args:
        pairs: Its files, one pair or more.
        size: Height and width.
        options: How masks are read.
        agreement: Knows the masks that were read before.
    """
    read = partial(_read_pair, size=size, options=options)
    names, images, masks = zip(*pairs, strict=True)
    pictures, labels = [], []
    for path, (picture, mask) in zip(masks, _each(read, images, masks), strict=True):
        pictures.append(picture)
        labels.append(mask.labels[..., None])
        agreement.check(path, mask)
    split = Split(np.stack(pictures), np.stack(labels), names)
    check_classes_present(split.masks, str(masks[0].parent), options.classes)
    return split


def _each(read: Callable, *files: Sequence[Path]) -> Iterator:
    """Reads files on several threads, in order; in parts, because each job takes 2 KB."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files[0]), 1000):
            yield from pool.map(read, *(column[start : start + 1000] for column in files))


def _read_pair(image: Path, mask: Path, *, size: tuple[int, int], options: MaskOptions):
    """Returns an image (height, width, 3), uint8, and its mask, at its size."""
    picture, found = _open(image), read_mask(mask, options)
    height, width = found.labels.shape
    if picture.size != (width, height):
        raise ValueError(
            f"{mask} is {width}x{height} pixels, its image {image.name} "
            f"{picture.width}x{picture.height}: they must be the same"
        )
    from PIL import Image

    labels = Image.fromarray(found.labels).resize(size[::-1], Image.Resampling.NEAREST)
    return _resized(picture, size), replace(found, labels=np.asarray(labels))


def _read_image(path: Path, *, size: tuple[int, int]) -> np.ndarray:
    return _resized(_open(path), size)


def _resized(picture, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))


def _open(path: Path):
    return open_picture(path, IMAGE_MODES).convert("RGB")
