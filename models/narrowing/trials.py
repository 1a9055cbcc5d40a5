"""What leaving out channels of one group really costs: the network is run without them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from .compensation import apply_statistics
from .cut import kept_numbers
from .forms import ReaderForms, Solution, in_parts
from .groups import Plan
from .kernels import assign_matrix, kernel_matrix
from .moments import Moments
from .trace import Numbers

MOST, FEWEST = 64, 16  # images that a loss is measured on
TOGETHER = 1024  # images in all, if groups are not so many that each would get too few
BROKEN = 1e6  # the loss of a network whose outputs are no numbers


@dataclass(frozen=True, eq=False)
class Trials:
    """Losses of a network without some channels of single groups, their readers solved again.

    Attributes:
        whole: Mean loss of the network as it is.
        losses: Mean loss without the channels of each group, (groups,); that of the whole network
            where nothing was tried.
    """

    whole: float
    losses: np.ndarray


def try_groups(
    plan: Plan, forms: ReaderForms, dropped: Sequence[Numbers | None], moments: Moments
) -> Trials | None:
    """Leaves out channels of one group after the other.

    Nothing is cut: the rows that read them are zero for a while, which is the same.

    Args:
        plan: The groups of the network; its layers get their weights back.
        forms: What its readers read.
        dropped: For each group the channels to leave out, or None.
        moments: Measures the loss.

    Returns:
        The losses; None if there is no loss.

    Raises:
        ValueError: The network's own loss is not finite.
    """
    everything = [np.arange(group.channels) for group in plan.groups]
    trials = sum(channels is not None for channels in dropped)
    images = min(MOST, max(FEWEST, TOGETHER // max(trials, 1)))
    whole = moments.mean_loss(plan.model, images)
    if whole is None:
        return None
    if not np.isfinite(whole):
        raise ValueError(f"Expected a finite loss of '{plan.model.name}'. Received: {whole}")
    keep: list[np.ndarray | None] = []
    for index, channels in enumerate(dropped):
        if channels is None:
            keep.append(None)
            continue
        rest = np.setdiff1d(everything[index], channels)
        keep.append(kept_numbers(plan, [*everything[:index], rest, *everything[index + 1 :]]))
    losses = np.full(len(dropped), whole)
    for part in in_parts([_size(plan, mask) for mask in keep]):
        solutions = forms.solutions([keep[index] for index in part])
        for index, solved in zip(part, solutions, strict=True):
            if solved:
                with _silenced(solved):
                    loss = moments.mean_loss(plan.model, images)
                losses[index] = BROKEN if loss is None or not np.isfinite(loss) else loss
    return Trials(whole, losses)


def _size(plan: Plan, keep: np.ndarray | None) -> int:
    """Returns how many numbers the solutions of a trial hold, at most."""
    if keep is None:
        return 0
    return sum(
        reader.numbers[0].size * len(reader.outputs)
        for reader in plan.trace.readers.values()
        if not keep[reader.numbers].all()
    )


@contextmanager
def _silenced(solutions: Sequence[Solution]) -> Iterator[None]:
    """Writes solutions into their layers for a while; the rows that they leave out are zero."""
    layers = [
        layer
        for solution in solutions
        for layer in (solution.layer, solution.norm)
        if layer is not None
    ]
    before = [layer.get_weights() for layer in layers]
    try:
        for solution in solutions:
            matrix = np.zeros_like(kernel_matrix(solution.layer))
            for block, (rows, kernel) in enumerate(
                zip(solution.rows, solution.kernel, strict=True)
            ):
                matrix[block][rows] = kernel
            assign_matrix(solution.layer, matrix)
            apply_statistics(solution.layer, solution.norm, solution.bias, solution.ratio)
        yield
    finally:
        for layer, weights in zip(layers, before, strict=True):
            layer.set_weights(weights)
