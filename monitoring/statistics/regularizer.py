"""The differentiable redundancy of one batch, which `redundancy_weight` adds to the loss."""

from keras import backend, ops

from .structure import EPSILON
from .types import Tensor


def batch_redundancy(samples: Tensor) -> Tensor:
    """Computes the redundancy score of one batch.

    A channel whose variance is mere rounding has no correlation and no gradient.

    Args:
        samples: (samples, channels), any real dtype.

    Returns:
        A scalar in float32 (float64 for float64 samples): 0 if no two channels are correlated,
        1 - 1/channels if all are identical. Invariant to rescaling a channel.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(500, 3)).astype("float32")
        >>> round(float(batch_redundancy(np.concatenate([x, x], axis=1))), 2)
        0.5

    Reference:
        Cogswell et al. 2016, https://arxiv.org/abs/1511.06068, applied here to the correlation.
    """
    samples = ops.convert_to_tensor(samples)
    dtype = backend.standardize_dtype(samples.dtype)
    eps = max(EPSILON[dtype], EPSILON["float32"])
    samples = ops.cast(samples, "float64" if dtype == "float64" else "float32")
    mean = ops.mean(samples, axis=0)
    centred = samples - mean
    centred = centred - ops.mean(centred, axis=0)  # the first mean is rounded
    variances = ops.mean(ops.square(centred), axis=0)
    live = variances > ops.square(8 * eps * ops.abs(mean))
    # The inner `where` keeps the gradient of the root finite for channels that the outer one drops.
    scale = ops.where(live, ops.rsqrt(ops.where(live, variances, 1.0)), 0.0)
    unit = centred * scale
    covariance = ops.matmul(ops.transpose(unit), unit) / ops.cast(ops.shape(unit)[0], unit.dtype)
    energy = ops.sum(ops.square(covariance))
    count = ops.sum(ops.cast(live, unit.dtype))
    return ops.where(energy > 0, (energy - count) / ops.maximum(energy, 1.0), 0.0)
