"""What a mask file says: its classes, or why it is refused, with its values."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from training.class_masks import IGNORED, class_labels, class_palette
from training.mask_options import MaskOptions
from training.mask_pictures import (
    MaskPicture,
    any_of,
    decode_mask,
    listed_pixels,
    listed_values,
    written_value,
)
from training.two_classes import two_classes


@dataclass(frozen=True)
class Mask:
    """One mask, decoded.

    Attributes:
        labels: (height, width), uint8: 1 is foreground, 0 background, or the number of one of
            several classes; IGNORED is not scored.
        bright: The value that stands for foreground in this file, 1 or 255; None if it has
            no foreground, or the options name it.
        palette: {palette index that is read as a class: its colour}; empty without a palette.
    """

    labels: np.ndarray
    bright: int | None = None
    palette: dict[int, tuple[int, ...]] = field(default_factory=dict)


def read_mask(path: Path, options: MaskOptions) -> Mask:
    """Reads one mask file.

    A file is read if it holds two classes: 0 and 255 or two other greys of which one is nearly
    black and one nearly white, also with soft edges or the noise of JPEG around both; or 0 and
    1. Everything else needs the options.

    Raises:
        ValueError: The file cannot be read, or not be understood; the message lists its values
            or colours as a viewer shows them, and names the option that would read it.
    """
    picture = decode_mask(path)
    if options.alpha == "mask":
        if picture.alpha is None:
            raise ValueError(f"{path} has no alpha channel, which data.alpha says is the mask")
        picture = MaskPicture(path, picture.lossy, picture.alpha, None, None, indexed=False)
    elif picture.alpha is not None and options.alpha is None:
        _check_alpha(picture, options)
    return _read(picture, options)


def _check_alpha(picture: MaskPicture, options: MaskOptions) -> None:
    """Refuses a file whose alpha channel may be the mask.

    Raises:
        ValueError: Alpha and colours do not give the same mask.
    """
    opaque = MaskPicture(picture.path, picture.lossy, picture.alpha, None, None, indexed=False)
    try:
        same = np.array_equal(_read(opaque, MaskOptions()).labels, _read(picture, options).labels)
    except ValueError:
        same = False
    if not same:
        assert picture.alpha is not None
        raise ValueError(
            f"{picture.path} has an alpha channel with the values "
            f"{listed_values(picture.alpha)}, and {listed_pixels(picture)}. Set data.alpha to mask "
            "if the shape is in the alpha channel, or to ignore if it is in the colours"
        )


def _read(picture: MaskPicture, options: MaskOptions) -> Mask:
    if options.classes:
        labels = class_labels(picture, options)
        return Mask(labels, palette=class_palette(picture, options))
    if options.foreground is None:
        return _understand(picture, options)
    exact = picture
    if picture.values is not None and not picture.indexed:
        snapped = two_classes(picture.values, lossy=picture.lossy)
        if snapped is not None and snapped.soft:
            values = np.where(snapped.labels, snapped.bright, snapped.dark)
            exact = MaskPicture(picture.path, picture.lossy, values, None, None, indexed=False)
        elif picture.lossy and snapped is None:
            _refuse_exact(picture)
    elif picture.lossy:
        _refuse_exact(picture)
    labels = any_of(exact, options.foreground).astype(np.uint8)
    labels[any_of(exact, options.ignore)] = IGNORED
    return Mask(labels, palette=class_palette(picture, options))


def _refuse_exact(picture: MaskPicture) -> None:
    raise ValueError(
        f"{picture.path} is a JPEG, which keeps no exact values: data.foreground cannot pick any. "
        f"It has {listed_pixels(picture)}. Store masks as PNG"
    )


def _understand(picture: MaskPicture, options: MaskOptions) -> Mask:
    """Reads a file without `foreground`.

    Raises:
        ValueError: It does not hold two classes.
    """
    values = _shown_greys(picture)
    ignored = any_of(picture, options.ignore)
    if values is None:
        raise ValueError(_unclear(picture, options))
    counted = values[~ignored]
    classes = None
    if not ignored.any():
        classes = two_classes(values, lossy=picture.lossy)
    elif not len(counted) or len(np.unique(counted)) <= 2:
        classes = two_classes(counted[None], lossy=picture.lossy)
    # With soft edges, some pixels would have a value to ignore by chance.
    if classes is None or (options.ignore and classes.soft):
        raise ValueError(_unclear(picture, options))
    labels = np.full(values.shape, IGNORED, np.uint8)
    labels[~ignored] = classes.labels.ravel()
    return Mask(labels, classes.bright if classes.labels.any() else None)


def _shown_greys(picture: MaskPicture) -> np.ndarray | None:
    """Returns the grey values that a viewer shows, (height, width); None if it shows colours."""
    if not picture.indexed:
        return picture.values
    assert picture.colours is not None
    colours = picture.colours.astype(int)
    return colours[..., 0] if not np.ptp(colours, axis=-1).any() else None


def _unclear(picture: MaskPicture, options: MaskOptions) -> str:
    besides = ""
    if options.ignore:
        besides = f" besides {', '.join(map(written_value, options.ignore))}, which is ignored"
    return (
        f"{picture.path} has {listed_pixels(picture)}: expected two{besides}, black for background "
        "and white for foreground. Name those of the foreground as data.foreground, and those that "
        "are not scored as data.ignore; for several classes, give data.classes"
    )
