"""The masks that Keras attaches to tensors, for steps that are only padding."""

from typing import Any

from keras.src.backend.common.masking import get_keras_mask

from ..statistics.types import Tensor


def keras_mask(output: Any) -> Tensor | None:
    """Returns the mask of a layer's output, (batch, ...), true where a step is data; or None.

    Keras has no public name for it.
    """
    return get_keras_mask(output)
