"""Colours of classes that people with any colour vision tell apart, and pictures in them."""

from collections.abc import Sequence

import numpy as np

# Okabe and Ito 2008, https://jfly.uni-koeln.de/color/, as in matplotlib and R; black comes first,
# as most data sets begin with the background.
COLOURS = (
    *((0, 0, 0), (230, 159, 0), (86, 180, 233), (0, 158, 115)),
    *((240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)),
)
UNSCORED = (128, 128, 128)
ROW, SWATCH, GAP = 18, 12, 10  # of a legend, in pixels
GOLDEN = 0.618033988749895  # of a turn: hues that follow each other this way are far apart


def class_colours(count: int) -> np.ndarray:
    """Returns a colour for each class, (count, 3), uint8.

    Beyond eight, for which the palette is made, they repeat its hues in other brightnesses and are
    no longer told apart by everybody.

    Example:
        >>> class_colours(2).tolist()
        [[0, 0, 0], [230, 159, 0]]
    """
    base = np.array(COLOURS, float)
    rows = []
    for number in range(count):
        cycle, index = divmod(number, len(COLOURS))
        weight = 0.0 if cycle == 0 else 0.25 + 0.5 * (cycle * GOLDEN % 1)
        rows.append(base[index] * (1 - weight) + 255 * weight)
    return np.round(rows).astype(np.uint8)


def coloured(labels: np.ndarray, count: int) -> np.ndarray:
    """Returns a picture of classes, (height, width, 3), uint8; what is not scored is grey.

    Args:
        labels: (height, width), uint8.
        count: Number of classes.
    """
    colours = np.concatenate([class_colours(count), np.array([UNSCORED], np.uint8)])
    return colours[np.minimum(labels, count)]


def legend(classes: Sequence[str], width: int, colours: np.ndarray | None = None):
    """Returns a picture of each class's colour and name.

    Args:
        classes: Their names.
        width: Of the picture, in pixels.
        colours: (classes, 3), uint8. Defaults to None: `class_colours`.
    """
    from PIL import Image, ImageDraw

    colours = class_colours(len(classes)) if colours is None else colours
    places, x, y = [], 2, 3
    for name in classes:
        needed = _entry_width(name)
        if x + needed > width and x > 2:
            x, y = 2, y + ROW
        places.append((x, y))
        x += needed
    picture = Image.new("RGB", (width, y + ROW), "white")
    pen = ImageDraw.Draw(picture)
    for (x, y), colour, name in zip(places, colours, classes, strict=True):
        pen.rectangle((x, y, x + SWATCH, y + SWATCH), tuple(colour.tolist()), outline="black")
        pen.text((x + SWATCH + 4, y), name, fill="black")
    return picture


def legend_width(classes: Sequence[str]) -> int:
    """Returns the width at which a legend shows each name whole, in pixels."""
    return 2 + max(map(_entry_width, classes))


def _entry_width(name: str) -> int:
    """Returns the width of a class in a legend, and of the gap after it."""
    from PIL import Image, ImageDraw

    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    return SWATCH + 4 + int(pen.textlength(name)) + GAP


def confusion_picture(counts: np.ndarray, classes: Sequence[str]):
    """Draws a confusion matrix: the share of each true class that is predicted as each class.

    Args:
        counts: (classes, classes), numbers of pixels; a row per true class.
        classes: Names of the classes.
    """
    from PIL import Image, ImageDraw

    cell, gap = 56, 6
    pen = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    room = max(int(pen.textlength(name)) for name in classes) + 2 * gap
    size = room + cell * len(classes)
    picture = Image.new("RGB", (size + gap, size + gap + 16), "white")
    pen = ImageDraw.Draw(picture)
    pen.text((gap, gap), "true class, rows; predicted class, columns; % of the true", fill="black")
    top = room + 16
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    for row, name in enumerate(classes):
        pen.text((gap, top + cell * row + cell // 2 - 6), name, fill="black")
        heading = Image.new("RGB", (room, 14), "white")
        ImageDraw.Draw(heading).text((0, 1), name, fill="black")
        turned = heading.rotate(90, expand=True)
        picture.paste(turned, (room + cell * row + cell // 2 - 7, 16))
        for column, share in enumerate(shares[row]):
            x, y = room + cell * column, top + cell * row
            shade = tuple(round(255 - share * (255 - part)) for part in COLOURS[5])
            pen.rectangle((x, y, x + cell - 2, y + cell - 2), shade)
            text = f"{100 * share:.1f}"
            pen.text((x + gap, y + cell // 2 - 6), text, fill="white" if share > 0.5 else "black")
    return picture
