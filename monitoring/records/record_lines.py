"""Reads monitor.jsonl, and afterwards only what has been appended to it."""

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from .files import DamagedFileError
from .record import ProbeRecord
from .schema import INTEGER, NUMBER, TEXT, WIDTH, Value

SPECIAL = {None: math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
TORN = "its last line is torn and was left out"
TYPES: Mapping[str, Value] = {field.name: NUMBER for field in fields(ProbeRecord)} | {
    **dict.fromkeys(("probe", "source", "verdict"), TEXT),
    **dict.fromkeys(("epoch", "step", "global_step", "images", "samples"), INTEGER),
    "channels": WIDTH,
}


@dataclass
class _ProbeLines:
    """The lines of one probe to read: every `stride`-th, and the last."""

    chosen: dict[int, str] = field(default_factory=dict)  # {number of the line: its text}
    last: tuple[int, str] = (0, "")
    count: int = 0
    stride: int = 1

    def add(self, number: int, line: str, limit: int | None) -> None:
        if self.count % self.stride == 0:
            self.chosen[number] = line
            if limit is not None and len(self.chosen) > limit:
                self.chosen = dict(list(self.chosen.items())[::2])
                self.stride *= 2
        self.count += 1
        self.last = number, line


class RecordLines:
    """The records of a monitor.jsonl that another process may be appending to.

    Args:
        path: The file.
        limit: Records read per probe, at most; of more, every k-th and the last are read
            and the others are not parsed. Defaults to None: all.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "monitor.jsonl"
        >>> path.touch()
        >>> RecordLines(path).read()
        ([], [])
    """

    def __init__(self, path: Path, limit: int | None = None):
        self._path, self._limit = path, limit
        self._records: dict[int, ProbeRecord] = {}  # {number of the line: what was parsed}
        self._start_over()

    def read(self) -> tuple[list[ProbeRecord], list[str]]:
        """Parses what was appended since the last call, and returns all records.

        A file that was replaced, shortened or rewritten is read from its beginning.

        Returns:
            The records in the order of the file, and a note where a killed run has left a
            torn last line or where not every record is read.

        Raises:
            FileNotFoundError: The file does not exist.
            DamagedFileError: A line, other than a torn last one, is not a record.
        """
        unfinished = self._read_appended()
        lines: dict[int, str] = {}
        for probe in self._probes.values():
            lines |= probe.chosen
            lines[probe.last[0]] = probe.last[1]
        if unfinished:  # taken for complete now, and read again at the next call
            lines[self._count + 1] = unfinished
        notes = []
        stride = max((probe.stride for probe in self._probes.values()), default=1)
        if stride > 1:
            notes.append(f"{self._path.name} is long: every {stride}th record is read")
        records: dict[int, ProbeRecord] = {}
        for number in sorted(lines):
            try:
                records[number] = self._records.get(number) or parse_record(lines[number])
            except ValueError as error:
                if number <= self._count:
                    raise DamagedFileError(
                        f"{self._path}, line {number}, is not a record ({error}): the file is "
                        "damaged, or of another version. Remove that line to read the rest."
                    ) from None
                notes.append(f"{self._path.name}: {TORN}")
        self._records = dict(records)
        self._records.pop(self._count + 1, None)
        return list(records.values()), notes

    def _start_over(self) -> None:
        self._offset, self._count = 0, 0  # bytes and lines consumed so far
        self._identity: tuple[int, int] | None = None
        self._last_line = b""  # the last consumed, to notice a file that was rewritten
        self._probes: dict[str, _ProbeLines] = {}
        self._records = {}

    def _read_appended(self) -> str:
        """Consumes complete lines, and returns the unfinished one after them."""
        with self._path.open("rb") as file:
            status = os.fstat(file.fileno())
            identity = status.st_dev, status.st_ino
            file.seek(max(0, self._offset - len(self._last_line)))
            if identity != self._identity or file.read(len(self._last_line)) != self._last_line:
                self._start_over()
                self._identity = identity
                file.seek(0)
            for raw in file:
                line = raw.decode("utf-8", "replace")
                if not raw.endswith(b"\n"):
                    return line
                self._offset += len(raw)
                self._count += 1
                self._last_line = raw
                probe = line.partition(",")[0]  # {"probe": "NAME"
                self._probes.setdefault(probe, _ProbeLines()).add(self._count, line, self._limit)
        return ""


def parse_record(line: str) -> ProbeRecord:
    """Parses one line of monitor.jsonl; an older one has its `step` as its `global_step`.

    Raises:
        ValueError: The line is not a record.
    """
    try:
        values = json.loads(line)
    except json.JSONDecodeError:
        raise ValueError("not JSON") from None
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError(f"not an object but a {type(values).__name__}")
    if "step" in values:
        values.setdefault("global_step", values["step"])
    if values.keys() != TYPES.keys():
        wrong = sorted(TYPES.keys() ^ values.keys())
        raise ValueError(f"missing or unknown: {', '.join(wrong)}")
    checked: dict[str, Any] = {}
    for name, expected in TYPES.items():
        value = values[name]
        if expected is NUMBER and (value is None or isinstance(value, str)):
            value = SPECIAL.get(value, value)
        if not expected.accepts(value):
            raise ValueError(f"expected '{name}' to be {expected.expected}")
        checked[name] = value
    return ProbeRecord(**checked)
