"""What loggers, advice and reports see of a measurement, and nothing else."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np

from monitoring.covariance import RunningCovariance
from monitoring.metrics import structure_metrics, verdict
from monitoring.structure import ChannelStructure, channel_structure


@dataclass(frozen=True)
class ProbeRecord:
    """One probe at one measurement: a flat row of monitor.csv and monitor.jsonl.

    Attributes:
        probe: Name of the layer.
        source: "images" (fixed images in inference mode) or "batches" (training batches).
        epoch: Epoch index, from 0.
        step: Optimizer steps so far.
        images: Images measured.
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
    running: RunningCovariance, *, probe: str, source: str, epoch: int, step: int, images: int
) -> tuple[ProbeRecord, ProbeSnapshot]:
    """Turns what was accumulated at one probe into its record and its snapshot.

    The record's `seconds` is 0: who measured knows how long it took.
    """
    structure = channel_structure(running)
    metrics = structure_metrics(structure, running.count)
    record = ProbeRecord(
        probe=probe,
        source=source,
        epoch=epoch,
        step=step,
        images=images,
        samples=running.count,
        channels=running.channels,
        redundancy_plugin=metrics.redundancy_score,
        verdict=verdict(structure, running.count),
        seconds=0.0,
        **asdict(metrics),
    )
    snapshot = ProbeSnapshot(probe, epoch, step, running.mean, *_arrays(structure, running))
    return record, snapshot


def _arrays(structure: ChannelStructure | None, running: RunningCovariance):
    """Returns correlation, eigenvalues, dead and duplicates in the layer's numbering."""
    correlation = np.full((running.channels, running.channels), np.nan)
    if structure is None:
        return correlation, np.empty(0), (), {}
    correlation[np.ix_(structure.live, structure.live)] = structure.correlation
    dead = tuple(int(channel) for channel in np.flatnonzero(~structure.live))
    return correlation, structure.eigenvalues, dead, structure.duplicates
