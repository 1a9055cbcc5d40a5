"""From what a run has recorded to a width for each stage. No Keras: pure functions."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from ..records.record import ProbeRecord

STILL_MOVING = 0.05  # of the width, over the last quarter of the epochs


class Width(NamedTuple):
    """A number of channels, and the 95 % interval that it is known to."""

    value: float
    low: float
    high: float


def effective_rank_width(record: ProbeRecord) -> Width:
    """Returns the channels in use."""
    return Width(record.effective_rank, record.effective_rank_low, record.effective_rank_high)


def participation_width(record: ProbeRecord) -> Width:
    """Returns the participation ratio of the correlation: live channels x (1 - redundancy)."""
    live = record.channels - record.dead_channels
    score, low, high = record.redundancy_score, record.redundancy_low, record.redundancy_high
    return Width(live * (1 - score), live * (1 - high), live * (1 - low))


def variance_width(record: ProbeRecord) -> Width:
    """Returns the directions that hold 99 % of the variance; it has no interval."""
    return Width(*[record.intrinsic_dimension] * 3)


RULES: Mapping[str, Callable[[ProbeRecord], Width]] = {
    "effective_rank": effective_rank_width,
    "participation_ratio": participation_width,
    "variance": variance_width,
}
SAID: Mapping[str, str] = {
    "effective_rank": "{:.1f} channels in use ({:.1f} to {:.1f})",
    "participation_ratio": "participation ratio {:.1f} ({:.1f} to {:.1f})",
    "variance": "{:.0f} directions hold 99 % of the variance",
}
DEFAULT_RULE = "effective_rank"


class Cost(NamedTuple):
    """What a network costs, as `models.cost.model_cost` counts it."""

    parameters: int
    macs: int
    peak_activation_bytes: int


@dataclass(frozen=True)
class WidthAdvice:
    """A width for the stage that a probe ends.

    Attributes:
        probe: Name of the layer.
        channels: Its width now.
        suggested: The width advised; `channels` means keep.
        low: The least that the interval would lead to.
        high: The most.
        reason: Why, in words.
        parameters: Of the network with this stage alone at `suggested`; None where nobody
            can build it.
        macs: Multiply-adds of it.
        peak_activation_bytes: Of it, in INT8.
    """

    probe: str
    channels: int
    suggested: int
    low: int
    high: int
    reason: str
    parameters: int | None = None
    macs: int | None = None
    peak_activation_bytes: int | None = None

    @property
    def keep(self) -> bool:
        """Whether the stage stays as wide as it is."""
        return self.suggested == self.channels


def advise(
    records: Mapping[str, Sequence[ProbeRecord]],
    *,
    multiple: int = 4,
    rule: str = DEFAULT_RULE,
    cost: Callable[[Mapping[str, int]], Cost] | None = None,
) -> list[WidthAdvice]:
    """Advises a width for each probe's stage.

    The upper end of the interval of the channels in use, without dead and duplicate
    channels, is rounded up to `multiple`; a stage is never widened.

    Args:
        records: {probe: its records in order}.
        multiple: What widths are rounded up to. Defaults to 4.
        rule: A key of `RULES`. Defaults to "effective_rank".
        cost: Builds the network at {probe: width} and counts it. Defaults to None: unknown.

    Returns:
        One piece of advice a probe, in the order of the records.

    Raises:
        ValueError: `multiple` is not positive, or the rule unknown.

    Example:
        >>> advise({}, multiple=8)
        []
    """
    if type(multiple) is not int or multiple < 1:
        raise ValueError(f"Expected multiple to be a positive integer. Received: {multiple!r}")
    if rule not in RULES:
        raise ValueError(f"Unknown rule '{rule}'. Known: {', '.join(RULES)}.")
    found = [_advice(history, multiple, rule) for history in records.values()]
    if cost is None:
        return found
    now = {advice.probe: advice.channels for advice in found}
    return [
        WidthAdvice(
            advice.probe,
            advice.channels,
            advice.suggested,
            advice.low,
            advice.high,
            advice.reason,
            *cost(now | {advice.probe: advice.suggested}),
        )
        for advice in found
    ]


class Candidate(NamedTuple):
    """Widths that were considered under a budget.

    Attributes:
        widths: {probe: width}.
        cost: Of the network built so.
        over: What it exceeds and by how much; empty where it fits.
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
    """Chooses all widths together so that the network fits.

    Every stage gets the same share of the width advised for it, the largest share that
    fits; then single stages are raised, the poorest first, as long as it still fits.

    Args:
        advice: What was advised without a budget.
        budget: {field of `Cost`: the most that it may be}.
        cost: Builds the network at {probe: width} and counts it.
        multiple: What widths are rounded up to. Defaults to 4.

    Returns:
        What was considered, the chosen one last.

    Raises:
        ValueError: Not even the narrowest network fits.
    """
    wanted = {one.probe: one.suggested for one in advice}
    considered: dict[tuple[int, ...], Candidate] = {}

    def tried(widths: Mapping[str, int]) -> Candidate:
        key = tuple(widths.values())
        if key not in considered:
            found = cost(widths)
            considered[key] = Candidate(dict(widths), found, _over(found, budget))
        return considered[key]

    if not advice:
        raise ValueError("Expected advice on at least one stage. Received: none")
    shares = sorted(
        {
            width / most
            for most in wanted.values()
            for width in [*range(multiple, most, multiple), most]
        },
        reverse=True,
    )
    for share in shares:
        chosen = tried(
            {probe: min(most, _up(share * most, multiple)) for probe, most in wanted.items()}
        )
        if not chosen.over:
            break
    else:
        raise ValueError(
            f"No network fits: the narrowest, {_listed(chosen.widths)}, is {chosen.over}. "
            "A smaller multiple (--multiple) leads further down."
        )
    raised = True
    while raised:
        raised = False
        for probe in sorted(wanted, key=lambda name: chosen.widths[name] / wanted[name]):
            width = min(wanted[probe], chosen.widths[probe] + multiple)
            if width > chosen.widths[probe]:
                wider = tried({**chosen.widths, probe: width})
                if not wider.over:
                    chosen, raised = wider, True
                    break
    return [*(c for c in considered.values() if c is not chosen), chosen]


def _advice(history: Sequence[ProbeRecord], multiple: int, rule: str) -> WidthAdvice:
    record = history[-1]
    probe, channels = record.probe, record.channels
    if record.verdict != "ok":
        return WidthAdvice(probe, channels, channels, 1, channels, record.verdict)
    width = RULES[rule](record)
    if math.isnan(width.value):
        return WidthAdvice(probe, channels, channels, 1, channels, "nothing to measure")
    spare = int(record.dead_channels + record.duplicate_channels)
    rounded = [min(channels, _up(min(w, channels - spare), multiple)) for w in width[1:]]
    low, high = max(1, min(rounded)), max(1, *rounded)
    said = [SAID[rule].format(*width)]
    if spare:
        dead, duplicates = record.dead_channels, record.duplicate_channels
        said.append(f"{dead:.0f} dead and {duplicates:.0f} duplicate set aside")
    moving = _movement(history, rule)
    if moving:
        said.append(moving)
    return WidthAdvice(probe, channels, high, low, high, "; ".join(said))


def _movement(history: Sequence[ProbeRecord], rule: str) -> str:
    """Says how the width has moved over the last quarter of the epochs, where it did.

    A layer that was measured once is taken as trained to its end.
    """
    measured = [record for record in history if record.epoch >= 0]
    if len(history) == 1:
        return ""
    if len(measured) < 4:
        times = "1 measurement" if len(measured) == 1 else f"{len(measured)} measurements"
        return f"after {times}: whether it still moves is not known"
    before, now = measured[-1 - len(measured) // 4], measured[-1]
    first, last = RULES[rule](before), RULES[rule](now)
    apart = last.low > first.high or first.low > last.high
    if apart and abs(last.value - first.value) > STILL_MOVING * last.value:
        return f"still moving: {first.value:.1f} after epoch {before.epoch + 1}"
    return ""


def _up(width: float, multiple: int) -> int:
    return max(multiple, math.ceil(round(width, 6) / multiple) * multiple)


def _over(found: Cost, budget: Mapping[str, int]) -> str:
    over = [
        f"{getattr(found, name) - most:,} {name.replace('_', ' ')} over"
        for name, most in budget.items()
        if getattr(found, name) > most
    ]
    return " and ".join(over)


def _listed(widths: Mapping[str, int]) -> str:
    return ", ".join(f"{probe.removeprefix('probe_')} {width}" for probe, width in widths.items())
