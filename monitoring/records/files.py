"""Files that are whole or absent, whatever ends the process."""

import errno
import io
import json
import os
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import yaml


class DamagedFileError(ValueError):
    """A file of a run is not what was written; the message names it."""


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


class AppendedFile:
    """A file that takes each piece whole, on to its end, or not at all.

    Args:
        path: The file; it and its folder are made at the first `append`.
        mode: "x", which refuses a file that is there already, or "a". Defaults to "x".

    Example:
        >>> import tempfile
        >>> file = AppendedFile(Path(tempfile.mkdtemp()) / "run" / "log")
        >>> file.append(b"first")
        >>> file.append(b", second")
        >>> file.path.read_text()
        'first, second'
        >>> file.close()
    """

    def __init__(self, path: Path, mode: str = "x"):
        self.path, self.mode = path, mode
        self._file: io.FileIO | None = None

    def empty(self) -> bool:
        """Returns whether there is nothing in it, or no file yet."""
        return not self.path.exists() or not self.path.stat().st_size

    def removed(self) -> bool:
        """Returns whether the file was there, and is no longer."""
        return self.mode == "a" and not self.path.exists()

    def append(self, content: bytes) -> None:
        """Adds a piece to the file.

        Raises:
            OSError: It does not fit; what was there is as it was. Or the file was removed, or
                another one put in its place, which the next call goes on with.
        """
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = io.FileIO(self.path, self.mode)
            self.mode = "a"
        descriptor = self._file.fileno()
        end = os.fstat(descriptor).st_size
        try:
            if not os.path.samestat(os.fstat(descriptor), os.stat(self.path)):
                raise FileNotFoundError(errno.ENOENT, "another file is in its place")
            while content:
                content = content[self._file.write(content) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(descriptor, end)
            self.close()
            raise

    def close(self) -> None:
        """Closes the file; a later `append` goes on at its end."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_arrays(path: Path, names: Sequence[str] | None = None) -> dict[str, np.ndarray]:
    """Reads an .npz file without pickle.

    Args:
        path: The file.
        names: Which arrays to read. Defaults to None: all.

    Raises:
        FileNotFoundError: It is not there.
        DamagedFileError: It is damaged, lacks an array, or holds Python objects.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            return {name: held[name] for name in (held.files if names is None else names)}
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from None


def read_values(path: Path, loader: type[yaml.SafeLoader] = yaml.SafeLoader) -> Any:
    """Reads a .yaml or a .json file; an empty one is an empty mapping.

    Args:
        path: The file.
        loader: Of YAML. Defaults to PyYAML's safe one.

    Raises:
        FileNotFoundError: It is not there.
        DamagedFileError: It is damaged, or asks for Python objects.
    """
    kind = "JSON" if path.suffix == ".json" else "YAML"
    try:
        text = path.read_text(encoding="utf-8")
        values = json.loads(text or "{}") if kind == "JSON" else yaml.load(text, loader)
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path}: cannot be read: {error}") from None
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise DamagedFileError(f"{path}: not {kind}: {' '.join(str(error).split())}") from None
    return {} if values is None else values


class Unwritten:
    """What of a training could not be written: one warning at the first, a list at the end.

    Example:
        >>> unwritten = Unwritten()
        >>> with warnings.catch_warnings(record=True) as said:
        ...     warnings.simplefilter("always")
        ...     unwritten.add("log", "2 rows of log (No space left on device)")
        ...     unwritten.add("log", "3 rows of log (No space left on device)")
        >>> len(said), list(unwritten)
        (1, ['3 rows of log (No space left on device)'])
        >>> unwritten.remove("log")
        >>> list(unwritten)
        []
    """

    def __init__(self):
        self._parts: dict[str, str] = {}
        self._said = False

    def __iter__(self) -> Iterator[str]:
        """Gives what is missing now, a phrase a part."""
        return iter(list(self._parts.values()))

    def add(self, part: str, missing: str) -> None:
        """Notes, or notes anew, what is missing of a part."""
        self._parts[part] = missing
        if not self._said:
            self._said = True
            warnings.warn(
                f"Not written: {missing}. The training goes on; what can be is kept in memory and "
                "written as soon as it can, and what is missing is said at the end",
                stacklevel=3,
            )

    def remove(self, part: str) -> None:
        """Notes that nothing of a part is missing any more."""
        self._parts.pop(part, None)


def whole_lines(path: Path) -> list[str]:
    """Returns a file's lines with their ends, without half a last one."""
    with path.open(encoding="utf-8", newline="", errors="replace") as lines:
        return [line for line in lines if line.endswith("\n")]
