"""Nano_U: a chain of separable convolutions for microcontrollers."""

from collections.abc import Sequence

import keras
from keras import layers

from .blocks import StageWidth, check_classes, check_input_shape, check_widths, stage, upsample
from .pretrained import set_pretrained
from .probes import add_probe, probe_groups

BLOCKS = 2  # of a stage


def Nano_U(
    input_shape: Sequence[int] = (60, 80, 3),
    filters: Sequence[StageWidth] = (4, 8, 16),
    bottleneck: StageWidth = 16,
    *,
    decoder_filters: Sequence[StageWidth] | None = None,
    late_upsampling: bool = False,
    classes: int | Sequence[str] = 1,
    weights: str | None = None,
    enable_probes: bool | Sequence[str] = False,
    name: str = "nano_u",
) -> keras.Model:
    """Builds Nano_U: encoder, bottleneck and decoder in one chain, without skips.

    A stage is two separable blocks. Each encoder stage is pooled on each axis by 2 where
    that divides it, else by 3; the decoder repeats pixels by the same factors. With the
    defaults it has 4,212 parameters and 2.4 million multiply-adds per image.

    Args:
        input_shape: Height and width in pixels, and colour channels.
        filters: Channels of each encoder stage: one width for all of its two blocks, or one
            for each. Defaults to (4, 8, 16).
        bottleneck: Channels between encoder and decoder, likewise. Defaults to 16.
        decoder_filters: Channels of each decoder stage in running order, the deepest first,
            likewise. Defaults to None: `filters` reversed.
        late_upsampling: Whether the first block of a decoder stage runs before its upsampling, at
            a quarter of the pixels or fewer. No shape of a weight changes.
            Defaults to False.
        classes: How many classes exclude one another, or their names; 1 is foreground and
            background. Defaults to 1.
        weights: Name of weights that ship with the project, "scenes": trained on the scenes that it
            draws. The last layer keeps its own if there are several classes. Defaults to None:
            random.
        enable_probes: False, True (encoder and bottleneck), or a sequence drawn from
            "encoder", "bottleneck" and "decoder". Probes are named probe_encoder_1 and so
            on, probe_bottleneck, probe_decoder_1 and so on, and change no output.
            Defaults to False.
        name: Name of the model.

    Returns:
        A model from images, scaled to -1..1, to logits (batch, height, width, classes): one for
        foreground, or one for each of several classes.

    Raises:
        ValueError: The size cannot be pooled that often, an argument is out of range, or the
            weights are of other widths.

    Example:
        >>> Nano_U().count_params()
        4212

    Reference:
        Pizzolato, Pasti, Bellotto 2026, Nano-U: Efficient Terrain Segmentation for Tiny
        Robot Navigation.
    """
    shape, logits = check_input_shape(input_shape), check_classes(classes)
    widths = check_widths(filters, bottleneck, decoder_filters, blocks=BLOCKS)
    groups, factors = probe_groups(enable_probes), _pooling_factors(shape, len(widths.encoder))

    inputs = x = keras.Input(shape, name="image")
    for index, (blocks, factor) in enumerate(zip(widths.encoder, factors, strict=True), start=1):
        x = stage(x, blocks, middle_relu=True, name=f"encoder_{index}")
        x = add_probe(x, f"encoder_{index}", groups)
        x = layers.MaxPooling2D(factor, name=f"encoder_{index}_pool")(x)

    x = stage(x, widths.bottleneck, middle_relu=True, name="bottleneck")
    x = add_probe(x, "bottleneck", groups)

    early = 1 if late_upsampling else 0  # blocks before the upsampling
    mirrored = zip(widths.decoder, reversed(factors), strict=True)
    for index, (blocks, factor) in enumerate(mirrored, start=1):
        part = f"decoder_{index}"
        x = stage(x, blocks[:early], middle_relu=True, name=part)
        x = upsample(x, factor, name=f"{part}_upsample")
        x = stage(x, blocks[early:], middle_relu=True, name=part, first=1 + early)
        x = add_probe(x, part, groups)

    model = keras.Model(inputs, layers.Conv2D(logits, 1, name="logits")(x), name=name)
    if weights is not None:
        set_pretrained(model, "nano_u", weights)
    return model


def _pooling_factors(shape: tuple[int, int, int], stages: int) -> list[tuple[int, int]]:
    """Returns (vertical, horizontal) pooling for each stage, or says which sizes have one."""
    height, width = (_axis_factors(side, stages) for side in shape[:2])
    if height is None or width is None:
        raise ValueError(
            f"Nano_U pools height and width {stages} times, by 2 where that divides, else by 3. "
            f"Received: input_shape={shape}. Nearest heights that do: "
            f"{_nearest(shape[0], stages)}; widths: {_nearest(shape[1], stages)}."
        )
    return list(zip(height, width, strict=True))


def _axis_factors(side: int, stages: int) -> list[int] | None:
    """Returns one factor a stage, or None where the axis cannot be divided that often."""
    factors = []
    for _ in range(stages):
        factor = next((f for f in (2, 3) if side % f == 0), None)
        if factor is None:
            return None
        factors.append(factor)
        side //= factor
    return factors


def _nearest(side: int, stages: int) -> str:
    """Returns the nearest sizes on either side that can be pooled, `side` itself if it can."""

    def fits(size: int) -> bool:
        return _axis_factors(size, stages) is not None

    if fits(side):
        return str(side)
    below = next((size for size in range(side - 1, 0, -1) if fits(size)), None)
    above = next(size for size in range(side + 1, side + 2**stages + 1) if fits(size))
    return f"{above}" if below is None else f"{below}, {above}"
