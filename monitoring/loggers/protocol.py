"""What the callback needs from a logger, and the log folder from one that writes files."""

from collections.abc import Mapping
from typing import Protocol

from ..records.record import ProbeRecord, ProbeSnapshot


class RecordLogger(Protocol):
    """What the callback needs from a logger: any object with these two methods."""

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot) -> None:
        """Takes one probe's record and the arrays behind it."""

    def close(self) -> None:
        """Ends a training run; a later `write` begins the next one."""


class FileLogger(RecordLogger, Protocol):
    """A logger that can continue the file of an earlier training run.

    If a write raises OSError, its file is as it was before.
    """

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None) -> None:
        """Takes a record; without a snapshot, only what the record holds is written."""

    def start(self, epoch: int, last_step: int, written: Mapping[str, int]) -> None:
        """Prepares for a training run, and drops what it will write again.

        Args:
            epoch: Its first epoch, from 0.
            last_step: Largest `global_step` of the earlier records; later ones are dropped.
            written: {probe: number of its earlier records}.

        Raises:
            FileExistsError: The run begins at epoch 0, and the file belongs to another run.
            DamagedFileError: The file is damaged.
        """

    def removed(self) -> bool:
        """Returns whether the file was written and no longer exists."""
