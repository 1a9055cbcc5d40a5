import numpy as np
import pytest
import tensorflow as tf

from monitoring import covariance_redundancy
from monitoring.statistics.regularizer import batch_redundancy


def mixed(rng, count=200, channels=6):
    return rng.normal(size=(count, channels)) @ rng.normal(size=(channels, channels))


def test_equals_the_score_and_does_not_move_with_scale(rng):
    x = mixed(rng)
    expected = covariance_redundancy(x)
    assert float(batch_redundancy(x)) == pytest.approx(expected, rel=1e-6)
    scaled = x * 10.0 ** np.arange(-3, 3) + 5
    assert float(batch_redundancy(scaled)) == pytest.approx(expected, rel=1e-6)


def test_gradient_agrees_with_finite_differences(rng):
    x = tf.Variable(mixed(rng, 40, 4))
    with tf.GradientTape() as tape:
        score = batch_redundancy(x)
    gradient = tape.gradient(score, x).numpy()
    for row, column in ((0, 0), (3, 2), (17, 1), (39, 3)):
        step = np.zeros(x.shape)
        step[row, column] = 1e-6
        difference = float(batch_redundancy(x + step)) - float(batch_redundancy(x - step))
        assert gradient[row, column] == pytest.approx(difference / 2e-6, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_dead_channels_have_no_part_and_no_gradient(rng, dtype):
    x = mixed(rng).astype(np.float32)
    x[:, 2] = 0.3
    tensor = tf.Variable(tf.cast(x, dtype))
    with tf.GradientTape() as tape:
        score = batch_redundancy(tensor)
    gradient = tf.cast(tape.gradient(score, tensor), tf.float32).numpy()
    assert np.isfinite(gradient).all()
    assert (gradient[:, 2] == 0).all()
    assert float(score) == pytest.approx(covariance_redundancy(tensor.value()), abs=2e-3)


def test_all_dead_is_no_redundancy():
    assert float(batch_redundancy(np.ones((10, 3), np.float32))) == 0
