"""Whether the masks of a data set count their classes alike, and show enough of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from training.masks import Mask


class MaskAgreement:
    """Compares each mask with those before it."""

    def __init__(self) -> None:
        self._brights: dict[int, Path] = {}  # {value that stands for foreground: a file}
        self._palette: dict[int, tuple[tuple[int, ...], Path]] = {}

    def check(self, path: Path, mask: Mask) -> None:
        """Adds a mask.

        Raises:
            ValueError: It counts its classes differently than an earlier one.
        """
        if mask.bright is not None:
            self._brights.setdefault(mask.bright, path)
        if len(self._brights) > 1:
            raise ValueError(
                f"Foreground is 1 in {self._brights[1]} and 255 in {self._brights[255]}: masks of "
                "class numbers look like that. Name the values of the foreground as "
                "data.foreground, and those that are not scored as data.ignore"
            )
        for index, colour in mask.palette.items():
            first, other = self._palette.setdefault(index, (colour, path))
            if first != colour:
                raise ValueError(
                    f"Palette index {index} is {list(first)} in {other} and {list(colour)} in "
                    f"{path}: the same index may stand for two classes. Give each class its "
                    "colours as data.colours, or save the masks with one palette"
                )


def check_classes_present(counts: np.ndarray, place: str, classes: Sequence[str]) -> None:
    """Refuses a split from which nothing can be learned or told.

    Args:
        counts: Number of pixels of each label, (256,).
        place: Where its masks come from.
        classes: Names of several classes; none: foreground and background.

    Raises:
        ValueError: All scored pixels are of one class.
    """
    names = classes or ("background", "foreground")
    present = [name for label, name in enumerate(names) if counts[label]]
    if len(present) < 2:
        only = present[0] if present else "ignored"
        key = "of each class as data.colours" if classes else "of the foreground as data.foreground"
        raise ValueError(
            f"The masks in {place} are all {only}: nothing can be learned from them, or told. "
            f"If they are not, name the values {key}"
        )
