"""Narrowing in several rounds: what each is to do, and what became of the network in all of them.

Each round but the last is a run of its own, in a sub-folder round_1, round_2, ... of the run.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.cost import ModelCost
from monitoring.records.reading import read_checked
from monitoring.records.run_files import EVALUATION
from training.sections import ExportConfig
from training.settings import Config

ROUND_SCORES = ("cut", "trained")  # the networks of a round: before and after its training


def round_folder(folder: Path, number: int) -> Path:
    """Returns the folder of a round, counted from 1, of the run in `folder`."""
    return folder / f"round_{number}"


def earlier_rounds(config: Config, cost: ModelCost, folder: Path) -> list[Config]:
    """Returns the configurations of all rounds but the last, which is the run itself.

    Each budget is approached by equal factors, from what the parent costs; a budget that the parent
    keeps to already holds in every round.

    Args:
        config: The run's configuration.
        cost: What its parent costs.
        folder: The run's folder.
    """
    narrow, rounds = config.narrow, config.narrow.rounds
    configs = []
    for number, epochs in enumerate(config.round_epochs[:-1], start=1):
        limits = {
            key: _approached(getattr(cost, key), limit, number / rounds)
            for key, limit in narrow.budget.items()
        }
        parent = narrow.parent if number == 1 else str(round_folder(folder, number - 1).absolute())
        changed = {
            "parent": parent,
            "rounds": 1,
            "teacher": False,
            "arena": None,
        }  # the run's teacher remains
        sections = {
            "narrow": narrow.with_budget(limits).model_copy(update=changed),
            "training": config.training.model_copy(
                update={"epochs": epochs, "quantization_aware": False}
            ),
            "export": ExportConfig(),
            "output": config.output.model_copy(
                update={"folder": str(round_folder(folder, number))}
            ),
        }
        configs.append(config.model_copy(update=sections))
    return configs


def _approached(cost: int, limit: int, share: float) -> int:
    """Returns the budget after a share of the way from a cost to its limit, on a log scale."""
    return limit if cost <= limit else round(cost * (limit / cost) ** share)


def round_values(folder: Path, count: int) -> list[dict[str, Any]]:
    """Returns what the first `count` rounds of a run have cut, as their evaluation.json holds it.

    Raises:
        DamagedFileError: A file is damaged.
    """
    files = [round_folder(folder, number) / EVALUATION for number in range(1, count + 1)]
    return [read_checked(file)["cut"] for file in files]


def joined_groups(rounds: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Returns what became of each group of channels in all rounds together.

    Args:
        rounds: The groups of each round, as narrowing.json holds them.

    Example:
        >>> first = {"name": "a", "before": 4, "after": 3, "kept": [0, 2, 3], "loss": 0.5}
        >>> then = {"name": "a", "before": 3, "after": 2, "kept": [0, 2], "loss": 0.25}
        >>> joined_groups([[first], [then]])
        [{'name': 'a', 'before': 4, 'after': 2, 'kept': [0, 3], 'loss': 0.75}]
    """
    joined = [dict(group) for group in rounds[0]]
    for groups in rounds[1:]:
        for whole, group in zip(joined, groups, strict=True):
            losses = (whole["loss"], group["loss"])
            whole["kept"] = [whole["kept"][index] for index in group["kept"]]
            whole["after"] = group["after"]
            whole["loss"] = None if None in losses else sum(losses)
    return joined


def by_round(
    cut: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]], epochs: Sequence[int]
) -> list[dict[str, Any]]:
    """Returns what each round did: its epochs, its budget, its costs and its scores.

    Args:
        cut: What all rounds together have cut.
        earlier: What each round but the last has cut.
        epochs: Epochs of each round.
    """
    return [
        {
            "epochs": count,
            "budget": values["budget"],
            "before": before,
            "after": values["after"],
            "scores": {
                name: values["scores"][name] for name in ROUND_SCORES if name in values["scores"]
            },
        }
        for count, values, before in zip(
            epochs,
            (*earlier, cut),
            (cut["before"], *(values["after"] for values in earlier)),
            strict=True,
        )
    ]
