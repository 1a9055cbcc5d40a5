"""The trainings of a search's networks, and how their INT8 files score on validation images."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from monitoring.records.run_files import MODEL
from training.config import read_config
from training.data import draw_images
from training.evaluate import write_values
from training.export.device_file import CALIBRATION_IMAGES
from training.fit import fit
from training.litert import convert, run
from training.model_files import load_model
from training.outputs import Outputs
from training.prepared import prepared_runs
from training.run_folder import has_finished
from training.search.candidates import Candidate
from training.search.locks import alone_in
from training.settings import Config
from training.split import Splits
from training.split_scores import score as split_score

SCORE = "score.json"
FRACTIONS = ((0.25, 1), (0.5, 2), (1.0, 3))  # of the epochs, and seeds, of each rung


@dataclass(frozen=True)
class Rung:
    """A step of the search: how long and how often a network is trained.

    Attributes:
        epochs: Of each training.
        seeds: One per training; no other rung has them.
    """

    epochs: int
    seeds: Sequence[int]


@dataclass(frozen=True)
class Score:
    """What a training has shown.

    Attributes:
        epochs: Its epochs.
        seed: Its seed.
        miou: Of the INT8 file, on validation images.
        file_bytes: Size of that file.
        seconds: Duration of training and conversion.
    """

    epochs: int
    seed: int
    miou: float
    file_bytes: int
    seconds: float


def rungs(epochs: int, seed: int) -> list[Rung]:
    """Returns the rungs of a search; each has seeds of its own.

    Example:
        >>> [(rung.epochs, list(rung.seeds)) for rung in rungs(60, 0)]
        [(15, [0]), (30, [1, 2]), (60, [3, 4, 5])]
    """
    steps, first = [], seed
    for fraction, count in FRACTIONS:
        seeds = range(first, first + count)
        steps.append(Rung(max(1, round(fraction * epochs)), seeds))
        first += count
    return steps


def run_folder(candidate: Candidate, epochs: int, seed: int) -> Path:
    """Returns the folder of a training."""
    return candidate.folder / f"epochs{epochs}-seed{seed}"


def trained_score(
    candidate: Candidate, config: Config, splits: Splits, epochs: int, seed: int
) -> Score:
    """Trains a network, and scores its INT8 file; what has been done is not done again.

    Raises:
        ValueError: It cannot be trained or converted.
        OSError: A file cannot be written.
    """
    folder = run_folder(candidate, epochs, seed)
    with alone_in(candidate.folder):
        if not (folder / SCORE).is_file():
            began = time.monotonic()
            if not has_finished(folder):
                training = run_config(candidate, config, epochs, seed)
                for each in prepared_runs(training, resume=True, splits=splits):
                    fit(each, verbose=0)
            model = load_model(folder / MODEL)
            content = convert(model, draw_images(splits.train, CALIBRATION_IMAGES, seed))
            outputs = Outputs(classes=config.data.masks.classes)
            scores, _ = split_score(splits.val, outputs, lambda part: run(content, part.inputs))
            miou = scores.evaluation.miou
            score = Score(epochs, seed, miou, len(content), time.monotonic() - began)
            write_values(folder / SCORE, asdict(score))
    return Score(**json.loads((folder / SCORE).read_text(encoding="utf-8")))


def run_config(candidate: Candidate, config: Config, epochs: int, seed: int) -> Config:
    """Returns the configuration of a training."""
    sections = {
        "data": config.data.model_dump(),
        "training": config.training.model_dump() | {"epochs": epochs, "seed": seed},
        "output": {"folder": str(run_folder(candidate, epochs, seed))},
    }
    if candidate.network is None:
        assert candidate.settings is not None
        sections["model"] = dict(candidate.settings)
    else:
        # It keeps to this budget already, so nothing more is cut.
        sections["narrow"] = {"parent": str(candidate.network), "macs": candidate.macs}
    return read_config(None, sections, origin="search")
