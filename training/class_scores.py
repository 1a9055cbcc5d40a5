"""Scores of several classes: a confusion matrix, and what follows from it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

from training.class_masks import IGNORED


@dataclass(frozen=True)
class ClassEvaluation:
    """Scores over all pixels of a split together.

    Attributes:
        miou: Mean of the classes' IoU, 0..1, over those that the masks or predictions have.
        f1: Mean of the classes' F1, the Dice score, over the same.
        accuracy: Fraction of the scored pixels whose class is predicted.
        iou: {class: intersection over union}; nan if neither masks nor predictions have it.
        precision: {class: fraction of the pixels predicted as it that are of it}; nan if it is
            not predicted.
        recall: {class: fraction of its pixels that are predicted}; nan if it has none.
        confusion: Numbers of pixels; a row per true class, a column per predicted one.
        images: Number of images.
    """

    miou: float
    f1: float
    accuracy: float
    iou: Mapping[str, float]
    precision: Mapping[str, float]
    recall: Mapping[str, float]
    confusion: Sequence[Sequence[int]]
    images: int


def evaluate_classes(
    predicted: np.ndarray, masks: np.ndarray, classes: Sequence[str]
) -> ClassEvaluation:
    """Scores predictions against masks.

    Args:
        predicted: (images, height, width, 1), numbers of classes.
        masks: The same shape; IGNORED for pixels that are not scored.
        classes: Names of the classes.

    Example:
        >>> truth = np.array([[[[0], [1], [1], [2]]]])
        >>> scores = evaluate_classes(np.array([[[[0], [1], [2], [2]]]]), truth, "abc")
        >>> scores.iou, scores.accuracy
        ({'a': 1.0, 'b': 0.5, 'c': 0.5}, 0.75)
    """
    return class_evaluation(confusion(predicted, masks, len(classes)), classes, len(masks))


def class_evaluation(counts: np.ndarray, classes: Sequence[str], images: int) -> ClassEvaluation:
    """Returns the scores of a confusion matrix, of so many images."""
    hits, rows, columns = np.diag(counts), counts.sum(axis=1), counts.sum(axis=0)
    union = rows + columns - hits
    iou, f1 = _ratios(hits, union), _ratios(2 * hits, rows + columns)

    def named(values: np.ndarray) -> dict[str, float]:
        return dict(zip(classes, values.tolist(), strict=True))

    return ClassEvaluation(
        miou=_mean(iou),
        f1=_mean(f1),
        accuracy=float(_ratios(hits.sum(), counts.sum())),
        iou=named(iou),
        precision=named(_ratios(hits, columns)),
        recall=named(_ratios(hits, rows)),
        confusion=counts.tolist(),
        images=images,
    )


def confusion(predicted: np.ndarray, masks: np.ndarray, count: int) -> np.ndarray:
    """Counts scored pixels by their true and predicted class, (count, count)."""
    is_scored = masks != IGNORED
    pairs = masks[is_scored].astype(int) * count + predicted[is_scored].astype(int)
    return np.bincount(pairs, minlength=count * count).reshape(count, count)


def class_image_ious(predicted: np.ndarray, masks: np.ndarray, count: int) -> np.ndarray:
    """Returns each image's IoU, (images,): the mean over the classes that it or its mask has.

    It is nan where all of the mask is ignored.

    Example:
        >>> truth = np.array([[[[0], [2]]]])
        >>> class_image_ious(np.array([[[[0], [0]]]]), truth, 3).tolist()
        [0.25]
    """
    ious = []
    for labels, mask in zip(predicted, masks, strict=True):
        counts = confusion(labels, mask, count)
        hits = np.diag(counts)
        ious.append(_mean(_ratios(hits, counts.sum(axis=0) + counts.sum(axis=1) - hits)))
    return np.array(ious)


def _ratios(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Returns fractions; nan where the whole is 0."""
    return np.where(whole > 0, part / np.maximum(whole, 1), nan)


def _mean(values: np.ndarray) -> float:
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else nan
