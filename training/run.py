"""A run before its training: everything checked and built, and a folder for the results."""

import importlib.util
import itertools
import shutil
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import keras

from models import MODELS, quantization_aware
from monitoring import NASMonitorCallback
from monitoring.records.files import whole_file
from monitoring.taps.watched import Watched
from training.checkpoint import LAST
from training.config import Config, read_config
from training.data import draw_images
from training.distill import DistillationLoss, MaskIoU, read_teacher
from training.images import Splits, read_splits
from training.synthetic import HEIGHT, WIDTH, synthetic_splits

# A logit of 0 is a probability of 0.5.
METRIC: dict[str, Any] = {"target_class_ids": [0, 1], "threshold": 0.0, "name": "miou"}
RESULTS = (
    *("config.yaml", "checkpoint", "model.keras", "history.csv", "evaluation.json"),
    *("predictions.png", "monitor.csv", "monitor.jsonl", "tensorboard", "arrays"),
    *("window", "teacher", "report.html", "advice.json", "advised.yaml", "export.json"),
    *("model_int8.tflite", "model_int8.refused.tflite", "model_int8.h"),
)


@dataclass(frozen=True)
class Run:
    """Everything checked and built, nothing trained yet.

    Attributes:
        config: Every key resolved.
        splits: Decoded images.
        model: Compiled.
        folder: Exists, and holds config.yaml.
        monitor: The callback that measures, or None.
        teacher: Whose answers the model is taught, or None.
        missing: What could not be written while training; `fit` fills it.
    """

    config: Config
    splits: Splits
    model: keras.Model
    folder: Path
    monitor: NASMonitorCallback | None
    teacher: keras.Model | None = None
    missing: list[str] = field(default_factory=list)

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        return _steps(self.config, self.splits)


def read_resumed(folder: str | Path) -> Config | None:
    """Reads the configuration of a run that was stopped.

    Returns:
        The configuration, with the folder as its output; None where the run has finished.

    Raises:
        FileNotFoundError: The folder is no run's.
        ValueError: It holds a pipeline, or its configuration is damaged.
    """
    folder = Path(folder)
    if (folder / "pipeline.yaml").is_file():
        raise ValueError(f"{folder} holds a pipeline: give its own command again, and it goes on")
    settings = folder / "config.yaml"
    if not settings.is_file():
        raise FileNotFoundError(f"{folder} is no run of train.py: config.yaml is not there")
    config = read_config(settings, {"output": {"folder": str(folder)}})
    if (folder / "evaluation.json").is_file() and not (folder / "checkpoint" / LAST).is_file():
        return None
    return config


def prepare(
    config: Config, nas_callback: NASMonitorCallback | None = None, *, resume: bool = False
) -> Run:
    """Checks everything that can fail, and then makes the run's folder.

    Args:
        config: Every key resolved.
        nas_callback: A monitor to use as it is given. Defaults to None: the configuration's.
        resume: Whether the output folder may hold this run already, and is gone on with.
            Defaults to False.

    Raises:
        ValueError: As `train`.
        OSError: As `train`.
    """
    if config.model.name not in MODELS:
        raise ValueError(f"Unknown model '{config.model.name}'. Known: {', '.join(MODELS)}.")
    if config.export.format is not None and importlib.util.find_spec("ai_edge_litert") is None:
        raise ValueError("export.format: int8 needs ai-edge-litert: pip install 'probe-zoo[edge]'")
    nas, epochs = config.nas, config.training.epochs
    if nas.enabled and nas.monitor_frequency == "epoch" and nas.log_frequency > epochs:
        raise ValueError(
            "nas.log_frequency: nothing would be measured. Received: "
            f"{nas.log_frequency} epochs of {epochs}"
        )
    stops = config.training.early_stopping_patience is not None
    if stops and config.training.early_stopping_monitor == "redundancy":
        if not nas.enabled or (nas.monitor_frequency == "epoch" and nas.log_frequency > 1):
            raise ValueError(
                "training.early_stopping_monitor: redundancy needs nas.enabled and "
                "nas.log_frequency of 1: an epoch that is not measured counts as no progress"
            )
    keras.utils.set_random_seed(config.training.seed)
    model = build(config)
    teacher = None
    if config.distillation.teacher is not None:
        teacher = read_teacher(config.distillation.teacher, model)
    splits = _read(config)
    _compile(model, config, steps=config.training.epochs * _steps(config, splits))
    folder = _resumed_folder(config) if resume else _folder(config)
    if config.nas.probe_layers is not None:
        Watched(model, config.nas.probe_layers)
    monitor = nas_callback
    if monitor is None and config.nas.enabled:
        monitor = _monitor(config, splits, folder)
    try:
        write_settings(config, folder)
    except OSError as error:
        raise OSError(f"Output folder {folder} cannot be written: {error.strerror}") from error
    return Run(config, splits, model, folder, monitor, teacher)


def write_settings(config: Config, folder: Path) -> None:
    """Writes config.yaml, without the folder, so that it can be given to --config again."""
    folder.mkdir(parents=True, exist_ok=True)
    output = config.output.model_copy(update={"folder": None})
    with whole_file(folder / "config.yaml") as draft:
        draft.write_text(config.model_copy(update={"output": output}).to_yaml(), encoding="utf-8")


def build(config: Config) -> keras.Model:
    """Builds the network that a configuration describes.

    Raises:
        ValueError: Its widths or its input size are impossible, or it cannot be trained
            quantisation-aware.
    """
    settings = config.model
    widths: dict[str, Any] = {
        name: value
        for name, value in (("filters", settings.filters), ("bottleneck", settings.bottleneck))
        if value is not None
    }
    shape = (*settings.input_size, 3)
    model = MODELS[settings.name](shape, enable_probes=settings.probes, **widths)
    return quantization_aware(model) if config.training.quantization_aware else model


def _read(config: Config) -> Splits:
    size = config.model.input_size
    if config.data.root is not None:
        return read_splits(config.data.root, size, config.data.ignore_value)
    if size != (HEIGHT, WIDTH):
        raise ValueError(
            f"model.input_size: the embedded scenes are {HEIGHT}x{WIDTH}; other sizes need "
            f"data.root (--data). Received: {size[0]}x{size[1]}"
        )
    return synthetic_splits()


def _steps(config: Config, splits: Splits) -> int:
    """Returns the optimizer steps of an epoch."""
    return -(-len(splits.train) // config.training.batch_size)


def _compile(model: keras.Model, config: Config, *, steps: int) -> None:
    """Sets loss on logits, AdamW, and mIoU pooled over both classes."""
    training = config.training
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    compile_for_masks(model, keras.optimizers.AdamW(rate, weight_decay=training.weight_decay))
    settings = config.distillation
    if settings.teacher is not None:
        model.compile(
            model.optimizer,
            DistillationLoss(settings.alpha, settings.temperature),
            weighted_metrics=[MaskIoU(**METRIC)],
        )


def compile_for_masks(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Sets the loss on logits and the metric of a network that is given masks alone."""
    # The mean is over pixels that count; without weights all of them do.
    loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile(optimizer, loss, weighted_metrics=[keras.metrics.BinaryIoU(**METRIC)])
    # TensorFlow traces a step that makes variables twice, and takes twice as long to start.
    optimizer.build(model.trainable_variables)


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


def _resumed_folder(config: Config) -> Path:
    """Returns the run's own folder; without a checkpoint nothing but its settings is left in it."""
    folder = Path(str(config.output.folder))
    if not (folder / "checkpoint" / LAST).is_file():
        for name in set(RESULTS) - {"config.yaml"}:
            path = folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
    return folder


def _folder(config: Config) -> Path:
    """Returns a folder that holds no run yet."""
    if config.output.folder is not None:
        folder = Path(config.output.folder)
        for name in RESULTS:
            if (folder / name).exists():
                raise ValueError(
                    f"Output folder {folder} holds another run ({name}). Choose another one."
                )
        return folder
    stamp = f"{config.model.name}-{datetime.now():%Y%m%d-%H%M%S}"
    names = (f"{stamp}-{number}" if number else stamp for number in itertools.count())
    return next(Path("runs") / name for name in names if not (Path("runs") / name).exists())
