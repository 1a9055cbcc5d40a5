"""A run's folder before the training: how it is claimed, resumed and described."""

from datetime import datetime
from pathlib import Path

import keras

from models.cost import model_cost
from monitoring.records.files import read_values, whole_file
from monitoring.records.run_files import (
    CHECKPOINT,
    CONFIG,
    COST,
    EVALUATION,
    LAST,
    PIPELINE_SETTINGS,
    claim_folder,
    claim_new_folder,
    clear_unfinished_run,
    expanded,
    is_marked,
)
from training.config import read_config, validate
from training.evaluate import write_values
from training.settings import Config

COSTS = ("parameters", "trainable", "macs", "weight_bytes", "peak_activation_bytes", "peak_layer")
RUNS = Path("runs")  # where folders without a name of the user's go


def read_resumed(folder: str | Path) -> Config | None:
    """Reads the configuration of a run that was stopped.

    Returns:
        The configuration, with the folder as its output; None if the run has finished.

    Raises:
        FileNotFoundError: The folder does not hold a run.
        ValueError: It holds a pipeline, or its configuration is damaged.
    """
    folder = expanded(folder)
    if (folder / PIPELINE_SETTINGS).is_file():
        raise ValueError(f"{folder} holds a pipeline: repeat its own command to resume it")
    settings = folder / CONFIG
    if not settings.is_file():
        reason = f"it has no {CONFIG}"
        if is_marked(folder):
            reason += f": it was stopped before it began; remove {folder} and start again"
        raise FileNotFoundError(f"{folder} is not a run of train.py: {reason}")
    if has_finished(folder):
        validate(read_values(settings), source=str(settings))
        return None
    return read_config(settings, {"output": {"folder": str(folder)}})


def has_finished(folder: Path) -> bool:
    """Returns whether a run's folder holds a run that has ended."""
    has_results = all((folder / name).is_file() for name in (CONFIG, EVALUATION))
    return has_results and not has_checkpoint(folder)


def has_checkpoint(folder: Path) -> bool:
    """Returns whether a run's folder holds a checkpoint."""
    return (folder / CHECKPOINT / LAST).is_file()


def claim(config: Config, *, resume: bool) -> Path:
    """Returns a folder that is this run's own.

    Raises:
        ValueError: It holds another run, or a run that cannot be resumed.
        OSError: It cannot be written.
    """
    folder = RUNS if config.output.folder is None else Path(config.output.folder)
    try:
        if config.output.folder is None:
            return claim_new_folder(RUNS, f"{config.model.name}-{datetime.now():%Y%m%d-%H%M%S}")
        if not resume or not folder.exists():
            claim_folder(folder)
        elif not has_checkpoint(folder):
            clear_unfinished_run(folder)
    except OSError as error:
        raise not_writable(folder, error) from error
    return folder


def not_writable(folder: Path, error: OSError) -> OSError:
    """Returns an error that names the output folder."""
    return OSError(f"Output folder {folder} cannot be written: {error.strerror}")


def write_missing_config(folder: Path, config: Config) -> None:
    """Writes a run's config.yaml, unless it exists.

    It does not name the folder, so that it can be given to --config again.
    """
    if not (folder / CONFIG).exists():
        output = config.output.model_copy(update={"folder": None})
        text = config.model_copy(update={"output": output}).to_yaml()
        with whole_file(folder / CONFIG) as draft:
            draft.write_text(text, encoding="utf-8")


def write_missing_cost(folder: Path, model: keras.Model) -> None:
    """Writes a run's cost.json, unless it exists."""
    if not (folder / COST).exists():
        cost = model_cost(model)
        write_values(folder / COST, {name: getattr(cost, name) for name in COSTS})
