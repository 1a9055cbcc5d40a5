"""Covariances of the channels of watched layers on given images, in inference mode."""

import keras
from keras import backend

from ..statistics.covariance import CovarianceState, count_nonfinite, measure_batch, to_host
from ..statistics.grouped import GroupedCovariance
from ..statistics.types import Images, Tensor
from .distribution import LocalJaxModel, process_count
from .image_batches import image_batches
from .inference import folded_batch_normalization
from .watched import Watched, batch_size


class ImagesTap:
    """Measures watched layers on given images, in inference mode, image by image.

    It uses the model's weights as they are at each measurement and changes none of them. Where
    the backend compiles, layers that no watched layer depends on are not computed.

    Args:
        watched: Layers of any Keras model.
    """

    source = "images"

    def __init__(self, watched: Watched):
        self._watched, self._checked = watched, False
        self._states = _ImageStates(watched)
        self._model = LocalJaxModel(self._states) if process_count() > 1 else self._states

    def measure(self, images: Images) -> dict[str, GroupedCovariance]:
        """Runs all images through the model.

        Args:
            images: Whatever `model.predict` takes, already preprocessed: arrays, or an
                iterable of batches; if a batch is a tuple, its first element is used.

        Returns:
            {layer name: its covariance over all measured positions, grouped by images}.

        Raises:
            ValueError: There are no images, they can be read only once, or a layer cannot
                be watched on images.
        """
        measured: dict[str, GroupedCovariance] = {}
        for batch in image_batches(images):
            for name, parts in self._run(batch).items():
                nonfinite = parts.pop("nonfinite")
                units = to_host(CovarianceState(**parts))
                if name not in measured:
                    measured[name] = GroupedCovariance(units.mean.shape[-1])
                dtype = self._states.dtypes[name]
                measured[name].add_units(units, dtype=dtype, nonfinite=nonfinite)
            self._check_first_axis(batch)
        if not measured:
            raise ValueError("Expected at least one image to measure. Received: none")
        return measured

    def _run(self, batch: Images) -> dict[str, dict[str, Tensor]]:
        try:
            states: dict[str, dict[str, Tensor]] = self._model.predict_on_batch(batch)
        except ValueError as error:
            # Keras adds the call's arguments to the message of what a call raises.
            raise self._states.problem or error from None
        return states

    def _check_first_axis(self, batch: Images) -> None:
        """Checks once, on shapes, that the outputs have one row for each image of any batch.

        An output may have as many rows as one batch by coincidence, such as a table of 32
        positions; a batch of another size settles it.
        """
        if self._checked:
            return
        self._checked = True
        if any(tensor.shape[0] for tensor in getattr(self._watched.model, "inputs", None) or ()):
            return  # the model takes batches of one size only
        size = batch_size(batch) + 1
        larger = keras.tree.map_structure(
            lambda array: keras.KerasTensor(
                (size, *array.shape[1:]), backend.standardize_dtype(array.dtype)
            ),
            batch,
        )
        self._watched.check(larger, training=False, units=size)


class _ImageStates(keras.Model):
    """From images to the statistics of each, so that no activations leave the device."""

    def __init__(self, watched: Watched):
        super().__init__(name=f"{watched.model.name}_states", autocast=False)
        self.watched = watched
        self.model = watched.model
        self.dtypes: dict[str, str] = {}
        self.problem: ValueError | None = None
        self.built = True

    def call(self, images: Images) -> dict[str, dict[str, Tensor]]:
        with folded_batch_normalization(self.model), self.watched.recorded() as outputs:
            self.model(images, training=False)
        try:
            arranged = self.watched.samples(outputs, batch_size(images), images)
        except ValueError as problem:
            self.problem = problem
            raise
        states = {}
        for name, samples in arranged.items():
            self.dtypes[name] = backend.standardize_dtype(samples.dtype)
            state = measure_batch(samples)
            nonfinite = count_nonfinite(samples, state.mean)
            states[name] = {"nonfinite": nonfinite, **state._asdict()}
        return states
