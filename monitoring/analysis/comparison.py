"""Several runs side by side: what can be compared, in one table and one figure a stage."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from ..loggers.console import half_width
from ..records.files import whole_file
from ..records.reading import RunFolder
from ..records.record import ProbeRecord
from ..report.figures import Series, line_chart
from ..report.page import environment, short
from .advice import Cost


@dataclass(frozen=True)
class Compared:
    """One run's row.

    Attributes:
        name: Of its folder.
        model: Of the zoo, or "".
        seed: Of its training, or None.
        data: What it was trained on.
        size: Height and width of its input, or ().
        miou: On the test split; nan where the run has not got that far.
        cost: None where nobody can build the network.
        records: {probe: its records in order}.
    """

    name: str
    model: str
    seed: int | None
    data: str
    size: tuple[int, ...]
    miou: float
    cost: Cost | None
    records: Mapping[str, Sequence[ProbeRecord]]

    @property
    def kind(self) -> tuple[str, tuple[int, ...]]:
        """What two runs must share so that their scores can be compared."""
        return self.data, self.size


def compared(run: RunFolder, cost: Callable[[RunFolder], Cost | None]) -> Compared:
    """Returns a run's row.

    Args:
        run: As `read_run` gave it.
        cost: Builds a run's network and counts it.
    """
    model, training = run.config.get("model", {}), run.config.get("training", {})
    data = "unknown"
    if run.config:
        data = run.config["data"]["root"] or "drawn scenes"
    return Compared(
        name=run.folder.resolve().name,
        model=model.get("name", ""),
        seed=training.get("seed"),
        data=data,
        size=tuple(model.get("input_size", ())),
        miou=run.evaluation.get("miou", math.nan),
        cost=cost(run),
        records=run.records,
    )


def differences(runs: Sequence[Compared]) -> list[str]:
    """Says which runs cannot be compared with the first, and why; empty: all can.

    Channels in use depend on the images that they were measured on, and a score on those it
    was tested on.
    """
    first, said = runs[0], []
    for run in runs[1:]:
        parts = []
        if run.data != first.data:
            parts.append(f"other data ({run.data}, not {first.data})")
        if run.size != first.size:
            parts.append(f"another input size ({_size(run.size)}, not {_size(first.size)})")
        if parts:
            said.append(f"{run.name} cannot be compared with {first.name}: {' and '.join(parts)}")
    return said


def trend(records: Sequence[ProbeRecord]) -> float:
    """Returns how many channels in use were gained over the last quarter of the epochs.

    nan for fewer than 4 measurements.
    """
    measured = [record for record in records if record.epoch >= 0]
    if len(measured) < 4:
        return math.nan
    return measured[-1].effective_rank - measured[-1 - len(measured) // 4].effective_rank


def stages(runs: Sequence[Compared]) -> list[str]:
    """Returns the names of all probes, in the order in which they are first seen."""
    return list(dict.fromkeys(probe for run in runs for probe in run.records))


def figures(runs: Sequence[Compared]) -> list[tuple[str, Markup]]:
    """Returns (probe, figure): channels in use over the epochs, a line a run."""
    found = []
    for probe in stages(runs):
        series = [
            Series(
                run.name,
                [record.epoch + 1 for record in run.records[probe]],
                [record.effective_rank for record in run.records[probe]],
                [record.effective_rank_low for record in run.records[probe]],
                [record.effective_rank_high for record in run.records[probe]],
            )
            for run in runs
            if probe in run.records
        ]
        title = f"Channels in use at {short(probe)} over epochs"
        figure = line_chart(series, title=title, x_label="epochs trained", y_label="channels")
        found.append((probe, figure))
    return found


def table(runs: Sequence[Compared]) -> str:
    """Returns the table as text, a block a run."""
    lines = []
    for run in runs:
        seed = "" if run.seed is None else f", seed {run.seed}"
        lines.append(f"{run.name}  ({run.model or 'a model'}{seed}, {run.data})")
        cost = "cost unknown"
        if run.cost is not None:
            cost = (
                f"{run.cost.parameters:,} parameters, {run.cost.macs:,} multiply-adds, "
                f"{run.cost.peak_activation_bytes:,} bytes of activations"
            )
        score = "no score" if math.isnan(run.miou) else f"test mIoU {run.miou:.4f}"
        lines.append(f"  {score}, {cost}")
        for probe, records in run.records.items():
            last, moved = records[-1], trend(records)
            late = "" if math.isnan(moved) else f"  {moved + 0.0:+.1f} over the last quarter"
            said = "" if last.verdict == "ok" else f"  ({last.verdict})"
            lines.append(
                f"  {short(probe):12} {last.channels:4} channels  {last.effective_rank:6.1f}"
                f"{half_width(last)} in use{late}{said}"
            )
    return "\n".join(lines)


def write_comparison(runs: Sequence[Compared], path: Path) -> None:
    """Writes the comparison as one HTML file that needs no other and no network."""
    text = (
        environment()
        .get_template("compare.html")
        .render(
            runs=runs,
            stages=stages(runs),
            figures=figures(runs),
            differences=differences(runs),
            trend=trend,
        )
    )
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _size(size: Sequence[int]) -> str:
    return "x".join(map(str, size)) or "unknown"
