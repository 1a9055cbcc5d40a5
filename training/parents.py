"""The trained network that a run narrows."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from models.cost import ModelCost, model_cost
from models.narrowing.groups import plan_groups
from models.narrowing.widths import Allocation
from models.quantization import is_quantization_aware
from monitoring.records.run_files import MODEL, PIPELINE_SETTINGS, expanded
from training.model_files import load_model, without_structure
from training.outputs import Outputs, outputs_of
from training.sections import NarrowConfig
from training.settings import Config


class Parent(NamedTuple):
    """A network that is to be narrowed.

    Attributes:
        model: The network.
        outputs: What it puts out.
    """

    model: keras.Model
    outputs: Outputs


def read_parent(config: Config, *, may_fit: bool = False) -> Parent:
    """Loads the parent of a configuration, and checks that it can be narrowed to the budget.

    Args:
        config: The configuration.
        may_fit: Whether it may keep to the budget already, as a network may that was cut in an
            earlier round. Defaults to False.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It cannot be loaded or narrowed, nothing tells what it puts out, it keeps to
            the budget already, or no network that is left of it would.
    """
    settings = config.narrow
    assert settings.parent is not None
    model = load_parent(settings.parent)
    outputs = parent_outputs(model, config)
    check_reachable(model, settings, str(settings.parent))
    if not may_fit:
        check_exceeded(model_cost(model), settings.budget, str(settings.parent))
    return Parent(model, outputs)


def parent_outputs(model: keras.Model, config: Config, images: np.ndarray | None = None) -> Outputs:
    """Returns what a run's network puts out; see `outputs_of` for arguments and errors."""
    channels = model.inputs[0].shape[-1]
    if channels != config.data.channels:
        raise ValueError(
            f"Model '{model.name}' takes images of {channels} channels, and data.channels is "
            f"{config.data.channels}: they must be the same"
        )
    classes, declared = config.data.masks.classes, config.narrow.outputs
    return outputs_of(model, classes, declared, images, option="narrow.outputs:")


def check_exceeded(cost: ModelCost, budget: Mapping[str, int], name: str) -> None:
    """Raises a ValueError for a network, here `name`, that keeps to a budget already."""
    if all(getattr(cost, key) <= limit for key, limit in budget.items()):
        has = ", ".join(
            f"{getattr(cost, key):,} {key.replace('_', ' ')} (at most {limit:,})"
            for key, limit in budget.items()
        )
        raise ValueError(f"Nothing to narrow: {name} keeps to the budget with {has}; give less")


def check_reachable(model: keras.Model, settings: NarrowConfig, name: str) -> None:
    """Raises a ValueError for a network, here `name`, that cannot be narrowed to the budget."""
    plan = plan_groups(model)
    if not plan.free:
        reasons = "; ".join(sorted({group.fixed for group in plan.groups}))
        raise ValueError(f"{name} has no channels that can be cut: {reasons}")
    Allocation(plan, [], settings.multiple).check_reachable(settings.budget)


def load_parent(path: str | Path) -> keras.Model:
    """Loads a network that takes images of one size and puts out masks.

    Args:
        path: A run's folder or a .keras file.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It cannot be loaded, or is another kind of network.
    """
    path = expanded(path)
    if (path / PIPELINE_SETTINGS).is_file():
        raise ValueError(f"{path} holds a pipeline: give the run of one of its steps, a sub-folder")
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise FileNotFoundError(f"{path} holds no {MODEL}: it is no run that has finished")
        path = path / MODEL
    elif not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give a run's folder or a .keras file")
    model = without_structure(
        load_model(path, advice="only networks of Keras' own layers can be narrowed")
    )
    if is_quantization_aware(model):
        raise ValueError(
            f"{path} is quantisation-aware: narrow a network that was trained without it, and "
            "train the narrowed one with --quantization-aware"
        )
    _check_shapes(path, model)
    return model


def _check_shapes(path: Path, model: keras.Model) -> None:
    """Refuses all networks but those from images of one size to masks of that size.

    Raises:
        ValueError: The model is another kind of network.
    """
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            f"{path} holds a subclassed model, which shows no graph of layers: only functional and "
            "sequential models can be narrowed"
        )
    taken, returned = tuple(model.inputs[0].shape), tuple(model.outputs[0].shape)
    sides = taken[1:3]
    if len(taken) != 4 or taken[0] is not None or None in taken[1:]:
        raise ValueError(
            f"Expected a model of images of one size, (None, height, width, channels). Received: "
            f"{path}, which takes {taken}"
        )
    if returned[:-1] != (None, *sides) or returned[-1] is None:
        raise ValueError(
            f"Expected a model that puts out masks, {(None, *sides)} and channels. Received: "
            f"{path}, which puts out {returned}"
        )
