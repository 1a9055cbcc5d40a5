"""A mask file's pixels, decoded, and how a message lists them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from training.mask_options import Colour
from training.pictures import open_picture

MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "I;16")
LISTED = 16  # values or colours that a message lists


@dataclass(frozen=True)
class MaskPicture:
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

    def only(self, pixels: np.ndarray) -> "MaskPicture":
        """Returns some of the pixels, in one row, for a message."""
        values, colours = (
            None if part is None else part[pixels][None] for part in (self.values, self.colours)
        )
        return replace(self, values=values, colours=colours, alpha=None)


def decode_mask(path: Path) -> MaskPicture:
    """Decodes a file.

    Raises:
        ValueError: It cannot be read, or is no picture of grey values or colours.
    """
    if path.suffix.lower() == ".npy":
        values = _load_labels(path)
        return MaskPicture(path, False, values, None, None, indexed=False)
    image = open_picture(path, MODES)
    lossy = image.info.get("lossy", False)
    alpha = None
    if "A" in image.mode or "transparency" in image.info:
        alpha = np.asarray(image.convert("RGBA").getchannel("A"))
        alpha = None if (alpha == 255).all() else alpha
    if image.mode in ("P", "PA"):
        values = np.asarray(image.getchannel(0) if image.mode == "PA" else image).astype(int)
        return MaskPicture(
            path, lossy, values, np.asarray(image.convert("RGB")), alpha, indexed=True
        )
    if image.mode in ("RGB", "RGBA"):
        colours = np.asarray(image)[..., :3]
        spread = np.ptp(colours.astype(int), axis=-1).max(initial=0)
        # JPEG rounds the greys of its three channels differently.
        if spread > (2 if lossy else 0):
            return MaskPicture(path, lossy, None, colours, alpha, indexed=False)
        return MaskPicture(path, lossy, colours[..., 1].astype(int), None, alpha, indexed=False)
    values = np.asarray(image.convert("L") if image.mode in ("1", "LA") else image).astype(int)
    if values.max(initial=0) > 255 and set(np.unique(values)) <= {0, 65535}:
        values = values // 257  # black and white in 16 bits
    return MaskPicture(path, lossy, values, None, alpha, indexed=False)


def _load_labels(path: Path) -> np.ndarray:
    """Reads an array of class numbers, (height, width)."""
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array: {error}") from error
    if values.ndim == 3 and values.shape[-1] == 1:
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "uib":
        raise ValueError(
            f"{path}: expected whole numbers, (height, width). Received: {values.dtype}, "
            f"{values.shape}"
        )
    return values.astype(int)


def any_of(picture: MaskPicture, wanted: Sequence[int | Colour]) -> np.ndarray:
    """Returns where a picture has one of some values or colours, (height, width), bool."""
    values, colours = picture.values, picture.colours
    shown = values if values is not None else colours
    assert shown is not None
    matches = np.zeros(shown.shape[:2], bool)
    for value in wanted:
        if isinstance(value, int):
            matches |= False if values is None else values == value
        elif colours is not None:
            matches |= (colours == np.array(value)).all(axis=-1)
        elif len(set(value)) == 1:  # a grey, written as a colour
            matches |= values == value[0]
    return matches


def listed_pixels(picture: MaskPicture) -> str:
    """Lists what a viewer shows."""
    if picture.colours is None:
        assert picture.values is not None
        return f"the values {listed_values(picture.values)}"
    pixels = picture.colours.reshape(-1, 3)
    if not picture.indexed:
        return f"the colours {_listed_rows(pixels)}"
    assert picture.values is not None
    indexed = np.concatenate([picture.values.reshape(-1, 1), pixels], axis=1)
    return f"the palette entries {_listed_rows(indexed)}"


def listed_values(values: np.ndarray) -> str:
    """Lists distinct values in order."""
    return _listed_rows(values.reshape(-1, 1))


def _listed_rows(rows: np.ndarray) -> str:
    """Lists distinct rows in order, the most frequent ones if there are many."""
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    frequent = np.sort(np.argsort(-counts, kind="stable")[:LISTED])
    listed = ", ".join(written_value(row.tolist()) for row in distinct[frequent])
    return listed + (f", ... ({len(distinct)} in all)" if len(distinct) > LISTED else "")


def written_value(value: int | Sequence[int]) -> str:
    """Writes a value as the configuration would: 5, [128, 0, 0], or 1 [128, 0, 0] in a palette."""
    if isinstance(value, int):
        return str(value)
    row = list(value)
    if len(row) == 1:
        return str(row[0])
    return str(row) if len(row) == 3 else f"{row[0]} {row[1:]}"
