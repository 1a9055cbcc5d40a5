"""Reads and writes advice.json, the advice on a run, for later reports. No Keras."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from ..records.files import DamagedFileError, whole_file
from ..records.reading import read_checked
from .advice import Cost, WidthAdvice
from .budget import Candidate
from .ladder import Ladder, ladder_from, ladder_values


@dataclass(frozen=True)
class SavedAdvice:
    """The advice in an advice.json.

    Attributes:
        advice: A width for each probe.
        ladder: What cutting the network costs; None where it was not measured.
        costs: Cost of the network as it is, and at the advised widths; None where they are
            unknown.
    """

    advice: Sequence[WidthAdvice]
    ladder: Ladder | None
    costs: tuple[Cost, Cost] | None


def read_advice(path: Path) -> SavedAdvice:
    """Reads an advice.json.

    Raises:
        FileNotFoundError: It does not exist.
        DamagedFileError: It is damaged, or of another version.
    """
    values = read_checked(path)
    ladder = _ladder(path, values["ladder"]) if "ladder" in values else None
    names = [field.name for field in fields(WidthAdvice)]
    advice = [
        WidthAdvice(**{name: width[name] for name in names if name in width})
        for width in values["advice"]
    ]
    costs = None
    if "now" in values and "advised" in values:
        costs = _cost(values["now"]), _cost(values["advised"])
    return SavedAdvice(advice, ladder, costs)


def _ladder(path: Path, values: Mapping[str, Any]) -> Ladder:
    ladder = ladder_from(values)
    networks = [network for rung in ladder.rungs for network in (rung.cut, rung.uniform)]
    if ladder.parent is not None:
        names = [(set(n.widths), set(n.probes)) for n in (ladder.parent, *networks)]
        if any(others != names[0] for others in names):
            raise DamagedFileError(
                f"{path}: expected all networks of 'ladder' to have the same layers. The file is "
                "damaged, or not from a run of this version."
            )
    return ladder


def write_advice(
    path: Path,
    advice: Sequence[WidthAdvice],
    *,
    rule: str,
    multiple: int,
    ladder: Ladder | None = None,
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
        ladder: What cutting the network costs. Defaults to None: not measured.
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
    if ladder is not None:
        values["ladder"] = ladder_values(ladder)
    if candidates:
        values["candidates"] = [
            candidate._asdict() | {"cost": candidate.cost._asdict()} for candidate in candidates
        ]
    if costs is not None:
        now, advised = (cost._asdict() for cost in costs)
        values |= {"now": now, "advised": advised | dict(arguments or {})}
    write_json(path, values)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes a mapping as JSON, whole or not at all."""
    with whole_file(path) as draft:
        draft.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _cost(values: Mapping[str, Any]) -> Cost:
    return Cost(*(values[name] for name in Cost._fields))
