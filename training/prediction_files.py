"""Files of predictions: their names, checked before anything is predicted, and their content."""

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from monitoring.records.files import whole_file
from training.palette import COLOURS, class_colours, legend, legend_width

MASKS, PROBABILITIES, OVERLAYS = KINDS = ("masks", "probabilities", "overlays")
ENDINGS = {MASKS: ".png", PROBABILITIES: ".npy", OVERLAYS: ".overlay.png"}
FOREGROUND = "foreground"
SHARE = 0.5  # of the class's colour in an overlay


def plan_files(
    images: Sequence[Path], folder: Path, kinds: Sequence[str], *, overwrite: bool = False
) -> list[dict[str, Path]]:
    """Returns the files of each image, {kind: file}; nothing is written.

    Args:
        images: The images.
        folder: Where the files go.
        kinds: Which of `KINDS`.
        overwrite: Whether files that exist are replaced. Defaults to False.

    Raises:
        ValueError: Two images would have the same file; a file exists, or is one of the images.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"--output: expected a folder. Received: {folder}, which is a file")
    originals = {image.resolve() for image in images}
    owners: dict[str, Path] = {}
    plans = []
    for image in images:
        files = {kind: folder / f"{image.stem}{ENDINGS[kind]}" for kind in kinds}
        for file in files.values():
            other = owners.setdefault(unicodedata.normalize("NFC", file.name), image)
            if other != image:
                raise ValueError(f"{other} and {image} would both become {file}: rename one")
            if file.resolve() in originals:
                raise ValueError(f"{file} is one of the images: give another --output")
            check_new(file, overwrite=overwrite)
        plans.append(files)
    return plans


def check_new(file: Path, *, overwrite: bool) -> None:
    """Raises a ValueError for a file that exists, unless it may be replaced."""
    if file.exists() and not overwrite:
        raise ValueError(f"{file} exists already: give --overwrite, or another --output")


def write_prediction(
    files: Mapping[str, Path],
    image: np.ndarray,
    labels: np.ndarray,
    probabilities: np.ndarray,
    classes: Sequence[str] = (),
) -> None:
    """Writes what is predicted of an image, each file whole or not at all.

    Args:
        files: {kind: file}.
        image: (height, width, 3), uint8.
        labels: (height, width), the number of each pixel's class, or whether it is foreground.
        probabilities: (height, width, channels), float32.
        classes: Names of several classes. Defaults to none: foreground and background.
    """
    from PIL import Image

    for kind, file in files.items():
        with whole_file(file) as draft:
            if kind == PROBABILITIES:
                np.save(draft, probabilities, allow_pickle=False)
            elif kind == MASKS:
                values = labels if classes else 255 * labels.astype(np.uint8)
                Image.fromarray(values.astype(np.uint8)).save(draft)
            else:
                overlay(image, labels, classes).save(draft)


def overlay(image: np.ndarray, labels: np.ndarray, classes: Sequence[str] = ()):
    """Returns a picture of an image under the colours of its classes, above a legend.

    Background of two classes stays as it is. The picture is wider than the image where the legend
    needs it.

    Args:
        image: (height, width, 3), uint8.
        labels: (height, width), as for `write_prediction`.
        classes: Names of several classes. Defaults to none: foreground and background.
    """
    from PIL import Image

    names = classes or (FOREGROUND,)
    colours = class_colours(len(names)) if classes else np.array([COLOURS[1]], np.uint8)
    painted = colours[labels.astype(int) if classes else np.zeros(labels.shape, int)]
    mixed = np.round(image * (1 - SHARE) + painted * SHARE).astype(np.uint8)
    shown = mixed if classes else np.where(labels[..., None].astype(bool), mixed, image)
    height, width = image.shape[:2]
    below = legend(names, max(width, legend_width(names)), colours)
    picture = Image.new("RGB", (below.width, height + below.height), "white")
    picture.paste(Image.fromarray(shown), (0, 0))
    picture.paste(below, (0, height))
    return picture
