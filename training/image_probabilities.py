"""A network's probabilities for an image of any size: resized to the network's, or in tiles."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from training.pixels import resize
from training.receptive_field import Geometry
from training.tiling import Tiling, cut, merge, plan_axis
from training.trained_network import TrainedNetwork

BATCH = 16  # tiles


def resized_probabilities(network: TrainedNetwork, image: np.ndarray) -> np.ndarray:
    """Returns probabilities at an image's size, (height, width, channels), float32.

    The image is resized to the network's size as in training, and the probabilities back.

    Args:
        network: The network.
        image: (height, width, channels), as read.
    """
    values = network.probabilities(resize(image, network.size)[None])[0]
    return values if values.shape[:2] == image.shape[:2] else resize(values, image.shape[:2])


@dataclass(frozen=True)
class Cutter:
    """Cuts images of any size into tiles of a network's size.

    Attributes:
        tile: Height and width of a tile.
        overlap: Fewest rows and columns that neighbours share.
        geometry: How the network sees an image.
    """

    tile: tuple[int, int]
    overlap: tuple[int, int]
    geometry: Geometry

    @classmethod
    def of(cls, network: TrainedNetwork, overlap: int | None = None) -> "Cutter":
        """Returns a network's.

        Raises:
            ValueError: Its outputs have another size than its inputs, or the overlap is impossible.
        """
        if network.returned[:2] != network.size:
            raise ValueError(
                f"{network.path} puts out {network.returned[0]}x{network.returned[1]} pixels for "
                f"images of {network.size[0]}x{network.size[1]}, which cannot be tiled: give "
                "--size resize"
            )
        seen, size = network.geometry(), network.size
        if overlap is None:
            halves = (size[0] // 2, size[1] // 2)
            reach = halves if seen.radius is None else tuple(2 * side for side in seen.radius)
            most = (size[0] - seen.stride[0], size[1] - seen.stride[1])
            wanted = (min(reach[0], halves[0], most[0]), min(reach[1], halves[1], most[1]))
        else:
            wanted = (overlap, overlap)
        cutter = cls(size, wanted, seen)
        cutter.tiling(*size)  # raises
        return cutter

    @property
    def is_exact(self) -> bool:
        """Whether no pixel comes from where the border of a tile affects it."""
        radius = self.geometry.radius
        return radius is not None and all(
            overlap >= 2 * reach for overlap, reach in zip(self.overlap, radius, strict=True)
        )

    def tiling(self, height: int, width: int) -> Tiling:
        """Returns how an image of this size is cut."""
        radius = self.geometry.radius or (None, None)
        rows, columns = (
            plan_axis(
                size,
                self.tile[axis],
                self.overlap[axis],
                stride=self.geometry.stride[axis],
                margin=radius[axis],
            )
            for axis, size in enumerate((height, width))
        )
        return Tiling(rows, columns)


def tiled_probabilities(
    network: TrainedNetwork,
    image: np.ndarray,
    tiling: Tiling,
    step: Callable[[], object] | None = None,
) -> np.ndarray:
    """Returns probabilities of an image, (height, width, channels), float32.

    Args:
        network: The network.
        image: (height, width, channels), as read.
        tiling: How the image is cut.
        step: Called after each tile. Defaults to None.
    """

    def predicted() -> Iterator[np.ndarray]:
        tiles = cut(image, tiling)
        while batch := list(islice(tiles, BATCH)):
            for values in network.probabilities(np.stack(batch)):
                if step is not None:
                    step()
                yield values

    return merge(predicted(), tiling)
