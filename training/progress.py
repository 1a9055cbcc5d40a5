"""How far a command has come: a bar on a terminal, else a few lines."""

import sys

import keras

LINES = 10  # at most, where standard output is a file or a pipe


class Progress:
    """Counts steps on standard output.

    Args:
        total: Number of steps.
        unit: What a step is, in the plural.
    """

    def __init__(self, total: int, unit: str):
        self.total, self.unit, self.done = total, unit, 0
        self._bar = keras.utils.Progbar(total) if sys.stdout.isatty() else None

    def step(self, count: int = 1) -> None:
        """Counts steps."""
        before, self.done = self.done, self.done + count
        if self._bar is not None:
            self._bar.update(self.done)
        elif self.done * LINES // self.total > before * LINES // self.total:
            print(f"{self.done} of {self.total} {self.unit}", flush=True)
