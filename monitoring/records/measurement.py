"""How a measurement of one probe becomes its record and its snapshot."""

import math
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np

from ..statistics.covariance import RunningCovariance
from ..statistics.grouped import GroupedCovariance
from ..statistics.jackknife import (
    UNDEFINED,
    Estimate,
    enough_units,
    rank_jackknife,
    redundancy_jackknife,
)
from ..statistics.metrics import structure_metrics, verdict
from ..statistics.structure import (
    ChannelStructure,
    channel_structure,
    correlation_of,
    live_channels,
    redundancy_score,
)
from .record import ProbeRecord, ProbeSnapshot


class Redundancy(NamedTuple):
    """What a measurement says on the spot, before any eigenvalue is computed.

    Attributes:
        total: Everything accumulated.
        plugin: Redundancy by the plain formula; nan where undefined.
        estimate: The same corrected for bias, and its interval.
    """

    total: RunningCovariance
    plugin: float
    estimate: Estimate

    @property
    def score(self) -> float:
        """The corrected value, or the plain one where there is no other."""
        return self.plugin if math.isnan(self.estimate.value) else self.estimate.value


@dataclass
class Measurement:
    """What was accumulated at one probe, and its redundancy, computed from norms alone.

    Attributes:
        grouped: What was accumulated.
        probe: The record's, as the next four.
        source: "images" or "batches".
        epoch: Epoch index.
        step: Optimizer steps so far.
        drift_share: nan for images.
        seconds: Share of the time that the training waited.
        redundancy: Of `grouped`.
    """

    grouped: GroupedCovariance
    probe: str
    source: str
    epoch: int
    step: int
    drift_share: float = math.nan
    seconds: float = 0.0

    def __post_init__(self):
        """Computes the redundancy."""
        self.redundancy = _redundancy(self.grouped)


def summarise(measurement: Measurement) -> tuple[ProbeRecord, ProbeSnapshot]:
    """Turns what was accumulated at one probe into its record and its snapshot."""
    grouped, redundancy = measurement.grouped, measurement.redundancy
    probe, epoch, step = measurement.probe, measurement.epoch, measurement.step
    total, plugin, estimate = redundancy
    structure = channel_structure(total)
    metrics = structure_metrics(structure, total.count)
    values = asdict(metrics) | {
        "drift_share": measurement.drift_share,
        "redundancy_score": redundancy.score,
    }
    if structure is not None and not math.isnan(estimate.value):
        rank = rank_jackknife(grouped, structure.live, metrics.effective_rank)
        values |= {
            "redundancy_low": estimate.low,
            "redundancy_high": estimate.high,
            "effective_rank": rank.value,
            "effective_rank_low": rank.low,
            "effective_rank_high": rank.high,
        }
    record = ProbeRecord(
        probe=probe,
        source=measurement.source,
        epoch=epoch,
        step=step,
        images=grouped.units,
        samples=total.count,
        channels=total.channels,
        redundancy_plugin=plugin,
        verdict=_verdict(measurement, structure),
        seconds=measurement.seconds,
        **values,
    )
    snapshot = ProbeSnapshot(probe, epoch, step, total.mean, *_arrays(structure, total))
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
    """Says "ok", or what the numbers lack and how many images or batches would do."""
    total, plugin, estimate = measurement.redundancy
    said = verdict(structure, total.count)
    grouped = measurement.grouped
    if grouped.nonfinite_units:
        return (
            f"activations are not finite in {grouped.nonfinite_samples} of {total.count} samples, "
            f"{grouped.nonfinite_units} of {grouped.units} {measurement.source}"
        )
    if said != "ok":
        return said
    needed = enough_units(plugin, estimate, grouped.units, len(grouped.groups.count))
    if needed <= grouped.units:
        return said
    return f"not enough samples: {grouped.units} of {needed} {measurement.source}"


def _arrays(structure: ChannelStructure | None, running: RunningCovariance):
    """Returns correlation, eigenvalues, dead and duplicates in the layer's numbering."""
    correlation = np.full((running.channels, running.channels), np.nan)
    if structure is None:
        return correlation, np.empty(0), (), {}
    correlation[np.ix_(structure.live, structure.live)] = structure.correlation
    dead = tuple(int(channel) for channel in np.flatnonzero(~structure.live))
    return correlation, structure.eigenvalues, dead, structure.duplicates
