"""In which order the channels of a group can go, and what each costs.

The estimate is quadratic. A reader computes W' u; leaving out the channels D of u, with all other
rows re-solved, raises the loss by ½ tr(B_D' (A_DD)⁻¹ B_D), where A is the inverse of the covariance
of u and B = W G^½. This is the Optimal Brain Surgeon with the covariance of the inputs for the
Hessian.

Reference:
    Hassibi, Stork 1992, Second Order Derivatives for Network Pruning: Optimal Brain Surgeon;
    Frantar, Alistarh 2022, Optimal Brain Compression, https://arxiv.org/abs/2208.11580
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RIDGE = 1e-6  # of the mean variance: what the inverse of a covariance is held up by
ROUNDING = 3e-8  # of the sum of variances: what sums in float64 are certain to resolve
STEPS = 512  # channels of wider groups go several at a time
TOGETHER = 1.25  # times what they cost one by one: the most that channels may cost together
SWAPPED = 128  # channels: in wider groups no pairs are exchanged


@dataclass(frozen=True)
class Quadratic:
    """What a reader (one block of it) loses when channels of its input go.

    Attributes:
        inverse: Inverse of the covariance of its inputs, (rows, rows).
        weights: Kernel, re-solved and weighted by the gradients, (rows, outputs).
        size: Rows of one channel, which are next to each other.
    """

    inverse: np.ndarray
    weights: np.ndarray
    size: int = 1

    def of_channels(self, rows: np.ndarray) -> "Quadratic":
        """Returns the part for some channels while all other rows can be re-solved.

        Args:
            rows: Rows of each channel, (channels, rows of one).
        """
        flat = rows.ravel()
        inverse = self.inverse[np.ix_(flat, flat)]
        return Quadratic(inverse, self.weights[flat], rows.shape[1])

    def costs(self) -> np.ndarray:
        """Returns what leaving out each channel costs, (channels,)."""
        if self.size == 1:
            return np.asarray((self.weights**2).sum(1) / np.diagonal(self.inverse) / 2)
        count = len(self.inverse) // self.size
        blocks = self.inverse.reshape(count, self.size, count, self.size)
        blocks = np.moveaxis(np.diagonal(blocks, axis1=0, axis2=2), -1, 0)
        rows = self.weights.reshape(count, self.size, -1)
        return np.asarray((rows * np.linalg.solve(blocks, rows)).sum((1, 2)) / 2)

    def cost(self, places: np.ndarray) -> float:
        """Returns what leaving out several channels together costs."""
        rows = self._rows(places)
        solved = np.linalg.solve(self.inverse[np.ix_(rows, rows)], self.weights[rows])
        return float((self.weights[rows] * solved).sum()) / 2

    def without(self, places: np.ndarray) -> "Quadratic":
        """Returns the form that is left when channels have gone and the rest is re-solved."""
        rows = self._rows(places)
        rest = np.delete(np.arange(len(self.inverse)), rows)
        cross = self.inverse[np.ix_(rest, rows)]
        step = np.linalg.solve(self.inverse[np.ix_(rows, rows)], cross.T).T
        inverse = self.inverse[np.ix_(rest, rest)]
        inverse -= step @ cross.T
        return Quadratic(inverse, self.weights[rest] - step @ self.weights[rows], self.size)

    def _rows(self, places: np.ndarray) -> np.ndarray:
        rows = np.asarray(places, int)[:, None] * self.size + np.arange(self.size)
        return np.asarray(rows.ravel())


def quadratic(covariance: np.ndarray, kernel: np.ndarray, gradients: np.ndarray) -> Quadratic:
    """Returns the quadratic form of one block of a reader.

    Args:
        covariance: Of its inputs, (rows, rows).
        kernel: (rows, outputs).
        gradients: Second moment of the loss' gradient, (outputs, outputs), or a number for all
            outputs alike.
    """
    inverse = _inverse(covariance)
    solved = inverse @ (covariance @ kernel)
    return Quadratic(inverse, solved @ _square_root(gradients, kernel.shape[1]))


def _inverse(covariance: np.ndarray) -> np.ndarray:
    """Returns the inverse of a covariance, held up by a ridge; positive definite.

    A covariance from float32 sums may have negative eigenvalues; then the ridge grows.
    """
    rows, variance = len(covariance), max(float(np.trace(covariance)), 1e-30)
    ridge = variance * max(RIDGE / rows, ROUNDING)
    while True:
        try:
            root = np.linalg.cholesky(covariance + ridge * np.eye(rows))
        except np.linalg.LinAlgError:
            ridge *= 10
            continue
        if np.diagonal(root).min() ** 2 > ridge / 10:
            break
        ridge *= 10
    half = np.linalg.inv(root)
    return np.asarray(half.T @ half)


def _square_root(gradients: np.ndarray, outputs: int) -> np.ndarray:
    """Returns L with L L' = G, (outputs, outputs).

    Sums in float32 may leave small negative eigenvalues; they count as 0.
    """
    if np.ndim(gradients) == 0:
        return np.eye(outputs) * float(np.sqrt(gradients))
    floor = 1e-6 * max(np.trace(gradients), 1e-30)
    values, vectors = np.linalg.eigh((gradients + gradients.T) / 2)
    root: np.ndarray = vectors * np.sqrt(np.maximum(values, 0) + floor)
    return root


@dataclass(frozen=True)
class Path:
    """The order in which the channels of a group go.

    Attributes:
        order: Indices of the channels, the first to go first.
        losses: What leaving out the first 0, 1, 2, ... of them costs by the estimate.
    """

    order: np.ndarray
    losses: np.ndarray


def elimination_path(parts: Sequence[Quadratic], channels: int, count: int) -> Path:
    """Takes channels away one after the other, always the one that costs least.

    Args:
        parts: The quadratic form of each block of each reader.
        channels: Number of channels.
        count: How many are to go, less than `channels`.
    """
    left, order, losses = np.arange(channels), list[int](), [0.0]
    while len(order) < count:
        chunk = min(count - len(order), 1 + len(left) // STEPS)
        costs = sum((part.costs() for part in parts), np.zeros(len(left)))
        places = np.argsort(costs, kind="stable")[:chunk]
        together = sum(part.cost(places) for part in parts)
        if chunk > 1 and together > TOGETHER * costs[places].sum():
            places, together = places[:1], float(costs[places[0]])
        before = losses[-1]
        losses += [before + together * (n + 1) / len(places) for n in range(len(places))]
        order += left[places].tolist()
        parts = [part.without(places) for part in parts]
        left = np.delete(left, places)
    return Path(np.array(order, int), np.array(losses))


def exchanged(parts: Sequence[Quadratic], kept: np.ndarray, channels: int) -> np.ndarray:
    """Exchanges kept channels for dropped ones while that lowers the estimate.

    Args:
        parts: The quadratic form of each block of each reader.
        kept: Indices of the channels that are kept.
        channels: Number of channels.

    Returns:
        As many indices, sorted; the estimate is at most that of `kept`.
    """
    kept = np.sort(kept)
    for _ in range(len(kept) if channels <= SWAPPED else 0):
        better = _better_exchange(parts, kept, np.setdiff1d(np.arange(channels), kept))
        if better is None:
            break
        kept = better
    return kept


def _better_exchange(
    parts: Sequence[Quadratic], kept: np.ndarray, dropped: np.ndarray
) -> np.ndarray | None:
    """Returns the kept channels after an exchange that helps; None if none is found."""
    loss = loss_without(parts, dropped)
    back = [loss_without(parts, np.delete(dropped, index)) for index in range(len(dropped))]
    for index in np.argsort(back)[:4]:
        rest = np.delete(dropped, index)
        trial = np.append(kept, dropped[index])
        after = [part.without(rest) for part in parts] if len(rest) else parts
        costs = sum((part.costs() for part in after), np.zeros(len(trial)))
        trial = np.sort(trial)
        worst = int(np.argmin(costs))
        if back[index] + costs[worst] < loss * (1 - 1e-6):
            return np.delete(trial, worst)
    return None


def loss_without(parts: Sequence[Quadratic], dropped: np.ndarray) -> float:
    """Returns what leaving out channels together costs by the estimate."""
    return sum(part.cost(dropped) for part in parts) if len(dropped) else 0.0
