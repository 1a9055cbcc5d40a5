"""A correlation matrix as a picture in a page."""

import base64
import io

import numpy as np

from ..optional import needed_for
from .figures import Figure, svg

CELL = 12  # pixels of a channel
SMALL_CELL = 9  # where there are many: the least at which its number can be read
COLUMN = 560  # pixels of a map that shares the width of a screen with another figure
SIDE = 240  # pixels of a map, at least


def heat_map(correlation: np.ndarray, *, title: str) -> Figure:
    """Draws a correlation, blue for -1, red for 1, similar channels side by side.

    Args:
        correlation: (channels, channels); rows of dead channels, all nan, are left out.
        title: Text for screen readers.
    """
    live = np.flatnonzero(np.isfinite(np.diag(correlation)))
    if not len(live):
        return Figure('<p class="empty">Nothing to draw: no channel is alive.</p>')
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
    picture_svg = svg(parts, size, size, title, fixed=True)
    return Figure(f'<div class="{kind}" tabindex="0">{picture_svg}</div>')


def clustered_order(correlation: np.ndarray) -> np.ndarray:
    """Returns an order that places similar channels side by side, (channels,).

    Average linkage on 1 - |correlation|, with branches laid out in the order they merge.

    Example:
        >>> clustered_order(np.array([[1, 0, 0.9], [0, 1, 0], [0.9, 0, 1]])).tolist()
        [0, 2, 1]
    """
    distance = 1 - np.abs(correlation)
    np.fill_diagonal(distance, np.inf)
    members = [[channel] for channel in range(len(distance))]
    for _ in range(len(distance) - 1):
        first, second = sorted(np.unravel_index(np.argmin(distance), distance.shape))
        sizes = len(members[first]), len(members[second])
        merged = (sizes[0] * distance[first] + sizes[1] * distance[second]) / sum(sizes)
        distance[first], distance[:, first] = merged, merged
        distance[first, first] = np.inf
        distance[second], distance[:, second] = np.inf, np.inf
        members[first] += members[second]
    return np.array(members[0])


def _png(correlation: np.ndarray) -> bytes:
    """Returns a PNG with one pixel per pair: white 0, red 1, blue -1."""
    with needed_for("A heat map", "pillow"):
        from PIL import Image

    strength = np.clip(np.abs(correlation), 0, 1)[..., None]
    colour = np.where(correlation[..., None] >= 0, [178, 24, 43], [33, 102, 172])
    pixels = np.round(255 + strength * (colour - 255)).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).quantize(64).save(file, "PNG", optimize=True)
    return file.getvalue()
