"""Which channels go: the estimate against direct least squares, for one and several readers."""

from itertools import combinations

import numpy as np
import pytest

from models.narrowing.elimination import (
    elimination_path,
    exchanged,
    loss_without,
    quadratic,
)


def draw(rng, channels, outputs, size=1, rank=None):
    """A reader: covariance of its rows, kernel, gradient weights."""
    rows = channels * size
    mixing = rng.normal(size=(rank or rows, rows)) * rng.uniform(0.2, 2, size=rows)
    root = rng.normal(size=(outputs, outputs))
    return mixing.T @ mixing / rows, rng.normal(size=(rows, outputs)), root @ root.T


def lost(reader, kept, size=1):
    """½ tr(W' R W G), R what is left of the covariance when the kept rows explain what they can."""
    covariance, kernel, gradients = reader
    rows = (np.asarray(kept)[:, None] * size + np.arange(size)).ravel()
    ridge = 1e-6 * np.trace(covariance) / len(covariance)
    own = covariance[np.ix_(rows, rows)] + ridge * np.eye(len(rows))
    rest = covariance - covariance[:, rows] @ np.linalg.solve(own, covariance[rows])
    return np.trace(kernel.T @ rest @ kernel @ gradients) / 2


def forms(readers, channels):
    return [
        quadratic(*reader).of_channels(np.arange(len(reader[0])).reshape(channels, -1))
        for reader in readers
    ]


@pytest.mark.parametrize("size", [1, 9])
def test_the_estimate_is_what_least_squares_leaves(size):
    rng = np.random.default_rng(size)
    reader = draw(rng, 7, 5, size)
    parts = forms([reader], 7)
    for count in (1, 3, 6):
        gone = rng.choice(7, count, replace=False)
        kept = np.setdiff1d(np.arange(7), gone)
        assert loss_without(parts, gone) == pytest.approx(lost(reader, kept, size), rel=1e-3)


def test_the_losses_along_the_path_are_those_of_what_has_gone():
    rng = np.random.default_rng(0)
    readers = [draw(rng, 10, 4), draw(rng, 10, 6, size=4)]
    parts = forms(readers, 10)
    path = elimination_path(parts, 10, 8)
    assert len(set(path.order.tolist())) == 8
    assert (np.diff(path.losses) > 0).all()
    for count in range(9):
        direct = loss_without(parts, path.order[:count])
        assert path.losses[count] == pytest.approx(direct, rel=1e-6)


def test_each_step_takes_the_cheapest_channel():
    rng = np.random.default_rng(1)
    parts = forms([draw(rng, 9, 4)], 9)
    path = elimination_path(parts, 9, 1)
    alone = [loss_without(parts, [channel]) for channel in range(9)]
    assert path.order[0] == np.argmin(alone)


def test_duplicates_and_dead_channels_go_first_and_cost_nothing():
    rng = np.random.default_rng(2)
    covariance, kernel, gradients = draw(rng, 8, 5)
    copies = np.eye(8)[[0, 1, 2, 3, 4, 5, 6, 7, 0, 3]]  # channels 8 and 9 repeat 0 and 3
    wide = copies @ covariance @ copies.T
    wide[5] = wide[:, 5] = 0  # dead
    weights = rng.normal(size=(10, 5))
    parts = [quadratic(wide, weights, gradients)]
    path = elimination_path(parts, 10, 4)
    first = set(path.order[:3].tolist())
    assert 5 in first and len(first & {0, 8}) == 1 and len(first & {3, 9}) == 1
    assert path.losses[3] < 1e-3 * path.losses[4]


def test_exchanges_reach_the_best_set_of_small_groups():
    found = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        parts = forms([draw(rng, 8, 3, rank=5)], 8)
        start = np.setdiff1d(np.arange(8), elimination_path(parts, 8, 4).order)
        kept = exchanged(parts, start, 8)
        losses = {
            chosen: loss_without(parts, np.setdiff1d(np.arange(8), chosen))
            for chosen in combinations(range(8), 4)
        }
        loss = losses[tuple(kept.tolist())]
        assert loss <= losses[tuple(start.tolist())] * (1 + 1e-9)
        found += loss <= min(losses.values()) * (1 + 1e-6)
    assert found >= 15


@pytest.mark.parametrize("rounding", [0.0, 1e-7])
def test_singular_covariances_keep_costs_finite_and_rising(rounding):
    rng = np.random.default_rng(4)
    covariance, kernel, gradients = draw(rng, 300, 6, rank=40)
    noise = rng.normal(size=covariance.shape) * rounding * np.trace(covariance)
    covariance[:20] = covariance[:, :20] = 0
    part = quadratic(covariance + (noise + noise.T) / 300**0.5, kernel, gradients)
    path = elimination_path([part], 300, 290)
    assert np.isfinite(path.losses).all() and (np.diff(path.losses) >= 0).all()
    assert path.losses[200] < 1e-2 * path.losses[290]


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e-36])
def test_gradients_all_alike_but_for_rounding(scale):
    # One direction, and what sums in float32 leave of the others, negative too.
    rng = np.random.default_rng(0)
    covariance, kernel, _ = draw(rng, 6, 8)
    direction = rng.normal(size=8)
    rounding = rng.normal(size=(8, 8))
    gradients = scale * (np.outer(direction, direction) - 1e-5 * rounding @ rounding.T)
    assert np.linalg.eigvalsh(gradients).min() < -1e-6 * np.trace(gradients)
    parts = forms([(covariance, kernel, gradients)], 6)
    exact = lost((covariance, kernel, scale * np.outer(direction, direction)), [0, 2, 3])
    assert loss_without(parts, np.array([1, 4, 5])) == pytest.approx(exact, rel=1e-2, abs=1e-34)


def test_wide_groups_go_several_channels_at_a_time_and_stay_exact():
    rng = np.random.default_rng(3)
    parts = forms([draw(rng, 600, 8)], 600)
    path = elimination_path(parts, 600, 60)
    assert path.losses[60] == pytest.approx(loss_without(parts, path.order[:60]), rel=1e-6)
