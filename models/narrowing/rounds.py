"""Cutting in rounds: everything is measured, the cheapest channels go, readers are solved again."""

from collections.abc import Collection, Sequence
from copy import copy
from dataclasses import dataclass

import keras
import numpy as np

from ..cost import ModelCost, model_cost
from .compensation import compensate
from .cut import Cut, cut
from .elimination import Path, Quadratic, elimination_path, exchanged, loss_without
from .forms import ReaderForms
from .groups import Plan, plan_groups
from .moments import Moments
from .trace import Numbers
from .trials import try_groups

PATH = 0.25  # of a group's channels: the most that it may lose in one round
SMALL = 1e-4  # of the loss: groups that cost less cost the same


@dataclass(frozen=True, eq=False)
class Round:
    """What was measured of a network, to cut it once.

    Attributes:
        forms: Covariances and gradients of all readers.
        parts: For each group the quadratic forms of all that read it.
        paths: For each group the order in which its channels go; None where none can.
        scales: By what each group's estimates are multiplied to be the real loss, (groups,).
    """

    forms: ReaderForms
    parts: Sequence[Sequence[Quadratic]]
    paths: Sequence[Path | None]
    scales: np.ndarray


class Rounds:
    """The network while it is being cut, in rounds of measuring and cutting.

    Args:
        plan: The groups of the parent.
        moments: Measures it, and what becomes of it.
        multiple: Widths are multiples of it where they can be.
        keep: Indices of groups that stay as they are.

    Attributes:
        kept: For each group the indices of the parent's channels that are left.
        losses: What cutting each group has cost by the estimate, (groups,).
        count: Rounds so far.
    """

    def __init__(self, plan: Plan, moments: Moments, multiple: int = 1, keep: Collection[int] = ()):
        self._parent, self._moments, self._multiple = plan, moments, multiple
        self._free = np.array([g in plan.free and g not in keep for g in range(len(plan.groups))])
        self._has_loss = True  # until a trial shows that there is none
        self.kept: list[Numbers] = [np.arange(group.channels) for group in plan.groups]
        self._plan = _own_plan(cut(plan, self.kept))
        self.losses = np.zeros(len(plan.groups))
        self.count = 0

    @property
    def widths(self) -> np.ndarray:
        """Channels left in each group, (groups,)."""
        return np.array([len(kept) for kept in self.kept])

    def cost(self) -> ModelCost:
        """Returns what the network costs now."""
        return model_cost(self._plan.model)

    @property
    def most(self) -> np.ndarray:
        """Returns how many channels each group may lose in one round, (groups,)."""
        share = np.maximum(self._multiple, PATH * self.widths).astype(int)
        most: np.ndarray = np.minimum(share, self.widths - 1)
        return np.where(self._free, most, 0)

    def measure(self, most: np.ndarray | None = None) -> "Round":
        """Measures everything, and orders each group's channels by what they cost.

        Args:
            most: How many channels each group may lose, (groups,). Defaults to None: as many as
                widths may change by in one round, and what that really costs is measured.
        """
        goes = self.most if most is None else np.where(self._free, most, 0)
        forms = ReaderForms(self._plan, self._moments)
        parts = forms.parts()
        paths: list[Path | None] = []
        for part, group, channels in zip(parts, self._plan.groups, goes, strict=True):
            count = int(channels)
            paths.append(elimination_path(part, group.channels, count) if count else None)
        scales = np.ones(len(paths)) if most is not None else self._scales(forms, paths)
        for index, path in enumerate(paths):
            if path is not None:
                paths[index] = Path(path.order, path.losses * scales[index])
        return Round(forms, parts, paths, scales)

    def _scales(self, forms: ReaderForms, paths: Sequence[Path | None]) -> np.ndarray:
        """Returns real losses over estimated ones, of all that may go in this round, (groups,).

        The estimate takes errors at neighbouring positions for unrelated, and the loss for
        quadratic. Which channels of a group can go first it tells well, but groups differ in how
        far it is off.
        """
        dropped = [None if path is None else path.order for path in paths]
        trials = None
        if self._has_loss:
            trials = try_groups(self._plan, forms, dropped, self._moments)
        if trials is None:
            self._has_loss = False
            return np.ones(len(paths))
        real = np.maximum(trials.losses - trials.whole, SMALL * abs(trials.whole))
        estimates = np.array([1.0 if path is None else path.losses[-1] for path in paths])
        scales: np.ndarray = real / np.maximum(estimates, 1e-30)
        return scales

    def cut(self, measured: "Round", widths: np.ndarray) -> None:
        """Cuts each group to a width.

        Args:
            measured: What `measure` has returned.
            widths: Channels to keep in each group, (groups,).

        Raises:
            ValueError: They are the widths that there are.
        """
        if (widths == self.widths).all():
            raise ValueError(
                "Expected a budget that can be met. Received: one for which no group has a channel "
                "left that saves anything"
            )
        local = []
        for index, (path, parts) in enumerate(zip(measured.paths, measured.parts, strict=True)):
            channels = self._plan.groups[index].channels
            kept = np.arange(channels)
            if path is not None and widths[index] < channels:
                kept = np.delete(kept, path.order[: channels - widths[index]])
                kept = exchanged(parts, kept, channels)
                loss = loss_without(parts, np.setdiff1d(np.arange(channels), kept))
                self.losses[index] += loss * measured.scales[index]
            local.append(kept)
        self.kept = [before[kept] for before, kept in zip(self.kept, local, strict=True)]
        narrower = cut(self._plan, local)
        measured.forms.resolve(narrower)
        self._plan = _own_plan(narrower)
        self.count += 1

    def branch(self) -> "Rounds":
        """Returns rounds that go on from here on their own."""
        other = copy(self)
        other.losses = self.losses.copy()
        return other

    def result(self) -> Cut:
        """Cuts the parent to the channels that were kept, and re-solves its readers."""
        final = cut(self._parent, self.kept)
        compensate(self._parent, final, self._moments)
        return final


def _own_plan(copy: Cut) -> Plan:
    """Returns the groups of a network that is nobody else's, and may be written to."""
    # On other backends than JAX, compiling takes longer than all that is run.
    copy.model.jit_compile = keras.backend.backend() == "jax"
    return plan_groups(copy.model)
