"""monitor.csv and monitor.jsonl: one line per record, appended whole."""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from ..records.files import AppendedFile, DamagedFileError, whole_file, whole_lines
from ..records.record import COLUMNS, ProbeRecord, ProbeSnapshot


class _LinesLogger:
    """Appends lines to one file, each whole and flushed; never to another run's file."""

    def __init__(self, path: str | Path):
        self._file = AppendedFile(Path(path))

    def start(self, epoch: int, step: int, written: Mapping[str, int]) -> None:
        """Makes ready for a training that begins with `epoch`; as `FileLogger.start`.

        What the file holds of that epoch or of a later one is dropped, and half a last line.
        """
        if not epoch:
            self._refuse_others()
        elif self._file.path.exists():
            self.close()
            kept = list(self._earlier(epoch))
            with whole_file(self._file.path) as draft:
                draft.write_text("".join(kept), encoding="utf-8", newline="")
            self._file.mode = "a"

    def removed(self) -> bool:
        """Returns whether the file is no longer there."""
        return self._file.removed()

    def _earlier(self, epoch: int) -> Iterator[str]:
        """Gives the lines that are to be kept when `epoch` begins anew."""
        for number, line in enumerate(whole_lines(self._file.path), start=1):
            try:
                before = self._before(line, epoch)
            except (ValueError, TypeError, LookupError) as error:
                raise DamagedFileError(
                    f"{self._file.path}, line {number}, is no record ({error}): the file is "
                    "damaged, or of another version. Without that line the run can go on."
                ) from None
            if before:
                yield line

    def _before(self, line: str, epoch: int) -> bool:
        """Returns whether a line is of an earlier epoch, or of none."""
        raise NotImplementedError

    def _refuse_others(self) -> None:
        if self._file.mode == "x" and self._file.path.exists():
            raise FileExistsError(
                f"{self._file.path} holds the records of another run. Choose another log_dir, move "
                "that file away, or go on with that run where it stopped (initial_epoch)."
            )

    def _append(self, text: str) -> None:
        self._refuse_others()
        self._file.append(text.encode())

    def close(self) -> None:
        """Closes the file; a later write goes on at its end."""
        self._file.close()


class CsvLogger(_LinesLogger):
    """Writes monitor.csv: a header, then a row per record; undefined is nan.

    Args:
        path: The file.

    """

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None = None) -> None:
        """Appends one row.

        Raises:
            FileExistsError: The file is another run's.
        """
        header = _csv_line(COLUMNS) if self._file.empty() else ""
        self._append(header + _csv_line(list(asdict(record).values())))

    def _before(self, line: str, epoch: int) -> bool:
        row = next(csv.reader([line]))
        return row == list(COLUMNS) or int(row[COLUMNS.index("epoch")]) < epoch


class JsonLinesLogger(_LinesLogger):
    """Writes monitor.jsonl: an object per record; undefined is null, infinite "Infinity".

    Args:
        path: The file.

    """

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None = None) -> None:
        """Appends one line; errors as those of `CsvLogger`."""
        values = {name: _json_value(value) for name, value in asdict(record).items()}
        self._append(json.dumps(values, allow_nan=False) + "\n")

    def _before(self, line: str, epoch: int) -> bool:
        return json.loads(line)["epoch"] < epoch


def _csv_line(values: Sequence) -> str:
    """Returns one line of CSV with its end."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _json_value(value):
    """Returns what JSON can hold: null for nan, a string for the infinite."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
