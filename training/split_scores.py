"""Scores of a split that is larger than memory: counted part by part, the same to the digit."""

from collections.abc import Callable
from typing import Any

import numpy as np

from training.class_masks import IGNORED
from training.class_scores import ClassEvaluation, class_evaluation, confusion
from training.evaluate import (
    SWEPT,
    THRESHOLDS,
    Evaluation,
    foreground_counts,
    foreground_evaluation,
    image_ious,
    spread,
)
from training.outputs import Outputs
from training.split import Split

PART = 2**28  # bytes of outputs in memory at one time


class Scores:
    """Counts what a network predicts.

    Args:
        outputs: What the network puts out.
        border: Logit from which a pixel is foreground, of one class. Defaults to 0, which is a
            probability of 0.5.
    """

    def __init__(self, outputs: Outputs, border: float = 0.0):
        self.outputs, self._border = outputs, border
        shape = (outputs.channels, outputs.channels) if outputs.classes else (4,)
        self._counts = np.zeros(shape, int)
        self._swept = np.zeros((len(THRESHOLDS), 4), int)
        self._ious: list[np.ndarray] = []
        self._labels: set[int] = set()

    def add(self, values: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Adds outputs and masks of some images; returns the class of each pixel."""
        logits = np.asarray(self.outputs.logits(values))
        classes = self.outputs.classes
        labels = self.outputs.as_logits.labels(logits) if classes else logits >= self._border
        if classes:
            self._counts += confusion(labels, masks, len(classes))
        else:
            self._counts += foreground_counts(labels, masks)
            for row, threshold in enumerate(THRESHOLDS):
                predicted = logits >= np.log(threshold / (1 - threshold))
                self._swept[row] += foreground_counts(predicted, masks)
        self._ious.append(image_ious(labels, masks, classes))
        self._labels |= set(np.unique(labels[masks != IGNORED]).tolist())
        return labels

    @property
    def evaluation(self) -> Evaluation | ClassEvaluation:
        """The scores over all pixels together."""
        images = len(self.image_ious)
        if self.outputs.classes:
            return class_evaluation(self._counts, self.outputs.classes, images)
        return foreground_evaluation(self._counts, images)

    def further(self, split: Split) -> dict[str, Any]:
        """Returns what stands beside the scores in evaluation.json.

        That is scores of each image and at each threshold; all_predicted, the class that is
        predicted everywhere, and ignored_share, the fraction of pixels that are not scored, if
        there are any.
        """
        values: dict[str, Any] = {
            "per_image_iou": spread(self.image_ious),
            "sweep": self.sweep,
        }
        if self.only_class is not None:
            values["all_predicted"] = self.only_class
        ignored = float(split.counts[IGNORED] / split.counts.sum())
        return values | ({"ignored_share": ignored} if ignored else {})

    @property
    def image_ious(self) -> np.ndarray:
        """Each image's IoU, as `training.evaluate.image_ious` returns it."""
        return np.concatenate(self._ious)

    @property
    def sweep(self) -> list[dict[str, float]]:
        """As `training.evaluate.sweep` returns it."""
        if self.outputs.classes:
            return []
        rows = []
        for threshold, counts in zip(THRESHOLDS, self._swept, strict=True):
            scored = foreground_evaluation(counts, 0)
            rows.append({"threshold": threshold} | {name: getattr(scored, name) for name in SWEPT})
        return rows

    @property
    def only_class(self) -> str | None:
        """The class that is predicted everywhere, if there is one."""
        names = self.outputs.classes or ("background", "foreground")
        return names[int(min(self._labels))] if len(self._labels) == 1 else None


def score(
    split: Split,
    outputs: Outputs,
    predict: Callable[[Split], np.ndarray],
    *,
    batch: int = 16,
    keep: np.ndarray | None = None,
    border: float = 0.0,
) -> tuple[Scores, np.ndarray]:
    """Scores a network on a split, part by part.

    Args:
        split: Images and masks.
        outputs: What the network puts out.
        predict: From a part of the split to the network's outputs.
        batch: Parts are multiples of so many images. Defaults to 16.
        keep: Numbers of images whose predictions are returned. Defaults to None: none.
        border: As for `Scores`. Defaults to 0.

    Returns:
        The scores, and the classes of the pixels of these images.
    """
    scores = Scores(outputs, border)
    bytes_per_image = int(np.prod(split.images.shape[1:3])) * outputs.channels * 4
    size = max(PART // bytes_per_image // batch, 1) * batch
    wanted = np.arange(0) if keep is None else keep
    kept: dict[int, np.ndarray] = {}
    for first in range(0, len(split), size):
        part = split[first : first + size]
        labels = scores.add(predict(part), np.asarray(part.masks))
        inside = wanted[(wanted >= first) & (wanted < first + size)]
        kept |= {number: labels[number - first] for number in inside.tolist()}
    return scores, np.array([kept[number] for number in wanted.tolist()])
