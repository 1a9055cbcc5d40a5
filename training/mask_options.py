"""How masks are read that are not two classes by themselves."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Colour = tuple[int, int, int]
MOST_CLASSES = 255  # a mask keeps them in uint8, beside pixels that are not scored


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


def class_values(values: Any) -> Any:
    """Returns the values of one class, as `mask_values`; three numbers are one colour.

    Example:
        >>> class_values([128, 0, 0]), class_values([1, 2])
        (((128, 0, 0),), (1, 2))
    """
    is_colour = isinstance(values, (list, tuple)) and [type(part) for part in values] == [int] * 3
    return mask_values([values] if is_colour else values)


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


def class_names(classes: int | str | Sequence[str] | None) -> tuple[str, ...]:
    """Returns the names of several classes; none for foreground and background.

    Args:
        classes: How many, or their names, also as text: "3" or "path,sky"; 1, None and no names
            are foreground and background.

    Raises:
        ValueError: There are too many, or names are missing or alike.

    Example:
        >>> class_names(3), class_names(["path", "sky"]), class_names(1), class_names(())
        (('class_0', 'class_1', 'class_2'), ('path', 'sky'), (), ())
    """
    if isinstance(classes, str):
        classes = int(classes) if classes.isdecimal() else [n.strip() for n in classes.split(",")]
    if classes in (None, (), []) or (classes == 1 and type(classes) is int):
        return ()
    if type(classes) is int and 2 <= classes <= MOST_CLASSES:
        return tuple(f"class_{number}" for number in range(classes))
    if isinstance(classes, (list, tuple)) and 2 <= len(set(map(str, classes))) <= MOST_CLASSES:
        if len(set(classes)) == len(classes) and all(_is_name(name) for name in classes):
            return tuple(classes)
    raise ValueError(
        f"expected a number of classes up to {MOST_CLASSES}, 1 for foreground and background, or "
        f"two or more different names. Received: {classes!r}"
    )


def _is_name(name: Any) -> bool:
    return isinstance(name, str) and bool(name.strip()) and name.isprintable()


@dataclass(frozen=True)
class MaskOptions:
    """How masks are read that cannot be understood by themselves.

    Attributes:
        foreground: Values of the foreground: grey values, palette indices, or colours (red,
            green, blue), each 0..255; grey values of 16-bit files to 65535. All others are
            background. None: decided by what is in the files.
        ignore: Values that are not scored.
        alpha: "mask": the alpha channel is the mask; "ignore": it means nothing; None: files
            whose alpha channel says something else than their colours are refused.
        classes: Names of several classes; none: foreground and background.
        colours: {class: its values}, as for `foreground`, but that three numbers are a colour.
            Empty: a pixel's grey value or palette index is the number of its class, from 0.
    """

    foreground: Sequence[int | Colour] | None = None
    ignore: Sequence[int | Colour] = ()
    alpha: str | None = None
    classes: tuple[str, ...] = ()
    colours: Mapping[str, Sequence[int | Colour]] = field(default_factory=dict)


def mask_options(
    foreground: Any = None,
    ignore: Any = (),
    alpha: str | None = None,
    ignore_value: Any = None,
    classes: Any = None,
    colours: Mapping[str, Any] | None = None,
) -> MaskOptions:
    """Returns checked options.

    Raises:
        ValueError: One is impossible, or two contradict each other.

    Example:
        >>> mask_options("#800000", ignore=255).foreground
        ((128, 0, 0),)
        >>> mask_options(colours={"path": "#800000", "sky": [[0, 0, 128], 7]}).classes
        ('path', 'sky')
    """
    if alpha not in (None, "mask", "ignore"):
        raise ValueError(f"Expected alpha to be mask, ignore or None. Received: {alpha!r}")
    ignored = (*mask_values(ignore), *(() if ignore_value is None else mask_values(ignore_value)))
    wanted = mask_values(foreground)
    both = sorted(map(str, set(wanted or ()) & set(ignored)))
    if both:
        raise ValueError(f"foreground and ignore must differ. Received: {', '.join(both)} in both")
    table = {name: class_values(values) for name, values in (colours or {}).items()}
    names = class_names(classes if classes or not table else list(table))
    _check_table(names, table, ignored)
    if names and (wanted is not None or alpha == "mask"):
        key = "alpha: mask" if wanted is None else "foreground"
        raise ValueError(f"{key} is for two classes: omit it where classes or colours are given")
    return MaskOptions(wanted, ignored, alpha, names, table)


def _check_table(names: Sequence[str], table: Mapping[str, Sequence], ignored: Sequence) -> None:
    """Raises a ValueError for a table of colours that does not give each value one meaning."""
    if table and set(table) != set(names):
        raise ValueError(
            f"colours must name the classes {', '.join(names) or '(none)'}. Received: "
            f"{', '.join(table)}"
        )
    owners = {value: ["ignore"] for value in ignored}
    for name, values in table.items():
        for value in values:
            owners.setdefault(value, []).append(name)
    for value, meanings in owners.items():
        if len(meanings) > 1:
            raise ValueError(
                f"a colour must have one meaning. Received: {value} for {' and '.join(meanings)}"
            )
