"""How a measurement of one probe becomes its record and its snapshot."""

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from ..statistics.grouped import GroupedCovariance
from ..statistics.jackknife import (
    UNDEFINED,
    Estimate,
    rank_jackknife,
    redundancy_jackknife,
    required_units,
)
from ..statistics.metrics import structure_metrics, verdict
from ..statistics.running import RunningCovariance
from ..statistics.structure import (
    ChannelStructure,
    Eigvalsh,
    channel_structure,
    correlation_of,
    live_channels,
    redundancy_score,
)
from .record import ProbeRecord, ProbeSnapshot


class Redundancy(NamedTuple):
    """The redundancy of a measurement, available before any eigenvalue is computed.

    Attributes:
        total: Covariance over all groups.
        plugin: Redundancy by the plain formula; nan if undefined.
        estimate: The same corrected for bias, with its interval.
    """

    total: RunningCovariance
    plugin: float
    estimate: Estimate

    @property
    def score(self) -> float:
        """The corrected value, or the plain one if there is no correction."""
        return self.plugin if math.isnan(self.estimate.value) else self.estimate.value


@dataclass
class Measurement:
    """What was accumulated at one probe, and its redundancy, computed from norms alone.

    Attributes:
        grouped: The accumulated covariance.
        probe: Name of the layer.
        source: "images" or "batches".
        epoch: Epoch index.
        step: Steps of the model's optimizer so far.
        drift_share: Fraction of the trace that lies between batches; nan for images.
        seconds: This probe's part of the time for which training waited.
        global_step: Grows with every measurement of a training run; None: as `step`.
        redundancy: The redundancy of `grouped`.
    """

    grouped: GroupedCovariance
    probe: str
    source: str
    epoch: int
    step: int
    drift_share: float = math.nan
    seconds: float = 0.0
    global_step: int | None = None

    def __post_init__(self) -> None:
        """Computes the redundancy."""
        self.redundancy = _redundancy(self.grouped)


def summarise(
    measurement: Measurement, *, eigvalsh: Eigvalsh = np.linalg.eigvalsh
) -> tuple[ProbeRecord, ProbeSnapshot]:
    """Turns the measurement of one probe into its record and its snapshot.

    Args:
        measurement: What was accumulated.
        eigvalsh: Computes eigenvalues. Defaults to NumPy's.
    """
    grouped, redundancy = measurement.grouped, measurement.redundancy
    probe, epoch, step = measurement.probe, measurement.epoch, measurement.step
    global_step = step if measurement.global_step is None else measurement.global_step
    total, plugin, estimate = redundancy
    structure = channel_structure(total, eigvalsh=eigvalsh)
    metrics = structure_metrics(structure, total.count, eigvalsh=eigvalsh)
    corrected = estimate if structure is not None else UNDEFINED
    rank = Estimate(metrics.effective_rank, math.nan, math.nan)
    if structure is not None and not math.isnan(corrected.value):
        rank = rank_jackknife(grouped, structure.live, metrics.effective_rank, eigvalsh=eigvalsh)
    intervals = {
        "redundancy_score": redundancy.score,
        "redundancy_low": corrected.low,
        "redundancy_high": corrected.high,
        "effective_rank": rank.value,
        "effective_rank_low": rank.low,
        "effective_rank_high": rank.high,
    }
    record = ProbeRecord(
        probe=probe,
        source=measurement.source,
        epoch=epoch,
        step=step,
        global_step=global_step,
        images=grouped.units,
        samples=total.count,
        channels=total.channels,
        redundancy_plugin=plugin,
        drift_share=measurement.drift_share,
        verdict=_verdict(measurement, structure),
        seconds=measurement.seconds,
        **(asdict(metrics) | intervals),
    )
    arrays = _snapshot_arrays(structure, total)
    snapshot = ProbeSnapshot(probe, epoch, step, global_step, total.mean, *arrays)
    return record, snapshot


def _redundancy(grouped: GroupedCovariance) -> Redundancy:
    total = grouped.total()
    covariance = total.covariance()
    if np.isfinite(covariance).all():
        live = live_channels(covariance, total.mean, total.dtype)
        if live.sum() >= 2:
            plugin = redundancy_score(correlation_of(covariance[np.ix_(live, live)]))
            return Redundancy(total, plugin, redundancy_jackknife(grouped, live, plugin))
    return Redundancy(total, math.nan, UNDEFINED)


def _verdict(measurement: Measurement, structure: ChannelStructure | None) -> str:
    """Returns "ok", or what limits the numbers and how many images or batches are required."""
    total, plugin, estimate = measurement.redundancy
    grouped = measurement.grouped
    if grouped.nonfinite_units:
        return (
            f"activations are not finite in {grouped.nonfinite_samples} of {total.count} samples, "
            f"{grouped.nonfinite_units} of {grouped.units} {measurement.source}"
        )
    sentence = verdict(structure, total.count)
    if sentence != "ok":
        return sentence
    required = required_units(plugin, estimate, grouped.units, len(grouped.groups.count))
    if required <= grouped.units:
        return sentence
    return f"not enough samples: {grouped.units} of {required} {measurement.source}"


def _snapshot_arrays(
    structure: ChannelStructure | None, running: RunningCovariance
) -> tuple[np.ndarray, np.ndarray, tuple[int, ...], dict[int, tuple[int, int]]]:
    """Returns correlation, eigenvalues, dead and duplicates, numbered as in the layer."""
    correlation = np.full((running.channels, running.channels), np.nan)
    if structure is None:
        return correlation, np.empty(0), (), {}
    correlation[np.ix_(structure.live, structure.live)] = structure.correlation
    dead = tuple(int(channel) for channel in np.flatnonzero(~structure.live))
    return correlation, structure.eigenvalues, dead, structure.duplicates
