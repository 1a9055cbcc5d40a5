"""Metrics of channels, computed from their covariance. NumPy in float64.

One sample is one spatial position of one image. C is the covariance over samples, R the
correlation of the live channels. Undefined values are nan, never 0.
"""

from dataclasses import dataclass, fields

import numpy as np
from keras import ops

from .running import RunningCovariance
from .structure import (
    ChannelStructure,
    Eigvalsh,
    channel_structure,
    effective_rank,
    redundancy_score,
)
from .types import Tensor

NEGLIGIBLE_VARIANCE = 1e-4  # of the median live channel's
EXPLAINED_VARIANCE = 0.99
SAMPLES_PER_CHANNEL = 20
FLOAT32_EPS = float(np.finfo(np.float32).eps)


@dataclass(frozen=True)
class ChannelMetrics:
    """Metrics of the channels of one layer; undefined ones are nan.

    Attributes:
        redundancy_score: Fraction of R's squared Frobenius norm that lies off the diagonal.
            0: no two channels are correlated; 0.5: half of them are copies; 1 - 1/c: all c are
            identical. Invariant to rescaling a channel. Grows with width at equal correlation,
            so it must not be compared across widths.
        effective_rank: Channels in use, 1..c: exp of the entropy of R's eigenvalues. This is
            the number to compare across widths (Roy & Vetterli 2007).
        feature_correlation: Mean absolute off-diagonal entry of R, 0..1; pure noise gives
            about sqrt(2 / (pi n)) for n samples.
        condition_number: Largest over smallest eigenvalue of C over live channels, 1..inf;
            inf if C is singular to float32, nan if samples <= live channels.
        trace: Sum of the channels' variances, in squared units of the activations.
        decov: Half the squared off-diagonal of C (Cogswell et al. 2016); grows with the
            fourth power of the activations' scale.
        intrinsic_dimension: Number of leading eigenvalues of C that explain 99 % of its trace.
        saturation: intrinsic_dimension / channels, 0..1 (Delve).
        dead_channels: Channels whose variance is no larger than that of a rounded constant.
        duplicate_channels: Channels whose correlation with an earlier one is at least 0.999
            in absolute value.
        negligible_channels: Live channels with a variance below 1e-4 of the median of the live
            ones. effective_rank counts each of them in full.
    """

    redundancy_score: float
    effective_rank: float
    feature_correlation: float
    condition_number: float
    trace: float
    decov: float
    intrinsic_dimension: float
    saturation: float
    dead_channels: float
    duplicate_channels: float
    negligible_channels: float


METRIC_NAMES = tuple(field.name for field in fields(ChannelMetrics))


def channel_metrics(running_covariance: RunningCovariance) -> ChannelMetrics:
    """Computes every metric of the channels seen so far by the plain formulas.

    Args:
        running_covariance: The accumulated covariance.

    Returns:
        The metrics; all nan for fewer than 2 samples or if activations were not finite.

    Example:
        >>> import numpy as np
        >>> running = RunningCovariance(channels=2)
        >>> running.update(np.random.default_rng(0).normal(size=(50, 1)) * [1.0, 10.0])
        >>> metrics = channel_metrics(running)
        >>> round(metrics.redundancy_score, 4), round(metrics.effective_rank, 4)
        (0.5, 1.0)

    Reference:
        Roy & Vetterli 2007, The effective rank. Cogswell et al. 2016, Reducing
        Overfitting in Deep Networks by Decorrelating Representations,
        https://arxiv.org/abs/1511.06068.
    """
    return structure_metrics(channel_structure(running_covariance), running_covariance.count)


def covariance_redundancy(activations: Tensor) -> float:
    """Computes the redundancy score of an array of activations.

    Args:
        activations: (..., channels), channels last; every position is one sample.

    Returns:
        0: no two channels are correlated. 0.5: half of them are copies. 1 - 1/channels: all
        are identical. nan: fewer than 2 live channels or 2 samples.

    Raises:
        ValueError: `activations` has no channel axis.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(1000, 4))
        >>> bool(covariance_redundancy(x) < 0.01)
        True
        >>> round(covariance_redundancy(np.concatenate([x, x], axis=-1)), 2)
        0.5
    """
    activations = ops.convert_to_tensor(activations)
    if not len(activations.shape):
        raise ValueError("Expected activations of shape (..., channels). Received: a scalar")
    running = RunningCovariance(int(activations.shape[-1]))
    running.update(activations)
    return channel_metrics(running).redundancy_score


def structure_metrics(
    structure: ChannelStructure | None, samples: int, *, eigvalsh: Eigvalsh = np.linalg.eigvalsh
) -> ChannelMetrics:
    """Computes the metrics of a structure measured from `samples` samples.

    Args:
        structure: The arrays; None where they are undefined.
        samples: Number of samples.
        eigvalsh: Computes eigenvalues. Defaults to NumPy's.
    """
    values = dict.fromkeys(METRIC_NAMES, np.nan)
    if structure is not None:
        c = len(structure.eigenvalues)
        values |= _spread_metrics(structure, samples, eigvalsh)
        values["dead_channels"] = int((~structure.live).sum())
        values["duplicate_channels"] = len(structure.duplicates)
        if c >= 1:
            values["effective_rank"] = effective_rank(structure.eigenvalues)
        if c >= 2:
            values["redundancy_score"] = redundancy_score(structure.correlation)
            off_diagonal = np.abs(structure.correlation).sum() - c
            values["feature_correlation"] = float(off_diagonal / (c * (c - 1)))
    return ChannelMetrics(**values)


def verdict(structure: ChannelStructure | None, samples: int) -> str:
    """Judges whether the metrics are defined and rest on enough samples.

    Returns:
        "ok", or a sentence: "not enough samples: ..." with the number required,
        "activations, or their squares, are not finite", or why redundancy is undefined.
    """
    if structure is None:
        if samples < 2:
            return f"not enough samples: {samples} of at least 2"
        return "activations, or their squares, are not finite"
    live, channels = len(structure.eigenvalues), len(structure.live)
    if channels == 1:
        return "one channel: redundancy needs two; build the model with enable_probes=True"
    if live < 2:
        return f"{live} of {channels} channels vary: redundancy needs two"
    needed = SAMPLES_PER_CHANNEL * live
    if samples < needed:
        return f"not enough samples: {samples} of {needed}"
    return "ok"


def _spread_metrics(
    structure: ChannelStructure, samples: int, eigvalsh: Eigvalsh
) -> dict[str, float]:
    """Computes the metrics that depend on the variances of the channels."""
    covariance, live = structure.covariance, structure.live
    variances = np.diag(covariance)
    spread = {
        "trace": float(variances.sum()),
        "decov": float((np.square(covariance).sum() - np.square(variances).sum()) / 2),
        "negligible_channels": 0,
    }
    if not live.any():
        return spread
    alive = variances[live]
    spread["negligible_channels"] = int((alive < NEGLIGIBLE_VARIANCE * np.median(alive)).sum())

    eigenvalues = eigvalsh(covariance[np.ix_(live, live)])[::-1]
    # The tolerance absorbs rounding: 99 of 100 equal eigenvalues do explain 99 %.
    explained = np.cumsum(eigenvalues) / eigenvalues.sum() + 1e-12
    spread["intrinsic_dimension"] = int(np.argmax(explained >= EXPLAINED_VARIANCE)) + 1
    spread["saturation"] = spread["intrinsic_dimension"] / len(live)
    if samples > len(alive):
        largest, smallest = eigenvalues[0], eigenvalues[-1]
        singular = smallest <= len(alive) * FLOAT32_EPS * largest
        spread["condition_number"] = np.inf if singular else float(largest / smallest)
    return spread
