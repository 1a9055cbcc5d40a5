"""What a run's page shows of a network that was cut out of another one."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from ..analysis.advice import Cost
from ..analysis.ladder import ladder_from
from .figures import Figure, Series
from .ladder_section import MILLION, ladder_figure
from .sections import cost_rows

NETWORKS = (
    ("parent", "its parent"),
    ("cut", "cut, before fine-tuning"),
    ("trained", "fine-tuned"),
)


class CutGroup(NamedTuple):
    """A row of the table of groups.

    Attributes:
        name: Name of the group.
        before: Its channels in the parent.
        after: Its channels in this network.
        kept: The parent's channels that stay, by number: "0-3, 7"; "" where all do.
        loss: What the others cost by the estimate; None where it is undefined.
        fixed: Why it could not be cut; "" if it could.
    """

    name: str
    before: int
    after: int
    kept: str
    loss: float | None
    fixed: str


class CutRound(NamedTuple):
    """A row of the table of rounds.

    Attributes:
        epochs: Epochs of its training.
        costs: Its costs, in the order of the table of costs.
        cut: Validation mIoU after the cut, before the training; None where it is undefined.
        trained: The same after the training; None where it is unknown.
    """

    epochs: int
    costs: Sequence[int]
    cut: float | None
    trained: float | None


class Cut(NamedTuple):
    """What was cut, ready for the template.

    Attributes:
        parent: The parent's path.
        groups: The groups of channels, from input to output.
        costs: (what, before, after, change) for each cost.
        scores: (network, validation mIoU, test mIoU); None where it is unknown.
        weighted: Whether losses are in units of the loss.
        rounds: What each round did; empty if there was one.
        added: What the only cut has added to the loss on the images that were measured: by the
            estimates, and really; None where it is unknown.
        ladder: The networks that the parent's own ladder holds, and this one; None where the
            parent was not cut to a ladder before.
    """

    parent: str
    groups: Sequence[CutGroup]
    costs: Sequence[tuple[str, int, int, str]]
    scores: Sequence[tuple[str, float | None, float | None]]
    weighted: bool
    rounds: Sequence[CutRound]
    added: tuple[float, float] | None
    ladder: Figure | None


def cut_section(narrowing: Mapping[str, Any]) -> Cut | None:
    """Returns what a page shows of narrowing.json; None where nothing was cut."""
    if not narrowing:
        return None
    groups = [
        CutGroup(
            group["name"],
            group["before"],
            group["after"],
            number_runs(group["kept"]) if group["after"] < group["before"] else "",
            group["loss"],
            group["fixed"],
        )
        for group in narrowing["groups"]
    ]
    before, after = (
        Cost(*(narrowing[when][field] for field in Cost._fields)) for when in ("before", "after")
    )
    scores = [
        (label, _miou(narrowing, name, "val"), _miou(narrowing, name, "test"))
        for name, label in NETWORKS
        if name in narrowing["scores"]
    ]
    costs, rounds = cost_rows((before, after)), _rounds(narrowing)
    added, losses = None, narrowing.get("losses")
    if losses and not rounds and None not in losses.values():
        estimated = sum(group.loss for group in groups if group.loss is not None)
        added = (estimated, losses["after"] - losses["before"])
    parent, weighted = narrowing["parent"], narrowing["weighted"]
    ladder = _ladder(narrowing)
    return Cut(parent, groups, costs, scores, weighted, rounds, added, ladder)


def _ladder(narrowing: Mapping[str, Any]) -> Figure | None:
    if not narrowing.get("ladder"):
        return None
    along = [narrowing["after"]["macs"] / MILLION]
    others = [
        Series(f"this network, {label}", along, [score], dots=True)
        for network, label in (("cut", "cut"), ("trained", "fine-tuned"))
        if (score := _miou(narrowing, network, "val")) is not None
    ]
    return ladder_figure(ladder_from(narrowing["ladder"]), others)


def _rounds(narrowing: Mapping[str, Any]) -> Sequence[CutRound]:
    rounds = narrowing.get("by_round", ())
    if len(rounds) < 2:
        return ()
    return [
        CutRound(
            values["epochs"],
            [values["after"][field] for field in Cost._fields],
            _miou(values, "cut", "val"),
            _miou(values, "trained", "val"),
        )
        for values in rounds
    ]


def number_runs(numbers: Sequence[int]) -> str:
    """Returns ascending whole numbers as text, with runs of three and more collapsed.

    Example:
        >>> number_runs([0, 1, 2, 3, 5, 7, 8])
        '0-3, 5, 7, 8'
    """
    parts: list[str] = []
    for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0]):
        values = [value for _, value in run]
        parts += [f"{values[0]}-{values[-1]}"] if len(values) > 2 else map(str, values)
    return ", ".join(parts)


def _miou(narrowing: Mapping[str, Any], network: str, split: str) -> float | None:
    score: float | None = narrowing["scores"].get(network, {}).get(split, {}).get("miou")
    return score
