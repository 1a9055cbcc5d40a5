"""A record and its snapshot: what loggers, advice and reports see of a measurement."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


BASELINE_EPOCH = -1  # the epoch of the baseline, which is measured before the first step


@dataclass(frozen=True)
class ProbeRecord:
    """One measurement of one probe: a flat row of monitor.csv and monitor.jsonl.

    Attributes:
        probe: Name of the layer.
        source: "images" (fixed images in inference mode) or "batches" (training batches).
        epoch: Epoch index, from 0; -1 before the first step.
        step: Steps of the model's optimizer so far; 0 if the model has none.
        global_step: Grows with every measurement: `step` or, where that has not passed the
            previous measurement's `global_step`, one more than that. All probes of a measurement
            share it.
        images: Images measured; with source "batches", training batches.
        samples: Spatial positions measured in all of them.
        channels: Channels of the layer.
        redundancy_low: Lower end of the 95 % interval of the redundancy; nan if undefined.
        redundancy_high: Upper end of that interval.
        effective_rank_low: Lower end of the 95 % interval of the channels in use.
        effective_rank_high: Upper end of that interval.
        redundancy_plugin: The redundancy by the plain formula, without bias correction.
        drift_share: Fraction of the trace that lies between batches, 0..1; nan for images.
        verdict: "ok", or a sentence on what limits the numbers.
        seconds: Wall time for which training waited for the measurement, divided evenly among
            the probes.

    The other fields are those of `monitoring.ChannelMetrics`; `redundancy_score` and
    `effective_rank` are corrected for bias.
    """

    probe: str
    source: str
    epoch: int
    step: int
    global_step: int
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
NOT_METRICS = (
    *("probe", "source", "epoch", "step", "global_step", "images", "samples", "channels"),
    *("redundancy_plugin", "verdict", "seconds"),
)
METRIC_COLUMNS = tuple(name for name in COLUMNS if name not in NOT_METRICS)


@dataclass(frozen=True)
class ProbeSnapshot:
    """The arrays behind a ProbeRecord. Channels are numbered from 0.

    Attributes:
        probe: Name of the layer.
        epoch: Epoch index, from 0.
        step: Steps of the model's optimizer so far.
        global_step: That of the record.
        mean: Mean of each channel, (channels,).
        correlation: (channels, channels); nan in the rows and columns of dead channels.
        eigenvalues: Eigenvalues of the correlation of the live channels, descending.
        dead: Numbers of the dead channels.
        duplicates: {channel: (first channel of its group, sign)}.
    """

    probe: str
    epoch: int
    step: int
    global_step: int
    mean: np.ndarray
    correlation: np.ndarray
    eigenvalues: np.ndarray
    dead: tuple[int, ...]
    duplicates: Mapping[int, tuple[int, int]]
