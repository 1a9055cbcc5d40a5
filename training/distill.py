"""A student that learns from a trained teacher's answers as well as from the masks."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from monitoring.records.run_files import MODEL, expanded
from training.data import batches
from training.model_files import load_model, without_structure
from training.output_kind import LOGITS, PROBABILITIES
from training.outputs import FOREGROUND, Outputs, outputs_of
from training.split import Split


@keras.saving.register_keras_serializable("probe_zoo")
class DistillationLoss(keras.losses.Loss):
    """Weighs a teacher's answers against the masks.

    (1 - alpha) BCE(mask, sigmoid(student)) + alpha T^2 MSE(sigmoid(teacher / T),
    sigmoid(student / T)). The factor T^2 keeps the gradient of the second part at the size
    that it has at T = 1. There is no softmax: over one channel it is always 1. Of several classes,
    it is (1 - alpha) CE(mask, softmax(student)) + alpha T^2 KL(softmax(teacher / T),
    softmax(student / T)).

    Args:
        alpha: Weight of the teacher, 0..1; 0 is exactly the plain loss. Defaults to 0.5.
        temperature: T, above 0; a higher one softens the answers. Defaults to 4.
        name: Name of the loss. Defaults to "distillation".
        outputs: What the student puts out. Defaults to logits of foreground.
        mask_loss: A loss in place of the cross-entropy. Defaults to None.

    Call arguments:
        y_true: (batch, height, width, 1 + channels), the mask and the teacher's logits.
        y_pred: (batch, height, width, channels), what the student puts out.

    Example:
        >>> both = np.array([[[[1.0, 2.0]]]])
        >>> float(DistillationLoss(alpha=1.0)(both, np.array([[[[2.0]]]])))
        0.0

    Reference:
        Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531
    """

    def __init__(
        self,
        alpha: float = 0.5,
        temperature: float = 4.0,
        name: str = "distillation",
        *,
        outputs: Outputs = FOREGROUND,
        mask_loss: keras.losses.Loss | None = None,
    ):
        super().__init__(name=name, reduction="mean_with_sample_weight")
        if not 0 <= alpha <= 1:
            raise ValueError(f"Expected alpha from 0 to 1. Received: {alpha}")
        if not temperature > 0:
            raise ValueError(f"Expected a temperature above 0. Received: {temperature}")
        self.alpha, self.temperature = alpha, temperature
        self.outputs, self.mask_loss = outputs, mask_loss

    def __call__(self, y_true, y_pred, sample_weight=None):
        """Returns the mean over scored pixels."""
        value = super().__call__(y_true, y_pred, sample_weight)
        if self.mask_loss is None:
            return value
        return value + (1 - self.alpha) * self.mask_loss(y_true[..., :1], y_pred, sample_weight)

    def call(self, y_true, y_pred):
        """Returns each pixel's loss, (batch, height, width), without `mask_loss`."""
        if self.mask_loss is not None:
            return self.alpha * self.temperature**2 * self._soft(y_true, y_pred)
        hard = self.outputs.pixel_losses(y_true[..., :1], y_pred)
        if not self.alpha:
            return hard
        soft = self._soft(y_true, y_pred)
        return (1 - self.alpha) * hard + self.alpha * self.temperature**2 * soft

    def _soft(self, y_true, y_pred):
        """Returns each pixel's distance between the teacher's and the student's answers."""
        y_pred = self.outputs.logits(y_pred)
        softened = (ops.cast(y_true[..., 1:], y_pred.dtype), y_pred)
        if self.outputs.classes:
            answers = (ops.softmax(logits / self.temperature) for logits in softened)
            return keras.losses.kl_divergence(*answers)
        teacher, student = (ops.sigmoid(logits / self.temperature) for logits in softened)
        return ops.mean(ops.square(teacher - student), axis=-1)

    def get_config(self):
        """Returns the arguments."""
        plain = {name: getattr(self, name) for name in ("name", "alpha", "temperature")}
        mask_loss = self.mask_loss and keras.saving.serialize_keras_object(self.mask_loss)
        return plain | {"outputs": self.outputs.get_config(), "mask_loss": mask_loss}

    @classmethod
    def from_config(cls, config):
        """Returns what `get_config` describes, also as version 0.1 wrote it."""
        config = dict(config)
        kind = LOGITS if config.pop("from_logits", True) else PROBABILITIES
        outputs = Outputs.from_config(config.pop("outputs", {"kind": kind, "classes": []}))
        mask_loss = config.pop("mask_loss", None)
        if mask_loss is not None:
            mask_loss = keras.saving.deserialize_keras_object(mask_loss)
        return cls(**config, outputs=outputs, mask_loss=mask_loss)


@keras.saving.register_keras_serializable("probe_zoo")
class MaskIoU(keras.metrics.BinaryIoU):
    """BinaryIoU on the first channel of `y_true`, the mask."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch."""
        return super().update_state(y_true[..., :1], y_pred, sample_weight)


@keras.saving.register_keras_serializable("probe_zoo")
class ClassIoU(keras.metrics.MeanIoU):
    """MeanIoU on the first channel of `y_true`, the mask."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Adds a batch."""
        return super().update_state(y_true[..., :1], y_pred, sample_weight)


class Answers:
    """A frozen teacher's logits for the images of a split, in inference mode.

    Args:
        teacher: A model from images to logits (batch, height, width, channels).
        split: The images.
        fixed: Whether the images are never augmented, so that one pass serves all epochs;
            else the teacher sees each augmented batch.
        batch_size: Images per batch of that pass. Defaults to 16.
    """

    def __init__(self, teacher: keras.Model, split: Split, *, fixed: bool, batch_size: int = 16):
        self.teacher = teacher
        self.logits: np.ndarray | None = None
        if fixed:
            self.logits = teacher.predict(batches(split, batch_size), verbose=0)

    def __call__(self, images, index):
        """Returns the logits of scaled images; `index` holds their positions in the split."""
        import tensorflow as tf

        if self.logits is None:
            return tf.cast(self.teacher(images, training=False), tf.float32)
        return tf.gather(self.logits, index)


def read_teacher(
    path: str | Path,
    student: keras.Model,
    declared: str | None = None,
    classes: tuple[str, ...] = (),
) -> keras.Model:
    """Loads a teacher, with probes or without.

    Args:
        path: A run's folder or a .keras file.
        student: The model that has the same input and output.
        declared: What the file's model puts out, "logits" or "probabilities". Defaults to None:
            its last activation tells.
        classes: Names of several classes. Defaults to none: foreground and background.

    Returns:
        The teacher, not trainable. It puts out logits; those of probabilities are cut off at
        -16.6 and 16.6, see `to_logits`.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It cannot be loaded, has another input or output, or nothing tells what it
            puts out.
    """
    path = expanded(path)
    if not path.exists():
        raise FileNotFoundError(
            f"Teacher {path} does not exist: give a run's folder or a .keras file."
        )
    file = path / MODEL if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"Teacher {path} holds no {MODEL}: its training did not end.")
    teacher = without_structure(load_model(file))
    for name in ("input_shape", "output_shape"):
        shape, expected = getattr(teacher, name, None), getattr(student, name)
        if shape != expected:
            raise ValueError(
                f"Teacher {path} has {name} {shape}, the student {expected}: they must be the same"
            )
    option = "distillation.teacher_outputs:"
    outputs = outputs_of(teacher, classes, declared, option=option)
    if not outputs.from_logits:
        logits = outputs.logits(teacher.outputs[0])
        teacher = keras.Model(teacher.inputs[0], logits, name=teacher.name)
    teacher.trainable = False
    return teacher
