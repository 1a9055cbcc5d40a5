"""Loss, metric and optimizer of a network that is trained on masks."""

from typing import Any

import keras

from training.distill import DistillationLoss, MaskIoU
from training.settings import Config

# A logit of 0 is a probability of 0.5.
METRIC: dict[str, Any] = {"target_class_ids": [0, 1], "threshold": 0.0, "name": "miou"}


def compile_model(model: keras.Model, config: Config, *, steps: int) -> None:
    """Sets the loss on logits, AdamW, and the mIoU pooled over both classes.

    Args:
        model: The network.
        config: Its configuration.
        steps: Optimizer steps of the whole training.
    """
    training = config.training
    rate = training.learning_rate
    if training.schedule == "cosine":
        rate = keras.optimizers.schedules.CosineDecay(rate, steps)
    compile_for_masks(model, keras.optimizers.AdamW(rate, weight_decay=training.weight_decay))
    settings = config.distillation
    if settings.teacher is not None:
        model.compile(
            model.optimizer,
            DistillationLoss(settings.alpha, settings.temperature),
            weighted_metrics=[MaskIoU(**METRIC)],
        )


def compile_for_masks(model: keras.Model, optimizer: keras.optimizers.Optimizer) -> None:
    """Sets the loss and the metric of a network whose only targets are masks."""
    # The mean is over scored pixels; without weights, all pixels are scored.
    loss = keras.losses.BinaryCrossentropy(from_logits=True, reduction="mean_with_sample_weight")
    model.compile(optimizer, loss, weighted_metrics=[keras.metrics.BinaryIoU(**METRIC)])
    # A first step that creates variables is traced twice by TensorFlow.
    optimizer.build(model.trainable_variables)
