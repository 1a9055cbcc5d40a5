"""Files that are whole or absent, whatever ends the process."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Gives a path to write to, and puts the finished file in `path`'s place.

    On an exception `path` stays as it was.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with whole_file(target) as draft:
        ...     _ = draft.write_text("done")
        >>> target.read_text()
        'done'
    """
    draft = path.with_name(f".unfinished.{path.name}")  # some writers look at the suffixes
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        if error.filename is None:  # a full disk is told of without the file
            error.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


def whole_lines(path: Path) -> list[str]:
    """Returns a file's lines with their ends, without half a last one."""
    with path.open(encoding="utf-8", newline="", errors="replace") as lines:
        return [line for line in lines if line.endswith("\n")]
