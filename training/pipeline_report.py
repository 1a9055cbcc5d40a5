"""What a pipeline has made: its networks side by side, as text, JSON and a page."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitoring.records.files import read_values, whole_file
from monitoring.records.reading import read_run
from monitoring.records.run_files import (
    COST,
    EVALUATION,
    EXPORT,
    MODEL,
    MONITOR_JSONL,
    PIPELINE,
    REPORT,
)
from monitoring.report.page import environment, stages_beside, write_text
from training.export import DATA_RAM


@dataclass(frozen=True)
class Network:
    """A row of the pipeline's report.

    Attributes:
        name: Name of the step.
        miou: Score on the test split; None where it is undefined.
        f1: Score on the test split; None where it is undefined.
        parameters: All weights.
        macs: Multiply-adds per image.
        file_bytes: Size of its file.
        memory: Working memory in INT8, exact if it is known, else an estimate; None for a
            float network.
        fits: Whether that is within 320 KB; None for a float network.
    """

    name: str
    miou: float | None
    f1: float | None
    parameters: int
    macs: int
    file_bytes: int
    memory: int | None = None
    fits: bool | None = None


def write_pipeline_report(folder: Path, steps: Sequence[str]) -> str:
    """Writes pipeline.json and report.html.

    Args:
        folder: The pipeline's folder.
        steps: Its finished steps, each a sub-folder.

    Returns:
        The table of networks as text.
    """
    networks = [network for step in steps for network in _networks(folder / step)]
    text = json.dumps([vars(network) for network in networks], indent=1)
    with whole_file(folder / PIPELINE) as draft:
        draft.write_text(text + "\n", encoding="utf-8")
    stages = stages_beside(
        {
            step: read_run(folder / step).last
            for step in steps
            if (folder / step / MONITOR_JSONL).is_file()
        }
    )
    page = (
        environment()
        .get_template("pipeline.html")
        .render(
            networks=networks,
            stages=stages,
            names=list(steps),
            monitored=[step for step in steps if (folder / step / REPORT).is_file()],
        )
    )
    write_text(folder / REPORT, page)
    return table(networks)


def table(networks: Sequence[Network]) -> str:
    """Returns the networks as text."""
    heads = ("mIoU", 7), ("F1", 7), ("parameters", 11), ("multiply-adds", 14), ("file", 10)
    room = max(len(network.name) for network in networks)
    lines = [" ".join([" " * room, *(f"{head:>{width}}" for head, width in heads), " memory"])]
    for network in networks:
        memory = "" if network.memory is None else f"{network.memory:,} bytes"
        if network.fits is not None:
            memory += ", fits in 320 KB" if network.fits else ", does not fit in 320 KB"
        lines.append(
            f"{network.name:{room}} {_score(network.miou)} {_score(network.f1)} "
            f"{network.parameters:11,} {network.macs:14,} {network.file_bytes:10,}  "
            f"{memory}".rstrip()
        )
    return "\n".join(lines)


def _score(score: float | None) -> str:
    return f"{math.nan if score is None else score:7.4f}"


def _networks(run: Path) -> list[Network]:
    """Returns a step's float network and, if it has one, its INT8 file."""
    scores, cost = read_values(run / EVALUATION), read_values(run / COST)
    size = (run / MODEL).stat().st_size
    networks = [
        Network(run.name, scores["miou"], scores["f1"], cost["parameters"], cost["macs"], size)
    ]
    if (run / EXPORT).is_file():
        networks.append(_int8(run.name, read_values(run / EXPORT)))
    return networks


def _int8(step: str, exported: dict[str, Any]) -> Network:
    exact, estimate = exported["arena_bytes"], exported["arena_estimate"]
    memory = estimate if exact is None else exact
    return Network(
        f"{step}, INT8" + (" (refused)" if exported["refused"] else ""),
        exported["int8_scores"]["miou"],
        exported["int8_scores"]["f1"],
        exported["parameters"],
        exported["macs"],
        exported["file_bytes"],
        memory,
        memory <= DATA_RAM,
    )
