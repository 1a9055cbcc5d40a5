"""The widest network of the zoo that fits a device, all stages widened alike."""

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras

from models import MODELS
from models.cost import model_cost
from training.export.offline_plan import PLAIN
from training.export.untrained import arena_sizes

STEPS = 16  # shares of the shipped widths that are told apart, up to the whole of them
GUESSES = 5  # of the widest network, before it is searched by halves


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
    classes: int = 1,
    channels: int = 3,
) -> Fitted:
    """Returns the widest network that keeps to limits, every stage the same share of its width.

    Args:
        name: A key of `models.MODELS`.
        limits: What it must keep to; at least one.
        size: Height and width of the images. Defaults to (60, 80).
        late_upsampling: As for the builders. Defaults to False.
        decoder: Widths of the decoder, as a share of the encoder's. Defaults to 1.
        classes: As for the builders. Defaults to 1.
        channels: Of the images. Defaults to 3.

    Raises:
        ValueError: Not even the narrowest fits, there is no limit, or the arena cannot be told.

    Example:
        >>> widest("nano_u", Limits(macs=2_400_000)).settings["filters"]
        [4, 8, 16]
    """
    if limits.arena is None and limits.macs is None and limits.parameters is None:
        raise ValueError("Expected a limit of the arena, multiply-adds or parameters")
    low, high, best = 0, None, None  # steps of which the first fits and the second does not
    step, tries = STEPS, 0
    while high is None or high - low > 1:
        settings = _settings(name, step, size, decoder) | {"late_upsampling": late_upsampling}
        fitted, room = _measured(settings, limits, (classes, channels))
        if fitted is None:
            high = step
        else:
            low, best = step, fitted
        tries += 1
        # Converting a network takes seconds, so the next width is guessed from what is left over.
        guess = int(step * room)
        if high is None:
            step = min(max(guess, low + 1), 4 * low)
        else:
            step = (low + high) // 2 if tries > GUESSES else min(max(guess, low + 1), high - 1)
    if best is None:
        raise ValueError(
            f"Expected limits that the narrowest {name} keeps to. {_unmet(settings, limits)}"
        )
    return best


def _unmet(settings: Mapping[str, Any], limits: Limits) -> str:
    """Returns limits beside what a network takes that does not keep to them, as text."""
    model = built(settings)
    cost = model_cost(model)
    parts = []
    if limits.arena is not None:
        arena = arena_sizes(model).of(limits.plan)
        parts.append(f"{limits.arena:,} bytes of arena, where it takes {arena:,}")
    if limits.macs is not None:
        parts.append(f"{limits.macs:,} multiply-adds, where it takes {cost.macs:,}")
    if limits.parameters is not None:
        parts.append(f"{limits.parameters:,} parameters, where it takes {cost.parameters:,}")
    return f"Received: {'; '.join(parts)}"


def _settings(name: str, step: int, size: tuple[int, int], decoder: float) -> dict[str, Any]:
    """Returns the section `model` of a network of a share of the shipped widths."""
    defaults = inspect.signature(MODELS[name]).parameters
    whole = (*defaults["filters"].default, defaults["bottleneck"].default)
    *filters, bottleneck = (max(1, round(step / STEPS * width)) for width in whole)
    return {
        **{"name": name, "input_size": list(size), "filters": filters, "bottleneck": bottleneck},
        "decoder_filters": [max(1, round(decoder * width)) for width in reversed(filters)],
    }


def built(settings: Mapping[str, Any], classes: int = 1, channels: int = 3) -> keras.Model:
    """Returns the network of a section `model` as `widest` returns it."""
    return MODELS[settings["name"]](
        (*settings["input_size"], channels),
        tuple(settings["filters"]),
        settings["bottleneck"],
        decoder_filters=tuple(settings["decoder_filters"]),
        late_upsampling=settings["late_upsampling"],
        classes=classes,
    )


def _measured(
    settings: Mapping[str, Any], limits: Limits, ends: tuple[int, int]
) -> tuple[Fitted | None, float]:
    """Returns a network that keeps to limits, else None; and how much wider it could be about."""
    model = built(settings, *ends)
    cost = model_cost(model)
    room = [
        math.sqrt(limit / now)  # both grow with the square of the width
        for limit, now in ((limits.macs, cost.macs), (limits.parameters, cost.parameters))
        if limit is not None
    ]
    arena = None
    if limits.arena is not None:
        arena = cost.peak_overlapped_bytes  # no plan needs less
        if min([limits.arena / arena, *room]) >= 1:
            arena = arena_sizes(model).of(limits.plan)
        room.append(limits.arena / arena)
    if min(room) < 1:
        return None, min(room)
    return Fitted(settings, arena, cost.macs, cost.parameters), min(room)
