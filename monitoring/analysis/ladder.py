"""A trained network cut to a ladder of budgets: costs and scores before any training. No Keras."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from .advice import Cost

SHARES = (0.75, 0.5, 0.35, 0.25, 0.125)  # of the multiply-adds
NEAR = 0.01  # of the score; a network this close to its parent has kept what it has learnt


class CutNetwork(NamedTuple):
    """A network that was cut out of a trained one, and not trained.

    Attributes:
        macs: Multiply-adds per image.
        parameters: All weights.
        peak_activation_bytes: Most bytes of activations alive at one time, in INT8.
        score: Its score on images that it was not measured on.
        loss: What the cut costs by the estimate: in units of the loss where its gradients were
            measured, else as a share of the variance of what layers compute.
        widths: {layer: channels that it makes}.
        probes: {probe: channels that pass it}.
    """

    macs: int
    parameters: int
    peak_activation_bytes: int
    score: float
    loss: float
    widths: Mapping[str, int]
    probes: Mapping[str, int]

    @property
    def cost(self) -> Cost:
        """What it costs on a device."""
        return Cost(self.parameters, self.macs, self.peak_activation_bytes)


class Rung(NamedTuple):
    """The networks at one budget.

    Attributes:
        share: The budget, as a fraction of the parent's multiply-adds.
        budget: The budget, in multiply-adds per image.
        cut: Channels went where they cost least by the estimate.
        uniform: Every group of channels kept the same share, with the multiply-adds of `cut` as
            nearly as whole numbers allow.
    """

    share: float
    budget: int
    cut: CutNetwork
    uniform: CutNetwork


@dataclass(frozen=True)
class Ladder:
    """What is left of a trained network at each budget.

    Attributes:
        score: Name of the score, for example "mIoU".
        images: How many images it was measured on.
        weighted: Whether the gradients of a loss were measured.
        parent: The network itself; None where it could not be cut.
        rungs: One per budget, the largest first.
        notes: Why it could not be cut, or not to every budget; one sentence each.
    """

    score: str
    images: int
    weighted: bool
    parent: CutNetwork | None = None
    rungs: Sequence[Rung] = ()
    notes: Sequence[str] = ()

    @property
    def nearest(self) -> Rung | None:
        """The smallest budget down to which no network is more than `NEAR` below its parent."""
        best = None
        for rung in self.rungs:
            if self.parent is None or not rung.cut.score >= self.parent.score - NEAR:
                break
            best = rung
        return best


def check_shares(shares: Sequence[float]) -> list[float]:
    """Returns budgets, the largest first, each once.

    Args:
        shares: Fractions of the multiply-adds.

    Raises:
        ValueError: There are none, or one is not between 0 and 1.

    Example:
        >>> check_shares([0.25, 0.5])
        [0.5, 0.25]
    """
    if not shares or not all(0 < share < 1 for share in shares):
        raise ValueError(
            "Expected a ladder of shares of the multiply-adds between 0 and 1, such as "
            f"0.75,0.5,0.25. Received: {','.join(f'{share:g}' for share in shares) or 'none'}"
        )
    return sorted(set(shares), reverse=True)


def ladder_values(ladder: Ladder) -> dict[str, Any]:
    """Returns a ladder as what JSON can hold."""
    return {
        "score": ladder.score,
        "images": ladder.images,
        "weighted": ladder.weighted,
        "parent": None if ladder.parent is None else _network_values(ladder.parent),
        "rungs": [
            {"share": rung.share, "budget": rung.budget}
            | _network_values(rung.cut)
            | {"uniform": _network_values(rung.uniform)}
            for rung in ladder.rungs
        ],
        "notes": list(ladder.notes),
    }


def ladder_from(values: Mapping[str, Any]) -> Ladder:
    """Returns the ladder that `ladder_values` has turned into values."""
    return Ladder(
        values["score"],
        values["images"],
        values["weighted"],
        None if values["parent"] is None else _network(values["parent"]),
        tuple(
            Rung(rung["share"], rung["budget"], _network(rung), _network(rung["uniform"]))
            for rung in values["rungs"]
        ),
        tuple(values["notes"]),
    )


def _network_values(network: CutNetwork) -> dict[str, Any]:
    score = None if math.isnan(network.score) else network.score
    return network._asdict() | {"score": score}


def _network(values: Mapping[str, Any]) -> CutNetwork:
    network = CutNetwork(*(values[name] for name in CutNetwork._fields))
    return network._replace(score=math.nan) if network.score is None else network
