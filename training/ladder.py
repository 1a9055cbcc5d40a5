"""A trained network cut to a ladder of budgets, and scored before any training."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import keras

from models.cost import ModelCost, model_cost
from models.narrowing import narrow_ladder
from models.narrowing.narrow import checked_plan
from models.narrowing.widths import Allocation
from monitoring import InputMoments
from monitoring.analysis.ladder import CutNetwork, Ladder, Rung
from monitoring.analysis.tables import percent


class Measured(NamedTuple):
    """What a network is cut and judged by.

    Attributes:
        moments: Measures it, on other images than `evaluate` uses.
        images: How many images that are.
        evaluate: Returns a network's score, higher is better.
        score: Name of the score.
        channels: Returns {probe: channels that pass it} of a network.
    """

    moments: InputMoments
    images: int
    evaluate: Callable[[keras.Model], float]
    score: str
    channels: Callable[[keras.Model], Mapping[str, int]]


def cut_ladder(
    model: keras.Model, measured: Measured, shares: Sequence[float], *, verbose: int = 0
) -> Ladder:
    """Cuts a network to a ladder of budgets, and scores what is left of it.

    Args:
        model: Any Keras model; it is not changed.
        measured: What it is cut and judged by.
        shares: The budgets, as fractions of its multiply-adds, the largest first.
        verbose: 0 is silent; otherwise each budget is a line on the console. Defaults to 0.

    Returns:
        The ladder; its notes say why the model, or a budget, is left out.
    """
    ladder = Ladder(measured.score, measured.images, measured.moments.weighted)
    try:
        plan = checked_plan(model)
    except ValueError as error:
        return replace(ladder, notes=(f"This model cannot be cut: {error}",))
    cost = model_cost(model)
    allocation = Allocation(plan, [], 1)
    least = float(allocation.costs.cost("macs", allocation.least()))
    reachable = [share for share in shares if int(share * cost.macs) >= least]
    notes = [
        f"{percent(share)} of the multiply-adds cannot be reached: with the fewest channels that "
        f"every layer can have, {percent(least / cost.macs)} are left"
        for share in shares
        if share not in reachable
    ]
    widths = {layer.name: len(made) for layer, made in plan.trace.makers}
    parent = _network(model, cost, 0.0, widths, measured)
    rungs = []
    for rung in _rungs(model, cost.macs, measured, reachable):
        rungs.append(rung)
        if verbose:
            print(
                f"  {percent(rung.share)}: {measured.score} {rung.cut.score:.4f}, "
                f"all groups alike {rung.uniform.score:.4f}",
                flush=True,
            )
    return replace(ladder, parent=parent, rungs=tuple(rungs), notes=tuple(notes))


def _rungs(
    model: keras.Model, macs: int, measured: Measured, shares: Sequence[float]
) -> Iterator[Rung]:
    if not shares:
        return
    budgets = [int(share * macs) for share in shares]
    ladder = narrow_ladder(model, measured.moments, budgets)
    for share, budget, cuts in zip(shares, budgets, ladder, strict=True):
        networks = (
            _network(cut.model, cut.cost, sum(g.loss for g in cut.groups), cut.widths, measured)
            for cut in cuts
        )
        yield Rung(share, budget, *networks)


def _network(
    model: keras.Model,
    cost: ModelCost,
    loss: float,
    widths: Mapping[str, int],
    measured: Measured,
) -> CutNetwork:
    return CutNetwork(
        macs=cost.macs,
        parameters=cost.parameters,
        peak_activation_bytes=cost.peak_activation_bytes,
        score=measured.evaluate(model),
        loss=loss,
        widths=dict(widths),
        probes=measured.channels(model),
    )
