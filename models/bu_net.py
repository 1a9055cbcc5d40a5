"""BU_Net: a U-Net of separable convolutions, the teacher of Nano_U."""

from collections.abc import Sequence

import keras
from keras import KerasTensor, layers

from .blocks import StageWidth, check_classes, check_input_shape, check_widths, stage, upsample
from .pretrained import set_pretrained
from .probes import add_probe, probe_groups

BLOCKS = 3  # of a stage


def BU_Net(
    input_shape: Sequence[int] = (60, 80, 3),
    filters: Sequence[StageWidth] = (32, 64, 128),
    bottleneck: StageWidth = 128,
    *,
    decoder_filters: Sequence[StageWidth] | None = None,
    late_upsampling: bool = False,
    classes: int | Sequence[str] = 1,
    weights: str | None = None,
    enable_probes: bool | Sequence[str] = False,
    name: str = "bu_net",
) -> keras.Model:
    """Builds BU_Net: an encoder, a bottleneck one level deeper, a decoder with skips.

    A stage is three separable blocks. Each encoder stage is pooled by 2 (an odd size is
    rounded up); the decoder repeats pixels by 2 and crops to the skip's size, so that any
    input size works. With the defaults it has 225,576 parameters and 125 million
    multiply-adds per image.

    Args:
        input_shape: Height and width in pixels, and colour channels.
        filters: Channels of each encoder stage: one width for all of its three blocks, or one
            for each. Defaults to (32, 64, 128).
        bottleneck: Channels between encoder and decoder, likewise. Defaults to 128.
        decoder_filters: Channels of each decoder stage in running order, the deepest first,
            likewise. Defaults to None: `filters` reversed.
        late_upsampling: Whether the first block of a decoder stage runs before its upsampling,
            on the deeper level alone; the skip joins after it. There are as many parameters, in
            other shapes.
            Defaults to False.
        classes: How many classes exclude one another, or their names; 1 is foreground and
            background. Defaults to 1.
        weights: Name of weights that ship with the project, "scenes": trained on the scenes that it
            draws. The last layer keeps its own if there are several classes. Defaults to None:
            random.
        enable_probes: False, True (encoder and bottleneck), or a sequence drawn from
            "encoder", "bottleneck" and "decoder". An encoder probe sits before the skip
            forks off. Defaults to False.
        name: Name of the model.

    Returns:
        A model from images, scaled to -1..1, to logits (batch, height, width, classes): one for
        foreground, or one for each of several classes.

    Raises:
        ValueError: An argument is out of range, or the weights are of other widths.

    Example:
        >>> BU_Net(input_shape=(61, 83, 3), filters=(8, 16), bottleneck=16).output_shape
        (None, 61, 83, 1)

    Reference:
        Ronneberger, Fischer, Brox 2015, U-Net, https://arxiv.org/abs/1505.04597, with the
        separable stages of Pizzolato, Pasti, Bellotto 2026.
    """
    shape, logits = check_input_shape(input_shape), check_classes(classes)
    widths = check_widths(filters, bottleneck, decoder_filters, blocks=BLOCKS)
    groups = probe_groups(enable_probes)

    inputs = x = keras.Input(shape, name="image")
    skips = []
    for index, blocks in enumerate(widths.encoder, start=1):
        x = stage(x, blocks, middle_relu=False, name=f"encoder_{index}")
        x = add_probe(x, f"encoder_{index}", groups)
        skips.append(x)
        x = layers.MaxPooling2D(2, padding="same", name=f"encoder_{index}_pool")(x)

    x = stage(x, widths.bottleneck, middle_relu=False, name="bottleneck")
    x = add_probe(x, "bottleneck", groups)

    early = 1 if late_upsampling else 0  # blocks before the upsampling
    mirrored = zip(widths.decoder, reversed(skips), strict=True)
    for index, (blocks, skip) in enumerate(mirrored, start=1):
        part = f"decoder_{index}"
        x = stage(x, blocks[:early], middle_relu=False, name=part)
        x = upsample(x, (2, 2), name=f"{part}_upsample")
        x = _crop(x, skip, name=f"{part}_crop")
        x = layers.Concatenate(name=f"{part}_concatenate")([skip, x])
        x = stage(x, blocks[early:], middle_relu=False, name=part, first=1 + early)
        x = add_probe(x, part, groups)

    model = keras.Model(inputs, layers.Conv2D(logits, 1, name="logits")(x), name=name)
    if weights is not None:
        set_pretrained(model, "bu_net", weights)
    return model


def _crop(x: KerasTensor, skip: KerasTensor, *, name: str) -> KerasTensor:
    """Crops the row or column that was added by rounding up an odd size."""
    rows, columns = x.shape[1] - skip.shape[1], x.shape[2] - skip.shape[2]
    return layers.Cropping2D(((0, rows), (0, columns)), name=name)(x) if rows or columns else x
