"""Masks of several classes: class numbers, palette indices, or colours of a table."""

import numpy as np

from training.mask_options import MaskOptions
from training.mask_pictures import MaskPicture, any_of, listed_pixels

IGNORED = 255  # in labels: not scored


def class_labels(picture: MaskPicture, options: MaskOptions) -> np.ndarray:
    """Returns the number of each pixel's class, (height, width), uint8; IGNORED: not scored.

    Args:
        picture: The file's pixels.
        options: With classes and perhaps their colours.

    Raises:
        ValueError: The file keeps no exact values, or some belong to no class; the message lists
            them, and names the option that would read the file.
    """
    if picture.lossy:
        raise ValueError(
            f"{picture.path} is a JPEG, which keeps no exact values, so that classes cannot be "
            "told apart. Store masks as PNG"
        )
    labels = np.full(_shape(picture), IGNORED, np.uint8)
    ignored = any_of(picture, options.ignore)
    unknown = ~ignored
    for number, name in enumerate(options.classes):
        pixels = any_of(picture, options.colours.get(name, [number]))
        labels[pixels & ~ignored] = number
        unknown &= ~pixels
    if unknown.any():
        raise ValueError(_advice(picture, unknown, options))
    return labels


def class_palette(picture: MaskPicture, options: MaskOptions) -> dict[int, tuple[int, ...]]:
    """Returns {palette index: its colour} of the indices that are read as classes.

    Two files whose indices have different colours may count their classes differently.
    """
    if not picture.indexed or picture.values is None or picture.colours is None:
        return {}
    wanted = [*(options.foreground or ()), *(v for vs in options.colours.values() for v in vs)]
    if options.classes and not options.colours:
        wanted = list(range(len(options.classes)))
    used, first = np.unique(picture.values, return_index=True)
    colours = picture.colours.reshape(-1, 3)[first].tolist()
    return {
        int(index): tuple(colour)
        for index, colour in zip(used, colours, strict=True)
        if int(index) in wanted
    }


def _shape(picture: MaskPicture) -> tuple[int, ...]:
    pixels = picture.values if picture.values is not None else picture.colours
    assert pixels is not None
    return pixels.shape[:2]


def _advice(picture: MaskPicture, unknown: np.ndarray, options: MaskOptions) -> str:
    """Says which pixels belong to no class, and what would read them."""
    share = f"{100 * unknown.mean():.2g} % of its pixels"
    subject = f"{picture.path} has {listed_pixels(picture.only(unknown))} ({share})"
    if options.colours:
        return f"{subject}, which data.colours does not name: add them to a class or to data.ignore"
    if picture.values is None:
        return f"{subject}: give each class its colours as data.colours"
    last = len(options.classes) - 1
    return (
        f"{subject}: expected class numbers 0..{last}, as data.classes says. If there are more "
        "classes, raise it; name what is not labelled, often 255, as data.ignore"
    )
