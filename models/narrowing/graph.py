"""Walks a functional model's graph and collects what is known of its channels."""

from itertools import count

import keras

from ..operators import OperatorCall, operator_calls
from .rules import is_elementwise, rule_of
from .trace import Channels, Trace


def functional_graph(model: keras.Model) -> keras.Model:
    """Returns the graph of a functional or sequential model.

    Raises:
        ValueError: The model has no graph to read.
    """
    graph = getattr(model, "_functional", None) or model
    if not hasattr(graph, "_nodes_by_depth"):
        raise ValueError(
            "Expected a functional or sequential model, whose graph can be read. Received: "
            f"'{model.name}', a {type(model).__name__}"
        )
    return graph


def layer_paths(model: keras.Model) -> dict[int, str]:
    """Returns {id of a layer: its path}, "outer/inner" inside nested models.

    Operations of Keras in the graph count as layers.
    """
    paths: dict[int, str] = {}

    def add(container: keras.Model, prefix: str) -> None:
        graph = getattr(container, "_functional", None) or container
        for layer in getattr(graph, "operations", container.layers):
            path = paths.setdefault(id(layer), f"{prefix}{layer.name}")
            if isinstance(layer, (keras.Sequential, keras.Model)) and hasattr(layer, "layers"):
                add(layer, f"{path}/")

    add(model, "")
    return paths


def trace_channels(model: keras.Model) -> tuple[Trace, list[OperatorCall], list[int]]:
    """Follows the channels from a model's inputs to its outputs.

    Returns:
        What is known of the channels, the calls in running order, and the numbers of the tensors
        that the model returns.

    Raises:
        ValueError: The model has no graph to read.
    """
    graph, trace, numbers = functional_graph(model), Trace(), count()
    names = {id(tensor): next(numbers) for tensor in graph.inputs}
    for tensor in graph.inputs:
        shape = tuple(tensor.shape[1:])
        channels = Channels(max(len(shape) - 1, 0), trace.fresh(shape[-1] if shape else 0))
        trace.fix(channels.numbers, "an input of the model")
        trace.tensors[names[id(tensor)]] = shape, channels
    entries: list[tuple[keras.KerasTensor, int]] = []
    calls = list(operator_calls(graph, names, numbers, entries))
    for call in calls:
        _follow(trace, call)
    for tensor, name in entries:
        _enter(trace, tensor, trace.tensors[name][1])
    outputs = [names[id(tensor)] for tensor in graph.outputs]
    for name in outputs:
        trace.fix(trace.tensors[name][1].numbers, "an output of the model")
    return trace, calls, outputs


def _enter(trace: Trace, tensor: keras.KerasTensor, channels: Channels) -> None:
    """Ties the channels that a nested model is called with, every time, to those of its input."""
    first = trace.entries.setdefault(id(tensor), channels)
    if first.axis == channels.axis:
        trace.tie(first.numbers, channels.numbers)
    else:
        for each in (first, channels):
            trace.fix(each.numbers, f"'{tensor.name}' is called with channels on several axes")


def _follow(trace: Trace, call: OperatorCall) -> None:
    inputs = [trace.tensors[name][1] for name in call.inputs]
    layer, rule = call.layer, rule_of(call.layer)
    result = rule(trace, call, inputs) if rule and len(call.outputs) == 1 else None
    if result is not None and not is_elementwise(getattr(layer, "activation", None)):
        # The kernel reads as any other; what comes out has been through the activation.
        trace.fix(result.numbers, f"'{layer.name}' has an activation over channels")
    if result is None:
        reason = f"'{layer.name}', a {type(layer).__name__}, mixes or orders them in its own way"
        for channels in inputs:
            trace.fix(channels.numbers, reason)
        for name, shape in zip(call.outputs, call.output_shapes, strict=True):
            made = Channels(max(len(shape) - 1, 0), trace.fresh(shape[-1] if shape else 0))
            trace.fix(made.numbers, f"made by '{layer.name}', a {type(layer).__name__}")
            trace.tensors[name] = shape, made
        return
    trace.tensors[call.outputs[0]] = call.output_shapes[0], result
    _fix_unknown_weights(trace, layer)


def _fix_unknown_weights(trace: Trace, layer: keras.layers.Layer) -> None:
    """Fixes the channels of a layer with a weight that no rule knows."""
    axes = [axis for axis in trace.axes.values() if axis.layer is layer]
    known = {id(axis.variable) for axis in axes}
    unknown = [w for w in getattr(layer, "weights", ()) if w.shape and id(w) not in known]
    if axes and unknown:
        for axis in axes:
            trace.fix(axis.numbers, f"'{layer.name}' has a weight '{unknown[0].name}' of its own")
