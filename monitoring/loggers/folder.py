"""A training's files in one folder, which outlive a full disk or a folder that is gone."""

import shutil
from collections import Counter, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..records.files import Unwritten, read_arrays, whole_file
from ..records.reading import read_records
from ..records.record import ProbeRecord, ProbeSnapshot
from ..taps.distribution import first_process
from .arrays import ArraysLogger
from .lines import CsvLogger, JsonLinesLogger
from .protocol import FileLogger
from .tensorboard import TensorBoardLogger

KINDS: Mapping[str, Callable[[Path], FileLogger]] = {
    "monitor.csv": CsvLogger,
    "monitor.jsonl": JsonLinesLogger,
    "tensorboard": TensorBoardLogger,
    "arrays": ArraysLogger,
}
WITH_SNAPSHOTS = {"tensorboard": "pictures", "arrays": "arrays"}  # not in a record


@dataclass
class _File:
    path: Path
    logger: FileLogger
    waiting: deque[tuple[ProbeRecord, ProbeSnapshot | None]] = field(default_factory=deque)
    begun: bool = False


class LogFolder:
    """Hands records to the files of a folder, and keeps in memory what cannot be written yet.

    Each later record, and the end, is another try. A file that was removed is written again
    from the first record; only what snapshots have beyond their records is lost.

    Where several processes train together, the first one writes.

    Args:
        path: The folder; made at the first write.
        unwritten: Is told what waits and what is lost.

    Example:
        >>> import tempfile
        >>> folder = LogFolder(Path(tempfile.mkdtemp()) / "run", Unwritten())
        >>> folder.start(epoch=0, step=0)
        []
        >>> folder.close()
    """

    def __init__(self, path: Path, unwritten: Unwritten):
        self._path, self._unwritten = path, unwritten
        self._files = {name: _File(path / name, kind(path / name)) for name, kind in KINDS.items()}
        self._records: list[ProbeRecord] = []
        self._writes = True

    def start(self, epoch: int, step: int) -> list[ProbeRecord]:
        """Makes ready for a training that begins with `epoch`, after `step` steps.

        Returns:
            The records of earlier epochs that the folder holds; later ones are dropped.

        Raises:
            FileExistsError: The training begins with epoch 0, and the folder holds another
                run's records.
            DamagedFileError: Its records are damaged.
        """
        self._writes = first_process()
        path, earlier = self._path / "monitor.jsonl", []
        if epoch and path.is_file():
            earlier = [record for record in read_records(path)[0] if record.epoch < epoch]
        if epoch:
            self._records = list(earlier)
        if self._writes:
            written = Counter(record.probe for record in earlier)
            for file in self._files.values():
                file.logger.start(epoch, step, written)
                file.begun = file.path.exists()
            if not epoch:
                self.drop_window()
        return earlier

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot) -> None:
        """Writes a record to each file, behind what waits for it, or keeps it.

        Raises:
            FileExistsError: A file is another run's.
        """
        if not self._writes:
            return
        self._records.append(record)
        for file in self._files.values():
            file.waiting.append((record, snapshot))
            self._try(file)

    def close(self) -> None:
        """Tries a last time, and closes the files; a later `write` goes on."""
        for file in self._files.values() if self._writes else ():
            self._try(file)
            try:
                file.logger.close()
                self._unwritten.remove(f"end of {file.path}")
            except OSError as error:
                said = f"the end of {file.path} ({error})"
                self._unwritten.add(f"end of {file.path}", said)

    def keep_window(self, epoch: int, state: Mapping[str, np.ndarray]) -> None:
        """Keeps a window of training batches that is open at an epoch's end.

        That of the epoch before stays: the network may be put back to it.
        """
        folder = self._path / "window"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / f"{epoch}.npz") as draft:
                np.savez(draft, allow_pickle=False, **state)
            for old in folder.glob("[0-9]*.npz"):
                if int(old.stem) < epoch - 1:
                    old.unlink()
            self._unwritten.remove(str(folder))
        except OSError as error:
            self._unwritten.add(str(folder), f"the open window of epoch {epoch + 1} ({error})")

    def window(self, epoch: int) -> dict[str, np.ndarray]:
        """Returns the window that was open at an epoch's end; empty where none was.

        Raises:
            DamagedFileError: Its file is damaged.
        """
        try:
            return read_arrays(self._path / "window" / f"{epoch}.npz")
        except FileNotFoundError:
            return {}

    def drop_window(self) -> None:
        """Removes the windows, when there is nothing to go on with."""
        if self._writes:
            shutil.rmtree(self._path / "window", ignore_errors=True)
            self._unwritten.remove(str(self._path / "window"))

    def _try(self, file: _File) -> None:
        """Writes what waits for one file, as far as it goes."""
        part = str(file.path)
        try:
            if file.begun and file.logger.removed():
                self._begin_again(file)
            while file.waiting:
                file.logger.write(*file.waiting[0])
                file.waiting.popleft()
                file.begun = True
            self._unwritten.remove(part)
        except FileExistsError:
            raise
        except OSError as error:
            self._unwritten.add(part, f"{len(file.waiting)} records of {part} ({error})")

    def _begin_again(self, file: _File) -> None:
        """Has all records written to a file that was removed."""
        with suppress(OSError):
            file.logger.close()
        name = file.path.name
        file.logger, file.begun = KINDS[name](file.path), False
        earlier = self._records[: len(self._records) - len(file.waiting)]
        file.waiting.extendleft((record, None) for record in reversed(earlier))
        if name in WITH_SNAPSHOTS and earlier:
            lost = f"the {WITH_SNAPSHOTS[name]} of {file.path} until step {earlier[-1].step}"
            self._unwritten.add(f"removed {file.path}", f"{lost} (they were removed)")
