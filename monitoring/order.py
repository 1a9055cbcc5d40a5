"""Checks of a monitor's arguments, of its place among callbacks and of its batch hooks."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from .queries import MonitorQueries

BATCH_HOOKS = ("on_batch_end", "on_train_batch_end", "on_test_batch_end", "on_predict_batch_end")


def check_arguments(monitor: Any) -> None:
    """Raises a ValueError if an argument of a monitor is out of range."""
    if monitor.monitor_frequency not in ("epoch", "batch"):
        raise ValueError(
            "Expected monitor_frequency 'epoch' or 'batch'. "
            f"Received: {monitor.monitor_frequency!r}"
        )
    if type(monitor.log_frequency) is not int or monitor.log_frequency < 1:
        raise ValueError(
            f"Expected log_frequency to be a positive integer. Received: {monitor.log_frequency!r}"
        )
    steps = monitor.monitor_steps
    if steps is not None and (type(steps) is not int or steps < 1):
        raise ValueError(
            f"Expected monitor_steps to be a positive integer or None. Received: {steps!r}"
        )
    if not 0 <= monitor.redundancy_weight < np.inf or monitor.redundancy_warmup < 0:
        raise ValueError(
            "Expected redundancy_weight and redundancy_warmup of 0 or more. "
            f"Received: {monitor.redundancy_weight!r}, {monitor.redundancy_warmup!r}"
        )


def check_order(callbacks: Sequence[keras.callbacks.Callback]) -> None:
    """Checks that a monitor comes before the callbacks that read what it adds to the logs.

    Args:
        callbacks: The list as it is passed to `fit`.

    Raises:
        ValueError: A reader comes first; it would see the epoch without `redundancy`.
    """
    kinds = [type(callback).__name__ for callback in callbacks]
    for place, callback in enumerate(callbacks):
        if isinstance(callback, MonitorQueries):
            early = [
                kind
                for kind, other in zip(kinds[:place], callbacks, strict=False)
                if isinstance(other, keras.callbacks.CSVLogger)
                or str(getattr(other, "monitor", "")).startswith("redundancy")
            ]
            if early:
                raise ValueError(
                    f"Expected NASMonitorCallback before {', '.join(early)}, which read the logs "
                    f"that it fills. Received: {', '.join(kinds)}"
                )


def same_batch_hooks(callback: keras.callbacks.Callback, kind: type) -> bool:
    """Returns whether a callback has the batch hooks of `kind`, not those of a subclass."""
    return all(getattr(type(callback), name) is getattr(kind, name) for name in BATCH_HOOKS)
