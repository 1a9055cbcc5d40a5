"""One trained network narrowed to several budgets, by marginal loss and all groups alike."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from .costs import Costs
from .groups import Plan
from .moments import Moments
from .narrow import Narrowed, checked_plan, cut_to_widths, described, half, round_budget
from .rounds import Round, Rounds
from .widths import Allocation, check_budget


def narrow_ladder(
    model: keras.Model, moments: Moments, budgets: Sequence[float]
) -> Iterator[tuple[Narrowed, Narrowed]]:
    """Narrows a network to several budgets, and shares what is measured on the way.

    Args:
        model: As for `narrow`.
        moments: As for `narrow`.
        budgets: Most multiply-adds, one number per network.

    Yields:
        For each budget, the largest first, what `narrow` returns for it; and, for comparison,
        what `narrow` returns for widths that are the same share of each group, with the
        multiply-adds of the former as nearly as whole numbers of channels allow.

    Raises:
        ValueError: As for `narrow`.

    Example:
        >>> from models import Nano_U
        >>> from monitoring import InputMoments
        >>> model = Nano_U((12, 16, 3), filters=(4,), bottleneck=4)
        >>> images = np.random.default_rng(0).normal(size=(8, 12, 16, 3))
        >>> ladder = narrow_ladder(model, InputMoments(images), [42_000])
        >>> [small.cost.macs <= 42_000 for small, uniform in ladder]
        [True]
    """
    plan = checked_plan(model)
    allocation = Allocation(plan, [], 1)
    for limit in budgets:
        allocation.check_reachable(check_budget({"macs": limit}))
    start = Rounds(plan, moments)
    halves = start.measure(half(start.widths))
    rounds = start.branch()
    measured: Round | None = None
    for limit in sorted(budgets, reverse=True):
        final = {"macs": limit}
        # Rounds that do not reach a budget are the same for all smaller ones.
        while (budget := round_budget(allocation, final, rounds.widths)) != final:
            measured = measured or rounds.measure()
            rounds.cut(measured, allocation.narrower(rounds.widths, budget, measured.paths))
            measured = None
        if allocation.exceeds(final, rounds.widths):
            measured = measured or rounds.measure()
        branch, seen = rounds.branch(), measured
        while allocation.exceeds(final, branch.widths):
            seen = seen or branch.measure()
            branch.cut(seen, allocation.narrower(branch.widths, final, seen.paths))
            seen = None
        small, even = described(plan, branch, moments.weighted), start.branch()
        cut_to_widths(even, uniform_widths(plan, small.cost.macs), halves)
        yield small, described(plan, even, moments.weighted)


def uniform_widths(plan: Plan, macs: float) -> np.ndarray:
    """Returns the widths of the groups, one share of each, that come nearest to multiply-adds.

    Args:
        plan: The groups of the model.
        macs: Multiply-adds to come near to.

    Returns:
        (groups,); at least 1, and all channels of a group that cannot be cut.
    """
    costs, channels = Costs(plan), np.array([group.channels for group in plan.groups])
    is_free = np.array([not group.fixed for group in plan.groups])
    # A width changes where its share of the channels lies midway between two whole numbers.
    steps = [(np.arange(count) + 0.5) / count for count in channels[is_free]]
    best, distance = channels, np.inf
    for share in np.unique(np.concatenate([*steps, [1.0]])):
        kept = np.clip(np.floor(share * channels + 0.5 + 1e-9), 1, channels).astype(int)
        widths = np.where(is_free, kept, channels)
        away = abs(float(costs.cost("macs", widths)) - macs)
        if away < distance:
            best, distance = widths, away
    return best
