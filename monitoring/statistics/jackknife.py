"""Error bars: a grouped jackknife over images or batches. NumPy in float64."""

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import numpy as np

from .grouped import GroupedCovariance
from .structure import Eigvalsh, effective_rank

# Student's t at 97.5 % for 1, 2, ... 31 degrees of freedom.
T_QUANTILES = (
    *(12.7062, 4.3027, 3.1824, 2.7764, 2.5706, 2.4469, 2.3646, 2.3060, 2.2622, 2.2281),
    *(2.2010, 2.1788, 2.1604, 2.1448, 2.1314, 2.1199, 2.1098, 2.1009, 2.0930, 2.0860),
    *(2.0796, 2.0739, 2.0687, 2.0639, 2.0595, 2.0555, 2.0518, 2.0484, 2.0452, 2.0423),
    2.0395,
)


class Estimate(NamedTuple):
    """A value corrected for bias, and its 95 % interval; nan where undefined."""

    value: float
    low: float
    high: float


MINIMUM_GROUPS = 16
WIDEST_INTERVAL = 0.1
NO_BIAS = 0.03  # the correction leaves under 0.002 of a bias this small

CHUNK = 2**17  # elements of scatter processed at a time: a megabyte stays in the cache

UNDEFINED = Estimate(np.nan, np.nan, np.nan)


def redundancy_jackknife(
    grouped: GroupedCovariance, live: np.ndarray, redundancy: float
) -> Estimate:
    """Estimates redundancy with its 95 % interval, from norms alone.

    Which channels are live is decided by all groups together. The interval describes the
    choice of images under the current weights: how another draw of such images would differ.

    Args:
        grouped: The accumulated groups.
        live: Which channels vary over all groups, (channels,) of bool.
        redundancy: The redundancy by the plain formula.

    Returns:
        Undefined for fewer than 2 groups or live channels.

    Reference:
        Busing, Meijer, van der Leeden 1999, Delete-m jackknife for unequal m, Statistics
        and Computing 9.
    """
    groups, channels = grouped.groups, int(live.sum())
    if channels < 2 or len(groups.count) < 2:
        return UNDEFINED
    replicates = np.concatenate([_energies(rest) for rest in _left_out(grouped, live)])
    return _estimate(redundancy, 1 - channels / replicates, groups.count)


def rank_jackknife(
    grouped: GroupedCovariance,
    live: np.ndarray,
    rank: float,
    *,
    eigvalsh: Eigvalsh = np.linalg.eigvalsh,
) -> Estimate:
    """Estimates the effective rank like `redundancy_jackknife`, by one spectrum per group.

    Args:
        grouped: The accumulated groups.
        live: Which channels vary over all groups, (channels,) of bool.
        rank: The effective rank by the plain formula.
        eigvalsh: Computes eigenvalues. Defaults to NumPy's.
    """
    groups = grouped.groups
    if live.sum() < 2 or len(groups.count) < 2:
        return UNDEFINED
    replicates = [
        effective_rank(np.maximum(eigenvalues, 0))
        for rest in _left_out(grouped, live)
        for eigenvalues in eigvalsh(_correlations(rest))
    ]
    return _estimate(rank, np.array(replicates), groups.count)


def required_units(plugin: float, redundancy: Estimate, units: int, groups: int) -> int:
    """Returns how many images or batches are required; `units` if these suffice.

    What suffices: 16 groups, an interval no wider than 0.1, and a bias that the correction can
    handle. In simulations (tests/jackknife_table.py) the correction left about 2 bias², and
    the interval covered the truth at its nominal rate as long as this was within a quarter of
    its width. The bias falls with the number of units, the width with its square root.
    """
    if groups < MINIMUM_GROUPS:
        return max(MINIMUM_GROUPS, units + 1)
    factor = 1.0
    bias, width = abs(plugin - redundancy.value), redundancy.high - redundancy.low
    correctable = (width / 8) ** 0.5
    if bias > max(NO_BIAS, correctable):
        other = (bias / correctable) ** (4 / 3) if correctable else np.inf
        factor = min(bias / NO_BIAS, other)
    if width > WIDEST_INTERVAL:
        factor = max(factor, (width / WIDEST_INTERVAL) ** 2)
    return ceil(units * factor)


class _Rest(NamedTuple):
    """All groups but one, for several choices of the group left out.

    The scatter of the remaining groups is `scatter` - weight delta delta'.
    """

    scatter: np.ndarray  # (groups, channels, channels)
    delta: np.ndarray  # (groups, channels)
    weight: np.ndarray  # (groups,)
    scale: np.ndarray  # 1 / deviation; 0 for a channel that varied in the group alone


def _left_out(grouped: GroupedCovariance, live: np.ndarray) -> Iterator[_Rest]:
    """Yields the scatter of the live channels with each group left out, a few at a time.

    Each result must be used before the next is drawn, which overwrites it.
    """
    groups, total = grouped.groups, grouped.pooled()
    scatters, scatter_of_all = groups.scatter, total.scatter
    # Means of the live channels, relative to that of all groups.
    deviations = (groups.shift - total.shift + groups.mean - total.mean)[:, live]
    if not live.all():
        rows = np.flatnonzero(live)
        scatters = scatters[:, rows[:, None], rows]
        scatter_of_all = scatter_of_all[np.ix_(live, live)]
    rest = total.count - groups.count
    mean = -deviations * (groups.count / rest)[:, None]
    delta, weight = deviations - mean, rest * groups.count / total.count
    step = max(1, CHUNK // scatter_of_all.size)
    space = np.empty((min(step, len(groups.count)), *scatter_of_all.shape))
    for start in range(0, len(groups.count), step):
        part = slice(start, start + step)
        scatter = space[: len(groups.count[part])]
        np.subtract(scatter_of_all, scatters[part], out=scatter)
        variances = np.diagonal(scatter, axis1=1, axis2=2) - weight[part, None] * delta[part] ** 2
        # If a channel varies in one group alone, only rounding is left without that group.
        varies = variances > 1e-12 * np.diag(scatter_of_all)
        scale = np.where(varies, 1 / np.sqrt(np.where(varies, variances, 1.0)), 0.0)
        yield _Rest(scatter, delta[part], weight[part], scale)


def _energies(rest: _Rest) -> np.ndarray:
    """Returns the squared norm of each correlation, (groups,), without forming it."""
    scatter, delta, weight, scale = rest
    precision = scale**2
    scaled = delta * precision
    cross = (np.matmul(scatter, scaled[..., None])[..., 0] * scaled).sum(axis=1)
    own = (delta * scaled).sum(axis=1)
    np.square(scatter, out=scatter)
    energy = (np.matmul(scatter, precision[..., None])[..., 0] * precision).sum(axis=1)
    constant = (scale == 0).sum(axis=1)  # ones on the diagonal, nothing beside them
    energies: np.ndarray = energy - 2 * weight * cross + (weight * own) ** 2 + constant
    return energies


def _correlations(rest: _Rest) -> np.ndarray:
    """Returns the correlations, (groups, channels, channels), ones on the diagonal."""
    scatter, delta, weight, scale = rest
    scatter -= (delta * weight[:, None])[:, :, None] * delta[:, None, :]
    scatter *= scale[:, :, None]
    scatter *= scale[:, None, :]
    np.clip(scatter, -1.0, 1.0, out=scatter)
    diagonal = np.arange(scatter.shape[-1])
    scatter[:, diagonal, diagonal] = 1.0
    return scatter


def _estimate(value: float, replicates: np.ndarray, counts: np.ndarray) -> Estimate:
    """Combines the plain value and the leave-one-out values of groups of unequal size."""
    groups, samples = len(counts), counts.sum()
    corrected = groups * value - ((1 - counts / samples) * replicates).sum()
    h = samples / counts
    pseudo = h * value - (h - 1) * replicates
    variance = (np.square(pseudo - corrected) / (h - 1)).mean()
    half = T_QUANTILES[groups - 2] * float(np.sqrt(variance))
    return Estimate(float(corrected), float(corrected) - half, float(corrected) + half)
