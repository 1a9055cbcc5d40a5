"""From the values of an image file to a network's input."""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Scaling:
    """Maps an image's values to a network's input: (value - mean) / scale, in float32.

    Attributes:
        mean: The value that becomes 0, for each channel; None: 0..255 becomes -1..1.
        scale: The difference from it that becomes 1, for each channel; None like `mean`.

    Example:
        >>> Scaling()(np.array([0, 255], np.uint8)).tolist()
        [-1.0, 1.0]
        >>> Scaling((100.0, 0.0), (50.0, 1.0))(np.array([[150, 2]])).tolist()
        [[1.0, 2.0]]
    """

    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None

    def __call__(self, images: Any) -> np.ndarray:
        """Returns images (..., channels) as a network takes them."""
        images = np.asarray(images, np.float32)
        if self.mean is None:
            return (images / 255.0 - 0.5) / 0.5
        mean, scale = self._arrays()
        return (images - mean) / scale

    def levels(self, images: Any) -> Any:
        """Returns a tensor of images on the scale of 0..255 that the default scaling has.

        Args:
            images: A tensor of TensorFlow, in float32.
        """
        if self.mean is None:
            return images
        mean, scale = self._arrays()
        return ((images - mean) / scale + 1.0) * 127.5

    def _arrays(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.mean, np.float32), np.array(self.scale, np.float32)

    def normalization(self, channels: int) -> dict[str, list[float]]:
        """Returns mean and std of values that are divided by 255, as firmware takes them."""
        mean, scale = self.mean or (127.5,) * channels, self.scale or (127.5,) * channels
        return {"mean": [m / 255 for m in mean], "std": [s / 255 for s in scale]}


EIGHT_BITS = Scaling()
