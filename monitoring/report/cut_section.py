"""What a run's page shows of a network that was cut out of another one."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, NamedTuple

from ..analysis.advice import Cost
from .sections import cost_rows

NETWORKS = (
    ("parent", "its parent"),
    ("cut", "cut, before any training"),
    ("trained", "after its training"),
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


class Cut(NamedTuple):
    """What was cut, ready for the template.

    Attributes:
        parent: The parent's path.
        groups: The groups of channels, from input to output.
        costs: (what, before, after, change) for each cost.
        scores: (network, validation mIoU, test mIoU); None where it is unknown.
        weighted: Whether losses are in units of the loss.
    """

    parent: str
    groups: Sequence[CutGroup]
    costs: Sequence[tuple[str, int, int, str]]
    scores: Sequence[tuple[str, float | None, float | None]]
    weighted: bool


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
    return Cut(
        narrowing["parent"], groups, cost_rows((before, after)), scores, narrowing["weighted"]
    )


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
    score: float | None = narrowing["scores"][network].get(split, {}).get("miou")
    return score
