"""How masks are read that are not two classes by themselves."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Colour = tuple[int, int, int]


def mask_values(values: Any) -> Any:
    """Returns values of masks: whole numbers, and colours as (red, green, blue).

    Raises:
        ValueError: A value is neither a number of 0..65535, nor a colour as [128, 0, 0] or
            "#800000".

    Example:
        >>> mask_values([255, "#800000", [0, 128, 0]])
        (255, (128, 0, 0), (0, 128, 0))
    """
    if values is None:
        return None
    values = values if isinstance(values, (list, tuple)) else [values]
    return tuple(_mask_value(value) for value in values)


def _mask_value(value: Any) -> int | tuple[int, ...]:
    if isinstance(value, str) and re.fullmatch("#[0-9a-fA-F]{6}", value):
        value = [int(value[start : start + 2], 16) for start in (1, 3, 5)]
    if type(value) is int and 0 <= value <= 65535:
        return value
    if isinstance(value, (list, tuple)) and len(value) == 3:
        if all(type(part) is int and 0 <= part <= 255 for part in value):
            return tuple(value)
    raise ValueError(
        'expected grey values or palette indices, or colours as [128, 0, 0] or "#800000". '
        f"Received: {value!r}"
    )


@dataclass(frozen=True)
class MaskOptions:
    """How masks are read that cannot be understood by themselves.

    Attributes:
        foreground: Values of the foreground: grey values, palette indices, or colours (red,
            green, blue), each 0..255; grey values of 16-bit files to 65535. All others are
            background. None: decided by what is in the files.
        ignore: Values that are neither foreground nor background.
        alpha: "mask": the alpha channel is the mask; "ignore": it means nothing; None: files
            whose alpha channel says something else than their colours are refused.
    """

    foreground: Sequence[int | Colour] | None = None
    ignore: Sequence[int | Colour] = ()
    alpha: str | None = None


def mask_options(
    foreground: Any = None, ignore: Any = (), alpha: str | None = None, ignore_value: Any = None
) -> MaskOptions:
    """Returns checked options.

    Raises:
        ValueError: One is impossible.

    Example:
        >>> mask_options("#800000", ignore=255)
        MaskOptions(foreground=((128, 0, 0),), ignore=(255,), alpha=None)
    """
    if alpha not in (None, "mask", "ignore"):
        raise ValueError(f"Expected alpha to be mask, ignore or None. Received: {alpha!r}")
    ignored = (*mask_values(ignore), *(() if ignore_value is None else mask_values(ignore_value)))
    wanted = mask_values(foreground)
    both = sorted(map(str, set(wanted or ()) & set(ignored)))
    if both:
        raise ValueError(f"foreground and ignore must differ. Received: {', '.join(both)} in both")
    return MaskOptions(wanted, ignored, alpha)
