"""What a network costs on a device: multiply-adds, parameters and bytes in INT8."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count
from math import prod

import keras
from keras import layers as kl

from .alive import AliveTensor, elements, memory
from .operators import PRODUCTS, SEPARABLE, TRANSPOSED, OperatorCall, fuse, operator_calls
from .quantization.fake_quant import added_parameters

BIAS_BYTES = 4  # INT8 runtimes keep biases in 32 bits


@dataclass(frozen=True)
class LayerCost:
    """The cost of one operator, including the layers that a runtime fuses into it.

    Attributes:
        name: Name of the layer.
        kind: Class of the layer.
        output_shape: Shape of its output, without the batch.
        macs: Multiply-adds per image.
        parameters: Weights of the layer and of the layers fused into it; 0 for a second call
            of the same layer.
        weight_bytes: Bytes of these weights in INT8.
        activation_bytes: Bytes in INT8 of all tensors alive while it runs.
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
        parameters: All weights, except those added by quantisation-aware training.
        trainable: The weights that training changes.
        macs: Multiply-adds of convolutions and dense layers; nothing else is counted.
        weight_bytes: Bytes of the weights in INT8: one per weight, four per bias, with batch
            normalisation folded into the convolution before it.
        peak_activation_bytes: Most bytes that the tensors alive at one time occupy in INT8: an
            operator's inputs and output, and whatever a later operator still needs, such as a
            U-Net's skips. A runtime's alignment and scratch memory are not included.
        peak_layer: Name of the operator at which that happens.
        layers: The operators in running order.
        uncounted: Layers with weights whose multiply-adds are not counted.
        peak_tensors: What is alive at the peak: the operator's inputs, whatever a later one
            needs, and its output, in the order in which they are made.
        peak_overlapped_bytes: The same peak if an operator's output may lie over inputs that
            nothing reads later. Real plans need a little more, since kernels are ahead of what
            they write by about a row.
    """

    parameters: int
    trainable: int
    macs: int
    weight_bytes: int
    peak_activation_bytes: int
    peak_layer: str
    layers: tuple[LayerCost, ...]
    uncounted: tuple[str, ...]
    peak_tensors: tuple[AliveTensor, ...] = ()
    peak_overlapped_bytes: int = 0


def model_cost(model: keras.Model) -> ModelCost:
    """Counts the cost of one image.

    Args:
        model: A functional or sequential model with a fixed input size.

    Returns:
        The cost for a batch of one.

    Raises:
        ValueError: The model has no graph to read, or its input size is not fixed.

    Example:
        >>> from models import Nano_U
        >>> cost = model_cost(Nano_U())
        >>> cost.parameters, cost.macs, cost.weight_bytes, cost.peak_activation_bytes
        (4212, 2399200, 4215, 76800)
    """
    graph = getattr(model, "_functional", model)  # a Sequential's own graph
    if not hasattr(graph, "operations"):
        raise ValueError(
            "Expected a functional or sequential model with a fixed input size, whose layers "
            f"can be counted. Received: '{model.name}', a {type(model).__name__}"
        )
    numbers = count()
    names = {id(tensor): next(numbers) for tensor in graph.inputs}
    inputs = [(names[id(t)], elements(t.shape, model.name)) for t in graph.inputs]
    calls = list(operator_calls(graph, names, numbers))
    outputs = [names[id(tensor)] for tensor in graph.outputs]
    calls, outputs = fuse(calls, outputs)
    makers = {names[id(t)]: t._keras_history.operation.name for t in graph.inputs}
    used = memory(calls, inputs, makers, outputs)
    layers = _layer_costs(calls, [sum(t.bytes for t in each) for each in used.tensors])
    peak = max(layers, key=lambda layer: layer.activation_bytes)
    return ModelCost(
        parameters=model.count_params() - sum(map(added_parameters, model.layers)),
        trainable=sum(map(_size, model.trainable_weights)),
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
        peak_tensors=used.tensors[layers.index(peak)],
        peak_overlapped_bytes=max(used.overlapped),
    )


COUNTED = (*PRODUCTS, kl.BatchNormalization)


def _layer_costs(calls: Sequence[OperatorCall], alive: Sequence[int]) -> tuple[LayerCost, ...]:
    counted: set[int] = set()
    costs = []
    for call, activation_bytes in zip(calls, alive, strict=True):
        layers = (call.layer, *call.fused)
        repeated = id(call.layer) in counted
        counted |= {id(layer) for layer in layers}
        costs.append(
            LayerCost(
                name=call.layer.name,
                kind=type(call.layer).__name__,
                output_shape=call.output_shapes[0],
                macs=_macs(call),
                parameters=0 if repeated else sum(map(_parameters, layers)),
                weight_bytes=0 if repeated else _weight_bytes(call),
                activation_bytes=activation_bytes,
            )
        )
    return tuple(costs)


def _parameters(layer: keras.layers.Layer) -> int:
    return sum(map(_size, getattr(layer, "weights", ()))) - added_parameters(layer)


def _macs(call: OperatorCall) -> int:
    """Returns the multiply-adds of one call; 0 for layers that multiply nothing."""
    return sum(positions * _size(kernel) for kernel, positions in macs_per_weight(call))


def macs_per_weight(call: OperatorCall) -> list[tuple[keras.Variable, int]]:
    """Returns a call's kernels, and how often each of their weights is multiplied."""
    layer = call.layer
    if isinstance(layer, kl.Dense):
        return [(layer.kernel, prod(call.input_shape[:-1]))]
    if not isinstance(layer, PRODUCTS):
        return []
    # A transposed convolution multiplies at each input position, the others at each output.
    shape = call.input_shape if isinstance(layer, TRANSPOSED) else call.output_shapes[0]
    first = layer.data_format == "channels_first"
    positions = prod(shape[1:] if first else shape[:-1])
    return [(kernel, positions) for kernel in _kernels(layer)]


def _kernels(layer: keras.layers.Layer) -> list[keras.Variable]:
    if isinstance(layer, SEPARABLE):
        return [layer.depthwise_kernel, layer.pointwise_kernel]
    return [layer.kernel]


def _size(variable: keras.Variable) -> int:
    """Returns the number of elements of a weight."""
    shape: tuple[int, ...] = tuple(variable.shape)
    return prod(shape)


def _weight_bytes(call: OperatorCall) -> int:
    """Returns the bytes of kernels and biases, and of batch normalisation that is not folded."""
    layer = call.layer
    if isinstance(layer, PRODUCTS):
        folded = any(isinstance(other, kl.BatchNormalization) for other in call.fused)
        biases = call.output_shapes[0][_channel_axis(layer)] if layer.use_bias or folded else 0
        return sum(map(_size, _kernels(layer))) + BIAS_BYTES * biases
    if isinstance(layer, kl.BatchNormalization):
        axis: int = layer.axis - 1 if layer.axis > 0 else layer.axis
        return 2 * call.output_shapes[0][axis]
    return _parameters(layer)


def _channel_axis(layer: keras.layers.Layer) -> int:
    return 0 if getattr(layer, "data_format", None) == "channels_first" else -1
