"""Scores of networks over what they cost: seeds as dots, means with errors, and the front."""

import html
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from .figures import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Axis, Figure, frame, svg


@dataclass(frozen=True)
class ScoredNetwork:
    """A network, trained with one seed or more.

    Attributes:
        name: Its name.
        cost: What it costs, above 0.
        scores: One score per seed, all finite.
        family: Networks of one family have one colour.
        is_chosen: Whether it is the one that was chosen.
        is_partial: Whether it was trained less than the others: it is drawn hollow, and is not
            in the front.
    """

    name: str
    cost: float
    scores: Sequence[float]
    family: str = ""
    is_chosen: bool = False
    is_partial: bool = False

    @property
    def mean(self) -> float:
        """Mean score."""
        return fmean(self.scores)

    @property
    def error(self) -> float:
        """Standard error of the mean; nan for one seed.

        Example:
            >>> round(ScoredNetwork("small", 1.0, [0.8, 0.9]).error, 3)
            0.05
        """
        if len(self.scores) < 2:
            return math.nan
        return stdev(self.scores) / math.sqrt(len(self.scores))


def front(networks: Sequence[ScoredNetwork]) -> list[ScoredNetwork]:
    """Returns the networks that none beats at the same cost or less, the cheapest first.

    Example:
        >>> costs = {"a": (1, [0.8]), "b": (2, [0.7]), "c": (3, [0.9])}
        >>> networks = [ScoredNetwork(name, *values) for name, values in costs.items()]
        >>> [network.name for network in front(networks)]
        ['a', 'c']
    """
    best: list[ScoredNetwork] = []
    for network in sorted(networks, key=lambda n: (n.cost, -n.mean)):
        if not best or network.mean > best[-1].mean:
            best.append(network)
    return best


def pareto_figure(
    networks: Sequence[ScoredNetwork],
    *,
    title: str,
    x_label: str,
    y_label: str,
    limit: float | None = None,
    joined: Collection[str] = (),
) -> Figure:
    """Draws scores over costs.

    Args:
        networks: One or more.
        title: Text for screen readers.
        x_label: Label of the cost, with its unit.
        y_label: Label of the score.
        limit: What costs more than this is shaded. Defaults to None: nothing is.
        joined: Families that are joined by a line. Defaults to none.

    Returns:
        An <svg> and its legend.
    """
    ends = [n.mean + side * n.error for n in networks for side in (-1, 1) if n.error == n.error]
    costs = [n.cost for n in networks] + ([] if limit is None else [limit])
    x_axis = Axis([0, 1.05 * max(costs)], LEFT, WIDTH - RIGHT)
    y_axis = Axis([*ends, *(s for n in networks for s in n.scores)], HEIGHT - BOTTOM, TOP)
    parts = [*frame(x_axis, y_axis, x_label, y_label)]
    if limit is not None:
        at = x_axis(limit)
        parts.append(
            f'<rect class="beyond" x="{at:.1f}" y="{TOP}" width="{WIDTH - RIGHT - at:.1f}" '
            f'height="{HEIGHT - BOTTOM - TOP}"><title>does not fit</title></rect>'
        )
    whole = [n for n in networks if not n.is_partial]
    within = [n for n in whole if limit is None or n.cost <= limit]
    steps = [(x_axis(n.cost), y_axis(n.mean)) for n in front(within)]
    if steps:
        path = f"M{steps[0][0]:.1f},{steps[0][1]:.1f}"
        path += "".join(f"H{x:.1f}V{y:.1f}" for x, y in steps[1:]) + f"H{x_axis(max(costs)):.1f}"
        parts.append(f'<path class="front" d="{path}"/>')
    families = list(dict.fromkeys(network.family for network in networks))
    for number, family in enumerate(families):
        own = sorted((n for n in networks if n.family == family), key=lambda n: n.cost)
        if family in joined and len(own) > 1:
            line = " ".join(f"{x_axis(n.cost):.1f},{y_axis(n.mean):.1f}" for n in own)
            parts.append(f'<polyline class="line c{number % 8}" points="{line}"/>')
        for network in own:
            parts += _marks(network, x_axis, y_axis, f"c{number % 8}")
    names = "".join(
        f'<li><span class="key c{number % 8}"></span>{html.escape(family or "others")}</li>'
        for number, family in enumerate(families)
    )
    legend = f'<ul class="legend">{names}</ul>' if len(families) > 1 else ""
    return Figure(svg(parts, WIDTH, HEIGHT, title) + legend)


def _marks(network: ScoredNetwork, x_axis: Axis, y_axis: Axis, kind: str) -> list[str]:
    """Returns a network's seeds, its mean, and the bar of its error."""
    x, error = x_axis(network.cost), network.error
    text = f"{network.name}: {network.mean:.4f}"
    text += f" ± {error:.4f}, {len(network.scores)} seeds" if error == error else ""
    seeds = [
        f'<circle class="seed {kind}" cx="{x:.1f}" cy="{y_axis(score):.1f}" r="2"/>'
        for score in (network.scores if error == error else ())
    ]
    bar = []
    if error == error:
        low, high = y_axis(network.mean - error), y_axis(network.mean + error)
        ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{low:.1f}" y2="{high:.1f}"'
        bar = [f'<line class="bar {kind}" {ends}/>']
    ring = [f'<circle class="chosen" cx="{x:.1f}" cy="{y_axis(network.mean):.1f}" r="8"/>']
    mark = "hollow" if network.is_partial else "dot"
    return [
        *seeds,
        *bar,
        *(ring if network.is_chosen else []),
        f'<circle class="{mark} {kind}" cx="{x:.1f}" cy="{y_axis(network.mean):.1f}" r="4">'
        f"<title>{html.escape(text)}</title></circle>",
    ]
