"""A mixing layer's kernel as a matrix: one row for each input and tap, one column per output."""

import keras
import numpy as np
from keras import layers as kl

from ..operators import SEPARABLE, TRANSPOSED


def _variable(layer: keras.layers.Layer) -> keras.Variable:
    return layer.pointwise_kernel if isinstance(layer, SEPARABLE) else layer.kernel


def kernel_matrix(layer: keras.layers.Layer) -> np.ndarray:
    """Returns a layer's kernel as (blocks, rows, outputs of a block).

    Rows are taps and, within each, input channels. A transposed convolution has a row for each
    input channel, and for each tap a column for every output. Blocks are the groups of a grouped
    convolution, else there is one.

    Example:
        >>> layer = keras.layers.Conv2D(8, 3)
        >>> layer.build((None, 9, 9, 4))
        >>> kernel_matrix(layer).shape
        (1, 36, 8)
    """
    kernel = keras.ops.convert_to_numpy(_variable(layer).value)
    if isinstance(layer, TRANSPOSED):
        return np.asarray(np.moveaxis(kernel, -1, 0).reshape(1, kernel.shape[-1], -1))
    matrix = kernel.reshape(-1, kernel.shape[-1])
    blocks = layer.groups if hasattr(layer, "groups") and not isinstance(layer, kl.Dense) else 1
    if isinstance(layer, SEPARABLE):
        blocks = 1
    return np.moveaxis(matrix.reshape(len(matrix), blocks, -1), 1, 0)


def assign_matrix(layer: keras.layers.Layer, matrix: np.ndarray) -> None:
    """Writes a matrix as `kernel_matrix` returns it back into the layer's kernel."""
    variable = _variable(layer)
    shape = tuple(variable.shape)
    if isinstance(layer, TRANSPOSED):
        kernel = np.moveaxis(matrix.reshape(shape[-1], *shape[:-1]), 0, -1)
    else:
        kernel = np.moveaxis(matrix, 0, 1).reshape(shape)
    variable.assign(kernel)
