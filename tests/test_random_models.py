"""Random models, fed in random ways: every record agrees with NumPy, and nothing else changes.

The reference is what Keras' own `Layer.__call__` returns while the model runs eagerly, in float64,
with the masks that Keras attaches to it.
"""

import functools
import gc
import os
import random
from contextlib import contextmanager

import keras
import numpy as np
import pytest
import random_layers as own
import tensorflow as tf
from keras import layers
from keras.src.backend.common.global_state import get_global_attribute
from keras.src.backend.common.symbolic_scope import in_symbolic_scope
from keras.src.random.seed_generator import global_seed_generator
from random_models import Drawn, cut, draw_feed, draw_model

from monitoring import NASMonitorCallback, watch
from monitoring.taps.image_batches import image_batches
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.watched import Watched

MODELS = int(os.environ.get("PROBE_ZOO_MODELS", "60"))
FIRST = int(os.environ.get("PROBE_ZOO_FIRST_MODEL", "1000"))
CASES = 20  # over which they are spread
TRAIN_EVERY = 16
REPEATS = 5  # TensorFlow's oneDNN does not always round alike, with or without a monitor
COARSE = {"float16": 5e-3, "bfloat16": 4e-2}

pytestmark = [
    pytest.mark.filterwarnings("ignore"),  # of Keras and TensorFlow, by what was drawn
    pytest.mark.usefixtures("quiet"),
]


@pytest.fixture
def quiet(capsys):
    """The tables that `watch` prints are not looked at."""
    yield
    capsys.readouterr()
    keras.backend.clear_session()
    gc.collect()


class Call:
    """What a layer put out in one call: values and mask, or why it is no tensor of samples."""

    def __init__(self, output, size: int):
        self.problem, self.values, self.mask, self.dtype = None, None, None, ""
        if not tf.is_tensor(output):
            self.problem = f"a {type(output).__name__}"
            return
        self.dtype = output.dtype.name
        if not output.dtype.is_floating:
            self.problem = self.dtype
        elif len(output.shape) < 2 or output.shape[0] != size:
            self.problem = f"shape {tuple(output.shape)}"
        else:
            mask = getattr(output, "_keras_mask", None)
            self.mask = None if mask is None else np.asarray(mask, bool)
            self.values = tf.cast(output, tf.float64).numpy()

    def samples(self) -> np.ndarray:
        """(samples, channels), without the steps that are masked."""
        kept = self.values if self.mask is None else self.values[self.mask]
        return kept.reshape(-1, self.values.shape[-1])


def seen_calls(drawn: Drawn, batch, *, training: bool = False) -> dict[int, list[Call]]:
    """Runs the model eagerly; returns {id of a layer: its calls}."""
    calls: dict[int, list[Call]] = {}
    original, size = layers.Layer.__call__, len(keras.tree.flatten(batch)[0])

    def spying(layer, *args, **options):
        output = original(layer, *args, **options)
        if tf.executing_eagerly():
            calls.setdefault(id(layer), []).append(Call(output, size))
        elif not in_symbolic_scope():
            calls.setdefault(id(layer), []).append(Call(None, size))
        return output

    layers.Layer.__call__ = spying
    # A training step of Keras leaves a model without the argument in inference mode.
    options = {"training": training} if drawn.model._call_has_training_arg else {}
    try:
        drawn.model(batch, **options)
    finally:
        layers.Layer.__call__ = original
    for inner, outer in drawn.inner.items():  # `TimeDistributed` calls `layer.call`
        calls[inner] = calls.get(id(outer), [])
    return calls


class Reference:
    """What every layer put out on all batches."""

    def __init__(self, drawn: Drawn, batches, *, training: bool = False):
        self.drawn, self.batches = drawn, []
        with kept_state(drawn):
            for batch in batches:
                self.batches.append(seen_calls(drawn, batch, training=training))
        if drawn.size is None:
            with kept_state(drawn):  # by chance a first axis may be as long as the batch
                batch = keras.tree.map_structure(
                    lambda array: np.concatenate([array, array[:1]]), batches[0]
                )
                self.larger = seen_calls(drawn, batch, training=training)
        else:
            self.larger = self.batches[0]

    def problem(self, layer) -> str | None:
        """Returns why a layer must be refused; None if it must be measured."""
        if id(layer) in self.drawn.unseen:
            return None if self.drawn.model.run_eagerly else "it runs in a loop"
        every = [each.get(id(layer), []) for each in (*self.batches, self.larger)]
        if not all(every):
            return "it is never called"
        found = [call.problem for calls in every for call in calls if call.problem]
        if found:
            return found[0]
        if len({call.values.shape[-1] for calls in every for call in calls}) > 1:
            return "its widths differ"
        return None if len(self.samples(layer)) else "it is masked"

    def samples(self, layer) -> np.ndarray:
        inner = id(layer) in self.drawn.inner
        parts = []
        for each in self.batches:
            for call in each[id(layer)]:
                whole = call.values.reshape(-1, call.values.shape[-1])
                parts.append(whole if inner else call.samples())
        return np.concatenate(parts)

    def tolerance(self, layer) -> float:
        """The coarsest arithmetic of the model decides."""
        names = {call.dtype for calls in self.batches[0].values() for call in calls}
        return max(self.drawn.tolerance, *(COARSE.get(name, 0.0) for name in names), 0.0)


def variables_of(drawn: Drawn) -> list:
    """Every variable: Keras', TensorFlow's own, and that of Keras' random generator."""
    found = list(drawn.model.variables)
    for layer in drawn.model._flatten_layers():
        found += [one for one in vars(layer).values() if isinstance(one, tf.Variable)]
        found += keras.tree.flatten(getattr(layer, "states", None) or [])
    generator = get_global_attribute("global_seed_generator")
    return found if generator is None else [*found, generator.state]


def state_of(drawn: Drawn) -> list:
    """The value of every variable, and of the random generators of NumPy and Python."""
    values = [np.asarray(variable).copy() for variable in variables_of(drawn)]
    return [*values, np.random.get_state()[1].copy(), np.array(random.getstate()[1])]


@contextmanager
def kept_state(drawn: Drawn):
    saved = [(variable, np.asarray(variable).copy()) for variable in variables_of(drawn)]
    try:
        yield
    finally:
        for variable, value in saved:
            variable.assign(value)


def assert_same(before: list, after: list) -> None:
    assert len(before) == len(after)
    for one, other in zip(before, after, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_agrees(samples: np.ndarray, count: int, mean, covariance, rtol: float) -> None:
    """Holds a measurement against NumPy; `rtol` also of the values from which they come."""
    assert count == len(samples), f"{count} samples, not {len(samples)}"
    assert len(mean) == samples.shape[1]
    scale = np.abs(samples).max() * rtol
    np.testing.assert_allclose(mean, samples.mean(axis=0), rtol=0, atol=scale + 1e-12)
    if len(samples) < 2:
        return
    expected = np.atleast_2d(np.cov(samples.T))
    largest = expected.diagonal().max()
    atol = rtol * largest + scale * np.sqrt(largest) + scale**2 + 1e-14
    np.testing.assert_allclose(covariance, expected, rtol=0, atol=atol)


def trace_agrees(samples, record, rtol: float) -> None:
    assert (record.samples, record.channels) == samples.shape
    if len(samples) < 2:
        return
    expected = np.trace(np.atleast_2d(np.cov(samples.T)))
    scale = np.abs(samples).max() * rtol
    atol = scale * np.sqrt(expected * samples.shape[1]) + samples.shape[1] * scale**2 + 1e-14
    assert record.trace == pytest.approx(expected, rel=rtol, abs=atol)


def choose(found: dict, rng, most: int) -> dict:
    names = sorted(found)
    picked = rng.permutation(len(names))[:most]
    return {names[number]: found[names[number]] for number in picked}


def check_model(seed: int) -> None:
    """Draws a model and a way of feeding it, and checks all that is promised."""
    rng = np.random.default_rng((seed, 2))
    drawn = draw_model(seed)
    feed = draw_feed(drawn, rng)
    what = f"model {seed} ({drawn.kind}; fed by {feed.kind})"
    try:
        names = check_measured(drawn, feed, rng)
        check_refused(drawn, feed, rng)
        if drawn.trains and seed % TRAIN_EVERY == 0 and names:
            check_training(seed, feed.steps, names)
    except Exception as error:
        raise AssertionError(f"{what}: {type(error).__name__}: {error}") from error


def check_measured(drawn: Drawn, feed, rng) -> list[str]:
    """Checks some layers; returns their names."""
    model, steps = drawn.model, feed.steps
    if not model.built:  # the first measurement builds it
        first = Watched(model, [next(iter(drawn.paths))])
        run_or_refuse(lambda: ImagesTap(first, steps).measure(feed.images))
    global_seed_generator()  # Keras makes it when it is first used
    before = state_of(drawn)
    batches = list(image_batches(without_order(feed), size=drawn.size, steps=steps))
    read = keras.tree.map_structure(lambda *parts: np.concatenate(parts), *batches)
    for one, other in zip(keras.tree.flatten(read), keras.tree.flatten(feed.data), strict=True):
        np.testing.assert_array_equal(np.asarray(one, other.dtype), other)
    reference = Reference(drawn, batches)
    assert_same(before, state_of(drawn))  # else the reference itself is wrong
    problems = {path: reference.problem(layer) for path, layer in drawn.paths.items()}
    good = {
        path: drawn.paths[path]
        for path, problem in problems.items()
        if not problem and id(drawn.paths[path]) not in drawn.unseen
    }
    chosen = choose(good, rng, 4)
    if chosen:
        check_numbers(drawn, feed, chosen, reference, rng)
    assert_same(before, state_of(drawn))
    for path in choose({path: why for path, why in problems.items() if why}, rng, 2):
        with pytest.raises(ValueError, match="(?s)cannot be watched|Nothing is left"):
            grouped = ImagesTap(Watched(model, [path]), steps).measure(feed.images)
            pytest.fail(f"'{path}' was measured, though {problems[path]}: {grouped}")
    assert_same(before, state_of(drawn))
    return list(chosen)


def without_order(feed):
    from monitoring.taps.datasets import unshuffled

    return unshuffled(feed.images)


def run_or_refuse(action) -> None:
    try:
        action()
    except ValueError as error:
        assert "cannot be watched" in str(error) or "Nothing is left" in str(error)


def check_numbers(drawn: Drawn, feed, chosen: dict, reference: Reference, rng) -> None:
    requests = [layer if rng.random() < 0.3 else path for path, layer in chosen.items()]
    watched = Watched(drawn.model, requests)
    assert list(map(id, watched.layers.values())) == list(map(id, chosen.values()))
    tap = ImagesTap(watched, feed.steps)
    first = totals(tap.measure(feed.images))
    if not repeats_itself(tap, feed.images, first):
        with sums_as_written():
            tap = ImagesTap(Watched(drawn.model, requests), feed.steps)
            once = totals(tap.measure(feed.images))
            assert repeats_itself(tap, feed.images, once), "measurements differ to the bit"
    records = watch(drawn.model, feed.images, requests, monitor_steps=feed.steps)
    for (name, layer), record in zip(watched.layers.items(), records, strict=True):
        samples, rtol = reference.samples(layer), reference.tolerance(layer)
        count, mean, covariance = first[name]
        try:
            assert record.probe == name
            assert record.images == len(keras.tree.flatten(feed.data)[0])
            assert_agrees(samples, count, mean, covariance, rtol)
            trace_agrees(samples, record, rtol)
        except AssertionError as error:
            raise AssertionError(f"'{name}': {error}") from error


def totals(measured: dict) -> dict[str, tuple]:
    found = {name: grouped.total() for name, grouped in measured.items()}
    return {name: (one.count, one.mean, one.covariance()) for name, one in found.items()}


def repeats_itself(tap: ImagesTap, images, first: dict) -> bool:
    """Returns whether a measurement comes out again to the bit, in at most `REPEATS` others."""
    return any(same_totals(first, totals(tap.measure(images))) for _ in range(REPEATS))


def same_totals(first: dict, second: dict) -> bool:
    return all(
        np.array_equal(one, other, equal_nan=True)
        for name in first
        for one, other in zip(first[name], second[name], strict=True)
    )


def check_refused(drawn: Drawn, feed, rng) -> None:
    """Draws a request that nobody can answer."""
    model, steps, path = drawn.model, feed.steps, next(iter(drawn.paths))
    first = keras.tree.flatten(feed.data)[0]
    bare = [name.rsplit("/", 1)[-1].partition("#")[0] for name in drawn.paths]
    twins = [
        name
        for name in set(bare)
        if bare.count(name) > 1 and name not in drawn.paths and "keras" not in name
    ]
    listed = "Layers that can be watched: |Its layers: "
    ways = {
        "misspelt": (feed.images, ["mispelt"], listed),
        "half a path": (feed.images, [f"/{path}/"], listed),
        "stranger": (feed.images, [layers.Dense(2, name=path.partition("#")[0])], listed),
        "no name": (feed.images, [7], "Expected a layer's name"),
        "one string": (feed.images, path, "to be a list of names"),
        "no layers": (feed.images, [], "to be a list of names"),
        "generator": (iter([feed.data]), [path], "can be read only once"),
        "no images": (cut(feed.data, 0, 0), [path], "at least one image|cannot be watched"),
        "none": (None, [path], "Expected images"),
    }
    if twins:
        ways["ambiguous"] = (feed.images, [twins[0]], "matches several layers")
    if isinstance(feed.data, (list, dict)):
        uneven = keras.tree.map_structure(
            lambda array: array[:-1] if array is first else array, feed.data
        )
        ways["uneven"] = (uneven, [path], "same number of images")
    if drawn.size:
        ways["odd"] = (cut(drawn.data, 0, drawn.size + 1), [path], f"multiple of {drawn.size}")
    for way in choose(ways, rng, 3):
        images, names, message = ways[way]
        with pytest.raises(ValueError, match=message):
            watch(model, images, names, monitor_steps=steps)
            pytest.fail(f"a request was answered: {way}")


def check_training(seed: int, steps: int | None, names: list[str]) -> None:
    """Trains with and without the monitor, on given images and on the training batches."""
    plain = train(seed, steps, names, "without")
    for kind in ("images", "batches"):
        if same_run(plain, train(seed, steps, names, kind)):
            continue
        # TensorFlow's oneDNN does not always round alike: then nothing can be said.
        repeats = [train(seed, steps, names, "without") for _ in range(REPEATS)]
        if all(same_run(plain, each) for each in repeats):
            with sums_as_written():
                plain_sums, monitored = (train(seed, steps, names, k) for k in ("without", kind))
            assert same_run(plain_sums, monitored), f"monitored by {kind}, differs"


@contextmanager
def sums_as_written():
    """Keeps TensorFlow from merging sums of sums.

    It merges them unless something reads the inner one, as the monitor does, and a merged sum
    rounds differently in the last bit. Its terms are also added in an order that depends on which
    of them another thread still reads.
    """
    tf.config.optimizer.set_experimental_options({"arithmetic_optimization": False})
    try:
        yield
    finally:
        tf.config.optimizer.set_experimental_options({"arithmetic_optimization": True})


def same_run(one: tuple, other: tuple) -> bool:
    (history, values), (other_history, other_values) = one, other
    return repr(history) == repr(other_history) and all(
        map(functools.partial(np.array_equal, equal_nan=True), values, other_values)
    )


def train(seed: int, steps: int | None, names: list[str], kind: str):
    drawn = draw_model(seed)
    feed = draw_feed(drawn, np.random.default_rng((seed, 2)))
    model, x = drawn.model, drawn.data
    targets = keras.tree.map_structure(
        lambda output: np.ones((len(keras.tree.flatten(x)[0]), *output.shape[1:]), "float32"),
        output_shapes(drawn),
    )
    losses = keras.tree.map_structure(lambda _: "mse", targets)
    model.compile("adam", losses, run_eagerly=model.run_eagerly)
    data = feed.images if kind == "images" else None
    options = {"monitor_steps": steps} if kind == "images" else {}
    monitor = NASMonitorCallback(data, names, loggers=[], **options)
    callbacks = [] if kind == "without" else [monitor]
    history = model.fit(
        x, targets, epochs=2, batch_size=drawn.size or 8, verbose=0, callbacks=callbacks
    ).history
    shared = {name: value for name, value in history.items() if not name.startswith("redundancy")}
    values = [np.asarray(variable).astype("float64") for variable in model.optimizer.variables]
    return shared, state_of(drawn) + values


def output_shapes(drawn: Drawn):
    with kept_state(drawn):
        return drawn.model(cut(drawn.data, 0, drawn.size or 2))


def check_batches(seed: int) -> None:
    """Trains at a learning rate of 0, where the last window is what the layers put out."""
    drawn = draw_model(seed)
    if not drawn.trains or not drawn.model.built:
        return
    model, x, size = drawn.model, drawn.data, drawn.size or 8
    shape = output_shapes(drawn)
    count = len(keras.tree.flatten(x)[0])
    targets = keras.tree.map_structure(
        lambda output: np.ones((count, *output.shape[1:]), "float32"), shape
    )
    losses = keras.tree.map_structure(lambda _: "mse", targets)
    rate = keras.optimizers.SGD(0.0)
    model.compile(rate, losses, run_eagerly=model.run_eagerly)
    batches = [cut(x, start, start + size) for start in range(0, count, size)]
    reference = Reference(drawn, batches, training=True)
    good = {
        path: layer
        for path, layer in drawn.paths.items()
        if not reference.problem(layer) and id(layer) not in drawn.unseen
    }
    chosen = choose(good, np.random.default_rng(seed), 3)
    if not chosen:
        return
    monitor = NASMonitorCallback(probe_layers=list(chosen), loggers=[])
    options = {"shuffle": False, "verbose": 0, "callbacks": [monitor]}
    model.fit(x, targets, batch_size=size, **options)
    assert [record.probe for record in monitor.records] == list(chosen)
    for record, layer in zip(monitor.records, chosen.values(), strict=True):
        try:
            trace_agrees(reference.samples(layer), record, reference.tolerance(layer))
        except AssertionError as error:
            raise AssertionError(
                f"model {seed} ({drawn.kind}), training batches, '{record.probe}': {error}"
            ) from error


def check(seed: int) -> None:
    check_model(seed)
    if seed % TRAIN_EVERY == 8:
        check_batches(seed)
    keras.backend.clear_session()


gc.collect()
gc.freeze()


@pytest.mark.parametrize("seed", [0, 7, 8, 9])
def test_a_random_model_is_measured_rightly(seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("case", range(CASES))
def test_random_models_are_measured_rightly(case, capsys):
    failures = []
    for seed in range(FIRST + case, FIRST + MODELS, CASES):
        try:
            check(seed)
        except AssertionError as error:
            failures.append(str(error))
        capsys.readouterr()
    assert not failures, f"{len(failures)} models:\n" + "\n".join(failures)


def test_a_mask_that_attention_takes_away_counts(rng):
    tokens = rng.integers(1, 9, (6, 5))
    tokens[:, 3:] = 0
    inputs = keras.Input((5,))
    words = layers.Embedding(9, 4, mask_zero=True, name="words")(inputs)
    model = keras.Model(inputs, layers.MultiHeadAttention(1, 4)(words, words))
    assert watch(model, tokens, ["words"])[0].samples == 18


def test_the_first_batch_of_a_sequential_model_does_not_fix_its_size(rng):
    x = rng.normal(size=(100, 4)).astype("float32")
    model = keras.Sequential([layers.Dense(3, name="wide")])
    model(x[:32])
    for _ in range(2):
        assert watch(model, x, ["wide"])[0].images == 100


def test_a_layer_that_a_loop_calls_as_well_is_refused(rng):
    x = rng.normal(size=(10, 4)).astype("float32")
    inputs = keras.Input((4,))
    looped = own.OnceAndInLoop(layers.LayerNormalization(name="inside"), name="outside")
    with pytest.raises(ValueError, match="'inside' is called inside a loop"):
        watch(keras.Model(inputs, looped(inputs)), x, ["inside"])


@pytest.mark.parametrize("where", ["weight", "trainable", "raw", "recurrent"])
def test_a_model_that_runs_eagerly_gets_every_variable_back(rng, where):
    inputs = keras.Input(batch_shape=(5, 3, 4))
    layer = layers.GRU(2, stateful=True) if where == "recurrent" else own.Counts(where)
    model = keras.Model(inputs, layer(inputs))
    model.compile(run_eagerly=True)
    (state,) = layer.states if where == "recurrent" else (layer.calls,)
    watch(model, rng.normal(size=(10, 3, 4)).astype("float32"), [layer])
    assert not np.asarray(state).any()
