"""What each file of a run's folder must hold for its readers."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .run_files import ADVICE, CONFIG, COST, EVALUATION, EXPORT, NARROWING
from .schema import (
    COUNT,
    NUMBER,
    SCORE,
    SIZE,
    TEXT,
    WIDTH,
    ByKey,
    Fields,
    ListOf,
    OrNull,
    Schema,
    Value,
    check_value,
)

BY_CLASS = Value(
    "a mapping of classes to numbers or null",
    lambda value: (
        isinstance(value, dict)
        and all(map(TEXT.accepts, value))
        and all(score is None or NUMBER.accepts(score) for score in value.values())
    ),
)
FOREGROUND: dict[str, Schema] = dict.fromkeys(
    ("miou", "foreground_iou", "f1", "f05", "f2", "precision", "recall"), SCORE
)
CLASSES: dict[str, Schema] = {
    **dict.fromkeys(("miou", "f1", "accuracy"), SCORE),
    **dict.fromkeys(("iou", "precision", "recall"), BY_CLASS),
}
SCORES = ByKey("iou", Fields(CLASSES), Fields(FOREGROUND))
SPREAD = Fields(dict.fromkeys(("median", "p5", "worst"), SCORE))
SWEEP = ListOf(
    Fields({"threshold": NUMBER} | dict.fromkeys(("miou", "f1", "precision", "recall"), SCORE))
)
COSTS = Fields(dict.fromkeys(("parameters", "macs", "peak_activation_bytes"), COUNT))
ADVISED_WIDTH = Fields(
    {"probe": TEXT, "reason": TEXT}
    | dict.fromkeys(("channels", "suggested", "low", "high"), WIDTH),
    dict.fromkeys(("parameters", "macs", "peak_activation_bytes"), OrNull(COUNT)),
)
WIDTHS = Value(
    "a mapping of names to whole numbers, 1 or more",
    lambda value: (
        isinstance(value, dict)
        and all(map(TEXT.accepts, value))
        and all(map(WIDTH.accepts, value.values()))
    ),
)
YES_OR_NO = Value("true or false", lambda value: isinstance(value, bool))
CUT_NETWORK = Fields(
    {**COSTS.required, "score": SCORE, "loss": NUMBER, "widths": WIDTHS, "probes": WIDTHS}
)
RUNG = Fields({**CUT_NETWORK.required, "share": NUMBER, "budget": COUNT, "uniform": CUT_NETWORK})
LADDER = Fields(
    {
        **{"score": TEXT, "images": COUNT, "weighted": YES_OR_NO, "notes": ListOf(TEXT)},
        **{"parent": OrNull(CUT_NETWORK), "rungs": ListOf(RUNG)},
    }
)
CUT_GROUP = Fields(
    {
        **{"name": TEXT, "before": WIDTH, "after": WIDTH},
        **{"kept": ListOf(COUNT), "loss": SCORE, "fixed": TEXT},
    }
)
BY_SPLIT = Fields({"val": SCORES}, {"test": SCORES})
CUT_ROUND = Fields(
    {
        **{"epochs": COUNT, "before": COSTS, "after": COSTS},
        "scores": Fields({"cut": BY_SPLIT}, {"trained": BY_SPLIT}),
    }
)
CUT_LOSSES = Fields({"before": SCORE, "after": SCORE})
NARROWED_FROM = Fields(
    {
        "parent": TEXT,
        "weighted": YES_OR_NO,
        "before": COSTS,
        "after": COSTS,
        "groups": ListOf(CUT_GROUP),
        "scores": Fields({"parent": BY_SPLIT, "cut": BY_SPLIT}, {"trained": BY_SPLIT}),
    },
    {"by_round": ListOf(CUT_ROUND), "losses": CUT_LOSSES, "ladder": OrNull(LADDER)},
)
SCORED: dict[str, Schema] = {"images": COUNT, "split": TEXT}
AFTER_TRAINING: dict[str, Schema] = {
    **{"per_image_iou": SPREAD, "sweep": SWEEP, "cut": NARROWED_FROM, "all_predicted": TEXT},
    **dict.fromkeys(
        ("training_seconds", "monitoring_seconds", "monitoring_seconds_estimated"), NUMBER
    ),
}
FILES: Mapping[str, Schema] = {
    CONFIG: Fields(
        {
            "model": Fields({"name": TEXT, "input_size": SIZE}),
            "data": Fields({"root": OrNull(TEXT)}),
            "training": Fields({"seed": COUNT}),
        }
    ),
    EVALUATION: ByKey(
        "iou",
        Fields(CLASSES | SCORED, AFTER_TRAINING),
        Fields(FOREGROUND | SCORED, AFTER_TRAINING),
    ),
    EXPORT: Fields(
        {
            "file": TEXT,
            "quantization": TEXT,
            "refused": TEXT,
            "int8_scores": SCORES,
            "per_image_iou": SPREAD,
        },
        {"sweep": SWEEP},
    ),
    NARROWING: NARROWED_FROM,
    COST: Fields({**COSTS.required, "trainable": COUNT, "weight_bytes": COUNT, "peak_layer": TEXT}),
    ADVICE: Fields(
        {"advice": ListOf(ADVISED_WIDTH)},
        {
            "ladder": LADDER,
            "now": COSTS,
            "advised": COSTS,
        },
    ),
}


def check(values: Any, path: Path) -> dict[str, Any]:
    """Checks what a file of a run's folder holds, by the file's name.

    Args:
        values: As read from YAML or JSON.
        path: The file; its name is a key of `FILES`.

    Returns:
        The values.

    Raises:
        DamagedFileError: A value has another type, or a key is missing; names the key.

    Example:
        >>> check({"model": 3}, Path("runs/first/config.yaml"))
        Traceback (most recent call last):
        monitoring.records.files.DamagedFileError: runs/first/config.yaml: expected 'model' to \
be a mapping. Received: 3. The file is damaged, or not from a run of this version.
    """
    check_value(values, FILES[path.name], path)
    checked: dict[str, Any] = values
    return checked
