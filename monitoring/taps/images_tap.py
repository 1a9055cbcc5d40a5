"""Covariances of watched layers' channels on given images, in inference mode."""

import keras
from keras import backend

from ..statistics.covariance import batch_state, first_sample, nonfinite_samples
from ..statistics.grouped import GroupedCovariance
from .distribution import AloneOnJax, process_count
from .image_batches import filled, image_batches
from .inference import folded_batch_normalization
from .watched import Watched


class ImagesTap:
    """Measures watched layers on given images, in inference mode, image by image.

    It sees the model's weights as they are at each measurement and moves none of them.
    Compiled once: every batch is filled up to the size of the first, and what was filled
    is left out. Where the backend compiles, what no watched layer needs is not computed.

    Args:
        watched: Layers of any Keras model.
    """

    source = "images"

    def __init__(self, watched: Watched):
        self._states = _ImageStates(watched)
        self._model = AloneOnJax(self._states) if process_count() > 1 else self._states

    def measure(self, images) -> dict[str, GroupedCovariance]:
        """Runs all images through the model.

        Args:
            images: What `model.predict` takes, already preprocessed: arrays, or an
                iterable of batches, of whose tuples the first element counts.

        Returns:
            {layer name: its covariance over every position, grouped by images}.

        Raises:
            ValueError: There are no images, they can be read only once, or a layer cannot
                be watched.
        """
        grouped: dict[str, GroupedCovariance] = {}
        size = None
        for batch in image_batches(images):
            length = len(keras.tree.flatten(batch)[0])
            size = size or length
            whole = keras.tree.map_structure(lambda a, s=size: filled(a, s), batch)
            for name, parts in self._measured(whole).items():
                mean, scatter = parts["mean"][:length], parts["scatter"][:length]
                if name not in grouped:
                    grouped[name] = GroupedCovariance(mean.shape[-1])
                dtype = self._states.dtypes[name]
                for at in range(0, length, grouped[name].size):
                    part = slice(at, min(at + grouped[name].size, length))
                    grouped[name].add_units(
                        parts["shift"],
                        parts["count"],
                        mean[part],
                        scatter[part],
                        dtype=dtype,
                        nonfinite=parts["nonfinite"][part],
                    )
        if not grouped:
            raise ValueError("Expected at least one image to measure. Received: none")
        return grouped

    def _measured(self, batch):
        try:
            return self._model.predict_on_batch(batch)
        except ValueError as error:
            # Keras wraps what a call raises in what the call was given.
            raise self._states.problem or error from None


class _ImageStates(keras.Model):
    """From images to the statistics of each, so that no activations leave the device."""

    def __init__(self, watched: Watched):
        super().__init__(name=f"{watched.model.name}_states", autocast=False)
        self.watched = watched
        self.model = watched.model
        self.dtypes: dict[str, str] = {}
        self.problem: ValueError | None = None
        self.built = True

    def call(self, images):
        units = keras.tree.flatten(images)[0].shape[0]
        with folded_batch_normalization(self.model), self.watched.recorded() as seen:
            self.model(images, training=False)
        try:
            found = self.watched.samples(seen, units, images)
        except ValueError as problem:
            self.problem = problem
            raise
        states = {}
        for name, samples in found.items():
            self.dtypes[name] = backend.standardize_dtype(samples.dtype)
            shift = first_sample(samples)
            state = batch_state(samples, shift)
            nonfinite = nonfinite_samples(samples, state.mean)
            states[name] = {"shift": shift, "nonfinite": nonfinite, **state._asdict()}
        return states
