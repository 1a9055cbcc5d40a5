"""Widths for all stages together that keep the network within a budget. No Keras."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from .advice import Cost, WidthAdvice, round_up


class Candidate(NamedTuple):
    """Widths that were considered under a budget.

    Attributes:
        widths: {probe: width}.
        cost: Cost of the network with these widths.
        over: Which limits it exceeds and by how much; empty where it fits.
    """

    widths: Mapping[str, int]
    cost: Cost
    over: str


def fit_budget(
    advice: Sequence[WidthAdvice],
    budget: Mapping[str, int],
    cost: Callable[[Mapping[str, int]], Cost],
    *,
    multiple: int = 4,
) -> list[Candidate]:
    """Chooses all widths together so that the network fits a budget.

    Every stage gets the same fraction of its advised width, the largest fraction that
    fits; then single stages are widened, the narrowest in proportion first, while the
    network still fits.

    Args:
        advice: The advice without a budget.
        budget: {field of `Cost`: its limit}.
        cost: Builds the network at {probe: width} and returns its cost.
        multiple: Widths are rounded up to a multiple of this. Defaults to 4.

    Returns:
        The widths considered, the chosen ones last.

    Raises:
        ValueError: Not even the narrowest network fits, or there is no advice.

    Example:
        >>> advice = [WidthAdvice("probe_a", 16, 16, 16, 16, "")]
        >>> square = lambda widths: Cost(widths["probe_a"] ** 2, 0, 0)
        >>> fit_budget(advice, {"parameters": 100}, square)[-1].widths
        {'probe_a': 8}
    """
    if not advice:
        raise ValueError("Expected advice on at least one stage. Received: none")
    advised = {width.probe: width.suggested for width in advice}
    considered: dict[tuple[int, ...], Candidate] = {}

    def candidate(widths: Mapping[str, int]) -> Candidate:
        key = tuple(widths.values())
        if key not in considered:
            built = cost(widths)
            considered[key] = Candidate(dict(widths), built, _excess(built, budget))
        return considered[key]

    for fraction in _fractions(advised, multiple):
        chosen = candidate(
            {
                probe: min(most, round_up(fraction * most, multiple))
                for probe, most in advised.items()
            }
        )
        if not chosen.over:
            break
    else:
        raise ValueError(
            f"No network fits: the narrowest, {_listed(chosen.widths)}, is {chosen.over}. "
            "A smaller multiple (--multiple) allows narrower ones."
        )
    while wider := _widened(chosen, advised, multiple, candidate):
        chosen = wider
    return [*(other for other in considered.values() if other is not chosen), chosen]


def _fractions(advised: Mapping[str, int], multiple: int) -> list[float]:
    """Returns the fractions at which a stage's width changes, largest first."""
    fractions = {
        width / most
        for most in advised.values()
        for width in [*range(multiple, most, multiple), most]
    }
    return sorted(fractions, reverse=True)


def _widened(
    chosen: Candidate,
    advised: Mapping[str, int],
    multiple: int,
    candidate: Callable[[Mapping[str, int]], Candidate],
) -> Candidate | None:
    """Returns a candidate with one stage wider that still fits; None where there is none."""
    for probe in sorted(advised, key=lambda name: chosen.widths[name] / advised[name]):
        width = min(advised[probe], chosen.widths[probe] + multiple)
        if width > chosen.widths[probe]:
            wider = candidate({**chosen.widths, probe: width})
            if not wider.over:
                return wider
    return None


def _excess(cost: Cost, budget: Mapping[str, int]) -> str:
    over = [
        f"{getattr(cost, field) - limit:,} {field.replace('_', ' ')} over"
        for field, limit in budget.items()
        if getattr(cost, field) > limit
    ]
    return " and ".join(over)


def _listed(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{probe.removeprefix('probe_')} {width}" for probe, width in widths.items())
