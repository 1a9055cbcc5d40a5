"""The ladder of any saved model: cut on every second image, scored on the others."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import keras
import numpy as np

from monitoring import InputMoments
from monitoring.analysis.ladder import Ladder
from monitoring.analysis.single_output import single_output
from training.ladder import Measured, cut_ladder
from training.narrowing import BATCH
from training.outputs import Outputs
from training.run_ladder import channels_at, mean_iou
from training.split import Split


def model_ladder(
    model: keras.Model,
    images: np.ndarray,
    masked: Split | None,
    shares: Sequence[float],
    *,
    outputs: Outputs | None = None,
    names: Sequence[str] | None = None,
    data_format: str | None = None,
    verbose: int = 0,
) -> Ladder:
    """Cuts any model to a ladder of budgets.

    With masks, channels are chosen by their effect on the loss, and the score is mIoU; without,
    by their effect on the layers that read them, and it is agreement with the model's outputs.

    Args:
        model: The model.
        images: What it takes, already preprocessed, (images, ...).
        masked: The same images in uint8, with masks; None if there are none.
        shares: The budgets, as fractions of the multiply-adds, the largest first.
        outputs: What it puts out; None if it is not masks. Defaults to None.
        names: Names of the layers whose channels are counted. Defaults to None: its probes or,
            if it has none, its output.
        data_format: "channels_last" or "channels_first". Defaults to None: channels last.
        verbose: 0 is silent. Defaults to 0.
    """
    measured, scored = halves(len(images))
    channels = channels_at(names, data_format)
    if masked is None or outputs is None:
        moments, score = InputMoments(images[measured]), "agreement"
        evaluate = agreement(model, images[scored])
    else:
        masks = masked.masks[measured].astype(np.float32)
        moments, score = InputMoments(images[measured], masks, outputs.image_losses), "mIoU"
        chosen = {name: getattr(masked, name)[scored] for name in ("images", "masks", "names")}
        evaluate = mean_iou(replace(masked, **chosen), outputs)
    by = Measured(moments, len(images[measured]), evaluate, score, channels)
    return cut_ladder(model, by, shares, verbose=verbose)


def halves(count: int) -> tuple[slice, slice]:
    """Splits images into two halves: one to measure, one to score.

    Every second image is measured, the others are scored; a single image does both.

    Example:
        >>> measured, scored = halves(5)
        >>> list(range(5))[measured], list(range(5))[scored]
        ([0, 2, 4], [1, 3])
    """
    return slice(0, None, 2), slice(1 if count > 1 else 0, None, 2)


def agreement(model: keras.Model, images: np.ndarray) -> Callable[[keras.Model], float]:
    """Returns a function that scores how close another model's outputs are to this model's.

    1: equal outputs. 0: as far off as the mean output. Negative: further off.

    Raises:
        ValueError: The model has several outputs.
    """
    outputs = _outputs(model, images)
    spread = np.linalg.norm(outputs - outputs.mean(axis=0))

    def score(other: keras.Model) -> float:
        distance = np.linalg.norm(_outputs(other, images) - outputs)
        return float(1 - distance / spread) if spread else float(distance == 0)

    return score


def _outputs(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """Returns a model's one output, in inference mode and float64; run eagerly, for one pass."""
    inputs = getattr(model, "inputs", None)
    size = (inputs[0].shape[0] if inputs else None) or BATCH
    parts = [
        keras.ops.convert_to_numpy(
            single_output(model, model(images[start : start + size], training=False))
        )
        for start in range(0, len(images), size)
    ]
    return np.concatenate(parts).astype(np.float64)
