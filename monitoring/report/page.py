"""Renders the templates and writes pages."""

import functools
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..analysis.tables import short
from ..loggers.console import half_width
from ..optional import needed_for
from ..records.files import whole_file
from ..records.record import ProbeRecord


@functools.cache
def environment() -> Any:
    """Returns the Jinja2 environment of the templates; everything from files is escaped.

    Raises:
        MissingPackageError: Jinja2 is not installed.
    """
    # Jinja2 takes 60 ms to import, and a training run needs it once.
    with needed_for("A page", "jinja2"):
        from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "short": short, "half_width": half_width}
    return templates


def write_text(path: Path, text: str) -> None:
    """Writes a page, whole or not at all."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def number(value: float | None, form: str = ".3f") -> str:
    """Formats a number; an undefined one as a dash.

    Example:
        >>> number(0.5), number(math.nan), number(math.inf, ".3g")
        ('0.500', '–', '∞')
    """
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else format(value, form)


def stages_beside(
    runs: Mapping[str, Mapping[str, ProbeRecord]],
) -> dict[str, dict[str, ProbeRecord]]:
    """Turns {run: {probe: record}} into {stage: {run: record}}."""
    stages: dict[str, dict[str, ProbeRecord]] = {}
    for name, records in runs.items():
        for probe, record in records.items():
            stages.setdefault(short(probe), {})[name] = record
    return stages
