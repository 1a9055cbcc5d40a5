"""A baseline that knows colour and place, and nothing of shape or texture.

It counts, for each bin of RGB and each cell of a coarse grid, how often a training pixel is
foreground, and answers by majority. A network that does no better has learned nothing.

    python tests/lookup_baseline.py [DATA_FOLDER]
"""

import sys
from itertools import product

import checkout  # noqa: F401
import numpy as np

from training.evaluate import evaluate
from training.images import read_splits
from training.split import Split, Splits
from training.synthetic import HEIGHT, WIDTH, synthetic_splits

COLOUR_BINS = (4, 8, 16, 32)
GRIDS = ((1, 1), (3, 4), (6, 8), (12, 16))


def lookup_iou(splits: Splits, colour_bins: int, grid: tuple[int, int]) -> float:
    """Returns the foreground IoU on the test split of the table made on the training split."""
    size = colour_bins**3 * grid[0] * grid[1]
    train, test = (_cells(split, colour_bins, grid) for split in (splits.train, splits.test))
    foreground = np.bincount(train, splits.train.masks.ravel(), size)
    seen = np.bincount(train, minlength=size)
    # A cell never seen is decided by the share of the whole split.
    share = (foreground + splits.train.masks.mean()) / (seen + 1)
    predicted = (share[test] > 0.5).reshape(splits.test.masks.shape)
    return evaluate(predicted, splits.test.masks).foreground_iou


def best_lookup_iou(splits: Splits) -> float:
    """Returns the best IoU over all bins and grids: chosen on the test split, in its favour."""
    return max(lookup_iou(splits, *choice) for choice in product(COLOUR_BINS, GRIDS))


def _cells(split: Split, colour_bins: int, grid: tuple[int, int]) -> np.ndarray:
    """Returns the number of each pixel's cell, flat."""
    height, width = split.images.shape[1:3]
    red, green, blue = np.moveaxis(split.images.astype(np.int64) * colour_bins // 256, -1, 0)
    row = (np.arange(height) * grid[0] // height)[None, :, None]
    column = (np.arange(width) * grid[1] // width)[None, None, :]
    colour = (red * colour_bins + green) * colour_bins + blue
    return ((colour * grid[0] + row) * grid[1] + column).ravel()


if __name__ == "__main__":
    folder = sys.argv[1] if len(sys.argv) > 1 else None
    images = read_splits(folder, (HEIGHT, WIDTH)) if folder else synthetic_splits()
    print(f"foreground IoU of the best lookup: {best_lookup_iou(images):.3f}")
