"""A cheaper forward pass in inference mode, with the same values."""

import functools
from collections.abc import Iterator
from contextlib import contextmanager

import keras

from .layers import layer_paths

CONVOLUTIONS = ("Conv2D", "DepthwiseConv2dNative")


@contextmanager
def folded_batch_normalization(model: keras.Model) -> Iterator[None]:
    """Folds batch normalisation into the convolutions before it, while a pass is traced.

    Keras composes it of a product and a sum at inference, each a pass over the activations.
    Behind a convolution without a bias both are part of the convolution; elsewhere
    TensorFlow has one operation for both. Values differ by rounding alone. Only layers that
    are exactly `keras.layers.BatchNormalization`, in float32 and with channels last, are
    touched, and on other backends none.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    layers = [layer for layer in layer_paths(model).values() if _foldable(layer)]
    for layer in layers:
        object.__setattr__(layer, "call", _folded(layer))
    try:
        yield
    finally:
        for layer in layers:
            object.__delattr__(layer, "call")


def _foldable(layer: keras.layers.Layer) -> bool:
    return (
        type(layer) is keras.layers.BatchNormalization
        and "call" not in vars(layer)
        and layer.dtype_policy.name == "float32"
        and layer.axis in (-1, 3)
        and not layer.renorm
    )


def _folded(layer: keras.layers.BatchNormalization):
    """Returns the layer's call, cheaper where it normalises (batch, height, width, channels)."""
    import tensorflow as tf

    plain = layer.call

    @functools.wraps(plain)
    def call(inputs, training=None, mask=None):
        rank, dtype = len(inputs.shape), inputs.dtype
        if training or rank != 4 or dtype != tf.float32 or tf.executing_eagerly():
            return plain(inputs, training=training, mask=mask)
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

    return call


def _scaled(convolution, factor):
    """Repeats a convolution with each channel's kernel times its factor, (channels,)."""
    import tensorflow as tf

    inputs, kernel = convolution.inputs
    depthwise = convolution.type == "DepthwiseConv2dNative"
    # Depthwise: (height, width, channels, multiplier), and channels x multiplier come out.
    kernel *= tf.reshape(factor, kernel.shape[2:]) if depthwise else factor
    repeat = tf.raw_ops.DepthwiseConv2dNative if depthwise else tf.raw_ops.Conv2D
    kept = {
        name: convolution.get_attr(name)
        for name in ("strides", "padding", "dilations", "data_format", "explicit_paddings")
    }
    texts = {name: kept[name].decode() for name in ("padding", "data_format")}
    return repeat(input=inputs, filter=kernel, **(kept | texts))
