"""The trained model with activations restricted to k directions: what a width would cost."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import keras
import numpy as np
from keras import ops

from ..statistics.grouped import GroupedCovariance
from ..taps.patching import Patch, Wrapper
from ..taps.watched import Watched
from .check import LEVELS, Check, Projected

RANDOM_DRAWS = 3


def projection_check(
    watched: Watched,
    measured: Mapping[str, GroupedCovariance],
    evaluate: Callable[[keras.Model], float],
    widths: Mapping[str, int],
    *,
    score: str = "mIoU",
    draws: int = RANDOM_DRAWS,
    seed: int = 0,
) -> Check:
    """Evaluates a trained model with each layer's activations projected.

    A layer's activations keep their mean and their component in the leading k directions of
    their covariance; as a control, in k random directions. A network that is narrowed to k
    channels and trained may do better than this, because the check changes no weight.

    Args:
        watched: The layers, none of them nested in another.
        measured: {layer name: its covariance}, measured on other images than `evaluate` uses.
        evaluate: Returns a model's score, higher is better; it calls `predict` on images.
        widths: {layer name: advised k}; half of k, and the middle between k and all
            channels, are tried as well. If empty, only the score is taken.
        score: Name of what `evaluate` returns. Defaults to "mIoU".
        draws: Random draws for each k. Defaults to 3.
        seed: Seed of the draws. Defaults to 0.

    Returns:
        The score without any projection, and one row per layer and k; the rows of all
        layers together come last: half, advised, between.

    Raises:
        ValueError: A width is not between 1 and the layer's channels.

    Reference:
        Raghu et al. 2017, SVCCA, https://arxiv.org/abs/1706.05806, section 3: projection on
        leading directions as a test of how many a layer needs.
    """
    spectra = {name: _directions(grouped) for name, grouped in measured.items()}
    channels = {name: len(mean) for name, (mean, _) in spectra.items()}
    for name, width in widths.items():
        if not 1 <= width <= channels[name]:
            raise ValueError(
                f"Expected a width of 1 to {channels[name]} for '{name}'. Received: {width}"
            )
    model = _ProjectedModel(watched, channels)
    rng = np.random.default_rng(seed)

    def score_of(directions: Mapping[str, np.ndarray]) -> float:
        model.hold({name: (spectra[name][0], basis) for name, basis in directions.items()})
        return evaluate(model)

    whole = score_of({})
    rows = []
    for probe, level, ks in _trials(widths, channels):
        principal = score_of({name: spectra[name][1][:, :k] for name, k in ks.items()})
        random = [
            score_of({name: _random(rng, channels[name], k) for name, k in ks.items()})
            for _ in range(draws)
        ]
        rows.append(
            Projected(
                probe,
                level,
                sum(ks.values()),
                principal,
                float(np.mean(random)),
                whole - principal,
            )
        )
    return Check(score, whole, rows)


def _trials(
    widths: Mapping[str, int], channels: Mapping[str, int]
) -> list[tuple[str, str, dict[str, int]]]:
    """Returns (row's probe, level, {layer: k}): each layer alone, then all together."""
    levels = {name: _levels(width, channels[name]) for name, width in widths.items()}
    alone = [
        (name, level, {name: k})
        for name, ks in levels.items()
        for level, k in ks.items()
        if level == "advised" or k != ks["advised"]
    ]
    together = [
        ("all", level, {name: ks[level] for name, ks in levels.items()})
        for level in LEVELS
        if widths
    ]
    return alone + together


def _levels(width: int, channels: int) -> dict[str, int]:
    between = (width + channels + 1) // 2
    return dict(zip(LEVELS, (max(1, width // 2), width, between), strict=True))


def _directions(grouped: GroupedCovariance) -> tuple[np.ndarray, np.ndarray]:
    """Returns mean (channels,) and principal directions (channels, channels), leading first."""
    total = grouped.total()
    return total.mean, np.linalg.eigh(total.covariance())[1][:, ::-1]


def _random(rng: np.random.Generator, channels: int, k: int) -> np.ndarray:
    """Returns k orthonormal directions, uniformly drawn, (channels, k)."""
    return np.linalg.qr(rng.normal(size=(channels, k)))[0]


class _ProjectedModel(keras.Model):
    """A model in inference mode, with affine maps after its watched layers."""

    def __init__(self, watched: Watched, channels: Mapping[str, int]):
        super().__init__(name=f"{watched.model.name}_projected", autocast=False)
        self.watched = watched
        self.model = watched.model
        # Weights, so that other directions need no new trace.
        self.maps = {
            name: (
                self.add_weight(shape=(count, count), name=f"map_{i}", trainable=False),
                self.add_weight(shape=(count,), name=f"offset_{i}", trainable=False),
            )
            for i, (name, count) in enumerate(channels.items())
        }
        self.built = True

    def hold(self, directions: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> None:
        """Restricts layers to {name: (mean (channels,), directions (channels, k))}."""
        for name, (kernel, offset) in self.maps.items():
            projection, shift = np.eye(kernel.shape[0]), np.zeros(kernel.shape[0])
            if name in directions:
                mean, basis = directions[name]
                projection = basis @ basis.T
                shift = mean - mean @ projection
            kernel.assign(projection)
            offset.assign(shift)

    def call(self, images: Any) -> Any:
        with ExitStack() as stack:
            for name, layer in self.watched.layers.items():
                if name in self.maps:
                    wrapper = _projection(*self.maps[name], self.watched.channel_axis)
                    stack.enter_context(Patch(layer, "call", wrapper))
            return self.model(images, training=False)


def _projection(kernel: Any, offset: Any, axis: int) -> Wrapper:
    """Returns a wrapper of a layer's call that maps the channels of its output."""

    def projected_call(original_call: Wrapper, *args: Any, **kwargs: Any) -> Any:
        output = original_call(*args, **kwargs)
        moved = ops.moveaxis(output, axis, -1)
        moved = ops.matmul(moved, ops.cast(kernel, output.dtype)) + ops.cast(offset, output.dtype)
        return ops.moveaxis(moved, -1, axis)

    return projected_call
