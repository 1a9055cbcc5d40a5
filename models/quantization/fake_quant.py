"""Layers that round to INT8 values and let gradients pass."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import layers as kl
from keras import ops

from ..blocks import BATCH_NORM_MOMENTUM

SMALLEST_RANGE = 1e-6  # of a layer whose outputs have all been zero

Tensor = Any  # of the Keras backend, or a NumPy array
Shape = tuple[int | None, ...]


@keras.saving.register_keras_serializable(package="probe_zoo")
class FakeQuantize(kl.Layer):
    """Rounds activations to the 256 values of INT8; the gradient passes through unchanged.

    The range always contains 0. It is fixed by `limits`, or it is a moving average of the
    extremes of each training batch; values that are not finite are left out. At inference it
    does not move.

    Args:
        limits: (lowest, highest) value. Defaults to None: tracked over the batches.
        momentum: Momentum of the moving average, 0..1. Defaults to 0.9.

    Call arguments:
        inputs: Activations of any shape; values outside the range are clipped.
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
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.limits = None if limits is None else tuple(limits)
        self.momentum = momentum

    def build(self, input_shape: Shape) -> None:
        """Creates the untrained weights: the range, and the switch for rounding in training."""
        low, high = self.limits or (0.0, 0.0)
        self.low, self.high = _scalar(self, "low", low), _scalar(self, "high", high)
        self.rounding = _scalar(self, "rounding", 1.0)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Returns the rounded `inputs`."""
        low, high = self.low.value, self.high.value
        if training and self.limits is None:
            values = ops.cast(ops.stop_gradient(inputs), "float32")
            # One nan would otherwise stay in the moving average for ever.
            values = ops.where(ops.isfinite(values), values, 0.0)
            empty = high - low <= 0
            low = self._moving_average(low, ops.minimum(ops.min(values), 0.0), empty)
            high = self._moving_average(high, ops.maximum(ops.max(values), 0.0), empty)
            self.low.assign(low)
            self.high.assign(high)
        high = ops.maximum(high, low + SMALLEST_RANGE)
        rounded = keras.quantizers.fake_quant_with_min_max_vars(inputs, low, high)
        return ops.where(self.rounding.value > 0, rounded, inputs) if training else rounded

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        """Returns `input_shape`."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments."""
        config: dict[str, Any] = super().get_config()
        return config | {"limits": self.limits, "momentum": self.momentum}

    def _moving_average(self, end: Tensor, extreme: Tensor, empty: Tensor) -> Tensor:
        """Moves an end of the range towards a batch's extreme; an empty range takes it over."""
        average = self.momentum * end + (1 - self.momentum) * extreme
        return ops.where(empty, extreme, average)


class KernelRounding(kl.Layer):
    """Rounds the kernel of the convolution it belongs to, as `quantized_kernel` does.

    It is a layer of its own because Keras saves only the kernel and bias of a convolution.

    Args:
        axis: Axis of the kernel's output channels.
    """

    def __init__(self, axis: int, **kwargs: Any):
        super().__init__(name="rounding", **kwargs)
        self.axis = axis

    def build(self, input_shape: Shape) -> None:
        """Creates the weight that switches rounding in training on and off."""
        self.rounding = _scalar(self, "rounding", 1.0)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Returns the rounded kernel."""
        rounded = quantized_kernel(inputs, self.axis)
        return ops.where(self.rounding.value > 0, rounded, inputs) if training else rounded


@keras.saving.register_keras_serializable(package="probe_zoo")
class FakeQuantConv2D(kl.Conv2D):
    """A Conv2D with a kernel rounded by `quantized_kernel`; the gradient passes through."""

    def build(self, input_shape: Shape) -> None:
        """Creates the weights."""
        super().build(input_shape)
        self.rounding = KernelRounding(-1, dtype=self.dtype_policy)
        self.rounding.build(self.kernel.shape)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Returns the convolution with the rounded kernel."""
        outputs = self.convolution_op(inputs, self.rounding(self.kernel, training=training))
        return self.activation(ops.add(outputs, self.bias) if self.use_bias else outputs)


@keras.saving.register_keras_serializable(package="probe_zoo")
class FakeQuantDepthwiseConv2D(kl.DepthwiseConv2D):
    """A DepthwiseConv2D with a rounded kernel, like `FakeQuantConv2D`."""

    def build(self, input_shape: Shape) -> None:
        """Creates the weights."""
        super().build(input_shape)
        self.rounding = KernelRounding(-2, dtype=self.dtype_policy)
        self.rounding.build(self.kernel.shape)

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
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


def quantized_kernel(kernel: Tensor, axis: int) -> Tensor:
    """Rounds a kernel to 255 values per channel, symmetric about 0, as LiteRT does.

    Scaling a channel before rounding gives the same result as scaling it afterwards. Batch
    normalisation after the convolution can therefore be folded into the rounded kernel, and
    training needs no second convolution to know the folded one.

    Args:
        kernel: Weights of a convolution, with its output channels along `axis`.
        axis: Axis of its output channels.

    Returns:
        The INT8 kernel as floats, of the same shape.
    """
    others = [other for other in range(len(kernel.shape)) if other != axis % len(kernel.shape)]
    ends = ops.maximum(ops.max(ops.abs(ops.stop_gradient(kernel)), axis=others), SMALLEST_RANGE)
    return keras.quantizers.fake_quant_with_min_max_vars(
        kernel, -ends, ends, narrow_range=True, axis=axis
    )


def added_parameters(layer: kl.Layer) -> int:
    """Returns how many of a layer's weights serve quantisation-aware training alone."""
    if isinstance(layer, FakeQuantize):
        return 3
    return int(isinstance(layer, (FakeQuantConv2D, FakeQuantDepthwiseConv2D)))


def _scalar(layer: kl.Layer, name: str, value: float) -> keras.Variable:
    """Adds an untrained scalar weight."""
    return layer.add_weight(
        name=name,
        shape=(),
        dtype="float32",
        initializer=keras.initializers.Constant(value),
        trainable=False,
        autocast=False,
    )
