"""One trained network narrowed to several budgets, by marginal loss or all groups alike."""

from collections.abc import Iterator, Sequence

import keras
import numpy as np

from .costs import Costs
from .groups import Plan
from .moments import Moments
from .narrow import Narrowed, checked_plan, cut_to_widths, described, round_budget
from .rounds import Round, Rounds
from .widths import Allocation, check_budget


def narrow_ladder(
    model: keras.Model, moments: Moments, budgets: Sequence[float], *, cost: str = "macs"
) -> Iterator[Narrowed]:
    """Narrows a network to several budgets, and measures it no more often than for the smallest.

    Args:
        model: As for `narrow`.
        moments: As for `narrow`.
        budgets: The most that is allowed, one number per network.
        cost: What is limited: "parameters", "macs" or "peak_activation_bytes". Defaults to
            "macs".

    Yields:
        What `narrow` returns for each budget, the largest first.

    Raises:
        ValueError: As for `narrow`.

    Example:
        >>> from models import Nano_U
        >>> from monitoring import InputMoments
        >>> images = np.random.default_rng(0).normal(size=(8, 60, 80, 3))
        >>> ladder = narrow_ladder(Nano_U(), InputMoments(images), [2_200_000, 2_000_000])
        >>> [small.cost.macs <= 2_200_000 for small in ladder]
        [True, True]
    """
    plan = checked_plan(model)
    allocation = Allocation(plan, [], 1)
    for limit in budgets:
        allocation.check_reachable(check_budget({cost: limit}))
    rounds = Rounds(plan, moments)
    measured: Round | None = None
    for limit in sorted(budgets, reverse=True):
        final = {cost: limit}
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
        yield described(plan, branch, moments.weighted)


def narrow_uniformly(model: keras.Model, moments: Moments, macs: float) -> Narrowed:
    """Narrows a network so that every group keeps the same share of its channels.

    Which channels stay, and how their readers are solved again, is as for `narrow`.

    Args:
        model: As for `narrow`.
        moments: As for `narrow`.
        macs: Multiply-adds to come as near to as whole numbers of channels allow.

    Returns:
        As for `narrow`.

    Raises:
        ValueError: As for `narrow`.
    """
    plan = checked_plan(model)
    rounds = Rounds(plan, moments)
    cut_to_widths(rounds, uniform_widths(plan, macs))
    return described(plan, rounds, moments.weighted)


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
