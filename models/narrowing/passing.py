"""How layers that work channel by channel pass channels on, tie them or line them up.

A rule gets the trace, a call and the channels of its inputs, and returns those of its output, or
None where it does not understand this call; then it has changed nothing but fixed channels.
"""

from collections.abc import Sequence
from math import prod

import keras
import numpy as np

from ..operators import OperatorCall
from .mixing import channel_axis
from .trace import Channels, Resize, Trace


def normalization(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """BatchNormalization, over channels or over another axis."""
    layer, channels = call.layer, inputs[0]
    axis = layer.axis - 1 if layer.axis > 0 else layer.axis % len(call.input_shapes[0])
    if channels.axis == axis:
        weights = ("moving_mean", "moving_variance")
        weights += ("gamma",) * layer.scale + ("beta",) * layer.center
        for name in weights:
            trace.cut(layer, name, 0, channels.numbers)
    return channels


def adapted(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """Normalization by a mean and variance that were given or adapted."""
    layer, channels = call.layer, inputs[0]
    axes = layer.axis if isinstance(layer.axis, (tuple, list)) else (layer.axis,)
    axes = [] if layer.axis is None else [a - 1 if a > 0 else a for a in axes]
    axes = [a % len(call.input_shapes[0]) for a in axes]
    if channels.axis not in axes:
        return channels
    if axes != [channels.axis]:
        return None
    if layer.input_mean is None:
        trace.cut(layer, "adapt_mean", 0, channels.numbers)
        trace.cut(layer, "adapt_variance", 0, channels.numbers)
    else:
        lists = [
            Resize(key, channels.numbers)
            for key in ("mean", "variance")
            if np.size(getattr(layer, f"input_{key}")) > 1
        ]
        trace.resize(layer, *lists)
    return channels


def rescaling(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """Rescaling, by numbers or by a list with one for each channel."""
    layer, channels = call.layer, inputs[0]
    keys = [key for key in ("scale", "offset") if np.size(getattr(layer, key)) > 1]
    if keys and channels.axis != len(call.input_shapes[0]) - 1:
        return None
    if any(np.size(getattr(layer, key)) != len(channels.numbers) for key in keys):
        return None
    if keys:
        trace.resize(layer, *(Resize(key, channels.numbers) for key in keys))
    return channels


def prelu(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """PReLU, whose weights are shared along some axes."""
    channels = inputs[0]
    if call.layer.alpha.shape[channels.axis] > 1:
        trace.cut(call.layer, "alpha", channels.axis, channels.numbers)
    return channels


def passes(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """Works on each value by itself, or on whole channels."""
    return inputs[0]


def softmax(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """Softmax along positions passes channels on."""
    axes = call.layer.axis if isinstance(call.layer.axis, (tuple, list)) else [call.layer.axis]
    axes = [axis - 1 if axis > 0 else axis % len(call.input_shapes[0]) for axis in axes]
    return None if inputs[0].axis in axes else inputs[0]


def spatial(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """Pooling, padding, cropping and resizing: changes positions, not channels."""
    channels, rank = inputs[0], len(call.input_shapes[0])
    return channels if channels.axis == channel_axis(call.layer, rank) else None


def global_pooling(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """Global pooling leaves the channels, on their axis or on the only one."""
    channels = spatial(trace, call, inputs)
    if channels is None or call.layer.keepdims:
        return channels
    return Channels(0, channels.numbers)


def merged(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """Add, Multiply and the like: ties channels one by one; one channel may serve all."""
    shapes = call.input_shapes
    if len({len(shape) for shape in shapes}) > 1:
        return None
    widest = max(range(len(inputs)), key=lambda i: len(inputs[i].numbers))
    result = inputs[widest]
    for channels, shape in zip(inputs, shapes, strict=True):
        if channels.axis != result.axis:
            return None
        if len(channels.numbers) == len(result.numbers):
            trace.tie(result.numbers, channels.numbers)
        else:
            trace.fix(channels.numbers, f"'{call.layer.name}' spreads it over all channels")
            if shape[channels.axis] != 1:
                return None
    return result


def concatenation(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """Concatenate lines channels up, or ties them where it joins positions."""
    axis, first = call.layer.axis, inputs[0]
    axis = axis - 1 if axis > 0 else axis % len(call.input_shapes[0])
    if any(channels.axis != first.axis for channels in inputs):
        return None
    if axis == first.axis:
        return Channels(axis, np.concatenate([channels.numbers for channels in inputs]))
    for channels in inputs[1:]:
        trace.tie(first.numbers, channels.numbers)
    return first


def flatten(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """Flatten repeats the channels for every position."""
    shape, channels = call.input_shapes[0], inputs[0]
    if None in shape or not shape:
        return None
    positions = prod(shape) // shape[channels.axis]
    # With channels first, Keras moves the first axis to the end before it flattens.
    moved = call.layer.data_format == "channels_first" and len(shape) > 1
    last = channels.axis == (0 if moved else len(shape) - 1)
    if not last and channels.axis != 0:
        return None
    spread = np.tile if last else np.repeat
    return Channels(0, spread(channels.numbers, positions))


def reshape(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """Reshape that leaves the channels on the last axis, or flattens everything."""
    layer, channels = call.layer, inputs[0]
    shape, result = call.input_shapes[0], call.output_shapes[0]
    if None in (*shape, *result) or not result or channels.axis != len(shape) - 1:
        return None
    if result[-1] == shape[-1]:
        numbers = channels.numbers
    elif len(result) == 1:
        numbers = np.tile(channels.numbers, prod(shape[:-1]))
    else:
        return None
    if layer.target_shape[-1] != -1:
        trace.resize(layer, Resize("target_shape", numbers, entry=len(result) - 1))
    return Channels(len(result) - 1, numbers)


def permute(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """Permute moves the axis of the channels."""
    return Channels(list(call.layer.dims).index(inputs[0].axis + 1), inputs[0].numbers)


def repeat(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels:
    """RepeatVector adds an axis of positions before the channels."""
    return Channels(1, inputs[0].numbers)


def arithmetic(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """An operation of Keras on tensors and constants: `x + 3.0`, `x * y`."""
    constants = [a for a in call.arguments if not isinstance(a, keras.KerasTensor)]
    if any(np.size(constant) > 1 for constant in constants):
        return None
    return inputs[0] if len(inputs) == 1 else merged(trace, call, inputs)


def reduction(trace: Trace, call: OperatorCall, inputs: list[Channels]) -> Channels | None:
    """A mean, sum or extreme over positions."""
    operation, channels, rank = call.layer, inputs[0], len(call.input_shapes[0])
    axes: Sequence[int] | int | None = operation.axis
    if axes is None:
        return None
    axes = [axes] if isinstance(axes, int) else list(axes)
    reduced = {axis - 1 if axis > 0 else axis % (rank + 1) - 1 for axis in axes}
    if channels.axis in reduced or -1 in reduced:
        return None
    if operation.keepdims:
        return channels
    return Channels(channels.axis - sum(a < channels.axis for a in reduced), channels.numbers)
