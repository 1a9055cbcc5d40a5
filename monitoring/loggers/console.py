"""The table on the console."""

import math
import sys
from collections.abc import Mapping
from typing import IO

from ..records.record import BASELINE_EPOCH, ProbeRecord, ProbeSnapshot


class ConsoleLogger:
    """Prints a table with one row per probe, its last record, when it is closed.

    Args:
        file: Where to print. Defaults to None: standard output.
    """

    def __init__(self, file: IO[str] | None = None):
        self._file = file
        self._baseline: dict[str, ProbeRecord] = {}
        self._last: dict[str, ProbeRecord] = {}

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None = None) -> None:
        """Keeps the probe's record for the table."""
        records = self._baseline if record.epoch == BASELINE_EPOCH else self._last
        records[record.probe] = record

    def close(self) -> None:
        """Prints the table, unless it is empty."""
        if self._last:
            record = next(iter(self._last.values()))
            print(f"Channels after epoch {record.epoch + 1}, step {record.step}", file=self._file)
            print_table(list(self._last.values()), self._file, self._baseline)
        self._baseline, self._last = {}, {}


def print_table(
    records: list[ProbeRecord],
    file: IO[str] | None = None,
    baseline: Mapping[str, ProbeRecord] | None = None,
) -> None:
    """Prints one row per record and, below the table, what limits the numbers.

    Args:
        records: At most one record per probe.
        file: Where to print. Defaults to None: standard output.
        baseline: {probe: its record before the first step}, shown beside the others.
            Defaults to None: none.
    """
    # Rich takes 50 ms to import, and only printing needs it.
    from rich.console import Console
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for justify in ("left", "right", "right", "right", "right", "left"):
        table.add_column(justify=justify, overflow="fold")
    for record in records:
        before = (baseline or {}).get(record.probe)
        at_start = f" (start {_number(before.redundancy_score, '.3f')})" if before else ""
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
    """Formats a number; nan becomes a dash."""
    return "-" if math.isnan(value) else format(value, form)
