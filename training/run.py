"""A run before its training: everything checked and built, and a folder for the results."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import keras

from monitoring import NASMonitorCallback
from monitoring.records.run_files import INT8_REFUSED, mark_folder
from training.compilation import compile_model
from training.data import draw_images
from training.distill import read_teacher
from training.losses import class_weights
from training.narrowing import narrowed_model
from training.network import Network, checked_network
from training.outputs import FOREGROUND, Outputs
from training.run_folder import (
    claim,
    has_checkpoint,
    not_writable,
    write_missing_config,
    write_missing_cost,
)
from training.settings import Config
from training.split import Splits
from training.splits import read_config_splits


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
        outputs: What `model` and `parent` put out.
        missing: What could not be written during the training; `fit` fills it.
    """

    config: Config
    splits: Splits
    model: keras.Model
    folder: Path
    monitor: NASMonitorCallback | None
    teacher: keras.Model | None = None
    parent: keras.Model | None = None
    outputs: Outputs = FOREGROUND
    missing: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        return _steps(self.config, self.splits)

    @property
    def epochs(self) -> int:
        """Epochs of the training; of a network that is narrowed in rounds, those of the last."""
        return self.config.round_epochs[-1]

    def is_refused(self) -> bool:
        """Returns whether the run's INT8 file was refused."""
        return (self.folder / INT8_REFUSED).is_file()


class Checked(NamedTuple):
    """What a configuration needs, after all checks that write nothing.

    Attributes:
        network: The network that it describes.
        teacher: The model whose answers are taught, or None.
        splits: Decoded images.
    """

    network: Network
    teacher: keras.Model | None
    splits: Splits


def check(config: Config, *, resume: bool, splits: Splits | None = None) -> Checked:
    """Checks all of a configuration but its output folder.

    Args:
        config: The configuration, every key set.
        resume: Whether the run may have begun, so that a network to narrow may keep to the
            budget.
        splits: The configuration's images, if they are decoded. Defaults to None.

    Raises:
        ValueError: As for `train`.
        OSError: As for `train`.
    """
    network, teacher = checked_network(config, may_fit=resume), None
    distillation = config.distillation
    if distillation.teacher is not None:
        teacher = read_teacher(
            distillation.teacher,
            network.model,
            distillation.teacher_outputs,
            network.outputs.classes,
        )
    splits = splits or read_config_splits(config)
    _class_weights(config, splits)
    return Checked(network, teacher, splits)


def prepare(
    config: Config,
    nas_callback: NASMonitorCallback | None = None,
    *,
    resume: bool = False,
    splits: Splits | None = None,
    verbose: int = 0,
) -> Run:
    """Checks everything that can fail, and then claims the run's folder.

    A network that is narrowed is cut after that, into the folder. If it is narrowed in rounds,
    this is the last of them; `training.prepared.prepared_runs` prepares all.

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
    network, teacher, splits = check(config, resume=resume, splits=splits)
    folder = claim(config, resume=resume)
    try:
        model = _model(network, config, splits, folder, verbose=verbose)
    except OSError as error:
        raise not_writable(folder, error) from error
    steps = config.round_epochs[-1] * _steps(config, splits)
    weights = _class_weights(config, splits)
    compile_model(model, config, steps=steps, outputs=network.outputs, weights=weights)
    monitor = nas_callback
    if monitor is None and config.nas.enabled:
        monitor = _monitor(config, splits, folder)
    parent = network.model if network.is_parent else None
    run = Run(config, splits, model, folder, monitor, teacher, parent, network.outputs)
    try:
        if not has_checkpoint(folder):  # else `fit` does it, if the checkpoint is one of ours
            write_missing_settings(run)
    except OSError as error:
        raise not_writable(folder, error) from error
    return run


def write_missing_settings(run: Run) -> None:
    """Writes the marker, config.yaml and cost.json into a run's own folder, unless they exist."""
    run.folder.mkdir(parents=True, exist_ok=True)
    mark_folder(run.folder)
    write_missing_config(run.folder, run.config)
    write_missing_cost(run.folder, run.model)


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
    write_missing_config(folder, config)  # a run that is killed from here on can be resumed
    return narrowed_model(network, config, splits, folder, verbose=verbose)


def _class_weights(config: Config, splits: Splits) -> tuple[float, ...] | None:
    """Returns a weight for each class, None for none; raises a ValueError if they do not fit."""
    classes = config.data.masks.classes
    return class_weights(config.training.class_weights, splits.train.counts, classes)


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
