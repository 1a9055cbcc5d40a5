"""Records and snapshots as TensorBoard's scalars and images."""

import io
import math
import os
import re
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..records.files import AppendedFile
from ..records.record import METRIC_COLUMNS, ProbeRecord, ProbeSnapshot

EVENTS = "events.out.tfevents"  # TensorBoard reads files of this name
PIXELS = 256  # of an image's side, at least


class TensorBoardLogger:
    """Writes a scalar for each defined metric, and images every k-th epoch.

    The images show the spectrum of the correlation and the correlation itself, with its channels
    ordered so that duplicates stand together. The step of each event is the record's
    `global_step`.

    Args:
        folder: Folder for the events; created at the first write.
        image_frequency: Draw images every k-th epoch, and before the first step.
            Defaults to 10.
    """

    def __init__(self, folder: str | Path, image_frequency: int = 10):
        self._folder, self._image_frequency = Path(folder), image_frequency
        self._file: AppendedFile | None = None
        self._purge: int | None = None

    def start(self, epoch: int, last_step: int, written: Mapping[str, int]) -> None:
        """Prepares for a training run that begins at `epoch`; see `FileLogger.start`.

        Events after `last_step` stay in their file; a mark in the next file has TensorBoard purge
        them, as each later file does for the steps it holds again.
        """
        self._purge = last_step + 1 if epoch and self._folder.is_dir() else None

    def removed(self) -> bool:
        """Returns whether the folder or the open file no longer exists."""
        there = self._folder.is_dir()
        return not there or (self._file is not None and self._file.removed())

    def write(self, record: ProbeRecord, snapshot: ProbeSnapshot | None) -> None:
        """Writes the events of one probe; without a snapshot, no images."""
        from tensorboard.compat.proto.summary_pb2 import Summary

        name = record.probe.removeprefix("probe_")
        values = [
            Summary.Value(tag=f"{metric}/{name}", simple_value=value)
            for metric, value in asdict(record).items()
            if metric in METRIC_COLUMNS and not math.isnan(value)
        ]
        drawn = (record.epoch + 1) % self._image_frequency == 0
        if drawn and snapshot is not None and len(snapshot.eigenvalues):
            for tag, picture in (
                ("spectrum", draw_spectrum(snapshot.eigenvalues)),
                ("correlation", draw_correlation(snapshot.correlation)),
            ):
                image = Summary.Image(
                    height=picture.shape[0],
                    width=picture.shape[1],
                    colorspace=3,
                    encoded_image_string=_png(picture),
                )
                values.append(Summary.Value(tag=f"{tag}/{name}", image=image))
        self._add(Summary(value=values), record.global_step)

    def close(self) -> None:
        """Closes the file; a later write begins another one in the same folder."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _add(self, summary: Any, step: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._file is None:
            earlier = _seconds(self._folder)
            if earlier and self._purge is None:
                self._purge = step
            # TensorBoard reads files in the order of their names.
            second = max([int(time.time()), *(other + 1 for other in earlier)])
            name = f"{EVENTS}.{second:010d}.{socket.gethostname()}.{os.getpid()}"
            self._file = AppendedFile(self._folder / name)
        events = [Event(summary=summary, step=step)]
        if self._file.empty():
            if self._purge is not None:
                again = SessionLog(status=SessionLog.START)
                events.insert(0, Event(session_log=again, step=self._purge))
            events.insert(0, Event(file_version="brain.Event:2"))
        content = io.BytesIO()
        for event in events:
            event.wall_time = time.time()
            RecordWriter(content).write(event.SerializeToString())
        self._file.append(content.getvalue())
        self._purge = None


def _seconds(folder: Path) -> list[int]:
    """Returns the second in which each file of events in a folder was begun, from its name."""
    names = (re.match(rf"{EVENTS}\.(\d+)\.", path.name) for path in folder.glob(f"{EVENTS}.*"))
    return [int(name[1]) for name in names if name]


def draw_spectrum(eigenvalues: np.ndarray) -> np.ndarray:
    """Draws eigenvalues, descending, as bars from 0 to the largest.

    Returns:
        (256, width, 3), uint8; all bars are equally wide.
    """
    bar = max(1, PIXELS // len(eigenvalues))
    heights = np.round(eigenvalues / eigenvalues.max() * PIXELS).astype(int)
    filled = np.arange(PIXELS)[::-1, None] < heights.repeat(bar)[None, :]
    return np.where(filled[..., None], [60, 120, 216], 255).astype(np.uint8)


def draw_correlation(correlation: np.ndarray) -> np.ndarray:
    """Draws |correlation| of the live channels, white for 0 and dark for 1, clustered.

    Args:
        correlation: (channels, channels); nan in the rows and columns of dead channels.

    Returns:
        (side, side, 3), uint8; all channels are equally wide.
    """
    live = ~np.isnan(np.diag(correlation))
    order = np.flatnonzero(live)[likeness_order(np.abs(correlation[np.ix_(live, live)]))]
    strength = np.abs(correlation[np.ix_(order, order)])[..., None]
    cell = max(1, PIXELS // len(order))
    colours: np.ndarray = 255 - strength * (255 - np.array([20, 40, 110]))
    image: np.ndarray = colours.round().astype(np.uint8).repeat(cell, axis=0).repeat(cell, axis=1)
    return image


def likeness_order(likeness: np.ndarray) -> list[int]:
    """Orders channels so that each is followed by the most similar one that is left.

    Args:
        likeness: (channels, channels), symmetric.

    Returns:
        Every channel once, duplicates next to each other.

    Example:
        >>> likeness_order(np.array([[1, 0, 1.0], [0, 1, 0], [1, 0, 1]]))
        [0, 2, 1]
    """
    order, left = [0], np.ones(len(likeness), bool)
    left[0] = False
    while left.any():
        row = np.where(left, likeness[order[-1]], -1.0)
        order.append(int(np.argmax(row)))
        left[order[-1]] = False
    return order


def _png(picture: np.ndarray) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "PNG")
    return stream.getvalue()
