"""Image and mask files: found, checked and decoded."""

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from training.mask_options import Colour, MaskOptions, mask_options
from training.masks import IGNORED, read_mask
from training.pictures import open_picture

SPLITS = ("train", "val", "test")
SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")


@dataclass(frozen=True)
class Split:
    """One split, decoded.

    Attributes:
        images: (images, height, width, 3), uint8, RGB.
        masks: (images, height, width, 1), uint8: 1 is foreground, 0 background; IGNORED is
            neither learned nor scored.
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


def foreground_share(splits: Splits) -> str:
    """Says how much of each split's masks is foreground."""
    shares = (f"{name} {100 * getattr(splits, name).foreground:.1f} %" for name in SPLITS)
    return f"Foreground: {', '.join(shares)} of the pixels"


def read_splits(
    root: str | Path,
    size: tuple[int, int],
    *,
    foreground: Sequence[int | Colour] | None = None,
    ignore: Sequence[int | Colour] = (),
    alpha: str | None = None,
    ignore_value: int | None = None,
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

    Returns:
        The three splits, images in the order of their names.

    Raises:
        FileNotFoundError: A folder, an image's mask, or a mask's image does not exist.
        ValueError: A split is empty or all of one class, a file cannot be read to its end or is
            no mask of two classes, a mask and its image differ in size, two files have the same
            stem, or foreground is 1 in one mask and 255 in another; the message names the file.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"Data folder {root} does not exist. Expected {root}/{{train,val,test}}/{{img,mask}}/"
        )
    options = mask_options(foreground, ignore, alpha, ignore_value)
    brights: dict[int, Path] = {}
    splits = {name: _read_split(root / name, size, options, brights) for name in SPLITS}
    return Splits(**splits)


def read_images(folder: Path, size: tuple[int, int]) -> np.ndarray:
    """Reads a folder of images, (images, height, width, 3), uint8, in the order of their names.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: It holds no images, or a file that is not an image.
    """
    files = _files(folder)
    if not files:
        raise ValueError(f"{folder} holds no image (expected {', '.join(SUFFIXES)})")
    return np.stack(list(_each(partial(_read_image, size=size), list(files.values()))))


def read_split(folder: Path, size: tuple[int, int], **options: Any) -> Split:
    """Reads one split, `folder`/{img,mask}/NAME.{png,jpg}; see `read_splits`."""
    return _read_split(folder, size, mask_options(**options), {})


def _read_split(
    folder: Path, size: tuple[int, int], options: MaskOptions, brights: dict[int, Path]
) -> Split:
    """Reads one split.

    Args:
        folder: The folder.
        size: Height and width.
        options: How masks are read.
        brights: {value that stands for foreground: a mask that has it} of the masks read so
            far; is extended.
    """
    images, masks = _files(folder / "img"), _files(folder / "mask")
    for stem in sorted(images.keys() ^ masks.keys()):
        present, missing = (images, "mask") if stem in images else (masks, "img")
        raise FileNotFoundError(f"{present[stem]} has no partner {stem}.* in {folder / missing}")
    if not images:
        raise ValueError(f"{folder / 'img'} holds no image (expected {', '.join(SUFFIXES)})")
    names = tuple(sorted(images))
    read = partial(_read_pair, size=size, options=options)
    pictures, labels = [], []
    for name, (picture, label, bright) in zip(
        names, _each(read, [images[n] for n in names], [masks[n] for n in names]), strict=True
    ):
        pictures.append(picture)
        labels.append(label)
        if bright is not None:
            brights.setdefault(bright, masks[name])
        if len(brights) > 1:
            raise ValueError(
                f"Foreground is 1 in {brights[1]} and 255 in {brights[255]}: masks of class "
                "numbers look like that. Name the values of the foreground as data.foreground, "
                "and those that are not scored as data.ignore"
            )
    split = Split(np.stack(pictures), np.stack(labels), names)
    _check_both_classes(split, folder / "mask")
    return split


def _check_both_classes(split: Split, folder: Path) -> None:
    """Refuses a split from which nothing can be learned or told.

    Raises:
        ValueError: All pixels are of one class.
    """
    present = [label in split.masks for label in (0, 1)]
    if not all(present):
        only = "ignored" if not any(present) else "background" if present[0] else "foreground"
        raise ValueError(
            f"The masks in {folder} are all {only}: nothing can be learned from them, or told. "
            "If they are not, name the values of the foreground as data.foreground"
        )


def _files(folder: Path) -> dict[str, Path]:
    """Returns {stem: file} of a folder's images."""
    if not folder.is_dir():
        raise FileNotFoundError(f"Data folder {folder} does not exist.")
    files: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            continue
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path} is not one of {', '.join(SUFFIXES)}: move it elsewhere")
        stem = unicodedata.normalize("NFC", path.stem)
        if stem in files:
            raise ValueError(f"{files[stem]} and {path} have the same stem: keep one")
        files[stem] = path
    return files


def _each(read: Callable, *files: Sequence[Path]) -> Iterator:
    """Reads files on several threads, in order; in parts, because each job takes 2 KB."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files[0]), 1000):
            yield from pool.map(read, *(column[start : start + 1000] for column in files))


def _read_pair(image: Path, mask: Path, *, size: tuple[int, int], options: MaskOptions):
    """Returns an image (height, width, 3), its mask (height, width, 1), uint8, and its `Mask`."""
    picture, found = _open(image), read_mask(mask, options)
    height, width = found.labels.shape
    if picture.size != (width, height):
        raise ValueError(
            f"{mask} is {width}x{height} pixels, its image {image.name} "
            f"{picture.width}x{picture.height}: they must be the same"
        )
    from PIL import Image

    labels = Image.fromarray(found.labels).resize(size[::-1], Image.Resampling.NEAREST)
    return _resized(picture, size), np.asarray(labels)[..., None], found.bright


def _read_image(path: Path, *, size: tuple[int, int]) -> np.ndarray:
    return _resized(_open(path), size)


def _resized(picture, size: tuple[int, int]) -> np.ndarray:
    from PIL import Image

    return np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR))


def _open(path: Path):
    return open_picture(path, IMAGE_MODES).convert("RGB")
