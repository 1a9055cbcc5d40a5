"""Keeps the processes of a search out of each other's way."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK, NUMBERS = ".search-lock", ".search-numbers"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Waits until no other process is at work in a folder, and keeps others out.

    The system lets go when a process ends, however it ends.

    Args:
        folder: The folder; it is created if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class NumberLocks:
    """Numbers that are held by the processes that work in a folder, each by one at most.

    The system lets go of them when a process ends, however it ends. One object per process and
    folder: what closes the file lets go of all that the process holds.

    Args:
        folder: The folder, which exists.
    """

    def __init__(self, folder: Path):
        self._file = (folder / NUMBERS).open("w")

    def close(self) -> None:
        """Lets go of all numbers."""
        self._file.close()

    @contextmanager
    def held(self, number: int) -> Iterator[None]:
        """Holds a number, once no other process holds it."""
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, number)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)

    def is_free(self, number: int) -> bool:
        """Returns whether no other process holds a number; this one must not hold it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, number)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EAGAIN):
                raise
            return False
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, number)
        return True
