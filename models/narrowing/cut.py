"""Builds the narrowed network: the same layers, with the weights of the channels that are kept."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from .groups import Plan
from .trace import Channels, Numbers, Resize


@dataclass(frozen=True, eq=False)
class Cut:
    """A model without some of its channels.

    Attributes:
        model: The narrowed model.
        layers: {id of a layer of the wide model: the layer in its place}.
        keep: Whether each channel number is kept, (numbers,).
    """

    model: keras.Model
    layers: Mapping[int, keras.layers.Layer]
    keep: np.ndarray


def kept_numbers(plan: Plan, kept: Sequence[Numbers]) -> np.ndarray:
    """Returns whether each channel number is kept, (numbers,).

    Args:
        plan: The groups of the model.
        kept: For each group the indices of the channels that stay.
    """
    keep = np.ones(len(plan.root), bool)
    for members, indices in zip(plan.members, kept, strict=True):
        keep[members] = False
        keep[members[indices]] = True
    return np.asarray(keep[plan.root])


def cut(plan: Plan, kept: Sequence[Numbers]) -> Cut:
    """Copies a model without the channels that are not kept; the given one is not changed.

    Args:
        plan: The groups of the model.
        kept: For each group the indices of the channels that stay.

    Returns:
        The narrowed model, with the same names and the weights of what is kept.
    """
    keep = kept_numbers(plan, kept)
    layers: dict[int, Any] = {}

    def clone(layer: Any) -> Any:
        if id(layer) in layers:
            return layers[id(layer)]
        if hasattr(layer, "_nodes_by_depth") or hasattr(layer, "_functional"):
            layers[id(layer)] = _clone(layer, clone, plan.trace.entries, keep)
            return layers[id(layer)]
        config = layer.get_config()
        for resize in plan.trace.resizes.get(id(layer), (layer, ()))[1]:
            config[resize.key] = _resized(config[resize.key], resize, keep)
        layers[id(layer)] = type(layer).from_config(config)
        return layers[id(layer)]

    model = _clone(plan.model, clone, {}, keep)
    places: dict[int, list[tuple[int, Numbers]]] = {}
    for axis in plan.trace.axes.values():
        remaining = np.flatnonzero(keep[axis.numbers])
        places.setdefault(id(axis.variable), []).append((axis.axis, remaining))
    for wide in _layers_of(plan):
        for original, copy in zip(wide.variables, layers[id(wide)].variables, strict=True):
            copy.assign(_without(keras.ops.convert_to_numpy(original.value), places, id(original)))
        if isinstance(wide, keras.layers.Normalization):
            layers[id(wide)].finalize_state()  # it keeps what it computes from its variables
    return Cut(model, layers, keep)


def _clone(
    model: keras.Model,
    clone: Callable[[Any], Any],
    entries: Mapping[int, Channels],
    keep: np.ndarray,
) -> keras.Model:
    """Clones a functional or sequential model, with the names of its inputs."""

    def new_input(tensor: keras.KerasTensor) -> keras.KerasTensor:
        shape = list(tensor.shape)
        if id(tensor) in entries:
            axis, numbers = entries[id(tensor)]
            shape[axis + 1] = int(keep[numbers].sum())
        name = tensor._keras_history[0].name
        return keras.Input(batch_shape=shape, dtype=tensor.dtype, name=name)

    graph = getattr(model, "_functional", None) or model
    inputs = keras.tree.map_structure(new_input, graph.input)
    return keras.models.clone_model(model, input_tensors=inputs, clone_function=clone)


def _layers_of(plan: Plan) -> list[keras.layers.Layer]:
    """Returns each layer of the graph once."""
    layers = {id(call.layer): call.layer for call in plan.calls}
    return [layer for layer in layers.values() if isinstance(layer, keras.layers.Layer)]


def _without(
    value: np.ndarray, places: Mapping[int, Sequence[tuple[int, Numbers]]], key: int
) -> np.ndarray:
    for axis, remaining in places.get(key, ()):
        value = np.take(value, remaining, axis)
    return value


def _resized(value: Any, resize: Resize, keep: np.ndarray) -> Any:
    """Returns a value of a configuration for the channels that are kept."""
    is_kept = keep[resize.numbers]
    if resize.entry is not None:
        shape = list(value)
        shape[resize.entry] = int(is_kept.sum())
        return tuple(shape)
    if isinstance(value, (int, np.integer)):
        return int(is_kept.sum())
    flat = np.asarray(value)
    return np.take(flat, np.flatnonzero(is_kept), int(np.argmax(flat.shape))).tolist()
