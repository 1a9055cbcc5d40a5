"""One HTML file that says what a run's channels do, and what to do about it."""

import base64
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from markupsafe import Markup

from ..analysis.advice import Cost, WidthAdvice
from ..analysis.projection import Check
from ..loggers.console import half_width
from ..records.files import whole_file
from ..records.reading import RunFolder, read_run
from ..records.record import ProbeRecord, ProbeSnapshot
from .figures import Series, heat_map, line_chart, spectrum

SWEPT = (("miou", "mIoU"), ("f1", "F1"), ("precision", "precision"), ("recall", "recall"))
LEARNING = (("loss", "loss"), ("miou", "mIoU"))


def write_report(
    run: RunFolder,
    snapshots: Mapping[str, Sequence[ProbeSnapshot]],
    advice: Sequence[WidthAdvice],
    *,
    costs: tuple[Cost, Cost] | None = None,
    check: Check | None = None,
    refresh: int = 0,
    path: str | Path | None = None,
) -> Path:
    """Writes a run's report: one file that needs no other and no network.

    Args:
        run: As `read_run` gave it.
        snapshots: As `read_snapshots` gave them.
        advice: A width for each probe.
        costs: Of the network as it is, and at the advised widths. Defaults to None: unknown.
        check: The projection check. Defaults to None: not made.
        refresh: Seconds after which a browser reads the file again; 0: never. Defaults to 0.
        path: The file. Defaults to None: report.html in the run's folder.

    Returns:
        The file.
    """
    path = Path(path) if path is not None else run.folder / "report.html"
    text = render(run, snapshots, advice, costs=costs, check=check, refresh=refresh)
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")
    return path


def render(run, snapshots, advice, *, costs=None, check=None, refresh=0) -> str:
    """Returns the report's text; arguments as those of `write_report`."""
    return (
        environment()
        .get_template("report.html")
        .render(
            name=run.folder.resolve().name,
            run=run,
            probes=[
                _probe(name, run.records[name], snapshots.get(name, [])) for name in run.records
            ],
            advice=advice,
            lead=_lead(advice, costs, check),
            costs=_costs(costs),
            check=check,
            refresh=refresh,
            overview=_overview(run.records),
            learning=_learning(run.history),
            teacher=_beside_teacher(run),
            scores=_scores(run),
            scored=_scored(run),
            predictions=_picture(run.folder / "predictions.png"),
            monitoring=_monitoring(run.evaluation),
        )
    )


def environment():
    """Returns what renders the templates: everything from files is escaped."""
    # Jinja2 takes 60 ms to import, and a training needs it once.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters |= {"number": number, "short": short, "half_width": half_width}
    return found


def number(value: float | None, form: str = ".3f") -> str:
    """Formats a number; an undefined one as a dash.

    Example:
        >>> number(0.5), number(math.nan), number(math.inf, ".3g")
        ('0.500', '–', '∞')
    """
    if value is None or math.isnan(value):
        return "–"
    return "∞" if math.isinf(value) else format(value, form)


def short(probe: str) -> str:
    """Returns a probe's name as people say it."""
    return probe.removeprefix("probe_")


def _probe(name: str, records: Sequence[ProbeRecord], snapshots: Sequence[ProbeSnapshot]) -> dict:
    """Returns what the template shows of one probe."""
    last = records[-1]
    shown: dict = {"name": name, "last": last, "snapshot": None}
    if snapshots:
        snapshot = snapshots[-1]
        shown |= {
            "snapshot": snapshot,
            "spectrum": spectrum(
                snapshot.eigenvalues,
                last.effective_rank,
                title=f"Eigenvalues of the correlation of {short(name)}'s channels",
            ),
            "map": heat_map(snapshot.correlation, title=f"Correlation of {short(name)}'s channels"),
            "duplicates": [
                (channel, first, "same" if sign > 0 else "mirrored")
                for channel, (first, sign) in snapshot.duplicates.items()
            ],
        }
    return shown


def _overview(records: Mapping[str, Sequence[ProbeRecord]]) -> list[tuple[str, str, Markup]]:
    """Returns (anchor, heading, figure) of the numbers over epochs, or steps if in between."""
    epochs = [record.epoch for record in next(iter(records.values()))]
    by_step = len(set(epochs)) < len(epochs)

    def lines(value: str, low: str, high: str, share: bool) -> list[Series]:
        found = []
        for name, history in records.items():
            columns = [
                [getattr(record, field) / (record.channels if share else 1) for record in history]
                for field in (value, low, high)
            ]
            along = [record.step if by_step else record.epoch + 1 for record in history]
            found.append(Series(short(name), along, *columns))
        return found

    redundancy = lines("redundancy_score", "redundancy_low", "redundancy_high", False)
    rank = lines("effective_rank", "effective_rank_low", "effective_rank_high", True)
    label = "optimizer steps" if by_step else "epochs trained"
    return [
        (
            "redundancy",
            "Redundancy",
            line_chart(
                redundancy, title="Redundancy over epochs", x_label=label, y_label="redundancy"
            ),
        ),
        (
            "effective-rank",
            "Channels in use",
            line_chart(
                rank,
                title="Share of the channels in use over epochs",
                x_label=label,
                y_label="channels in use / channels",
            ),
        ),
    ]


def _learning(history: Mapping[str, Sequence[float]]) -> list[Markup]:
    figures = []
    for column, label in LEARNING:
        series = [
            Series(said, [epoch + 1 for epoch in history.get("epoch", [])], history[name])
            for name, said in ((column, "training"), (f"val_{column}", "validation"))
            if name in history
        ]
        if series:
            figures.append(
                line_chart(series, title=f"{label} over epochs", x_label="epoch", y_label=label)
            )
    return figures


def _beside_teacher(run: RunFolder) -> dict[str, dict[str, ProbeRecord]]:
    """Returns {stage: {"student" and "teacher": last record}}; empty without a teacher's."""
    folder = run.folder / "teacher"
    if not (folder / "monitor.jsonl").is_file():
        return {}
    return stages_beside({"student": run.last, "teacher": read_run(folder).last})


def stages_beside(
    runs: Mapping[str, Mapping[str, ProbeRecord]],
) -> dict[str, dict[str, ProbeRecord]]:
    """Turns {run: {probe: record}} into {stage: {run: record}}."""
    stages: dict[str, dict[str, ProbeRecord]] = {}
    for name, records in runs.items():
        for probe, record in records.items():
            stages.setdefault(short(probe), {})[name] = record
    return stages


def _scored(run: RunFolder) -> dict[str, Mapping]:
    """Returns {network: its scores, and their spread over images}, of the float one and of INT8."""
    found = {}
    if run.evaluation.get("per_image_iou"):
        found["float"] = run.evaluation
    if run.exported:
        spread = {"per_image_iou": run.exported["per_image_iou"]}
        found["INT8"] = run.exported["int8_scores"] | spread
    return found


def _scores(run: RunFolder) -> list[Markup]:
    """Returns the precision-recall curves and the sweep over thresholds."""
    rows = run.evaluation.get("sweep") or []
    if not rows:
        return []

    def column(name: str, rows: Sequence[Mapping] = rows) -> list[float]:
        return [math.nan if row[name] is None else row[name] for row in rows]

    curves = [Series("float", column("recall"), column("precision"))]
    int8 = run.exported.get("sweep")
    if int8:
        curves.append(Series("INT8", column("recall", int8), column("precision", int8)))
    over = [Series(said, column("threshold"), column(name)) for name, said in SWEPT]
    return [
        line_chart(curves, title="Precision over recall", x_label="recall", y_label="precision"),
        line_chart(
            over,
            title="Scores over the threshold",
            x_label="probability from which on a pixel is foreground",
            y_label="score",
        ),
    ]


def _picture(path: Path) -> str:
    """Returns the predictions as a data URI; empty where there are none."""
    if not path.is_file():
        return ""
    import io

    from PIL import Image

    file = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def _lead(
    advice: Sequence[WidthAdvice], costs: tuple[Cost, Cost] | None, check: Check | None
) -> str:
    """Says all of the advice in a sentence or two."""
    narrower = [one for one in advice if not one.keep]
    if not narrower:
        return "Keep every width as it is."
    said = f"Narrow {len(narrower)} of {len(advice)} layers."
    if costs is not None:
        parameters, macs = (change for _, _, _, change in _costs(costs)[:2])
        said += f" That changes the parameters by {parameters} and the multiply-adds by {macs}."
    joint = (
        [row.lost for row in check.rows if (row.probe, row.level) == ("all", "advised")]
        if check
        else []
    )
    if joint and check:
        lost = f"{100 * joint[0]:.1f} points of {check.score}" if joint[0] > 0 else "nothing"
        said += f" The trained network, held to these widths in all of them at once, loses {lost}."
    return said


def _costs(costs: tuple[Cost, Cost] | None) -> list[tuple[str, int, int, str]]:
    if costs is None:
        return []
    names = ("parameters", "multiply-adds an image", "activations at their peak, bytes in INT8")
    return [
        (name, before, after, f"{after / before - 1:+.0%}".replace("%", " %"))
        for name, before, after in zip(names, *costs, strict=True)
    ]


def _monitoring(evaluation: Mapping) -> str:
    """Says what monitoring cost in this run."""
    training, monitoring = evaluation.get("training_seconds"), evaluation.get("monitoring_seconds")
    if not training or monitoring is None:
        return ""
    estimated = evaluation.get("monitoring_seconds_estimated") or 0
    share = f"{100 * monitoring / training:.1f} %"
    said = f"{monitoring:.1f} of {training:.0f} seconds of training, {share}"
    return f"{said}; {estimated:.1f} seconds of it are an estimate" if estimated else said
