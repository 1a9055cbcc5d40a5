"""A cheaper forward pass in inference mode, with the same values."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras

from ..statistics.types import Tensor
from .layers import layer_paths
from .patching import Patch, Wrapper

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


@contextmanager
def folded_batch_normalization(model: keras.Model) -> Iterator[None]:
    """Folds batch normalisation into the convolutions before it while a pass is traced.

    At inference Keras computes it as a product and a sum, each a pass over the activations.
    After a convolution without a bias both become part of the convolution; elsewhere TensorFlow
    has one operation for both. Values differ by rounding alone. Only layers that are exactly
    `keras.layers.BatchNormalization`, in float32 and with channels last, are wrapped, and none
    on other backends.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    with ExitStack() as patches:
        for layer in layer_paths(model).values():
            if _foldable(layer):
                patches.enter_context(Patch(layer, "call", _folded(layer)))
        yield


def _foldable(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and "call" not in vars(layer)
        and layer.dtype_policy.name == "float32"
        and layer.axis in (-1, 3)
        and not layer.renorm
    )


def _folded(layer: keras.layers.BatchNormalization) -> Wrapper:
    """Returns a wrapper of the layer's call, for inputs (batch, height, width, channels)."""
    import tensorflow as tf

    def folded_call(
        original_call: Wrapper, inputs: Tensor, training: bool | None = None, mask: Any = None
    ) -> Tensor:
        rank, dtype = len(inputs.shape), inputs.dtype
        if training or rank != 4 or dtype != tf.float32 or tf.executing_eagerly():
            return original_call(inputs, training=training, mask=mask)
        mean, variance = layer.moving_mean.value, layer.moving_variance.value
        scale = layer.gamma.value if layer.scale else tf.ones_like(mean)
        offset = layer.beta.value if layer.center else tf.zeros_like(mean)
        if inputs.op.type in CONVOLUTIONS:
            factor = scale * tf.math.rsqrt(variance + layer.epsilon)
            return tf.nn.bias_add(_scaled(inputs.op, factor), offset - mean * factor)
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=scale,
            offset=offset,
            mean=mean,
            variance=variance,
            epsilon=layer.epsilon,
            is_training=False,
        ).y

    return folded_call


def _scaled(convolution: Any, factor: Tensor) -> Tensor:
    """Repeats a convolution with the kernel of each channel scaled by `factor`, (channels,)."""
    import tensorflow as tf

    inputs, kernel = convolution.inputs
    depthwise = convolution.type == "DepthwiseConv2dNative"
    # Depthwise kernels are (height, width, channels, multiplier).
    kernel *= tf.reshape(factor, kernel.shape[2:]) if depthwise else factor
    repeat = tf.raw_ops.DepthwiseConv2dNative if depthwise else tf.raw_ops.Conv2D
    attributes = {
        name: convolution.get_attr(name)
        for name in ("strides", "padding", "dilations", "data_format", "explicit_paddings")
    }
    texts = {name: attributes[name].decode() for name in ("padding", "data_format")}
    return repeat(input=inputs, filter=kernel, **(attributes | texts))
