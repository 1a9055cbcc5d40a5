"""From nothing to a file for a microcontroller: teacher, smaller networks, INT8, one report."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.records.files import DamagedFileError
from monitoring.records.run_files import INT8_REFUSED, PIPELINE_SETTINGS
from training.config import read_config, validate
from training.fit import fit
from training.network import build
from training.pipeline_report import write_pipeline_report
from training.pipeline_steps import TEACHER, checked_steps, with_teacher
from training.prepared import prepared_runs
from training.run import Run
from training.run_folder import has_finished, write_missing_cost
from training.settings import Config
from training.settings_folder import claim_settings
from training.split import Splits
from training.splits import read_config_splits


@dataclass(frozen=True)
class Pipeline:
    """A pipeline that is checked, and owns its folder.

    Attributes:
        folder: Its folder; each step is a run in a sub-folder with the step's name.
        steps: {name of a step: its configuration}, in order.
        splits: The images of all steps, if they are decoded already.
    """

    folder: Path
    steps: Mapping[str, Config]
    splits: Splits | None = None

    def runs(self, step: str, *, verbose: int = 1) -> Iterator[Run]:
        """Yields the trainings of a step in turn; none if it has finished.

        Raises:
            ValueError: As for `training.prepared.prepared_runs`.
            OSError: As for `training.prepared.prepared_runs`.
        """
        folder, config = self.folder / step, self.steps[step]
        if has_finished(folder):
            if config.narrow.parent is None:
                write_missing_cost(folder, build(config))  # older versions wrote none
            if verbose:
                print(f"{step}: has finished, in {folder}")
            return
        if verbose:
            print(f"{step}:")
        output = config.output.model_copy(update={"folder": str(folder)})
        config = config.model_copy(update={"output": output})
        yield from prepared_runs(config, resume=True, splits=self.splits, verbose=verbose)

    def train(self, run: Run, *, verbose: int = 1) -> None:
        """Trains a run of a step.

        Raises:
            DamagedFileError: A file of a run that was stopped is damaged.
            OSError: A result cannot be written.
        """
        fit(run, verbose=verbose)

    def is_refused(self) -> bool:
        """Returns whether the INT8 file of a step was refused."""
        return any((self.folder / step / INT8_REFUSED).is_file() for step in self.steps)

    def report(self, *, verbose: int = 1) -> None:
        """Writes pipeline.json and report.html, once all steps have finished."""
        table = write_pipeline_report(self.folder, list(self.steps))
        if verbose:
            print(table)
            print(f"Results are in {self.folder}: report.html, pipeline.json")


def prepare_pipeline(
    path: str | Path | None, overrides: Mapping[str, Mapping[str, Any]]
) -> Pipeline:
    """Checks the settings of a pipeline, and claims its folder.

    A pipeline trains a teacher, teaches a student, exports it to INT8, and reports on all of
    them. With `training.quantization_aware`, a second student is trained with the rounding of
    INT8 and exported beside the first. With a budget in `narrow`, the teacher is also narrowed to
    it, fine-tuned and exported. A step that was killed continues, and ends as if it had never
    been stopped.

    Args:
        path: The student's configuration file; its section `pipeline` names the teacher.
            None: no file.
        overrides: As for `training.config.read_config`. Data, seed, epochs, probes and
            monitoring apply to all trainings.

    Raises:
        ValueError: A setting is impossible, or the folder holds something else.
        OSError: A file does not exist, or the folder cannot be written.
    """
    student = read_config(path, overrides, for_pipeline=True)
    if student.distillation.teacher is not None:
        raise ValueError("--pipeline trains its own teacher: omit --distill-from")
    if student.narrow.parent is not None:
        raise ValueError("--pipeline narrows its own teacher: omit --narrow, and give the budget")
    steps = checked_steps(student, overrides)
    output, splits = student.output.folder, None
    if output is None or not (Path(output) / PIPELINE_SETTINGS).is_file():
        splits = read_config_splits(student)
    folder = _claim(output, steps)
    return Pipeline(folder, with_teacher(steps, str((folder / TEACHER).absolute())), splits)


def _claim(output: str | None, steps: Mapping[str, Config]) -> Path:
    """Returns a folder that is this pipeline's own; errors as those of `claim_settings`."""
    values = {step: _comparable(config) for step, config in steps.items()}
    return claim_settings(
        output, PIPELINE_SETTINGS, values, kind="pipeline", comparable=_stored_steps
    )


def _stored_steps(values: Any) -> dict[str, Any]:
    """Returns the settings of pipeline.yaml, those that its version did not have as defaults."""
    if not isinstance(values, dict):
        raise DamagedFileError(f"{PIPELINE_SETTINGS}: expected a mapping of steps")
    return {
        step: _comparable(validate(settings, source=f"{PIPELINE_SETTINGS}: {step}"))
        for step, settings in values.items()
    }


def _comparable(config: Config) -> dict[str, Any]:
    """Returns a step's settings without the paths that follow from the pipeline's folder."""
    return config.model_dump(
        mode="json",
        exclude={"output": {"folder"}, "distillation": {"teacher"}, "narrow": {"parent"}},
    )
