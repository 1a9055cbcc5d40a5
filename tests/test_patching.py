"""What a monitor takes of a model it gives back: in any order, after any end of a fit."""

import functools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring import NASMonitorCallback
from monitoring.taps.patching import Patch

METHODS = ("train_step", "make_train_function", "make_test_function", "make_predict_function")


class Greeter:
    def greet(self, name):
        return f"hello {name}"


def marked(mark):
    return lambda original, name: f"{mark}({original(name)})"


@settings(max_examples=200, deadline=None)
@given(
    moves=st.lists(st.tuples(st.booleans(), st.integers(0, 7)), max_size=30),
    own=st.booleans(),
)
def test_patches_nest_and_are_released_in_any_order(moves, own):
    """Each move makes a patch or releases one; the others stay in force, in their order."""
    greeter = Greeter()
    if own:
        greeter.greet = lambda name: f"hi {name}"
    before, plain, patches = dict(vars(greeter)), greeter.greet("you"), {}
    for number, (makes, choice) in enumerate(moves):
        if makes:
            patches[number] = Patch(greeter, "greet", marked(number))
        elif patches:
            patches.pop(list(patches)[choice % len(patches)]).release()
        expected = functools.reduce(lambda text, mark: f"{mark}({text})", patches, plain)
        assert greeter.greet("you") == expected
    for patch in patches.values():
        patch.release()
        patch.release()
    assert vars(greeter) == before
    assert greeter.greet("you") == plain


@pytest.mark.parametrize("ours_first", [True, False])
def test_a_foreign_wrapper_stays_and_ours_leaves_no_trace(ours_first):
    greeter = Greeter()
    patch = Patch(greeter, "greet", marked("ours"))
    ours = greeter.greet

    @functools.wraps(ours)
    def foreign(name):
        return f"theirs({ours(name)})"

    greeter.greet = foreign
    late = Patch(greeter, "greet", marked("late"))
    assert greeter.greet("you") == "late(theirs(ours(hello you)))"
    for each in (patch, late) if ours_first else (late, patch):
        each.release()
    assert greeter.greet("you") == "theirs(hello you)"
    assert vars(greeter) == {"greet": foreign}
    greeter.greet = ours  # the foreign library gives back what it found
    assert greeter.greet("you") == "hello you"
    assert vars(greeter) == {}


X = np.random.default_rng(0).normal(size=(64, 8)).astype("float32")
Y = X[:, :1]


def network(**options):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, "relu", name="wide"), keras.layers.Dense(1, name="out")]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.compile("adam", "mse", **options)
    return model


def monitor(**options):
    return NASMonitorCallback(probe_layers=["wide"], loggers=[], **options)


def left_on(model):
    """What a monitor has left on a model and its layers."""
    left = [name for name in METHODS if name in vars(model)]
    left += [layer.name for layer in model.layers if {"call", "compute_loss"} & vars(layer).keys()]
    return left + [name for name in ("compute_loss",) if name in vars(model)]


OPTIONS = [
    {},
    {"monitor_frequency": "batch"},
    {"redundancy_weight": 0.1},
    {"monitor_data": X},
    {"monitor_data": X, "redundancy_weight": 0.1},
    {"monitor_frequency": "batch", "log_frequency": 2},
]


@settings(max_examples=4, deadline=None)
@given(kinds=st.lists(st.sampled_from(OPTIONS), min_size=2, max_size=4))
def test_any_number_of_monitors_share_a_fit_and_leave_nothing(kinds):
    model, callbacks = network(), [monitor(**options) for options in kinds]
    function = model.make_train_function() or model.train_function
    model.fit(X, Y, epochs=2, batch_size=16, verbose=0, callbacks=callbacks)
    assert left_on(model) == []
    assert model.train_function is function
    for options, callback in zip(kinds, callbacks, strict=True):
        epochs = {record.epoch for record in callback.records}
        assert epochs == ({-1, 0, 1} if "monitor_data" in options else {0, 1})
    assert "redundancy_penalty" not in model.fit(X, Y, verbose=0).history
    first = callbacks[0].records
    alone = monitor(**kinds[0])
    if not any(options.get("redundancy_weight") for options in kinds):
        again = network()
        again.fit(X, Y, epochs=2, batch_size=16, verbose=0, callbacks=[alone])
        assert [r.redundancy_score for r in alone.records] == [r.redundancy_score for r in first]


class Interrupted(BaseException):
    """As a KeyboardInterrupt, which would stop pytest itself."""


class Interrupts(keras.callbacks.Callback):
    """Raises in one hook of the third batch or the second epoch."""

    def __init__(self, hook):
        super().__init__()
        self.hook = hook

    def _maybe(self, hook, number):
        if hook == self.hook and number:
            raise Interrupted

    def on_train_batch_begin(self, batch, logs=None):
        self._maybe("on_train_batch_begin", batch == 2)

    def on_train_batch_end(self, batch, logs=None):
        self._maybe("on_train_batch_end", batch == 2)

    def on_epoch_begin(self, epoch, logs=None):
        self._maybe("on_epoch_begin", epoch == 1)

    def on_epoch_end(self, epoch, logs=None):
        self._maybe("on_epoch_end", epoch == 1)

    def on_test_end(self, logs=None):
        self._maybe("on_test_end", True)


class FailsInside(keras.layers.Layer):
    """Raises while it is called, so that the exception passes the training step."""

    def call(self, inputs, training=None):
        if training:
            raise ValueError("broken layer")
        return inputs


def interrupt(model, callback, how):
    """Runs a fit that ends early, and returns whether the exception passed the training step."""
    callbacks = [callback, Interrupts(how)]
    data = {"x": X, "y": Y, "batch_size": 16}
    if how == "data":

        def batches():
            yield X[:16], Y[:16]
            raise RuntimeError("no more data")

        data = {"x": batches(), "steps_per_epoch": 3}
    with pytest.raises((Interrupted, Exception)):
        model.fit(**data, epochs=3, verbose=0, validation_data=(X, Y), callbacks=callbacks)


USES = {
    "fit": lambda model: model.fit(X, Y, verbose=0),
    "fit with it": lambda model: model.fit(X, Y, verbose=0, callbacks=[monitor()]),
    "evaluate": lambda model: model.evaluate(X, Y, verbose=0),
    "predict": lambda model: model.predict(X, verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(X, Y),
}


@pytest.mark.parametrize(
    "how", ["on_train_batch_begin", "on_train_batch_end", "on_epoch_end", "on_test_end", "data"]
)
@pytest.mark.parametrize("use", USES)
def test_an_interrupted_fit_lets_go_before_the_model_is_next_used(how, use):
    model, callback = network(), monitor(redundancy_weight=0.1)
    interrupt(model, callback, how)
    seen = []
    layer = model.get_layer("wide")
    call = layer.call
    layer.call = lambda *args, **kwargs: (seen.append(left_on(model)), call(*args, **kwargs))[1]
    result = USES[use](model)
    del layer.call
    if use != "fit with it":
        assert seen and not any({"train_step"} & set(names) for names in seen)
    assert left_on(model) == []
    if use == "fit":
        assert "redundancy_penalty" not in result.history
    assert "redundancy_penalty" not in model.fit(X, Y, verbose=0).history


@pytest.mark.parametrize("eager", [False, True])
def test_an_exception_that_passes_the_training_step_releases_it_at_once(eager):
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(16, name="wide"), FailsInside(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((8,)), *layers])
    model.compile("adam", "mse", run_eagerly=eager)
    with pytest.raises(ValueError, match="broken layer"):
        model.fit(X, Y, verbose=0, callbacks=[monitor(redundancy_weight=0.1), monitor()])
    assert left_on(model) == []


def test_after_an_interrupt_a_fit_is_the_one_of_a_model_never_watched():
    """The bits of weights and history, though the interrupted fit had a penalty."""
    histories, weights = [], []
    for watched in (True, False):
        model = network()
        if watched:
            start = model.get_weights()
            interrupt(model, monitor(redundancy_weight=0.5), "on_train_batch_end")
            model.set_weights(start)
            model.compile("adam", "mse")
        keras.utils.set_random_seed(1)
        histories.append(model.fit(X, Y, epochs=2, batch_size=16, verbose=0).history)
        weights.append(model.get_weights())
    assert histories[0] == histories[1]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_happens_inside_a_fit_does_not_release_its_step():
    """Validation, predictions in hooks and a training function asked for anew."""

    class Busy(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.predict(X[:4], verbose=0)
            self.model.evaluate(X[:4], Y[:4], verbose=0)
            self.model.make_train_function(force=True)

    model, watched = network(), monitor()
    function = model.make_train_function() or model.train_function
    data = {"validation_data": (X, Y), "batch_size": 16, "verbose": 0}
    model.fit(X, Y, epochs=3, callbacks=[watched, Busy()], **data)
    assert [record.epoch for record in watched.records] == [0, 1, 2]
    assert {record.samples for record in watched.records} == {64}
    assert left_on(model) == []
    assert model.train_function is not function  # it was outdated when a new one was asked for


def test_a_monitor_detached_in_mid_fit_leaves_the_other_at_work():
    class Detaches(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                early.detach()

    model, early, late = network(), monitor(), monitor()

    class Early(NASMonitorCallback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 0:
                super().on_epoch_begin(epoch, logs)

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 0:
                super().on_epoch_end(epoch, logs)

    early = Early(probe_layers=["wide"], loggers=[])
    model.fit(X, Y, epochs=3, verbose=0, callbacks=[early, late, Detaches()])
    assert [record.epoch for record in early.records] == [0]
    assert [record.epoch for record in late.records] == [0, 1, 2]
    assert left_on(model) == []


@pytest.mark.parametrize("data", [None, X], ids=["batches", "images"])
def test_keras_own_custom_loop_needs_no_params(data):
    model, watched = network(), monitor(monitor_data=data)
    callbacks = keras.callbacks.CallbackList([watched], model=model)
    callbacks.on_train_begin()
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for step in range(4):
            callbacks.on_train_batch_begin(step)
            part = slice(16 * step, 16 * step + 16)
            logs = model.train_on_batch(X[part], Y[part], return_dict=True)
            callbacks.on_train_batch_end(step, logs)
        model.evaluate(X, Y, verbose=0)
        callbacks.on_epoch_end(epoch, logs)
    callbacks.on_train_end()
    expected = [0, 1] if data is None else [-1, 0, 1]
    assert [record.epoch for record in watched.records] == expected
    assert {record.samples for record in watched.records} == {64}
    assert left_on(model) == []


def test_a_custom_loop_that_was_left_ends_when_a_fit_begins():
    model, watched = network(), monitor()
    keras.callbacks.CallbackList([watched], model=model).on_train_begin()
    model.train_on_batch(X, Y)
    assert "train_step" in left_on(model)
    model.fit(X, Y, verbose=0)
    assert left_on(model) == []


@pytest.mark.parametrize("frequency", ["epoch", "batch"])
def test_the_batch_hook_of_a_subclass_runs(frequency):
    calls = []

    class Mine(NASMonitorCallback):
        def on_train_batch_end(self, batch, logs=None):
            calls.append((batch, sorted(logs)))
            super().on_train_batch_end(batch, logs)

    mine = Mine(probe_layers=["wide"], loggers=[], monitor_frequency=frequency)
    network().fit(X, Y, epochs=2, batch_size=16, verbose=0, callbacks=[mine])
    assert calls == [(batch, ["loss"]) for batch in range(4)] * 2
    assert len(mine.records) == (2 if frequency == "epoch" else 8)


def test_epoch_cadence_costs_keras_no_batch_hook(monkeypatch):
    """Keras (on JAX) waits for the device at each batch if a callback needs the batch's logs."""
    monkeypatch.setattr(keras.src.backend, "IS_THREAD_SAFE", True)

    class OtherHook(NASMonitorCallback):
        def on_test_batch_end(self, batch, logs=None):
            pass

    def waits(callback):
        return not keras.callbacks.CallbackList([callback], model=network())._async_train

    assert not waits(monitor())
    assert not waits(monitor(monitor_data=X))
    assert waits(monitor(monitor_frequency="batch"))
    assert waits(OtherHook(probe_layers=["wide"]))


class Fails:
    """A logger whose `close`, or `write`, fails."""

    def __init__(self, name, *, fails=""):
        self.name, self.fails, self.closed = name, fails, 0

    def write(self, record, snapshot):
        if self.fails == "write":
            raise OSError(f"{self.name} cannot write")

    def close(self):
        self.closed += 1
        if self.fails == "close":
            raise OSError(f"{self.name} cannot close")


@pytest.mark.parametrize("fails", ["write", "close"])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_loggers_failure_leaves_no_other_open(fails, place):
    loggers = [Fails(str(number), fails=fails if number == place else "") for number in range(3)]
    watched = NASMonitorCallback(X, ["wide"], loggers=loggers)
    model = network()
    with pytest.raises(OSError, match=f"{place} cannot {fails}"):
        model.fit(X, Y, verbose=0, callbacks=[watched])
    watched.detach()
    assert [logger.closed for logger in loggers] == [1, 1, 1]
    assert left_on(model) == []
