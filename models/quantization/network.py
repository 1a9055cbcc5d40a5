"""Networks that train as if they were INT8 already, and their folded form for export."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from .fake_quant import (
    FakeQuantConv2D,
    FakeQuantDepthwiseConv2D,
    FakeQuantize,
    KernelRounding,
    quantized_kernel,
)

# The range of images in -1..1. If it ended at 1 and contained 0, each of the 256 values of a pixel
# would lie half-way between two INT8 values and could be rounded either way.
IMAGE_RANGE = (-1.0, 128 / 127)
ALLOWED = (
    *(kl.Conv2D, kl.DepthwiseConv2D, kl.BatchNormalization, kl.ReLU),
    *(kl.MaxPooling2D, kl.UpSampling2D, kl.Identity),
)


class StartRounding(keras.callbacks.Callback):
    """Switches the rounding of a `quantization_aware` model on at a given epoch.

    Until then the model trains as the one it was made from. Ranges are tracked from the start,
    and inference is always rounded.

    Args:
        epoch: The first epoch that is trained with rounding, counted from 0.
    """

    def __init__(self, epoch: int):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Switches the rounding on from the given epoch."""
        for layer in self.model.layers:
            if isinstance(layer, (FakeQuantConv2D, FakeQuantDepthwiseConv2D)):
                layer = layer.rounding
            if isinstance(layer, (FakeQuantize, KernelRounding)):
                layer.rounding.assign(float(epoch >= self.epoch))


def quantization_aware(model: keras.Model) -> keras.Model:
    """Builds the network that trains with the rounding of its INT8 version.

    Kernels are rounded per channel. Activations are rounded where an INT8 runtime rounds them:
    the images, the output of each ReLU, and the logits. Images are expected in -1..1.

    Args:
        model: A single chain of convolutions, batch normalisation, ReLU, max pooling,
            upsampling and probes, such as Nano_U.

    Returns:
        A model with the same name, weights and layer names, and `FakeQuantize` layers in
        between.

    Raises:
        ValueError: The model is not such a chain.

    Example:
        >>> from models import Nano_U
        >>> aware = quantization_aware(Nano_U())
        >>> aware.count_params() - Nano_U().count_params()  # ranges and switches
        119
    """
    inputs, chain = model.input, list(_chain(model))
    x = images = keras.Input(inputs.shape[1:], name=inputs.name)
    x = FakeQuantize(IMAGE_RANGE, name="input_quantized")(x)
    for layer, following in pairwise([*chain, None]):
        x = _aware(layer)(x)
        if _rounded(layer, following):
            x = FakeQuantize(name=f"{layer.name}_quantized")(x)
    aware = keras.Model(images, x, name=model.name)
    for layer in chain:
        copy, weights = aware.get_layer(layer.name), layer.get_weights()
        copy.set_weights([*weights, *copy.get_weights()[len(weights) :]])
    return aware


def is_quantization_aware(model: keras.Model) -> bool:
    """Returns whether a model was built by `quantization_aware` and so knows its own ranges."""
    return any(isinstance(layer, FakeQuantize) for layer in model.layers)


def folded(model: keras.Model) -> keras.Model:
    """Folds rounding and batch normalisation of a `quantization_aware` model into its kernels.

    Returns:
        A model of convolutions with biases. At inference it computes what `model` does, up to
        the order of float32 sums. Its `FakeQuantize` layers tell an exporter the ranges.
    """
    chain = list(_chain(model))
    x = images = keras.Input(model.input.shape[1:], name=model.input.name)
    for layer, following in pairwise([*chain, None]):
        if isinstance(layer, kl.BatchNormalization):
            continue
        norm = following if isinstance(following, kl.BatchNormalization) else None
        if not isinstance(layer, (FakeQuantConv2D, FakeQuantDepthwiseConv2D)):
            copy = type(layer).from_config(layer.get_config())
            x = copy(x)
            copy.set_weights(layer.get_weights())
            continue
        plain = kl.Conv2D if isinstance(layer, FakeQuantConv2D) else kl.DepthwiseConv2D
        copy = plain.from_config(layer.get_config() | {"use_bias": True})
        x = copy(x)
        copy.set_weights(_folded_weights(layer, norm))
    return keras.Model(images, x, name=model.name)


def _folded_weights(
    layer: FakeQuantConv2D | FakeQuantDepthwiseConv2D, norm: kl.BatchNormalization | None
) -> list[np.ndarray]:
    """Returns the folded kernel and bias.

    Their shapes are those of the layer's kernel, and (channels,).
    """
    axis = -2 if isinstance(layer, FakeQuantDepthwiseConv2D) else -1
    kernel = ops.convert_to_numpy(quantized_kernel(layer.kernel, axis))
    channels = kernel.shape[axis]
    bias = layer.bias.numpy() if layer.use_bias else np.zeros(channels, "float32")
    if norm is None:
        return [kernel, bias]
    scale = (norm.moving_variance.numpy() + norm.epsilon) ** -0.5
    if norm.scale:
        scale = scale * norm.gamma.numpy()
    bias = (bias - norm.moving_mean.numpy()) * scale
    if norm.center:
        bias = bias + norm.beta.numpy()
    return [kernel * scale.reshape((channels, 1) if axis == -2 else channels), bias]


def _chain(model: keras.Model) -> Iterator[kl.Layer]:
    """Yields the layers after the input; each must read the output of the one before."""
    allowed = (*ALLOWED, FakeQuantize)
    before = model.input
    for layer in model.layers[1:]:
        if not isinstance(layer, allowed) or layer.input is not before:
            raise ValueError(
                "Quantisation-aware training expects a single chain of convolutions, batch "
                "normalisation, ReLU, max pooling, upsampling and probes, such as nano_u. "
                f"Received: '{model.name}', in which {layer.name}, a {type(layer).__name__}, "
                "does not fit"
            )
        yield layer
        before = layer.output


def _aware(layer: kl.Layer) -> kl.Layer:
    if type(layer) is kl.Conv2D:
        return FakeQuantConv2D.from_config(layer.get_config())
    if type(layer) is kl.DepthwiseConv2D:
        return FakeQuantDepthwiseConv2D.from_config(layer.get_config())
    return type(layer).from_config(layer.get_config())


def _rounded(layer: kl.Layer, following: kl.Layer | None) -> bool:
    """Returns whether an INT8 runtime rounds a layer's output and fuses nothing after it."""
    if isinstance(layer, (kl.Conv2D, kl.DepthwiseConv2D, kl.BatchNormalization)):
        return not isinstance(following, (kl.BatchNormalization, kl.ReLU))
    return isinstance(layer, kl.ReLU)
