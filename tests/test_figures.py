"""Figures as SVG: what is drawn, where, and what leaves a gap."""

import base64
import io
import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from monitoring.report.figures import Series, line_chart, spectrum, ticks
from monitoring.report.heat_map import clustered_order, heat_map


def parsed(markup):
    """Returns the first element; XML's parser refuses what a browser would mend."""
    return ElementTree.fromstring(re.search(r"<svg.*</svg>", markup, re.S)[0])


def drawn(markup, tag, kind):
    return [e for e in parsed(markup).iter(tag) if kind in e.get("class", "")]


def chart(*series):
    return line_chart(series, title="a < b", x_label="epochs", y_label="share")


def test_a_line_passes_through_its_points_to_scale():
    (line,) = drawn(chart(Series("one", [0, 1, 2], [0.0, 1.0, 0.5])), "polyline", "line")
    points = [tuple(map(float, pair.split(","))) for pair in line.get("points").split()]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert x1 - x0 == pytest.approx(x2 - x1)
    assert y2 == pytest.approx((y0 + y1) / 2) and y1 < y0  # up is less


def test_undefined_values_leave_a_gap_and_a_single_one_is_a_dot():
    y = [0.1, 0.2, math.nan, 0.3, math.inf, 0.4, 0.5]
    figure = chart(Series("one", range(7), y))
    assert len(drawn(figure, "polyline", "line")) == 3
    assert len(drawn(figure, "circle", "dot")) == 1
    assert "nan" not in figure and "inf" not in figure


def test_a_band_lies_between_its_ends():
    figure = chart(Series("one", [0, 1], [1, 1], [0.5, 0.5], [1.5, 2.0]))
    (band,) = drawn(figure, "polygon", "band")
    heights = [float(pair.split(",")[1]) for pair in band.get("points").split()]
    assert heights[0] == heights[1] > heights[3] > heights[2]


def test_nothing_defined_is_said():
    assert "Nothing to draw" in chart(Series("one", [0], [math.nan]))
    assert "Nothing to draw" in spectrum(np.array([]), math.nan, title="none")
    assert "Nothing to draw" in heat_map(np.full((2, 2), np.nan), title="none")


def test_names_are_escaped():
    figure = chart(Series("<script>", [0, 1], [0, 1]), Series("b", [0, 1], [0, 1]))
    assert "<script>" not in figure and "&lt;script&gt;" in figure
    assert parsed(figure).find("title").text == "a < b"


@pytest.mark.parametrize("low_high", [(0, 1), (-3.2, 8), (1e-9, 3e-9), (0, 25000), (5, 5)], ids=str)
def test_ticks_are_few_and_within(low_high):
    found = ticks(*low_high)
    assert 1 <= len(found) <= 7
    assert all(low_high[0] <= tick <= low_high[1] for tick in found)


def test_bars_are_as_tall_as_eigenvalues_and_the_mark_is_between_them():
    figure = spectrum(np.array([4.0, 2.0, 1.0, 0.0]), 2.4, title="some")
    bars = [e for e in parsed(figure).iter("rect")]
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[0] == pytest.approx(2 * heights[1], abs=0.2) and heights[3] == 0
    assert [bar.get("class") for bar in bars] == ["used", "used", "spare", "spare"]
    (mark,) = drawn(figure, "line", "mark")
    assert float(bars[1].get("x")) < float(mark.get("x1")) < float(bars[3].get("x"))
    assert "2.4 in use" in figure


def test_like_channels_stand_side_by_side(rng):
    sources = rng.normal(size=(3, 500))
    x = sources[[0, 1, 2, 0, 1, 2, 0, 1, 2]] + 0.1 * rng.normal(size=(9, 500))
    order = clustered_order(np.corrcoef(x))
    assert sorted(order) == list(range(9))
    assert [sorted({channel % 3 for channel in order[i : i + 3]}) for i in (0, 3, 6)] in (
        [[a], [b], [c]] for a in range(3) for b in range(3) for c in range(3)
    )


def test_a_heat_map_has_a_pixel_a_pair_and_numbers_its_channels():
    correlation = np.array([[1.0, np.nan, -1.0], [np.nan] * 3, [-1.0, np.nan, 1.0]])
    figure = heat_map(correlation, title="some")
    numbers = [e.text for e in drawn(figure, "text", "channel")]
    assert numbers == ["0", "0", "2", "2"]  # the dead channel 1 is left out
    (image,) = parsed(figure).iter("image")
    png = base64.b64decode(image.get("href").split(",")[1])
    with Image.open(io.BytesIO(png)) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (2, 2, 3)
    assert pixels[0, 0, 0] > pixels[0, 0, 2] and pixels[0, 1, 2] > pixels[0, 1, 0]
