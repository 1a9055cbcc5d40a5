import numpy as np
import pytest
from conftest import grouped_units
from scipy import stats

from monitoring.statistics.jackknife import (
    T_QUANTILES,
    Estimate,
    rank_jackknife,
    redundancy_jackknife,
    required_units,
)
from monitoring.statistics.structure import channel_structure, effective_rank, redundancy_score


def both(x):
    group = grouped_units(x)
    structure = channel_structure(group.total())
    plain = redundancy_score(structure.correlation) if structure.live.sum() > 1 else np.nan
    return (
        redundancy_jackknife(group, structure.live, plain),
        rank_jackknife(group, structure.live, effective_rank(structure.eigenvalues)),
    )


def scores(x):
    correlation = np.corrcoef(x.reshape(-1, x.shape[-1]), rowvar=False)
    return redundancy_score(correlation), effective_rank(np.linalg.eigvalsh(correlation))


def test_quantiles_of_students_t():
    expected = stats.t.ppf(0.975, np.arange(1, 32))
    np.testing.assert_allclose(T_QUANTILES, expected, atol=5e-5)


@pytest.mark.parametrize("images", [32, 64])
def test_equal_groups_give_the_textbook_jackknife(rng, images):
    x = rng.normal(size=(images, 7, 5)) @ rng.normal(size=(5, 5))
    plain = np.array(scores(x))
    groups = np.arange(images) % 32
    left_out = np.array([scores(x[groups != group]) for group in range(32)])
    value = 32 * plain - 31 * left_out.mean(axis=0)
    error = np.sqrt(31 / 32 * np.square(left_out - left_out.mean(axis=0)).sum(axis=0))
    half = stats.t.ppf(0.975, 31) * error
    for number, estimate in enumerate(both(x)):
        assert estimate.value == pytest.approx(value[number], rel=1e-9)
        assert estimate.high - estimate.low == pytest.approx(2 * half[number], rel=1e-4)


def test_bias_of_few_samples_is_taken_out(rng):
    """64 x 50 samples of 16 independent channels: plain redundancy is about c / n."""
    found = [(*scores(x), *both(x)) for x in rng.normal(size=(30, 64, 50, 16))]
    assert np.mean([plain for plain, *_ in found]) == pytest.approx(15 / 3200, rel=0.1)
    assert np.mean([red.value for *_, red, _ in found]) == pytest.approx(0, abs=5e-4)
    assert np.mean([rank.value for *_, rank in found]) == pytest.approx(16, abs=0.01)


def test_the_interval_holds_the_truth_where_images_differ(rng):
    """Mixed channels with an offset per image: positions are no independent samples."""
    mixing = rng.normal(size=(8, 8))
    covariance = mixing.T @ mixing
    deviations = np.sqrt(np.diag(covariance))
    truth = redundancy_score(covariance / np.outer(deviations, deviations))
    held = 0
    for _ in range(60):
        x = (rng.normal(size=(64, 30, 8)) + rng.normal(size=(64, 1, 8))) @ mixing
        redundancy, _ = both(x)
        held += redundancy.low <= truth <= redundancy.high
    assert held >= 51


def test_a_channel_that_varies_in_one_group_alone(rng):
    x = rng.normal(size=(32, 9, 3))
    x[1:, :, 2] = 0
    redundancy, rank = both(x)
    assert np.isfinite([*redundancy, *rank]).all()


def test_live_channels_alone_count_and_wide_layers_are_done_in_parts(rng, monkeypatch):
    x = rng.normal(size=(40, 6, 12)) @ rng.normal(size=(12, 12))
    whole = both(x)
    monkeypatch.setattr("monitoring.statistics.jackknife.CHUNK", 300)
    dead = np.concatenate([x[..., :5], np.zeros((40, 6, 2)), x[..., 5:]], axis=-1)
    for one, other in zip(whole, both(dead), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9)


@pytest.mark.parametrize("shape", [(1, 50, 4), (40, 10, 1)])
def test_undefined_for_one_group_or_one_channel(rng, shape):
    redundancy, rank = both(rng.normal(size=shape))
    assert np.isnan([*redundancy, *rank]).all()


@pytest.mark.parametrize(
    "bias, width, units, groups, needed",
    [
        (0.00, 0.02, 64, 32, 64),
        (0.029, 0.001, 64, 32, 64),  # what is left of so small a bias does not matter
        (0.06, 0.04, 64, 32, 64),  # within the interval
        (0.10, 0.04, 64, 32, 102),  # (.1 / sqrt(.04 / 8)) to the power of 4 / 3
        (0.06, 0.001, 64, 32, 128),
        (0.00, 0.2, 64, 32, 256),
        (0.00, 0.02, 8, 8, 16),
        (0.00, 0.02, 1000, 1, 1001),
    ],
)
def test_how_many_images_would_do(bias, width, units, groups, needed):
    redundancy = Estimate(0.25, 0.25 - width / 2, 0.25 + width / 2)
    assert required_units(0.25 + bias, redundancy, units, groups) == needed
