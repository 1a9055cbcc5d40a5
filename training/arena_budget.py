"""Narrowing to the arena of a device: the network that is left has to fit when it is exported."""

from collections.abc import Callable, Mapping

import keras

from models.cost import model_cost
from models.narrowing.narrow import Narrowed
from training.export.offline_plan import OVERLAP
from training.export.untrained import ArenaSizes, arena_sizes
from training.settings import Config

MARGIN = 0.98  # of the bytes that are left for tensors: a plan may leave gaps
ATTEMPTS = 4
PEAKS = {True: "peak_overlapped_bytes", False: "peak_activation_bytes"}


def peak_of(config: Config) -> str:
    """Returns the cost that decides the arena of the file that a configuration exports."""
    return PEAKS[config.export.arena_plan == OVERLAP]


def with_arena_limit(config: Config, model: keras.Model) -> Config:
    """Returns a configuration in which the arena is a limit of the peak, as narrowing knows it.

    Args:
        config: The configuration; its narrow.arena is the most bytes.
        model: The network to narrow.

    Raises:
        ValueError: No file is exported, the arena cannot be told, the runtime alone takes more,
            or nothing has to be cut.
    """
    narrow, peak = config.narrow, peak_of(config)
    assert narrow.arena is not None
    if config.export.format is None:
        raise ValueError("narrow.arena (--arena) is that of the INT8 file: it needs --export int8")
    sizes = _sizes(model)
    arena, rest = sizes.of(config.export.arena_plan), sizes.rest
    if narrow.arena <= rest:
        raise ValueError(
            f"Expected narrow.arena (--arena) of more than {rest:,} bytes, which the runtime takes "
            f"beside the tensors. Received: {narrow.arena:,}"
        )
    limits = dict(narrow.budget)
    if arena > narrow.arena:
        share = MARGIN * (narrow.arena - rest) / (arena - rest)
        reached = int(share * getattr(model_cost(model), peak))
        limits[peak] = min(limits.get(peak, reached), reached)
    elif not limits:
        raise ValueError(
            f"Nothing to narrow: '{model.name}' fits already, with an arena of {arena:,} bytes"
        )
    return config.model_copy(update={"narrow": narrow.with_budget(limits)})


def fitted(
    config: Config, cut: Callable[[Mapping[str, int]], Narrowed]
) -> tuple[Narrowed, dict[str, int]]:
    """Cuts a network until it fits the arena.

    Args:
        config: The configuration, as `with_arena_limit` returns it.
        cut: Narrows the network to a budget.

    Returns:
        The narrowed network, and bytes of its arena: the "limit", and "after" the cut.

    Raises:
        ValueError: It does not fit.
    """
    limit, peak, plan = config.narrow.arena, peak_of(config), config.export.arena_plan
    assert limit is not None
    budget = dict(config.narrow.budget)
    for _ in range(ATTEMPTS):
        narrowed = cut(budget)
        sizes = _sizes(narrowed.model)
        if sizes.of(plan) <= limit:
            return narrowed, {"limit": limit, "after": sizes.of(plan)}
        share = MARGIN * (limit - sizes.rest) / (sizes.of(plan) - sizes.rest)
        budget[peak] = int(share * getattr(narrowed.cost, peak))
    raise ValueError(
        f"Expected an arena that the network can be cut to. After {ATTEMPTS} cuts it needs "
        f"{sizes.of(plan):,} bytes. Received: {limit:,}"
    )


def _sizes(model: keras.Model) -> ArenaSizes:
    try:
        return arena_sizes(model)
    except ValueError as error:
        raise ValueError(f"narrow.arena (--arena) cannot be told: {error}") from error
