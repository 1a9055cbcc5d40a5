"""One training: from a run that is prepared to a trained network."""

from collections.abc import Sequence

import keras

from models.quantization import StartRounding
from monitoring import NASMonitorCallback
from monitoring.records.files import WriteFailures
from monitoring.records.reading import read_checked
from monitoring.records.run_files import CHECKPOINT, EVALUATION, HISTORY
from monitoring.report.sections import one_class_warning
from training.checkpoint import Checkpoint
from training.compilation import compile_for_masks
from training.data import batches, training_batches
from training.distill import Answers
from training.history import HistoryLog, keep_epochs
from training.results import Durations, write_results
from training.run import Run, write_missing_settings
from training.split import class_shares


def fit(run: Run, *, verbose: int = 1) -> tuple[keras.Model, keras.callbacks.History]:
    """Trains, restores the best weights, evaluates, and writes the results.

    Args:
        run: As `prepare` returns it; a run that was stopped continues with its checkpoint.
        verbose: 0 is silent, 1 a progress bar, 2 one line per epoch. Defaults to 1.

    Returns:
        The model and Keras' History, which includes the epochs before a stop.

    Raises:
        DamagedFileError: A file of the stopped run is damaged.
        OSError: A result cannot be written.
    """
    monitor, model = run.monitor, run.model
    if verbose:
        print(class_shares(run.splits, run.outputs.classes))
    stateful = _stateful_callbacks(run)
    failures = WriteFailures() if monitor is None else monitor.write_failures
    checkpoint = Checkpoint(run.folder / CHECKPOINT, stateful, monitor, failures)
    first = checkpoint.restore(model)
    write_missing_settings(run)
    earlier = keep_epochs(run.folder / HISTORY, first)
    history = keras.callbacks.History()
    if not checkpoint.ended:
        log = HistoryLog(run.folder / HISTORY, first > 0, failures)
        # The monitor comes first: the others read the logs that it fills.
        watching = [] if monitor is None else [monitor]
        callbacks = [*watching, *stateful, log, *_drain(monitor), checkpoint]
        try:
            history = _fit_model(run, first, callbacks, verbose)
        finally:
            if monitor is not None:
                monitor.detach()
            log.on_train_end()
        run.missing.extend(failures)
    write_missing_settings(run)  # the folder may have been removed during the training
    for name, values in earlier.items():
        history.history[name] = values + history.history.get(name, [])
    estimate = monitor.step_seconds() if monitor else 0.0
    # Scaled to all epochs, those before a stop included.
    estimate *= checkpoint.epoch / max(checkpoint.epoch - first, 1)
    durations = Durations(checkpoint.seconds, checkpoint.monitoring_seconds + estimate, estimate)
    checkpoint.load_best(model)
    if run.teacher is not None:
        compile_for_masks(model, model.optimizer, outputs=run.outputs)  # only the student is saved
    write_results(run, durations, verbose=verbose)
    checkpoint.remove()
    if verbose:
        print(f"Results are in {run.folder}")
        warning = one_class_warning(read_checked(run.folder / EVALUATION))
        if warning:
            print(warning)
    return model, history


def _fit_model(
    run: Run, first: int, callbacks: Sequence[keras.callbacks.Callback], verbose: int
) -> keras.callbacks.History:
    """Trains from the epoch `first` to the last."""
    training = run.config.training
    training_answers, validation_answers = _answers(run)
    return run.model.fit(
        training_batches(
            run.splits.train,
            training.batch_size,
            first=first,
            epochs=run.epochs,
            seed=training.seed,
            augmentation=run.config.data.augmentation,
            answers=training_answers,
        ),
        validation_data=batches(run.splits.val, training.batch_size, validation_answers),
        initial_epoch=first,
        epochs=run.epochs,
        steps_per_epoch=run.steps,
        callbacks=list(callbacks),
        shuffle=False,  # the dataset shuffles, by seed
        verbose=verbose,
    )


def _answers(run: Run) -> tuple[Answers | None, Answers | None]:
    """Returns the teacher's answers for training and validation images."""
    if run.teacher is None:
        return None, None
    fixed = run.config.data.augmentation.none
    return (
        Answers(run.teacher, run.splits.train, fixed=fixed),
        Answers(run.teacher, run.splits.val, fixed=True),
    )


def _stateful_callbacks(run: Run) -> list[keras.callbacks.Callback]:
    """Returns the callbacks that count epochs."""
    training = run.config.training
    callbacks: list[keras.callbacks.Callback] = []
    if training.schedule == "plateau":
        callbacks.append(
            keras.callbacks.ReduceLROnPlateau(
                factor=training.plateau_factor,
                patience=training.plateau_patience,
                min_lr=training.minimum_learning_rate,
            )
        )
    if training.quantization_aware:
        callbacks.append(StartRounding(int(training.quantization_start * run.epochs)))
    if training.early_stopping_patience is not None:
        callbacks.append(
            keras.callbacks.EarlyStopping(
                monitor=training.early_stopping_monitor,
                mode="max" if training.early_stopping_monitor == "val_miou" else "min",
                patience=training.early_stopping_patience,
            )
        )
    return callbacks


def _drain(monitor: NASMonitorCallback | None) -> list[keras.callbacks.Callback]:
    """Returns a callback that waits for the monitor's files, so that a checkpoint has them."""
    if monitor is None:
        return []
    return [keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: monitor.drain())]
