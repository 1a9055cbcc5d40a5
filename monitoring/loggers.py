"""Where records go: two methods each, `write` and `close`, opened at the first write."""

import csv
import io
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import IO, Protocol

from monitoring.records import COLUMNS, ProbeRecord, ProbeSnapshot

NUMBERS = ("channels", "in use", "redundancy", "condition", "dead", "duplicates")


class RecordLogger(Protocol):
    """What the callback asks of a logger; any object with these two methods will do."""

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot) -> None:
        """Takes one probe's record and the arrays behind it."""

    def close(self) -> None:
        """Ends a training; a later `write` begins the next."""


class ConsoleLogger:
    """Prints a table, a row per probe with its last record, when it is closed.

    Args:
        file: Where to. Defaults to None: standard output.
    """

    def __init__(self, file: IO[str] | None = None):
        self._file = file
        self._last: dict[str, ProbeRecord] = {}

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot) -> None:
        """Keeps the probe's record for the table."""
        self._last[record.probe] = record

    def close(self) -> None:
        """Prints the table, if there is anything in it."""
        if self._last:
            print_table(list(self._last.values()), self._file)
        self._last = {}


class _FileLogger:
    """Appends lines to one file, each whole and flushed; never to another run's file."""

    def __init__(self, path: str | Path):
        self._path = Path(path)
        if self._path.exists():
            raise FileExistsError(
                f"{self._path} holds the records of another run. Choose another log_dir, or "
                "move that file away."
            )
        self._mode = "x"
        self._file: IO[str] | None = None

    def _append(self, text: str) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open(self._mode, encoding="utf-8", newline="")
            self._mode = "a"
        self._file.write(text)
        self._file.flush()

    def close(self) -> None:
        """Closes the file; a later write goes on at its end."""
        if self._file is not None:
            self._file.close()
            self._file = None


class CsvLogger(_FileLogger):
    """Writes monitor.csv: a header, then a row per record; undefined is nan.

    Args:
        path: The file, not yet there.

    Raises:
        FileExistsError: It is there.
    """

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot) -> None:
        """Appends one row."""
        if self._mode == "x":
            self._append(_csv_line(COLUMNS))
        self._append(_csv_line(list(asdict(record).values())))


class JsonLinesLogger(_FileLogger):
    """Writes monitor.jsonl: an object per record; undefined is null, infinite "Infinity".

    Args:
        path: The file, not yet there.

    Raises:
        FileExistsError: It is there.
    """

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot) -> None:
        """Appends one line."""
        values = {name: _json_value(value) for name, value in asdict(record).items()}
        self._append(json.dumps(values, allow_nan=False) + "\n")


def print_table(records: list[ProbeRecord], file: IO[str] | None = None) -> None:
    """Prints one row a record, and below the table what the numbers lack.

    Args:
        records: At most one for each probe.
        file: Where to. Defaults to None: standard output.
    """
    # Rich takes 50 ms to import, and only those who print need it.
    from rich import box
    from rich.console import Console
    from rich.table import Table

    title = f"Channels after epoch {records[0].epoch + 1}, step {records[0].step}"
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD)
    table.add_column("probe", overflow="fold")
    for heading in NUMBERS:
        table.add_column(heading, justify="right", no_wrap=True)
    for record in records:
        table.add_row(
            record.probe.removeprefix("probe_"),
            str(record.channels),
            _number(record.effective_rank, ".1f"),
            _number(record.redundancy_score, ".3f"),
            _number(record.condition_number, ".2g"),
            _number(record.dead_channels, ".0f"),
            _number(record.duplicate_channels, ".0f"),
        )
    console = Console(file=file or sys.stdout, highlight=False)
    console.print(table)
    for record in records:
        if record.verdict != "ok":
            console.print(f"{record.probe.removeprefix('probe_')}: {record.verdict}", markup=False)


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
