"""The building blocks of both networks: separable stages and nearest upsampling."""

from collections.abc import Sequence
from typing import NamedTuple

from keras import KerasTensor, layers

StageWidth = int | Sequence[int]  # channels of all blocks of a stage, or of each

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


def stage(
    x: KerasTensor, widths: Sequence[int], *, middle_relu: bool, name: str, first: int = 1
) -> KerasTensor:
    """Adds a separable block of each width, named `name`_1, `name`_2, ..., from `first` on."""
    for index, width in enumerate(widths, start=first):
        x = separable_block(x, width, middle_relu=middle_relu, name=f"{name}_{index}")
    return x


def upsample(x: KerasTensor, size: tuple[int, int], *, name: str) -> KerasTensor:
    """Repeats each pixel `size` = (vertical, horizontal) times.

    UpSampling2D rather than Resizing, whose nearest-neighbour gradient has no XLA kernel: a
    network with it cannot be trained with jit_compile=True.
    """
    return layers.UpSampling2D(size, interpolation="nearest", name=name)(x)


class Widths(NamedTuple):
    """Channels of every block.

    Attributes:
        encoder: For each stage, its blocks' channels.
        bottleneck: The bottleneck's.
        decoder: For each stage in running order, its blocks'.
    """

    encoder: tuple[tuple[int, ...], ...]
    bottleneck: tuple[int, ...]
    decoder: tuple[tuple[int, ...], ...]


def check_widths(
    filters: Sequence[StageWidth],
    bottleneck: StageWidth,
    decoder_filters: Sequence[StageWidth] | None,
    *,
    blocks: int,
) -> Widths:
    """Returns the channels of every block.

    Args:
        filters: Of each encoder stage, one width or one per block.
        bottleneck: One width or one per block.
        decoder_filters: Of each decoder stage in running order, the deepest first. None:
            `filters` reversed.
        blocks: Blocks of a stage.

    Raises:
        ValueError: A width is not a positive integer, there is no stage, or there are not as many
            decoder stages as encoder stages, or not as many widths as blocks.
    """
    received = f"Received: filters={filters}, bottleneck={bottleneck}"
    if decoder_filters is not None:
        received += f", decoder_filters={decoder_filters}"
    encoder = [_blocks(width, blocks, received) for width in filters]
    if not encoder:
        raise ValueError("Expected at least one encoder stage. Received: filters=()")
    decoder = encoder[::-1]
    if decoder_filters is not None:
        decoder = [_blocks(width, blocks, received) for width in decoder_filters]
    if len(decoder) != len(encoder):
        raise ValueError(f"Expected as many decoder stages as encoder stages. {received}")
    return Widths(tuple(encoder), _blocks(bottleneck, blocks, received), tuple(decoder))


def _blocks(width: StageWidth, blocks: int, received: str) -> tuple[int, ...]:
    """Returns the widths of a stage's blocks."""
    widths = tuple(width) if isinstance(width, Sequence) else (width,) * blocks
    if any(isinstance(each, bool) or not isinstance(each, int) or each < 1 for each in widths):
        raise ValueError(f"Widths must be positive integers. {received}")
    if len(widths) != blocks:
        raise ValueError(
            f"Expected one width per stage, or one for each of its {blocks} blocks. {received}"
        )
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


def check_classes(classes: int | Sequence[str]) -> int:
    """Returns the number of a network's logits per pixel, given classes or their names.

    Raises:
        ValueError: It is neither a number from 1 on nor the names of two or more classes.

    Example:
        >>> check_classes(1), check_classes(("terrain", "path", "sky"))
        (1, 3)
    """
    count: int | None = None
    if isinstance(classes, int) and not isinstance(classes, bool):
        count = classes
    elif isinstance(classes, Sequence) and not isinstance(classes, str):
        is_named = all(isinstance(name, str) and name for name in classes)
        count = len(classes) if is_named and 1 < len(set(classes)) == len(classes) else None
    if count is None or count < 1:
        raise ValueError(
            "Expected classes to be a number, 1 for foreground and background, or the different "
            f"names of two classes or more. Received: classes={classes!r}"
        )
    return count
