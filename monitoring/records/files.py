"""Files that are whole or absent, whatever ends the process."""

import errno
import io
import json
import os
import warnings
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ..optional import needed_for

# What NumPy and zipfile raise for a file that is no archive of arrays.
UNREADABLE = (
    *(OSError, ValueError, TypeError, KeyError, EOFError, MemoryError, RuntimeError),
    *(zipfile.BadZipFile, zlib.error),
)


class DamagedFileError(ValueError):
    """A file of a run is damaged or not one of ours; the message names it."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yields a path to write to, and moves the finished file to `path`.

    After an exception `path` is as it was before.

    Example:
        >>> import tempfile
        >>> target = Path(tempfile.mkdtemp()) / "note.txt"
        >>> with whole_file(target) as draft:
        ...     _ = draft.write_text("done")
        >>> target.read_text()
        'done'
    """
    # Some writers look at the suffix.
    draft = path.with_name(f".unfinished.{path.name}")
    try:
        yield draft
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(draft, path)
    except OSError as error:
        if error.filename is None:  # the error of a full disk does not name the file
            error.filename = str(path)
        raise
    finally:
        draft.unlink(missing_ok=True)


class AppendedFile:
    """A file to which each piece is appended whole or not at all.

    Args:
        path: The file; it and its folder are made at the first `append`.
        mode: "x", which refuses an existing file, or "a". Defaults to "x".

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
        """Returns whether the file is empty or does not exist yet."""
        return not self.path.exists() or not self.path.stat().st_size

    def removed(self) -> bool:
        """Returns whether the file existed and has been removed."""
        return self.mode == "a" and not self.path.exists()

    def append(self, content: bytes) -> None:
        """Appends a piece.

        Raises:
            OSError: The piece does not fit; the file is as it was before. Or the file was
                removed or replaced; the next call appends to the file that is there then.
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
        """Closes the file; a later `append` continues at its end."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_arrays(
    path: Path, names: Sequence[str] | None = None, *, optional: Sequence[str] = ()
) -> dict[str, np.ndarray]:
    """Reads an .npz file without pickle.

    Args:
        path: The file.
        names: Which arrays to read. Defaults to None: all.
        optional: Which arrays to read besides `names`, if they are there. Defaults to none.

    Raises:
        FileNotFoundError: The file does not exist.
        DamagedFileError: It is damaged, lacks an array, or holds Python objects.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            if names is None:
                return {name: archive[name] for name in archive.files}
            present = [name for name in optional if name in archive.files]
            return {name: archive[name] for name in (*names, *present)}
    except FileNotFoundError:
        raise
    except UNREADABLE as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from None


def read_values(path: Path, loader: type | None = None) -> Any:
    """Reads a .yaml or a .json file; an empty file is an empty mapping.

    Args:
        path: The file.
        loader: A subclass of PyYAML's SafeLoader. Defaults to None: SafeLoader itself.

    Raises:
        FileNotFoundError: The file does not exist.
        DamagedFileError: It is damaged, or asks for Python objects.
        MissingPackageError: It is YAML, and PyYAML is not installed.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedFileError(f"{path}: cannot be read: {error}") from None
    is_json = path.suffix == ".json"
    values = _parsed_json(text, path) if is_json else _parsed_yaml(text, path, loader)
    return {} if values is None else values


def _parsed_json(text: str, path: Path) -> Any:
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError) as error:  # ValueError: a number of too many digits
        raise DamagedFileError(f"{path}: not JSON: {error}") from None


def _parsed_yaml(text: str, path: Path, loader: type | None) -> Any:
    with needed_for(f"Reading {path.name}", "pyyaml"):
        import yaml
    try:
        return yaml.load(text, loader or yaml.SafeLoader)
    # PyYAML checks neither dates nor the digits of numbers before it converts them.
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        message = " ".join(str(error).split())
        raise DamagedFileError(f"{path}: not YAML: {message}") from None


class WriteFailures:
    """Collects what could not be written: warns of the first, and lists them at the end.

    Example:
        >>> failures = WriteFailures()
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     failures.add("log", "2 rows of log (No space left on device)")
        ...     failures.add("log", "3 rows of log (No space left on device)")
        >>> len(caught), list(failures)
        (1, ['3 rows of log (No space left on device)'])
        >>> failures.remove("log")
        >>> list(failures)
        []
    """

    def __init__(self) -> None:
        self._missing: dict[str, str] = {}
        self._warned = False

    def __iter__(self) -> Iterator[str]:
        """Iterates over what is missing now, one phrase per part."""
        return iter(list(self._missing.values()))

    def add(self, part: str, missing: str, *, final: bool = False) -> None:
        """Records what is missing of a part, replacing what was recorded of it before.

        Args:
            part: A name for what is written.
            missing: What is missing of it, and why.
            final: Whether it will not be tried again. Such a part has a warning of its own.
                Defaults to False.
        """
        self._missing[part] = missing
        if final:
            warnings.warn(f"Not written: {missing}. All other files are.", stacklevel=3)
        elif not self._warned:
            self._warned = True
            warnings.warn(
                f"Not written: {missing}. The training continues; what can be kept is kept in "
                "memory and written as soon as possible, and what is missing is listed at the end",
                stacklevel=3,
            )

    def remove(self, part: str) -> None:
        """Records that nothing of a part is missing any more."""
        self._missing.pop(part, None)


def whole_lines(path: Path) -> list[str]:
    """Returns a file's lines with their line ends, without a torn last line."""
    with path.open(encoding="utf-8", newline="", errors="replace") as lines:
        return [line for line in lines if line.endswith("\n")]
