"""Layers that round as INT8 will, and let gradients pass."""

from collections.abc import Sequence

import keras
from keras import layers as kl
from keras import ops

from ..blocks import BATCH_NORM_MOMENTUM

SMALLEST_RANGE = 1e-6  # where nothing has been seen but zeros


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


def added_parameters(layer: kl.Layer) -> int:
    """Returns how many numbers a layer keeps for quantisation-aware training alone."""
    if isinstance(layer, FakeQuantize):
        return 3
    return int(isinstance(layer, (FakeQuantConv2D, FakeQuantDepthwiseConv2D)))


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
