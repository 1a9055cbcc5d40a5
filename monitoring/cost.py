"""What monitoring costs a training run."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from .measuring import Measurer
from .taps.train_step import TrainStepTap


class MonitoringCost:
    """The time for which training waits for its monitor, and the time inside its steps.

    Attributes:
        seconds: Seconds for which training has waited.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._measurer: Measurer | None = None
        self._began = self._total = 0.0
        self._tap: TrainStepTap | None = None
        self._batches = 0  # that it has seen
        self._estimate: float | None = None

    def begin(self, measurer: Measurer) -> None:
        """Starts a training run."""
        self.seconds, self._tap, self._estimate = 0.0, None, None
        self._measurer = measurer
        self._began = time.perf_counter()

    def end(self) -> None:
        """Ends the training run before the monitor lets go of the model."""
        measurer, self._measurer = self._measurer, None
        if measurer is not None and measurer.tap is not None and measurer.tap.accumulate:
            self._tap, self._batches = measurer.tap, measurer.tap.batches()

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the time of a block for which training waits."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

    def step_seconds(self) -> float:
        """Estimates the time of the last training run that its steps spent on statistics.

        Returns:
            Seconds; 0 if none were taken there.
        """
        if self._tap is None:
            return 0.0
        if self._estimate is None:
            self._estimate = self._tap.step_seconds() * self._batches
        return self._estimate

    def summary(self) -> str:
        """Returns the cost of the training run that has just ended, in one line."""
        training_seconds = time.perf_counter() - self._began
        estimate = self.step_seconds()
        fraction = (self.seconds + estimate) / training_seconds
        line = f"monitoring: {fraction:.1%} of {training_seconds:.0f} s".replace("%", " %")
        return f"{line}, of which the part inside the steps is estimated" if estimate else line
