"""Which rule each kind of layer follows.

A layer without a rule is never guessed at: its inputs stay as they are, and so does what it makes.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers as kl

from ..operators import OperatorCall
from . import mixing, passing
from .trace import Channels, Trace

Rule = Callable[[Trace, OperatorCall, list[Channels]], Channels | None]

ELEMENTWISE_FUNCTIONS = frozenset(
    "linear relu relu6 leaky_relu elu selu celu gelu silu sigmoid hard_sigmoid hard_silu tanh "
    "softplus softsign exponential mish hard_tanh hard_shrink soft_shrink squareplus log_sigmoid "
    "tanh_shrink threshold sparse_plus sparse_sigmoid".split()
)


def is_elementwise(function: Any) -> bool:
    """Returns whether an activation is known to work on each value by itself."""
    if isinstance(function, kl.Layer):
        return type(function) in (kl.ReLU, kl.LeakyReLU, kl.ELU)
    name = getattr(function, "__name__", "")
    known = getattr(keras.activations, name, None)
    return function is None or (name in ELEMENTWISE_FUNCTIONS and known is function)


def rule_of(layer: Any) -> Rule | None:
    """Returns the rule for a layer or operation; None if it is not understood."""
    policy = getattr(layer, "dtype_policy", None)
    if getattr(policy, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
        return None
    rule = RULES.get(type(layer))
    if rule is None and type(layer).__module__.startswith("keras.src.ops."):
        return OPERATIONS.get(type(layer).__name__)
    return rule


def _layers(*names: str) -> list[type]:
    return [getattr(kl, name) for name in names if hasattr(kl, name)]


def _of_dimensions(*names: str) -> list[type]:
    return _layers(*(f"{name}{number}D" for name in names for number in (1, 2, 3)))


RULES: dict[type, Rule] = {
    **dict.fromkeys(_of_dimensions("Conv"), mixing.convolution),
    **dict.fromkeys(
        _layers("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"), mixing.transposed
    ),
    **dict.fromkeys(_of_dimensions("DepthwiseConv"), mixing.depthwise),
    **dict.fromkeys(_of_dimensions("SeparableConv"), mixing.separable),
    kl.Dense: mixing.dense,
    kl.Embedding: mixing.embedding,
    kl.BatchNormalization: passing.normalization,
    kl.Normalization: passing.adapted,
    kl.Rescaling: passing.rescaling,
    kl.PReLU: passing.prelu,
    kl.Softmax: passing.softmax,
    **dict.fromkeys(
        _layers(
            *("ReLU", "LeakyReLU", "ELU", "Activation", "Identity", "Dropout", "GaussianNoise"),
            *("GaussianDropout", "AlphaDropout", "ActivityRegularization"),
        ),
        passing.passes,
    ),
    **dict.fromkeys(_of_dimensions("SpatialDropout"), passing.passes),
    **dict.fromkeys(
        [
            *_of_dimensions("MaxPooling", "AveragePooling", "UpSampling"),
            *_of_dimensions("ZeroPadding", "Cropping"),
            kl.Resizing,
        ],
        passing.spatial,
    ),
    **dict.fromkeys(
        _of_dimensions("GlobalMaxPooling", "GlobalAveragePooling"), passing.global_pooling
    ),
    **dict.fromkeys(
        [kl.Add, kl.Average, kl.Maximum, kl.Minimum, kl.Subtract, kl.Multiply], passing.merged
    ),
    kl.Concatenate: passing.concatenation,
    kl.Flatten: passing.flatten,
    kl.Reshape: passing.reshape,
    kl.Permute: passing.permute,
    kl.RepeatVector: passing.repeat,
}

OPERATIONS: dict[str, Rule] = {
    **dict.fromkeys(
        "Relu Relu6 LeakyRelu Elu Selu Celu Gelu Silu Sigmoid HardSigmoid HardSilu Tanh Softplus "
        "Softsign Exp Log Sqrt Square Absolute Negative Clip Cast".split(),
        passing.passes,
    ),
    **dict.fromkeys(
        "Add Subtract Multiply Divide TrueDivide Maximum Minimum Power".split(), passing.arithmetic
    ),
    **dict.fromkeys("Mean Sum Max Min Amax Amin".split(), passing.reduction),
    "Concatenate": passing.concatenation,
}
