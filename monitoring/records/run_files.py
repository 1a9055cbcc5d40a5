"""The one module that owns a run's folder: its file names, its claim, and what may be removed.

Standard library only. A folder belongs to this project if it holds the file `MARKER`, which is
created together with the folder. Nothing is removed recursively.
"""

import itertools
import os
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

MARKER = ".probe-zoo-run"  # proves that a folder is ours
CONFIG = "config.yaml"
COST = "cost.json"  # what the network costs on a device
HISTORY = "history.csv"
MODEL = "model.keras"
EVALUATION = "evaluation.json"
PREDICTIONS = "predictions.png"
CONFUSION = "confusion.csv"  # of several classes
CONFUSION_PICTURE = "confusion.png"
NARROWED = "narrowed.keras"  # the network that was cut, before any training
NARROWING = "narrowing.json"  # what was cut; written before NARROWED
CHECKPOINT = "checkpoint"
BEST = "best.npz"  # in CHECKPOINT
LAST = "last.npz"  # in CHECKPOINT
TEACHER = "teacher"
MONITOR_CSV = "monitor.csv"
MONITOR_JSONL = "monitor.jsonl"
TENSORBOARD = "tensorboard"
ARRAYS = "arrays"
WINDOW = "window"
REPORT = "report.html"
ADVICE = "advice.json"
ADVISED = "advised.yaml"
ANALYSIS = "analysis.json"
EXPORT = "export.json"
INT8 = "model_int8.tflite"
INT8_REFUSED = "model_int8.refused.tflite"
INT8_HEADER = "model_int8.h"
INT8_PARAMS = "model_int8_quant_params.json"
PIPELINE = "pipeline.json"
PIPELINE_SETTINGS = "pipeline.yaml"
FOLDS = "folds.json"
FOLDS_SETTINGS = "folds.yaml"

DRAFT = ".unfinished."  # prefix of a file that is being written

CUT = (NARROWING, NARROWED)  # what a training begins with; one that starts over keeps it
# What a training writes before its first checkpoint is complete.
BEFORE_CHECKPOINT = (COST, HISTORY, MONITOR_CSV, MONITOR_JSONL, TENSORBOARD, ARRAYS, WINDOW)
NAMES = (
    *(CONFIG, *CUT, *BEFORE_CHECKPOINT, CHECKPOINT, TEACHER, MODEL, EVALUATION, PREDICTIONS),
    *(CONFUSION, CONFUSION_PICTURE),
    *(REPORT, ADVICE, ADVISED, ANALYSIS, EXPORT, INT8, INT8_REFUSED, INT8_HEADER, INT8_PARAMS),
    *(PIPELINE, PIPELINE_SETTINGS, FOLDS, FOLDS_SETTINGS),
)
# {sub-folder of a run: what the names of our files in it match}
SUBFOLDERS: Mapping[str, re.Pattern[str]] = {
    CHECKPOINT: re.compile(rf"{re.escape(BEST)}|{re.escape(LAST)}"),
    WINDOW: re.compile(r"\d+\.npz"),
    ARRAYS: re.compile(r"[\w.~%-]+-\d{8,}\.npz", re.ASCII),
    TENSORBOARD: re.compile(r"events\.out\.tfevents\..+"),
    TEACHER: re.compile("|".join(map(re.escape, (MONITOR_CSV, MONITOR_JSONL)))),
}
MARKER_TEXT = (
    "This folder holds a run of probe-zoo. Its files may be replaced or removed when the run is "
    "resumed.\n"
)


def expanded(path: str | Path) -> Path:
    """Returns a path with `~` replaced by the home folder.

    Raises:
        ValueError: There is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{error} Received: {str(path)!r}") from None


def checked_folder(path: str | Path) -> Path:
    r"""Returns a folder's path with `~` expanded, if all files of a run can be written in it.

    Raises:
        ValueError: Its name cannot be written as UTF-8, as several of a run's files need.

    Example:
        >>> checked_folder("runs/first").name
        'first'
        >>> checked_folder("runs/caf\udce9")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ValueError: Expected a path that is valid UTF-8. Received: 'runs/caf\udce9'. Rename it...
    """
    folder = expanded(path)
    try:
        str(folder).encode("utf-8")
    except UnicodeEncodeError:
        raise ValueError(
            f"Expected a path that is valid UTF-8. Received: {str(path)!r}. "
            "Rename it, or choose another."
        ) from None
    return folder


def claim_folder(folder: Path) -> None:
    """Makes a folder this run's own; of several claims at one time, one succeeds.

    Args:
        folder: May exist already, but must not hold any file of a run.

    Raises:
        ValueError: It holds another run, or a file with the name of one of a run's.
        OSError: It cannot be written.
    """
    name = run_file_in(folder)
    if name is None:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            _write_marker(folder)
            return
        name = MARKER
    raise ValueError(
        f"Output folder {folder} holds another run ({name}). Choose another one, or continue "
        f"that run with --resume."
    )


def claim_new_folder(parent: Path, name: str) -> Path:
    """Makes a folder that did not exist: `name` in `parent`, else `name`-1, `name`-2, ...

    Returns:
        The folder, claimed.

    Raises:
        OSError: It cannot be written.

    Example:
        >>> import tempfile
        >>> parent = Path(tempfile.mkdtemp())
        >>> [claim_new_folder(parent, "run").name for _ in range(3)]
        ['run', 'run-1', 'run-2']
    """
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count():
        folder = parent / (f"{name}-{number}" if number else name)
        with suppress(FileExistsError):
            folder.mkdir()
            _write_marker(folder)
            return folder
    raise AssertionError("unreachable")


def mark_folder(folder: Path) -> None:
    """Writes the marker into a folder that is known to be ours by other means."""
    with suppress(FileExistsError):
        _write_marker(folder)


def is_marked(folder: Path) -> bool:
    """Returns whether a folder is proved ours."""
    return (folder / MARKER).is_file()


def run_file_in(folder: Path) -> str | None:
    """Returns the name of a file or sub-folder in a folder that a run would use, if any."""
    for name in (*NAMES, MARKER):
        for entry in (name, DRAFT + name):
            if os.path.lexists(folder / entry):
                return entry
    return None


def clear_unfinished_run(folder: Path) -> None:
    """Removes what a training has written before its first checkpoint, so that it starts over.

    Args:
        folder: A run's folder without a checkpoint. Its config.yaml stays, and so does the
            network that the training begins with.

    Raises:
        ValueError: The folder holds a file that such a training does not write, or it is not
            marked as ours; nothing is removed then.
    """
    unchanged = (CONFIG, MARKER)
    names = [name for name in (*NAMES, *(DRAFT + name for name in NAMES)) if name not in unchanged]
    present = [name for name in names if os.path.lexists(folder / name)]
    written = {*BEFORE_CHECKPOINT, *CUT, CHECKPOINT}
    written |= {DRAFT + name for name in (CONFIG, *CUT, *BEFORE_CHECKPOINT)}
    for name in present:
        is_ours = name in written and _is_kind(folder / name)
        if not is_ours or not is_marked(folder):
            reason = "is not marked as ours" if is_ours else "has no checkpoint"
            raise ValueError(
                f"{folder} {reason} but holds {name}: starting over would overwrite it. Move "
                f"{name} elsewhere, or train into another folder with --config "
                f"{folder / CONFIG} --output."
            )
    for name in present:
        if name in SUBFOLDERS:
            remove_own_files(folder / name)
        elif name not in CUT:
            (folder / name).unlink()


def remove_file(path: Path) -> None:
    """Removes one file of a run, if it exists.

    The caller must know that the file is ours: its folder is marked, or the caller wrote it.

    Raises:
        ValueError: No file of a run has this name.
    """
    if path.name not in NAMES and not any(_is_own_name(folder, path.name) for folder in SUBFOLDERS):
        raise ValueError(f"Expected the name of a run's file. Received: {path}")
    path.unlink(missing_ok=True)


def remove_written(folder: Path, names: Iterable[str]) -> None:
    """Removes files that the caller has written into a sub-folder of a run, and it, if empty.

    Raises:
        ValueError: No file of a run has such a name.
        OSError: A file cannot be removed.
    """
    for name in names:
        remove_file(folder / name)
    with suppress(OSError):  # absent, or not empty
        folder.rmdir()


def remove_own_files(folder: Path) -> None:
    """Removes a sub-folder of a run, but not the files in it that are not ours.

    Nothing is removed unless the run's folder is marked. A file that does not match the pattern
    of the sub-folder's own files stays, and so does the sub-folder then.

    Args:
        folder: RUN/checkpoint, RUN/window, RUN/arrays, RUN/tensorboard or RUN/teacher.

    Raises:
        ValueError: It is none of these.
        OSError: A file cannot be removed.
    """
    if folder.name not in SUBFOLDERS:
        raise ValueError(f"Expected one of {', '.join(SUBFOLDERS)}. Received: {folder}")
    if is_marked(folder.parent):
        _remove_matching(folder)


def _remove_matching(folder: Path) -> None:
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in list(folder.iterdir()):
        if folder.name == TEACHER and path.name == ARRAYS:
            _remove_matching(path)
        elif _is_own_name(folder.name, path.name) and (path.is_file() or path.is_symlink()):
            path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty
        folder.rmdir()


def is_snapshot(path: Path) -> bool:
    """Returns whether a path in RUN/arrays has the name of a snapshot of ours."""
    return SUBFOLDERS[ARRAYS].fullmatch(path.name) is not None


def _is_own_name(folder_name: str, name: str) -> bool:
    pattern = SUBFOLDERS.get(folder_name)
    return pattern is not None and pattern.fullmatch(name.removeprefix(DRAFT)) is not None


def _is_kind(path: Path) -> bool:
    """Returns whether a path is a folder or a file as a training makes it."""
    if path.is_symlink():
        return False
    return path.is_dir() if path.name in SUBFOLDERS else path.is_file()


def _write_marker(folder: Path) -> None:
    with (folder / MARKER).open("x", encoding="utf-8") as file:
        file.write(MARKER_TEXT)
