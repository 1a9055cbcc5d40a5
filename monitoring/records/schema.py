"""What each file of a run's folder must hold for its readers. Unknown keys are ignored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from .files import DamagedFileError
from .run_files import ADVICE, CONFIG, COST, EVALUATION, EXPORT, NARROWING

LARGEST = 2**63  # no whole number in a run's files is plausible beyond this


@dataclass(frozen=True)
class Value:
    """A single value.

    Attributes:
        expected: What it must be, for messages.
        accepts: Whether a value is that.
    """

    expected: str
    accepts: Callable[[Any], bool]


@dataclass(frozen=True)
class Fields:
    """A mapping with known keys.

    Attributes:
        required: {key: schema of its value}.
        optional: The same, of keys that may be absent.
    """

    required: Mapping[str, "Schema"]
    optional: Mapping[str, "Schema"] = field(default_factory=dict)


@dataclass(frozen=True)
class ListOf:
    """A list of any length whose entries share one schema."""

    entry: "Schema"


@dataclass(frozen=True)
class OrNull:
    """Null, or what the schema describes."""

    schema: "Schema"


Schema: TypeAlias = Value | Fields | ListOf | OrNull


def _is_integer(value: Any) -> bool:
    return type(value) is int and abs(value) < LARGEST


def _is_text(value: Any) -> bool:
    """Returns whether a value is a string that can be written as UTF-8."""
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


TEXT = Value("a string", _is_text)
COUNT = Value("a whole number, 0 or more", lambda value: _is_integer(value) and value >= 0)
INTEGER = Value("a whole number", _is_integer)
WIDTH = Value("a whole number, 1 or more", lambda value: _is_integer(value) and value >= 1)
NUMBER = Value("a number", lambda value: isinstance(value, float) or _is_integer(value))
SIZE = Value(
    "a list of two whole numbers",
    lambda value: isinstance(value, list) and len(value) == 2 and all(map(_is_integer, value)),
)
SCORE = OrNull(NUMBER)  # null where it is undefined

SCORES = Fields(
    dict.fromkeys(
        ("miou", "foreground_iou", "f1", "f05", "f2", "precision", "recall"),
        SCORE,
    )
)
SPREAD = Fields(dict.fromkeys(("median", "p5", "worst"), SCORE))
SWEEP = ListOf(
    Fields({"threshold": NUMBER} | dict.fromkeys(("miou", "f1", "precision", "recall"), SCORE))
)
COSTS = Fields(dict.fromkeys(("parameters", "macs", "peak_activation_bytes"), COUNT))
ADVISED_WIDTH = Fields(
    {"probe": TEXT, "reason": TEXT}
    | dict.fromkeys(("channels", "suggested", "low", "high"), WIDTH),
    dict.fromkeys(("parameters", "macs", "peak_activation_bytes"), OrNull(COUNT)),
)
WIDTHS = Value(
    "a mapping of names to whole numbers, 1 or more",
    lambda value: (
        isinstance(value, dict)
        and all(map(_is_text, value))
        and all(map(WIDTH.accepts, value.values()))
    ),
)
YES_OR_NO = Value("true or false", lambda value: isinstance(value, bool))
CUT_NETWORK = Fields(
    {**COSTS.required, "score": SCORE, "loss": NUMBER, "widths": WIDTHS, "probes": WIDTHS}
)
RUNG = Fields({**CUT_NETWORK.required, "share": NUMBER, "budget": COUNT, "uniform": CUT_NETWORK})
LADDER = Fields(
    {
        **{"score": TEXT, "images": COUNT, "weighted": YES_OR_NO, "notes": ListOf(TEXT)},
        **{"parent": OrNull(CUT_NETWORK), "rungs": ListOf(RUNG)},
    }
)
CUT_GROUP = Fields(
    {
        **{"name": TEXT, "before": WIDTH, "after": WIDTH},
        **{"kept": ListOf(COUNT), "loss": SCORE, "fixed": TEXT},
    }
)
BY_SPLIT = Fields({"val": SCORES}, {"test": SCORES})
CUT_ROUND = Fields(
    {
        **{"epochs": COUNT, "before": COSTS, "after": COSTS},
        "scores": Fields({"cut": BY_SPLIT}, {"trained": BY_SPLIT}),
    }
)
CUT_LOSSES = Fields({"before": SCORE, "after": SCORE})
NARROWED_FROM = Fields(
    {
        "parent": TEXT,
        "weighted": YES_OR_NO,
        "before": COSTS,
        "after": COSTS,
        "groups": ListOf(CUT_GROUP),
        "scores": Fields({"parent": BY_SPLIT, "cut": BY_SPLIT}, {"trained": BY_SPLIT}),
    },
    {"by_round": ListOf(CUT_ROUND), "losses": CUT_LOSSES, "ladder": OrNull(LADDER)},
)
FILES: Mapping[str, Fields] = {
    CONFIG: Fields(
        {
            "model": Fields({"name": TEXT, "input_size": SIZE}),
            "data": Fields({"root": OrNull(TEXT)}),
            "training": Fields({"seed": COUNT}),
        }
    ),
    EVALUATION: Fields(
        {**SCORES.required, "images": COUNT, "split": TEXT},
        {
            "per_image_iou": SPREAD,
            "sweep": SWEEP,
            "cut": NARROWED_FROM,
            **dict.fromkeys(
                ("training_seconds", "monitoring_seconds", "monitoring_seconds_estimated"),
                NUMBER,
            ),
        },
    ),
    EXPORT: Fields(
        {
            "file": TEXT,
            "quantization": TEXT,
            "refused": TEXT,
            "int8_scores": SCORES,
            "per_image_iou": SPREAD,
        },
        {"sweep": SWEEP},
    ),
    NARROWING: NARROWED_FROM,
    COST: Fields({**COSTS.required, "trainable": COUNT, "weight_bytes": COUNT, "peak_layer": TEXT}),
    ADVICE: Fields(
        {"advice": ListOf(ADVISED_WIDTH)},
        {
            "ladder": LADDER,
            "now": COSTS,
            "advised": COSTS,
        },
    ),
}


def check(values: Any, path: Path) -> dict[str, Any]:
    """Checks what a file of a run's folder holds, by the file's name.

    Args:
        values: As read from YAML or JSON.
        path: The file; its name is a key of `FILES`.

    Returns:
        The values.

    Raises:
        DamagedFileError: A value has another type, or a key is missing; names the key.

    Example:
        >>> check({"model": 3}, Path("runs/first/config.yaml"))
        Traceback (most recent call last):
        monitoring.records.files.DamagedFileError: runs/first/config.yaml: expected 'model' to \
be a mapping. Received: 3. The file is damaged, or not from a run of this version.
    """
    _check(values, FILES[path.name], path, "")
    checked: dict[str, Any] = values
    return checked


def _check(value: Any, schema: Schema, path: Path, key: str) -> None:
    if isinstance(schema, OrNull):
        if value is not None:
            _check(value, schema.schema, path, key)
    elif isinstance(schema, Value):
        if not schema.accepts(value):
            raise _damaged(path, key, schema.expected, value)
    elif isinstance(schema, ListOf):
        if not isinstance(value, list):
            raise _damaged(path, key, "a list", value)
        for number, entry in enumerate(value):
            _check(entry, schema.entry, path, f"{key}[{number}]")
    else:
        if not isinstance(value, dict):
            raise _damaged(path, key, "a mapping", value)
        for name, inner in schema.required.items():
            inner_key = f"{key}.{name}" if key else name
            if name not in value:
                raise _error(path, f"expected a key '{inner_key}'. Received: none")
            _check(value[name], inner, path, inner_key)
        for name, inner in schema.optional.items():
            if name in value:
                _check(value[name], inner, path, f"{key}.{name}" if key else name)


def _damaged(path: Path, key: str, expected: str, value: Any) -> DamagedFileError:
    subject = f"'{key}' to be {expected}" if key else expected
    return _error(path, f"expected {subject}. Received: {_describe(value)}")


def _error(path: Path, problem: str) -> DamagedFileError:
    return DamagedFileError(
        f"{path}: {problem}. The file is damaged, or not from a run of this version."
    )


def _describe(value: Any) -> str:
    """Describes a value for a message: a container by its type, a long string cut short."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    if isinstance(value, float) or _is_integer(value):
        return repr(value)
    if isinstance(value, str):
        return repr(value[:40]) + ("..." if len(value) > 40 else "")
    names = {dict: "a mapping", list: "a list", int: "a huge number"}
    return names.get(type(value), f"a {type(value).__name__}")
