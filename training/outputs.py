"""What a network's outputs mean: logits or probabilities, of foreground or of several classes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import ops

from training.class_masks import IGNORED
from training.output_kind import CLOSEST, LOGITS, output_kind, to_logits


@dataclass(frozen=True)
class Outputs:
    """What a network puts out for each pixel.

    Attributes:
        kind: "logits" or "probabilities".
        classes: Names of several classes, each of which has a channel; none: one channel of
            foreground.
    """

    kind: str = LOGITS
    classes: tuple[str, ...] = ()

    def get_config(self) -> dict[str, Any]:
        """Returns the attributes as JSON can hold them."""
        return {"kind": self.kind, "classes": list(self.classes)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "Outputs":
        """Returns what `get_config` describes."""
        return cls(config["kind"], tuple(config["classes"]))

    @property
    def channels(self) -> int:
        """Number of channels."""
        return max(len(self.classes), 1)

    @property
    def from_logits(self) -> bool:
        """Whether they are logits."""
        return self.kind == LOGITS

    @property
    def border(self) -> float:
        """Where foreground begins, which is a probability of 0.5."""
        return 0.0 if self.from_logits else 0.5

    def logits(self, values: Any) -> Any:
        """Returns outputs as logits, as an array or tensor of Keras' backend."""
        if self.from_logits:
            return values
        if not self.classes:
            return to_logits(values)
        return ops.log(ops.clip(ops.cast(values, "float32"), CLOSEST, 1.0))

    def probabilities(self, values: Any) -> Any:
        """Returns outputs as probabilities, as a tensor of Keras' backend."""
        if not self.from_logits:
            return values
        return ops.softmax(values) if self.classes else ops.sigmoid(values)

    @property
    def as_logits(self) -> "Outputs":
        """The outputs once `logits` has converted them."""
        return Outputs(LOGITS, self.classes)

    def labels(self, values: np.ndarray) -> np.ndarray:
        """Returns the class of each pixel.

        Args:
            values: Outputs, (..., channels).

        Returns:
            (..., 1): of foreground, whether it is predicted, bool; else the number of the class
            with the highest output, uint8.

        Example:
            >>> Outputs().labels(np.array([[0.3], [-2.0]])).tolist()
            [[True], [False]]
            >>> Outputs(classes=("path", "sky")).labels(np.array([[0.1, 2.0]])).tolist()
            [[1]]
        """
        values = np.asarray(values)
        if not self.classes:
            return values >= self.border
        return values.argmax(axis=-1, keepdims=True).astype(np.uint8)

    def pixel_losses(self, masks: Any, values: Any) -> Any:
        """Returns the cross-entropy of each pixel.

        Args:
            masks: Labels, (..., 1), without IGNORED.
            values: Outputs, (..., channels).
        """
        if not self.classes:
            return keras.losses.binary_crossentropy(masks, values, from_logits=self.from_logits)
        return keras.losses.sparse_categorical_crossentropy(
            masks, values, from_logits=self.from_logits
        )

    def image_losses(self, masks: Any, values: Any) -> Any:
        """Returns the loss of training on masks as one value per image, (images,).

        Args:
            masks: (images, height, width, 1), with IGNORED where a pixel does not count.
            values: Outputs, (images, height, width, channels).

        Example:
            >>> masks = np.array([[[[1.0], [255.0]]]])
            >>> loss = Outputs("probabilities").image_losses(masks, np.array([[[[0.5], [0.0]]]]))
            >>> [round(float(value), 3) for value in loss]
            [0.693]
        """
        masks, values = ops.cast(masks, "float32"), ops.cast(values, "float32")
        is_scored = ops.cast(masks < IGNORED, "float32")
        pixels = self.pixel_losses(masks * is_scored, values)
        weights = is_scored[..., 0]
        counts = ops.maximum(ops.sum(weights, axis=(1, 2)), 1.0)
        return ops.sum(pixels * weights, axis=(1, 2)) / counts


FOREGROUND = Outputs()  # what the zoo's networks put out by default


def outputs_of(
    model: keras.Model,
    classes: tuple[str, ...] = (),
    declared: str | None = None,
    images: np.ndarray | None = None,
    *,
    option: str = "--outputs",
) -> Outputs:
    """Returns what a model puts out.

    Args:
        model: A model of one output.
        classes: Names of several classes. Defaults to none: foreground and background.
        declared: As for `output_kind`. Defaults to None.
        images: As for `output_kind`. Defaults to None.
        option: As for `output_kind`. Defaults to "--outputs".

    Raises:
        ValueError: As for `output_kind`; the model has not a channel for each class; or its
            probabilities do not add up to 1, as those of classes do that exclude one another.
    """
    outputs = Outputs(output_kind(model, declared, images, option=option), classes)
    channels = model.outputs[0].shape[-1]
    if channels != outputs.channels:
        expected = f"{outputs.channels}, one for each class" if classes else "1, for foreground"
        raise ValueError(
            f"Expected as many output channels as classes (data.classes, --classes): {expected}. "
            f"Received: model '{model.name}' has {channels}"
        )
    if classes and not outputs.from_logits:
        _check_sums(model)
    return outputs


def _check_sums(model: keras.Model) -> None:
    shape = [side or 32 for side in model.inputs[0].shape[1:]]
    image = np.random.default_rng(0).uniform(-1, 1, (1, *shape)).astype("float32")
    sums = ops.convert_to_numpy(ops.sum(model(image, training=False), axis=-1))
    if not np.allclose(sums, 1, atol=0.02):
        raise ValueError(
            f"Expected probabilities of classes to add up to 1, as those of a softmax. Received: "
            f"model '{model.name}' puts out sums of {sums.min():.3g} to {sums.max():.3g}"
        )
