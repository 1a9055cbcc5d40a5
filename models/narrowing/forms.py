"""What all readers of a network lose, and their kernels solved again from their own covariances."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from ..operators import TRANSPOSED
from .compensation import (
    apply_statistics,
    can_correct_means,
    norms_behind,
    variance_ratio,
)
from .cut import Cut
from .elimination import Quadratic, quadratic
from .groups import Plan
from .kernels import assign_matrix, kernel_matrix
from .moments import Moments
from .trace import Numbers, Reader

ELEMENTS = 2**26  # of covariances or kernels held at a time, half a gigabyte
RIDGE = 1e-6  # of the mean variance


def in_parts(sizes: Sequence[int]) -> list[list[int]]:
    """Returns the indices of things in their order, in parts that fit into memory.

    Args:
        sizes: Numbers that each thing holds.

    Example:
        >>> in_parts([2**25, 2**25, 2**27, 1])
        [[0, 1], [2], [3]]
    """
    parts: list[list[int]] = [[]]
    total = 0
    for index, size in enumerate(sizes):
        if total and total + size > ELEMENTS:
            parts.append([])
            total = 0
        parts[-1].append(index)
        total += size
    return parts


class ReaderForms:
    """Covariances and gradients of all readers of a network.

    Args:
        plan: The groups of the network.
        moments: Measures them.
    """

    def __init__(self, plan: Plan, moments: Moments):
        self._plan, self._moments = plan, moments
        self._readers = list(plan.trace.readers.values())
        self._norms = norms_behind(plan)
        layers = [reader.layer for reader in self._readers]
        self._gradients = moments.gradients(plan.model, layers)
        self._stored: list[tuple[np.ndarray, np.ndarray]] | None = None

    def covariances(self) -> Iterator[tuple[Reader, np.ndarray, np.ndarray]]:
        """Yields each reader with mean and covariance of its rows; few are held at a time."""
        sizes = [reader.numbers.shape[0] * reader.numbers.shape[1] ** 2 for reader in self._readers]
        chunks = [[self._readers[index] for index in part] for part in in_parts(sizes)]
        for chunk in chunks:
            moments = self._stored
            if moments is None:
                layers = [reader.layer for reader in chunk]
                moments = list(self._moments.covariances(self._plan.model, layers))
                self._stored = moments if len(chunks) == 1 else None
            for reader, (mean, covariance) in zip(chunk, moments, strict=True):
                yield reader, mean, covariance

    def _solvable(self, reader: Reader, mean: np.ndarray, covariance: np.ndarray) -> np.ndarray:
        """Returns the second moment instead where nothing can correct the mean of the outputs."""
        if can_correct_means(reader.layer, self._norms.get(id(reader.layer))):
            return covariance
        second: np.ndarray = covariance + mean[:, :, None] * mean[:, None, :]
        return second

    def parts(self) -> list[list[Quadratic]]:
        """Returns for each group the quadratic forms of all that read it."""
        parts: list[list[Quadratic]] = [[] for _ in self._plan.groups]
        lookup = np.full(len(self._plan.root), -1)
        places = np.zeros(len(self._plan.root), int)
        for index, members in enumerate(self._plan.members):
            lookup[members], places[members] = index, np.arange(len(members))
        gradients = dict(zip(map(id, self._readers), self._gradients or [], strict=False))
        for reader, mean, covariance in self.covariances():
            covariance = self._solvable(reader, mean, covariance)
            roots = self._plan.root[reader.numbers]
            matrix = kernel_matrix(reader.layer).astype(float)
            for block in range(len(roots)):
                weights = _gradient(reader, gradients.get(id(reader)), block, matrix, covariance)
                form = quadratic(covariance[block], matrix[block], weights)
                groups = lookup[roots[block]]
                for index in np.unique(groups[groups >= 0]):
                    rows = np.flatnonzero(groups == index)
                    order = np.argsort(places[roots[block][rows]], kind="stable")
                    width = len(self._plan.members[index])
                    parts[index].append(form.of_channels(rows[order].reshape(width, -1)))
        return parts

    def solutions(self, keep: Sequence[np.ndarray | None]) -> list[list["Solution"]]:
        """Solves the readers of the whole network again, without some channels each time.

        Args:
            keep: Of each try, whether each channel number is kept, (numbers,); None for none.

        Returns:
            For each try the layers that read what it leaves out; all outputs stay.
        """
        solutions: list[list[Solution]] = [[] for _ in keep]
        for reader, means, covariances in self.covariances():
            for solved, mask in zip(solutions, keep, strict=True):
                if mask is not None and not (rows := mask[reader.numbers]).all():
                    outputs = np.arange(len(reader.outputs))
                    solved.append(self._solution(reader, means, covariances, rows, outputs))
        return solutions

    def resolve(self, narrower: Cut) -> None:
        """Solves each reader of a cut network again, from the wide one's own covariances."""
        for reader, means, covariances in self.covariances():
            rows = narrower.keep[reader.numbers]
            if rows.all():
                continue
            outputs = np.flatnonzero(narrower.keep[reader.outputs])
            solution = self._solution(reader, means, covariances, rows, outputs)
            norm = None if solution.norm is None else narrower.layers[id(solution.norm)]
            layer = narrower.layers[id(reader.layer)]
            assign_matrix(layer, np.stack(solution.kernel))
            apply_statistics(layer, norm, solution.bias, solution.ratio)

    def _solution(
        self,
        reader: Reader,
        means: np.ndarray,
        covariances: np.ndarray,
        rows: np.ndarray,
        outputs: Numbers,
    ) -> "Solution":
        wide, second = kernel_matrix(reader.layer), self._solvable(reader, means, covariances)
        kernel, lacking, ratio = [], [], []
        for block, kept in enumerate(rows):
            target = _columns(reader.layer, wide, outputs, block)
            solved = _solved(second[block], target, kept)
            kernel.append(solved)
            lacking.append(means[block] @ target - means[block][kept] @ solved)
            before = (target * (covariances[block] @ target)).sum(0)
            after = (solved * (covariances[block][np.ix_(kept, kept)] @ solved)).sum(0)
            ratio.append(variance_ratio(after, before))
        norm = self._norms.get(id(reader.layer))
        bias, change = np.concatenate(lacking), np.concatenate(ratio)
        return Solution(reader.layer, norm, rows, kernel, bias, change)


@dataclass(frozen=True, eq=False)
class Solution:
    """A reader of the wide network, solved again without some of its rows.

    Attributes:
        layer: The reader.
        norm: The batch normalisation that alone takes its output, or None.
        rows: Whether each row of its kernel is kept, (blocks, rows).
        kernel: The rows that are kept, block by block, (rows, outputs).
        bias: What its outputs lack on average, (outputs,).
        ratio: Variance of its outputs over that of the parent's, (outputs,).
    """

    layer: keras.layers.Layer
    norm: keras.layers.BatchNormalization | None
    rows: np.ndarray
    kernel: Sequence[np.ndarray]
    bias: np.ndarray
    ratio: np.ndarray


def _columns(
    layer: keras.layers.Layer, matrix: np.ndarray, outputs: Numbers, block: int
) -> np.ndarray:
    """Returns the columns of one block that belong to some outputs of a layer."""
    columns = np.arange(matrix.shape[2])
    if isinstance(layer, TRANSPOSED):
        is_wanted = np.isin(columns % layer.filters, outputs)
    else:
        is_wanted = np.isin(columns + block * len(columns), outputs)
    return np.asarray(matrix[block][:, is_wanted], float)


def _solved(covariance: np.ndarray, kernel: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Returns the rows that come closest to what the whole kernel puts out."""
    own = covariance[np.ix_(rows, rows)]
    strength = RIDGE * max(np.trace(own) / max(rows.sum(), 1), 1e-30)
    gap = covariance[rows][:, ~rows] @ kernel[~rows]
    added: np.ndarray = np.linalg.solve(own + strength * np.eye(len(own)), gap)
    return np.asarray(kernel[rows] + added)


def _gradient(
    reader: Reader,
    gradients: np.ndarray | None,
    block: int,
    matrix: np.ndarray,
    covariance: np.ndarray,
) -> np.ndarray:
    """Returns the weights of one block's outputs: a matrix, or a number without gradients."""
    if gradients is None:
        total = sum(np.sum(m * (c @ m)) for m, c in zip(matrix, covariance, strict=True))
        return np.array(1 / max(total, 1e-30))
    if isinstance(reader.layer, TRANSPOSED):
        taps = matrix.shape[2] // len(gradients)
        return np.asarray(np.kron(np.eye(taps), gradients) / np.prod(reader.layer.strides))
    outputs = slice(block * matrix.shape[2], (block + 1) * matrix.shape[2])
    return np.asarray(gradients[outputs, outputs])
