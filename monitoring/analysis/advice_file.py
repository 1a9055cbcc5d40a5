"""Reads and writes advice.json, the advice on a run, for later reports. No Keras."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..records.files import whole_file
from ..records.reading import read_checked
from .advice import Cost, WidthAdvice
from .budget import Candidate
from .check import Check, Projected


@dataclass(frozen=True)
class SavedAdvice:
    """The advice in an advice.json.

    Attributes:
        advice: A width for each probe.
        check: Its projection check; None where none was made.
        costs: Cost of the network as it is, and at the advised widths; None where they are
            unknown.
    """

    advice: Sequence[WidthAdvice]
    check: Check | None
    costs: tuple[Cost, Cost] | None

    @property
    def widths(self) -> dict[str, int]:
        """{probe: advised width}."""
        return {width.probe: width.suggested for width in self.advice}


def read_advice(path: Path) -> SavedAdvice:
    """Reads an advice.json.

    Raises:
        FileNotFoundError: It does not exist.
        DamagedFileError: It is damaged, or of another version.
    """
    values = read_checked(path)
    check = values.get("check")
    if check is not None:
        rows = [Projected(*(row[name] for name in Projected._fields)) for row in check["rows"]]
        check = Check(check["score"], check["whole"], rows)
    names = [field.name for field in fields(WidthAdvice)]
    advice = [
        WidthAdvice(**{name: width[name] for name in names if name in width})
        for width in values["advice"]
    ]
    costs = None
    if "now" in values and "advised" in values:
        costs = _cost(values["now"]), _cost(values["advised"])
    return SavedAdvice(advice, check, costs)


def write_advice(
    path: Path,
    advice: Sequence[WidthAdvice],
    *,
    rule: str,
    multiple: int,
    check: Check | None = None,
    candidates: Sequence[Candidate] = (),
    costs: tuple[Cost, Cost] | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> None:
    """Writes an advice.json.

    Args:
        path: The file.
        advice: A width for each probe.
        rule: The rule that it follows.
        multiple: What widths were rounded up to.
        check: Its projection check. Defaults to None: none was made.
        candidates: The widths considered under a budget. Defaults to none.
        costs: Cost of the network as it is, and at the advised widths. Defaults to None.
        arguments: What builds the advised network. Defaults to None.
    """
    values: dict[str, Any] = {
        "rule": rule,
        "multiple": multiple,
        "widths": {width.probe: width.suggested for width in advice},
        "advice": [asdict(width) for width in advice],
    }
    if check is not None:
        values["check"] = check_values(check)
    if candidates:
        values["candidates"] = [
            candidate._asdict() | {"cost": candidate.cost._asdict()} for candidate in candidates
        ]
    if costs is not None:
        now, advised = (cost._asdict() for cost in costs)
        values |= {"now": now, "advised": advised | dict(arguments or {})}
    write_json(path, values)


def check_values(check: Check) -> dict[str, Any]:
    """Returns a check as what JSON can hold."""
    return check._asdict() | {"rows": [row._asdict() for row in check.rows]}


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, whole or not at all."""
    with whole_file(path) as draft:
        draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _cost(values: Mapping[str, Any]) -> Cost:
    return Cost(*(values[name] for name in Cost._fields))
