"""NASMonitorCallback: decides when to measure; what, how and whereto are others' work."""

import time
from collections.abc import Mapping, Sequence
from functools import partial
from math import nan
from pathlib import Path

import keras
import numpy as np

from .loggers.console import ConsoleLogger
from .loggers.folder import LogFolder
from .loggers.protocol import RecordLogger
from .records.files import Unwritten
from .records.measurement import Measurement, summarise
from .records.metric_lists import ignoring_nan, metric_lists
from .records.record import ProbeRecord
from .statistics.grouped import GroupedCovariance
from .taps.distribution import first_process, refuse_what_keras_cannot
from .taps.images_tap import ImagesTap
from .taps.train_step import TrainStepTap
from .taps.watched import Watched
from .worker import Worker

START = -1  # the epoch of the null line, measured before the first step


class NASMonitorCallback(keras.callbacks.Callback):
    """Measures, while a model trains, what each watched layer's channels do.

    With `monitor_data` it runs these images through the model in inference mode, comparable
    from one measurement to the next, and once before the first step. Without, it takes the
    statistics of the training batches inside the training step (TensorFlow). The training
    is the same to the bit with it and without it, as long as `redundancy_weight` is 0.

    Each epoch's logs get `redundancy`, the mean over probes, and `redundancy/<probe>`; nan
    where the epoch was not measured. Callbacks that read them come after this one in the
    list: see `check_order`.

    Where several processes train together (Keras on JAX), each measures, alike if all are
    given the same images, and the first one logs.

    Args:
        monitor_data: The images to measure: whatever `model.predict` takes, already
            preprocessed; of a dataset's tuples the first element. Read whole, in the same
            order, at each measurement. Defaults to None: the training batches.
        probe_layers: Names of layers of any Keras model, "outer/inner/layer" where a bare
            name is not unique. Defaults to None: the model's probes or, where it has none,
            its output.
        monitor_frequency: "epoch" or "batch". Defaults to "epoch".
        log_frequency: Measure and log every N epochs or N training batches; with batches
            also at each epoch's end, so that an epoch's windows hold all its batches.
            Defaults to 1.
        redundancy_weight: Weight in the loss of the mean redundancy of the watched layers'
            batch, 0 or more (TensorFlow). Defaults to 0.
        log_dir: Folder for monitor.csv, monitor.jsonl, tensorboard/ and arrays/. A training
            that begins with a later epoch (initial_epoch, BackupAndRestore) goes on with
            what is there. Defaults to None: no files.
        loggers: Exactly these objects, with `write(record, snapshot)` and `close()`.
            Defaults to None: a table on the console where fit is not silent, and with
            `log_dir` all files.
        redundancy_warmup: Optimizer steps over which the weight grows from 0. Defaults to 0.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
        max_positions: Positions of each image to measure, at most, evenly spread; None:
            all. Defaults to 400, which leave the intervals as they are with all 4800 of a
            60x80 map (docs/accuracy.md).

    Raises:
        ValueError: An argument is out of range; at the start of training: a layer cannot be
            watched, or the backend cannot do it.
        FileExistsError: At the start of a training from epoch 0: `log_dir` holds another run.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(64, 4))
        >>> dense = keras.layers.Dense(8, name="wide")
        >>> model = keras.Sequential([keras.Input((4,)), dense, keras.layers.Dense(1)])
        >>> model.compile("adam", "mse")
        >>> monitor = NASMonitorCallback(monitor_data=x, probe_layers=["wide"])
        >>> _ = model.fit(x, x[:, :1], callbacks=[monitor], verbose=0)
        >>> [(record.probe, record.epoch) for record in monitor.records]
        [('wide', -1), ('wide', 0)]
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
        redundancy_warmup: int = 0,
        data_format: str | None = None,
        max_positions: int | None = 400,
    ):
        super().__init__()
        if monitor_frequency not in ("epoch", "batch"):
            raise ValueError(
                f"Expected monitor_frequency 'epoch' or 'batch'. Received: {monitor_frequency!r}"
            )
        if type(log_frequency) is not int or log_frequency < 1:
            raise ValueError(
                f"Expected log_frequency to be a positive integer. Received: {log_frequency!r}"
            )
        if not 0 <= redundancy_weight < np.inf or redundancy_warmup < 0:
            raise ValueError(
                "Expected redundancy_weight and redundancy_warmup of 0 or more. "
                f"Received: {redundancy_weight!r}, {redundancy_warmup!r}"
            )
        self.monitor_data, self.probe_layers = monitor_data, probe_layers
        self.monitor_frequency, self.log_frequency = monitor_frequency, log_frequency
        self.redundancy_weight, self.redundancy_warmup = redundancy_weight, redundancy_warmup
        self.data_format, self.max_positions = data_format, max_positions
        self.seconds = 0.0  # that the training has waited, as a clock saw it
        self._fused: tuple[TrainStepTap, int] | None = None
        self._estimate: float | None = None
        self._records: list[ProbeRecord] = []
        self._worker: Worker | None = None
        self._images: ImagesTap | None = None
        self._step: TrainStepTap | None = None
        self.unwritten = Unwritten()
        self._folder: LogFolder | None = None
        if loggers is None and log_dir is not None:
            self._folder = LogFolder(Path(log_dir), self.unwritten)
        self._given = None if loggers is None else list(loggers)
        self._loggers: list[RecordLogger] = []
        if monitor_frequency == "batch":
            # Keras dispatches batch hooks in order only where a callback has one.
            self.on_train_batch_end = self._on_train_batch_end

    @staticmethod
    def check_order(callbacks: Sequence[keras.callbacks.Callback]) -> None:
        """Checks that the monitor comes before those that read what it adds to the logs.

        Raises:
            ValueError: One of them comes first; it would see the epoch without `redundancy`.
        """
        kinds = [type(callback).__name__ for callback in callbacks]
        for place, callback in enumerate(callbacks):
            if isinstance(callback, NASMonitorCallback):
                early = [
                    kind
                    for kind, other in zip(kinds[:place], callbacks, strict=False)
                    if isinstance(other, keras.callbacks.CSVLogger)
                    or str(getattr(other, "monitor", "")).startswith("redundancy")
                ]
                if early:
                    raise ValueError(
                        f"Put NASMonitorCallback before {', '.join(early)}, which read the logs "
                        f"that it fills. Received: {', '.join(kinds)}"
                    )

    def set_model(self, model):
        """Takes the model that is to be watched; forgets what belonged to another."""
        if self.model is not model:
            self._images = None
        super().set_model(model)

    def on_train_begin(self, logs=None):
        """Starts a new list of records; finds and, given images, measures the layers."""
        self.detach()
        self._records, self.seconds, self._fused, self._estimate = [], 0.0, None, None
        self._began, self._first_step = time.perf_counter(), self._optimizer_step()
        watched = self._attach()
        refuse_what_keras_cannot(self.model)
        if self.monitor_data is None or self.redundancy_weight:
            self._step = TrainStepTap(
                watched,
                accumulate=self.monitor_data is None,
                weight=self.redundancy_weight,
                warmup=self.redundancy_warmup,
            )
        console = [ConsoleLogger()] if self.params.get("verbose") else []
        files = [] if self._folder is None else [self._folder]
        self._loggers = [*console, *files] if self._given is None else self._given
        if not first_process():
            self._loggers = []
        self._worker, self._started = Worker(), False
        if self._step is not None:
            self._step.attach()

    def on_epoch_begin(self, epoch, logs=None):
        """Begins the epoch's count of batches; the first also the records.

        A training that begins with a later epoch than 0 goes on with the files of `log_dir`:
        records of that epoch and later ones are dropped.

        Raises:
            FileExistsError: The training begins with epoch 0, and `log_dir` holds another run.
        """
        if not self._started:
            self._started = True
            self._start(epoch)
        self._epoch, self._batches, self._window, self._last = epoch, 0, 0, {}
        if self._step is not None:
            self._step.begin_epoch()

    def _on_train_batch_end(self, batch, logs=None):
        """Measures where N batches are complete, also where a call runs several steps."""
        before, self._batches = self._batches, batch + 1
        if self._batches // self.log_frequency != before // self.log_frequency:
            self._window = self._batches
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            self._last = self._record(self._epoch)

    def on_epoch_end(self, epoch, logs=None):
        """Measures where it is due, and adds `redundancy` to the logs."""
        if self.monitor_frequency == "epoch":
            due = (epoch + 1) % self.log_frequency == 0
        else:
            due = self._images is None and self._batches > self._window
        if due:
            self._last = self._record(epoch)
        elif self._folder is not None and self._step is not None:
            self._keep_window(epoch)
        if logs is not None:
            logs["redundancy"] = ignoring_nan(np.mean, list(self._last.values()))
            for name in self._watched.layers:
                logs[f"redundancy/{name.removeprefix('probe_')}"] = self._last.get(name, nan)

    def on_train_end(self, logs=None):
        """Waits for the last records, closes the loggers and gives the training step back."""
        if self._step is not None and self._step.accumulate:
            self._fused = self._step, self._optimizer_step() - self._first_step
        self.detach()
        if self._folder is not None:
            self._folder.drop_window()
        if self.params.get("verbose") and self._given is None and first_process():
            print(self.cost(time.perf_counter() - self._began))

    def detach(self) -> None:
        """Puts everything back and closes the loggers; needed only after an exception.

        Raises:
            Exception: What a logger raised and nobody has seen yet.
        """
        if self._step is not None:
            self._step.detach()
        self._images = self._step = None
        worker, self._worker = self._worker, None
        start = time.perf_counter()
        try:
            if worker is not None:
                worker.close()
        finally:
            loggers, self._loggers = self._loggers, []
            for logger in loggers:
                logger.close()
            self.seconds += time.perf_counter() - start

    def drain(self) -> None:
        """Waits until every record of the running training is written.

        Raises:
            Exception: What a logger raised.
        """
        start = time.perf_counter()
        if self._worker is not None:
            self._worker.drain()
        self.seconds += time.perf_counter() - start

    def step_seconds(self) -> float:
        """Estimates the part of the last training that went into its steps' statistics.

        Returns:
            Seconds; 0 with `monitor_data`, which a clock sees whole: `seconds`.
        """
        if self._fused is None:
            return 0.0
        if self._estimate is None:
            tap, steps = self._fused
            self._estimate = tap.step_seconds() * steps
        return self._estimate

    def cost(self, training_seconds: float) -> str:
        """Says in one line what monitoring took of the last training."""
        estimate = self.step_seconds()
        share = (self.seconds + estimate) / training_seconds
        said = f"monitoring: {share:.1%} of {training_seconds:.0f} s".replace("%", " %")
        return f"{said}, what is part of the step an estimate" if estimate else said

    @property
    def missing(self) -> list[str]:
        """What of the files could not be written, as on a full disk; `records` has it all."""
        return list(self.unwritten)

    @property
    def records(self) -> list[ProbeRecord]:
        """The records of the last, or the running, training, in order."""
        self.drain()
        return self._records

    def compute_redundancy(self) -> dict[str, ProbeRecord]:
        """Measures now, logging nothing and leaving the window of batches open.

        Returns:
            {layer name: its record}, in the order of the layers; empty where a window of
            training batches holds none yet.

        Raises:
            ValueError: The callback has no model, or without `monitor_data` no `fit` is
                under way.
        """
        if self.monitor_data is None and self._step is None:
            raise ValueError("Without monitor_data there is something to measure only during fit.")
        if self._images is None and self._step is None:
            self._attach()
        epoch = self.records[-1].epoch if self.records else 0
        found = self._measure(epoch, close=False)
        return {measured.probe: summarise(measured)[0] for measured in found}

    def get_metrics(self) -> dict:
        """Returns the records as lists, one entry for each measurement after the start.

        Returns:
            {"steps": epoch indices, or optimizer steps with monitor_frequency "batch",
            "redundancy": means over probes, "correlation": same, "condition_number":
            medians over probes, "trace": means, "probes": {layer name: {"redundancy": ...
            and so on for this probe}}}; nan is ignored in means.
        """
        records = [record for record in self.records if record.epoch != START]
        return metric_lists(records, "epoch" if self.monitor_frequency == "epoch" else "step")

    def _start(self, epoch: int) -> None:
        """Goes on with an earlier training's records, or measures before the first step."""
        earlier = []
        if self._folder is not None:
            earlier = self._folder.start(epoch, self._optimizer_step())
            window = self._folder.window(epoch - 1)
            if window and self._step is not None:
                self._step.restore(window)
        if earlier:
            self._records = earlier
            for console in self._loggers:
                if isinstance(console, ConsoleLogger):
                    for record in earlier:
                        console.write(record)
        elif self._images is not None:
            self._record(START)

    def _keep_window(self, epoch: int) -> None:
        """Has a window that stays open written, so that a resumed training goes on with it."""
        assert self._worker is not None and self._folder is not None and self._step is not None
        start = time.perf_counter()
        state = self._step.state()
        if state:
            size = sum(value.nbytes for value in state.values())
            self._worker.submit(partial(self._folder.keep_window, epoch, state), size)
        self.seconds += time.perf_counter() - start

    def _attach(self) -> Watched:
        """Finds the layers, and makes ready to measure images."""
        if self.model is None:
            raise ValueError("Expected a model: use the callback in `fit`, or call `set_model`.")
        self._watched = Watched(self.model, self.probe_layers, self.data_format, self.max_positions)
        if self.monitor_data is not None:
            self._images = ImagesTap(self._watched)
        return self._watched

    def _measure(self, epoch: int, *, close: bool) -> list[Measurement]:
        """Measures each layer, up to its redundancy."""
        start = time.perf_counter()
        seen: Mapping[str, tuple[GroupedCovariance, float]]
        if self._images is not None:
            source = self._images.source
            seen = {name: (g, nan) for name, g in self._images.measure(self.monitor_data).items()}
        else:
            assert self._step is not None
            source = self._step.source
            seen = self._step.take() if close else self._step.peek()
        step = self._optimizer_step()
        found = [
            Measurement(grouped, name, source, epoch, step, drift)
            for name, (grouped, drift) in seen.items()
        ]
        for measured in found:
            measured.seconds = (time.perf_counter() - start) / len(found)
        return found

    def _optimizer_step(self) -> int:
        optimizer = getattr(self.model, "optimizer", None)
        return int(keras.ops.convert_to_numpy(optimizer.iterations)) if optimizer else 0

    def _record(self, epoch: int) -> dict[str, float]:
        """Measures, has it recorded and logged, and returns {layer name: redundancy}."""
        assert self._worker is not None
        start = time.perf_counter()
        found = self._measure(epoch, close=True)
        for measured in found:
            self._worker.submit(partial(self._write, measured), measured.grouped.nbytes)
        self.seconds += time.perf_counter() - start
        return {measured.probe: measured.redundancy.score for measured in found}

    def _write(self, measured: Measurement) -> None:
        """Makes a record and logs it, on the worker's thread."""
        record, snapshot = summarise(measured)
        self._records.append(record)
        for logger in self._loggers:
            logger.write(record, snapshot)
