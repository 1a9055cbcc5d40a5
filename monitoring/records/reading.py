"""Reads back what a run has left in its folder."""

import csv
import json
import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from .files import DamagedFileError, read_arrays, read_values, whole_lines
from .record import ProbeRecord, ProbeSnapshot

SPECIAL = {None: math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
LIMIT = 2048  # records of a probe that a report or a comparison reads
TEXTS = ("probe", "source", "verdict")
TORN = "its last line is torn and was left out"


@dataclass(frozen=True)
class RunFolder:
    """A run as its files tell it.

    Attributes:
        folder: Where.
        records: {probe: its records, in order}, those before the first step among them.
        config: The resolved configuration; empty where there is none.
        evaluation: Scores on the test split; empty where the run has not got that far.
        exported: What was found when the run's INT8 file was run; empty where there is none.
        history: {column: a value an epoch} of Keras' log; empty where there is none.
        notes: What is missing or was left out, a sentence each.
    """

    folder: Path
    records: Mapping[str, list[ProbeRecord]]
    config: Mapping
    evaluation: Mapping
    exported: Mapping
    history: Mapping[str, list[float]]
    notes: tuple[str, ...]

    @property
    def last(self) -> dict[str, ProbeRecord]:
        """Each probe's last record."""
        return {probe: records[-1] for probe, records in self.records.items()}


def read_run(folder: str | Path) -> RunFolder:
    """Reads a run that train.py, or a monitor with a `log_dir`, has written.

    Raises:
        FileNotFoundError: There is no folder, or there are no records in it.
        DamagedFileError: A line of monitor.jsonl, but for a torn last one, is no record, or
            another file is damaged.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"Run folder {folder} is not there.")
    path = folder / "monitor.jsonl"
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no monitor.jsonl: train with --probes or --enable-nas-monitoring, or "
            "give NASMonitorCallback this folder as log_dir."
        )
    found, notes = read_records(path, LIMIT)
    if not found:
        raise FileNotFoundError(f"{path} holds no record yet: nothing has been measured.")
    records: dict[str, list[ProbeRecord]] = {}
    for record in found:
        records.setdefault(record.probe, []).append(record)
    config, evaluation = folder / "config.yaml", folder / "evaluation.json"
    for there, said in ((config, "settings"), (evaluation, "scores: the run did not end")):
        if not there.is_file():
            notes.append(f"no {there.name}, so no {said}")
    history = folder / "history.csv"
    if history.is_file() and not (history.read_bytes() or b"\n").endswith(b"\n"):
        notes.append(f"{history.name}: {TORN}")
    return RunFolder(
        folder,
        records,
        _mapping(config),
        _mapping(evaluation),
        _mapping(folder / "export.json"),
        read_history(history),
        tuple(notes),
    )


def _mapping(path: Path) -> dict:
    values = read_values(path) if path.is_file() else {}
    if not isinstance(values, dict):
        raise DamagedFileError(f"{path}: expected a mapping. Received: {type(values).__name__}")
    return values


ARRAYS = ("epoch", "step", "mean", "correlation", "eigenvalues", "dead", "duplicates")


def read_snapshots(folder: str | Path) -> dict[str, list[ProbeSnapshot]]:
    """Reads {probe: its snapshots in order} from a run's arrays/; empty where there are none."""
    snapshots: dict[str, list[ProbeSnapshot]] = {}
    for path in sorted((Path(folder) / "arrays").glob("*-*.npz")):
        name, _ = path.stem.rsplit("-", 1)
        if name.startswith("."):
            continue
        held, probe = read_arrays(path, ARRAYS), unquote(name)
        snapshot = ProbeSnapshot(
            probe=probe,
            epoch=int(held["epoch"]),
            step=int(held["step"]),
            mean=held["mean"],
            correlation=held["correlation"],
            eigenvalues=held["eigenvalues"],
            dead=tuple(int(channel) for channel in held["dead"]),
            duplicates={
                int(one): (int(first), int(sign)) for one, first, sign in held["duplicates"]
            },
        )
        snapshots.setdefault(probe, []).append(snapshot)
    return snapshots


def read_records(path: Path, limit: int | None = None) -> tuple[list[ProbeRecord], list[str]]:
    """Reads a monitor.jsonl.

    Args:
        path: The file.
        limit: Records of a probe, at most; of more every k-th and the last. Others are not
            looked at. Defaults to None: all.

    Returns:
        The records, and a note where a killed run has left half a line, or not all are read.

    Raises:
        DamagedFileError: A line, but for a torn last one, is no record.
    """
    found: list[ProbeRecord] = []
    lines, stride = _thinned(path, limit)
    notes = [] if stride == 1 else [f"{path.name} is long: every {stride}th record is read"]
    for number, line in lines:
        try:
            found.append(_record(json.loads(line)))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            if not line.endswith("\n"):
                return found, [*notes, f"{path.name}: {TORN}"]
            said = "not JSON" if isinstance(error, json.JSONDecodeError) else error
            raise DamagedFileError(
                f"{path}, line {number}, is no record ({said}): the file is damaged, or of "
                "another version. Without that line the rest can be read."
            ) from None
    return found, notes


def _thinned(path: Path, limit: int | None) -> tuple[list[tuple[int, str]], int]:
    """Returns numbered lines in order, so many of each probe at most, and the largest k."""
    kept: dict[str, list[tuple[int, str]]] = {}
    last: dict[str, tuple[int, str]] = {}
    seen: Counter[str] = Counter()
    strides: dict[str, int] = {}
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines, start=1):
            probe = line.partition(",")[0]  # {"probe": "NAME"
            held, stride = kept.setdefault(probe, []), strides.setdefault(probe, 1)
            if seen[probe] % stride == 0:
                held.append((number, line))
                if limit is not None and len(held) > limit:
                    del held[1::2]
                    strides[probe] = 2 * stride
            seen[probe] += 1
            last[probe] = number, line
    chosen = {numbered for held in kept.values() for numbered in held} | set(last.values())
    return sorted(chosen), max(strides.values(), default=1)


def _record(values: Mapping) -> ProbeRecord:
    known = {field.name for field in fields(ProbeRecord)}
    if values.keys() != known:
        wrong = sorted(known ^ values.keys())
        raise ValueError(f"missing or unknown: {', '.join(wrong)}")
    read: dict[str, Any] = {
        name: value if name in TEXTS or isinstance(value, (int, float)) else SPECIAL[value]
        for name, value in values.items()
    }
    return ProbeRecord(**read)


def read_history(path: Path) -> dict[str, list[float]]:
    """Reads {column: a value an epoch} of Keras' log, without half a last line.

    Returns:
        The columns; empty where there is no log.

    Raises:
        DamagedFileError: A value is no number.
    """
    if not path.is_file():
        return {}
    rows = list(csv.DictReader(whole_lines(path)))
    try:
        return {name: [float(row[name]) for row in rows] for name in (rows[0] if rows else ())}
    except (TypeError, ValueError, KeyError) as error:
        raise DamagedFileError(f"{path} is no log of Keras: {error}") from None
