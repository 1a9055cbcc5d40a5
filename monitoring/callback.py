"""NASMonitorCallback decides when to measure; it delegates measuring, recording and logging."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras

from .copies import copied
from .cost import MonitoringCost
from .loggers.protocol import RecordLogger
from .measuring import Measurer
from .order import check_arguments, check_order, same_batch_hooks
from .queries import MonitorQueries
from .recorder import Recorder
from .records.metric_lists import redundancy_logs
from .records.record import BASELINE_EPOCH
from .statistics.types import Images
from .taps.distribution import check_distribution_supported
from .windows import OpenWindow


class NASMonitorCallback(MonitorQueries, keras.callbacks.Callback):
    """Measures, while a model trains, what the channels of each watched layer do.

    With `monitor_data` it runs these images through the model in inference mode, before the first
    step and at each measurement. Without, it takes the statistics of the training batches inside
    the training step (TensorFlow). Training is bit-identical with and without it, as long as
    `redundancy_weight` is 0. It lets go of the model when its `fit` ends; after an exception, at
    the latest before the model is next used.

    The logs of each epoch get `redundancy`, the mean over probes, and `redundancy/<probe>`; nan
    if the epoch was not measured. Callbacks that read them must come later in the list
    (`check_order`). If several processes train (Keras on JAX), all measure and the first one logs.

    Args:
        monitor_data: Images to measure: whatever `model.predict` takes, already preprocessed;
            of a dataset's tuples the first element. All are read, in the same order, at each
            measurement. Defaults to None: the training batches.
        probe_layers: Names of layers of any Keras model, "outer/inner/layer" where a bare name
            is not unique. Defaults to None: the model's probes or, if it has none, its output.
        monitor_frequency: "epoch" or "batch". Defaults to "epoch".
        log_frequency: Measure and log every N epochs or N training batches; without
            `monitor_data` also at the end of each epoch. Defaults to 1.
        redundancy_weight: Weight in the loss of the mean redundancy of the watched layers in a
            batch, 0 or more (TensorFlow). Defaults to 0.
        log_dir: Folder for monitor.csv, monitor.jsonl, tensorboard/ and arrays/. A training run
            that begins at a later epoch (initial_epoch, BackupAndRestore) continues the files
            that are there. Defaults to None: no files.
        loggers: Use exactly these objects, with `write(record, snapshot)` and `close()`.
            Defaults to None: a table on the console unless fit is silent, and with `log_dir`
            all files.
        redundancy_warmup: Optimizer steps over which the weight grows from 0. Defaults to 0.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
        max_positions: Most positions of each image to measure, evenly spread; None for all.
            Defaults to 400, which gives the same intervals as all 4800 of a 60x80 map.
        monitor_steps: Most batches of `monitor_data` to read, needed where it never ends.
            Defaults to None: all.

    Raises:
        ValueError: An argument is out of range; at the start of training: a layer cannot be
            watched, or the backend does not support it.
        FileExistsError: A training run begins at epoch 0 and `log_dir` holds another run.

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
        monitor_data: Images | None = None,
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
        monitor_steps: int | None = None,
    ):
        super().__init__()
        self.monitor_data, self.probe_layers = monitor_data, probe_layers
        self.monitor_frequency, self.log_frequency = monitor_frequency, log_frequency
        self.redundancy_weight, self.redundancy_warmup = redundancy_weight, redundancy_warmup
        self.data_format, self.max_positions = data_format, max_positions
        self.monitor_steps = monitor_steps
        check_arguments(self)
        self.cost = MonitoringCost()
        self._recorder = Recorder(log_dir, loggers, self.cost)
        self._measurer: Measurer | None = None
        self._epoch = self._batches = self._measured_batches = 0
        self._last: dict[str, float] = {}  # the redundancy last measured in this epoch

    check_order = staticmethod(check_order)
    __deepcopy__ = copied

    @property
    def async_safe(self) -> bool:
        """Whether Keras need not wait for batch hooks, as neither we nor a subclass need them."""
        return self.monitor_frequency == "epoch" and same_batch_hooks(self, NASMonitorCallback)

    def on_train_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Resets the records, finds the layers and, if needed, wraps the training step."""
        self.detach()
        measurer = self._find_layers()
        check_distribution_supported(self.model)
        self.cost.begin(measurer)
        self._recorder.begin(console=bool((self.params or {}).get("verbose")))
        measurer.tap_training(self.redundancy_weight, self.redundancy_warmup)

    def on_epoch_begin(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Resets the counters; at the first epoch, continues an earlier run or measures."""
        self._epoch, self._batches, self._measured_batches, self._last = epoch, 0, 0, {}
        if not self._recorder.started:
            self._start(epoch)
        self._active_measurer.begin_epoch()

    def on_train_batch_end(self, batch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures if N batches are complete, also where one call runs several steps."""
        super().on_train_batch_end(batch, logs)
        before, self._batches = self._batches, batch + 1
        every = self.log_frequency
        if self.monitor_frequency == "batch" and self._batches // every != before // every:
            self._measured_batches = self._batches
            if keras.backend.backend() == "jax":
                self.model.jax_state_sync()
            self._last = self._record(self._epoch)

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Measures if a measurement is due, and adds `redundancy` to the logs."""
        if not self._recorder.started:  # a custom loop without on_epoch_begin
            self._start(epoch)
        if self.monitor_frequency == "epoch":
            due = (epoch + 1) % self.log_frequency == 0
        else:
            due = self.monitor_data is None and self._batches > self._measured_batches
        if due:
            self._last = self._record(epoch)
        else:
            self._window.save(epoch)
        if logs is not None:
            logs.update(redundancy_logs(self._active_measurer.names, self._last))

    def on_train_end(self, logs: dict[str, Any] | None = None) -> None:
        """Waits for the last records, closes the loggers and lets go of the model."""
        self.cost.end()
        self.detach()
        self._window.drop()
        self._recorder.print_cost()

    def detach(self) -> None:
        """Lets go of the model and closes the loggers, as the end of a training run does."""
        if self._measurer is not None:
            self._measurer.detach()
        self._measurer = None
        self._recorder.close()

    @property
    def _active_measurer(self) -> Measurer:
        """The measurer of the current training run."""
        if self._measurer is None:
            raise RuntimeError("Expected a call of on_train_begin before this one. Received: none")
        return self._measurer

    def _find_layers(self) -> Measurer:
        if self.model is None:
            raise ValueError("Expected a model: use the callback in `fit`, or call `set_model`.")
        options = (self.probe_layers, self.data_format, self.max_positions, self.monitor_steps)
        self._measurer = Measurer(self.model, self.monitor_data, *options)
        self._window = OpenWindow(self._recorder, self._measurer)
        return self._measurer

    def _start(self, epoch: int) -> None:
        """Continues the records and the window of an earlier run, or takes the baseline."""
        earlier = self._recorder.resume(epoch, self._active_measurer.step)
        self._window.restore(epoch - 1)
        if self.monitor_data is not None and not earlier:
            self._record(BASELINE_EPOCH)

    def _record(self, epoch: int) -> dict[str, float]:
        """Measures and records; returns {layer name: redundancy}."""
        with self.cost.waiting():
            measurements = self._active_measurer.measure(epoch)
            self._recorder.submit(measurements)
        return {each.probe: each.redundancy.score for each in measurements}
