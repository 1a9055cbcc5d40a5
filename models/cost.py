"""What a network costs on a device: multiply-adds, parameters, and bytes in INT8."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import count
from math import prod

import keras
from keras import layers as kl

from .probes import Probe
from .quantization.fake_quant import FakeQuantize, added_parameters

CONVOLUTIONS = (kl.Conv1D, kl.Conv2D, kl.Conv3D, kl.DepthwiseConv1D, kl.DepthwiseConv2D)
TRANSPOSED = (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose)
SEPARABLE = (kl.SeparableConv1D, kl.SeparableConv2D)
PRODUCTS = (*CONVOLUTIONS, *TRANSPOSED, *SEPARABLE, kl.Dense)
ABSENT = (Probe, FakeQuantize, kl.Identity, kl.Dropout, kl.SpatialDropout2D, kl.GaussianNoise)
BIAS_BYTES = 4  # INT8 runtimes keep biases in 32 bits


@dataclass(frozen=True)
class LayerCost:
    """One operation of an inference; what a runtime fuses into it is part of it.

    Attributes:
        name: Name of the layer.
        kind: Its class.
        output_shape: Without the batch.
        macs: Multiply-adds for one image.
        parameters: Of the layer and of what is fused into it; 0 where it is called again.
        weight_bytes: The same in INT8.
        activation_bytes: Of all tensors alive while it runs, in INT8.
    """

    name: str
    kind: str
    output_shape: tuple[int, ...]
    macs: int
    parameters: int
    weight_bytes: int
    activation_bytes: int


@dataclass(frozen=True)
class ModelCost:
    """What a network costs for one image.

    Attributes:
        parameters: All weights, without what quantisation-aware training adds.
        trainable: Those that training changes.
        macs: Multiply-adds of convolutions and dense layers; nothing else is counted.
        weight_bytes: Of an INT8 version: a byte a weight, four a bias; batch normalisation
            is folded into the convolution before it.
        peak_activation_bytes: The most that tensors alive at one time take in INT8: an
            operation's inputs and output, and what a later one still needs, as a U-Net's
            skips. Without a runtime's alignment and scratch memory.
        peak_layer: Where that is.
        layers: In the order they run in.
        uncounted: Layers with weights whose multiply-adds are not known here.
    """

    parameters: int
    trainable: int
    macs: int
    weight_bytes: int
    peak_activation_bytes: int
    peak_layer: str
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...]


def model_cost(model: keras.Model) -> ModelCost:
    """Counts what one image costs.

    Args:
        model: A functional or sequential model whose input has a fixed size.

    Returns:
        Figures for a batch of one.

    Raises:
        ValueError: The model has no graph to read, or a size is not fixed.

    Example:
        >>> from models import Nano_U
        >>> cost = model_cost(Nano_U())
        >>> cost.parameters, cost.macs, cost.weight_bytes, cost.peak_activation_bytes
        (4212, 2399200, 4215, 76800)
    """
    graph = getattr(model, "_functional", model)  # a Sequential's own graph
    if not hasattr(graph, "operations"):
        raise ValueError(
            "Expected a functional or sequential model with an input size, whose graph says what "
            f"it costs. Received: '{model.name}', a {type(model).__name__}"
        )
    numbers = count()
    names = {id(tensor): next(numbers) for tensor in graph.inputs}
    inputs = [(names[id(t)], _elements(t.shape, model.name)) for t in graph.inputs]
    calls = list(_calls(graph, names, numbers))
    outputs = [names[id(tensor)] for tensor in graph.outputs]
    calls, outputs = _fused(calls, outputs)
    layers = _layer_costs(calls, _alive(calls, inputs, outputs))
    peak = max(layers, key=lambda layer: layer.activation_bytes)
    return ModelCost(
        parameters=model.count_params() - sum(map(added_parameters, model.layers)),
        trainable=sum(prod(weight.shape) for weight in model.trainable_weights),
        macs=sum(layer.macs for layer in layers),
        weight_bytes=sum(layer.weight_bytes for layer in layers),
        peak_activation_bytes=peak.activation_bytes,
        peak_layer=peak.name,
        layers=layers,
        uncounted=tuple(
            call.layer.name
            for call in calls
            if getattr(call.layer, "weights", None) and not isinstance(call.layer, COUNTED)
        ),
    )


COUNTED = (*PRODUCTS, kl.BatchNormalization)


@dataclass(frozen=True)
class _Call:
    """A layer in its place; tensors are numbers."""

    layer: keras.layers.Layer
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_shape: tuple[int, ...]
    output_shapes: tuple[tuple[int, ...], ...]
    fused: tuple[keras.layers.Layer, ...] = field(default=())


def _calls(graph: keras.Model, names: dict[int, int], numbers: Iterator[int]) -> Iterator[_Call]:
    """Yields every call in the order Keras runs them, those of nested models in their place.

    Keras tells how its tensors hang together only in private attributes.

    Args:
        graph: A functional model.
        names: {id of a Keras tensor: its number}, of the inputs; filled up on the way.
        numbers: For new tensors; those of a model that is called twice differ.
    """
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        for node in graph._nodes_by_depth[depth]:
            if node.is_input:
                continue
            layer = node.operation
            layer = getattr(layer, "_functional", None) or layer
            given = tuple(names[id(tensor)] for tensor in node.input_tensors)
            if hasattr(layer, "_nodes_by_depth"):
                inner = dict(zip((id(t) for t in layer.inputs), given, strict=True))
                yield from _calls(layer, inner, numbers)
                found = tuple(inner[id(tensor)] for tensor in layer.outputs)
            else:
                found = tuple(next(numbers) for _ in node.output_tensors)
                yield _Call(
                    layer,
                    given,
                    found,
                    tuple(node.input_tensors[0].shape[1:]),
                    tuple(tuple(tensor.shape[1:]) for tensor in node.output_tensors),
                )
            names |= dict(zip((id(t) for t in node.output_tensors), found, strict=True))


def _fused(calls: Sequence[_Call], outputs: list[int]) -> tuple[list[_Call], list[int]]:
    """Leaves out what an INT8 runtime does not run by itself, and renames its outputs."""
    readers = Counter(name for call in calls for name in {*call.inputs}) + Counter(outputs)
    root: dict[int, int] = {}
    place: dict[int, int] = {}  # of what makes a tensor, among `kept`
    kept: list[_Call] = []
    for call in calls:
        inputs = tuple(root.get(name, name) for name in call.inputs)
        absent = isinstance(call.layer, ABSENT) or _linear(call.layer)
        if not absent and _fusible(call.layer) and readers[call.inputs[0]] == 1:
            maker = place.get(inputs[0])
            if maker is not None and isinstance(kept[maker].layer, PRODUCTS):
                kept[maker] = replace(kept[maker], fused=(*kept[maker].fused, call.layer))
                absent = True
        if absent:
            root[call.outputs[0]] = inputs[0]
        else:
            place |= dict.fromkeys(call.outputs, len(kept))
            kept.append(replace(call, inputs=inputs))
    return kept, [root.get(name, name) for name in outputs]


def _linear(layer: keras.layers.Layer) -> bool:
    return isinstance(layer, kl.Activation) and layer.activation is keras.activations.linear


def _fusible(layer: keras.layers.Layer) -> bool:
    """Tells whether a runtime makes the layer part of the convolution before it."""
    if isinstance(layer, kl.ReLU):
        return not layer.negative_slope and not layer.threshold
    if isinstance(layer, kl.Activation):
        return layer.activation in (keras.activations.relu, keras.activations.relu6)
    return isinstance(layer, kl.BatchNormalization)


def _alive(
    calls: Sequence[_Call], inputs: Sequence[tuple[int, int]], outputs: Sequence[int]
) -> list[int]:
    """Returns the bytes of the tensors alive while each call runs."""
    sizes, born = dict(inputs), {name: 0 for name, _ in inputs}
    last = {name: number for number, call in enumerate(calls) for name in call.inputs}
    last |= dict.fromkeys(outputs, len(calls))
    for number, call in enumerate(calls):
        for name, shape in zip(call.outputs, call.output_shapes, strict=True):
            sizes[name], born[name] = _elements((1, *shape), call.layer.name), number
    return [
        sum(size for name, size in sizes.items() if born[name] <= n <= last.get(name, born[name]))
        for n in range(len(calls))
    ]


def _layer_costs(calls: Sequence[_Call], alive: Sequence[int]) -> tuple[LayerCost, ...]:
    known: set[int] = set()
    found = []
    for call, activation_bytes in zip(calls, alive, strict=True):
        layers = (call.layer, *call.fused)
        again = id(call.layer) in known
        known |= {id(layer) for layer in layers}
        found.append(
            LayerCost(
                name=call.layer.name,
                kind=type(call.layer).__name__,
                output_shape=call.output_shapes[0],
                macs=_macs(call),
                parameters=0 if again else sum(map(_parameters, layers)),
                weight_bytes=0 if again else _weight_bytes(call),
                activation_bytes=activation_bytes,
            )
        )
    return tuple(found)


def _parameters(layer: keras.layers.Layer) -> int:
    weights = sum(prod(weight.shape) for weight in getattr(layer, "weights", ()))
    return weights - added_parameters(layer)


def _macs(call: _Call) -> int:
    """Returns the multiply-adds of one call; 0 for what is not a product."""
    layer = call.layer
    if isinstance(layer, kl.Dense):
        return prod(call.input_shape[:-1]) * prod(layer.kernel.shape)
    if not isinstance(layer, PRODUCTS):
        return 0
    # A transposed convolution multiplies each of its inputs, the others make each output.
    shape = call.input_shape if isinstance(layer, TRANSPOSED) else call.output_shapes[0]
    first = layer.data_format == "channels_first"
    positions = prod(shape[1:] if first else shape[:-1])
    return positions * sum(prod(kernel.shape) for kernel in _kernels(layer))


def _kernels(layer: keras.layers.Layer) -> list:
    if isinstance(layer, SEPARABLE):
        return [layer.depthwise_kernel, layer.pointwise_kernel]
    return [layer.kernel]


def _weight_bytes(call: _Call) -> int:
    """Returns the bytes of kernels, of biases, and of scale and offset where nothing takes them."""
    layer = call.layer
    if isinstance(layer, PRODUCTS):
        folded = any(isinstance(other, kl.BatchNormalization) for other in call.fused)
        biases = call.output_shapes[0][_channel_axis(layer)] if layer.use_bias or folded else 0
        return sum(prod(kernel.shape) for kernel in _kernels(layer)) + BIAS_BYTES * biases
    if isinstance(layer, kl.BatchNormalization):
        return 2 * call.output_shapes[0][layer.axis - 1 if layer.axis > 0 else layer.axis]
    return _parameters(layer)


def _channel_axis(layer: keras.layers.Layer) -> int:
    return 0 if getattr(layer, "data_format", None) == "channels_first" else -1


def _elements(shape: Sequence[int | None], name: str) -> int:
    """Returns the elements of one image's tensor."""
    sides = shape[1:]
    if None in sides:
        raise ValueError(
            f"Expected fixed sizes, as a device has them. Received: shape {tuple(shape)} at "
            f"'{name}'. Build the model with its input size."
        )
    return prod(side for side in sides if side is not None)
