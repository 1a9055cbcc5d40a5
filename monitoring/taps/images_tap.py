"""Covariances of the channels of watched layers on given images, in inference mode."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import keras
from keras import backend

from ..statistics.covariance import CovarianceState, count_nonfinite, measure_batch, to_host
from ..statistics.grouped import GroupedCovariance
from ..statistics.types import Images, Tensor
from .datasets import unshuffled
from .distribution import LocalJaxModel, process_count
from .image_batches import fixed_batch_size, image_batches
from .inference import folded_batch_normalization
from .kept_state import KeptStateFunction, kept_generators, kept_variables
from .recording import build_on_shapes
from .watched import Watched, batch_size

States = dict[str, dict[str, Tensor]]


class ImagesTap:
    """Measures watched layers on given images, in inference mode, image by image.

    It uses the model's weights as they are at each measurement, and leaves every variable as it
    was. Where the backend compiles, layers that no watched layer depends on are not computed.

    Args:
        watched: Layers of any Keras model.
        steps: Most batches to read, needed for images that never end. Defaults to None: all.
    """

    source = "images"

    def __init__(self, watched: Watched, steps: int | None = None):
        self._watched, self._steps, self._checked = watched, steps, False
        self._given: Images = None
        self._images: Images = None  # what was given, without shuffling
        self._states = _ImageStates(watched)
        self._run, self._keeping = _runner(self._states)

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
        model = self._watched.model
        if self._given is not images:
            self._given, self._images = images, unshuffled(images)
        # A model that is not built draws its first weights now, from these generators.
        generators = kept_generators() if model.built else nullcontext()
        with self._keeping(), generators:
            for batch in image_batches(
                self._images, size=fixed_batch_size(model), steps=self._steps
            ):
                batch = preprocessed(model, batch)
                check_inputs(model, batch)
                build_on_shapes(model, batch, training=False)
                self._add(self._states_of(batch), measured)
                self._check_first_axis(batch)
        if not measured:
            raise ValueError("Expected at least one image to measure. Received: none")
        empty = [name for name, grouped in measured.items() if not grouped.groups.count.size]
        if empty:
            listed = ", ".join(empty)
            raise ValueError(f"Nothing is left to measure of {listed}: Keras masks every step")
        return measured

    def _states_of(self, batch: Images) -> States:
        try:
            return self._run(batch)
        except ValueError as error:
            # Keras adds the call's arguments to the message of what a call raises.
            raise self._states.problem or error from None

    def _add(self, states: States, measured: dict[str, GroupedCovariance]) -> None:
        for name, parts in states.items():
            nonfinite = parts.pop("nonfinite")
            units = to_host(CovarianceState(**parts))
            if name not in measured:
                measured[name] = GroupedCovariance(units.mean.shape[-1])
            dtype = self._states.dtypes[name]
            measured[name].add_units(units, dtype=dtype, nonfinite=nonfinite)

    def _check_first_axis(self, batch: Images) -> None:
        """Checks once, on shapes, that the outputs have one row for each image of any batch.

        An output may have as many rows as one batch by coincidence, such as a table of 32
        positions; a batch of another size settles it.
        """
        if self._checked:
            return
        self._checked = True
        if fixed_batch_size(self._watched.model) is not None:
            return
        size = batch_size(batch) + 1
        larger = keras.tree.map_structure(
            lambda array: keras.KerasTensor(
                (size, *array.shape[1:]), backend.standardize_dtype(array.dtype)
            ),
            batch,
        )
        self._watched.check(larger, training=False, units=size)


def preprocessed(model: keras.Model, batch: Images) -> Images:
    """Returns a batch as `model.predict` passes it on: a KerasHub task preprocesses it first."""
    if getattr(model, "preprocessor", None) is None or not hasattr(model, "preprocess_samples"):
        return batch
    inputs = model.preprocess_samples(batch)
    return inputs[0] if isinstance(inputs, tuple) else inputs


def check_inputs(model: keras.Model, batch: Images) -> None:
    """Refuses a list of arrays for a model of another number of inputs.

    A Sequential model would use the first of them without a word.

    Raises:
        ValueError: There are more or fewer arrays than the model has inputs.
    """
    inputs = getattr(model, "inputs", None)
    if (
        inputs
        and isinstance(batch, (list, tuple))
        and len(keras.tree.flatten(batch)) != len(inputs)
    ):
        raise ValueError(
            f"Model '{model.name}' has {len(inputs)} inputs. Received: a list of "
            f"{len(batch)} arrays. Give batches as a dataset, not as a list"
        )


def _runner(
    states: "_ImageStates",
) -> tuple[Callable[[Images], States], Callable[[], AbstractContextManager[None]]]:
    """Returns a function from a batch to its states, and a context that keeps the variables."""
    if states.model.run_eagerly:
        return lambda batch: states(batch), lambda: kept_variables(states.model)
    if backend.backend() == "tensorflow":
        function = KeptStateFunction(states)
        return function, function.restoring
    model = LocalJaxModel(states) if process_count() > 1 else states
    return model.predict_on_batch, lambda: kept_variables(states.model)


class _ImageStates(keras.Model):
    """From images to the statistics of each, so that no activations leave the device."""

    def __init__(self, watched: Watched):
        super().__init__(name=f"{watched.model.name}_states", autocast=False)
        self.watched = watched
        self.model = watched.model
        self.dtypes: dict[str, str] = {}
        self.problem: ValueError | None = None
        self.built = True

    def call(self, images: Images) -> States:
        with folded_batch_normalization(self.model), self.watched.recorded() as outputs:
            self.model(images, training=False)
        try:
            arranged = self.watched.samples(outputs, batch_size(images), images)
        except ValueError as problem:
            self.problem = problem
            raise
        states = {}
        for name, (samples, valid) in arranged.items():
            self.dtypes[name] = backend.standardize_dtype(samples.dtype)
            state = measure_batch(samples, valid)
            nonfinite = count_nonfinite(samples, state.mean)
            states[name] = {"nonfinite": nonfinite, **state._asdict()}
        return states
