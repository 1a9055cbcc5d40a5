"""The layers of a model to watch, found by name before anything runs."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager

import keras
from keras import ops

from ..statistics.types import Images, Tensor
from .layers import is_probe, layer_paths, matching_paths, short_name
from .recording import compiled_call, recorded_outputs, symbolic_outputs
from .samples import CHANNEL_AXES, Samples, arrange_samples, find_problem


class Watched:
    """The layers of a model to watch.

    Args:
        model: Any Keras model.
        names: Names of layers, or paths ("outer/inner/layer") where a bare name is not
            unique, or the layers themselves. Defaults to None: the model's probes or, if it
            has none, its output.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
        max_positions: Most positions of an image to measure, evenly spread. Defaults to
            None: all.

    Attributes:
        model: The model.
        layers: {name: layer} of the watched layers.
        channel_axis: Axis of the channels in their outputs, -1 or 1.
        max_positions: As given.

    Raises:
        ValueError: There is no layer of that name, or there are several.
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
            probes = {short_name(p, paths): layer for p, layer in paths.items() if is_probe(layer)}
            self.layers = probes or {_output_name(model): model}
        elif not isinstance(names, (list, tuple, set, frozenset)) or not names:
            raise ValueError(f"Expected probe_layers to be a list of names. Received: {names!r}")
        else:
            self.layers = dict(self._find(name, paths) for name in names)

    def recorded(self) -> AbstractContextManager[dict[str, list[Tensor]]]:
        """Records what the layers return during one forward pass; see `recorded_outputs`."""
        return recorded_outputs(self.layers)

    def check(self, inputs: Images, *, training: bool, units: int | None = None) -> None:
        """Runs the model on shapes alone to see that each layer can be watched.

        Args:
            inputs: One batch of the model's inputs; only shapes and dtypes matter.
            training: Whether to run it in training mode.
            units: Images in the batch, which the first axis of every output must count.
                Defaults to None: it may be any axis.

        Raises:
            ValueError: A layer is not called, or returns something other than one tensor
                (batch, ..., channels).
        """
        outputs = symbolic_outputs(self.model, self.layers, inputs, training=training)
        if outputs is not None:  # else `samples` checks what the layers return
            self._raise_problems(outputs, units, inputs)

    def samples(
        self,
        outputs: Mapping[str, list[Tensor]],
        units: Tensor | None = None,
        inputs: Images | None = None,
        *,
        every_position: bool = False,
    ) -> dict[str, Samples]:
        """Arranges recorded activations as samples.

        Args:
            outputs: What `recorded` yielded, after the forward pass.
            units: Number of images of the batch, an integer or a scalar tensor. Defaults to
                None: keep the batch in one piece.
            inputs: The batch, by which an error lists the layers that can be watched. Defaults
                to None: unknown.
            every_position: Whether to ignore `max_positions`. Defaults to False.

        Returns:
            {name: samples}.

        Raises:
            ValueError: As `check`.
        """
        self._raise_problems(outputs, units if isinstance(units, int) else None, inputs)
        limit = None if every_position else self.max_positions
        return arrange_samples(outputs, units, channel_axis=self.channel_axis, limit=limit)

    def _find(
        self, name: str | keras.layers.Layer, paths: Mapping[str, keras.layers.Layer]
    ) -> tuple[str, keras.layers.Layer]:
        """Returns the one layer that `name` stands for, and the name to record it by."""
        if isinstance(name, keras.layers.Layer):
            for path, layer in paths.items():
                if layer is name:
                    return short_name(path, paths), layer
            raise ValueError(
                f"Layer '{name.name}' is not part of model '{self.model.name}'. "
                f"{self._list_watchable()}"
            )
        if not isinstance(name, str):
            raise ValueError(f"Expected a layer's name. Received: {name!r}")
        matches = matching_paths(name, paths)
        if len(matches) == 1:
            return name, paths[matches[0]]
        if matches:
            raise ValueError(
                f"'{name}' matches several layers of model '{self.model.name}': "
                f"{', '.join(matches)}. Give the path."
            )
        raise ValueError(
            f"Model '{self.model.name}' has no layer '{name}'. {self._list_watchable()}"
        )

    def _raise_problems(
        self, outputs: Mapping[str, list[Tensor]], units: int | None, inputs: Images | None
    ) -> None:
        problems = {
            name: find_problem(calls, self.channel_axis, units) for name, calls in outputs.items()
        }
        if any(problems[name] and not calls for name, calls in outputs.items()):
            layers = {self.model.name: self.model, **layer_paths(self.model)}
            for path, compiled in layers.items():
                if not compiled_call(compiled):
                    continue
                why = f"is called inside '{path}', whose call has the decorator tf.function"
                inside = set(map(id, compiled._flatten_layers()))
                uncalled = [name for name, calls in outputs.items() if not calls]
                problems |= {name: why for name in uncalled if id(self.layers[name]) in inside}
        if any(problems.values()):
            listed = "; ".join(f"'{name}' {why}" for name, why in problems.items() if why)
            raise ValueError(
                f"Layers of model '{self.model.name}' that cannot be watched: {listed}. "
                f"{self._list_watchable(inputs)}"
            )

    def _list_watchable(self, inputs: Images | None = None) -> str:
        """Lists the layers that a forward pass finds measurable; all, if none can be run."""
        paths = layer_paths(self.model)
        inputs = _symbolic_inputs(self.model) if inputs is None else inputs
        outputs = None
        if inputs is not None:
            outputs = symbolic_outputs(self.model, paths, inputs, training=False)
        if outputs is None:
            return f"Its layers: {', '.join(paths)}."
        watchable = [
            p for p, calls in outputs.items() if not find_problem(calls, self.channel_axis)
        ]
        return f"Layers that can be watched: {', '.join(watchable)}."


def _symbolic_inputs(model: keras.Model) -> Images:
    """Returns the inputs that a model was built with, as Keras tensors; None if it was not."""
    inputs = getattr(model, "inputs", None)
    if not inputs:
        return None
    # A Sequential model has no `input` before it is called.
    return inputs[0] if isinstance(model, keras.Sequential) else model.input


def batch_size(inputs: Images) -> Tensor:
    """Returns the number of images in a batch of inputs, an integer where it is known."""
    return ops.shape(keras.tree.flatten(inputs)[0])[0]


def _output_name(model: keras.Model) -> str:
    names: list[str] = getattr(model, "output_names", None) or []
    return names[0] if len(names) == 1 else model.name
