"""Parameters, multiply-adds and peak memory of a model as functions of its groups' widths."""

from collections.abc import Sequence
from itertools import chain, count
from math import prod

import numpy as np

from ..alive import alive_over_inputs, alive_tensors
from ..cost import macs_per_weight
from ..operators import fuse
from ..quantization.fake_quant import added_parameters
from .graph import functional_graph
from .groups import Plan
from .trace import Numbers


class Costs:
    """The cost of one image for any widths of the groups, without building a network.

    Args:
        plan: The groups of a model with a fixed input size.

    Attributes:
        budgets: Names of what can be limited.
        peaks: Those of them that are the most that any operator needs.
    """

    budgets = ("parameters", "macs", "peak_activation_bytes", "peak_overlapped_bytes")
    peaks = ("peak_activation_bytes", "peak_overlapped_bytes")

    def __init__(self, plan: Plan):
        self._plan = plan
        self._group = np.full(len(plan.root), -1)
        for index, members in enumerate(plan.members):
            self._group[members] = index
        self._group = self._group[plan.root]
        axes = list(plan.trace.axes.values())
        self._axes = {key: index for index, key in enumerate(plan.trace.axes)}
        # Places along each axis: those of fixed channels, and for each channel of a group.
        self._places = [self._places_of(axis.numbers) for axis in axes] + [(1, self._none())]
        self._constant = np.array([constant for constant, _ in self._places], float)
        self._slopes = np.array([slopes for _, slopes in self._places])
        self._terms = {"parameters": self._parameter_terms(), "macs": self._mac_terms()}
        self._memory = self._memory_bytes()

    def cost(self, name: str, widths: np.ndarray) -> np.ndarray:
        """Returns one of the budgets.

        Args:
            name: Which.
            widths: Channels of each group, (..., groups).

        Returns:
            (...), for memory the most that any operator needs.
        """
        if name in self.peaks:
            peak: np.ndarray = self.memory(name, widths).max(-1)
            return peak
        lengths = self._constant + widths @ self._slopes.T  # (..., axes)
        factors, first, second = self._terms[name]
        total: np.ndarray = (lengths[..., first] * lengths[..., second]) @ factors
        return total

    def memory(self, name: str, widths: np.ndarray) -> np.ndarray:
        """Returns the bytes that each operator needs.

        Args:
            name: One of `peaks`.
            widths: Channels of each group, (..., groups).

        Returns:
            (..., needs); an operator whose output may lie over its inputs has two.
        """
        constant, slopes, starts = self._memory[name]
        needed: np.ndarray = np.minimum.reduceat(constant + widths @ slopes.T, starts, axis=-1)
        return needed

    def _none(self) -> np.ndarray:
        return np.zeros(len(self._plan.groups))

    def _places_of(self, numbers: Numbers) -> tuple[int, np.ndarray]:
        groups = self._group[numbers]
        # Each channel of a group is as often in the axis as any other of it.
        slopes = np.bincount(groups[groups >= 0], minlength=len(self._plan.groups))
        widths = np.array([group.channels for group in self._plan.groups])
        return int((groups < 0).sum()), slopes / widths

    def _term(self, variable: object, factor: float) -> tuple[float, int, int]:
        """Returns (factor, first axis, second axis) of a variable's size."""
        cut = [(axis, index) for (key, axis), index in self._axes.items() if key == id(variable)]
        shape = tuple(variable.shape)  # type: ignore[attr-defined]
        rest = prod(side for place, side in enumerate(shape) if place not in dict(cut))
        first, second = ([index for _, index in cut] + [len(self._axes)] * 2)[:2]
        return factor * rest, first, second

    def _parameter_terms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        unique = {id(weight): weight for weight in self._plan.model.weights}
        added = sum(added_parameters(layer) for layer in self._plan.model.layers)
        terms = [self._term(weight, 1.0) for weight in unique.values()]
        return _columns([*terms, (-float(added), len(self._axes), len(self._axes))])

    def _mac_terms(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        terms = [
            self._term(kernel, float(positions))
            for call in self._plan.calls
            for kernel, positions in macs_per_weight(call)
        ]
        return _columns(terms)

    def _memory_bytes(self) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Returns, for each peak, bytes at no channels, per channel, and where needs begin."""
        graph, tensors = functional_graph(self._plan.model), self._plan.trace.tensors
        numbers = count()
        inputs = [next(numbers) for _ in graph.inputs]
        calls, outputs = fuse(list(self._plan.calls), list(self._plan.outputs))
        sizes = {}
        for name, (shape, channels) in tensors.items():
            length = max(len(channels.numbers), 1)
            constant, slopes = self._places_of(channels.numbers)
            sizes[name] = prod(shape) // length * np.array([constant, *slopes])
        alive = alive_tensors(calls, inputs, outputs)
        plain = [[names] for names in alive]
        over_inputs = list(chain.from_iterable(alive_over_inputs(calls, alive, outputs)))
        tables = {}
        for peak, needs in zip(self.peaks, (plain, over_inputs), strict=True):
            starts = np.cumsum([0, *map(len, needs)])[:-1]
            table = np.array([sum(sizes[n] for n in names) for each in needs for names in each])
            tables[peak] = table[:, 0], table[:, 1:], starts
        return tables


def _columns(terms: Sequence[tuple[float, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    factors, first, second = zip(*terms, strict=True)
    return np.array(factors), np.array(first), np.array(second)
