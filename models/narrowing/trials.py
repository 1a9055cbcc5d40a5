"""What leaving out channels of one group really costs: the network is run without them."""

from collections.abc import Sequence
from dataclasses import dataclass

import keras
import numpy as np

from .compensation import apply_statistics
from .cut import cut, kept_numbers
from .forms import ReaderForms, Solution
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

    Nothing is cut: the rows that read them are zero in a copy of the network, which is the same.

    Args:
        plan: The groups of the network.
        forms: What its readers read.
        dropped: For each group the channels to leave out, or None.
        moments: Measures the loss.

    Returns:
        The losses; None if there is no loss.

    Raises:
        ValueError: The network's own loss is not finite.
    """
    everything = [np.arange(group.channels) for group in plan.groups]
    copy = cut(plan, everything)
    # On other backends than JAX, compiling takes longer than all the trials.
    copy.model.jit_compile = keras.backend.backend() == "jax"
    trials = sum(channels is not None for channels in dropped)
    images = min(MOST, max(FEWEST, TOGETHER // max(trials, 1)))
    whole = moments.mean_loss(copy.model, images)
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
    for index, solutions in enumerate(forms.solutions(keep)):
        if not solutions:
            continue
        layers = [
            copy.layers[id(layer)]
            for solution in solutions
            for layer in (solution.layer, solution.norm)
            if layer is not None
        ]
        before = [layer.get_weights() for layer in layers]
        for solution in solutions:
            norm = None if solution.norm is None else copy.layers[id(solution.norm)]
            _silence(copy.layers[id(solution.layer)], norm, solution)
        loss = moments.mean_loss(copy.model, images)
        losses[index] = BROKEN if loss is None or not np.isfinite(loss) else loss
        for layer, weights in zip(layers, before, strict=True):
            layer.set_weights(weights)
    return Trials(whole, losses)


def _silence(
    layer: keras.layers.Layer, norm: keras.layers.BatchNormalization | None, solution: Solution
) -> None:
    """Writes a solution into a layer that keeps all rows; those left out become zero."""
    matrix = np.zeros_like(kernel_matrix(layer))
    for block, (rows, kernel) in enumerate(zip(solution.rows, solution.kernel, strict=True)):
        matrix[block][rows] = kernel
    assign_matrix(layer, matrix)
    apply_statistics(layer, norm, solution.bias, solution.ratio)
