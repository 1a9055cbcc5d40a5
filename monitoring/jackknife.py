"""Error bars: a grouped jackknife over images or batches. NumPy in float64."""

from collections.abc import Iterator
from math import ceil
from typing import NamedTuple

import numpy as np

from monitoring.covariance import CovarianceState
from monitoring.grouped import GroupedCovariance, leave_out
from monitoring.structure import ChannelStructure, effective_rank, redundancy_score

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
NO_BIAS = 0.03  # what the correction leaves of this is under 0.002

UNDEFINED = Estimate(np.nan, np.nan, np.nan)


def jackknife(
    grouped: GroupedCovariance, structure: ChannelStructure | None, *, rank: bool = True
) -> tuple[Estimate, Estimate]:
    """Estimates redundancy and channels in use with 95 % intervals.

    The live channels are fixed by all images. The interval is about these images under
    these weights: what another draw of images like them would give.

    Args:
        grouped: What was accumulated.
        structure: Of `grouped.total()`.
        rank: Whether to estimate the effective rank, which takes an eigendecomposition a
            group. Defaults to True.

    Returns:
        Redundancy and effective rank; undefined for fewer than 2 groups or live channels.

    Reference:
        Busing, Meijer, van der Leeden 1999, Delete-m jackknife for unequal m, Statistics
        and Computing 9.
    """
    groups = grouped.groups
    if structure is None or len(structure.eigenvalues) < 2 or len(groups) < 2:
        return UNDEFINED, UNDEFINED
    replicates = np.array(
        [
            (redundancy_score(r), effective_rank(np.linalg.eigvalsh(r)) if rank else np.nan)
            for r in _replicates(groups, structure.live)
        ]
    )
    counts = np.array([group.count for group in groups])
    redundancy = redundancy_score(structure.correlation)
    in_use = effective_rank(structure.eigenvalues)
    return (
        _estimate(redundancy, replicates[:, 0], counts),
        _estimate(in_use, replicates[:, 1], counts) if rank else UNDEFINED,
    )


def enough_units(plugin: float, redundancy: Estimate, units: int, groups: int) -> int:
    """Returns how many images or batches would do: `units` where these are enough.

    Enough are 16 groups, an interval of at most 0.1, and a bias that the correction can
    deal with. In simulations (tests/jackknife_table.py) it left about 2 bias², so that the
    interval held the truth as often as it says where this was within a quarter of its
    width. Bias falls with the number of units, the width with its square root.
    """
    if groups < MINIMUM_GROUPS:
        return max(MINIMUM_GROUPS, units + 1)
    more = 1.0
    bias, width = abs(plugin - redundancy.value), redundancy.high - redundancy.low
    correctable = (width / 8) ** 0.5
    if bias > max(NO_BIAS, correctable):
        other = (bias / correctable) ** (4 / 3) if correctable else np.inf
        more = min(bias / NO_BIAS, other)
    if width > WIDEST_INTERVAL:
        more = max(more, (width / WIDEST_INTERVAL) ** 2)
    return ceil(units * more)


def _replicates(groups: list[CovarianceState], live: np.ndarray) -> Iterator[np.ndarray]:
    """Yields the correlation of the live channels with each group left out in turn."""
    block = np.ix_(live, live)
    parts = [CovarianceState(g.count, g.mean[live], g.scatter[block]) for g in groups]
    total = _sum(parts)
    for part in parts:
        scatter = leave_out(total, part).scatter
        variances = np.diag(scatter)
        # What is left of a channel that varies in one group alone is rounding.
        varies = variances > 1e-12 * np.diag(total.scatter)
        deviations = np.where(varies, np.sqrt(np.maximum(variances, 0)), np.inf)
        correlation = np.clip(scatter / np.outer(deviations, deviations), -1.0, 1.0)
        np.fill_diagonal(correlation, 1.0)
        yield correlation


def _sum(parts: list[CovarianceState]) -> CovarianceState:
    """Joins all states, in float64."""
    counts = np.array([part.count for part in parts])
    means = np.stack([part.mean for part in parts])
    mean = counts @ means / counts.sum()
    deviations = means - mean
    between = (deviations * counts[:, None]).T @ deviations
    return CovarianceState(int(counts.sum()), mean, sum(p.scatter for p in parts) + between)


def _estimate(value: float, replicates: np.ndarray, counts: np.ndarray) -> Estimate:
    """Combines the plain value and those with a group left out, of unequal size."""
    groups, samples = len(counts), counts.sum()
    corrected = groups * value - ((1 - counts / samples) * replicates).sum()
    h = samples / counts
    pseudo = h * value - (h - 1) * replicates
    variance = (np.square(pseudo - corrected) / (h - 1)).mean()
    half = T_QUANTILES[groups - 2] * float(np.sqrt(variance))
    return Estimate(float(corrected), float(corrected) - half, float(corrected) + half)
