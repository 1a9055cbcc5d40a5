"""The networks of a search's proposals, made once and kept."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from models import narrow
from models.cost import model_cost
from monitoring import InputMoments
from monitoring.records.files import whole_file
from training.arena_budget import fitted, with_arena_limit
from training.data import draw_pairs
from training.evaluate import write_values
from training.export.untrained import arena_sizes
from training.fitting import Limits, built, widest
from training.narrowing import IMAGES, scores
from training.network import zoo_settings
from training.outputs import Outputs
from training.parents import load_parent
from training.search.locks import alone_in
from training.search.proposals import SCRATCH, Proposal
from training.settings import Config
from training.split import Splits

CANDIDATE = "candidate.json"


@dataclass(frozen=True)
class Candidate:
    """A network that keeps to the limits.

    Attributes:
        folder: Its own, with its trainings.
        settings: Section `model` of a configuration that trains its widths anew; None if no
            builder makes it.
        network: File of the network that it was cut to; None if it is trained anew.
        arena: Bytes of its arena.
        macs: Multiply-adds per image.
        parameters: All weights.
        cut_score: Validation mIoU before any training; None if it is trained anew.
        loss: What cutting it costs by the estimate; None if it is trained anew.
    """

    folder: Path
    settings: Mapping[str, Any] | None
    network: Path | None
    arena: int
    macs: int
    parameters: int
    cut_score: float | None = None
    loss: float | None = None


def candidate_of(
    proposal: Proposal, config: Config, splits: Splits, folder: Path, parents: Mapping[bool, Path]
) -> Candidate:
    """Returns the network of a proposal, as its folder holds it, or makes it.

    Args:
        proposal: How it comes about.
        config: The configuration of the search, with its limits.
        splits: Its images.
        folder: Where networks are kept.
        parents: Runs or .keras files of the wide parents, by whether they upsample late.

    Raises:
        ValueError: No such network keeps to the limits.
    """
    text = json.dumps(proposal.values, sort_keys=True)
    own = folder / hashlib.sha256(text.encode()).hexdigest()[:10]
    with alone_in(own):
        if not (own / CANDIDATE).is_file():
            make = _from_scratch if proposal.start == SCRATCH else partial(_cut, parents=parents)
            write_values(own / CANDIDATE, _values(make(proposal, config, splits, own)))
    values = json.loads((own / CANDIDATE).read_text(encoding="utf-8"))
    network = None if values["network"] is None else own / values["network"]
    return Candidate(**{**values, "folder": own, "network": network})


def _values(candidate: Candidate) -> dict[str, Any]:
    values = asdict(candidate) | {"folder": ""}
    return values | {"network": None if candidate.network is None else candidate.network.name}


def shared_limits(config: Config, share: float) -> Limits:
    """Returns a share of a search's limits."""
    budget = config.narrow

    def part(limit: int | None) -> int | None:
        return None if limit is None else int(share * limit)

    return Limits(
        arena=part(budget.arena),
        macs=part(budget.macs),
        parameters=part(budget.parameters),
        plan=config.export.arena_plan,
    )


def _from_scratch(proposal: Proposal, config: Config, splits: Splits, folder: Path) -> Candidate:
    """Returns the widest network that keeps to the limits, to be trained anew."""
    classes = Outputs(classes=config.data.masks.classes).channels
    widest_network = widest(
        config.model.name,
        shared_limits(config, proposal.share),
        size=config.model.input_size,
        late_upsampling=proposal.late_upsampling,
        decoder=proposal.decoder,
        classes=classes,
        channels=config.data.channels,
    )
    arena = widest_network.arena
    if arena is None:
        network = built(widest_network.settings, classes, config.data.channels)
        arena = arena_sizes(network).of(config.export.arena_plan)
    return Candidate(
        folder, widest_network.settings, None, arena, widest_network.macs, widest_network.parameters
    )


def _cut(
    proposal: Proposal,
    config: Config,
    splits: Splits,
    folder: Path,
    *,
    parents: Mapping[bool, Path],
) -> Candidate:
    """Returns what is left of the wide parent."""
    parent = load_parent(parents[proposal.late_upsampling])
    limits = shared_limits(config, proposal.share)
    section = config.narrow.model_copy(
        update={"arena": limits.arena, "macs": limits.macs, "parameters": limits.parameters}
    )
    exported = config.export.model_copy(update={"format": "int8"})
    config = config.model_copy(update={"narrow": section, "export": exported})
    seed = config.training.seed
    images, masks = draw_pairs(splits.train, IMAGES, seed)
    outputs = Outputs(classes=config.data.masks.classes)
    moments = InputMoments(
        splits.train.scaling(images), masks.astype(np.float32), outputs.image_losses, seed=seed
    )
    cut = partial(narrow, parent, moments, multiple=proposal.multiple)
    if limits.arena is None:
        narrowed = cut(config.narrow.budget)
        arena = arena_sizes(narrowed.model).of(config.export.arena_plan)
    else:
        narrowed, measured = fitted(with_arena_limit(config, parent), cut)
        arena = measured["after"]
    file = folder / "network.keras"
    with whole_file(file) as draft:
        narrowed.model.save(draft)
    cost = model_cost(narrowed.model)
    return replace(
        Candidate(folder, zoo_settings(narrowed.model), file, arena, cost.macs, cost.parameters),
        cut_score=scores(narrowed.model, splits.val, outputs)["miou"],
        loss=float(sum(group.loss for group in narrowed.groups)),
    )
