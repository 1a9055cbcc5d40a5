"""Advises a width for each stage from its records. Pure functions, no Keras."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from ..records.record import ProbeRecord

STILL_MOVING = 0.05  # of the width, over the last quarter of the epochs


class Width(NamedTuple):
    """A number of channels, with its 95 % interval."""

    value: float
    low: float
    high: float


def effective_rank_width(record: ProbeRecord) -> Width:
    """Returns the number of channels in use."""
    return Width(record.effective_rank, record.effective_rank_low, record.effective_rank_high)


def participation_width(record: ProbeRecord) -> Width:
    """Returns the participation ratio of the correlation: live channels x (1 - redundancy)."""
    live = record.channels - record.dead_channels
    score, low, high = record.redundancy_score, record.redundancy_low, record.redundancy_high
    return Width(live * (1 - score), live * (1 - high), live * (1 - low))


def variance_width(record: ProbeRecord) -> Width:
    """Returns the number of directions that hold 99 % of the variance, without an interval."""
    return Width(*[record.intrinsic_dimension] * 3)


RULES: Mapping[str, Callable[[ProbeRecord], Width]] = {
    "effective_rank": effective_rank_width,
    "participation_ratio": participation_width,
    "variance": variance_width,
}
REASONS: Mapping[str, str] = {
    "effective_rank": "{:.1f} channels in use ({:.1f} to {:.1f})",
    "participation_ratio": "participation ratio {:.1f} ({:.1f} to {:.1f})",
    "variance": "{:.0f} directions hold 99 % of the variance",
}
DEFAULT_RULE = "effective_rank"


class Cost(NamedTuple):
    """What a network costs on a device.

    Attributes:
        parameters: All weights.
        macs: Multiply-adds per image.
        peak_activation_bytes: Most bytes of activations alive at one time, in INT8.
    """

    parameters: int
    macs: int
    peak_activation_bytes: int


@dataclass(frozen=True)
class WidthAdvice:
    """A width for the stage that ends at a probe.

    Attributes:
        probe: Name of the layer.
        channels: Its present width.
        suggested: The advised width; equal to `channels` where it should be kept.
        low: The width at the lower end of the interval.
        high: The width at the upper end.
        reason: Why, in words.
        parameters: Weights of the network with this stage alone at `suggested`; None where
            the network cannot be built.
        macs: Multiply-adds of that network.
        peak_activation_bytes: Its peak activations, in INT8.
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
        """Whether the stage keeps its present width."""
        return self.suggested == self.channels


def advise_widths(
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
        multiple: Widths are rounded up to a multiple of this. Defaults to 4.
        rule: A key of `RULES`. Defaults to "effective_rank".
        cost: Builds the network at {probe: width} and returns its cost. Defaults to None:
            costs are unknown.

    Returns:
        One `WidthAdvice` per probe, in the order of the records.

    Raises:
        ValueError: `multiple` is not positive, or the rule is unknown.

    Example:
        >>> advise_widths({}, multiple=8)
        []
    """
    if type(multiple) is not int or multiple < 1:
        raise ValueError(f"Expected multiple to be a positive integer. Received: {multiple!r}")
    if rule not in RULES:
        raise ValueError(f"Unknown rule '{rule}'. Known: {', '.join(RULES)}.")
    advice = [_advise_width(history, multiple, rule) for history in records.values()]
    if cost is None:
        return advice
    now = {width.probe: width.channels for width in advice}
    return [
        replace(width, **cost(now | {width.probe: width.suggested})._asdict()) for width in advice
    ]


def round_up(width: float, multiple: int) -> int:
    """Returns the smallest positive multiple that is not below a width.

    Example:
        >>> round_up(8.1, 4), round_up(8.0000001, 4)
        (12, 8)
    """
    return max(multiple, math.ceil(round(width, 6) / multiple) * multiple)


def _advise_width(history: Sequence[ProbeRecord], multiple: int, rule: str) -> WidthAdvice:
    record = history[-1]
    probe, channels = record.probe, record.channels
    if record.verdict != "ok":
        return WidthAdvice(probe, channels, channels, 1, channels, record.verdict)
    width = RULES[rule](record)
    if not all(map(math.isfinite, (*width, record.dead_channels, record.duplicate_channels))):
        return WidthAdvice(probe, channels, channels, 1, channels, "nothing to measure")
    spare = int(record.dead_channels + record.duplicate_channels)
    ends = [min(channels, round_up(min(w, channels - spare), multiple)) for w in width[1:]]
    low, high = max(1, min(ends)), max(1, *ends)
    reasons = [REASONS[rule].format(*width)]
    if spare:
        dead, duplicates = record.dead_channels, record.duplicate_channels
        reasons.append(f"{dead:.0f} dead and {duplicates:.0f} duplicate set aside")
    movement = _movement(history, rule)
    if movement:
        reasons.append(movement)
    return WidthAdvice(probe, channels, high, low, high, "; ".join(reasons))


def _movement(history: Sequence[ProbeRecord], rule: str) -> str:
    """Describes how the width has moved over the last quarter of the epochs, if it has.

    A layer with a single measurement counts as fully trained.
    """
    measured = [record for record in history if record.epoch >= 0]
    if len(history) == 1:
        return ""
    if len(measured) < 4:
        times = "1 measurement" if len(measured) == 1 else f"{len(measured)} measurements"
        return f"after {times}: too few to tell whether it is still moving"
    before, now = measured[-1 - len(measured) // 4], measured[-1]
    first, last = RULES[rule](before), RULES[rule](now)
    apart = last.low > first.high or first.low > last.high
    if apart and abs(last.value - first.value) > STILL_MOVING * last.value:
        return f"still moving: {first.value:.1f} after epoch {before.epoch + 1}"
    return ""
