"""Several runs side by side: rows, and what cannot be compared. No Keras."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..loggers.console import half_width
from ..records.reading import RunFolder, read_run
from ..records.record import ProbeRecord
from .advice import Cost
from .tables import short


@dataclass(frozen=True)
class ComparedRun:
    """One run's row.

    Attributes:
        name: Name of its folder.
        model: Name of its network, or "".
        seed: Seed of its training, or None.
        data: What it was trained on.
        size: Height and width of its input, or ().
        miou: On the test split; nan where the run has not finished.
        cost: Cost of its network; None where the run does not say.
        arena: Bytes of the arena of its INT8 file; None where there is none, or it is unknown.
        records: {probe: its records in order}.
    """

    name: str
    model: str
    seed: int | None
    data: str
    size: tuple[int, ...]
    miou: float
    cost: Cost | None
    arena: int | None
    records: dict[str, list[ProbeRecord]]


@dataclass(frozen=True)
class Comparison:
    """Runs side by side. `str(comparison)` is the notes and the table as text.

    Attributes:
        runs: One row per run.
        differences: Which runs cannot be compared with the first, and why.
        notes: What is missing from a run or was left out, one sentence each.
    """

    runs: Sequence[ComparedRun]
    differences: Sequence[str]
    notes: Sequence[str] = ()

    def __str__(self) -> str:
        """Returns the notes, and the table."""
        notes = [f"note: {note}" for note in (*self.differences, *self.notes)]
        return "\n".join([*notes, comparison_table(self.runs)])


def compare_runs(runs: Sequence[str | Path]) -> Comparison:
    """Reads runs and compares them, and writes nothing.

    Args:
        runs: Their folders, two or more.

    Raises:
        ValueError: There are fewer than two, or a file of one is damaged.
        FileNotFoundError: A folder does not exist, or holds no records.
    """
    folders = [read_run(folder) for folder in runs]
    if len(folders) < 2:
        raise ValueError(f"Expected two runs or more. Received: {len(folders)}")
    rows = [compared_run(run) for run in folders]
    notes = [f"{run.name}: {note}" for run in folders for note in run.notes]
    return Comparison(rows, differences(rows), notes)


def compared_run(run: RunFolder) -> ComparedRun:
    """Returns a run's row."""
    data, size, model, seed = "unknown", (), "", None
    if run.config:
        data = run.config["data"]["root"] or "drawn scenes"
        model, size = run.config["model"]["name"], tuple(run.config["model"]["input_size"])
        seed = run.config["training"]["seed"]
    miou = run.evaluation.get("miou")
    return ComparedRun(
        name=run.name,
        model=model,
        seed=seed,
        data=data,
        size=size,
        miou=math.nan if miou is None else miou,
        cost=Cost(*(run.cost[name] for name in Cost._fields)) if run.cost else None,
        arena=run.exported.get("arena_bytes"),
        records=dict(run.records),
    )


def differences(runs: Sequence[ComparedRun]) -> list[str]:
    """Describes which runs cannot be compared with the first, and why; empty if all can.

    Channels in use depend on the images on which they were measured, and scores on the
    test images.
    """
    first, sentences = runs[0], []
    for run in runs[1:]:
        parts = []
        if run.data != first.data:
            parts.append(f"other data ({run.data}, not {first.data})")
        if run.size != first.size:
            parts.append(f"another input size ({_size(run.size)}, not {_size(first.size)})")
        if parts:
            sentences.append(
                f"{run.name} cannot be compared with {first.name}: {' and '.join(parts)}"
            )
    return sentences


def trend(records: Sequence[ProbeRecord]) -> float:
    """Returns how many channels in use were gained over the last quarter of the epochs.

    It is nan for fewer than 4 measurements.
    """
    measured = [record for record in records if record.epoch >= 0]
    if len(measured) < 4:
        return math.nan
    return measured[-1].effective_rank - measured[-1 - len(measured) // 4].effective_rank


def stages(runs: Sequence[ComparedRun]) -> list[str]:
    """Returns the names of all probes, in the order of their first appearance."""
    return list(dict.fromkeys(probe for run in runs for probe in run.records))


def comparison_table(runs: Sequence[ComparedRun]) -> str:
    """Returns the table as text, one block per run."""
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
            last, gained = records[-1], trend(records)
            late = "" if math.isnan(gained) else f"  {gained + 0.0:+.1f} over the last quarter"
            verdict = "" if last.verdict == "ok" else f"  ({last.verdict})"
            lines.append(
                f"  {short(probe):12} {last.channels:4} channels  {last.effective_rank:6.1f}"
                f"{half_width(last)} in use{late}{verdict}"
            )
    return "\n".join(lines)


def _size(size: Sequence[int]) -> str:
    return "x".join(map(str, size)) or "unknown"
