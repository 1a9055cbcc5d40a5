import numpy as np
import pytest
from sklearn.covariance import EmpiricalCovariance

from monitoring import GroupedCovariance, RunningCovariance, covariance_redundancy
from monitoring.statistics.covariance import (
    CovarianceState,
    measure_batch,
    merge,
    merge_all,
    to_host,
)

CHANNELS = 12


def samples(rng, *, ratio=0.0, count=4000, dtype=np.float32):
    """Correlated channels whose means are `ratio` standard deviations from 0."""
    mixing = rng.normal(size=(CHANNELS, CHANNELS))
    x = rng.normal(size=(count, CHANNELS)) @ mixing
    return (x + ratio * x.std(axis=0) * rng.choice([-1, 1], CHANNELS)).astype(dtype)


def accumulated(parts):
    running = RunningCovariance(CHANNELS)
    for part in parts:
        running.update(part)
    return running


def relative_error(running, x):
    """Largest error of the covariance, in units of the channels' standard deviations."""
    reference = np.cov(x.astype(np.float64), rowvar=False)
    deviations = np.sqrt(np.diag(reference))
    return np.abs((running.covariance() - reference) / np.outer(deviations, deviations)).max()


@pytest.mark.parametrize("ratio", [0, 1, 1e2, 1e4])
@pytest.mark.parametrize("splits", [[], [1], [1, 2, 3, 5, 3999], [2000], list(range(64, 4000, 64))])
def test_agrees_with_float64_in_any_split_and_order(rng, ratio, splits):
    x = samples(rng, ratio=ratio)
    parts = np.split(x, splits)
    rng.shuffle(parts)
    running = accumulated(parts)
    assert running.count == 4000
    assert relative_error(running, x) < 1e-5
    mean, deviation = x.mean(axis=0, dtype=np.float64), x.std(axis=0, dtype=np.float64)
    assert (np.abs(running.mean - mean) / deviation).max() < 1e-5


def test_agrees_with_scikit_learn(rng):
    x = samples(rng, ratio=3)
    reference = EmpiricalCovariance().fit(x.astype(np.float64)).covariance_ * 4000 / 3999
    deviations = np.sqrt(np.diag(reference))
    error = (accumulated(np.split(x, 7 * np.arange(1, 9))).covariance() - reference) / np.outer(
        deviations, deviations
    )
    assert np.abs(error).max() < 1e-5


def test_drifting_means_are_merged_exactly(rng):
    parts = [samples(rng) + 100 * number for number in range(5)]
    assert relative_error(accumulated(parts), np.concatenate(parts)) < 1e-5


def test_every_position_is_a_sample(rng):
    x = samples(rng, count=2 * 5 * 7)
    running = accumulated([x.reshape(2, 5, 7, CHANNELS)])
    assert running.count == 70
    assert relative_error(running, x) < 1e-5


@pytest.mark.parametrize("cut", [1, 2000, 3999])
def test_merge_equals_updating(rng, cut):
    x = samples(rng, ratio=1e4)
    one, other = accumulated([x[:cut]]), accumulated([x[cut:]])
    one.merge(other)
    assert one.count == 4000
    assert relative_error(one, x) < 1e-5


def test_merging_an_empty_one_changes_nothing(rng):
    x = samples(rng)
    full, empty = accumulated([x]), RunningCovariance(CHANNELS)
    before = full.covariance()
    full.merge(empty)
    np.testing.assert_array_equal(full.covariance(), before)
    empty.merge(full)
    np.testing.assert_array_equal(empty.covariance(), before)
    assert empty.count == full.count


def test_an_empty_batch_changes_nothing(rng):
    running = accumulated([samples(rng)])
    before = running.covariance()
    running.update(np.empty((0, 5, 5, CHANNELS), np.float32))
    np.testing.assert_array_equal(running.covariance(), before)


def test_reset_forgets(rng):
    running = accumulated([samples(rng)])
    running.reset()
    assert running.count == 0
    assert np.isnan(running.mean).all()
    assert np.isnan(running.covariance()).all()


def test_one_sample_has_a_mean_and_no_covariance():
    running = RunningCovariance(2)
    running.update(np.array([[1.0, 2.0]]))
    assert running.mean.tolist() == [1.0, 2.0]
    assert np.isnan(running.covariance()).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_low_precision_activations_are_accumulated_in_float32(rng, dtype):
    from keras import ops

    x = ops.cast(samples(rng, ratio=5), dtype)
    running = accumulated([x])
    assert running.dtype == dtype
    assert relative_error(running, ops.convert_to_numpy(ops.cast(x, "float32"))) < 1e-5


def test_constant_channels_have_exactly_no_variance():
    running = RunningCovariance(2)
    for _ in range(3):
        running.update(np.tile(np.array([0.3, 1.7], np.float32), (50, 1)))
    assert running.covariance().tolist() == [[0.0, 0.0], [0.0, 0.0]]


def test_states_merge_on_tensors_as_on_numpy(rng):
    from keras import ops

    x = samples(rng, ratio=10)
    states = [measure_batch(ops.convert_to_tensor(part)) for part in (x[:100], x[100:])]
    merged = merge(*states)
    assert int(merged.count) == 4000
    reference = merge(*map(to_host, states))
    np.testing.assert_array_equal(merged.shift, x[0])
    np.testing.assert_allclose(merged.mean, reference.mean, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(merged.scatter, reference.scatter, rtol=1e-4, atol=0.5)


def test_wrong_arguments(rng):
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 12\).*Received: shape=\(5, 3\)"):
        RunningCovariance(CHANNELS).update(np.ones((5, 3)))
    with pytest.raises(ValueError, match="at least one channel"):
        RunningCovariance(0)
    with pytest.raises(ValueError, match="Expected 12 channels to merge"):
        RunningCovariance(CHANNELS).merge(RunningCovariance(3))


@pytest.mark.parametrize("splits", [1, 64])
def test_a_first_sample_far_from_the_others_costs_no_accuracy(rng, splits):
    x = (rng.normal(size=(64, 30, 40, 3)) + 1e4).astype(np.float32)
    x[:, 0, 0] = 0
    running = RunningCovariance(3)
    for part in np.split(x, splits):
        running.update(part)
    assert relative_error(running, x.reshape(-1, 3)) < 1e-5


@pytest.mark.parametrize("dtype", ["int64", "uint8", "bool"])
def test_integers_are_measured_as_real_numbers(rng, dtype):
    x = rng.integers(0, 2, (500, 3)).astype(dtype)
    running = RunningCovariance(3)
    running.update(x)
    assert relative_error(running, x) < 1e-5
    assert 0 < covariance_redundancy(x.tolist()) < 0.05


def grouped(x, chunk=None):
    result = GroupedCovariance(x.shape[-1])
    for start in range(0, len(x), chunk or len(x)):
        part = x[start : start + (chunk or len(x))]
        result.add_units(to_host(measure_batch(part)))
    return result


@pytest.mark.parametrize("chunk", [1, 7, 32, 70])
def test_groups_hold_every_32nd_image(rng, chunk):
    x = samples(rng, ratio=1e3, count=70 * 20).reshape(70, 20, CHANNELS)
    result = grouped(x, chunk)
    assert (result.units, len(result.groups.count)) == (70, 32)
    assert relative_error(result.total(), x.reshape(-1, CHANNELS)) < 1e-5
    for number, (count, shift, mean, scatter) in enumerate(zip(*result.groups, strict=True)):
        own = x[number::32].reshape(-1, CHANNELS).astype(np.float64)
        assert count == len(own)
        np.testing.assert_allclose(shift + mean, own.mean(axis=0), rtol=1e-6)
        covariance = np.cov(own, rowvar=False)
        np.testing.assert_allclose(scatter / (len(own) - 1), covariance, atol=1e-5)


def test_fewer_images_are_fewer_groups_and_wide_layers_have_sixteen(rng):
    assert len(grouped(rng.normal(size=(5, 9, 4))).groups.count) == 5
    assert GroupedCovariance(513).size == 16


def test_joined_groups_are_all_samples(rng):
    x = samples(rng, ratio=100).astype(np.float64)
    parts = [x[:3], x[3:500], x[500:]]
    states = CovarianceState(
        np.array([len(p) for p in parts]),
        np.stack([p[0] for p in parts]),
        np.stack([p.mean(axis=0) - p[0] for p in parts]),
        np.stack([np.cov(p, rowvar=False) * (len(p) - 1) for p in parts]),
    )
    total = merge_all(states)
    assert total.count == len(x)
    np.testing.assert_allclose(total.shift + total.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(total.scatter, np.cov(x, rowvar=False) * (len(x) - 1), rtol=1e-9)


def test_groups_of_a_wide_layer_stay_under_300_mb():
    assert GroupedCovariance(2048).nbytes < 300e6


def test_groups_of_a_wide_layer_are_accurate(rng):
    x = (rng.normal(size=(40, 6, 600)) + 1e3).astype(np.float32)
    assert relative_error(grouped(x).total(), x.reshape(-1, 600)) < 1e-5


@pytest.mark.parametrize("tensors", [False, True])
@pytest.mark.parametrize("groups", [(), (3,)])
def test_an_empty_state_is_the_identity_of_merge_on_either_side(rng, tensors, groups):
    from keras import ops

    x = (rng.normal(size=(*groups, 50, 4)) + 1e3).astype(np.float32)
    state, empty = measure_batch(x), CovarianceState.empty(4, groups)
    if tensors:
        empty = CovarianceState(*(ops.cast(e, s.dtype) for e, s in zip(empty, state, strict=True)))
    else:
        state = to_host(state)
    for merged in (merge(state, empty), merge(empty, state)):
        for part, expected in zip(merged, state, strict=True):
            np.testing.assert_array_equal(part, expected)


def test_arrays_passed_in_are_neither_kept_nor_changed(rng):
    x = (rng.normal(size=(64, 7, 600)) + 5).astype(np.float32)  # wide: groups in float32
    states = to_host(measure_batch(x))
    before = [part.copy() for part in states]
    grouped = GroupedCovariance(600)
    for _ in range(2):
        grouped.add_units(states)
    for part, copy in zip(states, before, strict=True):
        np.testing.assert_array_equal(part, copy)
    trace = np.trace(grouped.pooled().scatter)
    for part in states:
        part[...] = 0
    again = GroupedCovariance(600)
    again.add_units(CovarianceState(*before))
    grouped.add_units(CovarianceState(*before))
    again.add_units(CovarianceState(*before))
    again.add_units(CovarianceState(*before))
    assert np.trace(grouped.pooled().scatter) == np.trace(again.pooled().scatter) > trace

    running, other = RunningCovariance(600), RunningCovariance(600)
    batch = x[0].copy()
    other.update(batch)
    running.merge(other)
    covariance = other.covariance()
    running.update(batch)
    np.testing.assert_array_equal(batch, x[0])
    np.testing.assert_array_equal(other.covariance(), covariance)


def rounded_to_tf32(x):
    """Rounds float32 to the 11 significant bits of TF32, to nearest."""
    bits = np.asarray(x, np.float32).view(np.uint32)
    return ((bits + 0x0FFF + ((bits >> 13) & 1)) & np.uint32(0xFFFFE000)).view(np.float32)


def test_the_scatter_is_exact_where_products_are_rounded_to_tf32(rng, monkeypatch):
    """No GPU is needed: the backend's product is replaced by one that rounds its factors."""
    from keras import ops

    from monitoring.statistics import product

    def matmul(a, b):
        a, b = (rounded_to_tf32(ops.convert_to_numpy(factor)) for factor in (a, b))
        return ops.convert_to_tensor(a @ b)

    monkeypatch.setattr(product.ops, "matmul", matmul)
    centred = rng.normal(size=(2, 5000, 6)).astype(np.float32)
    exact = centred.astype(np.float64).swapaxes(1, 2) @ centred.astype(np.float64)
    scale = np.trace(exact, axis1=1, axis2=2)[:, None, None] / 6
    tensor = ops.convert_to_tensor(centred)
    split = np.asarray(product.full_precision_scatter(tensor, split=True))
    plain = np.asarray(product.full_precision_scatter(tensor, split=False))
    assert (np.abs(split - exact) / scale).max() < 1e-6
    assert (np.abs(plain - exact) / scale).max() > 1e-5  # the rounding is simulated
