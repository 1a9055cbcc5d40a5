"""What loggers, advice and reports see of a measurement, and nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import NamedTuple

import numpy as np

from monitoring.covariance import RunningCovariance
from monitoring.grouped import GroupedCovariance
from monitoring.jackknife import (
    UNDEFINED,
    Estimate,
    enough_units,
    rank_jackknife,
    redundancy_jackknife,
)
from monitoring.metrics import structure_metrics, verdict
from monitoring.structure import (
    ChannelStructure,
    channel_structure,
    correlation_of,
    live_channels,
    redundancy_score,
)


@dataclass(frozen=True)
class ProbeRecord:
    """One probe at one measurement: a flat row of monitor.csv and monitor.jsonl.

    Attributes:
        probe: Name of the layer.
        source: "images" (fixed images in inference mode) or "batches" (training batches).
        epoch: Epoch index, from 0; -1 before the first step.
        step: Optimizer steps so far.
        images: Images measured; with source "batches", training batches.
        samples: Spatial positions over all these images.
        channels: Channels of the layer.
        redundancy_plugin: The redundancy by the plain formula.
        verdict: "ok", or in words what the numbers lack.
        seconds: Wall time that the training waited for the measurement, shared evenly among
            its probes.

    The other fields are those of `monitoring.metrics.ChannelMetrics`.
    """

    probe: str
    source: str
    epoch: int
    step: int
    images: int
    samples: int
    channels: int
    redundancy_score: float
    effective_rank: float
    redundancy_low: float
    redundancy_high: float
    effective_rank_low: float
    effective_rank_high: float
    redundancy_plugin: float
    feature_correlation: float
    condition_number: float
    trace: float
    decov: float
    intrinsic_dimension: float
    saturation: float
    dead_channels: float
    duplicate_channels: float
    negligible_channels: float
    drift_share: float
    verdict: str
    seconds: float


LISTED = {
    "redundancy": "redundancy_score",
    "correlation": "feature_correlation",
    "condition_number": "condition_number",
    "trace": "trace",
}
COLUMNS = tuple(field.name for field in fields(ProbeRecord))


@dataclass(frozen=True)
class ProbeSnapshot:
    """The arrays behind a ProbeRecord. Channels are numbered from 0.

    Attributes:
        probe: Name of the layer.
        epoch: Epoch index, from 0.
        step: Optimizer steps so far.
        mean: Mean of each channel, (channels,).
        correlation: (channels, channels); nan in the rows and columns of dead channels.
        eigenvalues: Of the live channels' correlation, descending.
        dead: Numbers of the dead channels.
        duplicates: {channel: (first channel of its group, sign)}.
    """

    probe: str
    epoch: int
    step: int
    mean: np.ndarray
    correlation: np.ndarray
    eigenvalues: np.ndarray
    dead: tuple[int, ...]
    duplicates: Mapping[int, tuple[int, int]]


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


def metric_lists(records: Sequence[ProbeRecord], unit: str) -> dict:
    """Turns records into lists to plot, one entry for each measurement.

    Args:
        records: In the order of their measurements.
        unit: "epoch" or "step": which field to list as steps.

    Returns:
        {"steps", "redundancy", "correlation", "condition_number", "trace": over probes,
        "probes": {layer name: the same lists but for steps}}; nan is ignored in means.
    """
    probes: dict[str, dict[str, list[float]]] = {}
    for record in records:
        lists = probes.setdefault(record.probe, {name: [] for name in LISTED})
        for name, field in LISTED.items():
            lists[name].append(getattr(record, field))
    overall = {
        name: [
            ignoring_nan(np.median if name == "condition_number" else np.mean, values)
            for values in zip(*(lists[name] for lists in probes.values()), strict=True)
        ]
        for name in LISTED
    }
    steps = list(dict.fromkeys(getattr(record, unit) for record in records))
    return {"steps": steps, **overall, "probes": probes}


def ignoring_nan(reduce, values: Sequence[float]) -> float:
    """Reduces the values that are defined; nan where none is."""
    defined = [value for value in values if not math.isnan(value)]
    return float(reduce(defined)) if defined else math.nan


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
