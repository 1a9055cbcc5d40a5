"""history.csv: Keras' log of losses and scores, one row per epoch."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras

from monitoring.records.files import DamagedFileError, WriteFailures, whole_file, whole_lines
from monitoring.records.reading import read_history


class HistoryLog(keras.callbacks.CSVLogger):
    """Keras' CSVLogger that survives a full disk and the removal of its folder.

    Args:
        path: The file.
        append: Whether to continue an existing file. Defaults to False.
        failures: Collects rows that could not be written. Defaults to None: they only cause
            a warning.
    """

    def __init__(self, path: Path, append: bool = False, failures: WriteFailures | None = None):
        super().__init__(path, append=append)
        self._path, self._failures = path, failures or WriteFailures()
        self._earlier = b""  # what the file held before this training
        self._rows: list[tuple[int, dict[str, Any]]] = []

    def on_train_begin(self, logs=None):
        """Opens the file."""
        self._earlier = self._path.read_bytes() if self.append and self._path.exists() else b""
        self._rows = []
        super().on_train_begin(logs)

    def on_epoch_end(self, epoch, logs=None):
        """Writes a row; one that does not fit waits in the file's buffer."""
        self._rows.append((epoch, dict(logs or {})))
        self._attempt(self._write, epoch, logs)

    def on_train_end(self, logs=None):
        """Closes the file."""
        self._attempt(super().on_train_end, logs)

    def _write(self, epoch: int, logs: Mapping[str, Any] | None) -> None:
        if self._path.exists():
            super().on_epoch_end(epoch, logs)
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(self._path) as draft:
            draft.write_bytes(self._earlier)
        self.append = True
        super().on_train_begin()
        for row in self._rows:
            super().on_epoch_end(*row)

    def _attempt(self, action: Callable[..., None], *arguments: Any) -> None:
        try:
            action(*arguments)
            self._failures.remove("history")
        except OSError as error:
            self._failures.add("history", f"rows of {self._path} ({error})")


def keep_epochs(path: Path, first: int) -> dict[str, list[float]]:
    """Drops an epoch and all later ones from Keras' log.

    Args:
        path: The log.
        first: The first epoch to drop, counted from 0.

    Returns:
        {column: one value per epoch left}, without the column of epochs.

    Raises:
        DamagedFileError: The file is not a Keras log.
    """
    if not first:
        return {}
    try:
        rows = whole_lines(path)
        earlier = [row for row in rows if row[0] == "e" or int(row.split(",")[0]) < first]
    except ValueError as error:
        raise DamagedFileError(f"{path} is not a Keras log: {error}") from None
    with whole_file(path) as draft:
        draft.write_text("".join(earlier), encoding="utf-8", newline="")
    return without_epoch(read_history(path))


def without_epoch(columns: Mapping[str, list[float]]) -> dict[str, list[float]]:
    """Returns the columns of Keras' log as Keras' History has them, without the epochs."""
    return {name: values for name, values in columns.items() if name != "epoch"}
