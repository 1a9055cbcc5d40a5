"""The page of a comparison: one table, and one figure for each stage."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ..analysis.advice import Cost
from ..analysis.comparison import ComparedRun, Comparison, compare_runs, stages, trend
from ..analysis.tables import short
from .figures import Figure, Series, line_chart
from .page import environment, write_text
from .pareto import ScoredNetwork, pareto_figure

COSTS: Mapping[str, Callable[[ComparedRun], float | None]] = {
    "arena of the INT8 file, KiB": lambda run: None if run.arena is None else run.arena / 1024,
    "multiply-adds per image, millions": lambda run: run.cost.macs / 1e6 if run.cost else None,
}


def compare(runs: Sequence[str | Path], output: str | Path | None = "compare.html") -> Comparison:
    """Compares runs: their networks, scores and channels in use.

    What a network costs is read from its run's cost.json; nothing is rebuilt.

    Args:
        runs: Folders of two or more runs.
        output: The page to write; None: none. Defaults to "compare.html".

    Returns:
        The comparison; `str` of it is the table as text.

    Raises:
        ValueError: There are fewer than two runs, or a file of one is damaged.
        FileNotFoundError: A folder does not exist, or holds no records.
        MissingPackageError: Jinja2 or PyYAML is not installed.

    Example:
        >>> print(compare(["runs/first", "runs/second"]))  # doctest: +SKIP
        first  (nano_u, seed 0, drawn scenes)
          test mIoU 0.9045, 4,212 parameters, 2,399,200 multiply-adds, 76,800 bytes of activations
    """
    comparison = compare_runs(runs)
    if output is not None:
        write_comparison(comparison, Path(output))
    return comparison


def write_comparison(comparison: Comparison, path: Path) -> None:
    """Writes a comparison's page: one HTML file that needs no other file and no network."""
    runs = comparison.runs
    text = (
        environment()
        .get_template("compare.html")
        .render(
            runs=runs,
            stages=stages(runs),
            figures=stage_figures(runs),
            score_figures=score_figures(runs),
            differences=comparison.differences,
            trend=trend,
        )
    )
    write_text(path, text)


def score_figures(runs: Sequence[ComparedRun]) -> list[Figure]:
    """Returns test mIoU over the arena and over multiply-adds, where two networks have them.

    Runs of one network, with several seeds, are one mean with its standard error. Runs on other
    images than the first are left out.
    """
    comparable = [run for run in runs if (run.data, run.size) == (runs[0].data, runs[0].size)]
    scored = [run for run in comparable if run.cost is not None and math.isfinite(run.miou)]
    figures = []
    for label, cost in COSTS.items():
        networks: dict[tuple[str, Cost | None, float], list[ComparedRun]] = {}
        for run in scored:
            value = cost(run)
            if value:
                networks.setdefault((run.model, run.cost, value), []).append(run)
        points = [
            ScoredNetwork(", ".join(r.name for r in same), key[2], [r.miou for r in same], key[0])
            for key, same in networks.items()
        ]
        if len(points) > 1:
            title = f"Test mIoU over {label}"
            figures.append(pareto_figure(points, title=title, x_label=label, y_label="mIoU"))
    return figures


def stage_figures(runs: Sequence[ComparedRun]) -> list[tuple[str, Figure]]:
    """Returns (probe, figure): channels in use over the epochs, one line per run."""
    drawn = []
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
        drawn.append((probe, figure))
    return drawn
