"""The product of centred samples with themselves, in full float32 on every device.

Recent GPUs round the factors of a float32 product to TF32, 11 significant bits instead of 24,
unless they are told otherwise for the whole process. Here the factors are split into a part that
TF32 holds exactly and the rest, so that no global setting has to be touched.
"""

import numpy as np
from keras import backend, ops

from .types import Tensor

TF32_MASK = np.int32(-(2**13))  # clears the 13 bits of a float32 that TF32 does not have


def full_precision_scatter(centred: Tensor, *, split: bool | None = None) -> Tensor:
    """Computes the scatter of centred samples.

    Args:
        centred: (..., samples, channels), float32 or float64.
        split: Whether to split float32 factors. Defaults to None: where the backend sees an
            accelerator, whose matrix product may round to TF32.

    Returns:
        centred' centred, (..., channels, channels), in the dtype of `centred`.

    Note:
        With simulated rounding the split product agrees with float64 to 1e-6 (a test). A real
        GPU is not part of the tests.
    """
    if split is None:
        split = _has_accelerator()
    if not split or backend.standardize_dtype(centred.dtype) != "float32":
        return _product(centred, centred)
    coarse = ops.view(ops.bitwise_and(ops.view(centred, "int32"), TF32_MASK), "float32")
    rest = centred - coarse  # exact: at most 13 bits
    cross = _product(coarse, rest)
    return _product(coarse, coarse) + cross + ops.swapaxes(cross, -1, -2) + _product(rest, rest)


def _product(left: Tensor, right: Tensor) -> Tensor:
    """Returns left' right over the samples."""
    return ops.matmul(ops.swapaxes(left, -1, -2), right)


def _has_accelerator() -> bool:
    """Returns whether the backend may compute on anything but a CPU."""
    name = backend.backend()
    if name == "tensorflow":
        import tensorflow as tf

        return any(device.device_type != "CPU" for device in tf.config.list_logical_devices())
    if name == "jax":
        import jax

        return bool(jax.default_backend() != "cpu")
    if name == "torch":
        import torch

        return bool(torch.cuda.is_available())
    return False
