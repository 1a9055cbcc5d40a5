"""Covariances by groups of images or batches, so that a jackknife can leave groups out."""

import numpy as np

from .covariance import CovarianceState, merge, merge_all
from .running import RunningCovariance
from .types import Tensor

DOUBLE_PRECISION_CHANNELS = 512  # in float64 the groups of 2048 channels would take 0.5 GB
CHUNK = 2**17  # elements of scatter merged at a time: a megabyte stays in the cache


def group_count(channels: int) -> int:
    """Returns how many groups a layer of `channels` channels gets: 32, above 64 channels 16."""
    return 32 if channels <= 64 else 16


class GroupedCovariance:
    """Mean and covariance of channels over groups of images or batches.

    Neighbouring positions of an image are not independent samples; whole images are. Unit i
    (an image, or a training batch) belongs to group i modulo the number of groups. Arrays
    passed in are neither kept nor changed.

    Args:
        channels: Number of channels.

    Attributes:
        units: Images or batches seen.
        nonfinite_units: Units with an activation that is not finite.
        nonfinite_samples: Samples with a channel that is not finite.
        dtype: Dtype of the activations seen first.

    Example:
        >>> import numpy as np
        >>> from .covariance import measure_batch, to_host
        >>> grouped = GroupedCovariance(channels=2)
        >>> images = np.random.default_rng(0).normal(size=(40, 6, 2))
        >>> grouped.add_units(to_host(measure_batch(images)))
        >>> grouped.units, len(grouped.groups.count), grouped.total().count
        (40, 32, 240)
    """

    def __init__(self, channels: int):
        self.channels = channels
        self.size = group_count(channels)
        self.units = self.nonfinite_units = self.nonfinite_samples = 0
        self.dtype = "float32"
        scatter_dtype = np.float64 if channels <= DOUBLE_PRECISION_CHANNELS else np.float32
        self._states = CovarianceState.empty(channels, (self.size,), scatter_dtype)
        self._pooled: CovarianceState | None = None

    @property
    def groups(self) -> CovarianceState:
        """The states of the groups that have seen anything, along a leading axis."""
        seen = self._states.count > 0
        return self._states if seen.all() else self._states.at(seen)

    @property
    def nbytes(self) -> int:
        """Size of the states in bytes."""
        return sum(part.nbytes for part in self._states)

    def add_units(
        self, units: CovarianceState, *, dtype: str = "float32", nonfinite: Tensor = 0
    ) -> None:
        """Adds the next units.

        Args:
            units: One state per unit on the host, (units, ...).
            dtype: Dtype of the activations, which decides how small a variance counts as none.
            nonfinite: Samples that are not finite, in each unit, a number or (units,).
                Defaults to 0.
        """
        self._note_dtype(dtype)
        for start in range(0, len(units.count), self.size):
            part = units.at(slice(start, start + self.size))
            rows = (self.units + np.arange(len(part.count))) % self.size
            self._merge_rows(rows, part)
            self.units += len(part.count)
        self.nonfinite_units += int((~np.isfinite(units.mean).all(axis=-1)).sum())
        self.nonfinite_samples += int(np.sum(nonfinite))

    def add_groups(
        self,
        groups: CovarianceState,
        units: int,
        *,
        dtype: str,
        nonfinite_units: int,
        nonfinite_samples: int,
    ) -> None:
        """Adds units that were accumulated by group elsewhere.

        Args:
            groups: One state per group on the host, (groups, ...); some may be empty.
            units: Units in all of them.
            dtype: Dtype of the activations.
            nonfinite_units: Units with activations that are not finite.
            nonfinite_samples: Samples with a channel that is not finite.
        """
        self._note_dtype(dtype)
        self._merge_rows(np.arange(self.size), groups)
        self.units += units
        self.nonfinite_units += nonfinite_units
        self.nonfinite_samples += nonfinite_samples

    def total(self) -> RunningCovariance:
        """Returns the covariance over all groups."""
        running = RunningCovariance(self.channels)
        if self.units:
            running.add(self.pooled(), self.dtype)
        return running

    def pooled(self) -> CovarianceState:
        """Returns the state over all groups, computed once."""
        if self._pooled is None:
            self._pooled = merge_all(self.groups)
        return self._pooled

    def _note_dtype(self, dtype: str) -> None:
        if not self.units:
            self.dtype = dtype

    def _merge_rows(self, rows: np.ndarray, added: CovarianceState) -> None:
        """Merges states into the groups `rows`, each of which appears once."""
        self._pooled = None
        step = max(1, CHUNK // self.channels**2)
        with np.errstate(invalid="ignore", over="ignore"):  # from activations that are not finite
            for start in range(0, len(rows), step):
                chunk = slice(start, start + step)
                merged = merge(self._states.at(rows[chunk]), added.at(chunk))
                for states, part in zip(self._states, merged, strict=True):
                    states[rows[chunk]] = part
