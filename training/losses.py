"""Losses of training on masks, by name, and sums of them; ignored pixels count in none."""

from collections.abc import Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from training.loss_names import BALANCED, CROSS_ENTROPY
from training.outputs import FOREGROUND, Outputs

GAMMA = 2.0  # of the focal loss, as in its paper
MISSED, FALSE = 0.7, 0.3  # weights of the Tversky loss, as in its paper


def class_weights(
    wanted: str | Sequence[float] | Mapping[str, float] | None,
    counts: np.ndarray,
    classes: Sequence[str] = (),
) -> tuple[float, ...] | None:
    """Returns a weight for each class, scaled so that the mean over all scored pixels is 1.

    Args:
        wanted: "balanced": the inverse of a class's share of the pixels; or weights, of which only
            the ratios matter, in the order of the classes or by their names. None: no weights.
        counts: Number of pixels of each class in the training images.
        classes: Names of several classes. Defaults to none: background and foreground.

    Raises:
        ValueError: There is not a weight for each class, or a class has no pixels to weigh.

    Example:
        >>> class_weights("balanced", np.array([3, 1]))
        (0.6666666666666666, 2.0)
    """
    if wanted is None:
        return None
    names = tuple(classes) or ("background", "foreground")
    shares = counts[: len(names)] / max(counts[: len(names)].sum(), 1)
    if wanted == BALANCED:
        absent = [name for name, share in zip(names, shares, strict=True) if not share]
        if absent:
            raise ValueError(
                f"training.class_weights: no training mask has {', '.join(absent)}, so that it "
                "cannot be balanced: give weights by name"
            )
        weights = 1 / (len(names) * shares)
    else:
        weights = np.array(_listed(wanted, names), float)
    return tuple((weights / (weights * shares).sum()).tolist())


def _listed(wanted: Any, names: Sequence[str]) -> list[float]:
    if isinstance(wanted, Mapping):
        if set(wanted) != set(names):
            raise ValueError(
                f"training.class_weights: expected a weight for each of {', '.join(names)}. "
                f"Received: {', '.join(wanted)}"
            )
        return [wanted[name] for name in names]
    if len(wanted) != len(names):
        raise ValueError(
            f"training.class_weights: expected {len(names)} weights, for {', '.join(names)}. "
            f"Received: {len(wanted)}"
        )
    return list(wanted)


@keras.saving.register_keras_serializable("probe_zoo")
class MaskLoss(keras.losses.Loss):
    """A sum of losses over all scored pixels of a batch.

    "cross_entropy" and "focal" are means over pixels, each weighted by its true class; "dice" and
    "tversky" are computed for each class over the whole batch, and their mean is weighted. Of
    foreground and background, these two count foreground alone.

    Args:
        parts: Names, as `loss_parts` returns them.
        weights: A weight for each class, as `class_weights` returns them. Defaults to None: all
            alike.
        outputs: What the network puts out. Defaults to logits of foreground.
        name: Name of the loss. Defaults to "mask_loss".

    Call arguments:
        y_true: (batch, height, width, 1), labels.
        y_pred: (batch, height, width, channels), what the network puts out.
        sample_weight: (batch, height, width, 1), 0 for pixels that are not scored; None: all are.

    Example:
        >>> right = np.array([[[[-20.0], [20.0]]]])
        >>> round(float(MaskLoss(("dice",))(np.array([[[[0.0], [1.0]]]]), right)), 4)
        0.0

    Reference:
        Milletari et al. 2016, V-Net, https://arxiv.org/abs/1606.04797 (Dice); Lin et al. 2017,
        https://arxiv.org/abs/1708.02002 (focal); Salehi et al. 2017,
        https://arxiv.org/abs/1706.05721 (Tversky). The formulas are those of keras.losses.
    """

    def __init__(
        self,
        parts: Sequence[str],
        weights: Sequence[float] | None = None,
        outputs: Outputs = FOREGROUND,
        name: str = "mask_loss",
    ):
        super().__init__(name=name)
        self.parts, self.outputs = tuple(parts), outputs
        count = max(len(outputs.classes), 2)
        self.weights = tuple(weights or (1.0,) * count)

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns the sum of the losses."""
        y_true, y_pred = ops.cast(y_true, "float32"), ops.cast(y_pred, "float32")
        is_scored = ops.ones_like(y_true)
        if sample_weight is not None:
            is_scored = ops.cast(sample_weight, "float32") * is_scored
        weights = ops.convert_to_tensor(self.weights, "float32")
        pixels = ops.take(weights, ops.cast(y_true[..., 0], "int32"), axis=0) * is_scored[..., 0]
        scored = ops.maximum(ops.sum(is_scored), 1.0)
        losses = []
        for part in self.parts:
            if part in ("dice", "tversky"):
                losses.append(self._overlap_loss(part, y_true, y_pred, is_scored))
            else:
                losses.append(ops.sum(self._pixel_losses(part, y_true, y_pred) * pixels) / scored)
        return sum(losses)

    def _pixel_losses(self, part: str, y_true: Any, y_pred: Any) -> Any:
        """Returns each pixel's loss, (batch, height, width)."""
        if part == CROSS_ENTROPY:
            return self.outputs.pixel_losses(y_true, y_pred)
        options = {"gamma": GAMMA, "from_logits": self.outputs.from_logits}
        if not self.outputs.classes:
            return keras.losses.binary_focal_crossentropy(y_true, y_pred, **options)
        return keras.losses.categorical_focal_crossentropy(
            self._one_hot(y_true), y_pred, alpha=1.0, **options
        )

    def _overlap_loss(self, part: str, y_true: Any, y_pred: Any, is_scored: Any) -> Any:
        """Returns the weighted mean of the classes' losses."""
        wanted = self._one_hot(y_true) * is_scored
        predicted = self.outputs.probabilities(y_pred) * is_scored
        over = (0, 1, 2)
        if part == "dice":
            losses = keras.losses.dice(wanted, predicted, axis=over)
        else:
            # Keras' alpha weighs what is missed, whatever its documentation calls it.
            losses = keras.losses.tversky(wanted, predicted, alpha=MISSED, beta=FALSE, axis=over)
        if not self.outputs.classes:
            return losses[0]
        weights = ops.convert_to_tensor(self.weights, "float32")
        return ops.sum(losses * weights) / ops.sum(weights)

    def _one_hot(self, y_true: Any) -> Any:
        if not self.outputs.classes:
            return y_true
        return ops.one_hot(ops.cast(y_true[..., 0], "int32"), len(self.outputs.classes))

    def get_config(self):
        """Returns the arguments."""
        arguments = {"parts": list(self.parts), "weights": list(self.weights)}
        return arguments | {"outputs": self.outputs.get_config(), "name": self.name}

    @classmethod
    def from_config(cls, config):
        """Returns what `get_config` describes."""
        return cls(**{**config, "outputs": Outputs.from_config(config["outputs"])})
