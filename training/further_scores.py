"""What stands beside the scores of a split in evaluation.json."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from training.class_masks import IGNORED
from training.evaluate import image_ious, spread, sweep


def further_scores(
    scores: np.ndarray, predicted: np.ndarray, masks: np.ndarray, classes: Sequence[str] = ()
) -> dict[str, Any]:
    """Returns scores of each image and at each threshold, and what is odd about a split.

    Args:
        scores: Logits, (images, height, width, channels).
        predicted: As for `evaluate`.
        masks: As for `evaluate`.
        classes: As for `evaluate`. Defaults to none.

    Returns:
        per_image_iou and sweep; all_predicted, the class that is predicted everywhere, and
        ignored_share, the fraction of pixels that are not scored, if there are any.
    """
    values: dict[str, Any] = {
        "per_image_iou": spread(image_ious(predicted, masks, classes)),
        "sweep": sweep(scores, masks, classes),
    }
    labels = np.unique(predicted[masks != IGNORED])
    if len(labels) == 1:
        names = classes or ("background", "foreground")
        values["all_predicted"] = names[int(labels[0])]
    ignored = float((masks == IGNORED).mean())
    return values | ({"ignored_share": ignored} if ignored else {})
