"""Which channels of a model belong together, who makes and reads them, and which must stay."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from ..operators import OperatorCall
from .graph import layer_paths, trace_channels
from .trace import Numbers, Trace


@dataclass(frozen=True)
class ChannelReader:
    """A layer that mixes the channels of a group.

    Attributes:
        layer: Path of the layer.
        offsets: Where runs of the group's channels begin among its input channels.
    """

    layer: str
    offsets: tuple[int, ...]


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that are made, carried along and read by the same layers.

    Attributes:
        name: Path of the first layer that makes them, with "#2" and so on where a layer makes
            several groups.
        channels: How many there are. A channel that several layers make together, as before an
            addition, counts once.
        makers: Paths of the layers whose kernels make them.
        readers: The layers that mix them into new channels.
        followers: Paths of the layers that work channel by channel and lose weights with them.
        fixed: Why they must stay; "" if they can be cut.
    """

    name: str
    channels: int
    makers: tuple[str, ...]
    readers: tuple[ChannelReader, ...]
    followers: tuple[str, ...]
    fixed: str = ""


@dataclass(frozen=True, eq=False)
class Plan:
    """A model's groups, and everything that cutting them touches.

    Attributes:
        model: The model.
        groups: The groups, from input to output.
        members: The channel numbers that stand for each group's channels, in order.
        trace: What is known of the channels.
        calls: The calls of the graph.
        outputs: Numbers of the tensors that the model returns.
        root: For every channel number the number that stands for it, (numbers,).
    """

    model: keras.Model
    groups: tuple[ChannelGroup, ...]
    members: tuple[Numbers, ...]
    trace: Trace
    calls: Sequence[OperatorCall]
    outputs: Sequence[int]
    root: Numbers

    @property
    def free(self) -> list[int]:
        """Indices of the groups that can be cut."""
        return [index for index, group in enumerate(self.groups) if not group.fixed]


def channel_groups(model: keras.Model) -> tuple[ChannelGroup, ...]:
    """Finds which channels of a model belong together.

    A layer that makes channels, such as a convolution, opens a group. Layers that work channel by
    channel carry it along; an addition ties groups together; a concatenation lines them up;
    convolutions and dense layers read them. What is not understood is never guessed at: channels
    that reach such a layer, or an output of the model, stay as they are.

    Args:
        model: A functional or sequential Keras model; nested ones are walked into.

    Returns:
        The groups, from input to output; `fixed` says why one cannot be cut.

    Raises:
        ValueError: The model has no graph to read, like a subclassed one.

    Example:
        >>> from models import Nano_U
        >>> groups = channel_groups(Nano_U())
        >>> groups[0].name, groups[0].channels, groups[0].followers[:2]
        ('encoder_1_1_pointwise', 4, ('encoder_1_1_pointwise_norm', 'encoder_1_2_depthwise'))
        >>> [reader.layer for reader in groups[0].readers], groups[-1].fixed
        (['encoder_1_2_pointwise'], 'an output of the model')
    """
    return plan_groups(model).groups


def plan_groups(model: keras.Model) -> Plan:
    """Returns the groups of a model with all that cutting them touches.

    Raises:
        ValueError: The model has no graph to read.
    """
    trace, calls, outputs = trace_channels(model)
    root = trace.roots(np.arange(len(trace.parents)))
    paths = layer_paths(model)
    fixed: dict[int, str] = {}
    for number, reason in trace.reasons.items():
        fixed.setdefault(int(root[number]), reason)
    uses = _uses(trace, root)
    by_use: dict[tuple[object, ...], list[int]] = defaultdict(list)
    for number in sorted({int(n) for _, made in trace.makers for n in root[made]}):
        by_use[(*sorted(uses[number].items()), fixed.get(number, ""))].append(number)
    names: set[str] = set()
    groups, members = [], []
    for numbers in by_use.values():
        array = np.array(numbers)
        group = _describe(trace, root, array, paths, fixed.get(numbers[0], ""))
        groups.append(_renamed(group, names))
        members.append(array)
    return Plan(model, tuple(groups), tuple(members), trace, calls, outputs, root)


def _uses(trace: Trace, root: Numbers) -> dict[int, dict[int, int]]:
    """Returns {number: {index of a variable's axis: places there}}."""
    uses: dict[int, dict[int, int]] = defaultdict(dict)
    for index, axis in enumerate(trace.axes.values()):
        for number, places in zip(*np.unique(root[axis.numbers], return_counts=True), strict=True):
            uses[int(number)][index] = int(places)
    return uses


def _describe(
    trace: Trace, root: Numbers, numbers: Numbers, paths: dict[int, str], fixed: str
) -> ChannelGroup:
    makers = [
        paths[id(layer)] for layer, made in trace.makers if np.isin(numbers, root[made]).any()
    ]
    readers = [
        ChannelReader(paths[id(reader.layer)], offsets)
        for reader in trace.readers.values()
        if (offsets := tuple(_runs(np.isin(_one_tap(reader.numbers[0], root), numbers))))
    ]
    mixing = {*makers, *(reader.layer for reader in readers)}
    cut = [
        paths[id(axis.layer)]
        for axis in trace.axes.values()
        if np.isin(numbers, root[axis.numbers]).any()
    ]
    followers = tuple(path for path in dict.fromkeys(cut) if path not in mixing)
    if not fixed and len(numbers) == 1:
        fixed = "its only channel"
    return ChannelGroup(makers[0], len(numbers), tuple(makers), tuple(readers), followers, fixed)


def _one_tap(rows: Numbers, root: Numbers) -> Numbers:
    """Returns the rows of one tap of a kernel: rows repeat the input channels for each tap."""
    rows = root[rows]
    for length in range(1, len(rows) // 2 + 1):
        if len(rows) % length == 0 and (rows.reshape(-1, length) == rows[:length]).all():
            return rows[:length]
    return rows


def _runs(inside: np.ndarray) -> Iterator[int]:
    """Yields where runs of True begin."""
    before = np.concatenate([[False], inside[:-1]])
    yield from map(int, np.flatnonzero(inside & ~before))


def _renamed(group: ChannelGroup, names: set[str]) -> ChannelGroup:
    """Returns the group under a name that no other has."""
    name, number = group.name, 1
    while name in names:
        number += 1
        name = f"{group.name}#{number}"
    names.add(name)
    return ChannelGroup(name, *list(vars(group).values())[1:])
