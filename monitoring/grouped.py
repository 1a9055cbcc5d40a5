"""Covariances by groups of images or batches, so that a jackknife can leave groups out."""

import numpy as np

from monitoring.covariance import CovarianceState, RunningCovariance, merge_states


class GroupedCovariance:
    """The same over groups of images or batches, so that a jackknife can leave groups out.

    Neighbouring positions of an image are no independent samples, whole images are; unit i
    belongs to group i mod `groups`. There are 32 groups, above 512 channels 16.

    Args:
        channels: Number of channels.

    Example:
        >>> import numpy as np
        >>> from monitoring.covariance import batch_state
        >>> grouped = GroupedCovariance(channels=2)
        >>> images = np.random.default_rng(0).normal(size=(40, 6, 2))
        >>> shift = images[0, 0]
        >>> for part in (images[:32], images[32:]):
        ...     grouped.add_units(shift, *map(np.asarray, batch_state(part, shift)))
        >>> grouped.units, len(grouped.groups), grouped.total().count
        (40, 32, 240)
    """

    def __init__(self, channels: int):
        self.channels = channels
        self.size = 32 if channels <= 512 else 16
        self.units = 0
        self.dtype = "float32"
        self._states = CovarianceState(
            np.zeros(self.size, np.int64),
            np.zeros((self.size, channels)),
            np.zeros((self.size, channels, channels)),
        )

    @property
    def groups(self) -> list[CovarianceState]:
        """The states of the groups that have seen anything, one for each."""
        return [
            CovarianceState(int(count), mean, scatter)
            for count, mean, scatter in zip(*self._states, strict=True)
            if count
        ]

    def add_units(self, shift, count, mean, scatter, *, dtype: str = "float32") -> None:
        """Adds the next units, at most as many as there are groups.

        Args:
            shift: What `batch_state` was given, (channels,).
            count: Samples of each unit, a number or (units,).
            mean: Relative to `shift`, (units, channels).
            scatter: (units, channels, channels).
            dtype: The activations' dtype, which decides how small a variance is none.
        """
        if not self.units:
            self.dtype = dtype
        rows = (self.units + np.arange(len(mean))) % self.size
        self._merge_rows(rows, _host_state(shift, count, mean, scatter))
        self.units += len(mean)

    def add_groups(self, shift, units: int, count, mean, scatter, *, dtype: str) -> None:
        """Adds what was already accumulated by group elsewhere; groups without count are empty.

        Args:
            shift: (channels,).
            units: How many units the groups hold together.
            count: Samples of each group, (groups,).
            mean: Relative to `shift`, (groups, channels).
            scatter: (groups, channels, channels).
            dtype: The activations' dtype.
        """
        if not self.units:
            self.dtype = dtype
        rows = np.flatnonzero(count)
        self._merge_rows(rows, _host_state(shift, count[rows], mean[rows], scatter[rows]))
        self.units += units

    def total(self) -> RunningCovariance:
        """Returns the covariance over all groups."""
        running = RunningCovariance(self.channels)
        running.dtype = self.dtype
        for group in self.groups:
            running.join(group)
        return running

    def _merge_rows(self, rows: np.ndarray, added: CovarianceState) -> None:
        with np.errstate(invalid="ignore", over="ignore"):
            merged = merge_states(CovarianceState(*(part[rows] for part in self._states)), added)
        for part, new in zip(self._states, merged, strict=True):
            part[rows] = new


def _host_state(shift, count, mean, scatter) -> CovarianceState:
    """Returns states of several units in float64, their means no longer relative."""
    mean = np.asarray(shift, np.float64) + np.asarray(mean, np.float64)
    count = np.broadcast_to(np.asarray(count, np.int64), len(mean))
    return CovarianceState(count, mean, np.asarray(scatter, np.float64))


def leave_out(total: CovarianceState, part: CovarianceState) -> CovarianceState:
    """Returns `total` without `part`, the inverse of `merge_states`, for NumPy in float64."""
    count = total.count - part.count
    mean = total.mean + (total.mean - part.mean) * (part.count / count)
    delta = part.mean - mean
    between = np.outer(delta, delta) * (count * part.count / total.count)
    return CovarianceState(count, mean, total.scatter - part.scatter - between)
