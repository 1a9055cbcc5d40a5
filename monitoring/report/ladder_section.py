"""What a page shows of a trained network that was cut to a ladder of budgets."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..analysis.ladder import CutNetwork, Ladder
from ..analysis.tables import percent
from ..records.record import ProbeRecord
from .figures import Figure, Series, line_chart

MILLION = 1e6


class LadderRow(NamedTuple):
    """A row of the table of budgets.

    Attributes:
        name: The budget.
        network: The network at this budget, or as it is.
        lost: Points of the score that it has lost; None as it is.
        uniform: Score with all groups cut alike; None as it is.
    """

    name: str
    network: CutNetwork
    lost: float | None
    uniform: float | None


class LadderSection(NamedTuple):
    """A ladder, ready for the template.

    Attributes:
        score: Name of the score.
        weighted: Whether estimates are in units of the loss.
        images: How many images the network was measured on.
        notes: What is left out, and why.
        figure: The score over multiply-adds; None where nothing could be cut.
        rows: The networks, as it is first.
        probes: (probe, channels, channels in use or None, channels at each budget).
        layers: (layer, channels, channels at each budget), for every layer that loses some.
    """

    score: str
    weighted: bool
    images: int
    notes: Sequence[str]
    figure: Figure | None
    rows: Sequence[LadderRow]
    probes: Sequence[tuple[str, int, float | None, list[int]]]
    layers: Sequence[tuple[str, int, list[int]]]


def ladder_section(
    ladder: Ladder | None, records: Mapping[str, ProbeRecord]
) -> LadderSection | None:
    """Returns what a page shows of a ladder; None where none was measured.

    Args:
        ladder: The ladder.
        records: {probe: its last record}, for the channels in use.
    """
    if ladder is None:
        return None
    shown = (ladder.score, ladder.weighted, ladder.images, ladder.notes)
    if ladder.parent is None:
        return LadderSection(*shown, None, (), (), ())
    parent, cuts = ladder.parent, [rung.cut for rung in ladder.rungs]
    rows = [LadderRow("as it is", parent, None, None)]
    for rung in ladder.rungs:
        lost = 100 * (parent.score - rung.cut.score)
        rows.append(LadderRow(percent(rung.share), rung.cut, lost, rung.uniform.score))
    probes = [
        (
            probe,
            channels,
            records[probe].effective_rank if probe in records else None,
            [cut.probes[probe] for cut in cuts],
        )
        for probe, channels in parent.probes.items()
    ]
    layers = [
        (layer, channels, [cut.widths[layer] for cut in cuts])
        for layer, channels in parent.widths.items()
        if any(cut.widths[layer] < channels for cut in cuts)
    ]
    return LadderSection(*shown, ladder_figure(ladder), rows, probes, layers)


def ladder_figure(ladder: Ladder, others: Sequence[Series] = ()) -> Figure | None:
    """Draws the score over multiply-adds: by marginal loss, all groups alike, and as it is.

    Args:
        ladder: The ladder.
        others: Further networks, in millions of multiply-adds. Defaults to none.

    Returns:
        The figure; None where nothing could be cut.
    """
    if ladder.parent is None:
        return None
    cuts = [ladder.parent, *(rung.cut for rung in ladder.rungs)]
    alike = [ladder.parent, *(rung.uniform for rung in ladder.rungs)]
    series = [
        _series("cut where it costs least", cuts),
        _series("all groups cut alike", alike),
        _series("as it is", [ladder.parent]),
        *others,
    ]
    return line_chart(
        series,
        title=f"{ladder.score} over multiply-adds, before any training",
        x_label="multiply-adds per image, millions",
        y_label=ladder.score,
    )


def _series(name: str, networks: Sequence[CutNetwork]) -> Series:
    along = [network.macs / MILLION for network in networks]
    return Series(name, along, [network.score for network in networks], dots=True)
