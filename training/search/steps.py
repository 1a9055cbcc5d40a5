"""Which network is trained next: successive halving, decided whenever a process asks for work."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KEPT = (0.25, 0.5)  # of the networks of each rung but the last


@dataclass(frozen=True)
class Step:
    """A network on a rung.

    Attributes:
        rung: From 0.
        network: Number of the network, from 0.
    """

    rung: int
    network: int


@dataclass(frozen=True)
class Taken:
    """A step that some process has taken.

    Attributes:
        step: The step.
        proposal: Values of the network's proposal; empty if it is not drawn yet.
        score: Mean score; None while it runs, nan if there is no such network.
    """

    step: Step
    proposal: Mapping[str, Any]
    score: float | None


def next_step(taken: Sequence[Taken], count: int) -> Step | None:
    """Returns the next step that nobody has taken.

    A rung is filled first. Only when all of its networks have scores does the best share of them
    go on, so the number of networks on each rung does not depend on who is faster.

    Args:
        taken: The steps that run or have ended; not those of processes that died.
        count: Networks of the first rung.

    Returns:
        The step; None if what runs decides it, or if none is left.

    Example:
        >>> first = [Taken(Step(0, n), {"share": n}, score=n / 10) for n in range(8)]
        >>> next_step(first[:5] + first[6:], 8)
        Step(rung=0, network=5)
        >>> next_step(first, 8), next_step([*first, Taken(Step(1, 7), {}, None)], 8)
        (Step(rung=1, network=7), Step(rung=1, network=6))
    """
    steps = {each.step for each in taken}
    networks = list(range(count))
    for rung in range(len(KEPT) + 1):
        for network in networks:
            if Step(rung, network) not in steps:
                return Step(rung, network)
        results = [each for each in taken if each.step.rung == rung]
        if rung == len(KEPT) or any(each.score is None for each in results):
            return None
        networks = _best(results, math.ceil(KEPT[rung] * len(results)))
    return None


def _best(results: Sequence[Taken], count: int) -> list[int]:
    """Returns the networks with the highest scores; of those with one proposal, the first."""
    scored = [(each, each.score) for each in results if each.score is not None]
    ranked = sorted(
        ((each, score) for each, score in scored if not math.isnan(score)),
        key=lambda pair: (-pair[1], pair[0].step.network),
    )
    distinct: dict[str, int] = {}
    for each, _ in ranked:
        distinct.setdefault(json.dumps(dict(each.proposal), sort_keys=True), each.step.network)
    return list(distinct.values())[:count]
