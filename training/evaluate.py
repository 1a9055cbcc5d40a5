"""How well a network segments a split."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan, nan
from pathlib import Path

import keras
import numpy as np

from monitoring.analysis.single_output import single_output
from monitoring.records.files import whole_file
from training.class_scores import ClassEvaluation, class_image_ious, evaluate_classes
from training.data import batches
from training.outputs import FOREGROUND, Outputs
from training.split import Split

SWEPT = ("miou", "f1", "precision", "recall")
THRESHOLDS = tuple(round(0.05 * n, 2) for n in range(1, 20))  # on the probability


@dataclass(frozen=True)
class Evaluation:
    """Scores over all pixels of a split together, with a threshold of 0.5 on the probability.

    Attributes:
        miou: Mean of foreground and background IoU, 0..1.
        foreground_iou: Intersection over union of the foreground, 0..1.
        f1: Harmonic mean of precision and recall, 0..1; the Dice score.
        f05: F score that weights precision twice as much as recall.
        f2: F score that weights recall twice as much as precision.
        precision: Fraction of the predicted foreground that is foreground; nan if none is
            predicted.
        recall: Fraction of the foreground that is predicted; nan if there is none.
        images: Number of images.
    """

    miou: float
    foreground_iou: float
    f1: float
    f05: float
    f2: float
    precision: float
    recall: float
    images: int


def logits(
    model: keras.Model,
    split: Split,
    batch_size: int = 16,
    *,
    outputs: Outputs = FOREGROUND,
    verbose: int = 0,
) -> np.ndarray:
    """Returns the model's logits, (images, height, width, channels).

    Args:
        model: A model of one output.
        split: The images.
        batch_size: Images per batch. Defaults to 16.
        outputs: What the model puts out; probabilities are converted. Defaults to logits of
            foreground, which the zoo's networks put out.
        verbose: As for `model.predict`. Defaults to 0: silent.
    """
    values = single_output(model, model.predict(batches(split, batch_size), verbose=verbose))
    converted: np.ndarray = keras.ops.convert_to_numpy(outputs.logits(values))
    return converted


def predict(
    model: keras.Model, split: Split, batch_size: int = 16, *, outputs: Outputs = FOREGROUND
) -> np.ndarray:
    """Returns the class of each pixel, (images, height, width, 1).

    Foreground is a logit of at least 0, which is a probability of at least 0.5, as bool; of several
    classes, it is the number of the likeliest; see `logits`.
    """
    return outputs.as_logits.labels(logits(model, split, batch_size, outputs=outputs))


def evaluate(
    predicted: np.ndarray, masks: np.ndarray, classes: Sequence[str] = ()
) -> Evaluation | ClassEvaluation:
    """Scores predictions against masks.

    Args:
        predicted: (images, height, width, 1), true or 1 where foreground is predicted, or the
            number of one of several classes.
        masks: The same shape, true or 1 for foreground, or the number of a class; IGNORED for
            pixels that are not scored.
        classes: Names of several classes. Defaults to none: foreground and background.

    Returns:
        The scores; nan where undefined.

    Raises:
        ValueError: The shapes differ.

    Example:
        >>> truth = np.array([[[[1], [1], [0], [0]]]])
        >>> scores = evaluate(np.array([[[[1], [0], [0], [0]]]]), truth)
        >>> scores.foreground_iou, scores.precision, scores.recall
        (0.5, 1.0, 0.5)
    """
    if predicted.shape != masks.shape:
        raise ValueError(
            f"Expected predictions of shape {masks.shape}, as the masks. "
            f"Received: shape={predicted.shape}"
        )
    if classes:
        return evaluate_classes(predicted, masks, classes)
    return evaluate_foreground(predicted, masks)


def evaluate_foreground(predicted: np.ndarray, masks: np.ndarray) -> Evaluation:
    """Scores predictions of foreground against masks of the same shape."""
    return foreground_evaluation(foreground_counts(predicted, masks), len(masks))


def foreground_counts(predicted: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Counts pixels: true foreground, missed, falsely predicted, and true background, (4,)."""
    predicted, wanted, other = counted(predicted, masks)
    parts = (predicted & wanted, ~predicted & wanted, predicted & other, ~predicted & other)
    return np.array([int(part.sum()) for part in parts])


def foreground_evaluation(counts: np.ndarray, images: int) -> Evaluation:
    """Returns the scores of counts that `foreground_counts` returns, of so many images."""
    true, missed, false, background = counts.tolist()
    foreground_iou = _ratio(true, true + false + missed)
    return Evaluation(
        miou=(foreground_iou + _ratio(background, background + false + missed)) / 2,
        foreground_iou=foreground_iou,
        f1=_f_score(1, true, false, missed),
        f05=_f_score(0.5, true, false, missed),
        f2=_f_score(2, true, false, missed),
        precision=_ratio(true, true + false),
        recall=_ratio(true, true + missed),
        images=images,
    )


def sweep(
    scores: np.ndarray, masks: np.ndarray, classes: Sequence[str] = ()
) -> list[dict[str, float]]:
    """Scores a network at every threshold of `THRESHOLDS`, for its precision-recall curve.

    Args:
        scores: Logits, (images, height, width, 1).
        masks: As for `evaluate`.
        classes: As for `evaluate`. Defaults to none.

    Returns:
        One row per threshold: threshold, miou, f1, precision, recall; nan where undefined. None of
        several classes, which have no threshold.
    """
    if classes:
        return []
    rows = []
    for threshold in THRESHOLDS:
        scored = evaluate_foreground(scores >= np.log(threshold / (1 - threshold)), masks)
        row = {name: getattr(scored, name) for name in SWEPT}
        rows.append({"threshold": threshold, **row})
    return rows


def image_ious(predicted: np.ndarray, masks: np.ndarray, classes: Sequence[str] = ()) -> np.ndarray:
    """Returns each image's foreground IoU, (images,); of several classes, see `class_image_ious`.

    It is 1 where mask and prediction are both empty, 0 where only the mask is, and nan where
    all of the mask is ignored.

    Example:
        >>> masks = np.array([[[[1], [1]]], [[[0], [0]]]])
        >>> image_ious(np.array([[[[1], [0]]], [[[0], [0]]]]), masks).tolist()
        [0.5, 1.0]
    """
    if classes:
        return class_image_ious(predicted, masks, len(classes))
    predicted, wanted, other = counted(predicted, masks)
    shared = (predicted & wanted).sum(axis=(1, 2, 3))
    seen = (wanted | (predicted & other)).sum(axis=(1, 2, 3))
    ious = np.where(seen == 0, 1.0, shared / np.maximum(seen, 1))
    return np.where((wanted | other).any(axis=(1, 2, 3)), ious, nan)


def spread(ious: np.ndarray) -> dict[str, float]:
    """Returns the minimum, 5th, 25th, 50th, 75th and 95th percentile and mean of images' IoU."""
    names = ("worst", "p5", "p25", "median", "p75", "p95")
    values = np.nanpercentile(ious, (0, 5, 25, 50, 75, 95))
    return dict(zip(names, map(float, values), strict=True)) | {"mean": float(np.nanmean(ious))}


def score_line(evaluation: Evaluation | ClassEvaluation, split: str = "test") -> str:
    """Returns scores on a split as one line of text."""
    images = f"({evaluation.images} images)"
    if isinstance(evaluation, ClassEvaluation):
        ious = ", ".join(f"{name} {value:.4f}" for name, value in evaluation.iou.items())
        return (
            f"{split} mIoU {evaluation.miou:.4f}, accuracy {evaluation.accuracy:.4f}, IoU: {ious} "
            f"{images}"
        )
    return (
        f"{split} mIoU {evaluation.miou:.4f}, foreground IoU {evaluation.foreground_iou:.4f}, "
        f"F1 {evaluation.f1:.4f}, precision {evaluation.precision:.4f}, "
        f"recall {evaluation.recall:.4f} {images}"
    )


def write_evaluation(path: Path, evaluation: Evaluation | ClassEvaluation, **more) -> None:
    """Writes the scores and any further values as JSON; undefined is null."""
    write_values(path, asdict(evaluation) | more)


def write_values(path: Path, values: Mapping) -> None:
    """Writes values as JSON; undefined is null."""
    text = json.dumps(_defined(dict(values)), indent=2, allow_nan=False)
    with whole_file(path) as draft:
        draft.write_text(text + "\n", encoding="utf-8")


def _defined(value):
    """Returns nested values with nan replaced by None."""
    if isinstance(value, dict):
        return {name: _defined(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_defined(part) for part in value]
    return None if isinstance(value, float) and isnan(value) else value


def counted(predicted: np.ndarray, masks: np.ndarray) -> tuple[np.ndarray, ...]:
    """Returns prediction, foreground and background as bool; ignored pixels are neither."""
    return predicted.astype(bool), masks == 1, masks == 0


def _f_score(beta: float, true: int, false: int, missed: int) -> float:
    weight = beta**2
    whole = (1 + weight) * true + weight * missed + false
    return (1 + weight) * true / whole if whole else nan


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else nan
