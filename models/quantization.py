"""Networks that train as if they were INT8 already, and their folded form for export."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from models.blocks import BATCH_NORM_MOMENTUM
from models.probes import Probe

# Of images in -1..1. With 1 as its end, and 0 in it, each of the 256 values of a pixel would lie
# half-way between two of INT8, and fall to either side.
IMAGE_RANGE = (-1.0, 128 / 127)
SMALLEST_RANGE = 1e-6  # where nothing has been seen but zeros
ALLOWED = (
    *(kl.Conv2D, kl.DepthwiseConv2D, kl.BatchNormalization, kl.ReLU),
    *(kl.MaxPooling2D, kl.UpSampling2D, Probe),
)


@keras.saving.register_keras_serializable(package="probe_zoo")
class FakeQuantize(kl.Layer):
    """Rounds activations to the 256 values that INT8 would have; the gradient passes through.

    The range holds 0. It is given, or is a moving average of what batches reach while
    training, and stands still at inference.

    Args:
        limits: (lowest, highest) value. Defaults to None: from the batches.
        momentum: Of the moving average, 0..1. Defaults to 0.9.

    Call arguments:
        inputs: Activations of any shape; what lies outside the range is clipped.
        training: Whether the range moves.

    Example:
        >>> layer = FakeQuantize((-1.0, 1.0))
        >>> abs(float(layer(ops.array([0.3]))[0]) - 0.3) <= 1 / 255
        True

    Reference:
        Jacob et al. 2018, Quantization and Training of Neural Networks for Efficient
        Integer-Arithmetic-Only Inference, https://arxiv.org/abs/1712.05877
    """

    def __init__(
        self,
        limits: Sequence[float] | None = None,
        momentum: float = BATCH_NORM_MOMENTUM,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.limits = None if limits is None else tuple(limits)
        self.momentum = momentum

    def build(self, input_shape):
        """Makes the weights, which are not trained: the range, and whether training rounds."""
        low, high = self.limits or (0.0, 0.0)
        self.low, self.high = _scalar(self, "low", low), _scalar(self, "high", high)
        self.rounding = _scalar(self, "rounding", 1.0)

    def call(self, inputs, training=False):
        """Returns `inputs`, rounded."""
        low, high = self.low.value, self.high.value
        if training and self.limits is None:
            seen = ops.cast(ops.stop_gradient(inputs), "float32")
            new = high - low <= 0
            low = self._moved(low, ops.minimum(ops.min(seen), 0.0), new)
            high = self._moved(high, ops.maximum(ops.max(seen), 0.0), new)
            self.low.assign(low)
            self.high.assign(high)
        high = ops.maximum(high, low + SMALLEST_RANGE)
        rounded = keras.quantizers.fake_quant_with_min_max_vars(inputs, low, high)
        return ops.where(self.rounding.value > 0, rounded, inputs) if training else rounded

    def compute_output_shape(self, input_shape):
        """Returns `input_shape`."""
        return input_shape

    def get_config(self):
        """Returns the arguments."""
        return super().get_config() | {"limits": self.limits, "momentum": self.momentum}

    def _moved(self, end, seen, new):
        average = self.momentum * end + (1 - self.momentum) * seen
        return ops.where(new, seen, average)


class KernelRounding(kl.Layer):
    """Rounds a convolution's kernel as `quantized_kernel` does; part of the convolution's layer.

    A layer of its own since Keras saves nothing of a convolution but kernel and bias.

    Args:
        axis: Of the kernel's output channels.
    """

    def __init__(self, axis: int, **kwargs):
        super().__init__(name="rounding", **kwargs)
        self.axis = axis

    def build(self, input_shape):
        """Makes the weight that says whether training rounds."""
        self.rounding = _scalar(self, "rounding", 1.0)

    def call(self, inputs, training=False):
        """Returns the kernel, rounded."""
        rounded = quantized_kernel(inputs, self.axis)
        return ops.where(self.rounding.value > 0, rounded, inputs) if training else rounded


@keras.saving.register_keras_serializable(package="probe_zoo")
class FakeQuantConv2D(kl.Conv2D):
    """A Conv2D whose kernel is rounded as `quantized_kernel` says; the gradient passes through."""

    def build(self, input_shape):
        """Makes the weights."""
        super().build(input_shape)
        self.rounding = KernelRounding(-1, dtype=self.dtype_policy)
        self.rounding.build(self.kernel.shape)

    def call(self, inputs, training=False):
        """Returns the convolution with the rounded kernel."""
        outputs = self.convolution_op(inputs, self.rounding(self.kernel, training=training))
        return self.activation(ops.add(outputs, self.bias) if self.use_bias else outputs)


@keras.saving.register_keras_serializable(package="probe_zoo")
class FakeQuantDepthwiseConv2D(kl.DepthwiseConv2D):
    """A DepthwiseConv2D whose kernel is rounded, as that of `FakeQuantConv2D`."""

    def build(self, input_shape):
        """Makes the weights."""
        super().build(input_shape)
        self.rounding = KernelRounding(-2, dtype=self.dtype_policy)
        self.rounding.build(self.kernel.shape)

    def call(self, inputs, training=False):
        """Returns the convolution with the rounded kernel."""
        outputs = ops.depthwise_conv(
            inputs,
            self.rounding(self.kernel, training=training),
            strides=self.strides,
            padding=self.padding,
            dilation_rate=self.dilation_rate,
            data_format=self.data_format,
        )
        return self.activation(ops.add(outputs, self.bias) if self.use_bias else outputs)


class StartRounding(keras.callbacks.Callback):
    """Lets a `quantization_aware` model train at first as the model that it was made from.

    Ranges are followed from the start, and inference is always rounded.

    Args:
        epoch: The first that is trained with rounding, counted from 0.
    """

    def __init__(self, epoch: int):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        """Switches the rounding."""
        for layer in self.model.layers:
            if isinstance(layer, (FakeQuantConv2D, FakeQuantDepthwiseConv2D)):
                layer = layer.rounding
            if isinstance(layer, (FakeQuantize, KernelRounding)):
                layer.rounding.assign(float(epoch >= self.epoch))


def quantized_kernel(kernel, axis: int):
    """Rounds a kernel to 255 values a channel, evenly on both sides of 0, as LiteRT does.

    A factor a channel before the rounding is the same as after it. So a batch normalisation
    behind the convolution can be folded into the rounded kernel, and training needs no second
    convolution to know the folded one.

    Args:
        kernel: Weights of a convolution.
        axis: Of its output channels.

    Returns:
        The kernel as INT8 has it, in floats.
    """
    others = [other for other in range(len(kernel.shape)) if other != axis % len(kernel.shape)]
    ends = ops.maximum(ops.max(ops.abs(ops.stop_gradient(kernel)), axis=others), SMALLEST_RANGE)
    return keras.quantizers.fake_quant_with_min_max_vars(
        kernel, -ends, ends, narrow_range=True, axis=axis
    )


def quantization_aware(model: keras.Model) -> keras.Model:
    """Builds the network that trains with the rounding of its INT8 version.

    Kernels are rounded channel by channel; activations where an INT8 runtime rounds them:
    images, what follows each ReLU, and logits. Images are expected in -1..1.

    Args:
        model: One chain of convolutions, batch normalisations, ReLUs, max pooling, upsampling
            and probes, as Nano_U.

    Returns:
        A model of the same name, weights and layer names, with `FakeQuantize` layers between.

    Raises:
        ValueError: The model is no such chain.

    Example:
        >>> from models import Nano_U
        >>> aware = quantization_aware(Nano_U())
        >>> aware.count_params() - Nano_U().count_params()  # what tells how to round
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
    """Returns whether `quantization_aware` made a model, so that it knows its own ranges."""
    return any(isinstance(layer, FakeQuantize) for layer in model.layers)


def added_parameters(layer: kl.Layer) -> int:
    """Returns how many numbers a layer keeps for quantisation-aware training alone."""
    if isinstance(layer, FakeQuantize):
        return 3
    return int(isinstance(layer, (FakeQuantConv2D, FakeQuantDepthwiseConv2D)))


def folded(model: keras.Model) -> keras.Model:
    """Folds rounding and batch normalisation of a `quantization_aware` model into its kernels.

    Returns:
        A model of convolutions with biases that answers as `model` does at inference, but for
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


def _scalar(layer: kl.Layer, name: str, value: float):
    """Adds a weight of one number that no optimizer changes."""
    return layer.add_weight(
        name=name,
        shape=(),
        dtype="float32",
        initializer=keras.initializers.Constant(value),
        trainable=False,
        autocast=False,
    )


def _folded_weights(
    layer: FakeQuantConv2D | FakeQuantDepthwiseConv2D, norm: kl.BatchNormalization | None
) -> list:
    """Returns kernel and bias."""
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
    """Yields the layers behind the input, each of which takes what the one before gives."""
    allowed = (*ALLOWED, FakeQuantize)
    before = model.input
    for layer in model.layers[1:]:
        if not isinstance(layer, allowed) or layer.input is not before:
            raise ValueError(
                "Quantisation-aware training is for one chain of convolutions, batch "
                "normalisation, ReLU, max pooling, upsampling and probes, as nano_u. Received: "
                f"'{model.name}', where {layer.name}, a {type(layer).__name__}, does not fit"
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
    """Returns whether an INT8 runtime rounds what a layer gives, and does not fuse the next."""
    if isinstance(layer, (kl.Conv2D, kl.DepthwiseConv2D, kl.BatchNormalization)):
        return not isinstance(following, (kl.BatchNormalization, kl.ReLU))
    return isinstance(layer, kl.ReLU)
