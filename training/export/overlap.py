"""How far below its input an operator's output has to begin, so that both can share memory.

A kernel that reads and writes in a fixed order may write over what it has read for the last time.
All distances here are those of the reference kernels of TensorFlow Lite Micro, for int8 and one
image; optimised kernels, such as CMSIS-NN or ESP-NN, may read ahead.

Reference:
    Svoboda, Sabne et al. 2020, https://arxiv.org/abs/2010.01668 (diagonal memory optimisation).
"""

import math
from collections.abc import Callable, Mapping

import numpy as np

from training.export.graph import Operator

Shape = tuple[int, ...]


def distances(operator: Operator) -> Mapping[int, int]:
    """Returns how many bytes an operator's output must begin below each of its inputs.

    Args:
        operator: An operator of a LiteRT file, with int8 tensors of one image.

    Returns:
        {place of an input: bytes}, at least 0; inputs that must not share memory with the
        output are missing.

    Example:
        >>> options = {"filter": (2, 2), "stride": (2, 2), "padding": "SAME"}
        >>> distances(Operator("MAX_POOL_2D", [(1, 4, 4, 3)], (1, 2, 2, 3), options))
        {0: 0}
    """
    steps = KERNELS.get(operator.name)
    return {} if steps is None else steps(operator)


def distance(reads: np.ndarray, writes: np.ndarray, *, copies: bool = False) -> int:
    """Returns the least distance at which nothing is written over before it is read.

    Args:
        reads: The lowest address of the input that each step reads, (steps,).
        writes: The highest address of the output that each step writes, after reading, (steps,).
        copies: Whether a step copies a block, which must not overlap with where it goes.

    Example:
        >>> distance(np.array([0, 1, 2]), np.array([0, 1, 2]))
        0
        >>> distance(np.array([0, 0, 1, 1]), np.array([0, 1, 2, 3]))
        2
    """
    written = np.maximum.accumulate(writes)
    still_read = np.minimum.accumulate(reads[::-1])[::-1]
    if not copies:
        written, still_read = written[:-1], still_read[1:]
    if not len(written):
        return 0
    return max(int((written - still_read).max()) + 1, 0)


def _windows(size: Shape, outputs: Shape, kernel: Shape, operator: Operator) -> np.ndarray:
    """Returns the first input position that a window reads at each output position."""
    strides, dilations = operator.options["stride"], operator.options.get("dilation", (1, 1))
    firsts = []
    for extent, count, taps, stride, dilation in zip(
        size, outputs, kernel, strides, dilations, strict=True
    ):
        reach = (taps - 1) * dilation + 1
        same = operator.options["padding"] == "SAME"
        before = max((count - 1) * stride + reach - extent, 0) // 2 if same else 0
        first = np.arange(count) * stride - before
        # Taps before the edge are skipped.
        firsts.append(np.where(first < 0, first + -(first // dilation) * dilation, first))
    rows, columns = firsts
    return (rows[:, None] * size[1] + columns).ravel()


def _convolution(operator: Operator) -> Mapping[int, int]:
    """All outputs of a position, one by one, each from all channels of the window."""
    _, *size, channels = operator.inputs[0]
    _, *outputs, filters = operator.output
    kernel = tuple(operator.inputs[1][1:3])
    first = _windows(tuple(size), tuple(outputs), kernel, operator) * channels
    return {0: distance(np.repeat(first, filters), np.arange(len(first) * filters))}


def _depthwise(operator: Operator) -> Mapping[int, int]:
    """Channel by channel at each position."""
    _, *size, channels = operator.inputs[0]
    _, *outputs, filters = operator.output
    kernel = tuple(operator.inputs[1][1:3])
    first = _windows(tuple(size), tuple(outputs), kernel, operator)[:, None] * channels
    reads = np.repeat(first + np.arange(channels), filters // channels, axis=1)
    return {0: distance(reads.ravel(), np.arange(reads.size))}


def _pool(operator: Operator) -> Mapping[int, int]:
    """Channel by channel at each position."""
    _, *size, channels = operator.inputs[0]
    _, *outputs, _ = operator.output
    first = _windows(tuple(size), tuple(outputs), operator.options["filter"], operator)
    reads = first[:, None] * channels + np.arange(channels)
    return {0: distance(reads.ravel(), np.arange(reads.size))}


def _nearest(operator: Operator) -> Mapping[int, int]:
    """All channels of a position are copied at once."""
    _, *size, channels = operator.inputs[0]
    _, *outputs, _ = operator.output
    axes = [
        _nearest_to(count, extent, operator) for count, extent in zip(outputs, size, strict=True)
    ]
    reads = (axes[0][:, None] * size[1] + axes[1]).ravel() * channels
    writes = (np.arange(len(reads)) + 1) * channels - 1
    return {0: distance(reads, writes, copies=True)}


def _nearest_to(count: int, extent: int, operator: Operator) -> np.ndarray:
    """Returns which of `extent` inputs each of `count` outputs copies, in float32 as the kernel."""
    corners, half = (
        operator.options.get(name, False) for name in ("align_corners", "half_pixel_centers")
    )
    pairs = (extent - 1, count - 1) if corners and count > 1 else (extent, count)
    scale = np.float32(pairs[0]) / np.float32(pairs[1])
    at = (np.arange(count, dtype=np.float32) + np.float32(0.5 if half else 0.0)) * scale
    nearest = np.floor(at + np.float32(0.5)) if corners else np.floor(at)
    return np.clip(nearest.astype(int), 0, extent - 1)


def _dense(operator: Operator) -> Mapping[int, int]:
    """Each output is computed from the whole input."""
    outputs = math.prod(operator.output)
    return {0: distance(np.zeros(outputs, int), np.arange(outputs))}


def _elementwise(operator: Operator) -> Mapping[int, int]:
    """Element by element, where both inputs have the shape of the output."""
    if any(shape != operator.output for shape in operator.inputs[:2]):
        return {}
    return {0: 0, 1: 0}


def _concatenation(operator: Operator) -> Mapping[int, int]:
    """For each position of the axes before, a block of each input in turn."""
    axis = operator.options["axis"] % len(operator.output)
    outer = math.prod(operator.output[:axis])
    blocks = np.array([math.prod(shape[axis:]) for shape in operator.inputs])
    ends = np.arange(outer)[:, None] * blocks.sum() + np.cumsum(blocks) - 1
    distances_below = {}
    for place, block in enumerate(blocks):
        reads = np.full(ends.shape, np.iinfo(np.int64).max // 2)
        reads[:, place] = np.arange(outer) * block
        distances_below[place] = distance(reads.ravel(), ends.ravel(), copies=True)
    return distances_below


KERNELS: Mapping[str, Callable[[Operator], Mapping[int, int]]] = {
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _depthwise,
    "MAX_POOL_2D": _pool,
    "AVERAGE_POOL_2D": _pool,
    "RESIZE_NEAREST_NEIGHBOR": _nearest,
    "FULLY_CONNECTED": _dense,
    "ADD": _elementwise,
    "CONCATENATION": _concatenation,
}
