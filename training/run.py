"""A run before its training: everything checked and built, and a folder for the results."""

from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import keras

from models.cost import model_cost
from monitoring import NASMonitorCallback
from monitoring.records.files import read_values, whole_file
from monitoring.records.run_files import (
    CHECKPOINT,
    CONFIG,
    COST,
    EVALUATION,
    INT8_REFUSED,
    LAST,
    PIPELINE_SETTINGS,
    claim_folder,
    claim_new_folder,
    clear_unfinished_run,
    expanded,
    is_marked,
    mark_folder,
)
from training.compilation import compile_model
from training.config import read_config, validate
from training.data import draw_images
from training.distill import read_teacher
from training.evaluate import write_values
from training.images import Splits
from training.narrowing import narrowed_model
from training.network import Network, checked_network
from training.output_kind import LOGITS
from training.settings import Config
from training.splits import read_config_splits

COSTS = ("parameters", "trainable", "macs", "weight_bytes", "peak_activation_bytes", "peak_layer")
RUNS = Path("runs")  # where folders without a name of the user's go


@dataclass(frozen=True)
class Run:
    """Everything checked and built, nothing trained yet.

    Attributes:
        config: The configuration, every key set.
        splits: Decoded images.
        model: Compiled.
        folder: This run's own; it holds config.yaml and cost.json.
        monitor: The callback that measures, or None.
        teacher: The model whose answers are taught, or None.
        parent: The model that `model` was cut out of, or None.
        outputs: What `model` and `parent` put out, "logits" or "probabilities".
        missing: What could not be written during the training; `fit` fills it.
    """

    config: Config
    splits: Splits
    model: keras.Model
    folder: Path
    monitor: NASMonitorCallback | None
    teacher: keras.Model | None = None
    parent: keras.Model | None = None
    outputs: str = LOGITS
    missing: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return _steps(self.config, self.splits)

    def is_refused(self) -> bool:
        """Returns whether the run's INT8 file was refused."""
        return (self.folder / INT8_REFUSED).is_file()


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
    if (folder / EVALUATION).is_file() and not has_checkpoint(folder):
        validate(read_values(settings), source=str(settings))
        return None
    return read_config(settings, {"output": {"folder": str(folder)}})


def has_checkpoint(folder: Path) -> bool:
    """Returns whether a run's folder holds a checkpoint."""
    return (folder / CHECKPOINT / LAST).is_file()


def prepare(
    config: Config,
    nas_callback: NASMonitorCallback | None = None,
    *,
    resume: bool = False,
    splits: Splits | None = None,
    verbose: int = 0,
) -> Run:
    """Checks everything that can fail, and then claims the run's folder.

    A network that is narrowed is cut after that, into the folder.

    Args:
        config: The configuration, every key set.
        nas_callback: A monitor to use as it is. Defaults to None: the configuration's.
        resume: Whether the output folder may hold this run already, which is then resumed.
            Defaults to False.
        splits: The configuration's images, if they are decoded. Defaults to None.
        verbose: 0 is silent, else what is cut is printed. Defaults to 0.

    Raises:
        ValueError: As for `train`.
        OSError: As for `train`.
    """
    keras.utils.set_random_seed(config.training.seed)
    network = checked_network(config)
    teacher = None
    distillation = config.distillation
    if distillation.teacher is not None:
        teacher = read_teacher(distillation.teacher, network.model, distillation.teacher_outputs)
    splits = splits or read_config_splits(config)
    folder = _claim(config, resume=resume)
    try:
        model = _model(network, config, splits, folder, verbose=verbose)
    except OSError as error:
        raise _not_writable(folder, error) from error
    steps = config.training.epochs * _steps(config, splits)
    compile_model(model, config, steps=steps, outputs=network.outputs)
    monitor = nas_callback
    if monitor is None and config.nas.enabled:
        monitor = _monitor(config, splits, folder)
    parent = network.model if network.is_parent else None
    run = Run(config, splits, model, folder, monitor, teacher, parent, network.outputs)
    try:
        if not has_checkpoint(folder):  # else `fit` does it, if the checkpoint is one of ours
            write_missing_settings(run)
    except OSError as error:
        raise _not_writable(folder, error) from error
    return run


def write_missing_settings(run: Run) -> None:
    """Writes the marker, config.yaml and cost.json into a run's own folder, unless they exist.

    config.yaml does not name the folder, so that it can be given to --config again.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    mark_folder(run.folder)
    _write_missing_config(run.folder, run.config)
    write_missing_cost(run.folder, run.model)


def _write_missing_config(folder: Path, config: Config) -> None:
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


def _model(
    network: Network, config: Config, splits: Splits, folder: Path, *, verbose: int
) -> keras.Model:
    """Returns the network to train; one that is narrowed is cut, unless the folder holds it.

    Raises:
        ValueError: It cannot be narrowed to its budget.
        OSError: The folder cannot be written.
    """
    if not network.is_parent:
        return network.model
    _write_missing_config(folder, config)  # a run that is killed from here on can be resumed
    return narrowed_model(network, config, splits, folder, verbose=verbose)


def _steps(config: Config, splits: Splits) -> int:
    """Returns the optimizer steps per epoch."""
    return -(-len(splits.train) // config.training.batch_size)


def _monitor(config: Config, splits: Splits, folder: Path) -> NASMonitorCallback:
    nas, images = config.nas, None
    if nas.monitor_images:
        images = draw_images(splits.val, nas.monitor_images, config.training.seed)
    return NASMonitorCallback(
        images,
        nas.probe_layers,
        nas.monitor_frequency,
        nas.log_frequency,
        nas.redundancy_weight,
        folder,
        redundancy_warmup=nas.redundancy_warmup,
        max_positions=nas.max_positions,
    )


def _claim(config: Config, *, resume: bool) -> Path:
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
        raise _not_writable(folder, error) from error
    return folder


def _not_writable(folder: Path, error: OSError) -> OSError:
    return OSError(f"Output folder {folder} cannot be written: {error.strerror}")
