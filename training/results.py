"""What a trained run writes: the model, its scores, its INT8 file, advice and a report."""

from dataclasses import asdict
from typing import NamedTuple

from models import probe_names
from models.cost import model_cost
from monitoring.analysis.single_output import single_output
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
from training.class_scores import ClassEvaluation
from training.data import batches, draw_images
from training.evaluate import (
    Evaluation,
    score_line,
    write_evaluation,
)
from training.export import export, summary
from training.narrowing import final_values
from training.prediction_pictures import draw_predictions, spread_over, write_confusion
from training.run import Run
from training.split_scores import score
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
    classes = run.outputs.classes
    batch = config.training.batch_size
    drawn = spread_over(len(test), config.output.predictions)
    scores, predicted = score(
        test,
        run.outputs,
        lambda part: single_output(run.model, run.model.predict(batches(part, batch), verbose=0)),
        batch=batch,
        keep=drawn,
    )
    evaluation = scores.evaluation
    draw_predictions(
        run.folder / PREDICTIONS, test.images[drawn], test.masks[drawn], predicted, classes
    )
    if isinstance(evaluation, ClassEvaluation):
        write_confusion(run.folder, evaluation.confusion, classes)
    write_evaluation(
        run.folder / EVALUATION,
        evaluation,
        split="test",
        model=config.model.name,
        parameters=model_cost(run.model).parameters,
        training_seconds=durations.training,
        monitoring_seconds=durations.monitoring,
        monitoring_seconds_estimated=durations.estimated,
        **scores.further(test),
        **_cut(run, evaluation),
    )
    if verbose:
        print(score_line(evaluation))


def _cut(run: Run, evaluation: Evaluation | ClassEvaluation) -> dict[str, dict]:
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
