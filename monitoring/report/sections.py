"""The parts of a run's page: numbers and figures, ready for its template."""

import base64
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..analysis.advice import Cost, WidthAdvice
from ..analysis.ladder import Ladder
from ..analysis.tables import change, percent, short
from ..optional import needed_for
from ..records.files import DamagedFileError
from ..records.record import ProbeRecord
from .figures import Figure, Series, line_chart

SWEPT = (("miou", "mIoU"), ("f1", "F1"), ("precision", "precision"), ("recall", "recall"))
LEARNING = (("loss", "loss"), ("miou", "mIoU"))
COST_NAMES = ("parameters", "multiply-adds per image", "activations at their peak, bytes in INT8")


def overview(records: Mapping[str, Sequence[ProbeRecord]]) -> list[tuple[str, str, Figure]]:
    """Returns (anchor, heading, figure) over epochs; over steps if epochs were subdivided."""
    epochs = [record.epoch for record in next(iter(records.values()))]
    by_step = len(set(epochs)) < len(epochs)
    own_count = any(r.global_step != r.step for history in records.values() for r in history)

    def lines(value: str, low: str, high: str, as_fraction: bool) -> list[Series]:
        series = []
        for name, history in records.items():
            y, below, above = (
                [
                    getattr(record, field) / (record.channels if as_fraction else 1)
                    for record in history
                ]
                for field in (value, low, high)
            )
            along = [record.global_step if by_step else record.epoch + 1 for record in history]
            series.append(Series(short(name), along, y, below, above))
        return series

    redundancy = lines("redundancy_score", "redundancy_low", "redundancy_high", False)
    rank = lines("effective_rank", "effective_rank_low", "effective_rank_high", True)
    steps = "global_step" if own_count else "optimizer steps"
    label = steps if by_step else "epochs trained"
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
                title="Fraction of the channels in use over epochs",
                x_label=label,
                y_label="channels in use / channels",
            ),
        ),
    ]


def learning(history: Mapping[str, Sequence[float]]) -> list[Figure]:
    """Returns the curves of Keras' log."""
    figures = []
    for column, label in LEARNING:
        series = [
            Series(split, [epoch + 1 for epoch in history.get("epoch", [])], history[name])
            for name, split in ((column, "training"), (f"val_{column}", "validation"))
            if name in history
        ]
        if series:
            figures.append(
                line_chart(series, title=f"{label} over epochs", x_label="epoch", y_label=label)
            )
    return figures


def network_scores(
    evaluation: Mapping[str, Any], exported: Mapping[str, Any]
) -> dict[str, Mapping[str, Any]]:
    """Returns {network: its scores and their spread over images}: "float", "INT8"."""
    scores = {}
    if evaluation.get("per_image_iou"):
        scores["float"] = evaluation
    if exported:
        spread = {"per_image_iou": exported["per_image_iou"]}
        scores["INT8"] = exported["int8_scores"] | spread
    return scores


def class_scores(
    evaluation: Mapping[str, Any], exported: Mapping[str, Any]
) -> list[tuple[str, list[float | None]]]:
    """Returns (class, [IoU, precision, recall, IoU in INT8]) for each of several classes.

    The last value is absent without an INT8 file, and all are without several classes.
    """
    columns = [evaluation.get(name) for name in ("iou", "precision", "recall")]
    if columns[0] is None:
        return []
    if exported:
        columns.append(exported["int8_scores"]["iou"])
    return [(name, [column[name] for column in columns if column]) for name in columns[0]]


def one_class_warning(evaluation: Mapping[str, Any]) -> str:
    """Says that a network predicts one class everywhere, and what to try; empty if it does not."""
    name = evaluation.get("all_predicted")
    if name is None:
        return ""
    return (
        f"Every pixel of the test images is predicted as {name}. Classes of few pixels are often "
        "lost so: try --loss bce+dice (training.loss), training.class_weights: balanced, or more "
        "epochs"
    )


def score_curves(evaluation: Mapping[str, Any], exported: Mapping[str, Any]) -> list[Figure]:
    """Returns the precision-recall curves and the sweep over thresholds; empty without."""
    rows = evaluation.get("sweep") or []
    if not rows:
        return []

    def column(name: str, rows: Sequence[Mapping[str, Any]] = rows) -> list[float]:
        return [math.nan if row[name] is None else row[name] for row in rows]

    curves = [Series("float", column("recall"), column("precision"))]
    int8 = exported.get("sweep")
    if int8:
        curves.append(Series("INT8", column("recall", int8), column("precision", int8)))
    over = [Series(label, column("threshold"), column(name)) for name, label in SWEPT]
    return [
        line_chart(curves, title="Precision over recall", x_label="recall", y_label="precision"),
        line_chart(
            over,
            title="Scores over the threshold",
            x_label="probability threshold of the foreground",
            y_label="score",
        ),
    ]


def picture(path: Path) -> str:
    """Returns the predictions as a data URI.

    Raises:
        DamagedFileError: The file is not a picture.
        MissingPackageError: Pillow is not installed.
    """
    with needed_for("A report with predictions", "pillow"):
        from PIL import Image

    file = io.BytesIO()
    try:
        with Image.open(path) as image:
            image.convert("RGB").save(file, "JPEG", quality=80)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise DamagedFileError(f"{path} cannot be read: {error}") from None
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()


def lead(
    advice: Sequence[WidthAdvice], costs: tuple[Cost, Cost] | None, ladder: Ladder | None
) -> str:
    """Returns all of the advice in a few sentences."""
    narrower = [width for width in advice if not width.keep]
    sentences = ["By the channels in use, keep every width as it is."]
    if narrower:
        sentences = [f"By the channels in use, narrow {len(narrower)} of {len(advice)} layers."]
    if narrower and costs is not None:
        parameters, macs = (changed for _, _, _, changed in cost_rows(costs)[:2])
        sentences.append(
            f"That changes the parameters by {parameters} and the multiply-adds by {macs}."
        )
    nearest = None if ladder is None else ladder.nearest
    if ladder and ladder.parent and nearest:
        sentences.append(
            f"Cut to {percent(nearest.share)} of its multiply-adds, before any training, the "
            f"network has {ladder.score} {nearest.cut.score:.4f} of {ladder.parent.score:.4f}."
        )
    return " ".join(sentences)


def cost_rows(costs: tuple[Cost, Cost] | None) -> list[tuple[str, int, int, str]]:
    """Returns (what, now, as advised, change) for each cost; empty where they are unknown."""
    if costs is None:
        return []
    return [
        (name, before, after, change(before, after).replace("%", " %"))
        for name, before, after in zip(COST_NAMES, *costs, strict=True)
    ]


def monitoring_time(evaluation: Mapping[str, Any]) -> str:
    """Describes what monitoring cost in this run; empty where that is unknown."""
    training, monitoring = evaluation.get("training_seconds"), evaluation.get("monitoring_seconds")
    if not training or monitoring is None:
        return ""
    estimated = evaluation.get("monitoring_seconds_estimated") or 0
    percent = f"{100 * monitoring / training:.1f} %"
    text = f"{monitoring:.1f} of {training:.0f} seconds of training, {percent}"
    return f"{text}; {estimated:.1f} seconds of it are an estimate" if estimated else text
