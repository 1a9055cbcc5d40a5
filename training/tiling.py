"""Large images as overlapping tiles, and the tiles' predictions as one array again."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np


@dataclass(frozen=True)
class Axis:
    """How an image is cut into tiles in one direction.

    Attributes:
        size: Pixels of the image.
        tile: Pixels of a tile.
        starts: Where the tiles begin.
        margin: Pixels at a tile's ends that its border affects; None if that is unknown.
    """

    size: int
    tile: int
    starts: tuple[int, ...]
    margin: int | None = None

    @property
    def padded(self) -> int:
        """Pixels that the tiles cover together, at least `size`."""
        return self.starts[-1] + self.tile


@dataclass(frozen=True)
class Tiling:
    """How an image is cut into tiles, row by row."""

    rows: Axis
    columns: Axis

    def __len__(self) -> int:
        """Returns the number of tiles."""
        return len(self.rows.starts) * len(self.columns.starts)

    @property
    def is_padded(self) -> bool:
        """Whether the image is smaller than a tile."""
        return any(axis.size < axis.tile for axis in (self.rows, self.columns))


def plan_axis(
    size: int, tile: int, overlap: int, *, stride: int = 1, margin: int | None = None
) -> Axis:
    """Places tiles in one direction.

    Tiles begin at multiples of the stride, and together they are longer than one tile by a
    multiple of it, so that the network pools and pads a tile as it does the whole image. The image
    is extended to that length.

    Args:
        size: Pixels of the image.
        tile: Pixels of a tile.
        overlap: Fewest pixels that neighbours share.
        stride: Product of the network's pooling factors. Defaults to 1.
        margin: Pixels at a tile's ends that its border affects: the radius of the receptive field.
            Defaults to None: unknown.

    Raises:
        ValueError: The tiles would not move on.

    Example:
        >>> plan_axis(100, 40, 8, stride=4).starts
        (0, 32, 60)
        >>> plan_axis(30, 40, 8, stride=4).starts
        (0,)
    """
    step = (tile - overlap) // stride * stride
    if overlap < 0 or step < 1:
        raise ValueError(
            f"Expected an overlap of 0 to {max(tile - stride, 0)} pixels: tiles have {tile}, and "
            f"move on by multiples of {stride}. Received: {overlap}"
        )
    last = -(-max(size - tile, 0) // stride) * stride
    return Axis(size, tile, (*range(0, last, step), last), margin)


def cut(image: np.ndarray, tiling: Tiling) -> Iterator[np.ndarray]:
    """Yields an image's tiles row by row, (tile height, tile width, channels).

    Args:
        image: (height, width, channels), extended by reflection where the tiles exceed it.
        tiling: As planned for its size.
    """
    rows, columns = tiling.rows, tiling.columns
    more = ((0, rows.padded - rows.size), (0, columns.padded - columns.size), (0, 0))
    padded = np.pad(image, more, mode="reflect")
    for top in rows.starts:
        for left in columns.starts:
            yield padded[top : top + rows.tile, left : left + columns.tile]


def merge(tiles: Iterable[np.ndarray], tiling: Tiling) -> np.ndarray:
    """Puts tiles together, (height, width, channels).

    Where neighbours overlap by two margins or more, each pixel comes from a tile whose border does
    not affect it. Elsewhere one tile fades into the next.

    Args:
        tiles: In the order of `cut`; finite values of any number of channels.
        tiling: As for `cut`.

    Example:
        >>> image = np.arange(35.0).reshape(7, 5, 1)
        >>> tiling = Tiling(plan_axis(7, 4, 1), plan_axis(5, 3, 2))
        >>> bool((merge(cut(image, tiling), tiling) == image).all())
        True
    """
    remaining, count = iter(tiles), len(tiling.columns.starts)

    def strips() -> Iterator[np.ndarray]:
        for _ in tiling.rows.starts:
            row = (np.moveaxis(tile, 1, 0) for tile in islice(remaining, count))
            yield np.moveaxis(_joined(row, tiling.columns), 0, 1)

    return _joined(strips(), tiling.rows)


def weights(overlap: int, margin: int | None) -> np.ndarray:
    """Returns how much the later of two tiles counts at each pixel that they share, (overlap,).

    Args:
        overlap: Number of these pixels.
        margin: As for `plan_axis`.

    Example:
        >>> weights(4, 2).tolist(), weights(4, 1).tolist()
        ([0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 1.0])
        >>> [round(float(share), 2) for share in weights(4, None)]
        [0.04, 0.31, 0.69, 0.96]
    """
    if _is_hard(overlap, margin):
        return (np.arange(overlap) >= overlap // 2).astype(np.float32)
    places = (np.arange(overlap) + 0.5) / overlap
    return (np.sin(np.pi / 2 * places) ** 2).astype(np.float32)


def _is_hard(overlap: int, margin: int | None) -> bool:
    return margin is not None and overlap >= 2 * margin


def _joined(parts: Iterable[np.ndarray], axis: Axis) -> np.ndarray:
    """Puts parts together along their first dimension."""
    whole, end = np.empty(0), 0
    for start, part in zip(axis.starts, parts, strict=True):
        if not end:
            whole = np.empty((axis.padded, *part.shape[1:]), part.dtype)
        shared = max(end - start, 0)
        whole[start:end] = _mixed(whole[start:end], part[:shared], weights(shared, axis.margin))
        end = start + axis.tile
        whole[start + shared : end] = part[shared:]
    return whole[: axis.size]


def _mixed(first: np.ndarray, second: np.ndarray, shares: Sequence[float] | np.ndarray):
    """Mixes two arrays by their first dimension; equal values stay exactly as they are."""
    shares = np.reshape(shares, (-1, *(1,) * (first.ndim - 1)))
    return np.where(shares == 1, second, first + shares * (second - first))
