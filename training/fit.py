"""One training run, from a configuration to a folder of results."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import keras
import numpy as np

from models.cost import model_cost
from models.quantization import StartRounding
from monitoring import NASMonitorCallback
from monitoring.records.files import DamagedFileError, Unwritten, whole_file, whole_lines
from monitoring.records.reading import read_history
from training.checkpoint import Checkpoint, HistoryLog
from training.commands import report_on
from training.config import read_config
from training.data import batches, draw_images, training_batches
from training.distill import Answers
from training.evaluate import (
    draw_predictions,
    evaluate,
    image_ious,
    logits,
    spread,
    sweep,
    write_evaluation,
)
from training.export import export, summary
from training.images import IGNORED
from training.measured import measure_probes
from training.projection_check import load
from training.run import Run, compile_for_masks, prepare, read_resumed, write_settings


def train(
    model_name: str | None = None,
    epochs: int | None = None,
    *,
    probes: Sequence[str] | None = None,
    data: str | Path | None = None,
    config: str | Path | None = None,
    batch_size: int | None = None,
    distill_from: str | Path | None = None,
    quantization_aware: bool | None = None,
    export_format: str | None = None,
    output: str | Path | None = None,
    seed: int | None = None,
    enable_nas_monitoring: bool = False,
    nas_config: Mapping | None = None,
    nas_callback: NASMonitorCallback | None = None,
    resume: str | Path | None = None,
    verbose: int = 1,
) -> tuple[keras.Model, keras.callbacks.History]:
    """Trains a network of the zoo, evaluates it, and writes a folder of results.

    What is not given comes from `config`, then from configs/<model>.yaml.

    Args:
        model_name: A key of `models.MODELS`. Defaults to None: `config`'s, else "nano_u".
        epochs: Times through the training split.
        probes: Drawn from "encoder", "bottleneck" and "decoder"; built, and measured where
            monitoring is on.
        data: Folder with {train,val,test}/{img,mask}/NAME.{png,jpg}. Defaults to None:
            `config`'s, else scenes that the project draws itself.
        config: A YAML file with what it changes. Defaults to None: none.
        batch_size: Images a step.
        distill_from: A teacher's run folder or .keras file, of the same input and output.
            Defaults to None: `config`'s, else none.
        quantization_aware: Round weights and activations as INT8 will, nano_u only. Defaults
            to None: `config`'s, else False.
        export_format: "int8" for a file for microcontrollers, model_int8.tflite. Defaults to
            None: `config`'s, else none.
        output: Folder for the results. Defaults to None: runs/<model>-<date>-<time>.
        seed: Decides weights, order, augmentation and which images are monitored.
        enable_nas_monitoring: Measure the probes' channels at each epoch's end; without
            `probes` those of encoder and bottleneck. Defaults to False.
        nas_config: Keys of the configuration's section `nas`; turns monitoring on unless
            it says `enabled: False`. Defaults to None.
        nas_callback: A monitor to use as it is given. Defaults to None.
        resume: Folder of a run that was stopped: goes on with it, with its own settings, to
            what it would have been. Nothing else but `nas_callback` and `verbose` may be
            given. Defaults to None.
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
    if resume is not None:
        settings = (model_name, epochs, probes, data, config, batch_size, distill_from)
        more = (quantization_aware, export_format, output, seed, enable_nas_monitoring or None)
        if any(value is not None for value in (*settings, *more, nas_config)):
            raise ValueError("resume goes on with the run's own settings: give nothing else")
        found = read_resumed(resume)
        if found is not None:
            return fit(prepare(found, nas_callback, resume=True), verbose=verbose)
        history = keras.callbacks.History()
        history.history = _without_epoch(read_history(Path(resume) / "history.csv"))
        return load(Path(resume) / "model.keras"), history
    if nas_config is not None and nas_callback is not None:
        raise ValueError("Expected nas_config or nas_callback, not both.")
    monitored = enable_nas_monitoring or nas_config is not None or nas_callback is not None
    nas: dict = {"enabled": True} if monitored else {}
    sections: dict[str, dict] = {
        "model": {"name": model_name, "probes": probes},
        "data": {"root": None if data is None else str(data)},
        "training": {
            **{"epochs": epochs, "batch_size": batch_size, "seed": seed},
            "quantization_aware": quantization_aware,
        },
        "distillation": {"teacher": None if distill_from is None else str(distill_from)},
        "export": {"format": export_format},
        "nas": nas | dict(nas_config or {}),
        "output": {"folder": None if output is None else str(output)},
    }
    given = {
        section: {key: value for key, value in values.items() if value is not None}
        for section, values in sections.items()
    }
    resolved = read_config(config, given, origin="train()")
    return fit(prepare(resolved, nas_callback), verbose=verbose)


def fit(run: Run, *, verbose: int = 1) -> tuple[keras.Model, keras.callbacks.History]:
    """Trains, restores the best weights, evaluates, and writes the results.

    Returns:
        The model and Keras' History.
    """
    training, folder, model = run.config.training, run.folder, run.model
    stateful = _stateful(run)
    unwritten = run.monitor.unwritten if run.monitor else Unwritten()
    checkpoint = Checkpoint(folder / "checkpoint", stateful, run.monitor, unwritten)
    first = checkpoint.restore(model)
    earlier = _kept_history(folder / "history.csv", first)
    history = keras.callbacks.History()
    if not checkpoint.ended:
        answers, checked = _answers(run)
        log = HistoryLog(folder / "history.csv", first > 0, unwritten)
        # The monitor comes first: the others read the logs that it fills.
        watching = [] if run.monitor is None else [run.monitor]
        try:
            history = model.fit(
                training_batches(
                    run.splits.train,
                    training.batch_size,
                    first=first,
                    epochs=training.epochs,
                    seed=training.seed,
                    augmentation=run.config.data.augmentation,
                    answers=answers,
                ),
                validation_data=batches(run.splits.val, training.batch_size, checked),
                initial_epoch=first,
                epochs=training.epochs,
                steps_per_epoch=run.steps,
                callbacks=[*watching, *stateful, log, *_drained(run), checkpoint],
                shuffle=False,  # the dataset is, by seed
                verbose=verbose,
            )
        finally:
            if run.monitor is not None:
                run.monitor.detach()
            log.on_train_end()
        run.missing.extend(unwritten)
    if not (folder / "config.yaml").exists():  # somebody has removed it
        write_settings(run.config, folder)
    for name, values in earlier.items():
        history.history[name] = values + history.history.get(name, [])
    training_seconds = checkpoint.seconds
    estimate = run.monitor.step_seconds() if run.monitor else 0.0
    # Of the epochs before a kill as of those after it.
    estimate *= checkpoint.epoch / max(checkpoint.epoch - first, 1)
    checkpoint.load_best(model)
    if run.teacher is not None:
        compile_for_masks(model, model.optimizer)  # what is saved is the student alone
    with whole_file(folder / "model.keras") as draft:
        model.save(draft)

    scores, masks = logits(model, run.splits.test, training.batch_size), run.splits.test.masks
    predicted = scores >= 0
    evaluation = evaluate(predicted, masks)
    draw_predictions(
        folder / "predictions.png", run.splits.test, predicted, run.config.output.predictions
    )
    write_evaluation(
        folder / "evaluation.json",
        evaluation,
        split="test",
        model=run.config.model.name,
        parameters=model_cost(model).parameters,
        training_seconds=training_seconds,
        monitoring_seconds=checkpoint.monitoring_seconds + estimate,
        monitoring_seconds_estimated=estimate,
        per_image_iou=spread(image_ious(predicted, masks)),
        sweep=sweep(scores, masks),
        **_ignored(masks),
    )
    if run.teacher is not None and run.monitor is not None and run.config.nas.monitor_images:
        shutil.rmtree(folder / "teacher", ignore_errors=True)  # of a run that was killed
        images = draw_images(run.splits.val, run.config.nas.monitor_images, training.seed)
        positions = run.config.nas.max_positions
        if not measure_probes(run.teacher, images, folder / "teacher", positions) and verbose:
            print("teacher: has no probes, so nothing of it stands beside the student's")
    if verbose:
        print(
            f"test mIoU {evaluation.miou:.4f}, foreground IoU {evaluation.foreground_iou:.4f}, "
            f"F1 {evaluation.f1:.4f}, precision {evaluation.precision:.4f}, "
            f"recall {evaluation.recall:.4f} ({evaluation.images} images)"
        )
    if run.config.export.format is not None:
        settings = run.config.export
        found = export(
            model,
            run.splits,
            folder,
            name=run.config.model.name,
            seed=training.seed,
            tolerance=settings.tolerance,
            header=settings.header,
        )
        if verbose or found.refused:
            print(summary(found))
    if (folder / "monitor.jsonl").is_file():
        report_on(folder)
    checkpoint.remove()
    if verbose:
        print(f"Results are in {folder}")
    return model, history


def _ignored(masks: np.ndarray) -> dict[str, float]:
    """Returns the share of pixels that are not scored, where there are any."""
    share = float((masks == IGNORED).mean())
    return {"ignored_share": share} if share else {}


def _answers(run: Run) -> tuple[Answers | None, Answers | None]:
    """Returns the teacher's answers for training and validation images."""
    if run.teacher is None:
        return None, None
    fixed = run.config.data.augmentation.none
    return (
        Answers(run.teacher, run.splits.train, fixed=fixed),
        Answers(run.teacher, run.splits.val, fixed=True),
    )


def _stateful(run: Run) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that count epochs."""
    training = run.config.training
    callbacks: list = []
    if training.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                factor=training.plateau_factor,
                patience=training.plateau_patience,
                min_lr=training.minimum_learning_rate,
            )
        )
    if training.quantization_aware:
        callbacks.append(StartRounding(int(training.quantization_start * training.epochs)))
    if training.early_stopping_patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor=training.early_stopping_monitor,
                mode="max" if training.early_stopping_monitor == "val_miou" else "min",
                patience=training.early_stopping_patience,
            )
        )
    return callbacks


def _drained(run: Run) -> list[keras.callbacks.Callback]:
    """Returns a callback that has the monitor's files written before the checkpoint is."""
    monitor = run.monitor
    if monitor is None:
        return []
    return [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: monitor.drain())]


def _kept_history(path: Path, first: int) -> dict[str, list[float]]:
    """Drops an epoch and later ones from Keras' log, and returns what is left of it."""
    if not first:
        return {}
    try:
        lines = whole_lines(path)
        kept = [line for line in lines if line[0] == "e" or int(line.split(",")[0]) < first]
    except ValueError as error:
        raise DamagedFileError(f"{path} is no log of Keras: {error}") from None
    with whole_file(path) as draft:
        draft.write_text("".join(kept), encoding="utf-8", newline="")
    return _without_epoch(read_history(path))


def _without_epoch(columns: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: values for name, values in columns.items() if name != "epoch"}
