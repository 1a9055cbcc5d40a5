"""The layers of any model that are to be watched, and what they return in a forward pass."""

import functools
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import keras
from keras import backend, ops

from models.probes import Probe

from .layers import layer_paths, matching_paths, short_name

LOCK = threading.Lock()
CHANNEL_AXES = {"channels_last": -1, "channels_first": 1}


class Watched:
    """The layers of a model that are to be watched, found by name before anything runs.

    Args:
        model: Any Keras model.
        names: Layers, by name, or by path ("outer/inner/layer") where a bare name is not
            unique. Defaults to None: the model's probes or, where it has none, its output.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
        max_positions: Positions of an image to measure, at most, evenly spread. Defaults
            to None: all.

    Raises:
        ValueError: A name is not there or matches several layers.
    """

    def __init__(
        self,
        model: keras.Model,
        names: Sequence[str] | None = None,
        data_format: str | None = None,
        max_positions: int | None = None,
    ):
        if max_positions is not None and (type(max_positions) is not int or max_positions < 1):
            raise ValueError(
                "Expected max_positions to be a positive integer, or None for all. "
                f"Received: {max_positions!r}"
            )
        if data_format is not None and data_format not in CHANNEL_AXES:
            raise ValueError(
                f"Expected data_format to be one of {', '.join(CHANNEL_AXES)}. "
                f"Received: {data_format!r}"
            )
        self.max_positions = max_positions
        self.channel_axis = CHANNEL_AXES[data_format or "channels_last"]
        self.model = model
        paths = layer_paths(model)
        if names is None:
            self.layers = {
                short_name(path, paths): layer
                for path, layer in paths.items()
                if isinstance(layer, Probe)
            } or {_output_name(model): model}
        else:
            if isinstance(names, str) or not names:
                raise ValueError(
                    f"Expected probe_layers to be a list of names. Received: {names!r}"
                )
            self.layers = {name: self._found(name, paths) for name in names}

    def recorded(self):
        """Records what the layers return, for as long as one forward pass is traced.

        Yields:
            {name: outputs of the layer's calls so far}.
        """
        return _recorded(self.layers)

    def check(self, inputs, *, training: bool) -> None:
        """Runs the model symbolically, moving nothing, to see that each layer can be watched.

        Args:
            inputs: One batch of the model's inputs; only shapes and dtypes count.
            training: Whether in training mode.

        Raises:
            ValueError: A layer was not called, or returned something else than one tensor
                (batch, ..., channels).
        """
        seen = _symbolic_pass(self.model, self.layers, inputs, training=training)
        self._refuse_problems(seen, None, inputs)

    def samples(
        self,
        seen: Mapping[str, list],
        units: int | None,
        inputs=None,
        *,
        every_position: bool = False,
    ) -> dict[str, Any]:
        """Arranges recorded activations as samples.

        Args:
            seen: What `recorded` gave, after the forward pass.
            units: Images of the batch, or None to keep a batch in one piece.
            inputs: The batch, to tell in an error what can be watched. Defaults to None:
                unknown.
            every_position: Whether to leave `max_positions` aside. Defaults to False.

        Returns:
            {name: (units, samples, channels)}, or (samples, channels) for None. What a
            layer returned in several calls is joined.

        Raises:
            ValueError: A layer was not called, or returned something else than one tensor
                (batch, ..., channels).
        """
        self._refuse_problems(seen, units, inputs)
        limit = None if every_position else self.max_positions
        return {name: self._joined(calls, units, limit) for name, calls in seen.items()}

    def _found(self, name: str, paths: Mapping[str, keras.layers.Layer]):
        """Returns the one layer that `name` stands for."""
        matches = matching_paths(name, paths)
        if len(matches) == 1:
            return paths[matches[0]]
        if matches:
            raise ValueError(
                f"'{name}' matches several layers of model '{self.model.name}': "
                f"{', '.join(matches)}. Give the path."
            )
        raise ValueError(
            f"Model '{self.model.name}' has no layer '{name}'. {self._what_can_be_watched()}"
        )

    def _refuse_problems(self, seen: Mapping[str, list], units: int | None, inputs) -> None:
        problems = {name: self._problem(calls, units) for name, calls in seen.items()}
        if any(problems.values()):
            named = "; ".join(f"'{name}' {why}" for name, why in problems.items() if why)
            raise ValueError(
                f"Layers of model '{self.model.name}' that cannot be watched: {named}. "
                f"{self._what_can_be_watched(inputs)}"
            )

    def _what_can_be_watched(self, inputs=None) -> str:
        """Lists the layers that a forward pass finds fit; all, where none can be run."""
        paths = layer_paths(self.model)
        if inputs is None and getattr(self.model, "inputs", None):
            inputs = self.model.input
        if inputs is None:
            return f"Its layers: {', '.join(paths)}."
        seen = _symbolic_pass(self.model, paths, inputs, training=False)
        fit = [path for path, calls in seen.items() if not self._problem(calls, None)]
        return f"Layers that can be watched: {', '.join(fit)}."

    def _problem(self, calls: list, units: int | None) -> str | None:
        if not calls:
            return "is never called"
        for output in calls:
            if not (ops.is_tensor(output) or backend.is_keras_tensor(output)):
                return f"returns a {type(output).__name__}, not one tensor"
            if len(output.shape) < 2 or output.shape[self.channel_axis] is None:
                return f"returns shape {tuple(output.shape)}, not (batch, ..., channels)"
            if not backend.is_float_dtype(backend.standardize_dtype(output.dtype)):
                return f"returns {backend.standardize_dtype(output.dtype)}, not real numbers"
            if units is not None and output.shape[0] is not None and output.shape[0] % units:
                return f"returns shape {tuple(output.shape)} for a batch of {units}"
        if len({output.shape[self.channel_axis] for output in calls}) > 1:
            return "returns different numbers of channels in different calls"
        return None

    def _joined(self, calls: list, units: int | None, limit: int | None):
        parts = []
        for output in calls:
            if self.channel_axis != -1:
                output = ops.moveaxis(output, self.channel_axis, -1)
            spatial, channels = output.shape[1:-1], output.shape[-1]
            step = 1 if limit is None or None in spatial else _step(spatial, limit)
            if units is None:
                parts.append(ops.reshape(output, (-1, channels))[::step])
            else:
                parts.append(ops.reshape(output, (units, -1, channels))[:, ::step])
        return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=-2)


def _step(spatial: Sequence[int], limit: int) -> int:
    """Returns the step through flattened positions that leaves `limit` of them or fewer.

    It is odd and has no factor in common with the width, so that the positions lie on a
    skewed grid: on every row, column and phase of a later 2x2 pooling.

    Example:
        >>> _step((60, 80), 400), _step((15, 20), 400)
        (13, 1)
    """
    step = max(1, math.ceil(math.prod(spatial) / limit))
    width = spatial[-1] if len(spatial) > 1 else 1
    while step > 1 and math.gcd(step, 2 * width) > 1:
        step += 1
    return step


@contextmanager
def _recorded(layers: Mapping[str, keras.layers.Layer]) -> Iterator[dict[str, list]]:
    """Yields {name: outputs of the layer's calls so far}; gives every `call` back.

    Keras calls a layer without `build` on shapes first, in a graph of its own; these calls
    are not the forward pass.
    """
    seen: dict[str, list] = {name: [] for name in layers}
    place, thread = _graph(), threading.get_ident()

    def listener(calls: list):
        def hear(output):
            # Replicas are traced side by side, each on a thread of its own.
            if _graph() is place and threading.get_ident() == thread:
                calls.append(output)

        return hear

    heard = {name: listener(calls) for name, calls in seen.items()}
    for name, layer in layers.items():
        _listen(layer, heard[name])
    try:
        yield seen
    finally:
        for name, layer in layers.items():
            _unlisten(layer, heard[name])


def _listen(layer: keras.layers.Layer, hear: Callable) -> None:
    """Has `hear` called with each output of a layer; the first listener takes its `call` over."""
    with LOCK:
        listeners = getattr(vars(layer).get("call"), "listeners", None)
        if listeners is None:
            listeners, call = [], layer.call

            @functools.wraps(call)
            def recorded(*args, **kwargs):
                output = call(*args, **kwargs)
                for hear in tuple(listeners):
                    hear(output)
                return output

            recorded.listeners, recorded.given = listeners, vars(layer).get("call")  # type: ignore[attr-defined]
            object.__setattr__(layer, "call", recorded)
        listeners.append(hear)


def _unlisten(layer: keras.layers.Layer, hear: Callable) -> None:
    """Takes a listener away; the last one gives the layer's `call` back."""
    with LOCK:
        recorded = vars(layer)["call"]
        recorded.listeners.remove(hear)
        if recorded.listeners:
            return
        if recorded.given is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", recorded.given)


def _graph():
    """Returns what TensorFlow is tracing; None on other backends."""
    if backend.backend() != "tensorflow":
        return None
    import tensorflow as tf

    return tf.compat.v1.get_default_graph()


class _Function(keras.layers.Layer):
    """A function, for Keras to run on shapes."""

    def __init__(self, function):
        super().__init__(autocast=False)
        self.function = function

    def call(self, inputs):
        return self.function(inputs)


def _symbolic_pass(
    model: keras.Model, layers: Mapping[str, keras.layers.Layer], inputs, *, training: bool
) -> dict[str, list]:
    """Calls the model on shapes alone, and moves no weight, statistic or seed.

    Returns:
        {name: outputs of the layer's calls}, as in `_recorded`.
    """
    shapes = keras.tree.map_structure(
        lambda x: keras.KerasTensor(x.shape, backend.standardize_dtype(x.dtype)), inputs
    )
    found = {}

    def forward(batch):
        with _recorded(layers) as seen:
            outputs = model(batch, training=training)
        found.update(seen)
        return outputs

    _Function(forward).compute_output_spec(shapes)
    return found


def _output_name(model: keras.Model) -> str:
    return (getattr(model, "output_names", None) or [model.name])[0]
