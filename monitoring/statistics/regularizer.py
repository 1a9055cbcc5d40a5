"""The differentiable redundancy of one batch, which `redundancy_weight` adds to the loss."""

from keras import backend, ops

from .structure import EPSILON
from .types import Tensor


def batch_redundancy(samples: Tensor, valid: Tensor | None = None) -> Tensor:
    """Computes the redundancy score of one batch.

    A channel whose variance is mere rounding has no correlation and no gradient.

    Args:
        samples: (samples, channels), any real dtype.
        valid: Which samples count, (samples,), bool. Defaults to None: all.

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
    count = ops.cast(ops.shape(samples)[0], samples.dtype)
    if valid is not None:
        valid = ops.cast(valid, "bool")[:, None]
        count = ops.maximum(ops.sum(ops.cast(valid, samples.dtype)), 1.0)
        samples = ops.where(valid, samples, 0.0)

    def average(values: Tensor) -> Tensor:
        return ops.mean(values, axis=0) if valid is None else ops.sum(values, axis=0) / count

    mean = average(samples)
    centred = _counted(samples - mean, valid)
    centred = _counted(centred - average(centred), valid)  # the first mean is rounded
    variances = average(ops.square(centred))
    live = variances > ops.square(8 * eps * ops.abs(mean))
    # The inner `where` keeps the gradient of the root finite for channels that the outer one drops.
    scale = ops.where(live, ops.rsqrt(ops.where(live, variances, 1.0)), 0.0)
    unit = centred * scale
    covariance = ops.matmul(ops.transpose(unit), unit) / count
    energy = ops.sum(ops.square(covariance))
    channels = ops.sum(ops.cast(live, unit.dtype))
    return ops.where(energy > 0, (energy - channels) / ops.maximum(energy, 1.0), 0.0)


def _counted(values: Tensor, valid: Tensor | None) -> Tensor:
    """Returns values with those that do not count set to 0."""
    return values if valid is None else ops.where(valid, values, 0.0)
