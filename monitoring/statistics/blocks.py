"""Covariances of several blocks of channels, over folds of images."""

import numpy as np
from keras import backend

from .covariance import CovarianceState, measure_batch, merge, to_host

DOUBLE_PRECISION_CHANNELS = 1024  # in float64, 4 folds of 4096 channels would take 0.5 GB
SAMPLES = 1024  # measured at a time, or as many as channels: merging costs as much as 2 samples
ELEMENTS = 2**24  # most numbers that wait to be measured, for each fold


class BlockCovariance:
    """Mean and covariance of blocks of channels, each over folds.

    Samples are collected until there are enough of them for one matrix product, because merging
    large states costs more than measuring a few samples. Up to 1024 channels everything is in
    float64, so that a small multiple of the identity, added to a covariance, makes it invertible.

    Args:
        folds: Number of folds.
        blocks: Number of blocks.
        channels: Channels of each block.

    Example:
        >>> covariance = BlockCovariance(folds=1, blocks=1, channels=2)
        >>> covariance.add(0, np.array([[[1.0, 2.0], [3.0, 6.0]]]))
        >>> covariance.states().scatter[0, 0].tolist()
        [[2.0, 4.0], [4.0, 8.0]]
    """

    def __init__(self, folds: int, blocks: int, channels: int):
        self._states = CovarianceState.empty(channels, (folds, blocks), state_dtype(channels))
        self._waiting: list[list[np.ndarray]] = [[] for _ in range(folds)]
        most = max(SAMPLES // 4, ELEMENTS // (blocks * channels))
        self._enough = min(max(SAMPLES, channels), most)

    def add(self, fold: int, samples: np.ndarray) -> None:
        """Adds samples to a fold.

        Args:
            fold: Number of the fold.
            samples: (blocks, samples, channels), not changed afterwards by the caller.
        """
        waiting = self._waiting[fold]
        waiting.append(samples)
        if sum(part.shape[1] for part in waiting) >= self._enough:
            self._measure(fold)

    def states(self) -> CovarianceState:
        """Returns the states of everything added, as NumPy arrays (folds, blocks, ...)."""
        for fold in range(len(self._waiting)):
            self._measure(fold)
        return self._states

    def _measure(self, fold: int) -> None:
        waiting, self._waiting[fold] = self._waiting[fold], []
        samples = np.concatenate(waiting, axis=1) if waiting else np.empty((0, 0, 0))
        if not samples.size:
            return
        # JAX has no float64 unless the whole process asks for it.
        double = self._states.scatter.dtype == np.float64 and backend.backend() != "jax"
        measured = to_host(measure_batch(samples.astype(np.float64) if double else samples))
        with np.errstate(invalid="ignore", over="ignore"):  # from inputs that are not finite
            merged = merge(self._states.at(fold), measured)
        for states, part in zip(self._states, merged, strict=True):
            states[fold] = part


def state_dtype(channels: int) -> type[np.floating]:
    """Returns the dtype in which the scatter of this many channels is kept."""
    return np.float64 if channels <= DOUBLE_PRECISION_CHANNELS else np.float32
