"""What a model puts out, logits or probabilities: by its last activation, or by an option."""

from typing import Any

import keras
import numpy as np
from keras import layers as kl
from keras import ops

from monitoring.analysis.single_output import single_output

LOGITS, PROBABILITIES = KINDS = ("logits", "probabilities")
CLOSEST = 2.0**-24  # from 0 or 1 that float32 still tells from 1; logits of -16.6 and 16.6
MARGIN = 0.5  # beyond 0..1 that rounding, overshoot and regression do not reach

KNOWN_MODULES = ("keras", "models")  # whose layers are what their names say
AFFINE = (
    *(kl.Dense, kl.EinsumDense, kl.Conv1D, kl.Conv2D, kl.Conv3D, kl.Conv2DTranspose),
    *(kl.Conv3DTranspose, kl.DepthwiseConv2D, kl.SeparableConv2D),
)
SIGMOIDS = ("sigmoid", "hardsigmoid", "sparsesigmoid")
SOFTMAXES = ("softmax", "sparsemax")
OTHERS = {name.replace("_", "") for name in dir(keras.activations)} - {"linear", "get"}
# Layers and operations that move, drop or average values, or choose among them.
KEEPING = {
    *("identity", "linear", "dropout", "spatialdropout2d", "alphadropout", "gaussiandropout"),
    *("gaussiannoise", "activityregularization", "fakequantize", "cast", "getitem"),
    *("reshape", "permute", "flatten", "squeeze", "expanddims", "transpose", "moveaxis"),
    *("cropping2d", "centercrop", "zeropadding2d", "pad", "upsampling2d", "resizing", "resize"),
    *("averagepooling2d", "maxpooling2d", "average", "concatenate"),
}
COMBINING = {"maximum", "minimum", "multiply"}  # which with a constant change the scale


def output_kind(
    model: keras.Model,
    declared: str | None = None,
    images: np.ndarray | None = None,
    *,
    option: str = "--outputs",
) -> str:
    """Returns "logits" (foreground from 0 up) or "probabilities" (foreground from 0.5 up).

    Args:
        model: A model of one output.
        declared: What the user says. Defaults to None: nothing.
        images: What the model takes. Where its layers do not tell, values on both sides of
            0..1 show logits. Defaults to None: only its layers tell.
        option: The option to give, for errors. Defaults to "--outputs".

    Raises:
        ValueError: Nothing tells, or `declared` contradicts the model; or its last activation
            is a softmax over one channel.

    Example:
        >>> inputs = keras.Input((8, 8, 3))
        >>> output_kind(keras.Model(inputs, kl.Conv2D(1, 1)(inputs)))
        'logits'
        >>> output_kind(keras.Model(inputs, kl.Conv2D(1, 1, activation="sigmoid")(inputs)))
        'probabilities'
    """
    if declared not in (None, *KINDS):
        raise ValueError(f"Expected {option} {' or '.join(KINDS)}. Received: {declared!r}")
    made = last_activation(model)
    if made == PROBABILITIES and declared == LOGITS:
        raise ValueError(
            f"Model '{model.name}' ends in a sigmoid or softmax: it puts out probabilities. "
            f"Omit {option}"
        )
    if made in KINDS and declared in (None, made):
        return str(made)
    low, high = _range(model, images)
    if declared is not None:
        if declared == PROBABILITIES and (low < -MARGIN or high > 1 + MARGIN):
            raise ValueError(
                f"Expected probabilities, 0..1. Received: model '{model.name}' puts out "
                f"{low:.3g} to {high:.3g}"
            )
        return declared
    if made is None and low < -MARGIN and high > MARGIN:
        return LOGITS
    why = "its layers do not tell" if made is None else f"it ends in {made}"
    seen = "" if images is None else f", with values of {low:.3g} to {high:.3g}"
    raise ValueError(
        f"Model '{model.name}' may put out logits or probabilities ({why}{seen}): give "
        f"{option} {LOGITS} if foreground is from 0 up, {option} {PROBABILITIES} if from 0.5 up"
    )


def to_logits(probabilities: Any) -> Any:
    """Returns the logits of probabilities, as a float32 tensor.

    They are cut off at -16.6 and 16.6, since float32 does not tell a higher probability from 1.

    Example:
        >>> [round(float(logit), 1) for logit in to_logits(np.array([0.0, 0.5, 1.0]))]
        [-16.6, 0.0, 16.6]
    """
    probabilities = ops.clip(ops.cast(probabilities, "float32"), CLOSEST, 1 - CLOSEST)
    return ops.log(probabilities / (1 - probabilities))


def last_activation(model: keras.Model) -> str | None:
    """Returns "logits", "probabilities", the name of another last activation, or None: unknown.

    Raises:
        ValueError: It is a softmax over one channel.
    """
    outputs = getattr(model, "outputs", None)
    return _made_by(outputs[0]) if outputs and _is_known(model) else None


def _made_by(tensor: Any) -> str | None:
    """Follows a tensor of a functional model back to the activation that gave it its scale."""
    operation, node, index = tensor._keras_history
    if not _is_known(operation) or "float" not in tensor.dtype:
        return None
    if isinstance(operation, keras.Model):
        return _made_by(operation.outputs[index]) if operation.outputs else None
    name = _name(operation)
    if name in SOFTMAXES:
        _check_softmax(tensor, operation)
    if name in SIGMOIDS or name in SOFTMAXES:
        return PROBABILITIES
    if name == "linear" and isinstance(operation, AFFINE):
        return LOGITS
    sources = operation._inbound_nodes[node].input_tensors
    if not sources or (name in COMBINING and len(sources) < 2):
        return None
    if name not in {*KEEPING, *COMBINING, "add"}:
        return name if name in OTHERS else None
    kinds = {_made_by(source) for source in sources}
    kind = kinds.pop() if len(kinds) == 1 else None
    if name == "getitem" and tensor.shape[-1] != sources[0].shape[-1] and kind == LOGITS:
        return None  # one of several classes: 0 is no border
    expected = {"add": LOGITS, "multiply": PROBABILITIES}.get(name, kind)
    return kind if kind == expected else None


def _is_known(operation: Any) -> bool:
    """Returns whether a layer, operation or function is Keras' own or the zoo's."""
    owner = getattr(type(operation), "call", operation)
    return (getattr(owner, "__module__", None) or "").split(".")[0] in KNOWN_MODULES


def _name(operation: Any) -> str:
    """Returns the name of the activation in which a layer ends, else of its class: "relu"."""
    if not isinstance(operation, (*AFFINE, kl.Activation)):
        return type(operation).__name__.lower()
    activation = operation.activation
    name = getattr(activation, "__name__", type(activation).__name__)
    return name.replace("_", "").lower() if _is_known(activation) else "unknown"


def _check_softmax(tensor: Any, operation: Any) -> None:
    axes = np.atleast_1d(getattr(operation, "axis", -1) or -1)
    if all(tensor.shape[axis] == 1 for axis in axes):
        raise ValueError(
            "The model ends in a softmax over one channel, which is 1 everywhere: end it in a "
            "sigmoid, or in two channels"
        )


def _range(model: keras.Model, images: np.ndarray | None) -> tuple[float, float]:
    """Returns the lowest and the highest output; nan without images."""
    if images is None:
        return np.nan, np.nan
    values = single_output(model, model.predict(images, verbose=0))
    return float(np.min(values)), float(np.max(values))
