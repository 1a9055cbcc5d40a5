"""What a run's page shows of the memory that its INT8 file works in."""

import html
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from .figures import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, Figure, svg, ticks

COLOURS = 8
KIBI = 1024


class Peak(NamedTuple):
    """The operator at which most memory is in use.

    Attributes:
        number: Its place in running order, from 1.
        operator: Its name.
        tensors: (name, shape, bytes) of what lies there then.
    """

    number: int
    operator: str
    tensors: Sequence[tuple[str, str, int]]


class Arena(NamedTuple):
    """The arena, ready for the template.

    Attributes:
        plans: (caption, drawing) of where tensors lie: as the runtime places them and, if the
            file does so itself, as that does.
        peak: Where most tensors are there at a time.
        size: Bytes in all; None if unknown.
        plain: Bytes where the runtime places tensors; None if unknown.
        rests_on: What an overlapping plan rests on; "" for a plain one.
        refused: Why there is no overlapping plan, though one was asked for; "" otherwise.
    """

    plans: Sequence[tuple[str, Figure]]
    peak: Peak
    size: int | None
    plain: int | None
    rests_on: str
    refused: str


def arena_section(exported: Mapping[str, Any]) -> Arena | None:
    """Returns what a page shows of export.json; None where it does not say what lies where."""
    arena = exported.get("arena")
    if not arena or not arena["tensors"]:
        return None
    tensors, operators = arena["tensors"], arena["operators"]
    extent = max(tensor["plain"] + tensor["bytes"] for tensor in tensors)
    plans = [("Each output beside its input", arena_map(tensors, "plain", operators, extent))]
    if arena["plan"] == "overlap":
        drawing = arena_map(tensors, "overlap", operators, extent)
        plans.append(("Outputs over inputs that nothing reads any more", drawing))
    return Arena(
        plans=plans,
        peak=peak_of(tensors, operators),
        size=exported["arena_bytes"],
        plain=arena["plain_bytes"],
        rests_on=arena["rests_on"],
        refused=arena["refused"],
    )


def peak_of(tensors: Sequence[Mapping[str, Any]], operators: Sequence[str]) -> Peak:
    """Returns the operator at which the tensors that are there hold most bytes."""
    alive = [_alive(tensors, step) for step in range(len(operators))]
    totals = [sum(tensor["bytes"] for tensor in each) for each in alive]
    step = totals.index(max(totals))
    rows = [
        (short_name(t["name"]), " x ".join(map(str, t["shape"])), t["bytes"]) for t in alive[step]
    ]
    return Peak(step + 1, operators[step], sorted(rows, key=lambda row: -row[2]))


def short_name(name: str) -> str:
    """Returns the layer's name in a LiteRT tensor's.

    Example:
        >>> short_name("nano_u_1/encoder_1_1_relu_1/Relu;nano_u_1/encoder_1_1_pointwise_1/conv")
        'encoder_1_1_relu'
        >>> short_name("serving_default_image:0")
        'serving_default_image:0'
    """
    parts = name.split(";")[0].split("/")
    return re.sub(r"_1$", "", parts[1]) if len(parts) > 1 else name


def _alive(tensors: Sequence[Mapping[str, Any]], step: int) -> list[Mapping[str, Any]]:
    return [tensor for tensor in tensors if tensor["first"] <= step <= tensor["last"]]


def arena_map(
    tensors: Sequence[Mapping[str, Any]], plan: str, operators: Sequence[str], extent: int
) -> Figure:
    """Draws which tensor lies where, over the operators in running order.

    Args:
        tensors: As export.json holds them.
        plan: Which of their places to draw: "plain" or "overlap".
        operators: Names, in running order.
        extent: Bytes that the vertical axis shows.
    """
    across, up = (WIDTH - LEFT - RIGHT) / len(operators), (HEIGHT - TOP - BOTTOM) / extent
    bottom = HEIGHT - BOTTOM
    parts = []
    for value in ticks(0, extent / KIBI):
        at = bottom - value * KIBI * up
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for number, tensor in enumerate(tensors):
        first, last, place = tensor["first"], tensor["last"], tensor[plan]
        shape = " x ".join(map(str, tensor["shape"]))
        text = (
            f"{short_name(tensor['name'])}, {shape}: {tensor['bytes']:,} bytes from {place:,}, "
            f"operators {first + 1} to {last + 1}"
        )
        parts.append(
            f'<rect class="block c{number % COLOURS}" x="{LEFT + first * across:.1f}" '
            f'y="{bottom - (place + tensor["bytes"]) * up:.1f}" '
            f'width="{(last - first + 1) * across:.1f}" height="{tensor["bytes"] * up:.1f}">'
            f"<title>{html.escape(text)}</title></rect>"
        )
    for value in ticks(1, len(operators)):
        if value == int(value):
            at = LEFT + (value - 0.5) * across
            parts.append(
                f'<text x="{at:.1f}" y="{bottom + 15}" text-anchor="middle">{value:g}</text>'
            )
    parts.append(
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">operator</text>'
        f'<text transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        "address, KiB</text>"
    )
    used = max(tensor[plan] + tensor["bytes"] for tensor in tensors)
    title = f"Where each tensor lies while the network runs: {used:,} bytes"
    return svg(parts, WIDTH, HEIGHT, title)
