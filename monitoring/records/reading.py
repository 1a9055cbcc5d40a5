"""Reads back a run's folder. Every file is checked against its schema; none needs Keras."""

import csv
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .file_schemas import check
from .files import DamagedFileError, read_values, whole_lines
from .record import ProbeRecord
from .record_lines import TORN, RecordLines
from .run_files import CONFIG, COST, EVALUATION, EXPORT, HISTORY, MONITOR_JSONL, NARROWING
from .snapshots import read_snapshots

__all__ = ["RunFolder", "RunReader", "read_history", "read_records", "read_run", "read_snapshots"]

LIMIT = 2048  # records of a probe that a report or a comparison reads


@dataclass(frozen=True)
class RunFolder:
    """A run, as its files describe it.

    Attributes:
        folder: The run's folder.
        records: {probe: its records in order}, those before the first step included.
        config: The resolved configuration; empty where there is none.
        evaluation: Scores on the test split; empty where the run has not finished.
        exported: Results of running the INT8 file; empty where there is none.
        cost: What the network costs on a device; empty where that was not written.
        history: {column: one value per epoch} of Keras' log; empty where there is none.
        notes: What is missing or was left out, one sentence each.
        narrowing: What the network was cut out of; empty where it was built anew. Once the run
            has finished, it has the scores on the test split, too.
    """

    folder: Path
    records: Mapping[str, list[ProbeRecord]]
    config: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    exported: Mapping[str, Any]
    cost: Mapping[str, Any]
    history: Mapping[str, list[float]]
    notes: tuple[str, ...]
    narrowing: Mapping[str, Any] = field(default_factory=dict)

    @property
    def last(self) -> dict[str, ProbeRecord]:
        """Each probe's last record."""
        return {probe: records[-1] for probe, records in self.records.items()}

    @property
    def name(self) -> str:
        """The folder's name; bytes that are not UTF-8 are escaped."""
        return self.folder.resolve().name.encode("utf-8", "backslashreplace").decode()


class FileCache:
    """Keeps what was read from files until they change.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "note.txt"
        >>> _ = path.write_text("one")
        >>> cache = FileCache()
        >>> cache.read(path, Path.read_text), cache.read(path, lambda path: "not called")
        ('one', 'one')
    """

    def __init__(self) -> None:
        self._read: dict[str, tuple[tuple[Any, ...], Any]] = {}

    def read(self, path: Path, reader: Callable[[Path], Any], slot: str | None = None) -> Any:
        """Returns `reader(path)`, or what it returned before if the file has not changed.

        Args:
            path: The file.
            reader: Called with the path.
            slot: Files read into one slot replace each other in the cache. Defaults to
                None: a slot for each path.

        Raises:
            FileNotFoundError: The file does not exist.
        """
        slot, version = slot or str(path), (path, file_version(path))
        if slot not in self._read or self._read[slot][0] != version:
            self._read[slot] = version, reader(path)
        return self._read[slot][1]


def file_version(path: Path) -> tuple[int, ...]:
    """Returns numbers that differ once a file has been changed or replaced."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


class RunReader:
    """Reads a run repeatedly while it is going on, and parses only what has changed.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self.cache = FileCache()
        self._lines = RecordLines(self.folder / MONITOR_JSONL, LIMIT)

    def read(self) -> RunFolder:
        """Returns the run as it is now; errors as those of `read_run`."""
        folder, path = self.folder, self.folder / MONITOR_JSONL
        if not folder.is_dir():
            raise FileNotFoundError(f"Run folder {folder} does not exist.")
        if not path.is_file():
            raise FileNotFoundError(
                f"{folder} holds no {path.name}: train with --probes or --enable-nas-monitoring, "
                "or pass this folder to NASMonitorCallback as log_dir."
            )
        lines, notes = self._lines.read()
        if not lines:
            raise FileNotFoundError(f"{path} holds no records yet: nothing has been measured.")
        records: dict[str, list[ProbeRecord]] = {}
        for record in lines:
            records.setdefault(record.probe, []).append(record)
        for name, absent in ((CONFIG, "settings"), (EVALUATION, "scores: the run did not finish")):
            if not (folder / name).is_file():
                notes.append(f"no {name}, so no {absent}")
        history, torn = self._cached(HISTORY, _history_and_torn, ({}, False))
        if torn:
            notes.append(f"{HISTORY}: {TORN}")
        evaluation = self._cached(EVALUATION, read_checked, {})
        return RunFolder(
            folder,
            records,
            config=self._cached(CONFIG, read_checked, {}),
            evaluation=evaluation,
            exported=self._cached(EXPORT, read_checked, {}),
            cost=self._cached(COST, read_checked, {}),
            history=history,
            notes=tuple(notes),
            narrowing=evaluation.get("cut") or self._cached(NARROWING, read_checked, {}),
        )

    def _cached(self, name: str, reader: Callable[[Path], Any], absent: Any) -> Any:
        path = self.folder / name
        return self.cache.read(path, reader) if path.is_file() else absent


def read_run(folder: str | Path) -> RunFolder:
    """Reads a run written by train.py, or by a monitor with a `log_dir`.

    Raises:
        FileNotFoundError: There is no such folder, or it holds no records.
        DamagedFileError: A file is damaged or not one of a run; names the file, the key,
            and what was expected.
        MissingPackageError: There is a config.yaml, and PyYAML is not installed.
    """
    return RunReader(folder).read()


def read_checked(path: Path) -> dict[str, Any]:
    """Reads a YAML or JSON file of a run's folder that has a schema.

    Raises:
        DamagedFileError: It is damaged, or does not hold what it must.
    """
    return check(read_values(path), path)


def read_records(path: Path, limit: int | None = None) -> tuple[list[ProbeRecord], list[str]]:
    """Reads a monitor.jsonl once; arguments, result and errors as those of `RecordLines`."""
    return RecordLines(path, limit).read()


def read_history(path: Path) -> dict[str, list[float]]:
    """Reads {column: one value per epoch} of Keras' log, without a torn last line.

    Returns:
        The columns; empty where there is no log.

    Raises:
        DamagedFileError: A value is not a number, or there is no column of epochs.
    """
    if not path.is_file():
        return {}
    try:
        rows = list(csv.DictReader(whole_lines(path)))
        columns = {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}
    except (csv.Error, TypeError, ValueError, KeyError) as error:
        raise DamagedFileError(f"{path} is not a Keras log: {error}") from None
    if rows and not all(map(math.isfinite, columns.get("epoch", [math.nan]))):
        raise DamagedFileError(
            f"{path} is not a Keras log: expected a column 'epoch' of numbers. "
            f"Received: {', '.join(columns)}"
        )
    return columns


def _history_and_torn(path: Path) -> tuple[dict[str, list[float]], bool]:
    """Returns Keras' log, and whether its last line is torn."""
    return read_history(path), not (path.read_bytes() or b"\n").endswith(b"\n")
