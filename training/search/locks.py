"""Keeps the processes of a search out of each other's way."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LOCK = ".search-lock"


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
