"""Records as lists of numbers, ready to plot."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .record import ProbeRecord

LISTED = {
    "redundancy": "redundancy_score",
    "correlation": "feature_correlation",
    "condition_number": "condition_number",
    "trace": "trace",
}


def metric_lists(records: Sequence[ProbeRecord], unit: str) -> dict[str, Any]:
    """Turns records into lists to plot, with one entry per measurement.

    Args:
        records: Records in the order of their measurements.
        unit: Which field to list as steps, "epoch" or "global_step".

    Returns:
        {"steps", "redundancy", "correlation", "condition_number", "trace": over all probes,
        "probes": {layer name: the same lists except steps}}; means ignore nan.
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
    # Every measurement has one record of each probe; those of the first one count them.
    steps = [getattr(record, unit) for record in records if record.probe == records[0].probe]
    return {"steps": steps, **overall, "probes": probes}


def ignoring_nan(reduce: Callable[[list[float]], Any], values: Sequence[float]) -> float:
    """Reduces the values that are not nan; nan if there are none."""
    defined = [value for value in values if not math.isnan(value)]
    return float(reduce(defined)) if defined else math.nan


def redundancy_logs(names: Sequence[str], redundancy: Mapping[str, float]) -> dict[str, float]:
    """Returns what a monitor adds to the logs of an epoch.

    Args:
        names: Names of the watched layers.
        redundancy: {layer name: redundancy} measured in this epoch; empty if it was not.

    Example:
        >>> redundancy_logs(["probe_wide"], {"probe_wide": 0.5})
        {'redundancy': 0.5, 'redundancy/wide': 0.5}
    """
    mean = ignoring_nan(np.mean, list(redundancy.values()))
    each = {f"redundancy/{n.removeprefix('probe_')}": redundancy.get(n, math.nan) for n in names}
    return {"redundancy": mean, **each}
