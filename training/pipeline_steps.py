"""The configurations of a pipeline's steps: a teacher, its students, and the teacher narrowed."""

from collections.abc import Iterator, Mapping
from typing import Any

from models.cost import model_cost
from training.arena_budget import with_arena_limit
from training.config import merge, read_config, validate
from training.narrow_settings import ANEW, check_budget_given
from training.network import build, check_model_name, check_settings, checked_network
from training.parents import check_exceeded, check_reachable
from training.sections import NarrowConfig
from training.settings import Config

TEACHER, STUDENT, AWARE, NARROWED = "teacher", "student", "student_aware", "narrowed"


def checked_steps(student: Config, overrides: Mapping[str, Mapping[str, Any]]) -> dict[str, Config]:
    """Returns {name of a step: its configuration} in order; paths to the teacher are left open.

    Args:
        student: The student's configuration, with the budget and the section `pipeline`.
        overrides: What the command line overrides in all configurations.

    Raises:
        ValueError: A setting is impossible.
    """
    check_model_name(student.model.name)
    teacher = _teacher(student, overrides)
    steps = dict(_steps(student, teacher))
    for config in steps.values():
        checked_network(config)
    if student.narrow != NarrowConfig():
        steps[NARROWED] = _checked_narrowed(student, teacher, overrides)
    return steps


def with_teacher(steps: Mapping[str, Config], teacher: str) -> dict[str, Config]:
    """Returns the steps with the path of the teacher's run in all that need it."""
    complete = {}
    for step, config in steps.items():
        sections: dict[str, Any] = {}
        if step == NARROWED:
            sections["narrow"] = config.narrow.model_copy(update={"parent": teacher})
        if step in (STUDENT, AWARE) or config.narrow.teacher:
            sections["distillation"] = config.distillation.model_copy(update={"teacher": teacher})
        complete[step] = config.model_copy(update=sections)
    return complete


def _steps(student: Config, teacher: Config) -> Iterator[tuple[str, Config]]:
    """Yields name and configuration of the teacher and its students."""
    yield TEACHER, teacher
    student = student.model_copy(
        update={
            "narrow": NarrowConfig(),
            "export": student.export.model_copy(update={"format": "int8"}),
        }
    )
    plain = student.training.model_copy(update={"quantization_aware": False})
    yield STUDENT, student.model_copy(update={"training": plain})
    if student.training.quantization_aware:
        yield AWARE, student


def _checked_narrowed(
    student: Config, teacher: Config, overrides: Mapping[str, Mapping[str, Any]]
) -> Config:
    """Returns the configuration of narrowing the teacher: its own, with a new schedule.

    Raises:
        ValueError: There is no budget, the teacher keeps to it already or cannot be narrowed to
            it, or other settings are impossible.
    """
    epochs = overrides.get("training", {}).get("epochs", student.pipeline.narrow_epochs)
    chosen = {
        "training": {} if epochs is None else {"epochs": epochs},
        "narrow": student.narrow.model_dump(),
        "distillation": student.distillation.model_dump(),
        "export": {**student.export.model_dump(), "format": "int8"},
    }
    config = validate(merge(merge(teacher.model_dump(), ANEW), chosen), source="configuration")
    check_budget_given(config.narrow)
    check_settings(config)
    model, name = build(teacher), f"the teacher, {teacher.model.name},"
    if config.narrow.arena is not None:
        config = with_arena_limit(config, model)
    check_reachable(model, config.narrow, name)
    check_exceeded(model_cost(model), config.narrow.budget, name)
    return config


def _teacher(student: Config, overrides: Mapping[str, Mapping[str, Any]]) -> Config:
    """Returns the teacher's configuration: its own defaults, the student's data and seed."""
    settings = student.pipeline
    values = {section: dict(keys) for section, keys in overrides.items()}
    values["model"] = {
        "name": settings.teacher,
        "probes": student.model.probes,
        "input_size": student.model.input_size,
    }
    values["data"] = student.data.model_dump()
    values.setdefault("training", {}).setdefault("seed", student.training.seed)
    if settings.teacher_epochs is not None:
        values["training"].setdefault("epochs", settings.teacher_epochs)
    values["nas"] = {"enabled": student.nas.enabled}
    values["training"].pop("quantization_aware", None)
    for section in ("distillation", "narrow", "export", "output", "pipeline"):
        values.pop(section, None)
    return read_config(None, values)
