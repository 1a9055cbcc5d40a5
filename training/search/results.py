"""What a search has found: its networks, how their scores are to be read, and the chosen one."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, variance
from typing import Any


@dataclass(frozen=True)
class Tried:
    """A network of a search.

    Attributes:
        number: Its number, from 0.
        proposal: How it came about.
        candidate: What it costs; empty if there was no such network.
        scores: One per training: rung, epochs, seed, miou, file_bytes, seconds.
        refused: Why there was no such network; "" if there was.
    """

    number: int
    proposal: Mapping[str, Any]
    candidate: Mapping[str, Any]
    scores: Sequence[Mapping[str, Any]]
    refused: str = ""

    @property
    def rung(self) -> int:
        """The last rung that it has reached; -1 if none."""
        return max((score["rung"] for score in self.scores), default=-1)

    def of_rung(self, rung: int) -> list[float]:
        """Returns the scores of a rung, one per seed."""
        return [score["miou"] for score in self.scores if score["rung"] == rung]


@dataclass(frozen=True)
class Final:
    """A network of the last rung.

    Attributes:
        tried: The network.
        mean: Mean validation mIoU over its seeds.
        error: Standard error of the mean, from the variance of all networks' seeds together.
        shrunken: The mean, drawn towards that of all networks by as much as their noise explains.
    """

    tried: Tried
    mean: float
    error: float
    shrunken: float


def finals(networks: Sequence[Tried]) -> list[Final]:
    """Returns the networks of the last rung that any has reached, the best first.

    The best of several noisy scores is better than it really is. With a variance v of networks and
    e of a mean's noise, the best guess of a network's score is m + (mean - m) v / (v + e), where m
    is the mean of all.

    Args:
        networks: All of a search.

    Example:
        >>> scores = [{"rung": 2, "miou": m} for m in (0.8, 0.9)]
        >>> [round(each.mean, 2) for each in finals([Tried(0, {}, {}, scores)])]
        [0.85]

    Reference:
        Efron, Morris 1973, Stein's Estimation Rule and its Competitors.
    """
    last = max((network.rung for network in networks), default=-1)
    reached = [(n, n.of_rung(last)) for n in networks if last >= 0 and n.rung == last]
    seeds = [variance(scores) for _, scores in reached if len(scores) > 1]
    noise = fmean(seeds) if seeds else math.nan
    means = [fmean(scores) for _, scores in reached]
    ranked = []
    for (network, scores), mean in zip(reached, means, strict=True):
        error = noise / len(scores)
        spread = variance(means) - error if len(means) > 1 else 0.0
        whole, between = fmean(means), max(spread, 0.0)
        share = between / (between + error) if between + error > 0 else 1.0
        shrunken = mean if math.isnan(error) else whole + share * (mean - whole)
        ranked.append(Final(network, mean, math.sqrt(error), shrunken))
    return sorted(ranked, key=lambda final: -final.mean)
