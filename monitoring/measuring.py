"""Measures the watched layers of one model, on images or on training batches."""

import time
from collections.abc import Sequence
from math import nan

import keras
import numpy as np

from .records.measurement import Measurement, summarise
from .records.record import ProbeRecord
from .statistics.types import Images
from .taps.images_tap import ImagesTap
from .taps.train_step import TrainStepTap
from .taps.watched import Watched


class Measurer:
    """Measures the watched layers of a model.

    Args:
        model: Any Keras model.
        images: Images to measure; None for the training batches.
        layers: Names of layers; None for the probes or, without any, the output.
        data_format: "channels_last", "channels_first" or None.
        max_positions: Most positions of an image to measure; None for all.
        steps: Most batches of `images` to read. Defaults to None: all.

    Attributes:
        model: The model.
        tap: The tap of the training step, while there is one.

    Raises:
        ValueError: A layer cannot be found.
    """

    def __init__(
        self,
        model: keras.Model,
        images: Images | None,
        layers: Sequence[str] | None,
        data_format: str | None,
        max_positions: int | None,
        steps: int | None = None,
    ):
        self.model, self._images = model, images
        self._watched = Watched(model, layers, data_format, max_positions)
        self._images_tap = None if images is None else ImagesTap(self._watched, steps)
        self.tap: TrainStepTap | None = None

    @property
    def names(self) -> list[str]:
        """Names of the watched layers."""
        return list(self._watched.layers)

    @property
    def step(self) -> int:
        """Steps of the model's optimizer so far; 0 if it has none."""
        optimizer = getattr(self.model, "optimizer", None)
        return int(optimizer.iterations.numpy()) if optimizer else 0

    def tap_training(self, weight: float, warmup: int) -> None:
        """Wraps the training step, if batches are measured or a penalty is added.

        Args:
            weight: Weight of the redundancy in the loss.
            warmup: Optimizer steps over which the weight grows from 0.
        """
        if self._images_tap is None or weight:
            accumulate = self._images_tap is None
            tap = TrainStepTap(self._watched, accumulate=accumulate, weight=weight, warmup=warmup)
            tap.attach()
            self.tap = tap

    def detach(self) -> None:
        """Restores the training step."""
        if self.tap is not None:
            self.tap.detach()

    def begin_epoch(self) -> None:
        """Starts a new epoch."""
        if self.tap is not None:
            self.tap.begin_epoch()

    def measure(self, epoch: int, *, close: bool = True) -> list[Measurement]:
        """Measures each layer, up to its redundancy.

        Args:
            epoch: Epoch index.
            close: Whether a window of training batches ends here. Defaults to True.
        """
        start = time.perf_counter()
        if self._images_tap is not None:
            source = self._images_tap.source
            images = self._images_tap.measure(self._images)
            windows = {name: (grouped, nan) for name, grouped in images.items()}
        elif self.tap is not None:
            source = self.tap.source
            windows = self.tap.take() if close else self.tap.peek()
        else:
            raise ValueError("Expected monitor_data, or a running fit. Received: neither")
        step = self.step
        measurements = [
            Measurement(grouped, name, source, epoch, step, drift)
            for name, (grouped, drift) in windows.items()
        ]
        for measurement in measurements:
            measurement.seconds = (time.perf_counter() - start) / len(measurements)
        return measurements

    def measure_now(self, epoch: int = 0, last_step: int = 0) -> dict[str, ProbeRecord]:
        """Measures without recording, and leaves a window of training batches open.

        Args:
            epoch: Epoch index. Defaults to 0.
            last_step: `global_step` of the last recorded measurement, below which that of these
                records does not fall. Defaults to 0.

        Returns:
            {layer name: its record}.
        """
        measurements = self.measure(epoch, close=False)
        for measurement in measurements:
            measurement.global_step = max(measurement.step, last_step)
        return {each.probe: summarise(each)[0] for each in measurements}

    def window_state(self) -> dict[str, np.ndarray]:
        """Returns an open window of training batches as arrays; empty if there is none."""
        return {} if self.tap is None else self.tap.state()
