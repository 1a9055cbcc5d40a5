"""Activations that are not numbers, that never change, or that are very few or very many."""

import os

import keras
import numpy as np
import pytest

from monitoring import NASMonitorCallback

# 4096 take two minutes: `make soak`.
WIDEST = int(os.environ.get("PROBE_ZOO_WIDEST", "512"))


def model_of(channels: int = 3) -> keras.Model:
    layers = [keras.layers.Dense(channels, name="wide"), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((5, 2)), *layers])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def fit(monitor, images, *, channels=3, batch_size=4, epochs=1, callbacks=()):
    keras.utils.set_random_seed(0)
    targets = np.zeros((len(images), 5, 1))
    options = {"batch_size": batch_size, "epochs": epochs, "shuffle": False, "verbose": 0}
    model_of(channels).fit(images, targets, callbacks=[monitor, *callbacks], **options)
    return monitor.records


@pytest.fixture
def images(rng):
    return rng.normal(size=(16, 5, 2)).astype("float32")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0), (9, 3)])
def test_images_that_are_not_finite_are_counted(images, bad, place):
    spoiled = images.copy()
    spoiled[place] = spoiled[15, 2] = bad
    record = fit(NASMonitorCallback(spoiled, ["wide"]), images)[-1]
    assert record.verdict == "activations are not finite in 2 of 80 samples, 2 of 16 images"
    assert np.isnan([record.redundancy_score, record.trace, record.effective_rank]).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_batches_that_are_not_finite_are_counted_and_the_next_window_is_right(images, bad):
    class Spoil(keras.callbacks.Callback):
        """Spoils the weights in the first epoch, and mends them for the second."""

        def on_train_batch_begin(self, batch, logs=None):
            if self.epoch == 0 and batch == 2:
                self.given = self.model.get_weights()
                self.model.set_weights([np.full_like(weight, bad) for weight in self.given])
            elif self.epoch == 1 and batch == 0:
                self.model.set_weights(self.given)

        def on_epoch_begin(self, epoch, logs=None):
            self.epoch = epoch

    spoiled = fit(NASMonitorCallback(None, ["wide"]), images, epochs=2, callbacks=[Spoil()])
    assert spoiled[0].verdict == "activations are not finite in 40 of 80 samples, 2 of 4 batches"
    sound = fit(NASMonitorCallback(None, ["wide"]), images, epochs=2)
    assert spoiled[1].trace == pytest.approx(sound[1].trace, rel=1e-6)
    assert spoiled[1].verdict == sound[1].verdict


@pytest.mark.parametrize("given", [True, False])
def test_what_never_changes_is_dead_and_no_error(images, given):
    images[:] = 0.7
    record = fit(NASMonitorCallback(images if given else None, ["wide"]), images)[-1]
    assert record.dead_channels == 3 and record.trace == pytest.approx(0, abs=1e-9)
    assert record.verdict == "0 of 3 channels vary: redundancy needs two"


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("count, batch_size", [(1, 1), (5, 1), (9, 4)])
def test_batches_of_one_and_a_last_one_of_one(images, given, count, batch_size):
    part = images[:count]
    monitor = NASMonitorCallback(part if given else None, ["wide"])
    record = fit(monitor, part, batch_size=batch_size)[-1]
    assert record.samples == 5 * count
    activations = part.reshape(-1, 2) @ monitor.model.get_layer("wide").get_weights()[0]
    expected = np.cov(activations.astype(float), rowvar=False).trace()
    assert record.trace == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("channels", [1, WIDEST])
def test_one_channel_and_very_many(images, given, channels):
    monitor = NASMonitorCallback(images if given else None, ["wide"])
    record = fit(monitor, images, channels=channels)[-1]
    assert record.channels == channels and np.isfinite(record.trace)
    # Two inputs span two directions, whatever the width.
    if channels > 1:
        assert record.effective_rank == pytest.approx(2, abs=0.05)
    else:
        assert "one channel" in record.verdict


def test_squares_that_overflow_are_said(images):
    record = fit(NASMonitorCallback(images * 1e25, ["wide"]), images)[-1]
    assert record.verdict == "activations, or their squares, are not finite"
    assert np.isnan([record.redundancy_score, record.trace]).all()


def test_overflow_in_half_precision_is_said(images):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = model_of()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    model.get_layer("wide").set_weights([np.full((2, 3), 6e4), np.zeros(3)])
    monitor = NASMonitorCallback(np.abs(images) + 10, ["wide"])
    model.fit(images, np.zeros((16, 5, 1)), epochs=1, verbose=0, callbacks=[monitor])
    said = "activations are not finite in 80 of 80 samples, 16 of 16 images"
    assert monitor.records[0].verdict == said
