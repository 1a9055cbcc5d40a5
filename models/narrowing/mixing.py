"""How layers with kernels make and read channels.

A rule gets the trace, a call and the channels of its inputs, and returns those of its output.
"""

from math import prod

import keras
import numpy as np
from keras import layers as kl

from ..operators import OperatorCall
from .trace import Channels, Numbers, Resize, Trace


def channel_axis(layer: kl.Layer, rank: int) -> int:
    """Returns the axis, counted without the batch, on which a layer expects channels."""
    first = getattr(layer, "data_format", "channels_last") == "channels_first"
    return 0 if first else rank - 1


def _channels_of(trace: Trace, call: OperatorCall, channels: Channels) -> tuple[int, Numbers]:
    """Returns the axis on which a layer looks for channels, and those that are there."""
    shape = call.input_shapes[0]
    axis = channel_axis(call.layer, len(shape))
    reason = f"'{call.layer.name}' takes another axis for the channels"
    return axis, trace.expect(channels, axis, shape, reason)[1]


def _taps(kernel: keras.Variable) -> int:
    return prod(kernel.shape[:-2])


def convolution(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """Conv1D to Conv3D; each group of a grouped one keeps as many channels as the others."""
    layer = call.layer
    axis, numbers = _channels_of(trace, call, inputs[0])
    if layer.groups > 1 and layer.groups == len(numbers):
        return _depthwise_groups(trace, layer, axis, numbers)
    blocks = numbers.reshape(layer.groups, -1)
    made = trace.make(layer, layer.filters)
    for block in range(1, layer.groups):
        trace.tie(blocks[0], blocks[block])
        made_blocks = made.reshape(layer.groups, -1)
        trace.tie(made_blocks[0], made_blocks[block])
    trace.cut(layer, "kernel", -2, blocks[0])
    _cut_outputs(trace, layer, "kernel", -1, made)
    trace.read(layer, np.tile(blocks, (1, _taps(layer.kernel))), made, call.outputs[0])
    return Channels(axis, made)


def _depthwise_groups(trace: Trace, layer: kl.Layer, axis: int, numbers: Numbers) -> Channels:
    """A convolution with one group per channel passes its channels on."""
    multiplier = layer.filters // len(numbers)
    passed = np.repeat(numbers, multiplier)
    trace.cut(layer, "kernel", -1, passed)
    if layer.use_bias:
        trace.cut(layer, "bias", 0, passed)
    trace.resize(layer, Resize("filters", passed), Resize("groups", numbers))
    return Channels(axis, passed)


def _cut_outputs(trace: Trace, layer: kl.Layer, kernel: str, axis: int, made: Numbers) -> None:
    trace.cut(layer, kernel, axis, made)
    if layer.use_bias:
        trace.cut(layer, "bias", 0, made)
    trace.resize(layer, Resize("units" if isinstance(layer, kl.Dense) else "filters", made))


def transposed(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """Conv1DTranspose to Conv3DTranspose, whose kernel is (..., outputs, inputs)."""
    layer = call.layer
    axis, numbers = _channels_of(trace, call, inputs[0])
    made = trace.make(layer, layer.filters)
    trace.cut(layer, "kernel", -1, numbers)
    _cut_outputs(trace, layer, "kernel", -2, made)
    trace.read(layer, numbers[None], made, call.outputs[0])
    return Channels(axis, made)


def depthwise(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """DepthwiseConv1D and 2D: each channel becomes `depth_multiplier` neighbouring ones."""
    layer = call.layer
    axis, numbers = _channels_of(trace, call, inputs[0])
    passed = np.repeat(numbers, layer.depth_multiplier)
    trace.cut(layer, "kernel", -2, numbers)
    if layer.use_bias:
        trace.cut(layer, "bias", 0, passed)
    return Channels(axis, passed)


def separable(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """SeparableConv1D and 2D: a depthwise convolution, and a 1x1 one that mixes."""
    layer = call.layer
    axis, numbers = _channels_of(trace, call, inputs[0])
    rows = np.repeat(numbers, layer.depth_multiplier)
    made = trace.make(layer, layer.filters)
    trace.cut(layer, "depthwise_kernel", -2, numbers)
    trace.cut(layer, "pointwise_kernel", -2, rows)
    _cut_outputs(trace, layer, "pointwise_kernel", -1, made)
    trace.read(layer, rows[None], made, call.outputs[0])
    return Channels(axis, made)


def dense(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """Dense, on the last axis."""
    layer = call.layer
    axis, numbers = _channels_of(trace, call, inputs[0])
    made = trace.make(layer, layer.units)
    trace.cut(layer, "kernel", 0, numbers)
    _cut_outputs(trace, layer, "kernel", 1, made)
    trace.read(layer, numbers[None], made, call.outputs[0])
    return Channels(axis, made)


def embedding(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """Embedding makes channels on a new last axis and reads none."""
    layer = call.layer
    trace.fix(inputs[0].numbers, f"'{layer.name}' takes them for integers")
    made = trace.make(layer, layer.output_dim)
    trace.cut(layer, "embeddings", -1, made)
    trace.resize(layer, Resize("output_dim", made))
    return Channels(len(call.output_shapes[0]) - 1, made)
