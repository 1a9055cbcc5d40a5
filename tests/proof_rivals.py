"""How the rivals of narrow_proof.py choose channels, and whether they re-solve the readers."""

from collections.abc import Callable
from typing import Any, Protocol

import keras
import numpy as np

from models import narrow
from models.narrowing.compensation import compensate
from models.narrowing.costs import Costs
from models.narrowing.cut import cut
from models.narrowing.groups import Plan


class Contest(Protocol):
    """One parent and one budget.

    Attributes:
        parent: The network to cut.
        plan: Its groups of channels.
        budget: Multiply-adds.
    """

    parent: keras.Model
    plan: Plan
    budget: int

    def moments(self, seed: int) -> Any:
        """Returns what the parent is measured with."""


def found(contest: Contest, seed: int) -> keras.Model:
    """Widths by marginal loss."""
    return narrow(contest.parent, contest.moments(seed), {"macs": contest.budget}).model


def uniform_widths(contest: Contest) -> np.ndarray:
    """Returns the same share of every group's channels, and what fits beyond, (groups,)."""
    costs, before = Costs(contest.plan), np.array([g.channels for g in contest.plan.groups])
    free = np.isin(np.arange(len(before)), contest.plan.free)

    def at(share: float) -> np.ndarray:
        return np.where(free, np.maximum(1, np.floor(share * before + 1e-9)), before).astype(int)

    def fits(widths: np.ndarray) -> bool:
        return float(costs.cost("macs", widths)) <= contest.budget

    widths = max((at(n / 1000) for n in range(1, 1001) if fits(at(n / 1000))), key=np.sum)
    while True:
        more = [w for w in widths + np.diag(free.astype(int)) if fits(w) and (w <= before).all()]
        more = [w for w in more if (w != widths).any()]
        if not more:
            return widths
        widths = min(more, key=lambda w: (widths / before)[w != widths][0])


def uniform(contest: Contest, seed: int) -> keras.Model:
    """Uniform widths, chosen and re-solved by the same method."""
    widths = dict(zip([g.name for g in contest.plan.groups], uniform_widths(contest), strict=True))
    chosen = {name: int(width) for name, width in widths.items()}
    return narrow(contest.parent, contest.moments(seed), widths=chosen).model


def simple(order: Callable, *, solved: bool, widths: Callable = uniform_widths) -> Callable:
    """Returns a rival that chooses channels simply, and re-solves their readers or does not."""

    def build(contest: Contest, seed: int) -> keras.Model:
        kept = [
            np.sort(order(contest, index, seed)[:width])
            for index, width in enumerate(widths(contest))
        ]
        result = cut(contest.plan, kept)
        if solved:
            compensate(contest.plan, result, contest.moments(seed))
        return result.model

    return build


def at_random(contest: Contest, group: int, seed: int) -> np.ndarray:
    """Returns a group's channels in random order."""
    return np.random.default_rng((seed, group)).permutation(contest.plan.groups[group].channels)


def by_norm(contest: Contest, group: int, seed: int) -> np.ndarray:
    """Returns a group's channels by the L1 norm of the kernels that make them, largest first."""
    norms = np.zeros(contest.plan.groups[group].channels)
    for name in contest.plan.groups[group].makers:
        kernel = contest.parent.get_layer(name).kernel.numpy()
        norms += np.abs(kernel).reshape(-1, kernel.shape[-1]).sum(0)
    return np.argsort(-norms, kind="stable")


CUTS: dict[str, Callable[[Contest, int], keras.Model]] = {
    "narrow": found,
    "narrow_uniform": uniform,
    "random": simple(at_random, solved=False),
    "random_solved": simple(at_random, solved=True),
    "norm": simple(by_norm, solved=False),
    "norm_solved": simple(by_norm, solved=True),
}
