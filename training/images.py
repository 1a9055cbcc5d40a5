"""Image and mask files: found, checked and decoded."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

SPLITS = ("train", "val", "test")
SUFFIXES = (".png", ".jpg", ".jpeg")
IMAGE_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
MASK_MODES = ("1", "L", "LA", "RGB", "RGBA")
DARK, BRIGHT = 31, 224  # grey values between are neither, unless a mask has soft edges
FEW = 16  # a mask with more grey values has soft edges
MAX_PIXELS = 50_000_000  # 150 MB once decoded to RGB
IGNORED = 255  # in `Split.masks`


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


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images."""

    train: Split
    val: Split
    test: Split


def read_splits(root: str | Path, size: tuple[int, int], ignore_value: int | None = None) -> Splits:
    """Reads `root`/{train,val,test}/{img,mask}/NAME.{png,jpg}.

    Images and masks are paired by stem. Images are resized bilinearly, masks to the nearest
    pixel; grey values above half are foreground.

    Args:
        root: The folder.
        size: Height and width to resize to, in pixels.
        ignore_value: Grey value in masks, 0..255, of pixels that are neither foreground nor
            background. Defaults to None: there are none.

    Returns:
        The three splits, images in the order of their names.

    Raises:
        FileNotFoundError: A folder, an image's mask, or a mask's image does not exist.
        ValueError: A split is empty, a file cannot be read to its end, a mask and its image
            differ in size, or two files have the same stem; the message names the file.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(
            f"Data folder {root} does not exist. Expected {root}/{{train,val,test}}/{{img,mask}}/"
        )
    return Splits(**{name: read_split(root / name, size, ignore_value) for name in SPLITS})


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


def read_split(folder: Path, size: tuple[int, int], ignore_value: int | None = None) -> Split:
    """Reads one split, `folder`/{img,mask}/NAME.{png,jpg}; see `read_splits`."""
    images, masks = _files(folder / "img"), _files(folder / "mask")
    for stem in sorted(images.keys() ^ masks.keys()):
        present, missing = (images, "mask") if stem in images else (masks, "img")
        raise FileNotFoundError(f"{present[stem]} has no partner {stem}.* in {folder / missing}")
    if not images:
        raise ValueError(f"{folder / 'img'} holds no image (expected {', '.join(SUFFIXES)})")
    names = tuple(sorted(images))
    read = partial(_read_pair, size=size, ignore_value=ignore_value)
    pairs = _each(read, [images[name] for name in names], [masks[name] for name in names])
    pictures, labels = (np.stack(arrays) for arrays in zip(*pairs, strict=True))
    if not (labels == 1).any():
        values = np.unique(np.asarray(_open(masks[names[0]], "L", MASK_MODES)))
        raise ValueError(
            f"No mask in {folder / 'mask'} has a pixel of 128 to 255: nothing is foreground. "
            f"{masks[names[0]].name} has the values {', '.join(map(str, values[:FEW]))}"
        )
    return Split(pictures, labels, names)


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
        if path.stem in files:
            raise ValueError(f"{files[path.stem]} and {path} have the same stem: keep one")
        files[path.stem] = path
    return files


def _each(read: Callable, *files: Sequence[Path]) -> Iterator:
    """Reads files on several threads, in order; in parts, because each job takes 2 KB."""
    with ThreadPoolExecutor() as pool:
        for start in range(0, len(files[0]), 1000):
            yield from pool.map(read, *(column[start : start + 1000] for column in files))


def _read_pair(image: Path, mask: Path, *, size: tuple[int, int], ignore_value: int | None):
    """Returns an image (height, width, 3) and its mask (height, width, 1), uint8."""
    picture, label = _open(image, "RGB", IMAGE_MODES), _open(mask, "L", MASK_MODES)
    if picture.size != label.size:
        raise ValueError(
            f"{mask} is {label.width}x{label.height} pixels, its image {image.name} "
            f"{picture.width}x{picture.height}: they must be the same"
        )
    from PIL import Image

    values = np.unique(np.asarray(label))
    known = values if ignore_value is None else values[values != ignore_value]
    between = known[(known > DARK) & (known < BRIGHT)]
    # With soft edges, some pixels would have the value to ignore by chance.
    if len(between) and (len(values) <= FEW or ignore_value is not None):
        listed = ", ".join(map(str, values[:FEW])) + (", ..." if len(values) > FEW else "")
        besides = "" if ignore_value is None else f" besides {ignore_value}, which is ignored"
        raise ValueError(
            f"{mask} has the values {listed}: expected two{besides}, dark for background and "
            "bright for foreground. Map the others to 0 or 255, or give one as data.ignore_value"
        )
    values = np.asarray(label.resize(size[::-1], Image.Resampling.NEAREST))
    labels = (values > 127).astype(np.uint8)
    if ignore_value is not None:
        labels[values == ignore_value] = IGNORED
    return _resized(picture, size), labels[..., None]


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
                return ImageOps.exif_transpose(image).convert(mode)  # upright, as viewers show it
            received = image.mode
    # What Pillow's decoders raise on damaged files.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as an image: {error}") from error
    raise ValueError(
        f"{path} has Pillow's mode {received}, where {', '.join(modes)} can be read: convert it to "
        "8 bits of grey or RGB"
    )
