"""Numbers every channel of a model and ties together those that must be cut together."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import keras
import numpy as np

Numbers = np.ndarray  # of channels, integers


class Channels(NamedTuple):
    """Where the channels of a tensor are, and which ones.

    Attributes:
        axis: Axis of the channels, counted without the batch.
        numbers: Number of the channel at each place along the axis. One channel may be at several
            places.
    """

    axis: int
    numbers: Numbers


@dataclass(eq=False)
class CutAxis:
    """An axis of a variable that has one entry for each place of some channels."""

    layer: keras.layers.Layer
    variable: keras.Variable
    axis: int
    numbers: Numbers


@dataclass(eq=False)
class Resize:
    """A value of a layer's configuration that follows channels.

    Attributes:
        key: Name of the value: a number of channels, a list with one entry for each of them, or
            a shape.
        numbers: The channels.
        entry: Index in the shape. Defaults to None: the value is no shape.
    """

    key: str
    numbers: Numbers
    entry: int | None = None


@dataclass(eq=False)
class Reader:
    """A layer that mixes channels by a kernel.

    Attributes:
        layer: The layer.
        numbers: Channel of each row of the kernel seen as (blocks, rows, outputs), (blocks, rows).
        outputs: Channels that it makes, in their order.
        result: Number of the tensor that its first call makes.
    """

    layer: keras.layers.Layer
    numbers: Numbers
    outputs: Numbers
    result: int


@dataclass
class Trace:
    """What is known of a model's channels after walking its graph."""

    parents: list[int] = field(default_factory=list)
    reasons: dict[int, str] = field(default_factory=dict)  # why a channel must stay
    axes: dict[tuple[int, int], CutAxis] = field(default_factory=dict)  # by variable and axis
    resizes: dict[int, tuple[keras.layers.Layer, list[Resize]]] = field(default_factory=dict)
    made: dict[int, Numbers] = field(default_factory=dict)  # by a layer's id
    makers: list[tuple[keras.layers.Layer, Numbers]] = field(default_factory=list)
    readers: dict[int, Reader] = field(default_factory=dict)  # by a layer's id
    tensors: dict[int, tuple[tuple[int, ...], Channels]] = field(default_factory=dict)
    entries: dict[int, Channels] = field(default_factory=dict)  # by the id of a nested input

    def fresh(self, count: int | None) -> Numbers:
        """Returns numbers for new channels; none where the size of the axis is unknown."""
        first = len(self.parents)
        self.parents.extend(range(first, first + (count or 0)))
        return np.arange(first, len(self.parents))

    def root(self, number: int) -> int:
        """Returns the number that stands for a channel and all that are tied to it."""
        while self.parents[number] != number:
            self.parents[number] = self.parents[self.parents[number]]
            number = self.parents[number]
        return number

    def roots(self, numbers: Numbers) -> Numbers:
        """Returns the number that stands for each channel."""
        flat = [self.root(int(number)) for number in numbers.ravel()]
        return np.array(flat, int).reshape(numbers.shape)

    def tie(self, first: Numbers, second: Numbers) -> None:
        """Ties channels one by one: each pair is kept or cut together."""
        if len(first) != len(second):
            raise ValueError(f"Expected as many channels. Received: {len(first)}, {len(second)}")
        for a, b in zip(first, second, strict=True):
            low, high = sorted((self.root(int(a)), self.root(int(b))))
            self.parents[high] = low

    def fix(self, numbers: Numbers, reason: str) -> None:
        """Says that channels must stay, and why; the first reason counts."""
        for number in numbers.ravel():
            self.reasons.setdefault(int(number), reason)

    def make(self, layer: keras.layers.Layer, count: int) -> Numbers:
        """Returns the channels that a layer makes, the same ones in every call."""
        if id(layer) not in self.made:
            self.made[id(layer)] = self.fresh(count)
            self.makers.append((layer, self.made[id(layer)]))
        return self.made[id(layer)]

    def cut(self, layer: keras.layers.Layer, name: str, axis: int, numbers: Numbers) -> None:
        """Says that an axis of a variable follows channels; a second call ties its channels."""
        variable = getattr(layer, name)
        key = id(variable), axis % len(variable.shape)
        if key in self.axes:
            self.tie(self.axes[key].numbers, numbers)
        else:
            self.axes[key] = CutAxis(layer, variable, key[1], numbers)

    def resize(self, layer: keras.layers.Layer, *resizes: Resize) -> None:
        """Says which values of a layer's configuration follow channels."""
        self.resizes.setdefault(id(layer), (layer, list(resizes)))

    def read(
        self, layer: keras.layers.Layer, numbers: Numbers, outputs: Numbers, result: int
    ) -> None:
        """Says that a layer mixes channels, given as (blocks, rows)."""
        self.readers.setdefault(id(layer), Reader(layer, numbers, outputs, result))

    def expect(
        self, channels: Channels, axis: int, shape: Sequence[Any], reason: str
    ) -> tuple[bool, Numbers]:
        """Returns whether channels lie where a layer looks for them, and those that it finds."""
        axis %= max(len(shape), 1)
        if channels.axis == axis:
            return True, channels.numbers
        self.fix(channels.numbers, reason)
        others = self.fresh(shape[axis] if shape else 0)
        self.fix(others, reason)
        return False, others
