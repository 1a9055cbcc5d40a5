"""Moments of what layers read, on given images: what a model is narrowed by."""

from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import keras
import numpy as np

from .statistics.covariance import CovarianceState
from .statistics.types import Images
from .taps.input_gradients import TotalLoss, outer_sum, preactivation_gradients
from .taps.input_rows import LayerPair, RowSampler
from .taps.input_states import (
    check_finite,
    check_pair,
    difference_states,
    input_states,
    mean_and_covariance,
    state_parts,
)
from .taps.kernel_rows import check_kernel_layer, kernel_matrix
from .taps.layer_inputs import check_parts, pass_size
from .taps.targeted_images import TargetedImages

TAPE = 2  # times what a pass keeps, for its gradients
LOSS_IMAGES = 64  # at a time: a compiled pass keeps few tensors


class InputMoments:
    """Measures what layers of a model read, and how much its loss depends on what they compute.

    Images are run eagerly, in inference mode, and every variable of the model gets its value
    back. Measurements are deterministic: the same images, at the same positions, for any two
    models. Masks that Keras attaches to tensors are not looked at.

    Args:
        images: Whatever `model.predict` takes, already preprocessed: arrays, or a dataset of
            batches. It is read anew for each measurement, without its shuffling.
        targets: What the model should put out, as many as images. Defaults to None: the second
            element of a dataset's tuples if there is a `loss`, else none. Sample weights are
            not used.
        loss: What `model.compile` takes as `loss`: a name, a function, a `keras.losses.Loss`,
            or a list or dict of them. It has to average over images, or return one value per
            sample. Defaults to None: no gradients.
        positions: Most positions of each image whose rows are measured, at each call of a
            layer. They are drawn anew for each batch. Defaults to 64.
        gradient_images: How many images, from the first, gradients are taken on. Defaults to
            128.
        folds: Number of groups of images for cross-validation; image i is in fold i modulo
            `folds`. Defaults to 4.
        seed: Seed of the positions. Defaults to 0.

    Attributes:
        reason: Why there are no gradients, or "".

    Raises:
        ValueError: There are no images, not as many targets, only one of targets and loss, or a
            number is not a positive integer.

    Example:
        >>> images = np.random.default_rng(0).normal(size=(64, 4)).astype("float32")
        >>> mix = keras.layers.Dense(3)
        >>> model = keras.Sequential([keras.Input((4,)), mix, keras.layers.Dense(1)])
        >>> [(mean, covariance)] = InputMoments(images).covariances(model, [mix])
        >>> mean.shape, covariance.shape
        ((1, 4), (1, 4, 4))
        >>> bool(np.allclose(covariance[0], np.cov(images.T)))
        True
    """

    def __init__(
        self,
        images: Images,
        targets: Any = None,
        loss: Any = None,
        *,
        positions: int = 64,
        gradient_images: int = 128,
        folds: int = 4,
        seed: int = 0,
    ):
        numbers = {"positions": positions, "gradient_images": gradient_images, "folds": folds}
        for name, number in numbers.items():
            if isinstance(number, bool) or not isinstance(number, int) or number < 1:
                raise ValueError(f"Expected {name} of at least 1. Received: {name}={number}")
        self._images = TargetedImages(images, targets, loss)
        self._sampler = RowSampler(positions, seed)
        self._gradient_images, self._folds = gradient_images, folds
        self._loss = None if loss is None else TotalLoss(loss)
        self.reason = "no targets were given" if loss is None else ""
        if not self.reason and keras.backend.backend() != "tensorflow":
            self.reason = "gradients need the TensorFlow backend"

    @property
    def weighted(self) -> bool:
        """Whether there are gradients: targets, a loss, and a backend that computes them here."""
        return not self.reason

    def covariances(
        self, model: keras.Model, layers: Sequence[keras.layers.Layer]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Measures the rows that each layer's kernel multiplies.

        A row holds the channels of every tap of a convolution, those of one position of Dense or
        of a transposed convolution, and what the pointwise part of a separable one reads. The
        groups of a convolution are blocks of their own.

        Args:
            model: A built Keras model.
            layers: Its Dense, convolution, transposed or separable convolution layers.

        Returns:
            For each layer, the mean (blocks, rows) and the covariance (blocks, rows, rows),
            divided by count - 1, over images, sampled positions and calls, in float64.

        Raises:
            ValueError: A layer is of another kind, quantized, not part of the model or not
                called, what it reads is not finite, or the images do not fit the model.
        """
        check_parts(model, layers)
        shapes = [(1, *kernel_matrix(layer).shape[:2]) for layer in layers]
        moments: list[tuple[np.ndarray, np.ndarray]] = []
        for part in state_parts(shapes):
            states = input_states(self._images, model, layers[part], self._sampler.kernel_rows)
            moments += [mean_and_covariance(state.at(0)) for state in states]
        return moments

    def statistics(
        self, model: keras.Model, layers: Sequence[keras.layers.Layer]
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Measures each channel of what layers such as BatchNormalization read.

        Args:
            model: A built Keras model.
            layers: Layers of it that have one channel axis, `layer.axis`.

        Returns:
            For each layer, mean and variance of its channels, (channels,), the latter divided
            by count - 1, over images, sampled positions and calls, in float64.

        Raises:
            ValueError: A layer has no such axis, or as for `covariances`.
        """
        check_parts(model, layers)
        for layer in layers:
            if not isinstance(getattr(layer, "axis", None), int):
                raise ValueError(
                    "Expected a layer with one channel axis, such as BatchNormalization. "
                    f"Received: layer '{layer.name}' of class {type(layer).__name__}"
                )
        states = input_states(self._images, model, layers, self._sampler.channel_rows)
        moments = [mean_and_covariance(state.at(0)) for state in states]
        return [(mean[:, 0], variance[:, 0, 0]) for mean, variance in moments]

    def gradients(
        self, model: keras.Model, layers: Sequence[keras.layers.Layer]
    ) -> list[np.ndarray] | None:
        """Measures how much the loss depends on what each layer computes before its activation.

        Args:
            model: A built Keras model.
            layers: Its layers, of the kinds that `covariances` takes.

        Returns:
            For each layer G, (outputs, outputs), in float64: with g the gradient of one image's
            loss at one position, the sum of g g' over all positions and calls, averaged over
            the images; zeros where no gradient flows. None if `weighted` is False.

        Raises:
            ValueError: As for `covariances`.
        """
        check_parts(model, layers)
        for layer in layers:
            check_kernel_layer(layer)
        if self._loss is None or not self.weighted:
            return None
        totals: list[Any] = [0.0] * len(layers)
        images, wanted = 0, self._gradient_images
        with self._images.read([model], pass_size([model], TAPE), wanted) as batches:
            for batch in batches:
                calls = preactivation_gradients(
                    model, layers, batch.images, batch.targets, self._loss
                )
                for number, (layer, gradients) in enumerate(zip(layers, calls, strict=True)):
                    totals[number] += outer_sum(layer, gradients, batch.size, batch.used)
                images += batch.used
        for layer, total in zip(layers, totals, strict=True):
            check_finite(total, f"gradients at layer '{layer.name}'")
        return [total / images for total in totals]

    def mean_loss(self, model: keras.Model, images: int) -> float | None:
        """Measures the loss itself, by `model.predict_on_batch`.

        Args:
            model: A built Keras model.
            images: How many images to use, from the first; all if there are not as many.

        Returns:
            The mean over the images; None without targets and a loss.

        Raises:
            ValueError: The images do not fit the model.
        """
        if self._loss is None:
            return None
        total, seen = 0.0, 0
        with self._images.read([model], LOSS_IMAGES, images) as batches:
            for batch in batches:
                both = (batch.targets, model.predict_on_batch(batch.images))
                first = itemgetter(slice(batch.used))
                total += float(self._loss(*keras.tree.map_structure(first, both)))
                seen += batch.used
        return total / seen

    def differences(
        self, wide: keras.Model, narrow: keras.Model, pairs: Sequence[Any]
    ) -> list[CovarianceState]:
        """Measures what narrow layers read, with what is missing from what they compute.

        Args:
            wide: A built Keras model.
            narrow: The same network with fewer channels.
            pairs: (layer of `wide`, layer of `narrow`, indices of the wide layer's outputs that
                the narrow one has). The layers differ in nothing but their channels. Without
                indices both have the same outputs.

        Returns:
            For each pair, one state per fold and block as NumPy arrays, (folds, blocks, ...).
            The channels are the rows of the narrow layer, then d = rows @ kernel of the wide
            layer less that of the narrow one, before bias and activation, at the same images
            and positions. Where both compute the same, d is exactly 0.

        Raises:
            ValueError: The layers of a pair do not match, or as for `covariances`.
        """
        pairs = [LayerPair(*pair) for pair in pairs]
        check_parts(wide, [pair.wide for pair in pairs])
        check_parts(narrow, [pair.narrow for pair in pairs])
        shapes = []
        for pair in pairs:
            check_pair(pair)
            blocks, rows, outputs = kernel_matrix(pair.narrow).shape
            shapes.append((self._folds, blocks, rows + outputs))
        states: list[CovarianceState] = []
        for part in state_parts(shapes):
            states += difference_states(
                self._images, (wide, narrow), pairs[part], self._sampler, self._folds
            )
        return states
