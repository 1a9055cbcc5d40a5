"""The page of a comparison: one table, and one figure for each stage."""

from collections.abc import Sequence
from pathlib import Path

from ..analysis.comparison import ComparedRun, Comparison, compare_runs, stages, trend
from ..analysis.tables import short
from .figures import Figure, Series, line_chart
from .page import environment, write_text


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
            differences=comparison.differences,
            trend=trend,
        )
    )
    write_text(path, text)


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
