"""Covariance states of what layers read, over all images."""

from collections.abc import Callable, Iterator, Sequence

import keras
import numpy as np

from ..statistics.blocks import BlockCovariance, state_dtype
from ..statistics.covariance import CovarianceState
from ..statistics.types import Tensor
from .input_rows import LayerPair, RowSampler
from .kernel_rows import kernel_kind, kernel_matrix
from .layer_inputs import LayerInputs, pass_size
from .targeted_images import Batch, TargetedImages

STATE_BYTES = 2**30  # states of one reading of the images, about; more take more readings
SETTINGS = (
    "data_format",
    "kernel_size",
    "strides",
    "padding",
    "output_padding",
    "dilation_rate",
)


def input_states(
    images: TargetedImages,
    model: keras.Model,
    layers: Sequence[keras.layers.Layer],
    sample: Callable[[keras.layers.Layer, Tensor, Batch], np.ndarray],
) -> list[CovarianceState]:
    """Measures samples of what layers read.

    Args:
        images: The images.
        model: A built Keras model.
        layers: Layers of it.
        sample: From a layer, what it is called with and the batch to the samples of each image,
            (blocks, images, samples, channels).

    Returns:
        For each layer, the states of its blocks, (1, blocks, ...).
    """
    inputs = LayerInputs(model, layers)
    totals = [_Total(1) for _ in layers]
    with images.read([model], pass_size([model])) as batches:
        for batch in batches:
            for layer, total, calls in zip(layers, totals, inputs(batch.images), strict=True):
                for tensor in calls:
                    total.add(sample(layer, tensor, batch), batch)
    return [total.states(layer) for layer, total in zip(layers, totals, strict=True)]


def difference_states(
    images: TargetedImages,
    models: tuple[keras.Model, keras.Model],
    pairs: Sequence[LayerPair],
    sampler: RowSampler,
    folds: int,
) -> list[CovarianceState]:
    """Measures the rows of narrow layers, with what wide ones compute beyond them.

    Args:
        images: The images.
        models: The wide model and the narrow one.
        pairs: Layers of the wide model and of the narrow one.
        sampler: Takes the rows.
        folds: Number of folds of the images.

    Returns:
        For each pair, the states of folds and blocks, (folds, blocks, ...).

    Raises:
        ValueError: The layers of a pair are called at different numbers of places.
    """
    sides = ([pair.wide for pair in pairs], [pair.narrow for pair in pairs])
    inputs = [LayerInputs(model, side) for model, side in zip(models, sides, strict=True)]
    totals = [_Total(folds) for _ in pairs]
    with images.read(models, pass_size(models)) as batches:
        for batch in batches:
            recorded = [read(batch.images) for read in inputs]
            for pair, total, *calls in zip(pairs, totals, *recorded, strict=True):
                _check_calls(pair, [len(each) for each in calls])
                for wide, narrow in zip(*calls, strict=True):
                    total.add(sampler.paired_rows(pair, (wide, narrow), batch), batch)
    return [total.states(pair.narrow) for pair, total in zip(pairs, totals, strict=True)]


def state_parts(shapes: Sequence[tuple[int, int, int]]) -> Iterator[slice]:
    """Yields slices of layers whose states fit a gigabyte together, or single layers.

    Args:
        shapes: For each layer, (folds, blocks, channels).

    Example:
        >>> list(state_parts([(1, 1, 4000), (1, 1, 16000), (1, 2, 100)]))
        [slice(0, 1, None), slice(1, 3, None)]
    """
    start, total = 0, 0
    for number, (folds, blocks, channels) in enumerate(shapes):
        size = folds * blocks * channels**2 * np.dtype(state_dtype(channels)).itemsize
        if number > start and total + size > STATE_BYTES:
            yield slice(start, number)
            start, total = number, 0
        total += size
    if shapes:
        yield slice(start, len(shapes))


def mean_and_covariance(state: CovarianceState) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means and the covariances, divided by count - 1; nan for a single sample.

    Example:
        >>> empty = CovarianceState.empty(channels=1)
        >>> mean_and_covariance(empty._replace(count=np.array(3), scatter=np.array([[4.0]])))
        (array([0.]), array([[2.]]))
    """
    freedom = np.where(state.count > 1, state.count - 1.0, np.nan)[..., None, None]
    scatter = np.asarray(state.scatter, np.float64)
    return state.shift + state.mean, (scatter + scatter.swapaxes(-1, -2)) / (2 * freedom)


def check_finite(values: np.ndarray, what: str) -> None:
    """Checks that no value is nan or infinite.

    Raises:
        ValueError: One is.
    """
    if not np.isfinite(values).all():
        raise ValueError(f"Expected finite numbers. Received: {what} that are nan or infinite")


def check_pair(pair: LayerPair) -> None:
    """Checks that a narrow layer computes outputs of a wide one, from fewer channels.

    Raises:
        ValueError: The layers differ in anything but their channels.
    """
    wide, narrow = pair.wide, pair.narrow
    shapes = [pair.wide_matrix().shape, kernel_matrix(narrow).shape]
    blocks, rows, outputs = zip(*shapes, strict=True)
    same = [kernel_kind(wide) is kernel_kind(narrow), blocks[0] == blocks[1]]
    same += [outputs[0] == outputs[1], rows[0] >= rows[1]]
    same += [getattr(wide, name, None) == getattr(narrow, name, None) for name in SETTINGS]
    if not all(same):
        raise ValueError(
            "Expected pairs of layers that differ in nothing but their channels, of which the "
            f"second has as many or fewer. Received: '{wide.name}' with a kernel of "
            f"{rows[0]} rows and {outputs[0]} outputs in {blocks[0]} blocks, and '{narrow.name}' "
            f"with {rows[1]} rows and {outputs[1]} outputs in {blocks[1]} blocks"
        )


def _check_calls(pair: LayerPair, counts: Sequence[int]) -> None:
    if counts[0] != counts[1]:
        raise ValueError(
            "Expected layers that are called equally often. Received: "
            f"'{pair.wide.name}', called {counts[0]} times, and '{pair.narrow.name}', called "
            f"{counts[1]} times"
        )


class _Total:
    """The covariance of a layer's samples, by folds of images."""

    def __init__(self, folds: int):
        self._folds = folds
        self._covariance: BlockCovariance | None = None

    def add(self, rows: np.ndarray, batch: Batch) -> None:
        """Adds rows, (blocks, images, samples, rows)."""
        blocks, _, _, channels = rows.shape
        if self._covariance is None:
            self._covariance = BlockCovariance(self._folds, blocks, channels)
        folds = (batch.start + np.arange(batch.size)) % self._folds
        for fold in np.unique(folds):
            samples = rows if self._folds == 1 else rows[:, folds == fold]
            self._covariance.add(int(fold), samples.reshape(blocks, -1, channels))

    def states(self, layer: keras.layers.Layer) -> CovarianceState:
        """Returns the states, (folds, blocks, ...)."""
        assert self._covariance is not None, "there is at least one image"
        states = self._covariance.states()
        check_finite(states.mean, f"values read by layer '{layer.name}'")
        return states
