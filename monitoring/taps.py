"""Covariances of a model's activations at named layers."""

from collections.abc import Iterable, Iterator, Sequence

import keras
import numpy as np
from keras import backend, ops

from models.probes import probe_names, side_model
from monitoring.covariance import RunningCovariance, batch_state, first_sample

BATCH_SIZE = 32


class SideModelTap:
    """Measures named layers of a functional model on given images, in inference mode.

    It shares the model's weights, so that each measurement sees them as they are now, and
    moves none of them. Compiled at the first measurement.

    Args:
        model: A functional Keras model.
        names: Layers to watch. Defaults to None: the model's probes or, where it has
            none, its outputs.

    Raises:
        ValueError: A layer is not there or cannot be watched.
    """

    source = "images"

    def __init__(self, model: keras.Model, names: Sequence[str] | None = None):
        if names is None:
            names = probe_names(model) or getattr(model, "output_names", [])
        side = side_model(model, names)
        self.names = list(side.output)
        self._channels = {name: int(side.output[name].shape[-1]) for name in self.names}
        self._dtypes = {
            name: backend.standardize_dtype(side.output[name].dtype) for name in self.names
        }
        self._states = _BatchStates(side)

    def measure(self, images) -> tuple[dict[str, RunningCovariance], int]:
        """Runs all images through the model.

        Args:
            images: What `model.predict` takes, already preprocessed: arrays, or an
                iterable of batches, of whose tuples the first element counts.

        Returns:
            {layer name: its covariance over every position of every image}, and the
            number of images.

        Raises:
            ValueError: The images can be read only once.
        """
        running = {name: RunningCovariance(self._channels[name]) for name in self.names}
        count = 0
        for batch in image_batches(images):
            count += len(keras.tree.flatten(batch)[0])
            for name, parts in self._states.predict_on_batch(batch).items():
                running[name].add_batch(**parts, dtype=self._dtypes[name])
        return running, count


class _BatchStates(keras.Model):
    """From images to the statistics of a batch, so that no activations leave the device."""

    def __init__(self, side: keras.Model):
        super().__init__(name=f"{side.name}_states", autocast=False)
        self.side = side

    def call(self, images):
        states = {}
        for name, activations in self.side(images, training=False).items():
            shift = first_sample(activations)
            states[name] = {"shift": shift, **batch_state(activations, shift)._asdict()}
        return states


def image_batches(images) -> Iterator:
    """Yields batches of images, always the same in the same order.

    Raises:
        ValueError: The images can be read only once, as a generator's.
    """
    if isinstance(images, Iterator):
        raise ValueError(
            "Images are measured again and again, and these can be read only once. Give an "
            f"array or a dataset. Received: {type(images).__name__}"
        )
    if _is_dataset(images):
        for batch in images:
            yield batch[0] if isinstance(batch, tuple) else batch
        return
    length = len(keras.tree.flatten(images)[0])
    for start in range(0, length, BATCH_SIZE):
        yield keras.tree.map_structure(
            lambda array, start=start: array[start : start + BATCH_SIZE], images
        )


def _is_dataset(images) -> bool:
    """Tells an iterable of batches from arrays, also in lists, tuples and dicts."""
    structure = isinstance(images, (list, tuple, dict))
    array = isinstance(images, np.ndarray) or ops.is_tensor(images)
    return isinstance(images, Iterable) and not structure and not array
