"""The configuration of a run that narrows a trained network: its parent's, with a new schedule."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monitoring.command_line import quiet_start
from monitoring.records.files import read_values
from monitoring.records.run_files import CONFIG, expanded
from training.config import merge, shipped_settings, validate
from training.sections import DistillationConfig, ExportConfig, NarrowConfig
from training.settings import Config

EPOCHS = 15  # of fine-tuning
ANEW: Mapping[str, Any] = {  # what is not taken from the parent's configuration
    "training": {
        "epochs": EPOCHS,
        "schedule": "cosine",
        "early_stopping_patience": None,
        "quantization_aware": False,
    },
    "distillation": {"teacher": None, "teacher_outputs": None},
    "narrow": NarrowConfig().model_dump(),
    "export": ExportConfig().model_dump(),
    "output": {"folder": None},
}


def narrow_config(chosen: Mapping[str, Any]) -> Config:
    """Resolves the configuration of a run that narrows a network.

    Args:
        chosen: {section: {key: value}} of the user's file and options; it has narrow.parent.

    Returns:
        The configuration, every key set: the user's keys, else those of the parent's run, else
        those in configs/<name of the network>.yaml. Section `model` is the parent's.

    Raises:
        FileNotFoundError: There is no such parent.
        ValueError: The parent cannot be used, there is no budget, or settings contradict it.
    """
    inherited = merge(parent_settings(expanded(chosen["narrow"]["parent"])), ANEW)
    config = validate(merge(inherited, chosen), source="configuration")
    narrow = config.narrow
    check_budget_given(narrow)
    if narrow.arena is not None:
        config, narrow = _with_arena(config)
    parent = validate(inherited, source=str(narrow.parent)).model
    for key, value in parent.model_dump().items():
        if getattr(config.model, key) != value:
            advice = f"omit model.{key}"
            if key == "probes":
                advice = "they cannot be added: omit --probes (model.probes)"
            raise ValueError(
                f"A narrowed network keeps its parent's model.{key}: {advice}. Parent: "
                f"{_shown(value)}. Received: {_shown(getattr(config.model, key))}"
            )
    if not narrow.teacher:
        return config
    taught = {"teacher": narrow.parent, "teacher_outputs": narrow.outputs}
    if config.distillation.teacher not in (None, narrow.parent):
        raise ValueError("narrow.teacher (--teacher) is the parent: omit distillation.teacher")
    distillation: DistillationConfig = config.distillation.model_copy(update=taught)
    return config.model_copy(update={"distillation": distillation})


def check_budget_given(narrow: NarrowConfig) -> None:
    """Raises a ValueError for a section `narrow` without any budget."""
    if not narrow.budget and narrow.arena is None:
        raise ValueError(
            "Narrowing needs a budget: narrow.macs (--macs), narrow.parameters (--parameters), "
            "narrow.peak_ram (--peak-ram) or narrow.arena (--arena)"
        )


def _shown(value: Any) -> str:
    """Returns a setting as a user would write it."""
    return (", ".join(map(str, value)) or "none") if isinstance(value, tuple) else str(value)


def _with_arena(config: Config) -> tuple[Config, NarrowConfig]:
    """Returns a configuration whose arena is a limit of the parent's peak, and its budget."""
    with quiet_start():
        from training.arena_budget import with_arena_limit
        from training.parents import load_parent
    config = with_arena_limit(config, load_parent(str(config.narrow.parent)))
    return config, config.narrow


def parent_settings(parent: Path) -> dict[str, Any]:
    """Returns the configuration that a parent was trained with, or would be.

    Args:
        parent: A run's folder or a .keras file.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It holds no model that can be narrowed.
    """
    settings = parent / CONFIG
    if settings.is_file():
        return validate(read_values(settings), source=str(settings)).model_dump()
    with quiet_start():
        from training.parents import load_parent
    model = load_parent(parent)
    section = {"name": model.name, "input_size": model.input_shape[1:3]}
    sections = {"model": section, "data": {"channels": model.input_shape[-1]}}
    return merge(shipped_settings(model.name), sections)
