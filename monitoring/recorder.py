"""Turns measurements into records on a thread of its own and hands them to the loggers."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from copy import deepcopy
from functools import partial
from pathlib import Path

from .cost import MonitoringCost
from .loggers.console import ConsoleLogger
from .loggers.folder import LogFolder
from .loggers.protocol import RecordLogger
from .records.files import WriteFailures
from .records.measurement import Measurement, summarise
from .records.record import BASELINE_EPOCH, ProbeRecord
from .records.run_files import checked_folder, claim_new_folder
from .spectra import SpectrumProcess
from .statistics.structure import Eigvalsh
from .taps.distribution import first_process
from .worker import Worker


class Recorder:
    """Records what a monitor measures, for one training run after another.

    Args:
        log_dir: Folder for all files; None for none.
        loggers: Exactly these loggers; None for the console and the files of `log_dir`.
        cost: Counts the time for which training waits.

    Attributes:
        folder: The folder of files, or None.
        cost: As given.
        write_failures: What could not be written.
        records: Records of the current or the last training run.
        started: Whether the current training run has reached its first epoch.
    """

    def __init__(
        self,
        log_dir: str | Path | None,
        loggers: Sequence[RecordLogger] | None,
        cost: MonitoringCost,
    ):
        self.cost, self.write_failures = cost, WriteFailures()
        self._log_dir, self._new_folder = log_dir, False
        self.folder: LogFolder | None = None
        if loggers is None and log_dir is not None:
            self.folder = LogFolder(checked_folder(log_dir), self.write_failures)
        self.records: list[ProbeRecord] = []
        self.started = self._console = False
        self._last_step = -1  # the global_step of the last measurement
        self._users_loggers = None if loggers is None else list(loggers)
        self._loggers: list[RecordLogger] = []
        self._worker: Worker | None = None
        self._spectra: SpectrumProcess | None = None

    def in_new_folder(self, cost: MonitoringCost) -> "Recorder":
        """Returns a recorder like this one whose folder is new: `log_dir`, else `log_dir`-1, ..."""
        new = Recorder(self._log_dir, deepcopy(self._users_loggers), cost)
        new._new_folder = new.folder is not None
        return new

    def begin(self, *, console: bool) -> None:
        """Prepares for a training run.

        Args:
            console: Whether to print a table at the end, if the user has passed no loggers.
        """
        self.records, self.started = [], False
        if self._new_folder:
            path = checked_folder(str(self._log_dir))
            path = claim_new_folder(path.parent, path.name)
            self.folder, self._new_folder = LogFolder(path, self.write_failures), False
        self._console = console and self._users_loggers is None and first_process()
        self._loggers = []
        if first_process() and self._users_loggers is not None:
            self._loggers = list(self._users_loggers)
        elif first_process():
            self._loggers = [ConsoleLogger()] if console else []
            self._loggers += [] if self.folder is None else [self.folder]
        self._worker, self._spectra = Worker(), SpectrumProcess()

    def resume(self, epoch: int, step: int) -> list[ProbeRecord]:
        """Starts at `epoch`, with the records of earlier epochs that the folder holds.

        Returns:
            These records; empty if there are none.

        Raises:
            FileExistsError: The run begins at epoch 0, and the folder holds another run.
            DamagedFileError: The folder's records are damaged.
        """
        self.started = True
        earlier = [] if self.folder is None else self.folder.start(epoch, step)
        self.records = list(earlier)
        same_files = self._users_loggers is not None or (self.folder is not None and not epoch)
        if earlier:
            self._last_step = max(record.global_step for record in earlier)
        elif not same_files:  # where a second `fit` would continue the count of the first
            self._last_step = -1
        for logger in self._loggers:
            if isinstance(logger, ConsoleLogger):
                for record in earlier:
                    logger.write(record)
        return earlier

    def submit(self, measurements: Sequence[Measurement]) -> None:
        """Has measurements recorded and logged, in order."""
        assert self._spectra is not None, "begin comes first"
        self._set_global_step(measurements)
        for measurement in measurements:
            job = partial(self._log, measurement, self._spectra.eigvalsh)
            self.submit_job(job, measurement.grouped.nbytes)

    def submit_job(self, job: Callable[[], object], size: int) -> None:
        """Has a job done after those before it; waits while too many bytes are pending."""
        assert self._worker is not None, "begin comes first"
        self._worker.submit(job, size)

    def drain(self) -> None:
        """Waits until everything is recorded and logged.

        Raises:
            Exception: An error of a logger.
        """
        if self._worker is not None:
            with self.cost.waiting():
                self._worker.drain()

    def close(self) -> None:
        """Waits as `drain` does, and closes every logger.

        Raises:
            Exception: An error of a logger; all of them are closed nevertheless.
        """
        worker, self._worker = self._worker, None
        spectra, self._spectra = self._spectra, None
        with self.cost.waiting():
            try:
                if worker is not None:
                    worker.close()
            finally:
                if spectra is not None:
                    spectra.close()
                loggers, self._loggers = self._loggers, []
                with ExitStack() as closing:
                    for logger in reversed(loggers):  # an exit stack runs the last one first
                        closing.callback(logger.close)

    def print_cost(self) -> None:
        """Prints the cost of the training run that has just ended, unless fit is silent."""
        if self._console:
            print(self.cost.summary())

    def _set_global_step(self, measurements: Sequence[Measurement]) -> None:
        """Sets the place in time that the measurements of one moment share."""
        if not measurements:
            return
        step, epoch = measurements[0].step, measurements[0].epoch
        # A second `fit` begins with the weights and the step that the first one ended with.
        repeated = epoch == BASELINE_EPOCH and step == self._last_step
        self._last_step = step if repeated else max(step, self._last_step + 1)
        for measurement in measurements:
            measurement.global_step = self._last_step

    def _log(self, measurement: Measurement, eigvalsh: Eigvalsh) -> None:
        """Makes a record and logs it, on the worker's thread."""
        record, snapshot = summarise(measurement, eigvalsh=eigvalsh)
        self.records.append(record)
        for logger in self._loggers:
            logger.write(record, snapshot)
