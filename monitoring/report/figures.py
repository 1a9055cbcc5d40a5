"""Figures of a report as inline SVG: lines with intervals, and spectra."""

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 66, 12, 12, 36
MOST_TICKS = 6
LARGEST = 1e300  # beyond which a value is not drawn, since the length of an axis would overflow
SMALLEST = 1e-290  # below which an axis has no length


class Figure(str):
    """Finished HTML, which templates do not escape."""

    def __html__(self) -> str:
        """Returns itself, as Jinja2 asks."""
        return self


@dataclass(frozen=True)
class Series:
    """A line, and the band of its interval.

    Attributes:
        name: Its name in the legend.
        x: (points,).
        y: (points,); nan leaves a gap.
        low: Lower ends of the band, (points,); empty: no band.
        high: Upper ends, (points,).
        dots: Whether each point is marked. A point without neighbours always is.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()
    dots: bool = False


def ticks(low: float, high: float) -> list[float]:
    """Returns at most six round numbers from `low` to `high`.

    Example:
        >>> ticks(0, 1), ticks(3, 58)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [10.0, 20.0, 30.0, 40.0, 50.0])
    """
    if not high > low:
        return [low]
    rough = (high - low) / MOST_TICKS
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    return [round(n * step, 10) for n in range(first, math.floor(high / step + 1e-9) + 1)]


def line_chart(series: Sequence[Series], *, title: str, x_label: str, y_label: str) -> Figure:
    """Draws lines with their intervals; nan and infinity leave gaps.

    Args:
        series: One or more.
        title: Text for screen readers.
        x_label: Label of the x axis, with its unit.
        y_label: Label of the y axis, with its unit.

    Returns:
        An <svg> and its legend.
    """
    drawn = [v for s in series for v in (*s.y, *s.low, *s.high) if _drawable(v)]
    along = [v for s in series for v in s.x if _drawable(v)]
    if not drawn or not along:
        return Figure('<p class="empty">Nothing to draw: no value is defined.</p>')
    x_axis, y_axis = Axis(along, LEFT, WIDTH - RIGHT), Axis(drawn, HEIGHT - BOTTOM, TOP)
    parts = [*frame(x_axis, y_axis, x_label, y_label)]
    for number, line in enumerate(series):
        kind = f"c{number % 8}"
        for points in _unbroken(line.x, line.low, line.high):
            low = [(x_axis(x), y_axis(bottom)) for x, bottom, _ in points]
            high = [(x_axis(x), y_axis(top)) for x, _, top in points]
            parts.append(f'<polygon class="band {kind}" points="{_points([*low, *high[::-1]])}"/>')
        for points in _unbroken(line.x, line.y):
            path = _points([(x_axis(x), y_axis(y)) for x, y in points])
            parts.append(f'<polyline class="line {kind}" points="{path}"/>')
            parts += [
                f'<circle class="dot {kind}" cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="3"/>'
                for x, y in (points if line.dots or len(points) == 1 else ())
            ]
    names = "".join(
        f'<li><span class="key c{number % 8}"></span>{html.escape(line.name)}</li>'
        for number, line in enumerate(series)
    )
    legend = f'<ul class="legend">{names}</ul>' if len(series) > 1 else ""
    return Figure(svg(parts, WIDTH, HEIGHT, title) + legend)


def spectrum(eigenvalues: np.ndarray, in_use: float, *, title: str) -> Figure:
    """Draws eigenvalues as bars, and marks how many channels are in use.

    Args:
        eigenvalues: Eigenvalues of the correlation, descending, (channels,).
        in_use: Effective rank; nan marks nothing.
        title: Text for screen readers.
    """
    values = [float(v) for v in eigenvalues]
    if not values:
        return Figure('<p class="empty">Nothing to draw: no channel is alive.</p>')
    x_axis = Axis([0.5, len(values) + 0.5], LEFT, WIDTH - RIGHT)
    y_axis = Axis([0, max(values)], HEIGHT - BOTTOM, TOP)
    parts = [*frame(x_axis, y_axis, "direction", "eigenvalue")]
    thick = max(0.5, 0.8 * (x_axis(2) - x_axis(1)))
    for number, value in enumerate(values, start=1):
        top, kind = y_axis(value), "used" if number <= in_use else "spare"
        parts.append(
            f'<rect class="{kind}" x="{x_axis(number) - thick / 2:.1f}" y="{top:.1f}" '
            f'width="{thick:.1f}" height="{max(0.0, y_axis(0) - top):.1f}"/>'
        )
    if math.isfinite(in_use):
        at = x_axis(in_use + 0.5)
        parts.append(
            f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{y_axis(0):.1f}"/>'
        )
        anchor = "end" if at > WIDTH / 2 else "start"
        side = -6 if at > WIDTH / 2 else 6
        parts.append(
            f'<text class="mark" x="{at + side:.1f}" y="{TOP + 12}" text-anchor="{anchor}">'
            f"{in_use:.1f} in use</text>"
        )
    return svg(parts, WIDTH, HEIGHT, title)


class Axis:
    """Maps values to pixels.

    Args:
        values: What has to fit in.
        start: Pixel of the least.
        end: Pixel of the largest.
    """

    def __init__(self, values: Sequence[float], start: float, end: float):
        self.low, self.high = min(values), max(values)
        if self.high - self.low < SMALLEST:
            room = abs(self.low) / 10
            room = room if room > SMALLEST else 1.0
            self.low, self.high = self.low - room, self.high + room
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        """Returns a value's pixel."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def frame(x_axis: Axis, y_axis: Axis, x_label: str, y_label: str) -> list[str]:
    """Returns grid, numbers and labels of two axes."""
    parts = []
    for value in ticks(y_axis.low, y_axis.high):
        at = y_axis(value)
        parts.append(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for value in ticks(x_axis.low, x_axis.high):
        at, below = x_axis(value), HEIGHT - BOTTOM + 15
        parts.append(f'<text x="{at:.1f}" y="{below}" text-anchor="middle">{value:g}</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
        f'<text transform="translate(14 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    return parts


def svg(
    parts: Sequence[str], width: int, height: int, title: str, *, fixed: bool = False
) -> Figure:
    """Returns an <svg> that scales with the page, or of a fixed size in pixels."""
    size = f' width="{width}" height="{height}"' if fixed else ""
    return Figure(
        f'<svg role="img" viewBox="0 0 {width} {height}"{size}><title>{html.escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _drawable(value: float) -> bool:
    return math.isfinite(value) and abs(value) < LARGEST


def _unbroken(*columns: Sequence[float]) -> list[list[tuple[float, ...]]]:
    """Returns the rows, split into runs in which every number can be drawn."""
    runs: list[list[tuple[float, ...]]] = [[]]
    for row in zip(*columns, strict=False):
        if all(map(_drawable, row)):
            runs[-1].append(row)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
