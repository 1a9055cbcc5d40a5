"""What a killed training goes on from: one file an epoch, whole or not at all."""

import json
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from monitoring import NASMonitorCallback
from monitoring.records.files import DamagedFileError, Unwritten, read_arrays, whole_file

# Not HDF5: on a full disk it ends the process on some later day, at exit.
BEST, LAST = "best.npz", "last.npz"


class Checkpoint(keras.callbacks.Callback):
    """Keeps the best weights, and after each epoch all that the next one depends on.

    That is the state of model, random seeds and optimizer, and the counters of other callbacks
    (patience, best so far). Data must depend on the number of the epoch alone. Put it last.

    Args:
        folder: Where to.
        callbacks: Those whose counters are kept.
        monitor: Whose seconds are kept. Defaults to None: no monitor.
        unwritten: Is told of a checkpoint that could not be written. Defaults to None: nobody
            but the user, by a warning.

    Attributes:
        epoch: The next to train.
        ended: Whether there is nothing left to train.
        seconds: That the training has taken, those before it was killed included.
    """

    def __init__(
        self,
        folder: Path,
        callbacks: Sequence[keras.callbacks.Callback],
        monitor: NASMonitorCallback | None = None,
        unwritten: Unwritten | None = None,
    ):
        super().__init__()
        self._folder, self._callbacks = folder, list(callbacks)
        self._monitor, self._monitored = monitor, 0.0
        self._unwritten = unwritten or Unwritten()
        self._best = -np.inf
        self._counters: Sequence[Mapping[str, Any]] = []
        self._weights: list[np.ndarray] | None = None
        self._kept = True  # the best weights, in their file
        self.epoch, self.ended, self.seconds = 0, False, 0.0

    @property
    def monitoring_seconds(self) -> float:
        """What the training has waited for its monitor, before it was killed included."""
        return self._monitored + (self._monitor.seconds if self._monitor else 0.0)

    def restore(self, model: keras.Model) -> int:
        """Puts a compiled model where the last checkpoint was.

        Returns:
            The epoch to go on with; 0 where there is no checkpoint.

        Raises:
            DamagedFileError: The checkpoint is damaged, or of another model.
        """
        path = self._folder / LAST
        if not path.is_file():
            return 0
        try:
            return self._restored(path, model)
        except (ValueError, LookupError) as error:
            known = isinstance(error, DamagedFileError)
            said = error if known else f"{path} is no checkpoint: {error}"
            raise DamagedFileError(
                f"{said}. Without the folder {self._folder} the run starts over"
            ) from None

    def _restored(self, path: Path, model: keras.Model) -> int:
        held = read_arrays(path)
        state = json.loads(str(held.pop("state")))
        arrays = [held[str(number)] for number in range(len(held))]
        model.optimizer.build(model.trainable_variables)
        variables = _variables(model)
        found = [tuple(array.shape) for array in arrays]
        if found != [tuple(variable.shape) for variable in variables]:
            raise DamagedFileError(
                f"Checkpoint {path} is of another model than the run's configuration"
            )
        for variable, array in zip(variables, arrays, strict=True):
            variable.assign(array)
        self._best, self.seconds = state["best"], state["seconds"]
        self._monitored = state["monitoring_seconds"]
        self._weights = self._best_weights()  # their file may be removed before the end
        self._counters = state["counters"]
        self.epoch, self.ended = state["epoch"], state["ended"]
        return self.epoch

    def on_train_begin(self, logs=None):
        """Gives the other callbacks their counters back."""
        self._began = time.perf_counter() - self.seconds
        for callback, counters in zip(self._callbacks, self._counters, strict=False):
            vars(callback).update(counters)

    def on_epoch_end(self, epoch, logs=None):
        """Writes the files; on a full disk it keeps the best weights, and tries again."""
        self.seconds = time.perf_counter() - self._began
        try:
            self._write(epoch, logs)
            self._unwritten.remove("checkpoint")
        except OSError as error:
            self._unwritten.add("checkpoint", f"a checkpoint after epoch {epoch + 1} ({error})")

    def _write(self, epoch: int, logs: Mapping[str, Any] | None) -> None:
        score = float((logs or {}).get("val_miou", np.nan))
        if score > self._best or epoch == 0:  # nan is never better
            self._best = score if score == score else self._best
            self._weights, self._kept = self.model.get_weights(), False
        self._folder.mkdir(parents=True, exist_ok=True)
        there = self._kept and (self._folder / BEST).is_file()
        if self._weights is not None and not there:
            with whole_file(self._folder / BEST) as draft:
                np.savez(draft, allow_pickle=False, **_numbered(self._weights))
            self._kept = True
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
        model.set_weights(self._weights or self._best_weights())

    def _best_weights(self) -> list[np.ndarray]:
        held = read_arrays(self._folder / BEST)
        return [held[str(number)] for number in range(len(held))]

    def remove(self) -> None:
        """Removes the files, when nothing is left to go on with."""
        shutil.rmtree(self._folder, ignore_errors=True)


class HistoryLog(keras.callbacks.CSVLogger):
    """Keras' log of losses and scores, which outlives a full disk and a folder that is removed.

    Args:
        path: The file.
        append: Whether to go on with what is there. Defaults to False.
        unwritten: Is told of rows that could not be written. Defaults to None: nobody but the
            user, by a warning.
    """

    def __init__(self, path: Path, append: bool = False, unwritten: Unwritten | None = None):
        super().__init__(path, append=append)
        self._path, self._unwritten = path, unwritten or Unwritten()
        self._before = b""  # what the file held

    def on_train_begin(self, logs=None):
        """Opens the file."""
        self._before = self._path.read_bytes() if self.append and self._path.exists() else b""
        self._rows: list[tuple[int, dict]] = []
        super().on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Writes a row; one that does not fit waits in the file's buffer."""
        self._rows.append((epoch, dict(logs or {})))
        self._tried(self._write, epoch, logs)

    def on_train_end(self, logs=None):
        """Closes the file."""
        self._tried(super().on_train_end, logs)

    def _write(self, epoch, logs) -> None:
        if self._path.exists():
            super().on_epoch_end(epoch, logs)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self._path) as draft:
            draft.write_bytes(self._before)
        self.append = True
        super().on_train_begin()
        for row in self._rows:
            super().on_epoch_end(*row)

    def _tried(self, action, *args) -> None:
        try:
            action(*args)
            self._unwritten.remove("history")
        except OSError as error:
            self._unwritten.add("history", f"rows of {self._path} ({error})")


def _numbered(arrays: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    return {str(number): array for number, array in enumerate(arrays)}


def _variables(model: keras.Model) -> list:
    """Returns the state of layers, random seeds and optimizer; metrics begin anew anyway."""
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
