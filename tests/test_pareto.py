"""Scores over costs: what is drawn where."""

import math
from xml.etree import ElementTree

import numpy as np
import pytest

from monitoring.report.figures import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH
from monitoring.report.pareto import ScoredNetwork, front, pareto_figure

LABELS = {"title": "mIoU over bytes", "x_label": "bytes", "y_label": "mIoU"}


def drawn(figure):
    """{class: its elements}, of the <svg> alone."""
    root = ElementTree.fromstring(figure.split("<ul")[0])
    found = {}
    for element in root.iter():
        found.setdefault(element.get("class", "").split(" ")[0], []).append(element)
    return found


def test_means_errors_and_seeds_lie_where_the_numbers_say():
    networks = [
        ScoredNetwork("small", 10.0, [0.80, 0.84], "uniform"),
        ScoredNetwork("large", 40.0, [0.90], "uniform", is_chosen=True),
        ScoredNetwork("a<b", 20.0, [0.88, 0.86, 0.87], "narrowed"),
    ]
    found = drawn(pareto_figure(networks, **LABELS, limit=30.0, joined=["uniform"]))
    assert networks[0].error == pytest.approx(np.std([0.80, 0.84], ddof=1) / math.sqrt(2))
    dots = {dot[0].text.split(":")[0]: dot for dot in found["dot"]}
    assert set(dots) == {"small", "large", "a<b"}
    across = (WIDTH - RIGHT - LEFT) / (1.05 * 40)
    for network in networks:
        assert float(dots[network.name].get("cx")) == pytest.approx(
            LEFT + network.cost * across, abs=0.06
        )
    # 0.80 and 0.90 are the least and the largest number drawn.
    height = HEIGHT - BOTTOM - TOP
    assert float(dots["a<b"].get("cy")) == pytest.approx(TOP + height * 0.3, abs=0.06)
    assert len(found["seed"]) == 5 and len(found["bar"]) == 2 and len(found["chosen"]) == 1
    assert len(found["line"]) == 1
    beyond = found["beyond"][0]
    assert float(beyond.get("x")) == pytest.approx(LEFT + 30 * across, abs=0.06)
    assert float(beyond.get("width")) + float(beyond.get("x")) == pytest.approx(WIDTH - RIGHT)
    assert "3 seeds" in dots["a<b"][0].text and "±" not in dots["large"][0].text


def test_the_front_holds_what_nothing_beats():
    rng = np.random.default_rng(0)
    for _ in range(50):
        numbers = rng.integers(1, 6, (8, 2))
        networks = [ScoredNetwork(str(i), float(c), [s]) for i, (c, s) in enumerate(numbers)]
        best = front(networks)
        beaten = [
            any(o.cost <= n.cost and o.mean >= n.mean and (o.cost, o.mean) != (n.cost, n.mean)
                for o in networks)
            for n in networks
        ]  # fmt: skip
        places = {(n.cost, n.mean) for n, lost in zip(networks, beaten, strict=True) if not lost}
        assert {(n.cost, n.mean) for n in best} == places
        assert [n.cost for n in best] == sorted(n.cost for n in best)


def test_a_single_network_is_drawn():
    found = drawn(pareto_figure([ScoredNetwork("one", 3.0, [0.5])], **LABELS))
    assert len(found["dot"]) == 1 and "bar" not in found and "beyond" not in found


def test_what_was_trained_less_is_hollow_and_not_in_the_front():
    networks = [
        ScoredNetwork("short", 10.0, [0.99], is_partial=True),
        ScoredNetwork("whole", 20.0, [0.80]),
    ]
    found = drawn(pareto_figure(networks, **LABELS))
    assert len(found["hollow"]) == 1 and len(found["dot"]) == 1
    whole = float(found["dot"][0].get("cy"))
    assert found["front"][0].get("d").split(",")[1].startswith(f"{whole:.1f}")
