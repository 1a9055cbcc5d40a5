"""Where records go: `write` and `close`, opened at the first write; files also `start`."""

import csv
import io
import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Protocol

from monitoring.files import AppendedFile, DamagedFileError, whole_file, whole_lines
from monitoring.records import COLUMNS, ProbeRecord, ProbeSnapshot


class RecordLogger(Protocol):
    """What the callback asks of a logger; any object with these two methods will do."""

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot) -> None:
        """Takes one probe's record and the arrays behind it."""

    def close(self) -> None:
        """Ends a training; a later `write` begins the next."""


class FileLogger(RecordLogger, Protocol):
    """A logger that can go on with what an earlier training has left.

    Where a write raises OSError, its file is as it was before.
    """

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None) -> None:
        """Takes a record; without its snapshot only what is in the record is written."""

    def start(self, epoch: int, step: int, written: Mapping[str, int]) -> None:
        """Makes ready for a training, and drops what it will write again.

        Args:
            epoch: The first, from 0.
            step: Optimizer steps taken before.
            written: {probe: its records before}.

        Raises:
            FileExistsError: The training begins with epoch 0, and the file is another run's.
            DamagedFileError: The file is not what was written.
        """

    def removed(self) -> bool:
        """Returns whether what was written is no longer there."""


class ConsoleLogger:
    """Prints a table, a row per probe with its last record, when it is closed.

    Args:
        file: Where to. Defaults to None: standard output.
    """

    def __init__(self, file: IO[str] | None = None):
        self._file = file
        self._start: dict[str, ProbeRecord] = {}
        self._last: dict[str, ProbeRecord] = {}

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None = None) -> None:
        """Keeps the probe's record for the table."""
        kept = self._start if record.epoch < 0 else self._last
        kept[record.probe] = record

    def close(self) -> None:
        """Prints the table, if there is anything in it."""
        if self._last:
            some = next(iter(self._last.values()))
            print(f"Channels after epoch {some.epoch + 1}, step {some.step}", file=self._file)
            print_table(list(self._last.values()), self._file, self._start)
        self._start, self._last = {}, {}


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


def print_table(
    records: list[ProbeRecord],
    file: IO[str] | None = None,
    start: Mapping[str, ProbeRecord] | None = None,
) -> None:
    """Prints one row a record, and below the table what the numbers lack.

    Args:
        records: At most one for each probe.
        file: Where to. Defaults to None: standard output.
        start: {probe: its record before the first step}, to read the others against.
            Defaults to None: none.
    """
    # Rich takes 50 ms to import, and only those who print need it.
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right", "right", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    for record in records:
        null = (start or {}).get(record.probe)
        at_start = f" (start {_number(null.redundancy_score, '.3f')})" if null else ""
        table.add_row(
            record.probe.removeprefix("probe_"),
            f"{record.channels} channels",
            f"{_number(record.effective_rank, '.1f')}{half_width(record)} in use",
            f"{_number(record.dead_channels, '.0f')} dead",
            f"{_number(record.duplicate_channels, '.0f')} duplicates",
            f"redundancy {_number(record.redundancy_score, '.3f')}{at_start}",
        )
    console = Console(file=file or sys.stdout, highlight=False)
    if not console.is_terminal:
        console.width = 120
    console.print(table)
    for record in records:
        if record.verdict != "ok":
            console.print(f"{record.probe.removeprefix('probe_')}: {record.verdict}", markup=False)


def half_width(record: ProbeRecord) -> str:
    """Formats half the width of the interval of the channels in use, if there is one."""
    half = (record.effective_rank_high - record.effective_rank_low) / 2
    return "" if math.isnan(half) else f" ± {half:.1f}"


def _number(value: float, form: str) -> str:
    """Formats a number, an undefined one as a dash."""
    return "-" if math.isnan(value) else format(value, form)


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
