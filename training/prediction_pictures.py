"""Pictures of what a network predicts, beside the images and their masks."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monitoring.records.files import whole_file
from monitoring.records.run_files import CONFUSION, CONFUSION_PICTURE
from training.class_masks import IGNORED
from training.evaluate import counted
from training.palette import coloured, confusion_picture, legend
from training.pixels import shown

ENLARGEMENT = 3  # pixels in the picture for each pixel of an image
MARGIN = 4
HEADINGS = ("input", "mask", "prediction", "errors")
HEADING = 16  # pixels
FALSE = (255, 70, 60)  # predicted, and wrong


def spread_over(length: int, count: int) -> np.ndarray:
    """Returns `count` numbers evenly spread over a length, all if it has no more.

    Example:
        >>> spread_over(9, 3).tolist()
        [0, 4, 8]
    """
    return np.linspace(0, length - 1, min(count, length)).round().astype(int)


def draw_predictions(
    path: Path,
    images: np.ndarray,
    masks: np.ndarray,
    predicted: np.ndarray,
    classes: Sequence[str] = (),
) -> None:
    """Draws images and what is predicted for them, one row per image, as PNG.

    Classes have the colours of the legend below. In the last column, missed foreground is blue and
    falsely predicted foreground red; of several classes, every wrong pixel is red. Ignored pixels
    are grey in the masks.

    Args:
        path: The file.
        images: (images, height, width, channels), as a split has them.
        masks: Their masks, (images, height, width, 1).
        predicted: The class of each pixel, likewise.
        classes: Names of several classes. Defaults to none: foreground and background.
    """
    from PIL import Image, ImageDraw

    panels = [
        _class_panels(shown(image), mask, labels, len(classes))
        if classes
        else _panels(shown(image), mask, labels)
        for image, mask, labels in zip(images, masks, predicted, strict=True)
    ]
    rows = [_row(each) for each in panels]
    height, width = rows[0].shape[:2]
    names = legend(classes, width) if classes else None
    below = names.height if names else 0
    canvas = Image.new("RGB", (width, HEADING + len(rows) * (height + MARGIN) + below), "white")
    for number, row in enumerate(rows):
        canvas.paste(Image.fromarray(row), (0, HEADING + number * (height + MARGIN)))
    if names:
        canvas.paste(names, (0, canvas.height - below))
    pen = ImageDraw.Draw(canvas)
    for column, text in enumerate(HEADINGS):
        pen.text((column * (width + MARGIN) // len(HEADINGS) + 2, 2), text, fill="black")
    with whole_file(path) as draft:
        canvas.save(draft)


def write_confusion(
    folder: Path, confusion: Sequence[Sequence[int]], classes: Sequence[str]
) -> None:
    """Writes a confusion matrix as confusion.csv, in pixels, and as confusion.png, in per cent.

    Args:
        folder: A run's folder.
        confusion: A row per true class, a column per predicted one.
        classes: Names of the classes.
    """
    with (
        whole_file(folder / CONFUSION) as draft,
        draft.open("w", newline="", encoding="utf-8") as f,
    ):
        writer = csv.writer(f)
        writer.writerow(["true \\ predicted", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, confusion, strict=True))
    picture = confusion_picture(np.array(confusion), classes)
    with whole_file(folder / CONFUSION_PICTURE) as draft:
        picture.save(draft)


def _panels(image: np.ndarray, mask: np.ndarray, predicted: np.ndarray) -> list[np.ndarray]:
    """Returns input, mask, prediction and errors, (height, width, 3)."""
    predicted, wanted, other = counted(predicted.astype(bool), mask)
    errors = image // 3 + 85 * wanted.astype(np.uint8)
    errors = np.where(wanted & ~predicted, np.array([60, 120, 255], np.uint8), errors)
    errors = np.where(predicted & other, np.array(FALSE, np.uint8), errors)
    white = np.array([255, 255, 255], np.uint8)
    shown = white * wanted + white // 2 * ~(wanted | other)
    return [image, shown, predicted * white, errors]


def _class_panels(
    image: np.ndarray, mask: np.ndarray, predicted: np.ndarray, count: int
) -> list[np.ndarray]:
    """Returns the same of several classes."""
    is_wrong = (predicted != mask) & (mask != IGNORED)
    errors = np.where(is_wrong, np.array(FALSE, np.uint8), image // 3)
    colours = (coloured(labels[..., 0], count) for labels in (mask, predicted))
    return [image, *colours, errors]


def _row(panels: Sequence[np.ndarray]) -> np.ndarray:
    """Returns panels side by side, enlarged."""
    gap = np.full((panels[0].shape[0] * ENLARGEMENT, MARGIN, 3), 255, np.uint8)
    parts = []
    for panel in panels:
        parts += [panel.repeat(ENLARGEMENT, axis=0).repeat(ENLARGEMENT, axis=1), gap]
    return np.concatenate(parts[:-1], axis=1).astype(np.uint8)
