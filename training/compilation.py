"""Loss, metric and optimizer of a network that is trained on masks."""

from collections.abc import Sequence
from typing import Any

import keras

from training.distill import ClassIoU, DistillationLoss, MaskIoU
from training.loss_names import CROSS_ENTROPY, loss_parts
from training.losses import MaskLoss
from training.outputs import FOREGROUND, Outputs
from training.settings import Config

METRIC: dict[str, Any] = {"target_class_ids": [0, 1], "name": "miou"}


def compile_model(
    model: keras.Model,
    config: Config,
    *,
    steps: int,
    outputs: Outputs = FOREGROUND,
    weights: Sequence[float] | None = None,
) -> None:
    """Sets the loss, AdamW, and the mIoU pooled over all classes.

    Args:
        model: The network.
        config: Its configuration.
        steps: Optimizer steps of the whole training.
        outputs: What the network puts out. Defaults to logits of foreground.
        weights: A weight for each class, as `class_weights` returns them. Defaults to None.
    """
    training = config.training
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=training.weight_decay)
    parts, loss = loss_parts(training.loss), None
    if parts != (CROSS_ENTROPY,) or weights is not None:
        loss = MaskLoss(parts, weights, outputs)
    settings = config.distillation
    if settings.teacher is None:
        compile_for_masks(model, optimizer, outputs=outputs, loss=loss)
        return
    model.compile(
        optimizer,
        DistillationLoss(settings.alpha, settings.temperature, outputs=outputs, mask_loss=loss),
        weighted_metrics=[_first_channel_iou(outputs)],
    )
    optimizer.build(model.trainable_variables)


def compile_for_masks(
    model: keras.Model,
    optimizer: keras.optimizers.Optimizer,
    *,
    outputs: Outputs = FOREGROUND,
    loss: keras.losses.Loss | None = None,
) -> None:
    """Sets the loss and the metric of a network whose only targets are masks.

    Args:
        model: The network.
        optimizer: Its optimizer.
        outputs: What the network puts out. Defaults to logits of foreground.
        loss: Defaults to None: the cross-entropy, as Keras has it, so that plain Keras loads a
            network that is saved with it.
    """
    # The mean is over scored pixels; without weights, all pixels are scored.
    options: dict[str, Any] = {
        "from_logits": outputs.from_logits,
        "reduction": "mean_with_sample_weight",
    }
    metric: keras.metrics.Metric
    if outputs.classes:
        loss = loss or keras.losses.SparseCategoricalCrossentropy(**options)
        metric = keras.metrics.MeanIoU(outputs.channels, name="miou", sparse_y_pred=False)
    else:
        loss = loss or keras.losses.BinaryCrossentropy(**options)
        metric = keras.metrics.BinaryIoU(threshold=outputs.border, **METRIC)
    model.compile(optimizer, loss, weighted_metrics=[metric])
    # A first step that creates variables is traced twice by TensorFlow.
    optimizer.build(model.trainable_variables)


def _first_channel_iou(outputs: Outputs) -> keras.metrics.Metric:
    """Returns the metric of targets whose further channels are a teacher's answers."""
    if outputs.classes:
        return ClassIoU(outputs.channels, name="miou", sparse_y_pred=False)
    return MaskIoU(threshold=outputs.border, **METRIC)
