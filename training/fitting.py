"""The widest network of the zoo that fits a device, all stages widened alike."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from models import MODELS
from models.cost import model_cost
from training.export.offline_plan import PLAIN
from training.export.untrained import arena_sizes

STEPS = 16  # shares of the shipped widths that are told apart, up to the whole of them


@dataclass(frozen=True)
class Limits:
    """What a device allows; None is no limit.

    Attributes:
        arena: Bytes of working memory of the INT8 file.
        macs: Multiply-adds per image.
        parameters: All weights.
        plan: How the file uses the arena, "plain" or "overlap".
    """

    arena: int | None = None
    macs: int | None = None
    parameters: int | None = None
    plan: str = PLAIN


@dataclass(frozen=True)
class Fitted:
    """A network that fits.

    Attributes:
        settings: Section `model` of a configuration that builds it.
        arena: Bytes of its arena; None where that is no limit, and was not measured.
        macs: Multiply-adds per image.
        parameters: All weights.
    """

    settings: Mapping[str, Any]
    arena: int | None
    macs: int
    parameters: int


def widest(
    name: str,
    limits: Limits,
    *,
    size: tuple[int, int] = (60, 80),
    late_upsampling: bool = False,
    decoder: float = 1.0,
) -> Fitted:
    """Returns the widest network that keeps to limits, every stage the same share of its width.

    Args:
        name: A key of `models.MODELS`.
        limits: What it must keep to; at least one.
        size: Height and width of the images. Defaults to (60, 80).
        late_upsampling: As for the builders. Defaults to False.
        decoder: Widths of the decoder, as a share of the encoder's. Defaults to 1.

    Raises:
        ValueError: Not even the narrowest fits, there is no limit, or the arena cannot be told.

    Example:
        >>> widest("nano_u", Limits(macs=2_400_000)).settings["filters"]
        [4, 8, 16]
    """
    if limits.arena is None and limits.macs is None and limits.parameters is None:
        raise ValueError("Expected a limit of the arena, multiply-adds or parameters")
    measured: dict[int, Fitted | None] = {}

    def fits(step: int) -> bool:
        if step not in measured:
            settings = _settings(name, step, size, decoder) | {"late_upsampling": late_upsampling}
            measured[step] = _measured(settings, limits)
        return measured[step] is not None

    low, high = 0, STEPS  # steps of which the first fits and the second does not
    while fits(high):
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    best = measured.get(low)
    if best is None:
        raise ValueError(f"Expected limits that the narrowest {name} keeps to. Received: {limits}")
    return best


def _settings(name: str, step: int, size: tuple[int, int], decoder: float) -> dict[str, Any]:
    """Returns the section `model` of a network of a share of the shipped widths."""
    defaults = inspect.signature(MODELS[name]).parameters
    whole = (*defaults["filters"].default, defaults["bottleneck"].default)
    *filters, bottleneck = (max(1, round(step / STEPS * width)) for width in whole)
    return {
        **{"name": name, "input_size": list(size), "filters": filters, "bottleneck": bottleneck},
        "decoder_filters": [max(1, round(decoder * width)) for width in reversed(filters)],
    }


def built(settings: Mapping[str, Any]) -> keras.Model:
    """Returns the network of a section `model` as `widest` returns it."""
    return MODELS[settings["name"]](
        (*settings["input_size"], 3),
        tuple(settings["filters"]),
        settings["bottleneck"],
        decoder_filters=tuple(settings["decoder_filters"]),
        late_upsampling=settings["late_upsampling"],
    )


def _measured(settings: Mapping[str, Any], limits: Limits) -> Fitted | None:
    """Returns what a network costs; None if it is more than a limit."""
    model = built(settings)
    cost = model_cost(model)
    if limits.macs is not None and cost.macs > limits.macs:
        return None
    if limits.parameters is not None and cost.parameters > limits.parameters:
        return None
    arena = None
    if limits.arena is not None:
        if cost.peak_overlapped_bytes > limits.arena:
            return None
        arena = arena_sizes(model).of(limits.plan)
        if arena > limits.arena:
            return None
    return Fitted(settings, arena, cost.macs, cost.parameters)
