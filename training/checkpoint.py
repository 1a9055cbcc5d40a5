"""What a killed training resumes from: one file per epoch, whole or absent."""

import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from monitoring import NASMonitorCallback
from monitoring.records.files import DamagedFileError, WriteFailures, read_arrays, whole_file
from monitoring.records.run_files import BEST, LAST, remove_own_files


class Checkpoint(keras.callbacks.Callback):
    """Keeps the best weights and, after each epoch, all that the next epoch depends on.

    That is the state of the model, the random seeds and the optimizer, and the counters of
    other callbacks (patience, best score so far). The data must depend on nothing but the
    epoch's number. It must be the last callback.

    Args:
        folder: Where the files are written.
        callbacks: The callbacks whose counters are kept.
        monitor: The monitor whose seconds are kept. Defaults to None: no monitor.
        failures: Collects write failures. Defaults to None: they only cause a warning.

    Attributes:
        epoch: The next epoch to train.
        ended: Whether the training is complete.
        seconds: Duration of the training, including the time before it was killed.
    """

    def __init__(
        self,
        folder: Path,
        callbacks: Sequence[keras.callbacks.Callback],
        monitor: NASMonitorCallback | None = None,
        failures: WriteFailures | None = None,
    ):
        super().__init__()
        self._folder, self._callbacks = folder, list(callbacks)
        self._monitor, self._earlier_monitoring = monitor, 0.0
        self._failures = failures or WriteFailures()
        self._best = -np.inf
        self._counters: Sequence[Mapping[str, Any]] = []
        self._weights: list[np.ndarray] | None = None
        self._best_is_written = True
        self._began = 0.0
        self.epoch, self.ended, self.seconds = 0, False, 0.0

    @property
    def monitoring_seconds(self) -> float:
        """Seconds that the training waited for its monitor, before it was killed included."""
        return self._earlier_monitoring + (self._monitor.seconds if self._monitor else 0.0)

    def restore(self, model: keras.Model) -> int:
        """Restores a compiled model to its state at the last checkpoint.

        Returns:
            The epoch to continue with; 0 if there is no checkpoint.

        Raises:
            DamagedFileError: The checkpoint is damaged, or belongs to another model.
        """
        path = self._folder / LAST
        if not path.is_file():
            return 0
        try:
            return self._restore(path, model)
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            is_named = isinstance(error, DamagedFileError)
            problem = error if is_named else f"{path} is not a checkpoint: {error}"
            raise DamagedFileError(
                f"{problem}. Without the folder {self._folder} the run starts over"
            ) from None

    def _restore(self, path: Path, model: keras.Model) -> int:
        contents = read_arrays(path)
        state = json.loads(str(contents.pop("state")))
        arrays = [contents[str(number)] for number in range(len(contents))]
        model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        shapes = [tuple(array.shape) for array in arrays]
        if shapes != [tuple(variable.shape) for variable in variables]:
            raise DamagedFileError(
                f"Checkpoint {path} is of another model than the run's configuration"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self._best, self.seconds = state["best"], state["seconds"]
        self._earlier_monitoring = state["monitoring_seconds"]
        self._weights = self._read_best()  # the file may be removed before the end
        self._counters = state["counters"]
        self.epoch, self.ended = state["epoch"], state["ended"]
        return self.epoch

    def on_train_begin(self, logs=None):
        """Restores the other callbacks' counters."""
        self._began = time.perf_counter() - self.seconds
        for callback, counters in zip(self._callbacks, self._counters, strict=False):
            vars(callback).update(counters)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the files; if the disk is full, the next epoch tries again."""
        self.seconds = time.perf_counter() - self._began
        try:
            self._write(epoch, logs)
            self._failures.remove("checkpoint")
        except OSError as error:
            self._failures.add("checkpoint", f"a checkpoint after epoch {epoch + 1} ({error})")

    def _write(self, epoch: int, logs: Mapping[str, Any] | None) -> None:
        score = float((logs or {}).get("val_miou", np.nan))
        if score > self._best or epoch == 0:  # nan is never better
            self._best = score if score == score else self._best
            self._weights, self._best_is_written = self.model.get_weights(), False
        # .npz, not HDF5: h5py crashes the process at exit after a full disk.
        self._folder.mkdir(parents=True, exist_ok=True)
        is_current = self._best_is_written and (self._folder / BEST).is_file()
        if self._weights is not None and not is_current:
            with whole_file(self._folder / BEST) as draft:
                np.savez(draft, allow_pickle=False, **_numbered(self._weights))
            self._best_is_written = True
        self.epoch = epoch + 1
        self.ended = self.epoch >= self.params["epochs"] or self.model.stop_training
        state = {
            "epoch": self.epoch,
            "ended": self.ended,
            "best": self._best,
            "seconds": self.seconds,
            "monitoring_seconds": self.monitoring_seconds,
            "counters": [_counters(callback) for callback in self._callbacks],
        }
        arrays = _numbered([variable.numpy() for variable in _variables(self.model)])
        with whole_file(self._folder / LAST) as draft:
            np.savez(draft, allow_pickle=False, state=np.array(json.dumps(state)), **arrays)

    def load_best(self, model: keras.Model) -> None:
        """Gives a model the weights of its best validation mIoU."""
        model.set_weights(self._weights or self._read_best())

    def _read_best(self) -> list[np.ndarray]:
        contents = read_arrays(self._folder / BEST)
        return [contents[str(number)] for number in range(len(contents))]

    def remove(self) -> None:
        """Removes the files, once the run has ended."""
        remove_own_files(self._folder)


def _numbered(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {str(number): array for number, array in enumerate(arrays)}


def _variables(model: keras.Model) -> list:
    """Returns the state of layers, random seeds and optimizer; metrics are reset anyway."""
    metrics = {id(variable) for variable in model.metrics_variables}
    states = [variable for variable in model.variables if id(variable) not in metrics]
    return [*states, *model.optimizer.variables]


def _counters(callback: keras.callbacks.Callback) -> dict[str, float]:
    """Returns a callback's numbers by name."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in vars(callback).items()
        if isinstance(value, (bool, int, float, np.generic))
    }
