"""Paired, interleaved timings: the only kind that tells one per cent on a shared machine."""

import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

RESAMPLES = 2000


class Interval(NamedTuple):
    """A median and its bootstrap 95 % interval."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.4f} ({self.low:.4f}..{self.high:.4f})"


class Pairs(NamedTuple):
    """Seconds of each call, (pairs, 2): first column `plain`, second `watched`."""

    wall: np.ndarray
    cpu: np.ndarray

    def ratios(self, share: float | None = None) -> tuple[Interval, Interval]:
        """Returns watched / plain, wall and CPU time.

        With `share`, `watched` is a plain call and an event that comes once in so many
        plain calls; the ratio is that of these calls with it and without it.
        """
        return tuple(median(1 + (t[:, 1] / t[:, 0] - 1) / (share or 1)) for t in self)


def median(values: np.ndarray) -> Interval:
    """Returns the median of values and its bootstrap interval."""
    draws = np.random.default_rng(0).choice(values, (RESAMPLES, len(values)))
    low, high = np.percentile(np.median(draws, axis=1), [2.5, 97.5])
    return Interval(float(np.median(values)), float(low), float(high))


def paired(plain: Callable[[], object], watched: Callable[[], object], pairs: int = 100) -> Pairs:
    """Calls both in turn, plain first and second alternately: A B B A A B B A ..."""
    for call in (plain, watched, watched, plain):
        call()
    wall, cpu = np.empty((pairs, 2)), np.empty((pairs, 2))
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 == 0 else (1, 0):
            call = (plain, watched)[which]
            cpu_start, start = time.process_time(), time.perf_counter()
            call()
            wall[pair, which] = time.perf_counter() - start
            cpu[pair, which] = time.process_time() - cpu_start
    return Pairs(wall, cpu)
