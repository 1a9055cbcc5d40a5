"""A student taught by a trained teacher: its answers stand beside the masks."""

from pathlib import Path

import keras
import numpy as np
from keras import ops

from training.data import batches
from training.images import Split
from training.projection_check import load


@keras.saving.register_keras_serializable("probe_zoo")
class DistillationLoss(keras.losses.Loss):
    """Weighs a teacher's answers against the masks.

    (1 - alpha) BCE(mask, sigmoid(student)) + alpha T^2 MSE(sigmoid(teacher / T),
    sigmoid(student / T)). The factor T^2 keeps the second part's gradient at the size that it
    has at T = 1. There is no softmax: over one channel it is always 1.

    Args:
        alpha: Weight of the teacher, 0..1; 0 is the plain loss, to the bit. Defaults to 0.5.
        temperature: T, over 0; higher softens the answers. Defaults to 4.
        name: Of the loss.

    Call arguments:
        y_true: (batch, height, width, 2), mask and the teacher's logit.
        y_pred: (batch, height, width, 1), the student's logit.

    Example:
        >>> both = np.array([[[[1.0, 2.0]]]])
        >>> float(DistillationLoss(alpha=1.0)(both, np.array([[[[2.0]]]])))
        0.0

    Reference:
        Hinton, Vinyals, Dean 2015, https://arxiv.org/abs/1503.02531
    """

    def __init__(self, alpha: float = 0.5, temperature: float = 4.0, name: str = "distillation"):
        super().__init__(name=name, reduction="mean_with_sample_weight")
        if not 0 <= alpha <= 1:
            raise ValueError(f"Expected alpha of 0 to 1. Received: {alpha}")
        if not temperature > 0:
            raise ValueError(f"Expected a temperature over 0. Received: {temperature}")
        self.alpha, self.temperature = alpha, temperature

    def call(self, y_true, y_pred):
        """Returns the loss of each pixel, (batch, height, width)."""
        hard = keras.losses.binary_crossentropy(y_true[..., :1], y_pred, from_logits=True)
        if not self.alpha:
            return hard
        taught = ops.sigmoid(ops.cast(y_true[..., 1:], y_pred.dtype) / self.temperature)
        said = ops.sigmoid(y_pred / self.temperature)
        soft = ops.mean(ops.square(taught - said), axis=-1)
        return (1 - self.alpha) * hard + self.alpha * self.temperature**2 * soft

    def get_config(self):
        """Returns the arguments."""
        return {"alpha": self.alpha, "temperature": self.temperature, "name": self.name}


@keras.saving.register_keras_serializable("probe_zoo")
class MaskIoU(keras.metrics.BinaryIoU):
    """BinaryIoU of the first channel of `y_true`, the mask."""

    def update_state(self, y_true, y_pred, sample_weight=None):
        """Counts a batch."""
        return super().update_state(y_true[..., :1], y_pred, sample_weight)


class Answers:
    """A teacher's logits for the images of a split, frozen and in inference mode.

    Args:
        teacher: From images to logits (batch, height, width, 1).
        split: Its images.
        fixed: Whether they are seen as they are, so that one pass answers for all epochs;
            else each batch is answered as it comes, augmented.
        batch_size: Images at a time. Defaults to 16.
    """

    def __init__(self, teacher: keras.Model, split: Split, *, fixed: bool, batch_size: int = 16):
        self.teacher = teacher
        self.logits: np.ndarray | None = None
        if fixed:
            self.logits = teacher.predict(batches(split, batch_size), verbose=0)

    def __call__(self, images, index):
        """Returns logits of scaled images, the split's `index`-th."""
        import tensorflow as tf

        if self.logits is None:
            return tf.cast(self.teacher(images, training=False), tf.float32)
        return tf.gather(self.logits, index)


def read_teacher(path: str | Path, student: keras.Model) -> keras.Model:
    """Loads a teacher: a run's folder or a .keras file, with probes or without.

    Args:
        path: The folder, or the file.
        student: Whose input and output it must have.

    Returns:
        The teacher, not trainable.

    Raises:
        FileNotFoundError: It is not there.
        ValueError: It cannot be loaded, or is of another input or output.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"Teacher {path} is not there: give a run's folder or a .keras file."
        )
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise FileNotFoundError(f"Teacher {path} holds no model.keras: its training did not end.")
    teacher = load(file)
    for what in ("input_shape", "output_shape"):
        found, expected = getattr(teacher, what, None), getattr(student, what)
        if found != expected:
            raise ValueError(
                f"Teacher {path} has {what} {found}, the student {expected}: they must be the same"
            )
    teacher.trainable = False
    return teacher
