"""Which channels are live, how they correlate, and which duplicate others. NumPy in float64."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .running import RunningCovariance

Eigvalsh = Callable[[np.ndarray], np.ndarray]  # as numpy.linalg.eigvalsh

DUPLICATE_CORRELATION = 0.999
EPSILON = {"float16": 2.0**-10, "bfloat16": 2.0**-7, "float32": 2.0**-23, "float64": 2.0**-52}


@dataclass(frozen=True)
class ChannelStructure:
    """The arrays from which the metrics are computed.

    Attributes:
        covariance: Covariance C, (channels, channels).
        live: Whether each channel varies, (channels,) of bool.
        correlation: Correlation R of the c live channels, (c, c), ones on the diagonal.
        eigenvalues: Eigenvalues of R, descending, (c,); they sum to c.
        duplicates: {channel: (first channel of its group, sign)}, numbered from 0 among
            all channels; the sign is -1 for a channel that mirrors the first.
    """

    covariance: np.ndarray
    live: np.ndarray
    correlation: np.ndarray
    eigenvalues: np.ndarray
    duplicates: dict[int, tuple[int, int]]


def channel_structure(
    running_covariance: RunningCovariance, *, eigvalsh: Eigvalsh = np.linalg.eigvalsh
) -> ChannelStructure | None:
    """Returns the arrays behind the metrics, or None if the covariance is undefined.

    Args:
        running_covariance: The accumulated covariance.
        eigvalsh: Computes eigenvalues. Defaults to NumPy's.
    """
    covariance = running_covariance.covariance()
    if not np.isfinite(covariance).all():
        return None
    live = live_channels(covariance, running_covariance.mean, running_covariance.dtype)
    correlation = correlation_of(covariance[np.ix_(live, live)])
    eigenvalues = np.maximum(eigvalsh(correlation)[::-1], 0.0)
    duplicates = _duplicates(correlation, np.flatnonzero(live))
    return ChannelStructure(covariance, live, correlation, eigenvalues, duplicates)


def live_channels(covariance: np.ndarray, mean: np.ndarray, dtype: str) -> np.ndarray:
    """Returns which channels vary more than a rounded constant of `dtype`.

    Args:
        covariance: (channels, channels).
        mean: (channels,).
        dtype: Dtype of the activations.

    Returns:
        (channels,) of bool.
    """
    live: np.ndarray = np.diag(covariance) > (8 * EPSILON[dtype] * np.abs(mean)) ** 2
    return live


def redundancy_score(correlation: np.ndarray) -> float:
    """Returns the off-diagonal fraction of the squared norm of R, (c, c) with c >= 2."""
    energy = np.square(correlation).sum()
    return float((energy - len(correlation)) / energy)


def effective_rank(eigenvalues: np.ndarray) -> float:
    """Returns exp of the entropy, in nats, of non-negative eigenvalues, (c,)."""
    fractions = eigenvalues[eigenvalues > 0] / eigenvalues.sum()
    return float(np.exp(-(fractions * np.log(fractions)).sum()))


def correlation_of(covariance: np.ndarray) -> np.ndarray:
    """Returns the correlation of live channels, with exact ones on the diagonal.

    Args:
        covariance: (c, c), of positive diagonal.

    Returns:
        (c, c), in -1..1.
    """
    deviations = np.sqrt(np.diag(covariance))
    correlation: np.ndarray = np.clip(covariance / np.outer(deviations, deviations), -1.0, 1.0)
    np.fill_diagonal(correlation, 1.0)
    return correlation


def _duplicates(correlation: np.ndarray, numbers: np.ndarray) -> dict[int, tuple[int, int]]:
    """Returns {channel: (first of its group, sign)}, numbered as in the layer."""
    firsts: list[int] = []
    duplicates = {}
    for channel, row in enumerate(correlation):
        matches = np.abs(row[firsts]) >= DUPLICATE_CORRELATION
        if matches.any():
            first = firsts[int(np.argmax(matches))]
            sign = 1 if row[first] > 0 else -1
            duplicates[int(numbers[channel])] = (int(numbers[first]), sign)
        else:
            firsts.append(channel)
    return duplicates
