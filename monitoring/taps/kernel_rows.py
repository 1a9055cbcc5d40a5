"""A layer as a matrix product: the rows that it reads, and the matrix that multiplies them.

A convolution multiplies, at each output position, one row of numbers (all channels of all taps)
by its kernel. With the rows and the matrix of this module, `rows @ matrix` is what the layer puts
out before its bias and its activation.
"""

import math
from itertools import product

import keras
import numpy as np
from keras import backend, ops
from keras import layers as kl

from ..statistics.types import Tensor

CONVOLUTIONS = (kl.Conv1D, kl.Conv2D, kl.Conv3D)
TRANSPOSED = (kl.Conv1DTranspose, kl.Conv2DTranspose, kl.Conv3DTranspose)
SEPARABLE = (kl.SeparableConv1D, kl.SeparableConv2D)
KINDS = (kl.Dense, *CONVOLUTIONS, *TRANSPOSED, *SEPARABLE)


def kernel_kind(layer: keras.layers.Layer) -> type | None:
    """Returns which of `KINDS` a layer is of; None if it is of none."""
    return next((kind for kind in KINDS if isinstance(layer, kind)), None)


def check_kernel_layer(layer: keras.layers.Layer) -> None:
    """Checks that a layer is of a kind whose rows and matrix are known.

    Raises:
        ValueError: It is of another kind, computes in a way of its own, is quantized, or is not
            built.
    """
    names = ", ".join(kind.__name__ for kind in KINDS)
    kind = kernel_kind(layer)
    received = f"Received: layer '{layer.name}' of class {type(layer).__name__}"
    if kind is None:
        raise ValueError(f"Expected a layer that multiplies by a kernel: {names}. {received}")
    methods = [name for name in ("call", "convolution_op") if hasattr(kind, name)]
    if any(getattr(type(layer), name) is not getattr(kind, name) for name in methods):
        raise ValueError(
            f"Expected a layer that computes as Keras' own {names} do. {received}, "
            f"which overrides a method of {kind.__name__}"
        )
    if getattr(layer.dtype_policy, "quantization_mode", None) is not None:
        raise ValueError(
            f"Expected a layer with a float kernel. {received}, which is quantized: measure the "
            "model before it is quantized"
        )
    if not layer.built:
        raise ValueError(f"Expected a built layer. {received}: call the model on images first")


def kernel_matrix(layer: keras.layers.Layer) -> np.ndarray:
    """Returns a layer's kernel as a matrix, with one block for each group of a convolution.

    Args:
        layer: A built Dense, convolution, transposed or separable convolution.

    Returns:
        (blocks, rows, outputs per block), float32 or the kernel's wider dtype. The rows are tap
        by tap, then channel by channel. A transposed convolution has one column for each tap
        and filter: what an input position adds to its neighbourhood.

    Raises:
        ValueError: The layer is of another kind, quantized, or not built.

    Example:
        >>> layer = keras.layers.Conv2D(4, 3, groups=2)
        >>> layer.build((None, 8, 8, 6))
        >>> kernel_matrix(layer).shape
        (2, 27, 2)
    """
    check_kernel_layer(layer)
    separable = isinstance(layer, SEPARABLE)
    variable = layer.pointwise_kernel if separable else layer.kernel
    kernel = _as_float(ops.convert_to_tensor(variable))
    if isinstance(layer, TRANSPOSED):
        matrix = np.moveaxis(kernel, -1, 0)  # (channels, taps..., filters)
        return np.ascontiguousarray(matrix).reshape(1, kernel.shape[-1], -1)
    groups = layer.groups if isinstance(layer, CONVOLUTIONS) else 1
    matrix = kernel.reshape(-1, groups, kernel.shape[-1] // groups)
    return np.ascontiguousarray(matrix.swapaxes(0, 1))


def output_columns(layer: keras.layers.Layer, outputs: np.ndarray) -> np.ndarray:
    """Returns which columns of a layer's matrix belong to some of its outputs.

    Args:
        layer: A layer that `kernel_matrix` takes.
        outputs: Indices of filters or units, as many of each group of a convolution.

    Returns:
        Indices of columns, (blocks, outputs of a block).

    Raises:
        ValueError: The groups do not have as many outputs each.

    Example:
        >>> layer = keras.layers.Conv2D(4, 3, groups=2)
        >>> layer.build((None, 8, 8, 6))
        >>> output_columns(layer, np.array([1, 2])).tolist()
        [[1], [0]]
    """
    blocks, _, columns = kernel_matrix(layer).shape
    if isinstance(layer, TRANSPOSED):
        return np.flatnonzero(np.isin(np.arange(columns) % layer.filters, outputs))[None]
    parts = [outputs[outputs // columns == block] % columns for block in range(blocks)]
    if len({len(part) for part in parts}) > 1:
        raise ValueError(
            f"Expected as many outputs of each group of layer '{layer.name}'. "
            f"Received: {[len(part) for part in parts]}"
        )
    return np.array(parts)


def position_count(layer: keras.layers.Layer, inputs: Tensor) -> int:
    """Returns how many positions of each image a layer multiplies by its kernel.

    Args:
        layer: The layer.
        inputs: What it is called with, (images, ...); only the shape matters.

    Example:
        >>> layer = keras.layers.Conv2D(4, 3, strides=2, padding="same")
        >>> position_count(layer, np.zeros((1, 9, 8, 3)))
        20
    """
    shape = tuple(inputs.shape)
    if isinstance(layer, kl.Dense):
        return math.prod(shape[1:-1])
    size = shape[2:] if layer.data_format == "channels_first" else shape[1:-1]
    if isinstance(layer, TRANSPOSED):
        return math.prod(size)
    return math.prod(count for count, _ in _output_axes(layer, size))


def kernel_rows(
    layer: keras.layers.Layer, inputs: Tensor, positions: np.ndarray | None = None
) -> np.ndarray:
    """Returns the rows that a layer multiplies by its kernel, at some positions of each image.

    Args:
        layer: A built Dense, convolution, transposed or separable convolution.
        inputs: What it is called with, (images, ...).
        positions: Flat indexes of positions, the same for each image: output positions of a
            convolution, input positions of a transposed one, for Dense all axes but the first
            and the last. Defaults to None: all.

    Returns:
        (blocks, samples, rows), float32 (float64 for float64 inputs), image by image.

    Raises:
        ValueError: The layer is of another kind, quantized, or not built.

    Example:
        >>> layer = keras.layers.Conv1D(4, 3, padding="same")
        >>> layer.build((None, 5, 1))
        >>> kernel_rows(layer, np.arange(5.0).reshape(1, 5, 1), np.array([0, 4]))[0].tolist()
        [[0.0, 0.0, 1.0], [3.0, 4.0, 0.0]]
    """
    check_kernel_layer(layer)
    if positions is None:
        positions = np.arange(position_count(layer, inputs))
    if isinstance(layer, SEPARABLE):
        inputs = _depthwise(layer, inputs)
    images = ops.convert_to_numpy(inputs)
    first = getattr(layer, "data_format", None) == "channels_first"
    if first and not isinstance(layer, SEPARABLE):
        images = np.moveaxis(images, 1, -1)
    pixels = images.reshape(len(images), -1, images.shape[-1])  # (images, pixels, channels)
    if isinstance(layer, CONVOLUTIONS):
        taps = _taps(layer, pixels, images.shape[1:-1], positions)
    else:
        taps = pixels[:, positions, None]
    *_, count, channels = taps.shape
    groups = layer.groups if isinstance(layer, CONVOLUTIONS) else 1
    blocks = taps.reshape(-1, count, groups, channels // groups)
    rows = np.moveaxis(blocks, 2, 0).reshape(groups, -1, count * channels // groups)
    return _as_float(rows)


def _taps(
    layer: keras.layers.Layer, pixels: np.ndarray, size: tuple[int, ...], positions: np.ndarray
) -> np.ndarray:
    """Returns what each tap of a kernel reads, (images, positions, taps, channels)."""
    axes = _output_axes(layer, size)
    outputs = np.unravel_index(positions, [count for count, _ in axes])
    taps = list(product(*(range(extent) for extent in layer.kernel_size)))
    shape = (len(pixels), len(positions), len(taps), pixels.shape[-1])
    values = np.empty(shape, pixels.dtype)
    for number, tap in enumerate(taps):
        steps = zip(outputs, layer.strides, tap, layer.dilation_rate, axes, strict=True)
        places = [at * stride + k * dilation - pad for at, stride, k, dilation, (_, pad) in steps]
        inside = [(p >= 0) & (p < extent) for p, extent in zip(places, size, strict=True)]
        clipped = [np.clip(p, 0, extent - 1) for p, extent in zip(places, size, strict=True)]
        values[:, :, number] = pixels[:, np.ravel_multi_index(clipped, size)]
        values[:, ~np.logical_and.reduce(inside), number] = 0
    return values


def _output_axes(layer: keras.layers.Layer, size: tuple[int, ...]) -> list[tuple[int, int]]:
    """Returns each spatial axis' number of outputs, and of zeros before its first input."""
    axes = []
    parts = zip(size, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True)
    for extent, taps, stride, dilation in parts:
        reach = (taps - 1) * dilation
        if layer.padding == "valid":
            axes.append(((extent - reach - 1) // stride + 1, 0))
            continue
        count = -(-extent // stride)
        before = max((count - 1) * stride + reach + 1 - extent, 0) // 2
        axes.append((count, reach if layer.padding == "causal" else before))
    return axes


def _depthwise(layer: keras.layers.Layer, inputs: Tensor) -> Tensor:
    """Returns what the pointwise part of a separable convolution reads, channels last."""
    if layer.data_format == "channels_first":
        inputs = ops.moveaxis(inputs, 1, -1)
    return ops.depthwise_conv(
        inputs,
        ops.cast(layer.depthwise_kernel, backend.standardize_dtype(inputs.dtype)),
        strides=layer.strides,
        padding=layer.padding,
        dilation_rate=layer.dilation_rate,
        data_format="channels_last",
    )


def _as_float(array: Tensor) -> np.ndarray:
    """Returns an array as NumPy in float32, or float64 if it was."""
    numbers: np.ndarray = ops.convert_to_numpy(array)
    return numbers if numbers.dtype == np.float64 else numbers.astype(np.float32, copy=False)
