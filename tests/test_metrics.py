import math

import numpy as np
import pytest

from monitoring import RunningCovariance, channel_metrics, covariance_redundancy
from monitoring.statistics.metrics import METRIC_NAMES, verdict
from monitoring.statistics.structure import channel_structure

COUNT = 4096


def orthogonal(channels, count=COUNT, seed=0):
    """Channels of exactly zero mean, unit variance and no correlation, in float64."""
    x = np.random.default_rng(seed).normal(size=(count, channels))
    q, _ = np.linalg.qr(x - x.mean(axis=0))
    return q * np.sqrt(count - 1)


def running(x):
    result = RunningCovariance(x.shape[-1])
    result.update(x)
    return result


def metrics(x):
    return channel_metrics(running(x))


def close(value, expected):
    return value == pytest.approx(expected, rel=1e-6, abs=1e-9)


def test_independent_channels():
    m = metrics(orthogonal(16))
    assert close(m.redundancy_score, 0)
    assert close(m.effective_rank, 16)
    assert close(m.feature_correlation, 0)
    assert close(m.condition_number, 1)
    assert close(m.trace, 16)
    assert close(m.decov, 0)
    assert (m.intrinsic_dimension, m.saturation) == (16, 1)
    assert (m.dead_channels, m.duplicate_channels, m.negligible_channels) == (0, 0, 0)


def test_every_channel_duplicated():
    x = orthogonal(8)
    m = metrics(np.concatenate([x, x], axis=1))
    assert close(m.redundancy_score, 0.5)
    assert close(m.effective_rank, 8)
    assert close(m.feature_correlation, 8 * 2 / (16 * 15))
    assert m.condition_number == math.inf
    assert close(m.decov, 8)
    assert (m.intrinsic_dimension, m.duplicate_channels) == (8, 8)


def test_half_of_the_channels_duplicated():
    """4 pairs and 8 single channels: energy 16 + 8, of which 8 off the diagonal."""
    x = orthogonal(12)
    m = metrics(np.concatenate([x, x[:, :4]], axis=1))
    assert close(m.redundancy_score, 8 / 24)
    pairs, singles = 4 * (2 / 16) * math.log(2 / 16), 8 * (1 / 16) * math.log(1 / 16)
    assert close(m.effective_rank, math.exp(-(pairs + singles)))
    assert m.duplicate_channels == 4


def test_one_dead_of_64():
    x = orthogonal(64)
    x[:, 17] = 0.7
    result = running(x)
    m = channel_metrics(result)
    assert close(m.redundancy_score, 0)
    assert close(m.effective_rank, 63)
    assert close(m.condition_number, 1)
    assert (m.dead_channels, m.duplicate_channels, m.negligible_channels) == (1, 0, 0)
    assert (m.intrinsic_dimension, m.saturation) == (63, 63 / 64)
    assert np.flatnonzero(~channel_structure(result).live).tolist() == [17]


def test_one_duplicate_of_64():
    x = orthogonal(64)
    x[:, 40] = -3 * x[:, 5] + 2
    result = running(x)
    m = channel_metrics(result)
    assert close(m.redundancy_score, 2 / 66)
    assert m.duplicate_channels == 1
    assert channel_structure(result).duplicates == {40: (5, -1)}
    assert m.condition_number == math.inf


def test_all_identical():
    m = metrics(np.repeat(orthogonal(1), 16, axis=1))
    assert close(m.redundancy_score, 1 - 1 / 16)
    assert close(m.effective_rank, 1)
    assert close(m.feature_correlation, 1)
    assert (m.intrinsic_dimension, m.duplicate_channels) == (1, 15)


def test_redundancy_is_one_less_participation_ratio_over_channels(rng):
    x = rng.normal(size=(500, 10)) @ rng.normal(size=(10, 10))
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(x, rowvar=False))
    participation = eigenvalues.sum() ** 2 / np.square(eigenvalues).sum()
    assert close(metrics(x).redundancy_score, 1 - participation / 10)


def test_rescaling_channels_changes_only_what_has_units(rng):
    x = rng.normal(size=(2000, 8)) @ rng.normal(size=(8, 8))
    before, after = metrics(x), metrics(x * 10.0 ** np.arange(-4, 4) + 3)
    assert close(after.redundancy_score, before.redundancy_score)
    assert close(after.effective_rank, before.effective_rank)
    assert close(after.feature_correlation, before.feature_correlation)
    assert after.duplicate_channels == before.duplicate_channels == 0
    assert after.trace != pytest.approx(before.trace, rel=0.1)


def test_trace_grows_with_the_square_and_decov_with_the_fourth_power(rng):
    x = rng.normal(size=(2000, 8)) @ rng.normal(size=(8, 8))
    before, after = metrics(x), metrics(10 * x)
    assert close(after.trace, 1e2 * before.trace)
    assert close(after.decov, 1e4 * before.decov)


def test_means_of_1e4_deviations_in_float32():
    x = orthogonal(16)
    doubled = np.concatenate([x[:, :8], x[:, :8]], axis=1)
    for channels, redundancy, rank in ((x, 0, 16), (doubled, 0.5, 8)):
        m = metrics((channels + 1e4).astype(np.float32))
        # float32 itself rounds to 1e-3 deviations there.
        assert m.redundancy_score == pytest.approx(redundancy, abs=1e-5)
        assert m.effective_rank == pytest.approx(rank, rel=1e-4)
        assert m.dead_channels == 0


def test_fewer_samples_than_channels(rng):
    x = rng.normal(size=(20, 64))
    result = running(x)
    m = channel_metrics(result)
    assert math.isnan(m.condition_number)
    eigenvalues = np.linalg.eigvalsh(np.corrcoef(x, rowvar=False))
    assert close(m.redundancy_score, 1 - 64 / np.square(eigenvalues).sum())
    assert m.intrinsic_dimension <= 19
    assert verdict(channel_structure(result), 20) == "not enough samples: 20 of 1280"


def test_a_single_channel():
    result = running(orthogonal(1))
    m = channel_metrics(result)
    assert math.isnan(m.redundancy_score)
    assert math.isnan(m.feature_correlation)
    assert (m.effective_rank, m.condition_number, m.intrinsic_dimension) == (1, 1, 1)
    assert verdict(channel_structure(result), COUNT).startswith("one channel")


def test_all_dead():
    result = running(np.full((100, 4), 2.5, np.float32))
    m = channel_metrics(result)
    assert m.dead_channels == 4
    assert m.trace == 0
    for name in ("redundancy_score", "effective_rank", "condition_number", "saturation"):
        assert math.isnan(getattr(m, name)), name
    assert verdict(channel_structure(result), 100) == "0 of 4 channels vary: redundancy needs two"


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_samples_for_a_covariance(count):
    result = running(np.ones((count, 3), np.float32))
    assert all(math.isnan(value) for value in vars(channel_metrics(result)).values())
    assert verdict(channel_structure(result), count) == f"not enough samples: {count} of at least 2"


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_activations_that_are_not_finite(poison):
    x = orthogonal(4)
    x[7, 2] = poison
    result = running(x)
    assert all(math.isnan(value) for value in vars(channel_metrics(result)).values())
    said = verdict(channel_structure(result), COUNT)
    assert said == "activations, or their squares, are not finite"


@pytest.mark.parametrize("dtype, deviation", [("float32", 5e-7), ("float16", 4e-3)])
def test_what_a_constant_would_show_is_dead(dtype, deviation):
    """Rounding alone moves a channel of mean 1 by less than 8 eps."""
    from keras import ops

    x = orthogonal(3).astype(np.float32)
    x[:, 1] = 1 + deviation * x[:, 1]
    result = RunningCovariance(3)
    result.update(ops.cast(x, dtype))
    assert channel_metrics(result).dead_channels == 1
    x[:, 1] = 1 + 10 * (x[:, 1] - 1)
    result = RunningCovariance(3)
    result.update(ops.cast(x, dtype))
    assert channel_metrics(result).dead_channels == 0


def test_negligible_channels_count_in_full_in_the_rank():
    x = orthogonal(8) * np.array([1, 1, 1, 1, 1, 1, 1e-3, 1e-1])
    m = metrics(x)
    assert m.negligible_channels == 1
    assert close(m.effective_rank, 8)


def test_duplicates_refer_to_the_first_of_their_group():
    x = orthogonal(4)
    result = running(np.stack([x[:, 0], x[:, 1], x[:, 0], -x[:, 1], x[:, 0], x[:, 2]], axis=1))
    assert channel_structure(result).duplicates == {2: (0, 1), 3: (1, -1), 4: (0, 1)}


@pytest.mark.parametrize("correlation, duplicates", [(0.9985, 0), (0.9995, 1)])
def test_threshold_of_duplicates(correlation, duplicates):
    x = orthogonal(2)
    x[:, 1] = correlation * x[:, 0] + math.sqrt(1 - correlation**2) * x[:, 1]
    assert metrics(x).duplicate_channels == duplicates


def test_intrinsic_dimension_explains_99_percent():
    x = orthogonal(3) * np.sqrt([0.9, 0.095, 0.005])
    assert metrics(x).intrinsic_dimension == 2
    assert metrics(orthogonal(100)).intrinsic_dimension == 99


def test_noise_floor_of_feature_correlation(rng):
    n = 500
    found = np.mean([metrics(rng.normal(size=(n, 8))).feature_correlation for _ in range(50)])
    assert found == pytest.approx(math.sqrt(2 / (math.pi * n)), rel=0.05)


def test_covariance_redundancy_of_an_image_batch():
    x = orthogonal(4).reshape(4, 32, 32, 4)
    assert covariance_redundancy(np.concatenate([x, -x], axis=-1)) == pytest.approx(0.5, abs=1e-6)
    with pytest.raises(ValueError, match="Received: a scalar"):
        covariance_redundancy(3.0)


def test_baselines_of_independent_channels_are_as_documented():
    c, n = 32, 2000
    found = [metrics(np.random.default_rng(seed).normal(size=(n, c))) for seed in range(20)]
    mean = {name: np.mean([getattr(one, name) for one in found]) for name in METRIC_NAMES}
    q = np.sqrt(c / n)
    assert mean["redundancy_score"] == pytest.approx((c - 1) / (n + c - 1), rel=0.03)
    assert mean["feature_correlation"] == pytest.approx(np.sqrt(2 / (np.pi * n)), rel=0.03)
    assert mean["condition_number"] == pytest.approx(((1 + q) / (1 - q)) ** 2, rel=0.1)
    assert mean["decov"] == pytest.approx(c * (c - 1) / (2 * n), rel=0.03)
    assert mean["effective_rank"] == pytest.approx(c, rel=0.02)
    assert mean["intrinsic_dimension"] == np.ceil(0.99 * c)
    assert mean["dead_channels"] == mean["duplicate_channels"] == mean["negligible_channels"] == 0
