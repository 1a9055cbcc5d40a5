"""A run's network that is cut out of a trained one, once, and how it scores before any training."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from models import narrow, quantization_aware
from models.cost import ModelCost, model_cost
from models.narrowing.narrow import Narrowed
from monitoring import InputMoments
from monitoring.analysis.advice_file import read_advice
from monitoring.analysis.ladder import ladder_values
from monitoring.records.files import whole_file
from monitoring.records.reading import read_checked
from monitoring.records.run_files import ADVICE, NARROWED, NARROWING
from training.arena_budget import fitted
from training.data import draw_pairs
from training.evaluate import write_values
from training.model_files import load_model
from training.network import Network, zoo_settings
from training.outputs import Outputs
from training.parents import load_parent
from training.rounds import ROUND_SCORES, by_round, joined_groups, round_folder, round_values
from training.settings import Config
from training.split import Split, Splits
from training.split_scores import score

IMAGES = 256  # of the training split, on which the parent is measured
BATCH = 16  # images at a time
COSTS = ("macs", "parameters", "peak_activation_bytes")
COST_NAMES = ("multiply-adds", "parameters", "bytes of activations at their peak in INT8")


def narrowed_model(
    parent: Network, config: Config, splits: Splits, folder: Path, *, verbose: int = 0
) -> keras.Model:
    """Returns the network that a run begins with: as its folder holds it, else cut now.

    Args:
        parent: The network to cut; with `narrow.rounds`, what the round before has made of it
            is cut.
        config: The configuration.
        splits: Its images.
        folder: The run's folder; narrowing.json and narrowed.keras are written into it.
        verbose: 0 is silent. Defaults to 0.

    Raises:
        ValueError: The network cannot be cut to the budget.
        OSError: A file cannot be written.
    """
    seed = config.training.seed
    if not (folder / NARROWED).is_file():
        if verbose:
            rounds = config.narrow.rounds
            before = config.narrow.parent if rounds == 1 else round_folder(folder, rounds - 1)
            print(f"Narrowing {before}, into {folder}", flush=True)
        model, values = _cut(parent, config, splits, folder, verbose=verbose)
        write_values(folder / NARROWING, values)
        with whole_file(folder / NARROWED) as draft:
            model.save(draft)
        if verbose:
            print(summary(values), flush=True)
    # From the file and with fresh seeds, so that a run that is resumed trains the same network.
    keras.utils.set_random_seed(seed)
    model = load_model(folder / NARROWED)
    return quantization_aware(model) if config.training.quantization_aware else model


def scores(model: keras.Model, split: Split, outputs: Outputs) -> dict[str, Any]:
    """Returns a network's scores on a split by name; it is run eagerly, for a single pass."""

    def predict(part: Split) -> np.ndarray:
        parts = [
            ops.convert_to_numpy(model(part[start : start + BATCH].inputs, training=False))
            for start in range(0, len(part), BATCH)
        ]
        return np.concatenate(parts)

    return asdict(score(split, outputs, predict)[0].evaluation)


def final_values(
    parent: keras.Model, model: keras.Model, outputs: Outputs, splits: Splits, folder: Path
) -> dict[str, Any]:
    """Returns what was cut, with the scores that only a finished run has.

    Args:
        parent: The network that was cut.
        model: The network after its training.
        outputs: What they put out.
        splits: Validation and test images.
        folder: The run's folder.

    Returns:
        What narrowing.json holds; its `scores` are {"parent", "cut" and "trained": {"val" and
        "test": scores}}, but for the trained network's on the test split. Its last round has
        the same.

    Raises:
        DamagedFileError: narrowing.json is damaged.
        ValueError: narrowed.keras is damaged.
    """
    values = read_checked(folder / NARROWING)
    table = {name: dict(by_split) for name, by_split in values["scores"].items()}
    for name, network in (("parent", parent), ("cut", load_model(folder / NARROWED))):
        table[name]["test"] = scores(network, splits.test, outputs)
    table["trained"] = {"val": scores(model, splits.val, outputs)}
    *earlier, last = values["by_round"]
    last = {**last, "scores": {name: table[name] for name in ROUND_SCORES}}
    return {**values, "scores": table, "by_round": [*earlier, last]}


def summary(values: Mapping[str, Any]) -> str:
    """Returns what narrowing.json holds as a few lines of text."""
    groups = [group for group in values["groups"] if not group["fixed"]]
    before, after = (sum(group[key] for group in groups) for key in ("before", "after"))
    cut = sum(group["after"] < group["before"] for group in groups)
    lines = [
        f"Cut: {after:,} of {before:,} channels stay; {cut} of {len(groups)} groups were narrowed"
    ]
    for name, label in zip(COSTS, COST_NAMES, strict=True):
        lines.append(f"  {label}: {values['before'][name]:,} to {values['after'][name]:,}")
    if values.get("arena"):  # absent in older files
        used, limit = values["arena"]["after"], values["arena"]["limit"]
        lines.append(f"  arena of the INT8 file: {used:,} bytes, at most {limit:,}")
    if not values["weighted"]:
        lines.append("  channels were chosen without gradients of the loss")
    parent, narrowed = (values["scores"][name]["val"]["miou"] for name in ("parent", "cut"))
    training = "any training" if len(values["by_round"]) == 1 else "its last training"
    lines.append(f"Before {training}: validation mIoU {narrowed:.4f}, its parent {parent:.4f}")
    return "\n".join(lines)


def _print_costs(cost: ModelCost) -> None:
    """Prints how far a network has been cut, since each step takes a while."""
    print(f"  cut to {cost.macs:,} multiply-adds, {cost.parameters:,} parameters", flush=True)


def _cut(
    parent: Network, config: Config, splits: Splits, folder: Path, *, verbose: int
) -> tuple[keras.Model, dict[str, Any]]:
    """Cuts the parent or what the rounds before have made of it.

    Returns:
        The narrowed network, and what narrowing.json holds.

    Raises:
        ValueError: It cannot be cut to the budget.
        DamagedFileError: The parent's advice.json is damaged.
    """
    settings, seed = config.narrow, config.training.seed
    earlier = round_values(folder, settings.rounds - 1)
    last = round_folder(folder, len(earlier))
    model = load_parent(last) if earlier else parent.model
    images, masks = draw_pairs(splits.train, IMAGES, seed)
    # Where the parent teaches, too, its answers add no gradient: they are the network's own.
    moments = InputMoments(
        splits.train.scaling(images),
        masks.astype(np.float32),
        parent.outputs.image_losses,
        seed=seed,
    )
    narrow_to = partial(
        narrow,
        model,
        moments,
        multiple=settings.multiple,
        progress=_print_costs if verbose else None,
    )
    arena = None
    try:
        if settings.arena is None:
            narrowed = narrow_to(settings.budget)
        else:
            narrowed, arena = fitted(config, narrow_to)
    except ValueError as error:
        left = f"{folder} holds its settings alone and can be removed"
        if earlier:
            left = f"{last} holds the network of the round before"
        raise ValueError(f"{error}. Nothing was trained: {left}") from error
    values = _described(parent, narrowed, config, len(images), splits.val, earlier=earlier)
    values["arena"] = arena
    losses = [moments.mean_loss(network, len(images)) for network in (model, narrowed.model)]
    values["losses"] = dict(zip(("before", "after"), losses, strict=True))
    advice = Path(str(settings.parent)) / ADVICE
    ladder = read_advice(advice).ladder if advice.is_file() else None
    values["ladder"] = None if ladder is None else ladder_values(ladder)
    return narrowed.model, values


def _described(
    parent: Network,
    narrowed: Narrowed,
    config: Config,
    images: int,
    val: Split,
    *,
    earlier: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Returns what narrowing.json holds; `earlier` is what the earlier rounds have cut."""
    costs = [model_cost(model) for model in (parent.model, narrowed.model)]
    before, after = ({name: getattr(cost, name) for name in COSTS} for cost in costs)
    networks = {"parent": parent.model, "cut": narrowed.model}
    groups = [asdict(group) for group in narrowed.groups]
    scored = {
        name: {"val": scores(network, val, parent.outputs)} for name, network in networks.items()
    }
    values = {
        "parent": config.narrow.parent,
        "budget": config.narrow.budget,
        "images": images,
        "weighted": narrowed.weighted,
        "measurements": narrowed.rounds,
        "before": before,
        "after": after,
        "model": zoo_settings(narrowed.model),
        "groups": joined_groups([*(cut["groups"] for cut in earlier), groups]),
        "scores": scored,
    }
    return {**values, "by_round": by_round(values, earlier, config.round_epochs)}
