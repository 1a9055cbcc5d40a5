"""What a mask file says: read where it can only be two classes, else refused by its values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from training.mask_options import Colour, MaskOptions
from training.pictures import open_picture
from training.two_classes import two_classes

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16")
IGNORED = 255  # in labels: neither foreground nor background
LISTED = 16  # values or colours that a message lists


@dataclass(frozen=True)
class Mask:
    """One mask, decoded.

    Attributes:
        labels: (height, width), uint8: 1 is foreground, 0 background, IGNORED is neither.
        bright: The value that stands for foreground in this file, 1 or 255; None if it has
            no foreground, or the options name it.
    """

    labels: np.ndarray
    bright: int | None


def read_mask(path: Path, options: MaskOptions) -> Mask:
    """Reads one mask file.

    A file is read if it holds two classes: 0 and 255 or two other greys of which one is nearly
    black and one nearly white, also with soft edges or the noise of JPEG around both; or 0 and
    1. Everything else needs the options.

    Raises:
        ValueError: The file cannot be read, or not be understood; the message lists its values
            or colours as a viewer shows them, and names the option that would read it.
    """
    picture = _decode(path)
    if options.alpha == "mask":
        if picture.alpha is None:
            raise ValueError(f"{path} has no alpha channel, which data.alpha says is the mask")
        picture = _Picture(path, picture.lossy, picture.alpha, None, None, indexed=False)
    elif picture.alpha is not None and options.alpha is None:
        _check_alpha(picture, options)
    return _read(picture, options)


@dataclass(frozen=True)
class _Picture:
    """A mask file's pixels.

    Attributes:
        path: The file.
        lossy: Whether it is a JPEG.
        values: (height, width), integers: grey values or palette indices; None for colours.
        colours: (height, width, 3), uint8, as a viewer shows them; None for grey values.
        alpha: (height, width), uint8; None if all is opaque.
        indexed: Whether the values are indices of a palette.
    """

    path: Path
    lossy: bool
    values: np.ndarray | None
    colours: np.ndarray | None
    alpha: np.ndarray | None
    indexed: bool


def _decode(path: Path) -> _Picture:
    image = open_picture(path, MODES)
    lossy = image.info.get("lossy", False)
    alpha = None
    if "A" in image.mode or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        alpha = None if (alpha == 255).all() else alpha
    if image.mode in ("P", "PA"):
        values = np.asarray(image.getchannel(0) if image.mode == "PA" else image).astype(int)
        return _Picture(path, lossy, values, np.asarray(image.convert("RGB")), alpha, indexed=True)
    if image.mode in ("RGB", "RGBA"):
        colours = np.asarray(image)[..., :3]
        spread = np.ptp(colours.astype(int), axis=-1).max(initial=0)
        # JPEG rounds the greys of its three channels differently.
        if spread > (2 if lossy else 0):
            return _Picture(path, lossy, None, colours, alpha, indexed=False)
        return _Picture(path, lossy, colours[..., 1].astype(int), None, alpha, indexed=False)
    values = np.asarray(image.convert("L") if image.mode in ("1", "LA") else image).astype(int)
    if values.max(initial=0) > 255 and set(np.unique(values)) <= {0, 65535}:
        values = values // 257  # black and white in 16 bits
    return _Picture(path, lossy, values, None, alpha, indexed=False)


def _check_alpha(picture: _Picture, options: MaskOptions) -> None:
    """Refuses a file whose alpha channel may be the mask.

    Raises:
        ValueError: Alpha and colours do not give the same mask.
    """
    opaque = _Picture(picture.path, picture.lossy, picture.alpha, None, None, indexed=False)
    try:
        same = np.array_equal(_read(opaque, MaskOptions()).labels, _read(picture, options).labels)
    except ValueError:
        same = False
    if not same:
        assert picture.alpha is not None
        raise ValueError(
            f"{picture.path} has an alpha channel with the values {_listed(picture.alpha)}, and "
            f"{_seen(picture)}. Set data.alpha to mask if the shape is in the alpha channel, or "
            "to ignore if it is in the colours"
        )


def _read(picture: _Picture, options: MaskOptions) -> Mask:
    if options.foreground is None:
        return _understand(picture, options)
    exact = picture
    if picture.values is not None and not picture.indexed:
        snapped = two_classes(picture.values, lossy=picture.lossy)
        if snapped is not None and snapped.soft:
            values = np.where(snapped.labels, snapped.bright, snapped.dark)
            exact = _Picture(picture.path, picture.lossy, values, None, None, indexed=False)
        elif picture.lossy and snapped is None:
            _refuse_exact(picture)
    elif picture.lossy:
        _refuse_exact(picture)
    labels = _any_of(exact, options.foreground).astype(np.uint8)
    labels[_any_of(exact, options.ignore)] = IGNORED
    return Mask(labels, None)


def _refuse_exact(picture: _Picture) -> None:
    raise ValueError(
        f"{picture.path} is a JPEG, which keeps no exact values: data.foreground cannot pick any. "
        f"It has {_seen(picture)}. Store masks as PNG"
    )


def _understand(picture: _Picture, options: MaskOptions) -> Mask:
    """Reads a file without `foreground`.

    Raises:
        ValueError: It does not hold two classes.
    """
    values = _shown_greys(picture)
    ignored = _any_of(picture, options.ignore)
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


def _shown_greys(picture: _Picture) -> np.ndarray | None:
    """Returns the grey values that a viewer shows, (height, width); None if it shows colours."""
    if not picture.indexed:
        return picture.values
    assert picture.colours is not None
    colours = picture.colours.astype(int)
    return colours[..., 0] if not np.ptp(colours, axis=-1).any() else None


def _any_of(picture: _Picture, wanted: Sequence[int | Colour]) -> np.ndarray:
    """Returns where a picture has one of some values or colours, (height, width), bool."""
    values, colours = picture.values, picture.colours
    shown = values if values is not None else colours
    assert shown is not None
    found = np.zeros(shown.shape[:2], bool)
    for value in wanted:
        if isinstance(value, int):
            found |= False if values is None else values == value
        elif colours is not None:
            found |= (colours == np.array(value)).all(axis=-1)
        elif len(set(value)) == 1:  # a grey, written as a colour
            found |= values == value[0]
    return found


def _unclear(picture: _Picture, options: MaskOptions) -> str:
    besides = ""
    if options.ignore:
        besides = f" besides {', '.join(map(_written, options.ignore))}, which is ignored"
    return (
        f"{picture.path} has {_seen(picture)}: expected two{besides}, black for background and "
        "white for foreground. Name those of the foreground as data.foreground, and those that "
        "are not scored as data.ignore"
    )


def _seen(picture: _Picture) -> str:
    """Lists what a viewer shows."""
    if picture.colours is None:
        assert picture.values is not None
        return f"the values {_listed(picture.values)}"
    pixels = picture.colours.reshape(-1, 3)
    if not picture.indexed:
        return f"the colours {_listed_rows(pixels)}"
    assert picture.values is not None
    indexed = np.concatenate([picture.values.reshape(-1, 1), pixels], axis=1)
    return f"the palette entries {_listed_rows(indexed)}"


def _listed(values: np.ndarray) -> str:
    return _listed_rows(values.reshape(-1, 1))


def _listed_rows(rows: np.ndarray) -> str:
    """Lists distinct rows in order, the most frequent ones if there are many."""
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    frequent = np.sort(np.argsort(-counts, kind="stable")[:LISTED])
    listed = ", ".join(_written(row.tolist()) for row in distinct[frequent])
    return listed + (f", ... ({len(distinct)} in all)" if len(distinct) > LISTED else "")


def _written(value: int | Sequence[int]) -> str:
    """Writes a value as the configuration would: 5, [128, 0, 0], or 1 [128, 0, 0] in a palette."""
    if isinstance(value, int):
        return str(value)
    row = list(value)
    if len(row) == 1:
        return str(row[0])
    return str(row) if len(row) == 3 else f"{row[0]} {row[1:]}"
