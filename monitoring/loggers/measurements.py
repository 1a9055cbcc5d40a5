"""Writes measurements made outside training as a run's files."""

from collections.abc import Sequence
from pathlib import Path

from ..records.record import ProbeRecord, ProbeSnapshot
from ..records.run_files import ARRAYS, MONITOR_CSV, MONITOR_JSONL
from .arrays import ArraysLogger
from .lines import CsvLogger, JsonLinesLogger
from .protocol import RecordLogger


def write_measurements(
    measurements: Sequence[tuple[ProbeRecord, ProbeSnapshot]], folder: str | Path
) -> None:
    """Writes monitor.csv, monitor.jsonl and arrays/ into a folder, which is made if needed.

    Args:
        measurements: One (record, snapshot) per probe, as `summarise` returns them.
        folder: Where to write.

    Raises:
        FileExistsError: The folder holds the records of another run.

    Example:
        >>> import tempfile
        >>> write_measurements([], tempfile.mkdtemp())
    """
    folder = Path(folder)
    loggers: list[RecordLogger] = [
        CsvLogger(folder / MONITOR_CSV),
        JsonLinesLogger(folder / MONITOR_JSONL),
        ArraysLogger(folder / ARRAYS),
    ]
    for logger in loggers:
        for record, snapshot in measurements:
            logger.write(record, snapshot)
        logger.close()
