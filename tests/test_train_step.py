"""Statistics taken inside the training step, and what they leave of themselves: nothing."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from models import BU_Net, Nano_U, Probe
from monitoring import NASMonitorCallback, RunningCovariance, covariance_redundancy

IMAGES = np.random.default_rng(0).normal(size=(40, 6)).astype("float32")
TARGETS = IMAGES[:, :1]


class Kept:
    """Keeps what is written."""

    def __init__(self):
        self.snapshots = []

    def write(self, record, snapshot):
        self.snapshots.append(snapshot)

    def close(self):
        pass


def scaling(**options):
    """One watched layer that doubles its inputs; nothing of it is trained."""
    inputs = keras.Input((6,))
    doubled = Probe(name="probe_doubled")(kl.Rescaling(2.0)(inputs))
    model = keras.Model(inputs, kl.Dense(1)(doubled))
    model.compile("sgd", "mse", **options)
    return model


def fit(model, *callbacks, **options):
    options = {"epochs": 2, "batch_size": 4, "verbose": 0, "shuffle": False} | options
    return model.fit(IMAGES, TARGETS, callbacks=list(callbacks), **options)


def reference(x):
    running = RunningCovariance(x.shape[-1])
    running.update(x)
    return running


OPTIONS = [
    {},
    {"steps_per_execution": 4},
    {"jit_compile": True},
    {"jit_compile": True, "steps_per_execution": 4},
    {"run_eagerly": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_an_epochs_window_is_its_training_batches(options):
    logger = Kept()
    monitor = NASMonitorCallback(loggers=[logger])
    fit(scaling(**options), monitor)
    expected = reference(2 * IMAGES)
    assert [(r.source, r.epoch, r.step, r.images, r.samples) for r in monitor.records] == [
        *(("batches", 0, 10, 10, 40), ("batches", 1, 20, 10, 40)),
    ]
    for record, snapshot in zip(monitor.records, logger.snapshots, strict=True):
        assert record.redundancy_plugin == pytest.approx(covariance_redundancy(IMAGES), rel=1e-5)
        assert record.trace == pytest.approx(np.trace(expected.covariance()), rel=1e-5)
        np.testing.assert_allclose(snapshot.mean, expected.mean, atol=1e-6)


@pytest.mark.parametrize("steps, bounds", [(1, (0, 3, 6, 9, 10)), (4, (0, 4, 8, 10))])
def test_windows_of_batches_hold_their_own_batches_and_make_up_the_epoch(steps, bounds):
    logger = Kept()
    monitor = NASMonitorCallback(monitor_frequency="batch", log_frequency=3, loggers=[logger])
    fit(scaling(steps_per_execution=steps), monitor, epochs=1)
    assert [record.step for record in monitor.records] == list(bounds[1:])
    total = 0
    for record, snapshot, start, end in zip(
        monitor.records, logger.snapshots, bounds, bounds[1:], strict=False
    ):
        window = 2 * IMAGES[4 * start : 4 * end]
        assert record.samples == len(window)
        np.testing.assert_allclose(snapshot.mean, window.mean(axis=0), atol=1e-6)
        assert record.trace == pytest.approx(np.trace(reference(window).covariance()), rel=1e-5)
        total += record.samples
    assert total == 40
    assert monitor.get_metrics()["steps"] == list(bounds[1:])


def test_epochs_are_joined_where_every_other_one_is_logged():
    monitor = NASMonitorCallback(log_frequency=2, loggers=[])
    history = fit(scaling(), monitor, epochs=5).history
    assert [(record.epoch, record.samples) for record in monitor.records] == [(1, 80), (3, 80)]
    assert np.isnan(history["redundancy/doubled"]).tolist() == [True, False, True, False, True]


def test_drift_share_is_the_trace_between_batches():
    x = np.repeat(np.eye(6, dtype="float32") * 3, 4, axis=0)[:20]
    x = x + 0.1 * np.random.default_rng(0).normal(size=x.shape).astype("float32")
    model, monitor = scaling(), NASMonitorCallback(loggers=[])
    model.fit(x, x[:, :1], batch_size=4, shuffle=False, epochs=1, verbose=0, callbacks=[monitor])
    within = sum(((p - p.mean(axis=0)) ** 2).sum() for p in np.split(x, 5))
    expected = 1 - within / ((x - x.mean(axis=0)) ** 2).sum()
    assert monitor.records[0].drift_share == pytest.approx(expected, rel=1e-4)
    assert expected > 0.9


def test_large_means_keep_their_accuracy(monkeypatch):
    x = (IMAGES + 1e4).astype("float32")
    model, monitor = scaling(), NASMonitorCallback(loggers=[])
    model.fit(x, x[:, :1] * 0, batch_size=4, epochs=1, verbose=0, callbacks=[monitor])
    assert monitor.records[0].trace == pytest.approx(np.trace(np.cov(2 * x.T)), rel=1e-4)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        inputs = keras.Input((6,))
        half = Probe(name="probe_half")(kl.Dense(5)(inputs))
        model = keras.Model(inputs, kl.Dense(1, dtype="float32")(half))
        model.compile("adam", "mse")
        for data, source in ((None, "batches"), (IMAGES, "images")):
            monitor = NASMonitorCallback(data, loggers=[], redundancy_weight=0.1)
            history = fit(model, monitor)
            assert {record.source for record in monitor.records} == {source}
            assert all(0 < record.effective_rank_low for record in monitor.records)
            assert np.isfinite(history.history["redundancy_penalty"]).all()
    finally:
        keras.config.set_dtype_policy(before)


def test_class_weights_several_inputs_and_several_outputs():
    a, b = keras.Input((6,), name="a"), keras.Input((6,), name="b")
    both = Probe(name="probe_both")(kl.Concatenate()([a, b]))
    model = keras.Model(
        {"a": a, "b": b}, [kl.Dense(1, name="x")(both), kl.Dense(2, name="y")(both)]
    )
    model.compile("sgd", ["mse", "mse"])
    x = {"a": IMAGES, "b": -2 * IMAGES}
    for data in (None, x):
        monitor = NASMonitorCallback(data, loggers=[])
        model.fit(x, [TARGETS, IMAGES[:, :2]], verbose=0, callbacks=[monitor])
        assert monitor.records[-1].duplicate_channels == 6
        assert monitor.records[-1].channels == 12
    weighted, monitor = scaling(), NASMonitorCallback(loggers=[])
    labels = (TARGETS > 0).astype("int32")
    weighted.fit(
        *(IMAGES, labels),
        class_weight={0: 1.0, 1: 9.0},
        verbose=0,
        callbacks=[monitor],
    )
    assert monitor.records[0].samples == 40


def traces_of(model):
    return {
        name: value for name, value in vars(model).items() if name in ("train_step", "compute_loss")
    }


def test_fit_twice_and_one_callback_on_two_models():
    first, second, monitor = scaling(), scaling(), NASMonitorCallback(loggers=[])
    for model in (first, first, second):
        fit(model, monitor, epochs=1)
        assert [record.samples for record in monitor.records] == [40]
        assert traces_of(model) == {}
    fit(first, epochs=1)
    assert len(monitor.records) == 1


class Failing(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 2:
            raise KeyboardInterrupt


@pytest.mark.parametrize("inside", [True, False])
def test_after_an_exception_detach_puts_everything_back(inside):
    model, monitor = scaling(), NASMonitorCallback(loggers=[], redundancy_weight=0.1)
    fit(model, epochs=1)
    step, weights, function = model.train_step, len(model.weights), model.train_function
    if inside:
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
            model.fit(IMAGES, np.ones((40, 2, 3)), verbose=0, callbacks=[monitor])
    else:
        with pytest.raises(KeyboardInterrupt):
            fit(model, monitor, Failing())
    monitor.detach()
    assert model.train_step == step
    assert model.train_function is function
    assert traces_of(model) == {}
    assert len(model.weights) == weights
    assert not [layer for layer in model.layers if "call" in vars(layer)]
    plain = scaling()
    plain.set_weights(model.get_weights())
    fit(model, epochs=1)
    fit(plain, epochs=1)
    for one, other in zip(model.get_weights(), plain.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_users_own_train_step_is_kept():
    class Own(keras.Model):
        steps = 0

        def train_step(self, data):
            Own.steps += 1
            return super().train_step(data)

    inputs = keras.Input((6,))
    model = Own(inputs, kl.Dense(1)(Probe(name="probe_in")(inputs)))
    model.compile("sgd", "mse", run_eagerly=True)
    monitor = NASMonitorCallback(loggers=[])
    fit(model, monitor, epochs=1)
    assert Own.steps == 10
    assert monitor.records[0].samples == 40


class Either(kl.Layer):
    """Runs one layer in training, and another one at inference."""

    def __init__(self, **options):
        super().__init__(**options)
        self.doubled, self.tripled = (
            kl.Rescaling(2.0, name="doubled"),
            kl.Rescaling(3.0, name="tripled"),
        )

    def build(self, shape):
        self.doubled.build(shape)
        self.tripled.build(shape)

    def call(self, inputs, training=None):
        return self.doubled(inputs) if training else self.tripled(inputs)


class Silent(keras.Model):
    """Has no argument `training`, without which Keras trains it in inference mode."""

    def __init__(self):
        super().__init__()
        self.either, self.head = Either(name="either"), kl.Dense(1)

    def call(self, inputs):
        return self.head(self.either(inputs))


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_model_without_a_training_argument_is_watched_in_the_mode_it_trains_in(run_eagerly):
    model = Silent()
    model(IMAGES)
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    monitor = NASMonitorCallback(probe_layers=["either", "tripled"], loggers=[])
    fit(model, monitor, epochs=1)
    expected = np.trace(reference(3 * IMAGES).covariance())
    assert [record.trace for record in monitor.records] == pytest.approx([expected] * 2, rel=1e-5)
    with pytest.raises(ValueError, match="'doubled' is never called"):
        fit(model, NASMonitorCallback(probe_layers=["doubled"], loggers=[]), epochs=1)


def test_compute_redundancy_leaves_the_window_open():
    class Looks(keras.callbacks.Callback):
        seen = []

        def on_train_batch_end(self, batch, logs=None):
            self.seen += [record.samples for record in monitor.compute_redundancy().values()]

    monitor = NASMonitorCallback(loggers=[])
    fit(scaling(), monitor, Looks(), epochs=1)
    assert Looks.seen == list(range(4, 44, 4))
    assert monitor.records[0].samples == 40
    with pytest.raises(ValueError, match="Expected monitor_data, or a running fit"):
        monitor.compute_redundancy()


def test_the_penalty_lowers_redundancy_and_is_logged_without_validation():
    results = {}
    for weight in (0.0, 1.0):
        keras.utils.set_random_seed(0)
        inputs = keras.Input((6,))
        probe = Probe(name="probe_wide")(kl.Dense(6)(inputs))
        model = keras.Model(inputs, kl.Dense(1)(probe))
        model.compile(keras.optimizers.Adam(1e-2), "mse")
        monitor = NASMonitorCallback(IMAGES, loggers=[], redundancy_weight=weight)
        history = fit(model, monitor, epochs=30, validation_data=(IMAGES, TARGETS)).history
        results[weight] = monitor.records[-1].redundancy_plugin
        assert ("redundancy_penalty" in history) is (weight > 0)
        assert "val_redundancy_penalty" not in history
        if weight:
            assert history["redundancy_penalty"][-1] == pytest.approx(results[weight], abs=0.3)
            assert history["loss"][0] > history["redundancy_penalty"][0]
            assert history["val_loss"][-1] == pytest.approx(
                float(np.square(model.predict(IMAGES, verbose=0) - TARGETS).mean()), rel=1e-4
            )
    assert results[1.0] < results[0.0] - 0.05


def test_warmup_grows_linearly():
    monitor = NASMonitorCallback(loggers=[], redundancy_weight=1.0, redundancy_warmup=20)
    model = scaling()
    history = fit(model, monitor, batch_size=40, epochs=30).history["redundancy_penalty"]
    score = covariance_redundancy(IMAGES)
    np.testing.assert_allclose(history[:20], score * np.arange(20) / 20, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(history[20:], score, rtol=1e-4)


def test_steps_of_an_own_optimizer_are_counted():
    class Own(keras.Model):
        def train_step(self, data):
            with tf.GradientTape() as tape:
                loss = tf.reduce_mean((self(data[0]) - data[1]) ** 2)
            for variable, gradient in zip(
                self.trainable_variables, tape.gradient(loss, self.trainable_variables), strict=True
            ):
                variable.assign(variable - 0.1 * gradient)
            return {"loss": loss}

    inputs = keras.Input((4,))
    outputs = keras.layers.Dense(1)(keras.layers.Dense(3, name="wide")(inputs))
    model = Own(inputs, outputs)
    model.compile()
    x = np.random.default_rng(0).normal(size=(40, 4)).astype("float32")
    monitor = NASMonitorCallback(probe_layers=["wide"], loggers=[])
    taps = []
    watch_end = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: taps.append(monitor._measurer.tap.batches())
    )
    model.fit(x, x[:, :1], batch_size=8, epochs=3, verbose=0, callbacks=[monitor, watch_end])
    assert taps == [5, 10, 15]
    assert monitor.step_seconds() > 0


def test_what_monitoring_took_is_said_and_estimated(capsys):
    model, monitor = scaling(), NASMonitorCallback()
    assert monitor.step_seconds() == 0
    fit(model, monitor, verbose=2)
    said = capsys.readouterr().out.splitlines()[-1]
    assert re.fullmatch(
        r"monitoring: [\d.]+ % of \d+ s, of which the part inside the steps is estimated", said
    )
    assert monitor.step_seconds() > 0
    assert monitor.seconds > 0
    before = model.get_weights()
    monitor.step_seconds()
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    watched = NASMonitorCallback(IMAGES)
    fit(model, watched, verbose=2)
    assert re.fullmatch(r"monitoring: [\d.]+ % of \d+ s", capsys.readouterr().out.splitlines()[-1])
    assert watched.step_seconds() == 0


def small(name):
    if name == "bu_net":
        return BU_Net((12, 16, 3), (4,), 4, enable_probes=True)
    return Nano_U((12, 16, 3), (4,), 4, enable_probes=True)


@pytest.mark.parametrize(
    "name, options",
    [
        *(
            pytest.param("nano_u", options, marks=[pytest.mark.slow] * ("jit_compile" in options))
            for options in OPTIONS[:3]
        ),
        *(("bu_net", options) for options in OPTIONS[:2]),  # under XLA: test_identity_grid.py
    ],
    ids=str,
)
def test_training_is_identical_to_the_bit(name, options):
    rng = np.random.default_rng(0)
    images = rng.uniform(-1, 1, (22, 12, 16, 3)).astype("float32")
    masks = (images[..., :1] > 0).astype("float32")
    results = []
    for monitor in (None, NASMonitorCallback(images[:5]), NASMonitorCallback()):
        keras.utils.set_random_seed(0)
        model = small(name)
        model.compile(
            keras.optimizers.AdamW(1e-2),
            keras.losses.BinaryCrossentropy(from_logits=True),
            **options,
        )
        model.optimizer.build(model.trainable_variables)  # else every step is traced twice
        history = model.fit(
            *(images, masks),
            batch_size=4,
            epochs=2,
            verbose=0,
            callbacks=[monitor] if monitor else [],
        ).history
        results.append((model.get_weights(), history["loss"]))
        assert (monitor is None) == ("redundancy" not in history)
    (weights, losses), *monitored = results
    for other, other_losses in monitored:
        assert other_losses == losses
        for one, two in zip(weights, other, strict=True):
            np.testing.assert_array_equal(one, two)
