"""Advice, budgets, savings and ladders as text."""

from collections.abc import Mapping, Sequence

from .advice import Cost, WidthAdvice
from .budget import Candidate
from .ladder import CutNetwork, Ladder


def short(probe: str) -> str:
    """Returns a probe's name without its prefix.

    Example:
        >>> short("probe_encoder_1")
        'encoder_1'
    """
    return probe.removeprefix("probe_")


def advice_table(advice: Sequence[WidthAdvice]) -> str:
    """Returns advice as text, one line per layer."""
    lines = []
    room = max([12, *(len(short(width.probe)) for width in advice)])
    for width in advice:
        change = "keep" if width.keep else f"-> {width.suggested}"
        lines.append(
            f"{short(width.probe):{room}} {width.channels:4} channels  {change:7}  {width.reason}"
        )
    return "\n".join(lines)


def ladder_table(ladder: Ladder, in_use: Mapping[str, float]) -> str:
    """Returns a ladder as text: a line per budget, then the channels that are left at each probe.

    Args:
        ladder: The ladder.
        in_use: {probe: channels in use}, of the network as it is.
    """
    notes = [f"note: {note}" for note in ladder.notes]
    if ladder.parent is None:
        return "\n".join(["", *notes])
    score = ladder.score
    lines = [
        "",
        f"Cut to a share of its multiply-adds, before any training ({score} on images that were "
        "not measured):",
        f"{'':8} {'multiply-adds':>13}  {'parameters':>10}  {'peak bytes':>10}  {score:>9}  "
        f"{'lost':>6}  {'all alike':>9}  {'estimate':>9}",
        _cost_columns("as it is", ladder.parent) + f"  {ladder.parent.score:9.4f}",
    ]
    for rung in ladder.rungs:
        cut, lost = rung.cut, 100 * (ladder.parent.score - rung.cut.score)
        lines.append(
            f"{_cost_columns(percent(rung.share), cut)}  {cut.score:9.4f}  {lost:6.2f}  "
            f"{rung.uniform.score:9.4f}  {cut.loss:9.2g}"
        )
    by = "loss that the cut adds" if ladder.weighted else "share of the layers' variance lost"
    lines.append(
        f"(lost: points of {score}; all alike: every group of channels cut to the same share, at "
        f"the same multiply-adds; estimate: {by})"
    )
    return "\n".join([*lines, *notes, *_channel_lines(ladder, in_use)])


def _cost_columns(name: str, network: CutNetwork) -> str:
    return (
        f"{name:8} {network.macs:13,}  {network.parameters:10,}  "
        f"{network.peak_activation_bytes:10,}"
    )


def _channel_lines(ladder: Ladder, in_use: Mapping[str, float]) -> list[str]:
    """Returns the channels at each probe: now, in use, and at each budget."""
    assert ladder.parent is not None
    room = max([12, *(len(short(probe)) for probe in ladder.parent.probes)])
    shares = "".join(f"{percent(rung.share):>8}" for rung in ladder.rungs)
    lines = ["", f"{'channels':{room}} {'now':>6}  {'in use':>6}{shares}"]
    for probe, channels in ladder.parent.probes.items():
        left = "".join(f"{rung.cut.probes[probe]:8}" for rung in ladder.rungs)
        used = f"{in_use[probe]:6.1f}" if probe in in_use else f"{'':6}"
        lines.append(f"{short(probe):{room}} {channels:6}  {used}{left}")
    return lines


def percent(share: float) -> str:
    """Returns a fraction in percent.

    Example:
        >>> percent(0.125)
        '12.5 %'
    """
    return f"{100 * share:.3g} %"


def candidates_table(candidates: Sequence[Candidate]) -> str:
    """Returns the widths considered under a budget as text, one line each."""
    lines = ["", "Considered under the budget, the chosen one last:"]
    for candidate in candidates:
        widths = ", ".join(map(str, candidate.widths.values()))
        cost = candidate.cost
        lines.append(
            f"  {widths:20} {cost.parameters:9,} parameters {cost.macs:13,} multiply-adds  "
            f"{candidate.over or 'fits'}"
        )
    return "\n".join(lines)


def savings_table(now: Cost, advised: Cost) -> str:
    """Returns what the advised widths save as text, one line per cost."""
    names = ("parameters", "multiply-adds", "peak activation bytes, INT8")
    lines = [
        f"{name:28} {before:13,} -> {after:13,}  ({change(before, after)})"
        for name, before, after in zip(names, now, advised, strict=True)
    ]
    return "\n".join(["", *lines])


def change(before: int, after: int) -> str:
    """Returns a change in percent.

    Example:
        >>> change(200, 150), change(0, 3)
        ('-25%', 'from 0')
    """
    return f"{after / before - 1:+.0%}" if before else "from 0"
