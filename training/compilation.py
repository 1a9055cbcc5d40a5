"""Loss, metric and optimizer of a network that is trained on masks."""

from typing import Any

import keras

from training.distill import DistillationLoss, MaskIoU
from training.output_kind import LOGITS
from training.settings import Config

METRIC: dict[str, Any] = {"target_class_ids": [0, 1], "name": "miou"}


def compile_model(model: keras.Model, config: Config, *, steps: int, outputs: str = LOGITS) -> None:
    """Sets the loss, AdamW, and the mIoU pooled over both classes.

    Args:
        model: The network.
        config: Its configuration.
        steps: Optimizer steps of the whole training.
        outputs: What the network puts out, "logits" or "probabilities". Defaults to "logits".
    """
    training = config.training
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    optimizer = keras.optimizers.AdamW(rate, weight_decay=training.weight_decay)
    compile_for_masks(model, optimizer, outputs=outputs)
    settings = config.distillation
    if settings.teacher is not None:
        model.compile(
            model.optimizer,
            DistillationLoss(settings.alpha, settings.temperature, from_logits=outputs == LOGITS),
            weighted_metrics=[MaskIoU(threshold=_threshold(outputs), **METRIC)],
        )


def compile_for_masks(
    model: keras.Model, optimizer: keras.optimizers.Optimizer, *, outputs: str = LOGITS
) -> None:
    """Sets the loss and the metric of a network whose only targets are masks."""
    # The mean is over scored pixels; without weights, all pixels are scored.
    loss = keras.losses.BinaryCrossentropy(
        from_logits=outputs == LOGITS, reduction="mean_with_sample_weight"
    )
    metric = keras.metrics.BinaryIoU(threshold=_threshold(outputs), **METRIC)
    model.compile(optimizer, loss, weighted_metrics=[metric])
    # A first step that creates variables is traced twice by TensorFlow.
    optimizer.build(model.trainable_variables)


def _threshold(outputs: str) -> float:
    """Returns the output from which a pixel is foreground, a probability of 0.5."""
    return 0.0 if outputs == LOGITS else 0.5
