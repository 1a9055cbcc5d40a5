"""From nothing to a file for a microcontroller: teacher, distilled student, INT8, one report."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import yaml

from models import MODELS
from monitoring.analysis.advice import Cost
from monitoring.records.files import read_values, whole_file
from monitoring.records.reading import read_run
from monitoring.report.page import environment, stages_beside
from training.config import Config, read_config
from training.export import DATA_RAM
from training.fit import fit
from training.run import build, prepare, read_resumed
from training.stages import Stages

TEACHER, STUDENT, AWARE = "teacher", "student", "student_aware"
SETTINGS = "pipeline.yaml"


@dataclass(frozen=True)
class Network:
    """A row of the pipeline's report.

    Attributes:
        name: Of the step.
        miou: On the test split.
        f1: On the test split.
        parameters: All weights.
        macs: Multiply-adds an image.
        file_bytes: Of what is kept of it.
        memory: Working memory in INT8: exact where it is known, else an estimate; None for
            a float network.
        fits: Whether that is within 320 KB; None for a float network.
    """

    name: str
    miou: float
    f1: float
    parameters: int
    macs: int
    file_bytes: int
    memory: int | None = None
    fits: bool | None = None


def run_pipeline(
    path: str | Path | None,
    overrides: Mapping[str, Mapping],
    *,
    verbose: int = 1,
) -> Path:
    """Trains a teacher, teaches a student, exports it to INT8, and reports on all of them.

    With `training.quantization_aware` a second student learns the same with the rounding of
    INT8, and is exported beside the first.

    Each step is a run in a folder of its own. One that has ended is not run again; one that
    was killed goes on, and gives what it would have given.

    Args:
        path: The user's configuration, of the student; its section `pipeline` names the
            teacher. Defaults to None: none.
        overrides: As of `training.config.read_config`. Data, seed, epochs, probes and
            monitoring apply to both trainings.
        verbose: As of `training.fit.train`. Defaults to 1.

    Returns:
        The folder.

    Raises:
        ValueError: As `training.fit.train`; or the folder holds a pipeline of other settings.
        OSError: As `training.fit.train`.
    """
    student = read_config(path, overrides)
    folder = Path(student.output.folder or f"runs/pipeline-{datetime.now():%Y%m%d-%H%M%S}")
    if student.distillation.teacher is not None:
        raise ValueError("--pipeline trains its own teacher: leave --distill-from out")
    if student.model.name not in MODELS:
        raise ValueError(f"Unknown model '{student.model.name}'. Known: {', '.join(MODELS)}.")
    teacher = _teacher(student, overrides)
    export = student.export.model_copy(update={"format": "int8"})
    distillation = student.distillation.model_copy(update={"teacher": str(folder / TEACHER)})
    student = student.model_copy(update={"export": export, "distillation": distillation})
    plain = student.training.model_copy(update={"quantization_aware": False})
    steps = {TEACHER: teacher, STUDENT: student.model_copy(update={"training": plain})}
    if student.training.quantization_aware:
        build(student)  # or says that this network cannot
        steps[AWARE] = student
    _claim(folder, steps)
    for name, config in steps.items():
        if (folder / name / "config.yaml").is_file() and read_resumed(folder / name) is None:
            if verbose:
                print(f"{name}: is there, in {folder / name}")
            continue
        if verbose:
            print(f"{name}:")
        output = config.output.model_copy(update={"folder": str(folder / name)})
        fit(prepare(config.model_copy(update={"output": output}), resume=True), verbose=verbose)
    networks = _networks(folder, steps)
    _write(folder, networks, list(steps))
    if verbose:
        print(table(networks))
        print(f"Results are in {folder}: report.html, pipeline.json")
    return folder


def table(networks: Sequence[Network]) -> str:
    """Returns the networks as text."""
    heads = ("mIoU", 7), ("F1", 7), ("parameters", 11), ("multiply-adds", 14), ("file", 10)
    room = max(len(one.name) for one in networks)
    lines = [" ".join([" " * room, *(f"{head:>{room}}" for head, room in heads), " memory"])]
    for one in networks:
        memory = "" if one.memory is None else f"{one.memory:,} bytes"
        if one.fits is not None:
            memory += ", fits in 320 KB" if one.fits else ", does not fit in 320 KB"
        lines.append(
            f"{one.name:{room}} {one.miou:7.4f} {one.f1:7.4f} {one.parameters:11,} {one.macs:14,} "
            f"{one.file_bytes:10,}  {memory}".rstrip()
        )
    return "\n".join(lines)


def _teacher(student: Config, overrides: Mapping[str, Mapping]) -> Config:
    """Returns the teacher's configuration: its own defaults, the student's data and seed."""
    settings = student.pipeline
    given = {section: dict(values) for section, values in overrides.items()}
    given["model"] = {
        "name": settings.teacher,
        "probes": student.model.probes,
        "input_size": student.model.input_size,
    }
    given["data"] = student.data.model_dump()
    given.setdefault("training", {}).setdefault("seed", student.training.seed)
    if settings.teacher_epochs is not None:
        given["training"].setdefault("epochs", settings.teacher_epochs)
    given["nas"] = {"enabled": student.nas.enabled}
    given["training"].pop("quantization_aware", None)
    for section in ("distillation", "export", "output", "pipeline"):
        given.pop(section, None)
    return read_config(None, given)


def _claim(folder: Path, steps: Mapping[str, Config]) -> None:
    """Makes the folder this pipeline's own, or says that it is another's."""
    wanted = {
        name: config.model_dump(mode="json", exclude={"output": {"folder"}})
        for name, config in steps.items()
    }
    settings = folder / SETTINGS
    if settings.is_file():
        if read_values(settings) != wanted:
            raise ValueError(
                f"Output folder {folder} holds a pipeline of other settings ({SETTINGS}). "
                "Choose another one, or give the same settings to go on with it."
            )
        return
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"Output folder {folder} is not empty, and holds no pipeline.")
    folder.mkdir(parents=True, exist_ok=True)
    with whole_file(settings) as draft:
        draft.write_text(yaml.safe_dump(wanted, sort_keys=False), encoding="utf-8")


def _networks(folder: Path, steps: Mapping[str, Config]) -> list[Network]:
    """Returns each step's float network, and its INT8 file where there is one."""
    found = []
    for name, config in steps.items():
        scores = json.loads((folder / name / "evaluation.json").read_text(encoding="utf-8"))
        cost: Cost = Stages(config, {}).cost({})
        size = (folder / name / "model.keras").stat().st_size
        found.append(Network(name, scores["miou"], scores["f1"], cost.parameters, cost.macs, size))
        if config.export.format is not None:
            found.append(_int8(folder / name))
    return found


def _int8(run: Path) -> Network:
    made = json.loads((run / "export.json").read_text(encoding="utf-8"))
    memory = made["arena_estimate"] if made["arena_bytes"] is None else made["arena_bytes"]
    return Network(
        f"{run.name}, INT8" + (" (refused)" if made["refused"] else ""),
        made["int8_scores"]["miou"],
        made["int8_scores"]["f1"],
        made["parameters"],
        made["macs"],
        made["file_bytes"],
        memory,
        memory <= DATA_RAM,
    )


def _write(folder: Path, networks: Sequence[Network], steps: Sequence[str]) -> None:
    """Writes pipeline.json and report.html."""
    stages = stages_beside(
        {
            name: read_run(folder / name).last
            for name in steps
            if (folder / name / "monitor.jsonl").is_file()
        }
    )
    monitored = [name for name in steps if (folder / name / "report.html").is_file()]
    rows = [vars(one) for one in networks]
    with whole_file(folder / "pipeline.json") as draft:
        draft.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    page = environment().get_template("pipeline.html")
    text = page.render(networks=networks, stages=stages, names=steps, monitored=monitored)
    with whole_file(folder / "report.html") as draft:
        draft.write_text(text, encoding="utf-8")
