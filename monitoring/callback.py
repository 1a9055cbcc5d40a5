"""NASMonitorCallback: decides when to measure; what, how and whereto are others' work."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from monitoring.loggers import ConsoleLogger, CsvLogger, JsonLinesLogger, RecordLogger
from monitoring.records import ProbeRecord, ProbeSnapshot, summarise
from monitoring.taps import SideModelTap, image_batches

LISTED = {
    "redundancy": "redundancy_score",
    "correlation": "feature_correlation",
    "condition_number": "condition_number",
    "trace": "trace",
}


class NASMonitorCallback(keras.callbacks.Callback):
    """Measures, while a model trains, what each watched layer's channels do.

    At the end of every `log_frequency`-th epoch it runs `monitor_data` through a side
    model in inference mode. The training is the same to the bit with it and without it.
    Each epoch's logs get `redundancy`, the mean over probes (nan in epochs that are not
    measured). Place it before callbacks that read the logs.

    Args:
        monitor_data: The images to measure: whatever `model.predict` takes, already
            preprocessed; of a dataset's tuples the first element. Read whole, in the same
            order, at each measurement.
        probe_layers: Names of layers. Defaults to None: the model's probes or, where it
            has none, its output.
        monitor_frequency: "epoch".
        log_frequency: Measure and log every N epochs. Defaults to 1.
        redundancy_weight: 0.
        log_dir: Folder for monitor.csv and monitor.jsonl. Defaults to None: no files.
        loggers: Exactly these objects, with `write(record, snapshot)` and `close()`.
            Defaults to None: a table on the console where fit is not silent, and with
            `log_dir` all files.

    Raises:
        ValueError: An argument is out of range; at the start of training: a layer cannot
            be watched.
        FileExistsError: `log_dir` holds another run.

    Example:
        >>> import numpy as np
        >>> from models import Nano_U
        >>> images = np.random.default_rng(0).uniform(-1, 1, (4, 60, 80, 3))
        >>> model = Nano_U(enable_probes=True)
        >>> model.compile("adam", "mse")
        >>> monitor = NASMonitorCallback(monitor_data=images)
        >>> _ = model.fit(images, images[..., :1], callbacks=[monitor], verbose=0)
        >>> [record.probe for record in monitor.records][-1]
        'probe_bottleneck'
    """

    def __init__(
        self,
        monitor_data=None,
        probe_layers: Sequence[str] | None = None,
        monitor_frequency: str = "epoch",
        log_frequency: int = 1,
        redundancy_weight: float = 0.0,
        log_dir: str | Path | None = None,
        *,
        loggers: Sequence[RecordLogger] | None = None,
    ):
        super().__init__()
        if monitor_data is None:
            raise ValueError(
                "Expected monitor_data, the images to measure. Received: monitor_data=None"
            )
        if monitor_frequency != "epoch":
            raise ValueError(f"Expected monitor_frequency='epoch'. Received: {monitor_frequency!r}")
        if type(log_frequency) is not int or log_frequency < 1:
            raise ValueError(
                f"Expected log_frequency to be a positive integer. Received: {log_frequency!r}"
            )
        if redundancy_weight != 0:
            raise ValueError(
                "Expected redundancy_weight=0, the regulariser is not there yet. "
                f"Received: {redundancy_weight!r}"
            )
        self.monitor_data = monitor_data
        self.probe_layers = probe_layers
        self.log_frequency = log_frequency
        self.records: list[ProbeRecord] = []
        self.seconds = 0.0
        self._tap: SideModelTap | None = None
        self._files: list[RecordLogger] = []
        if loggers is None and log_dir is not None:
            folder = Path(log_dir)
            self._files = [
                CsvLogger(folder / "monitor.csv"),
                JsonLinesLogger(folder / "monitor.jsonl"),
            ]
        self._given = None if loggers is None else list(loggers)
        self._loggers: list[RecordLogger] = []

    def on_train_begin(self, logs=None):
        """Starts a new list of records; finds the layers before the first step."""
        self.records, self.seconds, self._tap = [], 0.0, None
        self._attach()
        if not any(True for _ in image_batches(self.monitor_data)):
            raise ValueError("Expected at least one image to measure. Received: none")
        console = [ConsoleLogger()] if self.params.get("verbose") else []
        self._loggers = [*console, *self._files] if self._given is None else self._given

    def on_epoch_end(self, epoch, logs=None):
        """Measures where it is due, and adds `redundancy` to the logs."""
        redundancy = np.nan
        if (epoch + 1) % self.log_frequency == 0:
            pairs = self._measure(epoch)
            for record, snapshot in pairs:
                self.records.append(record)
                for logger in self._loggers:
                    logger.write(record, snapshot)
            redundancy = _ignoring_nan(np.mean, [record.redundancy_score for record, _ in pairs])
        if logs is not None:
            logs["redundancy"] = redundancy

    def on_train_end(self, logs=None):
        """Closes the loggers and lets go of the model."""
        self.detach()

    def detach(self) -> None:
        """Closes the loggers and puts everything back; needed only after an exception."""
        self._tap = None
        for logger in self._loggers:
            logger.close()
        self._loggers = []

    def compute_redundancy(self) -> dict[str, ProbeRecord]:
        """Measures now, logging nothing.

        Returns:
            {layer name: its record}, in the order of the data's way.

        Raises:
            ValueError: The callback has not been in a `fit` yet.
        """
        epoch = self.records[-1].epoch if self.records else 0
        return {record.probe: record for record, _ in self._measure(epoch)}

    def get_metrics(self) -> dict:
        """Returns the records as lists, one entry for each measurement.

        Returns:
            {"steps": epoch indices, "redundancy": means over probes, "correlation": same,
            "condition_number": medians over probes, "trace": means, "probes": {layer name:
            {"redundancy": ... and so on for this probe}}}; nan is ignored in means.
        """
        steps = sorted({record.epoch for record in self.records})
        probes: dict[str, dict[str, list[float]]] = {}
        for record in self.records:
            lists = probes.setdefault(record.probe, {name: [] for name in LISTED})
            for name, field in LISTED.items():
                lists[name].append(getattr(record, field))
        overall = {
            name: [
                _ignoring_nan(np.median if name == "condition_number" else np.mean, values)
                for values in zip(*(lists[name] for lists in probes.values()), strict=True)
            ]
            for name in LISTED
        }
        return {"steps": steps, **overall, "probes": probes}

    def _attach(self) -> SideModelTap:
        if self.model is None:
            raise ValueError("Expected a model: use the callback in `fit`, or call `set_model`.")
        if self._tap is None:
            self._tap = SideModelTap(self.model, self.probe_layers)
        return self._tap

    def _measure(self, epoch: int) -> list[tuple[ProbeRecord, ProbeSnapshot]]:
        start = time.perf_counter()
        tap = self._attach()
        running, images = tap.measure(self.monitor_data)
        step = int(self.model.optimizer.iterations) if self.model.optimizer else 0
        pairs = [
            summarise(
                running[name], probe=name, source=tap.source, epoch=epoch, step=step, images=images
            )
            for name in tap.names
        ]
        elapsed = time.perf_counter() - start
        self.seconds += elapsed
        return [(replace(record, seconds=elapsed / len(pairs)), shot) for record, shot in pairs]


def _ignoring_nan(reduce, values: Sequence[float]) -> float:
    """Reduces the values that are defined; nan where none is."""
    defined = [value for value in values if not np.isnan(value)]
    return float(reduce(defined)) if defined else float("nan")
