"""The files of a training run in one folder, which survive a full disk or a removed folder."""

from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from ..records.files import WriteFailures, read_arrays, whole_file
from ..records.reading import read_records
from ..records.record import ProbeRecord, ProbeSnapshot
from ..records.run_files import (
    ARRAYS,
    MONITOR_CSV,
    MONITOR_JSONL,
    TENSORBOARD,
    WINDOW,
    mark_folder,
    remove_file,
    remove_own_files,
    remove_written,
    run_file_in,
)
from ..taps.distribution import first_process
from .arrays import ArraysLogger
from .lines import CsvLogger, JsonLinesLogger
from .protocol import FileLogger
from .tensorboard import TensorBoardLogger

KINDS: Mapping[str, Callable[[Path], FileLogger]] = {
    MONITOR_CSV: CsvLogger,
    MONITOR_JSONL: JsonLinesLogger,
    TENSORBOARD: TensorBoardLogger,
    ARRAYS: ArraysLogger,
}
WITH_SNAPSHOTS = {TENSORBOARD: "pictures", ARRAYS: "arrays"}  # which a record does not hold


@dataclass
class _File:
    path: Path
    logger: FileLogger
    pending: deque[tuple[ProbeRecord, ProbeSnapshot | None]] = field(default_factory=deque)
    begun: bool = False


class LogFolder:
    """Writes records to the files of a folder, and keeps in memory what cannot be written yet.

    Each later record, and the end, is another attempt. A file that was removed is written again
    from the first record; only the pictures and arrays of earlier snapshots are lost. If several
    processes train together, the first one writes.

    Args:
        path: The folder; created at the first write.
        failures: Collects what is pending and what is lost.

    Example:
        >>> import tempfile
        >>> folder = LogFolder(Path(tempfile.mkdtemp()) / "run", WriteFailures())
        >>> folder.start(epoch=0, step=0)
        []
        >>> folder.close()
    """

    def __init__(self, path: Path, failures: WriteFailures):
        self._path, self._failures = path, failures
        self._files = {name: _File(path / name, kind(path / name)) for name, kind in KINDS.items()}
        self._records: list[ProbeRecord] = []
        self._writes, self._is_new = True, False
        self._windows: set[int] = set()  # epochs whose window this run has saved

    def start(self, epoch: int, step: int) -> list[ProbeRecord]:
        """Prepares for a training run that begins at `epoch`, after `step` optimizer steps.

        Returns:
            The records of earlier epochs in the folder; later ones are dropped.

        Raises:
            FileExistsError: The run begins at epoch 0, and the folder holds the records
                of another run.
            DamagedFileError: The folder's records are damaged.
        """
        self._writes = first_process()
        if TENSORBOARD in self._files and find_spec("tensorboard") is None:
            del self._files[TENSORBOARD]
            missing = f"{TENSORBOARD}/ (needs pip install tensorboard)"
            self._failures.add(TENSORBOARD, missing, final=True)
        path, earlier, last_step = self._path / MONITOR_JSONL, [], step
        if epoch and path.is_file():
            earlier = [record for record in read_records(path)[0] if record.epoch < epoch]
            last_step = max((record.global_step for record in earlier), default=-1)
        if epoch:
            self._records = list(earlier)
        if self._writes:
            written = Counter(record.probe for record in earlier)
            for file in self._files.values():
                file.logger.start(epoch, last_step, written)
                file.begun = file.path.exists()
            if not epoch:
                self.drop_windows()
                self._is_new = run_file_in(self._path) is None
        return earlier

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot) -> None:
        """Writes a record to each file, after what is pending for it, or keeps it.

        Raises:
            FileExistsError: A file belongs to another run.
        """
        if not self._writes:
            return
        self._mark()
        self._records.append(record)
        for file in self._files.values():
            file.pending.append((record, snapshot))
            self._write_pending(file)

    def close(self) -> None:
        """Makes a last attempt and closes the files; a later `write` continues them."""
        for file in self._files.values() if self._writes else ():
            self._write_pending(file)
            try:
                file.logger.close()
                self._failures.remove(f"end of {file.path}")
            except OSError as error:
                self._failures.add(f"end of {file.path}", f"the end of {file.path} ({error})")

    def keep_window(self, epoch: int, state: Mapping[str, np.ndarray]) -> None:
        """Saves a window of training batches that is open at the end of an epoch.

        The window of the epoch before stays, because training may restart from there.
        """
        folder = self._path / WINDOW
        self._mark()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / f"{epoch}.npz") as draft:
                np.savez(draft, allow_pickle=False, **state)
            self._windows.add(epoch)
            for old in [number for number in self._windows if number < epoch - 1]:
                remove_file(folder / f"{old}.npz")
                self._windows.remove(old)
            self._failures.remove(str(folder))
        except OSError as error:
            self._failures.add(str(folder), f"the open window of epoch {epoch + 1} ({error})")

    def window(self, epoch: int) -> dict[str, np.ndarray]:
        """Returns the window that was open at the end of an epoch; empty if there was none.

        Raises:
            DamagedFileError: Its file is damaged.
        """
        try:
            window = read_arrays(self._path / WINDOW / f"{epoch}.npz")
        except FileNotFoundError:
            return {}
        self._windows.update((epoch, epoch - 1))
        return window

    def drop_windows(self) -> None:
        """Removes the saved windows, once nothing is left to continue."""
        if not self._writes:
            return
        folder = self._path / WINDOW
        with suppress(OSError):  # a folder that cannot be written is reported elsewhere
            remove_written(folder, [f"{epoch}.npz" for epoch in self._windows])
            remove_own_files(folder)
        self._windows = set()
        self._failures.remove(str(folder))

    def _mark(self) -> None:
        """Marks a folder that held no file of a run when the training run began as ours."""
        if self._is_new:
            with suppress(OSError):  # the files that cannot be written either are reported
                self._path.mkdir(parents=True, exist_ok=True)
                mark_folder(self._path)
                self._is_new = False

    def _write_pending(self, file: _File) -> None:
        """Writes what is pending for one file, as far as possible."""
        part = str(file.path)
        try:
            if file.begun and file.logger.removed():
                self._begin_again(file)
            while file.pending:
                file.logger.write(*file.pending[0])
                file.pending.popleft()
                file.begun = True
            self._failures.remove(part)
        except FileExistsError:
            raise
        except OSError as error:
            self._failures.add(part, f"{len(file.pending)} records of {part} ({error})")

    def _begin_again(self, file: _File) -> None:
        """Queues all records for a file that was removed."""
        with suppress(OSError):
            file.logger.close()
        name = file.path.name
        file.logger, file.begun = KINDS[name](file.path), False
        earlier = self._records[: len(self._records) - len(file.pending)]
        file.pending.extendleft((record, None) for record in reversed(earlier))
        if name in WITH_SNAPSHOTS and earlier:
            lost = f"the {WITH_SNAPSHOTS[name]} of {file.path} until step {earlier[-1].global_step}"
            self._failures.add(f"removed {file.path}", f"{lost} (they were removed)")
