"""Schemas of what is read from a file, and checking values by them. Unknown keys are ignored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from .files import DamagedFileError

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


@dataclass(frozen=True)
class ByKey:
    """One of two mappings.

    Attributes:
        key: What tells them apart.
        present: Schema of a mapping that has it.
        absent: Schema of one that does not.
    """

    key: str
    present: Fields
    absent: Fields


Schema: TypeAlias = Value | Fields | ListOf | OrNull | ByKey


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


def check_value(value: Any, schema: Schema, path: Path, key: str = "") -> None:
    """Checks a value.

    Args:
        value: As read from YAML or JSON.
        schema: What it must be.
        path: The file that it comes from.
        key: Where it is in there. Defaults to "": all of it.

    Raises:
        DamagedFileError: It is something else, or a key is missing; names the key.
    """
    if isinstance(schema, ByKey):
        has_key = isinstance(value, dict) and schema.key in value
        check_value(value, schema.present if has_key else schema.absent, path, key)
    elif isinstance(schema, OrNull):
        if value is not None:
            check_value(value, schema.schema, path, key)
    elif isinstance(schema, Value):
        if not schema.accepts(value):
            raise _damaged(path, key, schema.expected, value)
    elif isinstance(schema, ListOf):
        if not isinstance(value, list):
            raise _damaged(path, key, "a list", value)
        for number, entry in enumerate(value):
            check_value(entry, schema.entry, path, f"{key}[{number}]")
    else:
        if not isinstance(value, dict):
            raise _damaged(path, key, "a mapping", value)
        for name, inner in schema.required.items():
            inner_key = f"{key}.{name}" if key else name
            if name not in value:
                raise _error(path, f"expected a key '{inner_key}'. Received: none")
            check_value(value[name], inner, path, inner_key)
        for name, inner in schema.optional.items():
            if name in value:
                check_value(value[name], inner, path, f"{key}.{name}" if key else name)


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
