"""Images and masks of one split, and of three."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from training.class_masks import IGNORED
from training.disk_array import DiskArray
from training.pairs import SPLITS
from training.scaling import EIGHT_BITS, Scaling

PART = 64  # images that are looked at together


@dataclass(frozen=True)
class Split:
    """One split, decoded.

    Attributes:
        images: (images, height, width, channels), uint8, or float32 of files with more than 8 bits.
        masks: (images, height, width, 1), uint8: 1 is foreground, 0 background, or the number of
            one of several classes; IGNORED is neither learned nor scored.
        names: The files' stems, in the order of the images.
        scaling: How their values become a network's input.
    """

    images: np.ndarray | DiskArray
    masks: np.ndarray | DiskArray
    names: tuple[str, ...]
    scaling: Scaling = EIGHT_BITS

    @property
    def inputs(self) -> np.ndarray:
        """All images as a network takes them, (images, height, width, channels), float32."""
        return self.scaling(self.images)

    def __len__(self) -> int:
        """Returns the number of images."""
        return len(self.images)

    def __getitem__(self, part: slice) -> "Split":
        """Returns some of the images, in memory."""
        images, masks = self.images[part], self.masks[part]
        return Split(images, masks, self.names[part], self.scaling)

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of pixels of each label, (256,)."""
        counts = np.zeros(256, int)
        for first in range(0, len(self), PART):
            counts += np.bincount(self.masks[first : first + PART].ravel(), minlength=256)
        return counts

    @property
    def is_all_scored(self) -> bool:
        """Whether no pixel is ignored."""
        return not self.counts[IGNORED]

    @property
    def foreground(self) -> float:
        """Fraction of the scored pixels that are foreground, 0..1."""
        return float(self.counts[1] / max(self.counts[:IGNORED].sum(), 1))


@dataclass(frozen=True)
class Splits:
    """Training, validation and test images."""

    train: Split
    val: Split
    test: Split


def class_shares(splits: Splits, classes: Sequence[str] = ()) -> str:
    """Says how much of each split's scored pixels each class has.

    Args:
        splits: The splits.
        classes: Names of several classes. Defaults to none: foreground and background.
    """
    if not classes:
        shares = (f"{name} {100 * getattr(splits, name).foreground:.1f} %" for name in SPLITS)
        return f"Foreground: {', '.join(shares)} of the pixels"
    lines = []
    for name in SPLITS:
        counts = getattr(splits, name).counts[: len(classes)]
        parts = zip(classes, 100 * counts / max(counts.sum(), 1), strict=True)
        lines.append(f"{name}: " + ", ".join(f"{each} {share:.1f} %" for each, share in parts))
    return "Pixels of each class, " + "; ".join(lines)
