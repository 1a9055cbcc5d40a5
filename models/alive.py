"""Which tensors of a network are in memory at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

from keras import layers as kl

from .operators import CONVOLUTIONS, OperatorCall

# Their kernels read for the last time what lies just ahead of what they write.
IN_PLACE = (
    *CONVOLUTIONS, kl.MaxPooling2D, kl.AveragePooling2D, kl.UpSampling2D, kl.Add, kl.Concatenate,
)  # fmt: skip


@dataclass(frozen=True)
class AliveTensor:
    """A tensor that is alive at the peak.

    Attributes:
        made_by: Name of the layer, or of the input, that makes it.
        bytes: Its bytes in INT8.
    """

    made_by: str
    bytes: int


class Memory(NamedTuple):
    """What is in memory during each call, in running order.

    Attributes:
        tensors: All tensors alive.
        overlapped: Bytes needed if outputs may lie over inputs.
    """

    tensors: Sequence[tuple[AliveTensor, ...]]
    overlapped: Sequence[int]


def alive_tensors(
    calls: Sequence[OperatorCall], inputs: Sequence[int], outputs: Sequence[int]
) -> list[list[int]]:
    """Returns the numbers of all tensors alive during each call.

    Args:
        calls: In running order.
        inputs: Numbers of the model's inputs.
        outputs: Numbers of its outputs, which live to the end.
    """
    born = dict.fromkeys(inputs, 0)
    last = {name: number for number, call in enumerate(calls) for name in call.inputs}
    last |= dict.fromkeys(outputs, len(calls))
    for number, call in enumerate(calls):
        born |= dict.fromkeys(call.outputs, number)
    return [
        [name for name in born if born[name] <= n <= last.get(name, born[name])]
        for n in range(len(calls))
    ]


def alive_over_inputs(
    calls: Sequence[OperatorCall], alive: Sequence[Sequence[int]], outputs: Sequence[int]
) -> list[list[list[list[int]]]]:
    """Returns which tensors need memory during each call if outputs may lie over inputs.

    An operator's output may take the place of an input that nothing reads later, so that the
    larger of the two counts, but for about a row of pixels that the kernel is ahead.

    Args:
        calls: In running order.
        alive: The numbers of all tensors alive during each call.
        outputs: Numbers of the model's outputs, which live to the end.

    Returns:
        For each call, alternatives: of each, the one with the fewest bytes is needed, and of all
        of these the most.
    """
    last = {name: number for number, call in enumerate(calls) for name in call.inputs}
    last |= dict.fromkeys(outputs, len(calls))
    needs = []
    for number, (call, names) in enumerate(zip(calls, alive, strict=True)):
        free = [n for n in call.inputs if last[n] == number and call.inputs.count(n) == 1]
        if free and isinstance(call.layer, IN_PLACE):
            unmade = [name for name in names if name not in call.outputs]
            needs.append([[unmade], [[n for n in names if n != place] for place in free]])
        else:
            needs.append([[list(names)]])
    return needs


def memory(
    calls: Sequence[OperatorCall],
    inputs: Sequence[tuple[int, int]],
    makers: Mapping[int, str],
    outputs: Sequence[int],
) -> Memory:
    """Returns what is in memory during each call."""
    tensors = {name: AliveTensor(makers[name], size) for name, size in inputs}
    for call in calls:
        for name, shape in zip(call.outputs, call.output_shapes, strict=True):
            size = elements((1, *shape), call.layer.name)
            tensors[name] = AliveTensor(call.layer.name, size)
    numbers = alive_tensors(calls, [name for name, _ in inputs], outputs)
    overlapped = [
        max(min(sum(tensors[n].bytes for n in names) for names in each) for each in alternatives)
        for alternatives in alive_over_inputs(calls, numbers, outputs)
    ]
    return Memory([tuple(tensors[name] for name in names) for names in numbers], overlapped)


def elements(shape: Sequence[int | None], name: str) -> int:
    """Returns the number of elements of a tensor for one image."""
    sides = shape[1:]
    if None in sides:
        raise ValueError(
            f"Expected a fixed size, which a device needs. Received: shape {tuple(shape)} at "
            f"'{name}'. Build the model with its input size."
        )
    return prod(side for side in sides if side is not None)
