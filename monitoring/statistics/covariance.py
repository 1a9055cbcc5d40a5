"""Streaming mean and covariance of channels, exact for any split and order of batches.

Everything rests on one small immutable state, `CovarianceState`. It starts empty or is measured
from a batch, and `merge` is the only place where two of them are joined. A batch is measured in
float32 on the device; states are merged in float64 on the host, or in float32 inside a training
step.
"""

from typing import Any, NamedTuple

import numpy as np
from keras import backend, ops

from .product import full_precision_scatter
from .types import Tensor


class CovarianceState(NamedTuple):
    """Count, mean and scatter of channels, as NumPy arrays or tensors of the backend.

    All parts may have the same leading axes, one state for each unit or group.

    Attributes:
        count: Samples seen, integers, (...).
        shift: Any point near the samples, (..., channels). Means are kept relative to it, so
            that float32 holds them exactly where they are many deviations away from 0.
        mean: Mean of each channel, less `shift`, (..., channels).
        scatter: Sum over samples of the outer product of the deviations from the mean,
            (..., channels, channels), in squared units of the activations.
    """

    count: Tensor
    shift: Tensor
    mean: Tensor
    scatter: Tensor

    @classmethod
    def empty(
        cls, channels: int, groups: tuple[int, ...] = (), dtype: Any = np.float64
    ) -> "CovarianceState":
        """Returns states that have seen nothing, the identity of `merge`.

        Args:
            channels: Number of channels.
            groups: Leading axes. Defaults to (): a single state.
            dtype: NumPy dtype of the scatter; shift and mean are in float64 on the host.
                Defaults to float64.
        """
        return cls(
            np.zeros(groups, np.int64),
            np.zeros((*groups, channels)),
            np.zeros((*groups, channels)),
            np.zeros((*groups, channels, channels), dtype),
        )

    def at(self, index: Any) -> "CovarianceState":
        """Returns the states at an index, slice or mask of the leading axis."""
        return CovarianceState(*(part[index] for part in self))


def measure_batch(samples: Tensor, valid: Tensor | None = None) -> CovarianceState:
    """Measures one batch of samples, each unit separately.

    Samples are centred by their own mean before anything is squared, which keeps float32 exact
    where the mean is many deviations away from zero. That mean is rounded; its rounding error is
    measured on the centred samples and removed from mean and scatter.

    Args:
        samples: (..., samples, channels), any real dtype; the axes before are units.
        valid: Which samples count, (..., samples), bool. Defaults to None: all.

    Returns:
        One state per unit, as tensors in float32 (float64 for float64 samples).

    Example:
        >>> padded = np.array([[1.0], [3.0], [0.0]], np.float32)
        >>> state = measure_batch(padded, valid=np.array([True, True, False]))
        >>> int(state.count), float(state.scatter[0, 0])
        (2, 2.0)
    """
    dtype = _accumulation_dtype(samples)
    samples = ops.cast(samples, dtype)
    if valid is not None:
        return _measure_valid(samples, ops.cast(valid, "bool"), dtype)
    count = ops.shape(samples)[-2]
    shift = ops.where(ops.isfinite(samples[..., 0, :]), samples[..., 0, :], 0.0)
    mean = ops.mean(samples, axis=-2)  # (..., channels)
    centred = samples - mean[..., None, :]
    residual = ops.mean(centred, axis=-2)
    scatter = full_precision_scatter(centred)  # (..., channels, channels)
    scatter -= ops.cast(count, dtype) * residual[..., :, None] * residual[..., None, :]
    counts = ops.zeros(ops.shape(mean)[:-1], "int32") + ops.cast(count, "int32")
    return CovarianceState(counts, shift, mean - shift + residual, scatter)


def _measure_valid(samples: Tensor, valid: Tensor, dtype: str) -> CovarianceState:
    """Measures the valid samples of a batch, as `measure_batch` does all of them."""
    counted = valid[..., None]
    counts = ops.sum(ops.cast(valid, "int32"), axis=-1)
    count = ops.cast(ops.maximum(counts, 1), dtype)[..., None]
    samples = ops.where(counted, samples, 0.0)
    is_first = ops.cast(ops.argmax(ops.cast(valid, "int32"), axis=-1), "int32")[..., None]
    positions = ops.arange(ops.shape(samples)[-2], dtype="int32")
    first = ops.sum(ops.where((positions == is_first)[..., None], samples, 0.0), axis=-2)
    shift = ops.where(ops.isfinite(first), first, 0.0)
    mean = ops.sum(samples, axis=-2) / count
    centred = ops.where(counted, samples - mean[..., None, :], 0.0)
    residual = ops.sum(centred, axis=-2) / count
    scatter = full_precision_scatter(centred)
    scatter -= count[..., None] * residual[..., :, None] * residual[..., None, :]
    return CovarianceState(counts, shift, mean - shift + residual, scatter)


def count_nonfinite(samples: Tensor, mean: Tensor) -> Tensor:
    """Counts samples with a channel that is nan or infinite; looks only where a mean is not finite.

    Args:
        samples: (..., samples, channels); the axes before are units.
        mean: Their means as measured by `measure_batch`, (..., channels).

    Returns:
        Counts per unit, (...), int32.

    Example:
        >>> import numpy as np
        >>> x = np.array([[1.0, 2.0], [np.nan, 0.0], [np.inf, np.nan]])
        >>> int(count_nonfinite(x, measure_batch(x).mean))
        2
    """

    def count() -> Tensor:
        finite = ops.all(ops.isfinite(samples), axis=-1)
        return ops.sum(ops.cast(ops.logical_not(finite), "int32"), axis=-1)

    def zeros() -> Tensor:
        return ops.zeros(ops.shape(mean)[:-1], "int32")

    return ops.cond(ops.all(ops.isfinite(mean)), zeros, count)


def merge(a: CovarianceState, b: CovarianceState) -> CovarianceState:
    """Joins two states, or states along the same leading axes; neither is changed.

    An empty state is the identity: merging one, on either side, gives the other.

    Args:
        a: NumPy arrays or tensors.
        b: The same kind, shapes and dtypes as `a`.

    Returns:
        The state of both together, relative to the shift of `a` where `a` has seen anything.

    Reference:
        Chan, Golub, LeVeque 1979, Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances, equation 2.1.
    """
    numpy = isinstance(a.mean, np.ndarray)
    where, maximum = (np.where, np.maximum) if numpy else (ops.where, ops.maximum)
    total = a.count + b.count
    fraction = _as_float(b.count, a.mean) / _as_float(maximum(total, 1), a.mean)
    shift = where((a.count > 0)[..., None], a.shift, b.shift)
    delta = (b.shift - shift) + b.mean - a.mean  # (..., channels)
    weight = _as_float(a.count, a.mean) * fraction
    between = delta[..., :, None] * delta[..., None, :] * weight[..., None, None]
    mean = a.mean + delta * fraction[..., None]
    return CovarianceState(total, shift, mean, a.scatter + b.scatter + between)


def merge_all(states: CovarianceState) -> CovarianceState:
    """Joins states along their leading axis into one, pairwise, in float64.

    Args:
        states: NumPy arrays, (groups, ...), at least one group.

    Returns:
        A single state, without leading axes.
    """
    states = states._replace(scatter=np.asarray(states.scatter, np.float64))
    with np.errstate(invalid="ignore", over="ignore"):  # from activations that are not finite
        while len(states.count) > 1:
            half = len(states.count) // 2
            halves = merge(states.at(slice(0, half)), states.at(slice(half, 2 * half)))
            if len(states.count) % 2:
                odd = states.at(slice(2 * half, None))
                halves = CovarianceState(*map(np.concatenate, zip(halves, odd, strict=True)))
            states = halves
    return states.at(0)


def to_host(state: CovarianceState) -> CovarianceState:
    """Copies a state to NumPy: shift and mean in float64, the scatter in its own dtype."""
    count, shift, mean, scatter = (ops.convert_to_numpy(part) for part in state)
    shift, mean = np.array(shift, np.float64), np.array(mean, np.float64)
    return CovarianceState(np.array(count, np.int64), shift, mean, np.array(scatter))


def _accumulation_dtype(activations: Tensor) -> str:
    """Returns float64 for float64 activations, else float32."""
    dtype = backend.standardize_dtype(activations.dtype)
    return "float64" if dtype == "float64" else "float32"


def _as_float(number: Tensor, like: Tensor) -> Tensor:
    """Returns integer counts in the dtype of `like`, for NumPy arrays and for tensors."""
    if isinstance(like, np.ndarray):
        return np.asarray(number, like.dtype)
    return ops.cast(number, like.dtype)
