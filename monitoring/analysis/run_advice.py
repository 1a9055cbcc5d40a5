"""Advice on a run: widths, within a budget if there is one, and what cuts cost. No Keras."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from ..records.files import DamagedFileError
from ..records.reading import RunFolder
from ..records.run_files import ADVICE
from .advice import DEFAULT_RULE, Cost, WidthAdvice, advise_widths
from .advice_file import read_advice
from .budget import Candidate, fit_budget
from .ladder import Ladder
from .tables import advice_table, candidates_table, ladder_table, savings_table


class BuildableNetwork(Protocol):
    """A network that can be built at other widths, to count what it would cost."""

    @property
    def now(self) -> Mapping[str, int]:
        """{probe: channels}, of the probes whose width can be chosen."""

    def cost(self, widths: Mapping[str, int]) -> Cost:
        """Returns the cost of the network at {probe: width}; others keep their width."""

    def arguments(self, widths: Mapping[str, int]) -> Mapping[str, Any]:
        """Returns what its builder is called with at {probe: width}."""


@dataclass(frozen=True)
class Advice:
    """Advice on a run, and what it rests on. `str(advice)` is the text of all of it.

    Attributes:
        run: The run.
        rule: The rule that it follows.
        multiple: What widths were rounded up to.
        advice: A width for each probe, within the budget.
        ladder: What cutting the trained network costs; None where it was not measured.
        candidates: The widths considered under a budget, the chosen ones last.
        costs: Cost of the network as it is, and at the advised widths; None where no network
            was given.
        arguments: What builds the advised network.
    """

    run: RunFolder
    rule: str
    multiple: int
    advice: Sequence[WidthAdvice]
    ladder: Ladder | None = None
    candidates: Sequence[Candidate] = ()
    costs: tuple[Cost, Cost] | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)

    @property
    def widths(self) -> dict[str, int]:
        """{probe: advised width}."""
        return {width.probe: width.suggested for width in self.advice}

    @property
    def notes(self) -> tuple[str, ...]:
        """What is missing or was left out, one sentence each."""
        return self.run.notes

    def __str__(self) -> str:
        """Returns the advice as text tables."""
        parts = [advice_table(self.advice), *(f"note: {note}" for note in self.notes)]
        if self.candidates:
            parts.append(candidates_table(self.candidates))
        if self.costs is not None:
            parts.append(savings_table(*self.costs))
        else:
            parts.append("The network cannot be rebuilt: what these widths save is not known.")
        if self.ladder is not None:
            in_use = {probe: record.effective_rank for probe, record in self.run.last.items()}
            parts.append(ladder_table(self.ladder, in_use))
        return "\n".join(parts)


def advise_run(
    run: RunFolder,
    *,
    rule: str = DEFAULT_RULE,
    multiple: int = 4,
    budget: Mapping[str, int] | None = None,
    network: BuildableNetwork | None = None,
    ladder: Callable[[], Ladder] | None = None,
) -> Advice:
    """Advises on a run, and writes nothing.

    Args:
        run: As `read_run` returns it.
        rule: A key of `RULES`. Defaults to "effective_rank".
        multiple: Widths are rounded up to a multiple of this. Defaults to 4.
        budget: {field of `Cost`: its limit}. Defaults to None: no budget.
        network: Counts costs at other widths. Defaults to None: costs are unknown.
        ladder: Measures what cutting the trained network costs. Defaults to None: as the
            folder's advice.json says, if it was measured before.

    Raises:
        ValueError: An argument is impossible, or no network fits the budget.
    """
    cost = None if network is None else network.cost
    widths: Sequence[WidthAdvice]
    widths = advise_widths(run.records, multiple=multiple, rule=rule, cost=cost)
    candidates: Sequence[Candidate] = ()
    if budget:
        if network is None:
            raise ValueError(
                "A budget needs a network that can be built at other widths: a run of train.py "
                f"with a network of the zoo, or network=. Received: budget={dict(budget)}"
            )
        choosable = [width for width in widths if width.probe in network.now]
        candidates = fit_budget(choosable, budget, network.cost, multiple=multiple)
        chosen = candidates[-1].widths
        widths = [_at(width, chosen.get(width.probe, width.suggested), network) for width in widths]
    measured = ladder() if ladder is not None else _earlier_ladder(run.folder / ADVICE)
    advice = Advice(run, rule, multiple, widths, measured, candidates)
    if network is not None:
        advice = replace(
            advice,
            costs=(network.cost(network.now), network.cost(advice.widths)),
            arguments=network.arguments(advice.widths),
        )
    return advice


def default_advice(run: RunFolder) -> list[WidthAdvice]:
    """Advises on a run that has no advice.json."""
    return advise_widths(run.records)


def _earlier_ladder(path: Path) -> Ladder | None:
    """Returns the ladder that an earlier `advise` has measured; the network has not changed."""
    if not path.is_file():
        return None
    try:
        return read_advice(path).ladder
    except DamagedFileError:
        return None  # the file is about to be replaced


def _at(width: WidthAdvice, suggested: int, network: BuildableNetwork) -> WidthAdvice:
    """Returns advice at the width that the budget allows."""
    if suggested == width.suggested:
        return width
    return replace(
        width,
        suggested=suggested,
        reason=f"{width.suggested} without the budget: {width.reason}",
        **network.cost({width.probe: suggested})._asdict(),
    )
