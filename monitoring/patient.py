"""Loggers that outlive a full disk or a folder that is gone for a while."""

import warnings
from collections import deque
from collections.abc import Mapping
from pathlib import Path

from monitoring.loggers import FileLogger
from monitoring.records import ProbeRecord, ProbeSnapshot


class PatientLogger:
    """Hands records to a file logger, and keeps in memory what cannot be written yet.

    The first failure is a warning; each later record, and the end, is another try.

    Args:
        logger: Writes a record whole, or raises OSError and leaves the file as it was.
        path: Its file or folder.
    """

    def __init__(self, logger: FileLogger, path: Path):
        self._logger, self._path = logger, path
        self._waiting: deque[tuple[ProbeRecord, ProbeSnapshot]] = deque()
        self._error: OSError | None = None
        self._unclosed = False

    def start(self, epoch: int, step: int, written: Mapping[str, int]) -> None:
        """Makes ready for a training; as the logger's own `start`."""
        self._logger.start(epoch, step, written)

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot) -> None:
        """Writes what waits and this record, or keeps them.

        Raises:
            FileExistsError: The file is another run's.
        """
        self._waiting.append((record, snapshot))
        self._try()

    def close(self) -> None:
        """Tries a last time, and closes the file."""
        self._try()
        try:
            self._logger.close()
            self._unclosed = False
        except OSError as error:
            self._failed(error)
            self._unclosed = True

    @property
    def missing(self) -> str:
        """What could not be written and why; empty where all is."""
        if self._waiting:
            return f"{len(self._waiting)} records of {self._path} ({self._error})"
        return f"the end of {self._path} ({self._error})" if self._unclosed else ""

    def _try(self) -> None:
        while self._waiting:
            try:
                self._logger.write(*self._waiting[0])
            except FileExistsError:
                raise
            except OSError as error:
                self._failed(error)
                return
            self._waiting.popleft()

    def _failed(self, error: OSError) -> None:
        if self._error is None:
            warnings.warn(
                f"{self._path} cannot be written ({error}): records are kept in memory, and the "
                "training goes on",
                stacklevel=2,
            )
        self._error = error
