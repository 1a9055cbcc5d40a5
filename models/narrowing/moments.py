"""What narrowing asks of whoever measures: moments of the inputs of layers."""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import keras
import numpy as np


class Moments(Protocol):
    """Measures layers on images, in inference mode; `monitoring.InputMoments` is one.

    "Rows" are what a layer's kernel multiplies: the inputs under each tap, in the order of
    `kernel.reshape(-1, outputs)`. A grouped convolution has several blocks of them.

    Attributes:
        weighted: Whether there are targets and a loss, and so gradients.
    """

    @property
    def weighted(self) -> bool:
        """Whether there are gradients."""

    def covariances(
        self, model: keras.Model, layers: Sequence[keras.layers.Layer]
    ) -> Sequence[tuple[np.ndarray, np.ndarray]]:
        """Returns each layer's mean (blocks, rows) and covariance (blocks, rows, rows)."""

    def gradients(
        self, model: keras.Model, layers: Sequence[keras.layers.Layer]
    ) -> Sequence[np.ndarray] | None:
        """Returns for each layer the second moment of the loss' gradient, (outputs, outputs).

        The gradient is that of one image's loss by the layer's outputs before its activation,
        summed over positions; its second moment is averaged over images.
        """

    def mean_loss(self, model: keras.Model, images: int) -> float | None:
        """Returns the mean loss of the first images; None without targets and a loss."""

    def differences(
        self,
        wide: keras.Model,
        narrow: keras.Model,
        pairs: Sequence[tuple[keras.layers.Layer, keras.layers.Layer, np.ndarray]],
    ) -> Sequence[Any]:
        """Returns joint moments of a narrow layer's rows and of what its outputs lack.

        Args:
            wide: The parent.
            narrow: The narrowed network.
            pairs: (layer of the parent, layer in its place, indices of the parent's outputs that
                the narrow layer has).

        Returns:
            For each pair `count` (folds, blocks), `shift` and `mean` (folds, blocks, columns) and
            `scatter` (folds, blocks, columns, columns), of the narrow layer's rows followed by
            the parent's outputs less the narrow layer's, before bias and activation. The mean is
            relative to `shift`.
        """


class Joint(NamedTuple):
    """Mean and scatter over a number of samples, (columns,) and (columns, columns)."""

    samples: float
    mean: np.ndarray
    scatter: np.ndarray

    @property
    def covariance(self) -> np.ndarray:
        """Scatter over count."""
        return self.scatter / max(self.samples, 1)


def joined(states: Any, folds: Sequence[int], block: int) -> Joint:
    """Joins some folds of one block.

    Reference:
        Chan, Golub, LeVeque 1979, equation 2.1.
    """
    counts = np.asarray(states.count)[folds, block].astype(float)
    means = (np.asarray(states.shift) + np.asarray(states.mean))[folds, block]
    total = max(counts.sum(), 1.0)
    mean = counts @ means / total
    scatter = np.zeros(states.scatter.shape[2:])
    for count, fold_mean, fold in zip(counts, means, folds, strict=True):
        away = fold_mean - mean
        scatter += states.scatter[fold, block] + count * np.outer(away, away)
    return Joint(total, mean, scatter)
