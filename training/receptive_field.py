"""How far the pixels lie that an output of a network depends on, and in which steps it pools."""

from collections.abc import Iterable
from fractions import Fraction
from math import ceil, lcm
from typing import Any, NamedTuple

import keras
from keras import layers as kl

from models.quantization.fake_quant import FakeQuantize

CONVOLUTIONS = (kl.Conv2D, kl.DepthwiseConv2D, kl.SeparableConv2D)
POOLS = (kl.MaxPooling2D, kl.AveragePooling2D)
POINTWISE = (
    *(kl.Activation, kl.ReLU, kl.LeakyReLU, kl.ELU, kl.Identity, kl.Rescaling, kl.InputLayer),
    *(kl.Dropout, kl.SpatialDropout2D, kl.GaussianNoise, kl.GaussianDropout, FakeQuantize),
    kl.ActivityRegularization,
)
ALONG_CHANNELS = (kl.BatchNormalization, kl.LayerNormalization, kl.Softmax, kl.Concatenate)
MERGING = (kl.Add, kl.Subtract, kl.Multiply, kl.Average, kl.Maximum, kl.Minimum)
# keras.ops as they stand in a functional model, by the number of tensors that they take.
OPERATIONS = {
    1: {"relu", "relu6", "sigmoid", "tanh", "silu", "gelu", "leakyrelu", "hardsigmoid"},
    2: {"add", "subtract", "multiply", "maximum", "minimum"},
}


class Geometry(NamedTuple):
    """How a network sees an image, vertically and horizontally.

    Attributes:
        stride: Pixels by which an image can be shifted so that the outputs shift with it.
        radius: Pixels around an output beyond which nothing affects it; None if the network is
            not fully convolutional, or that is unknown.
    """

    stride: tuple[int, int]
    radius: tuple[int, int] | None


class Reach(NamedTuple):
    """What an index i reads in one direction: pixels from scale·i - before to scale·i + after."""

    scale: Fraction = Fraction(1)
    before: Fraction = Fraction(0)
    after: Fraction = Fraction(0)


class UnknownReachError(Exception):
    """A layer is not known to read only a neighbourhood, the same everywhere."""


def geometry(model: keras.Model) -> Geometry:
    """Returns how a model sees an image.

    Args:
        model: A functional or sequential model of one input and one output.

    Example:
        >>> inputs = keras.Input((16, 16, 3))
        >>> x = kl.MaxPooling2D(2)(kl.Conv2D(4, 3, padding="same")(inputs))
        >>> x = kl.UpSampling2D(2)(kl.Conv2D(1, 3, padding="same")(x))
        >>> geometry(keras.Model(inputs, x))
        Geometry(stride=(2, 2), radius=(4, 4))
    """
    strides, ends = [], []
    try:
        for axis in (0, 1):
            known = {id(tensor): Reach() for tensor in model.inputs}
            end = _reach(model.outputs[0], axis, known)
            if end.scale != 1:
                raise UnknownReachError
            strides.append(lcm(*(reach.scale.numerator for reach in known.values())))
            ends.append(ceil(max(end.before, end.after)))
    except UnknownReachError:
        size = tuple(model.inputs[0].shape[1:3])
        outputs = [tensor for layer in model.layers for tensor in _outputs(layer)]
        return Geometry(stride_of_sizes(size, [tuple(each.shape) for each in outputs]), None)
    return Geometry((strides[0], strides[1]), (ends[0], ends[1]))


def stride_of_sizes(
    size: tuple[int | None, ...], shapes: Iterable[tuple[int | None, ...]]
) -> tuple[int, int]:
    """Returns in which steps a network pools, as the sizes of its activations tell.

    Args:
        size: Height and width of the image.
        shapes: Shapes of activations; all but (batch, height, width, channels) are left out.

    Example:
        >>> stride_of_sizes((60, 80), [(1, 30, 40, 8), (1, 10, 10, 8), (1, 1, 1, 4), (1, 5)])
        (6, 8)
    """
    pictures = [shape for shape in shapes if len(shape) == 4]
    strides = []
    for axis, whole in enumerate(size):
        sides = {shape[1 + axis] for shape in pictures} - {None, 1}
        stride = lcm(*(whole // side for side in sides if whole and side and whole % side == 0))
        strides.append(stride if whole and stride <= whole // 2 else 1)
    return strides[0], strides[1]


def _outputs(layer: keras.Layer) -> list[Any]:
    try:
        return keras.tree.flatten(layer.output)
    except (AttributeError, ValueError):  # never called, or called several times
        return []


def _reach(tensor: Any, axis: int, known: dict[int, Reach]) -> Reach:
    """Returns the reach of a tensor; `known` keeps those of all that it was made of."""
    waiting = [tensor]
    while waiting:  # a recursion would be too deep for some networks
        current = waiting[-1]
        operation, node, index = current._keras_history
        sources = operation._inbound_nodes[node].input_tensors
        missing = [source for source in sources if id(source) not in known]
        if id(current) in known:
            waiting.pop()
        elif missing:
            waiting += missing
        else:
            reaches = [known[id(source)] for source in sources]
            if isinstance(operation, keras.Model) and len(operation.inputs or ()) == 1:
                inner = {id(operation.inputs[0]): reaches[0]}
                known[id(current)] = _reach(operation.outputs[index], axis, inner)
                known |= {key: reach for key, reach in inner.items() if key not in known}
            else:
                known[id(current)] = _through(operation, sources, reaches, axis)
    return known[id(tensor)]


def _through(operation: Any, sources: list, reaches: list[Reach], axis: int) -> Reach:
    """Returns the reach of what an operation makes of tensors."""
    if getattr(operation, "data_format", "channels_last") != "channels_last" or not reaches:
        raise UnknownReachError
    if isinstance(operation, CONVOLUTIONS):
        kernel = (operation.kernel_size[axis] - 1) * operation.dilation_rate[axis] + 1
        step = operation.strides[axis]
        return _window(reaches[0], sources[0], axis, kernel, step, operation.padding)
    if isinstance(operation, POOLS):
        kernel, step = operation.pool_size[axis], operation.strides[axis]
        return _window(reaches[0], sources[0], axis, kernel, step, operation.padding)
    if isinstance(operation, kl.Conv2DTranspose):
        kernel = (operation.kernel_size[axis] - 1) * operation.dilation_rate[axis]
        scale = reaches[0].scale / operation.strides[axis]
        return Reach(scale, *(end + scale * kernel for end in reaches[0][1:]))
    if isinstance(operation, kl.UpSampling2D):
        return _enlarged(reaches[0], operation.size[axis], operation.interpolation)
    if isinstance(operation, kl.Resizing):
        factor = Fraction(operation.output.shape[1 + axis], sources[0].shape[1 + axis] or 1)
        if factor.denominator != 1:
            raise UnknownReachError
        return _enlarged(reaches[0], factor.numerator, operation.interpolation)
    if isinstance(operation, (kl.Cropping2D, kl.ZeroPadding2D)):
        is_crop = isinstance(operation, kl.Cropping2D)
        moved = operation.cropping[axis][0] if is_crop else -operation.padding[axis][0]
        scale, before, after = reaches[0]
        return Reach(scale, before - scale * moved, after + scale * moved)
    return _pointwise(operation, sources, reaches)


def _pointwise(operation: Any, sources: list, reaches: list[Reach]) -> Reach:
    """Returns the reach of an operation that computes each pixel by itself."""
    name = type(operation).__name__.lower()
    is_known = isinstance(operation, (*POINTWISE, *MERGING))
    if isinstance(operation, ALONG_CHANNELS):
        last = len(sources[0].shape) - 1
        is_known = operation.axis in (-1, last, [-1], [last], (-1,), (last,))
    if not isinstance(operation, keras.Layer):
        is_known = name in OPERATIONS.get(len(sources), ())
    if not is_known or len({reach.scale for reach in reaches}) > 1:
        raise UnknownReachError
    before, after = (max(reach[part] for reach in reaches) for part in (1, 2))
    return Reach(reaches[0].scale, before, after)


def _window(source: Reach, tensor: Any, axis: int, kernel: int, step: int, padding: str) -> Reach:
    """Returns the reach of a window that moves in steps, as TensorFlow pads it."""
    scale, before, after = source
    size = tensor.shape[1 + axis]
    first = last = 0
    if padding == "same":
        if size is None:  # what is added on each side depends on the size
            first, last = kernel - 1, 0
        else:
            first = max((-(-size // step) - 1) * step + kernel - size, 0) // 2
            last = -first
    elif padding != "valid":
        raise UnknownReachError
    return Reach(scale * step, before + scale * first, after + scale * (kernel - 1 + last))


def _enlarged(source: Reach, factor: int, interpolation: str) -> Reach:
    """Returns the reach after each pixel has become `factor` pixels."""
    scale, before, after = source
    if interpolation == "nearest":
        return Reach(scale / factor, before + scale * Fraction(factor - 1, factor), after)
    if interpolation == "bilinear":
        half = Fraction(1, 2 * factor)
        return Reach(scale / factor, before + scale * (Fraction(3, 2) - half), after + scale)
    raise UnknownReachError
