"""A trained network becomes a smaller one that keeps what it has learnt."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import keras
import numpy as np

from ..cost import ModelCost, model_cost
from .graph import functional_graph
from .groups import Plan, plan_groups
from .moments import Moments
from .rounds import Round, Rounds
from .widths import Allocation, Budget, check_budget

ROUND = 0.15  # of each cost: the most that is cut before everything is measured anew


@dataclass(frozen=True)
class GroupCut:
    """What became of one group of channels.

    Attributes:
        name: Name of the group.
        before: Its channels in the parent.
        after: Its channels in the narrowed network.
        kept: Indices of the channels that stay, in the parent's order.
        loss: What leaving the others out costs by the estimate, as a share of the readers'
            variance; where there are targets and a loss, in units of the loss. With a budget, it
            is corrected by what was measured on the way.
        fixed: Why it could not be cut; "" if it could.
    """

    name: str
    before: int
    after: int
    kept: tuple[int, ...]
    loss: float
    fixed: str


@dataclass(frozen=True, eq=False)
class Narrowed:
    """A narrowed network and how it came about.

    Attributes:
        model: The network: plain Keras layers with the parent's names, not compiled unless the
            parent was.
        widths: {layer: channels that it makes}, for every layer that makes channels.
        cost: What it costs.
        groups: What became of each group of channels.
        weighted: Whether channels were chosen by their effect on the loss; otherwise by their
            effect on the layers that read them, all layers alike.
        rounds: How often everything was measured.
    """

    model: keras.Model
    widths: Mapping[str, int]
    cost: ModelCost
    groups: tuple[GroupCut, ...]
    weighted: bool
    rounds: int


def narrow(
    model: keras.Model,
    moments: Moments,
    budget: Budget | None = None,
    *,
    widths: Mapping[str, int] | None = None,
    keep: Sequence[str] = (),
    multiple: int = 1,
    progress: Callable[[ModelCost], None] | None = None,
) -> Narrowed:
    """Cuts channels out of a trained network and re-solves the layers that read them.

    Channels go where they cost least for what they save, and everything is measured anew after
    every few per cent. Which channels of a group go first is estimated; what they cost is the
    loss of the network without them, if the moments have one. The layers that read what was cut
    are then solved again, from the first to the last, for the parent's own outputs, and the
    statistics of batch normalisation are corrected. Nothing is trained.

    Args:
        model: A functional or sequential Keras model with a fixed input size; it is not changed.
        moments: Measures inputs of layers, such as `monitoring.InputMoments(images, targets,
            loss)`.
        budget: {"parameters", "macs", "peak_activation_bytes" or "peak_overlapped_bytes": the
            most that is allowed}, several together; as `models.cost.model_cost` counts them.
            Defaults to None: `widths` say what to keep.
        widths: {name of a group or of a layer that makes it: channels to keep}. Defaults to None.
        keep: Layers whose channels stay as they are. Defaults to ().
        multiple: Widths are multiples of it in groups that had as many channels. Defaults to 1.
        progress: Called with what the network costs after each round of cutting. Defaults to
            None.

    Returns:
        The narrowed network, its widths and costs, and what each group lost by the estimate.

    Raises:
        TypeError: The moments are something else, such as images.
        ValueError: The model has no graph or nothing to cut, a name is unknown, or the budget
            cannot be met.

    Example:
        >>> import numpy as np
        >>> from models import Nano_U, narrow
        >>> from monitoring import InputMoments
        >>> images = np.random.default_rng(0).normal(size=(8, 60, 80, 3))
        >>> small = narrow(Nano_U(), InputMoments(images), {"macs": 2_300_000})
        >>> small.cost.macs <= 2_300_000, small.model.output_shape
        (True, (None, 60, 80, 1))

    Reference:
        Hassibi, Stork 1992; Frantar, Alistarh 2022 (selection); He, Zhang, Sun 2017, Channel
        Pruning for Accelerating Very Deep Neural Networks, https://arxiv.org/abs/1707.06168
        (re-solved readers).
    """
    if not hasattr(moments, "covariances"):
        raise TypeError(
            "Expected moments that measure layers, such as monitoring.InputMoments(images). "
            f"Received: {type(moments).__name__}"
        )
    plan = checked_plan(model)
    stays = [_group_of(plan, name) for name in keep]
    allocation = Allocation(plan, stays, multiple)
    if (budget is None) == (widths is None):
        raise ValueError(
            "Expected either a budget or widths. Received: " + ("both" if budget else "neither")
        )
    target = allocation.widths.copy()
    limits = {} if budget is None else check_budget(budget)
    if widths is None:
        allocation.check_reachable(limits)
    else:
        for name, width in widths.items():
            index = _group_of(plan, name)
            target[index] = _checked_width(plan, index, width)
            if index in stays and target[index] != allocation.widths[index]:
                raise ValueError(
                    f"Expected '{name}' in either keep or widths. Received: keep={list(keep)} and "
                    f"a width of {width}"
                )
    rounds = Rounds(plan, moments, multiple, stays)
    if budget is None:
        cut_to_widths(rounds, target)
    while allocation.exceeds(limits, rounds.widths):
        measured = rounds.measure()
        partial = round_budget(allocation, limits, rounds.widths)
        rounds.cut(measured, allocation.narrower(rounds.widths, partial, measured.paths))
        if progress is not None:
            progress(rounds.cost())
    return described(plan, rounds, moments.weighted)


def checked_plan(model: keras.Model) -> Plan:
    """Returns the groups of a model that can be narrowed.

    Raises:
        ValueError: It has no graph, no fixed input size, or nothing that can be cut.
    """
    plan = plan_groups(model)
    shapes = [tuple(tensor.shape[1:]) for tensor in functional_graph(model).inputs]
    if any(None in shape for shape in shapes):
        raise ValueError(
            "Expected a model with a fixed input size, at which its costs are counted. Received: "
            f"'{model.name}' with inputs of shape {', '.join(map(str, shapes))}"
        )
    if not plan.free:
        reasons = "; ".join(sorted({g.fixed for g in plan.groups})) or "it makes no channels"
        raise ValueError(f"Model '{model.name}' has no channels that can be cut: {reasons}")
    return plan


def round_budget(
    allocation: Allocation, limits: Mapping[str, float], widths: np.ndarray
) -> dict[str, float]:
    """Returns what is to hold after the next round, from widths (groups,) on."""
    return {
        name: max(limit, (1 - ROUND) * float(allocation.costs.cost(name, widths)))
        for name, limit in limits.items()
    }


def cut_to_widths(rounds: Rounds, widths: np.ndarray, measured: Round | None = None) -> None:
    """Cuts to the given widths of all groups, in rounds.

    Args:
        rounds: The network.
        widths: Channels to keep in each group, (groups,).
        measured: What was measured of it, with paths of `half` of each group. Defaults to None:
            nothing yet.
    """
    while (rounds.widths > widths).any():
        measured = measured or rounds.measure(half(rounds.widths))
        rounds.cut(measured, np.maximum(widths, rounds.widths - half(rounds.widths)))
        measured = None


def half(widths: np.ndarray) -> np.ndarray:
    """Returns how many channels go at a time where widths are given, (groups,)."""
    most: np.ndarray = np.minimum(np.maximum(widths // 2, 1), widths - 1)
    return most


def described(plan: Plan, rounds: Rounds, weighted: bool) -> Narrowed:
    """Returns the narrowed network of rounds that have ended."""
    final = rounds.result()
    groups = tuple(
        GroupCut(g.name, g.channels, len(kept), tuple(map(int, kept)), float(loss), g.fixed)
        for g, kept, loss in zip(plan.groups, rounds.kept, rounds.losses, strict=True)
    )
    widths = {layer.name: int(final.keep[made].sum()) for layer, made in plan.trace.makers}
    cost = model_cost(final.model)
    return Narrowed(final.model, widths, cost, groups, weighted, rounds.count)


def _group_of(plan: Plan, name: str) -> int:
    """Returns the index of the group that a name stands for."""
    found = [
        index
        for index, group in enumerate(plan.groups)
        if name == group.name or name in group.makers
    ]
    if len(found) != 1:
        names = ", ".join(group.name for group in plan.groups if not group.fixed)
        raise ValueError(
            f"Model '{plan.model.name}' has {'several groups' if found else 'no group'} of "
            f"channels made by '{name}'. Groups that can be cut: {names}"
        )
    return found[0]


def _checked_width(plan: Plan, index: int, width: int) -> int:
    group = plan.groups[index]
    if isinstance(width, bool) or not isinstance(width, int) or not 1 <= width <= group.channels:
        raise ValueError(
            f"Expected a width of 1 to {group.channels} for '{group.name}'. Received: {width!r}"
        )
    if group.fixed and width != group.channels:
        raise ValueError(f"The channels of '{group.name}' must stay: {group.fixed}")
    return width
