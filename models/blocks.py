"""The building blocks of both networks: separable stages and nearest upsampling."""

from collections.abc import Sequence

from keras import KerasTensor, layers

# With Keras' default of 0.99 the inference statistics lag far behind the weights in training
# runs of a few hundred steps.
BATCH_NORM_MOMENTUM = 0.9


def separable_block(x: KerasTensor, width: int, *, middle_relu: bool, name: str) -> KerasTensor:
    """Adds depthwise 3x3, batch norm, [ReLU], pointwise 1x1, batch norm, ReLU.

    Args:
        x: Images, (batch, height, width, channels).
        width: Output channels.
        middle_relu: Whether a ReLU follows the depthwise convolution.
        name: Prefix of the layer names.

    Returns:
        Non-negative activations, (batch, height, width, `width`).

    Reference:
        Howard et al. 2017, MobileNets, https://arxiv.org/abs/1704.04861
    """
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name=f"{name}_depthwise")(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_depthwise_norm")(x)
    if middle_relu:
        x = layers.ReLU(name=f"{name}_depthwise_relu")(x)
    x = layers.Conv2D(width, 1, use_bias=False, name=f"{name}_pointwise")(x)
    x = layers.BatchNormalization(momentum=BATCH_NORM_MOMENTUM, name=f"{name}_pointwise_norm")(x)
    return layers.ReLU(name=f"{name}_relu")(x)


def stage(x: KerasTensor, width: int, *, blocks: int, middle_relu: bool, name: str) -> KerasTensor:
    """Adds `blocks` separable blocks of equal width, named `name`_1, `name`_2, ..."""
    for index in range(1, blocks + 1):
        x = separable_block(x, width, middle_relu=middle_relu, name=f"{name}_{index}")
    return x


def upsample(x: KerasTensor, size: tuple[int, int], *, name: str) -> KerasTensor:
    """Repeats each pixel `size` = (vertical, horizontal) times.

    UpSampling2D rather than Resizing, whose nearest-neighbour gradient has no XLA kernel: a
    network with it cannot be trained with jit_compile=True.
    """
    return layers.UpSampling2D(size, interpolation="nearest", name=name)(x)


def check_widths(filters: Sequence[int], bottleneck: int) -> tuple[int, ...]:
    """Returns `filters` as a tuple.

    Raises:
        ValueError: A width is not a positive integer, or there is no stage.
    """
    widths = tuple(filters)
    for value in (*widths, bottleneck):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(
                "Widths must be positive integers. "
                f"Received: filters={filters}, bottleneck={bottleneck}"
            )
    if not widths:
        raise ValueError("Expected at least one encoder stage. Received: filters=()")
    return widths


def check_input_shape(input_shape: Sequence[int]) -> tuple[int, int, int]:
    """Returns `input_shape` as (height, width, channels).

    Raises:
        ValueError: It is not three positive integers.
    """
    shape = tuple(input_shape)
    if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
        raise ValueError(
            "Expected input_shape=(height, width, channels), three positive integers. "
            f"Received: input_shape={input_shape}"
        )
    return shape
