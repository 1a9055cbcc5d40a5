"""Samples of what layers read, image by image."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np
from keras import ops

from ..statistics.types import Tensor
from .kernel_rows import kernel_matrix, kernel_rows, output_columns, position_count
from .targeted_images import Batch

SAME_POSITIONS = 16  # images whose rows are taken at the same positions


class LayerPair(NamedTuple):
    """A layer of a wide model and the one in its place in a narrow one.

    Attributes:
        wide: Layer of the wide model.
        narrow: Layer of the narrow model, of the same kind and settings.
        outputs: Indices of the wide layer's outputs that the narrow one has. None: all.
    """

    wide: keras.layers.Layer
    narrow: keras.layers.Layer
    outputs: np.ndarray | None = None

    def wide_matrix(self) -> np.ndarray:
        """Returns the wide layer's matrix for these outputs, (blocks, rows, outputs)."""
        matrix = kernel_matrix(self.wide)
        if self.outputs is None:
            return matrix
        columns = output_columns(self.wide, np.asarray(self.outputs))
        chosen: np.ndarray = np.take_along_axis(matrix, columns[:, None], axis=2)
        return chosen


class RowSampler:
    """Takes rows at some positions of each image, the same for every layer of as many positions.

    The positions depend on the image's number, not on how images are put into batches.

    Args:
        positions: Most positions of an image, at each call of a layer.
        seed: Seed of the positions.
    """

    def __init__(self, positions: int, seed: int):
        self._positions, self._seed = positions, seed

    def kernel_rows(self, layer: keras.layers.Layer, inputs: Tensor, batch: Batch) -> np.ndarray:
        """Returns the rows that a kernel multiplies, (blocks, images, samples, rows)."""
        count = position_count(layer, inputs)

        def take(part: Tensor, images: int, start: int) -> np.ndarray:
            rows = kernel_rows(layer, part, self._sample(count, start))
            return rows.reshape(len(rows), images, -1, rows.shape[-1])

        return _in_parts(layer, inputs, batch, take)

    def channel_rows(self, layer: keras.layers.Layer, inputs: Tensor, batch: Batch) -> np.ndarray:
        """Returns each channel as a block, (channels, images, samples, 1)."""

        def take(part: Tensor, images: int, start: int) -> np.ndarray:
            values = np.moveaxis(ops.convert_to_numpy(part), layer.axis, -1)
            values = values.reshape(len(values), -1, values.shape[-1])
            samples = values[:, self._sample(values.shape[1], start)]
            samples = samples.astype(np.result_type(samples, np.float32), copy=False)
            channels: np.ndarray = np.moveaxis(samples, -1, 0)
            return channels.reshape(len(channels), images, -1, 1)

        return _in_parts(layer, inputs, batch, take)

    def paired_rows(
        self, pair: LayerPair, inputs: tuple[Tensor, Tensor], batch: Batch
    ) -> np.ndarray:
        """Returns the narrow layer's rows, and what the wide layer puts out beyond its output.

        Args:
            pair: The wide layer and the narrow one.
            inputs: What each is called with.
            batch: The images.

        Returns:
            (blocks, images, samples, rows of the narrow layer + outputs of a block).

        Raises:
            ValueError: The layers have different numbers of positions.
        """
        layers = (pair.wide, pair.narrow)
        counts = [position_count(*each) for each in zip(layers, inputs, strict=True)]
        if counts[0] != counts[1]:
            raise ValueError(
                f"Expected layers '{layers[0].name}' and '{layers[1].name}' to read as many "
                f"positions. Received: {counts[0]} and {counts[1]} of each image"
            )
        wide, narrow = (self.kernel_rows(*each, batch) for each in zip(layers, inputs, strict=True))
        matrices = [pair.wide_matrix()[:, None], kernel_matrix(pair.narrow)[:, None]]
        if np.array_equal(wide, narrow) and np.array_equal(matrices[0], matrices[1]):
            outputs = matrices[0].shape[-1]
            difference = np.zeros((*narrow.shape[:-1], outputs), narrow.dtype)
        else:
            difference = wide @ matrices[0] - narrow @ matrices[1]
        return np.concatenate([narrow, difference], axis=-1)

    def _sample(self, count: int, start: int) -> np.ndarray:
        """Returns positions out of `count`, in ascending order, for images from `start` on."""
        if count <= self._positions:
            return np.arange(count)
        generator = np.random.default_rng([self._seed, start // SAME_POSITIONS, count])
        return np.sort(generator.choice(count, self._positions, replace=False, shuffle=False))


def _in_parts(
    layer: keras.layers.Layer,
    inputs: Tensor,
    batch: Batch,
    take: Callable[[Tensor, int, int], np.ndarray],
) -> np.ndarray:
    """Takes samples of a batch's images, some at a time, always the same ones together.

    Args:
        layer: What reads the inputs.
        inputs: (images, ...), or several rows for each image.
        batch: The images.
        take: From inputs of some images, their number and that of the first of them to samples,
            (blocks, images, samples, rows).
    """
    check_first_axis(layer, inputs, batch.size)
    rows = inputs.shape[0] // batch.size
    parts, place = [], 0
    while place < batch.size:
        first = batch.start + place
        images = min(SAME_POSITIONS - first % SAME_POSITIONS, batch.size - place)
        parts.append(take(inputs[place * rows : (place + images) * rows], images, first))
        place += images
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)


def check_first_axis(layer: keras.layers.Layer, tensor: Tensor, images: int) -> None:
    """Checks that the first axis of what a layer reads holds the images, or parts of each.

    Raises:
        ValueError: It does not.
    """
    if tensor.shape[0] % images:
        raise ValueError(
            f"Expected layer '{layer.name}' to read rows of {images} images. Received: an input "
            f"of shape {tuple(tensor.shape)}"
        )
