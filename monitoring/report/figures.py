"""Figures of a report as inline SVG: lines with intervals, spectra, heat maps."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup, escape

WIDTH, HEIGHT = 640, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 12, 36
CELL = 12  # pixels of a heat map's channel
SMALL_CELL = 9  # where there are many: the least at which its number can be read
COLUMN = 560  # pixels of a heat map that shares the width of a screen with another figure
SIDE = 240  # of a heat map, at least
MOST_TICKS = 6


@dataclass(frozen=True)
class Series:
    """A line, and the band of its interval.

    Attributes:
        name: For the legend.
        x: (points,).
        y: (points,); nan leaves a gap.
        low: (points,), lower ends; empty: no band.
        high: (points,), upper ends.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


def ticks(low: float, high: float) -> list[float]:
    """Returns round numbers from `low` to `high`, six at most.

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


def line_chart(series: Sequence[Series], *, title: str, x_label: str, y_label: str) -> Markup:
    """Draws lines with their intervals; nan and infinity leave gaps.

    Args:
        series: One or more.
        title: What a screen reader says.
        x_label: With its unit.
        y_label: With its unit.

    Returns:
        An <svg> and its legend.
    """
    drawn = [v for s in series for v in (*s.y, *s.low, *s.high) if math.isfinite(v)]
    along = [v for s in series for v in s.x]
    if not drawn:
        return Markup('<p class="empty">Nothing to draw: no value is defined.</p>')
    x_axis, y_axis = _Axis(along, LEFT, WIDTH - RIGHT), _Axis(drawn, HEIGHT - BOTTOM, TOP)
    parts = [*_frame(x_axis, y_axis, x_label, y_label)]
    for number, one in enumerate(series):
        kind = f"c{number % 8}"
        for points in _unbroken(one.x, one.low, one.high):
            low = [(x_axis(x), y_axis(bottom)) for x, bottom, _ in points]
            high = [(x_axis(x), y_axis(top)) for x, _, top in points]
            parts.append(f'<polygon class="band {kind}" points="{_points([*low, *high[::-1]])}"/>')
        for points in _unbroken(one.x, one.y):
            path = _points([(x_axis(x), y_axis(y)) for x, y in points])
            parts.append(f'<polyline class="line {kind}" points="{path}"/>')
            if len(points) == 1:
                x, y = points[0]
                parts.append(
                    f'<circle class="dot {kind}" cx="{x_axis(x):.1f}" cy="{y_axis(y):.1f}" r="3"/>'
                )
    names = "".join(
        f'<li><span class="key c{n % 8}"></span>{escape(s.name)}</li>' for n, s in enumerate(series)
    )
    legend = f'<ul class="legend">{names}</ul>' if len(series) > 1 else ""
    return _svg(parts, WIDTH, HEIGHT, title) + Markup(legend)


def spectrum(eigenvalues: np.ndarray, in_use: float, *, title: str) -> Markup:
    """Draws eigenvalues as bars, and marks how many channels are in use.

    Args:
        eigenvalues: Of the correlation, descending, (channels,).
        in_use: Effective rank; nan marks nothing.
        title: What a screen reader says.
    """
    values = [float(v) for v in eigenvalues]
    if not values:
        return Markup('<p class="empty">Nothing to draw: no channel is alive.</p>')
    x_axis = _Axis([0.5, len(values) + 0.5], LEFT, WIDTH - RIGHT)
    y_axis = _Axis([0, max(values)], HEIGHT - BOTTOM, TOP)
    parts = [*_frame(x_axis, y_axis, "direction", "eigenvalue")]
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
    return _svg(parts, WIDTH, HEIGHT, title)


def heat_map(correlation: np.ndarray, *, title: str) -> Markup:
    """Draws a correlation, blue for -1, red for 1, similar channels side by side.

    Args:
        correlation: (channels, channels); rows of dead channels, all nan, are left out.
        title: What a screen reader says.
    """
    live = np.flatnonzero(np.isfinite(np.diag(correlation)))
    if not len(live):
        return Markup('<p class="empty">Nothing to draw: no channel is alive.</p>')
    order = live[clustered_order(correlation[np.ix_(live, live)])]
    picture = base64.b64encode(_png(correlation[np.ix_(order, order)])).decode()
    wide = CELL * len(order) > COLUMN
    cell = SMALL_CELL if wide else max(CELL, SIDE // len(order))
    margin, side = 28, cell * len(order)
    parts = [
        f'<image x="{margin}" y="{margin}" width="{side}" height="{side}" class="map" '
        f'preserveAspectRatio="none" href="data:image/png;base64,{picture}"/>'
    ]
    for place, channel in enumerate(order):
        middle = margin + cell * (place + 0.5)
        turned = f"translate({middle + 3:.1f} {margin - 4}) rotate(-90)"
        parts.append(
            f'<text class="channel" x="{margin - 4}" y="{middle + 3:.1f}" text-anchor="end">'
            f'{channel}</text><text class="channel" transform="{turned}">{channel}</text>'
        )
    size = margin + side + 4
    kind = "scroll wide" if wide else "scroll"
    return Markup('<div class="{}" tabindex="0">{}</div>').format(
        kind, _svg(parts, size, size, title, fixed=True)
    )


def clustered_order(correlation: np.ndarray) -> np.ndarray:
    """Returns an order in which channels that say the same stand side by side, (channels,).

    Average linkage on 1 - |correlation|, its branches laid out in the order they merge.

    Example:
        >>> clustered_order(np.array([[1, 0, 0.9], [0, 1, 0], [0.9, 0, 1]])).tolist()
        [0, 2, 1]
    """
    distance = 1 - np.abs(correlation)
    np.fill_diagonal(distance, np.inf)
    members = [[channel] for channel in range(len(distance))]
    for _ in range(len(distance) - 1):
        one, other = sorted(np.unravel_index(np.argmin(distance), distance.shape))
        sizes = len(members[one]), len(members[other])
        merged = (sizes[0] * distance[one] + sizes[1] * distance[other]) / sum(sizes)
        distance[one], distance[:, one] = merged, merged
        distance[one, one] = np.inf
        distance[other], distance[:, other] = np.inf, np.inf
        members[one] += members[other]
    return np.array(members[0])


def _png(correlation: np.ndarray) -> bytes:
    """Returns a pixel a pair: white 0, red 1, blue -1."""
    from PIL import Image

    strength = np.clip(np.abs(correlation), 0, 1)[..., None]
    colour = np.where(correlation[..., None] >= 0, [178, 24, 43], [33, 102, 172])
    pixels = np.round(255 + strength * (colour - 255)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).quantize(64).save(file, "PNG", optimize=True)
    return file.getvalue()


class _Axis:
    """Maps values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float):
        self.low, self.high = min(values), max(values)
        if self.high == self.low:
            room = abs(self.low) / 10 or 1.0
            self.low, self.high = self.low - room, self.high + room
        self.start, self.end = start, end

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def _frame(x_axis: _Axis, y_axis: _Axis, x_label: str, y_label: str) -> list[str]:
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
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}'
        f'</text><text transform="translate(11 {HEIGHT / 2}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_label)}</text>"
    )
    return parts


def _svg(parts: Sequence[str], width: int, height: int, title: str, *, fixed=False) -> Markup:
    size = f' width="{width}" height="{height}"' if fixed else ""
    return Markup(
        f'<svg role="img" viewBox="0 0 {width} {height}"{size}><title>{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )


def _unbroken(*columns: Sequence[float]) -> list[list[tuple[float, ...]]]:
    """Returns the rows in runs in which every number is finite."""
    runs: list[list[tuple[float, ...]]] = [[]]
    for row in zip(*columns, strict=False):
        if all(map(math.isfinite, row)):
            runs[-1].append(row)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _points(pairs: Sequence[tuple[float, float]]) -> str:
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in pairs)
