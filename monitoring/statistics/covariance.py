"""Streaming mean and covariance of channels, exact in any split and order of batches.

The functions work on one small immutable state. A batch is measured in float32 on the
device; batches are merged in float64 on the host.
"""

from typing import Any, NamedTuple

import numpy as np
from keras import backend, ops


class CovarianceState(NamedTuple):
    """What has been seen of some channels.

    Attributes:
        count: Samples seen, an integer.
        mean: Mean of each channel, (channels,).
        scatter: Sum over samples of the outer product of deviations from the mean,
            (channels, channels), in squared units of the activations.
    """

    count: Any
    mean: Any
    scatter: Any


def batch_state(samples, shift) -> CovarianceState:
    """Measures one batch, or each of several units at once, relative to `shift`.

    Samples are centred by their own mean before anything is squared, which keeps float32
    exact where the mean is many deviations away from zero. That mean is rounded; what it
    leaves is measured on the centred samples and taken out of mean and scatter.

    Args:
        samples: (..., samples, channels), any real dtype; axes before are units.
        shift: (channels,), any sample of the same data, in the same dtype.

    Returns:
        A state in float32 (float64 for float64 samples) with the leading axes of `samples`;
        the count is that of one unit, and the mean is relative to `shift`.
    """
    dtype = _accumulation_dtype(samples)
    samples = ops.cast(samples, dtype)
    count = ops.shape(samples)[-2]
    mean = ops.mean(samples, axis=-2)  # (..., channels)
    centred = samples - mean[..., None, :]
    residual = ops.mean(centred, axis=-2)
    scatter = ops.matmul(ops.swapaxes(centred, -1, -2), centred)  # (..., channels, channels)
    scatter -= ops.cast(count, dtype) * residual[..., :, None] * residual[..., None, :]
    mean = mean - ops.cast(shift, dtype) + residual
    return CovarianceState(ops.cast(count, "int32"), mean, scatter)


def nonfinite_samples(samples, mean):
    """Counts samples with a channel that is nan or infinite; looks only where a mean is.

    Args:
        samples: (..., samples, channels); axes before are units.
        mean: What `batch_state` has found of them, (..., channels).

    Returns:
        Counts, (...), int32.

    Example:
        >>> import numpy as np
        >>> x = np.array([[1.0, 2.0], [np.nan, 0.0], [np.inf, np.nan]])
        >>> int(nonfinite_samples(x, batch_state(x, x[0]).mean))
        2
    """

    def counted():
        sound = ops.all(ops.isfinite(samples), axis=-1)
        return ops.sum(ops.cast(ops.logical_not(sound), "int32"), axis=-1)

    def none():
        return ops.zeros(ops.shape(mean)[:-1], "int32")

    return ops.cond(ops.all(ops.isfinite(mean)), none, counted)


def first_sample(activations):
    """Returns the first sample, (channels,), of activations (..., channels), 0 for nan and inf."""
    first = ops.reshape(activations, (-1, activations.shape[-1]))[0]
    return ops.where(ops.isfinite(first), first, ops.zeros_like(first))


def merge_states(a: CovarianceState, b: CovarianceState) -> CovarianceState:
    """Joins two states whose means are relative to the same shift; `b` is not empty.

    Works alike on NumPy arrays and on tensors of the backend, and on states of several units.

    Reference:
        Chan, Golub, LeVeque 1979, Updating Formulae and a Pairwise Algorithm for
        Computing Sample Variances, equation 2.1.
    """
    total = a.count + b.count
    share = (_as_float(b.count, a.mean) / _as_float(total, a.mean))[..., None]
    delta = b.mean - a.mean  # (..., channels)
    weight = _as_float(a.count, a.mean)[..., None] * share
    between = delta[..., :, None] * delta[..., None, :] * weight[..., None]
    return CovarianceState(total, a.mean + delta * share, a.scatter + b.scatter + between)


class RunningCovariance:
    """Mean and covariance of channels over everything it has been updated with.

    Accurate to 1e-5 relative to a two-pass computation in float64, in any split and
    order of batches, for means of up to 1e4 standard deviations.

    Args:
        channels: Number of channels, at least 1.

    Example:
        >>> import numpy as np
        >>> running = RunningCovariance(channels=2)
        >>> running.update(np.array([[1.0, 2.0], [3.0, 6.0]]))
        >>> running.update(np.array([[2.0, 4.0]]))
        >>> running.count, running.mean.tolist()
        (3, [2.0, 4.0])
        >>> running.covariance().tolist()
        [[1.0, 2.0], [2.0, 4.0]]
    """

    def __init__(self, channels: int):
        if isinstance(channels, bool) or not isinstance(channels, int) or channels < 1:
            raise ValueError(f"Expected at least one channel. Received: channels={channels}")
        self.channels = channels
        self.reset()

    def reset(self) -> None:
        """Forgets everything seen."""
        self.dtype = "float32"
        self._state = CovarianceState(
            0, np.zeros(self.channels), np.zeros((self.channels, self.channels))
        )

    @property
    def count(self) -> int:
        """Samples seen so far."""
        return self._state.count

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel in float64, (channels,); nan where nothing was seen."""
        return self._state.mean if self.count else np.full(self.channels, np.nan)

    def update(self, activations) -> None:
        """Adds one batch.

        Args:
            activations: (..., channels), channels last; every position is one sample.

        Raises:
            ValueError: The last axis is not of `channels`.
        """
        activations = ops.convert_to_tensor(activations)
        if not backend.is_float_dtype(backend.standardize_dtype(activations.dtype)):
            activations = ops.cast(activations, "float32")
        if not len(activations.shape) or activations.shape[-1] != self.channels:
            raise ValueError(
                f"Expected activations of shape (..., {self.channels}), channels last. "
                f"Received: shape={tuple(activations.shape)}"
            )
        if 0 in activations.shape:
            return
        shift = first_sample(activations)
        state = batch_state(ops.reshape(activations, (-1, self.channels)), shift)
        dtype = backend.standardize_dtype(activations.dtype)
        self.add_batch(*(ops.convert_to_numpy(part) for part in (shift, *state)), dtype=dtype)

    def add_batch(self, shift, count, mean, scatter, *, dtype: str = "float32") -> None:
        """Adds a batch that `batch_state` measured elsewhere.

        Args:
            shift: What `batch_state` was given, (channels,).
            count: Samples, at least 1.
            mean: Mean relative to `shift`, (channels,).
            scatter: (channels, channels).
            dtype: The activations' dtype, which decides how small a variance is none.
        """
        if not self.count:
            self.dtype = dtype
        mean = np.asarray(shift, np.float64) + np.asarray(mean, np.float64)
        batch = CovarianceState(int(count), mean, np.asarray(scatter, np.float64))
        self.join(batch)

    def merge(self, other: "RunningCovariance") -> None:
        """Adds all that `other` has seen; merging an empty one changes nothing.

        Raises:
            ValueError: `other` has another number of channels.
        """
        if other.channels != self.channels:
            raise ValueError(
                f"Expected {self.channels} channels to merge. "
                f"Received: a RunningCovariance of {other.channels} channels"
            )
        if not other.count:
            return
        if not self.count:
            self.dtype = other.dtype
        self.join(other._state)

    def join(self, state: CovarianceState) -> None:
        """Adds a state in float64, of at least one sample, its mean not relative."""
        # Infinite activations become nan here, and stay so until the next reset.
        with np.errstate(invalid="ignore", over="ignore"):
            self._state = merge_states(self._state, state)

    def covariance(self) -> np.ndarray:
        """Returns the covariance, divided by count - 1, in float64.

        Returns:
            (channels, channels), symmetric; nan throughout for fewer than 2 samples.
        """
        if self.count < 2:
            return np.full((self.channels, self.channels), np.nan)
        scatter = self._state.scatter
        return (scatter + scatter.T) / (2 * (self.count - 1))


def _accumulation_dtype(activations) -> str:
    """Returns float64 for float64 activations, else float32."""
    dtype = backend.standardize_dtype(activations.dtype)
    return "float64" if dtype == "float64" else "float32"


def _as_float(number, like):
    """Returns integer counts in the dtype of `like`, for NumPy and for tensors."""
    if isinstance(like, np.ndarray):
        return np.asarray(number, like.dtype)
    return ops.cast(number, like.dtype)
