"""What loggers, advice and reports see of a measurement, and nothing else."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

import numpy as np

from monitoring.covariance import RunningCovariance
from monitoring.grouped import GroupedCovariance
from monitoring.jackknife import Estimate, enough_units, jackknife
from monitoring.metrics import structure_metrics, verdict
from monitoring.structure import ChannelStructure, channel_structure


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
        seconds: Wall time of the measurement, shared evenly among its probes.

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


def summarise(
    grouped: GroupedCovariance,
    drift_share: float = math.nan,
    *,
    probe: str,
    source: str,
    epoch: int,
    step: int,
) -> tuple[ProbeRecord, ProbeSnapshot]:
    """Turns what was accumulated at one probe into its record and its snapshot.

    The record's `seconds` is 0: who measured knows how long it took.
    """
    running = grouped.total()
    structure = channel_structure(running)
    metrics = structure_metrics(structure, running.count)
    redundancy, rank = jackknife(grouped, structure)
    values = asdict(metrics) | {"drift_share": drift_share}
    if not math.isnan(redundancy.value):
        values |= {
            "redundancy_score": redundancy.value,
            "redundancy_low": redundancy.low,
            "redundancy_high": redundancy.high,
            "effective_rank": rank.value,
            "effective_rank_low": rank.low,
            "effective_rank_high": rank.high,
        }
    record = ProbeRecord(
        probe=probe,
        source=source,
        epoch=epoch,
        step=step,
        images=grouped.units,
        samples=running.count,
        channels=running.channels,
        redundancy_plugin=metrics.redundancy_score,
        verdict=_verdict(grouped, structure, redundancy, metrics.redundancy_score, source),
        seconds=0.0,
        **values,
    )
    snapshot = ProbeSnapshot(probe, epoch, step, running.mean, *_arrays(structure, running))
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


def _verdict(grouped, structure, redundancy: Estimate, plugin: float, source: str) -> str:
    """Says "ok", or what the numbers lack and how many images or batches would do."""
    said = verdict(structure, grouped.total().count)
    if said != "ok":
        return said
    needed = enough_units(plugin, redundancy, grouped.units, len(grouped.groups))
    return (
        said
        if needed <= grouped.units
        else f"not enough samples: {grouped.units} of {needed} units"
    )


def _arrays(structure: ChannelStructure | None, running: RunningCovariance):
    """Returns correlation, eigenvalues, dead and duplicates in the layer's numbering."""
    correlation = np.full((running.channels, running.channels), np.nan)
    if structure is None:
        return correlation, np.empty(0), (), {}
    correlation[np.ix_(structure.live, structure.live)] = structure.correlation
    dead = tuple(int(channel) for channel in np.flatnonzero(~structure.live))
    return correlation, structure.eigenvalues, dead, structure.duplicates
