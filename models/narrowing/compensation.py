"""Re-solves the layers of a cut network so that they put out what the parent's did.

From the first layer to the last: each reader gets W' = W_K + (S_nn + λI)⁻¹ S_nd, where S_nn is the
covariance of what it reads in the cut network, and d what its output lacks of the parent's on the
same images, so that errors do not add up on the way. With large λ nothing changes, and where
nothing was lost d is 0.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from ..operators import TRANSPOSED
from .cut import Cut
from .groups import Plan
from .kernels import assign_matrix, kernel_matrix
from .moments import Joint, Moments, joined
from .trace import Reader

RIDGES = (1e-8, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # of the mean variance
WIDE = 1024  # rows: above it one fold is held out instead of each in turn
LARGEST_RATIO = 4.0  # of variances, by which moving variances are corrected


@dataclass(frozen=True)
class Correction:
    """How one block of a reader changes.

    Attributes:
        kernel: Added to its rows, (rows, outputs).
        bias: What its outputs lack on average after that, (outputs,).
        ratio: Variance of its outputs over that of the parent's, (outputs,).
    """

    kernel: np.ndarray
    bias: np.ndarray
    ratio: np.ndarray


def compensate(plan: Plan, cut: Cut, moments: Moments) -> None:
    """Re-solves every layer that reads what a cut has changed, from the first to the last.

    Args:
        plan: The groups of the parent.
        cut: The cut network, with the parent's weights; it is changed.
        moments: Measures both on the same images.
    """
    norms = norms_behind(plan)
    for layer in affected_layers(plan, cut.keep):
        if id(layer) in plan.trace.readers:
            _solve(plan, cut, moments, plan.trace.readers[id(layer)], norms.get(id(layer)))


def _readers(plan: Plan) -> Sequence[Reader]:
    return list(plan.trace.readers.values())


def affected_layers(plan: Plan, keep: np.ndarray) -> list[keras.layers.Layer]:
    """Returns the layers whose input a cut changes or whose rows it takes, in running order."""
    changed: set[int] = set()
    affected: dict[int, keras.layers.Layer] = {}
    for call in plan.calls:
        reader = plan.trace.readers.get(id(call.layer))
        loses = reader is not None and not keep[reader.numbers].all()
        if loses or changed.intersection(call.inputs):
            changed.update(call.outputs)
            affected.setdefault(id(call.layer), call.layer)
    return list(affected.values())


def norms_behind(plan: Plan) -> dict[int, keras.layers.BatchNormalization]:
    """Returns {id of a reader: the batch normalisation that alone takes its output}."""
    users: dict[int, list[Any]] = {}
    runs: dict[int, int] = {}
    for call in plan.calls:
        runs[id(call.layer)] = runs.get(id(call.layer), 0) + 1
        for name in call.inputs:
            users.setdefault(name, []).append(call.layer)
    norms = {}
    for reader in _readers(plan):
        layers = users.get(reader.result, [])
        single = len(layers) == 1 and reader.result not in plan.outputs
        if not single or type(layers[0]) is not keras.layers.BatchNormalization:
            continue
        linear = getattr(reader.layer, "activation", None) in (None, keras.activations.linear)
        axis = plan.trace.tensors[reader.result][1].axis
        rank = len(plan.trace.tensors[reader.result][0])
        same_axis = layers[0].axis in (axis + 1, axis - rank)
        if linear and same_axis and runs[id(reader.layer)] == runs[id(layers[0])] == 1:
            norms[id(reader.layer)] = layers[0]
    return norms


def _solve(
    plan: Plan,
    cut: Cut,
    moments: Moments,
    reader: Reader,
    norm: keras.layers.BatchNormalization | None,
) -> None:
    narrow = cut.layers[id(reader.layer)]
    outputs = np.flatnonzero(cut.keep[reader.outputs])
    states = moments.differences(plan.model, cut.model, [(reader.layer, narrow, outputs)])[0]
    matrix = kernel_matrix(narrow)
    narrow_norm = None if norm is None else cut.layers[id(norm)]
    centred = can_correct_means(narrow, narrow_norm)
    best = [
        best_correction(states, block, matrix[block], centred=centred)
        for block in range(len(matrix))
    ]
    if not any(best):
        return
    corrections = [correction or _none(matrix[0].shape) for correction in best]
    assign_matrix(narrow, matrix + np.stack([c.kernel for c in corrections]))
    bias = np.concatenate([correction.bias for correction in corrections])
    ratio = np.concatenate([correction.ratio for correction in corrections])
    apply_statistics(narrow, narrow_norm, bias, ratio)


def can_correct_means(
    layer: keras.layers.Layer, norm: keras.layers.BatchNormalization | None
) -> bool:
    """Returns whether a constant in a reader's input costs nothing, because a bias can replace it.

    Not without a bias or a batch normalisation behind it; nor in a transposed convolution, where
    each tap needs a bias of its own.
    """
    return not isinstance(layer, TRANSPOSED) and (norm is not None or layer.use_bias)


def _none(shape: tuple[int, ...]) -> Correction:
    return Correction(np.zeros(shape), np.zeros(shape[1]), np.ones(shape[1]))


def apply_statistics(
    layer: keras.layers.Layer,
    norm: keras.layers.BatchNormalization | None,
    bias: np.ndarray,
    ratio: np.ndarray,
) -> None:
    """Adds what outputs lack to the bias, or takes it from the moving mean behind the layer.

    Args:
        layer: A reader.
        norm: The batch normalisation that alone takes its output; None if there is none.
        bias: What the columns of its matrix lack on average, block by block, (columns,).
        ratio: By what to multiply their moving variances, (columns,).
    """
    if isinstance(layer, TRANSPOSED):
        # Columns are taps and outputs; a position gets as many taps as strides leave over.
        bias = bias.reshape(-1, layer.filters).sum(0) / np.prod(layer.strides)
        ratio = ratio.reshape(-1, layer.filters).mean(0)
    if getattr(layer, "use_bias", False):
        layer.bias.assign(layer.bias.numpy() + bias)
    elif norm is not None:
        norm.moving_mean.assign(norm.moving_mean.numpy() - bias)
    if norm is not None:
        norm.moving_variance.assign(norm.moving_variance.numpy() * ratio)


def best_correction(
    states: Any, block: int, kernel: np.ndarray, *, centred: bool
) -> Correction | None:
    """Returns the correction whose ridge does best on images that it was not fitted to.

    Args:
        states: Joint moments by folds; see `Moments.differences`.
        block: Which block.
        kernel: The narrow layer's, (rows, outputs).
        centred: See `can_correct_means`.

    Returns:
        The correction; None where nothing is lost.
    """
    folds, rows = range(len(states.count)), len(kernel)
    everything = joined(states, list(folds), block)
    if not everything.scatter[rows:, rows:].any() and not everything.mean[rows:].any():
        return None
    held_out = list(folds)[: 1 if rows > WIDE else None] if len(folds) > 1 else []
    errors = np.zeros(len(RIDGES) + 1)
    for fold in held_out:
        seen = joined(states, [f for f in folds if f != fold], block)
        unseen = joined(states, [fold], block)
        fits = [*(_ridge(seen, rows, ridge, centred) for ridge in RIDGES), None]
        errors += [_error(fit, seen, unseen, rows, centred) for fit in fits]
    best = int(np.argmin(errors)) if held_out else RIDGES.index(1e-3)
    added = np.zeros_like(kernel, float)
    if best < len(RIDGES):
        added = _ridge(everything, rows, RIDGES[best], centred)
    lacking = everything.mean[rows:] - added.T @ everything.mean[:rows]
    ratio = _output_ratio(everything.covariance, kernel, added)
    return Correction(added, lacking, ratio)


def _moments(joint: Joint, centred: bool) -> np.ndarray:
    """Returns the covariance, or the second moment where no bias can correct a mean."""
    covariance = joint.covariance
    return covariance if centred else covariance + np.outer(joint.mean, joint.mean)


def _ridge(joint: Joint, rows: int, ridge: float, centred: bool) -> np.ndarray:
    second = _moments(joint, centred)
    own = second[:rows, :rows]
    strength = ridge * max(np.trace(own) / rows, 1e-30)
    solved: np.ndarray = np.linalg.solve(own + strength * np.eye(rows), second[:rows, rows:])
    return solved


def _error(added: np.ndarray | None, seen: Joint, unseen: Joint, rows: int, centred: bool) -> float:
    """Returns the squared error on unseen images, summed over outputs."""
    second = _moments(unseen, False)
    lacking = np.diagonal(second)[rows:].copy()
    mean = unseen.mean[rows:].copy()
    shift = seen.mean[rows:].copy()
    if added is not None:
        cross = second[:rows, rows:]
        lacking += (added * (second[:rows, :rows] @ added - 2 * cross)).sum(0)
        mean -= added.T @ unseen.mean[:rows]
        shift -= added.T @ seen.mean[:rows]
    if centred:
        lacking += shift**2 - 2 * shift * mean
    return float(lacking.sum())


def _output_ratio(covariance: np.ndarray, kernel: np.ndarray, added: np.ndarray) -> np.ndarray:
    """Returns the variance of the corrected outputs over that of the parent's, (outputs,)."""
    rows = len(kernel)
    own, cross = covariance[:rows, :rows], covariance[:rows, rows:]
    solved = kernel + added
    narrow = (solved * (own @ solved)).sum(0)
    parent = (kernel * (own @ kernel + 2 * cross)).sum(0) + np.diagonal(covariance)[rows:]
    return variance_ratio(narrow, parent)


def variance_ratio(narrow: np.ndarray, parent: np.ndarray) -> np.ndarray:
    """Returns by what to multiply moving variances; 1 where a channel does not vary."""
    usable = (parent > 1e-12) & (narrow > 1e-12)
    ratio = np.where(usable, narrow / np.where(usable, parent, 1.0), 1.0)
    return np.clip(ratio, 1 / LARGEST_RATIO, LARGEST_RATIO)
