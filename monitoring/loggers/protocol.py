"""What the callback asks of a logger, and the log folder of one that writes files."""

from collections.abc import Mapping
from typing import Protocol

from ..records.record import ProbeRecord, ProbeSnapshot


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
