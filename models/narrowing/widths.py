"""How many channels each group keeps, so that budgets hold at the least estimated loss."""

from collections.abc import Mapping, Sequence

import numpy as np

from .costs import Costs
from .elimination import Path
from .groups import Plan

Budget = Mapping[str, float]


def check_budget(budget: Budget) -> dict[str, float]:
    """Returns a budget as numbers.

    Raises:
        ValueError: It is empty, names something else than costs, or holds a number that is not
            positive.
    """
    unknown = set(budget) - set(Costs.budgets)
    if not budget or unknown:
        raise ValueError(
            f"Expected a budget of some of {', '.join(Costs.budgets)}. Received: {dict(budget)}"
        )
    for name, limit in budget.items():
        if isinstance(limit, bool) or not isinstance(limit, (int, float)) or not limit > 0:
            raise ValueError(f"Expected a positive number as budget. Received: {name}={limit!r}")
    return dict(budget)


class Allocation:
    """Takes channels from the groups where they cost least for what they save.

    Args:
        plan: The groups of the parent.
        keep: Indices of groups that stay as they are.
        multiple: Widths are multiples of it in groups that had as many channels.
    """

    def __init__(self, plan: Plan, keep: Sequence[int], multiple: int):
        self.costs = Costs(plan)
        self.widths = np.array([group.channels for group in plan.groups])
        self._free = np.array([g in set(plan.free) - set(keep) for g in range(len(self.widths))])
        self._multiple = np.where(self.widths >= multiple, multiple, 1)

    def least(self) -> np.ndarray:
        """Returns the smallest widths that are allowed, (groups,)."""
        return np.where(self._free, self._multiple, self.widths)

    def check_reachable(self, budget: Budget) -> None:
        """Checks that the smallest widths meet a budget.

        Raises:
            ValueError: They do not.
        """
        if not self._free.any():
            raise ValueError("Expected channels that can be cut. Received: keep, with all of them")
        for name, limit in budget.items():
            least = float(self.costs.cost(name, self.least()))
            now = float(self.costs.cost(name, self.widths))
            if np.isnan(now):
                raise ValueError(f"Expected a model with a fixed input size for a budget of {name}")
            if least > limit:
                raise ValueError(
                    f"Expected a budget of at least {name}={least:,.0f}, with the fewest channels "
                    f"that every layer can have; the model has {now:,.0f}. "
                    f"Received: {name}={limit:,.0f}"
                )

    def exceeds(self, budget: Budget, widths: np.ndarray) -> bool:
        """Returns whether any budget is exceeded."""
        return any(self.costs.cost(name, widths) > limit for name, limit in budget.items())

    def steps(self, widths: np.ndarray) -> np.ndarray:
        """Returns how many channels each group loses next, 0 where it must not, (groups,)."""
        beyond = widths % self._multiple
        steps = np.where(beyond > 0, beyond, self._multiple)
        return np.where(self._free & (widths - steps >= self._multiple), steps, 0)

    def narrower(
        self, widths: np.ndarray, budget: Budget, paths: Sequence[Path | None]
    ) -> np.ndarray:
        """Takes channels away until the budget holds or the paths end.

        Args:
            widths: Channels of each group now.
            budget: What is to hold.
            paths: For each group the order in which its channels go, from `widths` on.

        Returns:
            New widths, (groups,).
        """
        start, widths = widths, widths.copy()
        lengths = np.array([0 if path is None else len(path.order) for path in paths])
        while self.exceeds(budget, widths):
            steps = self.steps(widths)
            gone = start - widths
            open_groups = np.flatnonzero((steps > 0) & (gone + steps <= lengths))
            savings = self._savings(widths, steps, open_groups, budget)
            useful = open_groups[savings > 0]
            if not len(useful):
                break
            losses = np.array([_step_loss(paths[g], gone[g], steps[g]) for g in useful])
            best = useful[np.argmin(losses / savings[savings > 0])]
            widths[best] -= steps[best]
        return widths

    def _savings(
        self, widths: np.ndarray, steps: np.ndarray, groups: np.ndarray, budget: Budget
    ) -> np.ndarray:
        """Returns what each group's next step saves, as shares of what is too much, summed."""
        trials = np.repeat(widths[None], len(groups), 0)
        trials[np.arange(len(groups)), groups] -= steps[groups]
        total = np.zeros(len(groups))
        for name, limit in budget.items():
            if name in self.costs.peaks:
                # Several operators may be over it: what counts is by how much, all together.
                over = np.maximum(self.costs.memory(name, widths) - limit, 0).sum()
                after = np.maximum(self.costs.memory(name, trials) - limit, 0).sum(-1)
            else:
                over = max(float(self.costs.cost(name, widths)) - limit, 0.0)
                after = np.maximum(self.costs.cost(name, trials) - limit, 0)
            if over > 0:
                total += (over - after) / over
        return total


def _step_loss(path: Path | None, gone: int, step: int) -> float:
    if path is None:
        return 0.0
    return max(float(path.losses[gone + step] - path.losses[gone]), 1e-30)
