"""Which tensors of a network are in memory at a time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod

from .operators import OperatorCall


@dataclass(frozen=True)
class AliveTensor:
    """A tensor that is alive at the peak.

    Attributes:
        made_by: Name of the layer, or of the input, that makes it.
        bytes: Its bytes in INT8.
    """

    made_by: str
    bytes: int


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


def alive(
    calls: Sequence[OperatorCall],
    inputs: Sequence[tuple[int, int]],
    makers: Mapping[int, str],
    outputs: Sequence[int],
) -> list[tuple[AliveTensor, ...]]:
    """Returns all tensors alive during each call."""
    tensors = {name: AliveTensor(makers[name], size) for name, size in inputs}
    for call in calls:
        for name, shape in zip(call.outputs, call.output_shapes, strict=True):
            size = elements((1, *shape), call.layer.name)
            tensors[name] = AliveTensor(call.layer.name, size)
    numbers = alive_tensors(calls, [name for name, _ in inputs], outputs)
    return [tuple(tensors[name] for name in names) for names in numbers]


def elements(shape: Sequence[int | None], name: str) -> int:
    """Returns the number of elements of a tensor for one image."""
    sides = shape[1:]
    if None in sides:
        raise ValueError(
            f"Expected a fixed size, which a device needs. Received: shape {tuple(shape)} at "
            f"'{name}'. Build the model with its input size."
        )
    return prod(side for side in sides if side is not None)
