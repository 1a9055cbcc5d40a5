"""The running covariance of everything it has been updated with."""

import numpy as np
from keras import backend, ops

from .covariance import CovarianceState, measure_batch, merge, to_host
from .types import Tensor


class RunningCovariance:
    """Mean and covariance of channels over everything it has been updated with.

    Accurate to 1e-5 relative to a two-pass computation in float64, for any split and order of
    batches and for means of up to 1e4 standard deviations. Arrays passed in are neither kept
    nor changed.

    Args:
        channels: Number of channels, at least 1.

    Attributes:
        channels: Number of channels.
        dtype: Dtype of the activations seen first, which decides how small a variance counts
            as none.

    Raises:
        ValueError: `channels` is not a positive integer.

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
        self._state = CovarianceState.empty(self.channels)

    @property
    def count(self) -> int:
        """Number of samples seen so far."""
        return int(self._state.count)

    @property
    def mean(self) -> np.ndarray:
        """Mean of each channel in float64, (channels,); nan if nothing was seen."""
        return (
            self._state.shift + self._state.mean if self.count else np.full(self.channels, np.nan)
        )

    def update(self, activations: Tensor) -> None:
        """Adds one batch.

        Args:
            activations: (..., channels), channels last; every position is one sample.

        Raises:
            ValueError: The last axis is not of size `channels`.
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
        state = measure_batch(ops.reshape(activations, (-1, self.channels)))
        self.add(to_host(state), backend.standardize_dtype(activations.dtype))

    def merge(self, other: "RunningCovariance") -> None:
        """Adds everything that `other` has seen; merging an empty one changes nothing.

        Raises:
            ValueError: `other` has another number of channels.
        """
        if other.channels != self.channels:
            raise ValueError(
                f"Expected {self.channels} channels to merge. "
                f"Received: a RunningCovariance of {other.channels} channels"
            )
        if other.count:
            self.add(other._state, other.dtype)

    def add(self, state: CovarianceState, dtype: str) -> None:
        """Adds a state on the host.

        Args:
            state: A single state as NumPy arrays.
            dtype: Dtype of the activations that it was measured from.
        """
        if not self.count:
            self.dtype = dtype
        # Infinite activations become nan here, and stay nan until the next reset.
        with np.errstate(invalid="ignore", over="ignore"):
            self._state = merge(self._state, state)

    def covariance(self) -> np.ndarray:
        """Returns the covariance, divided by count - 1, in float64.

        Returns:
            (channels, channels), symmetric; all nan for fewer than 2 samples.
        """
        if self.count < 2:
            return np.full((self.channels, self.channels), np.nan)
        scatter = self._state.scatter
        covariance: np.ndarray = (scatter + scatter.T) / (2 * (self.count - 1))
        return covariance
