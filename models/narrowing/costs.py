"""Parameters, multiply-adds and peak memory of a model as functions of its groups' widths."""

from collections.abc import Sequence
from itertools import count
from math import prod

import numpy as np

from ..alive import alive_tensors
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
        budgets: Names of what can be limited: "parameters", "macs" and "peak_activation_bytes".
    """

    budgets = ("parameters", "macs", "peak_activation_bytes")

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
        self._alive = self._alive_bytes()

    def cost(self, name: str, widths: np.ndarray) -> np.ndarray:
        """Returns one of the budgets.

        Args:
            name: Which.
            widths: Channels of each group, (..., groups).

        Returns:
            (...), for "peak_activation_bytes" the largest over the operators.
        """
        if name == "peak_activation_bytes":
            peak: np.ndarray = self.alive(widths).max(-1)
            return peak
        lengths = self._constant + widths @ self._slopes.T  # (..., axes)
        factors, first, second = self._terms[name]
        total: np.ndarray = (lengths[..., first] * lengths[..., second]) @ factors
        return total

    def alive(self, widths: np.ndarray) -> np.ndarray:
        """Returns the bytes of all tensors alive during each operator, (..., operators)."""
        constant, slopes = self._alive
        alive: np.ndarray = constant + widths @ slopes.T
        return alive

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

    def _alive_bytes(self) -> tuple[np.ndarray, np.ndarray]:
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
        table = np.array([sum(sizes[name] for name in names) for names in alive])
        return table[:, 0], table[:, 1:]


def _columns(terms: Sequence[tuple[float, int, int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    factors, first, second = zip(*terms, strict=True)
    return np.array(factors), np.array(first), np.array(second)
