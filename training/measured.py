"""One measurement of a model on given images, kept in a folder as a run's records are."""

from collections.abc import Sequence
from pathlib import Path

import keras

from models import probe_names
from monitoring.loggers.arrays import ArraysLogger
from monitoring.loggers.lines import CsvLogger, JsonLinesLogger
from monitoring.loggers.protocol import RecordLogger
from monitoring.records.measurement import Measurement, summarise
from monitoring.records.record import ProbeRecord, ProbeSnapshot
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.watched import Watched


def keep(pairs: Sequence[tuple[ProbeRecord, ProbeSnapshot]], folder: Path) -> None:
    """Writes monitor.csv, monitor.jsonl and arrays/ into a folder."""
    loggers: list[RecordLogger] = [
        CsvLogger(folder / "monitor.csv"),
        JsonLinesLogger(folder / "monitor.jsonl"),
        ArraysLogger(folder / "arrays"),
    ]
    for logger in loggers:
        for record, snapshot in pairs:
            logger.write(record, snapshot)
        logger.close()


def measure_probes(
    model: keras.Model, images, folder: Path, max_positions: int | None
) -> list[ProbeRecord]:
    """Measures a model's probes on images, and keeps what is found; nothing without probes.

    Args:
        model: With probes or without.
        images: As it takes them.
        folder: Where to write; made if there is anything to write.
        max_positions: Of an image, at most; None: all.

    Returns:
        A record a probe.
    """
    names = probe_names(model)
    if not names:
        return []
    measured = ImagesTap(Watched(model, names, None, max_positions)).measure(images)
    pairs = [summarise(Measurement(g, name, "images", 0, 0)) for name, g in measured.items()]
    folder.mkdir(parents=True, exist_ok=True)
    keep(pairs, folder)
    return [record for record, _ in pairs]
