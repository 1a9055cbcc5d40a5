"""Covariances by groups of images or batches, so that a jackknife can leave groups out."""

import numpy as np

from .covariance import CovarianceState, RunningCovariance


class GroupedCovariance:
    """The same over groups of images or batches, so that a jackknife can leave groups out.

    Neighbouring positions of an image are no independent samples, whole images are; unit i
    belongs to group i mod `groups`. There are 32 groups, above 64 channels 16.

    Args:
        channels: Number of channels.

    Attributes:
        units: Images or batches seen.
        nonfinite_units: Those of them with an activation that is not finite.
        nonfinite_samples: Samples with one, where they were counted.

    Example:
        >>> import numpy as np
        >>> from monitoring.covariance import batch_state
        >>> grouped = GroupedCovariance(channels=2)
        >>> images = np.random.default_rng(0).normal(size=(40, 6, 2))
        >>> shift = images[0, 0]
        >>> for part in (images[:32], images[32:]):
        ...     grouped.add_units(shift, *map(np.asarray, batch_state(part, shift)))
        >>> grouped.units, len(grouped.groups.count), grouped.total().count
        (40, 32, 240)
    """

    def __init__(self, channels: int):
        self.channels = channels
        self.size = 32 if channels <= 64 else 16
        self.units = self.nonfinite_units = self.nonfinite_samples = 0
        self.dtype = "float32"
        self._joined: CovarianceState | None = None
        # In float64 the groups of 2048 channels would take half a gigabyte.
        self._dtype = np.float64 if channels <= 512 else np.float32
        self._states = CovarianceState(
            np.zeros(self.size, np.int64),
            np.zeros((self.size, channels)),
            np.zeros((self.size, channels, channels), self._dtype),
        )

    @property
    def groups(self) -> CovarianceState:
        """The states of the groups that have seen anything, along a leading axis.

        The scatter is in float32 where the device's own sums are all that came, and above
        512 channels.
        """
        seen = self._states.count > 0
        if seen.all():
            return self._states
        return CovarianceState(*(part[seen] for part in self._states))

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return sum(part.nbytes for part in self._states)

    def add_units(
        self, shift, count, mean, scatter, *, dtype: str = "float32", nonfinite=0
    ) -> None:
        """Adds the next units, at most as many as there are groups.

        Args:
            shift: What `batch_state` was given, (channels,).
            count: Samples of each unit, a number or (units,).
            mean: Relative to `shift`, (units, channels).
            scatter: (units, channels, channels).
            dtype: The activations' dtype, which decides how small a variance is none.
            nonfinite: Samples that are not finite of each unit, a number or (units,).
                Defaults to 0.
        """
        if not self.units:
            self.dtype = dtype
        rows = (self.units + np.arange(len(mean))) % self.size
        self._merge_rows(rows, _host_state(shift, count, mean, scatter))
        self.units += len(mean)
        self.nonfinite_units += int((~np.isfinite(mean).all(axis=-1)).sum())
        self.nonfinite_samples += int(np.sum(nonfinite))

    def add_groups(
        self,
        shift,
        units: int,
        count,
        mean,
        scatter,
        *,
        dtype: str,
        nonfinite_units: int,
        nonfinite_samples: int,
    ) -> None:
        """Adds what was already accumulated by group elsewhere; groups without count are empty.

        Args:
            shift: (channels,).
            units: How many units the groups hold together.
            count: Samples of each group, (groups,).
            mean: Relative to `shift`, (groups, channels).
            scatter: (groups, channels, channels).
            dtype: The activations' dtype.
            nonfinite_units: Units with activations that are not finite.
            nonfinite_samples: Samples with one.
        """
        self.nonfinite_units += nonfinite_units
        self.nonfinite_samples += nonfinite_samples
        if not self.units:
            self.dtype = dtype
        rows = np.flatnonzero(count)
        if len(rows) < len(count):
            count, mean, scatter = count[rows], mean[rows], scatter[rows]
        self._merge_rows(rows, _host_state(shift, count, mean, scatter))
        self.units += units

    def total(self) -> RunningCovariance:
        """Returns the covariance over all groups."""
        running = RunningCovariance(self.channels)
        running.dtype = self.dtype
        if self.units:
            running.join(self.joined())
        return running

    def joined(self) -> CovarianceState:
        """Returns the state over all groups, computed once."""
        if self._joined is None:
            self._joined = joined(self.groups)
        return self._joined

    def _merge_rows(self, rows: np.ndarray, added: CovarianceState) -> None:
        self._joined = None
        if not self.units:
            self._begin(rows, added)
            return
        count, mean, scatter = self._states
        if scatter.dtype != self._dtype or not scatter.flags.writeable:
            scatter = np.array(scatter, self._dtype)
            self._states = CovarianceState(count, mean, scatter)
        with np.errstate(invalid="ignore", over="ignore"):
            # One group at a time: its scatter fits into the processor's cache.
            for row, number, centre, part in zip(rows, *added, strict=True):
                delta, share = centre - mean[row], number / (count[row] + number)
                scatter[row] += part
                scatter[row] += np.outer(delta * (count[row] * share), delta)
                mean[row] += delta * share
                count[row] += number

    def _begin(self, rows: np.ndarray, first: CovarianceState) -> None:
        """Takes the first units as they are, without a copy where they fill all groups."""
        if len(rows) == self.size:
            self._states = CovarianceState(first.count.copy(), first.mean, first.scatter)
            return
        for held, part in zip(self._states, first, strict=True):
            held[rows] = part


def joined(states: CovarianceState) -> CovarianceState:
    """Joins states along a leading axis into one, in float64."""
    total = states.count.sum()
    with np.errstate(invalid="ignore", over="ignore"):
        mean = states.count @ states.mean / total
        deviations = states.mean - mean
        between = (deviations * states.count[:, None]).T @ deviations
        for scatter in states.scatter:
            between += scatter
    return CovarianceState(int(total), mean, between)


def _host_state(shift, count, mean, scatter) -> CovarianceState:
    """Returns states of several units, their means in float64 and no longer relative."""
    mean = np.asarray(shift, np.float64) + np.asarray(mean, np.float64)
    count = np.broadcast_to(np.asarray(count, np.int64), len(mean))
    return CovarianceState(count, mean, np.asarray(scatter))
