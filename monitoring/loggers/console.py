"""The table on the console."""

import math
import sys
from collections.abc import Mapping
from typing import IO

from ..records.record import ProbeRecord, ProbeSnapshot


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
