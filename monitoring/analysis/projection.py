"""What a width would cost, before anybody retrains: activations held to k directions."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ..statistics.grouped import GroupedCovariance
from ..taps.watched import Watched

RANDOM_DRAWS = 3
LEVELS = ("half", "advised", "between")


class Projected(NamedTuple):
    """The trained model's score with activations held to k directions.

    Attributes:
        probe: The layer, or "all" for all of them together.
        level: "half" of what is advised, "advised", or "between" it and all channels.
        directions: k, or the sum over layers for "all".
        principal: Score with the leading k principal directions.
        random: Mean score with k random ones, over several draws.
        lost: Score without any projection, less `principal`.
    """

    probe: str
    level: str
    directions: int
    principal: float
    random: float
    lost: float


class Check(NamedTuple):
    """A projection check.

    Attributes:
        score: What the scores are, "mIoU" for one.
        whole: Without any projection.
        rows: A row for each layer and k; those with all layers together last.
    """

    score: str
    whole: float
    rows: Sequence[Projected]


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

    A layer's activations keep their mean and their part in the leading k directions of
    their covariance; as a control, in k random ones. A network that is narrowed to k
    channels and trained may do better than this, which changes no weight.

    Args:
        watched: The layers. Not two of which one lies in the other.
        measured: {layer name: its covariance}, of other images than `evaluate` sees.
        evaluate: Scores a model, higher is better; it calls `predict` on images.
        widths: {layer name: k advised}; half of k and the middle between k and all channels
            are tried as well.
        score: Name of what `evaluate` returns. Defaults to "mIoU".
        draws: Random draws for each k. Defaults to 3.
        seed: Decides them. Defaults to 0.

    Returns:
        The score without any projection, and a row for each layer and k, the rows with all
        layers together last: half, advised, between.

    Raises:
        ValueError: A width is not 1 to the layer's channels.

    Reference:
        Raghu et al. 2017, SVCCA, https://arxiv.org/abs/1706.05806, section 3: projection on
        leading directions as a test of how many a layer needs.
    """
    spectra = {name: _directions(grouped) for name, grouped in measured.items()}
    for name, width in widths.items():
        channels = len(spectra[name][0])
        if not 1 <= width <= channels:
            raise ValueError(f"Expected a width of 1 to {channels} for '{name}'. Received: {width}")
    model = _ProjectedModel(watched, {name: len(mean) for name, (mean, _) in spectra.items()})
    rng = np.random.default_rng(seed)

    def scored(directions: Mapping[str, np.ndarray]) -> float:
        model.hold({name: (spectra[name][0], kept) for name, kept in directions.items()})
        return evaluate(model)

    whole = scored({})
    rows = []
    tried = {name: _levels(width, len(spectra[name][0])) for name, width in widths.items()}
    groups: list[tuple[str, str, dict[str, int]]] = [
        (name, level, {name: k})
        for name, levels in tried.items()
        for level, k in levels.items()
        if level == "advised" or k != levels["advised"]
    ]
    groups += [
        ("all", level, {name: levels[level] for name, levels in tried.items()}) for level in LEVELS
    ]
    for probe, level, kept in groups:
        principal = scored({name: spectra[name][1][:, :k] for name, k in kept.items()})
        random = [
            scored({name: _random(rng, len(spectra[name][0]), k) for name, k in kept.items()})
            for _ in range(draws)
        ]
        rows.append(
            Projected(
                probe,
                level,
                sum(kept.values()),
                principal,
                float(np.mean(random)),
                whole - principal,
            )
        )
    return Check(score, whole, rows)


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
    """A model in inference mode, with affine maps behind its watched layers."""

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
        """Holds the layers named to mean (channels,) and directions (channels, k)."""
        for name, (kernel, offset) in self.maps.items():
            projection, shift = np.eye(kernel.shape[0]), np.zeros(kernel.shape[0])
            if name in directions:
                mean, kept = directions[name]
                projection = kept @ kept.T
                shift = mean - mean @ projection
            kernel.assign(projection)
            offset.assign(shift)

    def call(self, images):
        with ExitStack() as stack:
            for name, layer in self.watched.layers.items():
                if name in self.maps:
                    stack.enter_context(_mapped(layer, *self.maps[name], self.watched.channel_axis))
            return self.model(images, training=False)


@contextmanager
def _mapped(layer: keras.layers.Layer, kernel: Any, offset: Any, axis: int) -> Iterator[None]:
    """Maps what the layer returns, while a forward pass is traced."""
    given, call = vars(layer).get("call"), layer.call

    def mapped(*args, **kwargs):
        output = call(*args, **kwargs)
        moved = ops.moveaxis(output, axis, -1)
        moved = ops.matmul(moved, ops.cast(kernel, output.dtype)) + ops.cast(offset, output.dtype)
        return ops.moveaxis(moved, -1, axis)

    object.__setattr__(layer, "call", mapped)
    try:
        yield
    finally:
        if given is None:
            object.__delattr__(layer, "call")
        else:
            object.__setattr__(layer, "call", given)
