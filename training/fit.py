"""One training run, from a configuration to a folder of results."""

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import keras

from models import MODELS
from monitoring import NASMonitorCallback
from training.config import Config, read_config
from training.data import Splits, batches, draw_images, read_splits, training_batches
from training.evaluate import draw_predictions, evaluate, predict, write_evaluation
from training.files import whole_file
from training.synthetic import HEIGHT, WIDTH, synthetic_splits

RESULTS = ("config.yaml", "model.keras", "history.csv", "monitor.csv", "monitor.jsonl")


@dataclass(frozen=True)
class Run:
    """Everything checked and built, nothing trained yet.

    Attributes:
        config: Every key resolved.
        splits: Decoded images.
        model: Compiled.
        folder: Exists, and holds config.yaml.
        monitor: The callback that measures, or None.
    """

    config: Config
    splits: Splits
    model: keras.Model
    folder: Path
    monitor: NASMonitorCallback | None


def train(
    model_name: str | None = None,
    epochs: int | None = None,
    *,
    probes: Sequence[str] | None = None,
    data: str | Path | None = None,
    config: str | Path | None = None,
    batch_size: int | None = None,
    output: str | Path | None = None,
    seed: int | None = None,
    enable_nas_monitoring: bool = False,
    nas_config: Mapping | None = None,
    nas_callback: NASMonitorCallback | None = None,
    verbose: int = 1,
) -> tuple[keras.Model, keras.callbacks.History]:
    """Trains a network of the zoo, evaluates it, and writes a folder of results.

    What is not given comes from `config`, then from configs/<model>.yaml.

    Args:
        model_name: A key of `models.MODELS`. Defaults to None: `config`'s, else "nano_u".
        epochs: Times through the training split.
        probes: Drawn from "encoder", "bottleneck" and "decoder".
        data: Folder with {train,val,test}/{img,mask}/NAME.{png,jpg}. Defaults to None:
            `config`'s, else scenes that the project draws itself.
        config: A YAML file with what it changes. Defaults to None: none.
        batch_size: Images a step.
        output: Folder for the results. Defaults to None: runs/<model>-<date>-<time>.
        seed: Decides weights, order, augmentation and which images are monitored.
        enable_nas_monitoring: Measure the probes' channels at each epoch's end; without
            `probes` those of encoder and bottleneck. Defaults to False.
        nas_config: Keys of the configuration's section `nas`; turns monitoring on unless
            it says `enabled: False`. Defaults to None.
        nas_callback: A monitor to use as it is given. Defaults to None.
        verbose: 0 is silent, 1 a progress bar, 2 a line an epoch. Defaults to 1.

    Returns:
        The model with the weights of its best validation mIoU, and Keras' History.

    Raises:
        ValueError: A value is impossible, or an image cannot be used; the message says
            which. Nothing is written then.
        OSError: A file is not there, or the folder cannot be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> model, history = train("nano_u", epochs=1, output=folder, verbose=0)
        >>> sorted(history.history)
        ['loss', 'miou', 'val_loss', 'val_miou']
    """
    if nas_config is not None and nas_callback is not None:
        raise ValueError("Expected nas_config or nas_callback, not both.")
    nas: dict = {"enabled": True} if enable_nas_monitoring or nas_config is not None else {}
    sections = {
        "model": {"name": model_name, "probes": None if probes is None else tuple(probes)},
        "data": {"root": None if data is None else str(data)},
        "training": {"epochs": epochs, "batch_size": batch_size, "seed": seed},
        "nas": nas | dict(nas_config or {}),
        "output": {"folder": None if output is None else str(output)},
    }
    given = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in sections.items()
    }
    return fit(prepare(read_config(config, given), nas_callback), verbose=verbose)


def prepare(config: Config, nas_callback: NASMonitorCallback | None = None) -> Run:
    """Checks everything that can fail, and then makes the run's folder.

    Raises:
        ValueError: As `train`.
        OSError: As `train`.
    """
    if config.model.name not in MODELS:
        raise ValueError(f"Unknown model '{config.model.name}'. Known: {', '.join(MODELS)}.")
    if config.distillation.teacher is not None:
        raise ValueError("distillation.teacher: this version cannot distil yet; leave it out")
    keras.utils.set_random_seed(config.training.seed)
    model = _build(config)
    splits = _read(config)
    _compile(model, config, steps=config.training.epochs * _steps(config, splits))
    _check_unused(config)
    folder = _folder(config)
    monitor = nas_callback
    if monitor is None and config.nas.enabled:
        monitor = _monitor(config, splits, folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "config.yaml") as draft:
            draft.write_text(config.to_yaml(), encoding="utf-8")
    except OSError as error:
        raise OSError(f"Output folder {folder} cannot be written: {error.strerror}") from error
    return Run(config, splits, model, folder, monitor)


def fit(run: Run, *, verbose: int = 1) -> tuple[keras.Model, keras.callbacks.History]:
    """Trains, restores the best weights, evaluates, and writes the results.

    Returns:
        The model and Keras' History.
    """
    training, folder, model = run.config.training, run.folder, run.model
    best = folder / "checkpoint" / "best.weights.h5"
    start = time.perf_counter()
    try:
        history = model.fit(
            training_batches(
                run.splits.train,
                training.batch_size,
                epochs=training.epochs,
                seed=training.seed,
                augmentation=run.config.data.augmentation,
            ),
            validation_data=batches(run.splits.val, training.batch_size),
            epochs=training.epochs,
            steps_per_epoch=_steps(run.config, run.splits),
            callbacks=_callbacks(run, best),
            shuffle=False,  # the dataset is, by seed
            verbose=verbose,
        )
    finally:
        if run.monitor is not None:
            run.monitor.detach()
    training_seconds = time.perf_counter() - start
    model.load_weights(best)
    with whole_file(folder / "model.keras") as draft:
        model.save(draft)
    best.unlink()
    best.parent.rmdir()

    predicted = predict(model, run.splits.test, training.batch_size)
    evaluation = evaluate(predicted, run.splits.test.masks)
    draw_predictions(
        folder / "predictions.png", run.splits.test, predicted, run.config.output.predictions
    )
    write_evaluation(
        folder / "evaluation.json",
        evaluation,
        split="test",
        model=run.config.model.name,
        parameters=model.count_params(),
        training_seconds=training_seconds,
        monitoring_seconds=run.monitor.seconds if run.monitor else 0.0,
    )
    if verbose:
        print(
            f"test mIoU {evaluation.miou:.4f}, foreground IoU {evaluation.foreground_iou:.4f}, "
            f"F1 {evaluation.f1:.4f}, precision {evaluation.precision:.4f}, "
            f"recall {evaluation.recall:.4f} ({evaluation.images} images)"
        )
        print(f"Results are in {folder}")
    return model, history


def _build(config: Config) -> keras.Model:
    settings = config.model
    widths = {
        name: value
        for name, value in (("filters", settings.filters), ("bottleneck", settings.bottleneck))
        if value is not None
    }
    shape = (*settings.input_size, 3)
    return MODELS[settings.name](shape, enable_probes=settings.probes, **widths)


def _read(config: Config) -> Splits:
    size = config.model.input_size
    if config.data.root is not None:
        return read_splits(config.data.root, size)
    if size != (HEIGHT, WIDTH):
        raise ValueError(
            f"model.input_size: the embedded scenes are {HEIGHT}x{WIDTH}; other sizes need "
            f"data.root (--data). Received: {size[0]}x{size[1]}"
        )
    return synthetic_splits(config.training.seed)


def _steps(config: Config, splits: Splits) -> int:
    """Returns the optimizer steps of an epoch."""
    return -(-len(splits.train) // config.training.batch_size)


def _compile(model: keras.Model, config: Config, *, steps: int) -> None:
    """Sets loss on logits, AdamW, and mIoU pooled over both classes."""
    training = config.training
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    model.compile(
        keras.optimizers.AdamW(rate, weight_decay=training.weight_decay),
        keras.losses.BinaryCrossentropy(from_logits=True),
        # A logit of 0 is a probability of 0.5.
        metrics=[keras.metrics.BinaryIoU(target_class_ids=[0, 1], threshold=0.0, name="miou")],
    )


def _check_unused(config: Config) -> None:
    """Refuses settings of `nas` that this version would leave without effect."""
    nas = config.nas
    if nas.enabled and nas.monitor_images == 0:
        raise ValueError("nas.monitor_images: 0 needs the training-step tap, not there yet")
    if nas.monitor_frequency == "batch":
        raise ValueError("nas.monitor_frequency: only 'epoch' yet. Received: 'batch'")
    if nas.redundancy_weight or nas.redundancy_warmup:
        raise ValueError("nas.redundancy_weight, nas.redundancy_warmup: not there yet, set 0")


def _monitor(config: Config, splits: Splits, folder: Path) -> NASMonitorCallback:
    nas = config.nas
    return NASMonitorCallback(
        draw_images(splits.val, nas.monitor_images, config.training.seed),
        nas.probe_layers,
        nas.monitor_frequency,
        nas.log_frequency,
        nas.redundancy_weight,
        folder,
    )


def _callbacks(run: Run, best: Path) -> list[keras.callbacks.Callback]:
    """Returns the callbacks, the monitor first: the others read the logs that it fills."""
    training = run.config.training
    callbacks: list = [] if run.monitor is None else [run.monitor]
    if training.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                factor=training.plateau_factor,
                patience=training.plateau_patience,
                min_lr=training.minimum_learning_rate,
            )
        )
    best.parent.mkdir(exist_ok=True)
    callbacks.append(
        keras.callbacks.ModelCheckpoint(
            best, monitor="val_miou", mode="max", save_best_only=True, save_weights_only=True
        )
    )
    if training.early_stopping_patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor="val_miou", mode="max", patience=training.early_stopping_patience
            )
        )
    return [*callbacks, keras.callbacks.CSVLogger(run.folder / "history.csv")]


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
