"""What can be asked of a monitor at any time: its records, its cost, a measurement now."""

from typing import Any

from .cost import MonitoringCost
from .measuring import Measurer
from .recorder import Recorder
from .records.files import WriteFailures
from .records.metric_lists import metric_lists
from .records.record import BASELINE_EPOCH, ProbeRecord
from .statistics.types import Images


class MonitorQueries:
    """The part of `NASMonitorCallback` that answers questions and schedules nothing."""

    model: Any
    monitor_data: Images | None
    monitor_frequency: str
    cost: MonitoringCost
    _recorder: Recorder
    _measurer: Measurer | None

    def _find_layers(self) -> Measurer:
        raise NotImplementedError

    def drain(self) -> None:
        """Waits until every record of this training run is written; raises loggers' errors."""
        self._recorder.drain()

    @property
    def records(self) -> list[ProbeRecord]:
        """The records of the current or the last training run, in order."""
        self.drain()
        return self._recorder.records

    @property
    def missing(self) -> list[str]:
        """Files that could not be written, as on a full disk; `records` is complete anyway."""
        return list(self.write_failures)

    @property
    def write_failures(self) -> WriteFailures:
        """What `missing` lists; whoever writes files beside the monitor may add to it."""
        return self._recorder.write_failures

    def compute_redundancy(self) -> dict[str, ProbeRecord]:
        """Measures now, without logging; a window of training batches stays open.

        Returns:
            {layer name: its record}; empty if a window of training batches holds none yet.

        Raises:
            ValueError: The callback has no model, or neither `monitor_data` nor a running fit.
        """
        if self._measurer is None and self.monitor_data is None:
            raise ValueError("Expected monitor_data, or a running fit. Received: neither")
        measurer = self._measurer
        if measurer is None or measurer.model is not self.model:
            measurer = self._find_layers()
        if not self.records:
            return measurer.measure_now()
        return measurer.measure_now(self.records[-1].epoch, self.records[-1].global_step)

    def get_metrics(self) -> dict[str, Any]:
        """Returns the records after the baseline as lists to plot.

        Returns:
            {"steps": epochs, or `global_step` with monitor_frequency "batch", "redundancy",
            "correlation", "trace": means over probes, "condition_number": medians, "probes":
            {layer name: the same lists}}, with one entry per measurement; means ignore nan.
        """
        records = [record for record in self.records if record.epoch != BASELINE_EPOCH]
        unit = "epoch" if self.monitor_frequency == "epoch" else "global_step"
        return metric_lists(records, unit)

    @property
    def seconds(self) -> float:
        """Seconds for which the current or the last training run has waited for the monitor."""
        return self.cost.seconds

    def step_seconds(self) -> float:
        """Estimates the seconds of the last training run that its steps spent on statistics.

        Returns:
            Seconds; 0 with `monitor_data`, whose whole cost is in `seconds`.
        """
        return self.cost.step_seconds()
