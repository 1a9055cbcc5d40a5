"""Gradients of a loss with respect to what layers compute before their activation."""

import traceback
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
from keras import ops
from keras.src.backend.common.symbolic_scope import in_symbolic_scope

from ..statistics.product import full_precision_scatter
from ..statistics.types import Images, Tensor
from .input_rows import check_first_axis
from .layer_inputs import check_calls, model_inputs
from .patching import Method, Patch, Wrapper
from .recording import call_place


class TotalLoss:
    """The sum of the losses of single images.

    Args:
        loss: What `model.compile` takes as `loss`: a name, a function of targets and outputs, a
            `keras.losses.Loss`, or a list or dict of them, one for each output. It has to
            average over images, or return one value per sample.

    Example:
        >>> import numpy as np
        >>> targets, outputs = np.array([[0.0], [0.0]]), np.array([[1.0], [3.0]])
        >>> float(TotalLoss("mean_squared_error")(targets, outputs))
        10.0
    """

    def __init__(self, loss: Any):
        self._losses = [keras.losses.get(part) for part in keras.tree.flatten(loss)]

    def __call__(self, targets: Any, outputs: Any) -> Tensor:
        """Returns the loss of a batch, as a scalar tensor.

        Args:
            targets: Arrays, as many as outputs.
            outputs: What the model returns, (images, ...).

        Raises:
            ValueError: There are not as many targets or losses as outputs.
        """
        outputs, targets = keras.tree.flatten(outputs), keras.tree.flatten(targets)
        losses = self._losses * len(outputs) if len(self._losses) == 1 else self._losses
        if not len(losses) == len(outputs) == len(targets):
            raise ValueError(
                f"Expected targets and losses for the {len(outputs)} outputs of the model. "
                f"Received: {len(targets)} arrays of targets and {len(losses)} losses"
            )
        total = 0.0
        for loss, target, output in zip(losses, targets, outputs, strict=True):
            is_sum = getattr(loss, "reduction", None) == "sum"
            value = ops.mean(ops.cast(loss(ops.convert_to_tensor(target), output), "float32"))
            total = total + value * (1 if is_sum else output.shape[0])
        return total


def preactivation_gradients(
    model: keras.Model,
    layers: Sequence[keras.layers.Layer],
    batch: Images,
    targets: Any,
    loss: TotalLoss,
) -> list[list[Tensor]]:
    """Returns the gradient of the loss at each call of some layers, on the TensorFlow backend.

    Args:
        model: A built Keras model, run in inference mode.
        layers: Layers of it that pass what they compute to their `activation`.
        batch: Images as `model.predict` takes them.
        targets: Their targets.
        loss: Sum of the images' losses.

    Returns:
        For each layer, the gradients at its calls, in the shape of its output; those through
        which no gradient flows are left out.

    Raises:
        ValueError: The images are not of the model's size, or a layer is not called.
    """
    import tensorflow as tf

    batch = model_inputs(model, batch)
    calls: list[list[Tensor]] = [[] for _ in layers]
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        with ExitStack() as patches:
            for layer, tensors in zip(layers, calls, strict=True):
                name = "call" if layer.activation is None else "activation"
                patches.enter_context(Patch(layer, name, _watcher(tape, tensors, name == "call")))
            outputs = model(batch, training=False)
        total = loss(targets, outputs)
    check_calls(model, layers, calls)
    gradients = tape.gradient(total, calls)
    return [[each for each in parts if each is not None] for parts in gradients]


def outer_sum(
    layer: keras.layers.Layer, gradients: Sequence[Tensor], images: int, used: int
) -> np.ndarray:
    """Sums the outer products of gradients over the positions of the first images.

    Args:
        layer: The layer whose outputs they are for.
        gradients: Each (images, ...), in the shape of the layer's output.
        images: Number of images.
        used: How many of them to use.

    Returns:
        (outputs, outputs), float64.
    """
    outputs = layer.units if isinstance(layer, keras.layers.Dense) else layer.filters
    total = np.zeros((outputs, outputs))
    for gradient in gradients:
        check_first_axis(layer, gradient, images)
        if getattr(layer, "data_format", None) == "channels_first":
            gradient = ops.moveaxis(gradient, 1, -1)
        parts = ops.reshape(gradient, (images, -1, outputs))[:used]
        samples = ops.cast(ops.reshape(parts, (-1, outputs)), "float32")
        total += ops.convert_to_numpy(full_precision_scatter(samples))
    return total


def _watcher(tape: Any, tensors: list[Tensor], after: bool) -> Wrapper:
    """Returns a wrapper that watches a method's result (`after`), or its argument."""
    place = call_place()

    def watch_tensor(original: Method, *args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs) if after else None
        tensor = result if after else args[0]
        if call_place() == place and not _is_unrecorded():
            tape.watch(tensor)
            tensors.append(tensor)
        elif not in_symbolic_scope():
            tensors.append(None)
        return result if after else original(*args, **kwargs)

    return watch_tensor


def _is_unrecorded() -> bool:
    """Returns whether the current call is part of a function with a gradient of its own.

    No tape sees what happens inside, such as under Keras' `RematScope`.
    """
    frames = traceback.walk_stack(None)
    return any(f.f_code.co_filename.endswith("custom_gradient.py") for f, _ in frames)
