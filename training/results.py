"""What a trained run writes: the model, its scores, its INT8 file, advice and a report."""

from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from models import probe_names
from models.cost import model_cost
from monitoring.loggers.measurements import write_measurements
from monitoring.records.files import whole_file
from monitoring.records.measurement import Measurement, summarise
from monitoring.records.reading import read_run
from monitoring.records.run_files import (
    ADVICE,
    EVALUATION,
    MODEL,
    MONITOR_JSONL,
    PREDICTIONS,
    TEACHER,
    remove_own_files,
)
from monitoring.report.advise import advise
from monitoring.report.run_page import write_report
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.watched import Watched
from training.data import draw_images
from training.evaluate import (
    Evaluation,
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
from training.narrowing import final_values
from training.run import Run
from training.stages import stages_of


class Durations(NamedTuple):
    """How long a training took.

    Attributes:
        training: Seconds in all.
        monitoring: Seconds of these that the monitor took.
        estimated: Seconds of the latter that are an estimate.
    """

    training: float
    monitoring: float
    estimated: float


def write_results(run: Run, durations: Durations, *, verbose: int) -> None:
    """Writes all results of a run whose model has its final weights.

    Raises:
        OSError: A file cannot be written.
    """
    with whole_file(run.folder / MODEL) as draft:
        run.model.save(draft)
    _evaluate(run, durations, verbose=verbose)
    if run.teacher is not None and run.monitor is not None and run.config.nas.monitor_images:
        if not _measure_teacher(run) and verbose:
            print("teacher: has no probes, so it is not shown beside the student")
    if run.config.export.format is not None:
        settings = run.config.export
        exported = export(
            run.model,
            run.splits,
            run.folder,
            name=run.config.model.name,
            seed=run.config.training.seed,
            tolerance=settings.tolerance,
            header=settings.header,
            outputs=run.outputs,
            arena_plan=settings.arena_plan,
            vela=settings.vela,
        )
        if verbose or exported.refused or exported.arena.refused:
            print(summary(exported))
    if (run.folder / MONITOR_JSONL).is_file():
        _report(run)


def _evaluate(run: Run, durations: Durations, *, verbose: int) -> None:
    """Scores the model on the test split; writes predictions.png and evaluation.json."""
    test, config = run.splits.test, run.config
    scores = logits(run.model, test, config.training.batch_size, outputs=run.outputs)
    predicted = scores >= 0
    evaluation = evaluate(predicted, test.masks)
    draw_predictions(run.folder / PREDICTIONS, test, predicted, config.output.predictions)
    write_evaluation(
        run.folder / EVALUATION,
        evaluation,
        split="test",
        model=config.model.name,
        parameters=model_cost(run.model).parameters,
        training_seconds=durations.training,
        monitoring_seconds=durations.monitoring,
        monitoring_seconds_estimated=durations.estimated,
        per_image_iou=spread(image_ious(predicted, test.masks)),
        sweep=sweep(scores, test.masks),
        **_ignored(test.masks),
        **_cut(run, evaluation),
    )
    if verbose:
        print(
            f"test mIoU {evaluation.miou:.4f}, foreground IoU {evaluation.foreground_iou:.4f}, "
            f"F1 {evaluation.f1:.4f}, precision {evaluation.precision:.4f}, "
            f"recall {evaluation.recall:.4f} ({evaluation.images} images)"
        )


def _ignored(masks: np.ndarray) -> dict[str, float]:
    """Returns the fraction of pixels that are not scored, if there are any."""
    fraction = float((masks == IGNORED).mean())
    return {"ignored_share": fraction} if fraction else {}


def _cut(run: Run, evaluation: Evaluation) -> dict[str, dict]:
    """Returns what the run's network was cut out of, if it was."""
    if run.parent is None:
        return {}
    values = final_values(run.parent, run.model, run.outputs, run.splits, run.folder)
    values["scores"]["trained"]["test"] = asdict(evaluation)
    return {"cut": values}


def _measure_teacher(run: Run) -> bool:
    """Measures the teacher's probes; returns whether it has any."""
    folder, nas = run.folder / TEACHER, run.config.nas
    remove_own_files(folder)  # of a run that was stopped here
    names = probe_names(run.teacher)
    if names:
        images = draw_images(run.splits.val, nas.monitor_images, run.config.training.seed)
        watched = Watched(run.teacher, names, None, nas.max_positions)
        measurements = [
            summarise(Measurement(grouped, name, "images", epoch=0, step=0))
            for name, grouped in ImagesTap(watched).measure(images).items()
        ]
        folder.mkdir(parents=True, exist_ok=True)
        write_measurements(measurements, folder)
    return bool(names)


def _report(run: Run) -> None:
    """Writes report.html and, unless it exists, advice.json."""
    if (run.folder / ADVICE).is_file():
        write_report(run.folder)
    else:
        advise(run.folder, network=stages_of(read_run(run.folder)))
