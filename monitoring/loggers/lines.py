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

ADDED = "global_step"  # the column that older files lack; there it was the step


class _LinesLogger:
    """Appends whole lines to one file, never to that of another run."""

    def __init__(self, path: str | Path):
        self._file = AppendedFile(Path(path))

    def start(self, epoch: int, last_step: int, written: Mapping[str, int]) -> None:
        """Prepares for a training run that begins at `epoch`; see `FileLogger.start`.

        Lines of that epoch and later ones are dropped, and so is a torn last line. Those of an
        older file, without `global_step`, get it.
        """
        if not epoch:
            self._refuse_others()
        elif self._file.path.exists():
            self.close()
            earlier = list(self._earlier_lines(epoch))
            with whole_file(self._file.path) as draft:
                draft.write_text("".join(earlier), encoding="utf-8", newline="")
            self._file.mode = "a"

    def removed(self) -> bool:
        """Returns whether the file was written and no longer exists."""
        return self._file.removed()

    def _earlier_lines(self, epoch: int) -> Iterator[str]:
        """Yields the lines that stay when training continues at `epoch`."""
        for number, line in enumerate(whole_lines(self._file.path), start=1):
            try:
                kept = self._kept(line, epoch)
            except (ValueError, TypeError, LookupError) as error:
                raise DamagedFileError(
                    f"{self._file.path}, line {number}, is not a record ({error}): the file is "
                    "damaged, or of another version. Remove that line to continue the run."
                ) from None
            if kept:
                yield kept

    def _kept(self, line: str, epoch: int) -> str:
        """Returns a line of an earlier epoch, or a header, as it is now written; else ""."""
        raise NotImplementedError

    def _refuse_others(self) -> None:
        if self._file.mode == "x" and self._file.path.exists():
            raise FileExistsError(
                f"{self._file.path} holds the records of another run. Choose another log_dir, move "
                "that file away, or continue that run where it stopped (initial_epoch)."
            )

    def _append(self, text: str) -> None:
        self._refuse_others()
        self._file.append(text.encode())

    def close(self) -> None:
        """Closes the file; a later write continues it."""
        self._file.close()


class CsvLogger(_LinesLogger):
    """Writes monitor.csv: a header, then one row per record; undefined values are nan.

    Args:
        path: The file.

    """

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None = None) -> None:
        """Appends one row.

        Raises:
            FileExistsError: The file belongs to another run.
        """
        header = _csv_line(COLUMNS) if self._file.empty() else ""
        self._append(header + _csv_line(list(asdict(record).values())))

    def _kept(self, line: str, epoch: int) -> str:
        row = next(csv.reader([line]))
        if len(row) == len(COLUMNS) - 1:
            step = row[COLUMNS.index("step")]
            row.insert(COLUMNS.index(ADDED), ADDED if step == "step" else step)
            line = _csv_line(row)
        before = row == list(COLUMNS) or int(row[COLUMNS.index("epoch")]) < epoch
        return line if before else ""


class JsonLinesLogger(_LinesLogger):
    """Writes monitor.jsonl: one object per record; undefined is null, infinite "Infinity".

    Args:
        path: The file.

    """

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None = None) -> None:
        """Appends one line; raises as `CsvLogger.write`."""
        values = {name: _json_value(value) for name, value in asdict(record).items()}
        self._append(json.dumps(values, allow_nan=False) + "\n")

    def _kept(self, line: str, epoch: int) -> str:
        values = json.loads(line)
        if ADDED not in values:
            names = (name for name in COLUMNS if name == ADDED or name in values)
            values = {name: values["step" if name == ADDED else name] for name in names}
            line = json.dumps(values) + "\n"
        return line if int(values["epoch"]) < epoch else ""


def _csv_line(values: Sequence[object]) -> str:
    """Returns one line of CSV, with its line break."""
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(values)
    return line.getvalue()


def _json_value(value: object) -> object:
    """Returns a value that JSON can hold: null for nan, a string for infinity."""
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
