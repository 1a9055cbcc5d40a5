"""What is measured on anybody's model: the right numbers, or a refusal in words that lead on."""

import itertools

import keras
import numpy as np
import pandas
import pytest
import tensorflow as tf
from keras import layers, ops
from random_layers import MarksPadding

from monitoring import NASMonitorCallback, watch
from monitoring.statistics.regularizer import batch_redundancy
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.watched import Watched


@pytest.fixture
def x(rng):
    return rng.normal(size=(40, 8)).astype("float32")


def trace(samples):
    """NumPy's trace of the covariance of samples (samples, channels)."""
    return np.trace(np.atleast_2d(np.cov(np.asarray(samples, np.float64).T)))


def dense(batch=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=(batch, 8))
    hidden = layers.Dense(4, "relu", name="wide")(inputs)
    model = keras.Model(inputs, layers.Dense(1, name="out")(hidden))
    model.compile("adam", "mse")
    return model


def wide_of(model, x):
    kernel, bias = model.get_layer("wide").get_weights()
    return np.maximum(x @ kernel + bias, 0)


class Sampling(layers.Layer):
    """Draws around its inputs, as a variational autoencoder does."""

    def __init__(self, seeded=True, **options):
        super().__init__(**options)
        self.seed = keras.random.SeedGenerator(7) if seeded else None

    def call(self, inputs):
        return inputs + keras.random.normal(ops.shape(inputs), seed=self.seed)


class Counting(layers.Layer):
    """Counts its calls in a weight, in a trainable weight, and in a variable of TensorFlow's."""

    def build(self, shape):
        self.calls = self.add_weight(shape=(), initializer="zeros", trainable=False)
        self.others = self.add_weight(shape=(), initializer="zeros")
        self.raw = tf.Variable(0.0)

    def call(self, inputs):
        self.calls.assign_add(1.0)
        self.others.assign_add(1.0)
        self.raw.assign_add(1.0)
        return inputs * (1 + 0.01 * self.calls) + 0.01 * self.raw


class Averaging(layers.Layer):
    """Keeps a running mean of its inputs, also at inference, through a condition."""

    def build(self, shape):
        self.mean = self.add_weight(shape=shape[1:], initializer="zeros", trainable=False)

    def call(self, inputs):
        new = ops.cond(ops.sum(inputs) > -1e9, lambda: ops.mean(inputs, axis=0), lambda: self.mean)
        self.mean.assign(0.9 * self.mean + 0.1 * new)
        return inputs - self.mean


MOVING = {
    "dropout": lambda h: layers.Dropout(0.5)(h, training=True),
    "batch statistics": lambda h: layers.BatchNormalization()(h, training=True),
    "draws": lambda h: Sampling()(h),
    "draws without a seed": lambda h: Sampling(seeded=False)(h),
    "counts": lambda h: Counting()(h),
    "averages": lambda h: Averaging()(h),
}


def moving(kind):
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    hidden = MOVING[kind](layers.Dense(6, name="wide")(inputs))
    model = keras.Model(inputs, layers.Dense(1)(layers.Activation("relu", name="end")(hidden)))
    model.compile("adam", "mse")
    return model


@pytest.mark.filterwarnings("ignore:Gradients do not exist")
@pytest.mark.parametrize("kind", MOVING)
def test_a_measurement_moves_nothing(x, kind):
    found = []
    for on in (False, True):
        model = moving(kind)
        monitor = [NASMonitorCallback(x, ["wide", "end"], loggers=[])] if on else []
        history = model.fit(x, x[:, :1], epochs=2, batch_size=16, verbose=0, callbacks=monitor)
        raw = [layer.raw.numpy() for layer in model.layers if isinstance(layer, Counting)]
        found.append((history.history["loss"], raw, [v.numpy() for v in model.variables]))
    assert found[0][:2] == found[1][:2]
    for plain, watched in zip(found[0][2], found[1][2], strict=True):
        np.testing.assert_array_equal(plain, watched)


@pytest.mark.parametrize("kind", MOVING)
def test_two_measurements_agree_to_the_bit(x, kind):
    model = moving(kind)
    first, second = (watch(model, x, ["wide", "end"]) for _ in range(2))
    values = [
        [(r.trace, r.redundancy_score, r.samples) for r in records] for records in (first, second)
    ]
    assert values[0] == values[1]


def test_state_that_a_recurrent_layer_carries_is_kept(rng):
    x = rng.normal(size=(32, 5, 3)).astype("float32")
    keras.utils.set_random_seed(0)
    inputs = keras.Input(batch_shape=(8, 5, 3))
    hidden = layers.LSTM(4, stateful=True, return_sequences=True, name="memory")(inputs)
    model = keras.Model(inputs, layers.Dense(1)(hidden))
    model.predict(x[:8], verbose=0)
    before = [variable.numpy() for variable in model.variables]
    (record,) = watch(model, x, ["memory"])
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value)
    outputs = keras.Model(inputs, hidden).predict(x, batch_size=8, verbose=0)
    assert record.trace == pytest.approx(trace(outputs.reshape(-1, 4)), rel=1e-5)


def test_a_fixed_batch_size_is_the_one_measured_at(x):
    model = dense(batch=10)
    (record,) = watch(model, x, ["wide"])
    assert record.images == 40
    assert record.trace == pytest.approx(trace(wide_of(model, x)), rel=1e-5)
    with pytest.raises(ValueError, match="takes batches of 10 images.*multiple of 10.*: 25"):
        watch(model, x[:25], ["wide"])


class Batches(keras.utils.PyDataset):
    def __init__(self, x, count=4):
        super().__init__()
        self.x, self.count = x, count

    @property
    def num_batches(self):
        return self.count

    def __getitem__(self, number):
        return self.x[number * 10 : number * 10 + 10], np.zeros(10)


def growing(x):
    parts = [x[:3], x[3:20], x[20:]]
    signature = tf.TensorSpec((None, 8))
    return tf.data.Dataset.from_generator(lambda: iter(parts), output_signature=signature)


FED = {
    "array": lambda x: x,
    "double precision": lambda x: x.astype("float64"),
    "list of one": lambda x: [x],
    "tensor": tf.constant,
    "table": pandas.DataFrame,
    "dataset": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(16),
    "growing batches": growing,
    "pairs": lambda x: tf.data.Dataset.from_tensor_slices((x, x[:, 0])).batch(7),
    "shuffled pairs": lambda x: tf.data.Dataset.from_tensor_slices((x, x)).shuffle(40).batch(7),
    "one by one": Batches,
}


@pytest.mark.filterwarnings("ignore:The structure of `inputs`")
@pytest.mark.parametrize("kind", FED)
def test_what_predict_takes_is_measured(x, kind):
    model = dense()
    (record,) = watch(model, FED[kind](x), ["wide"])
    assert (record.images, record.samples) == (40, 40)
    assert record.trace == pytest.approx(trace(wide_of(model, x)), rel=1e-5)


def test_a_column_of_a_table_is_one_input(rng):
    column = pandas.Series(rng.normal(size=30).astype("float32"))
    model = keras.Sequential([keras.Input((1,)), layers.Dense(3, name="wide")])
    (record,) = watch(model, column, ["wide"])
    assert record.trace == pytest.approx(trace(model.predict(column, verbose=0)), rel=1e-5)


def test_images_of_keras_old_generator_are_read_once_each(rng):
    images = rng.uniform(size=(20, 8, 8, 3)).astype("float32")
    flow = tf.keras.preprocessing.image.ImageDataGenerator(horizontal_flip=True).flow(
        images, np.zeros(20), batch_size=8
    )
    inputs = keras.Input((8, 8, 3))
    outputs = layers.Conv2D(4, 3, name="conv")(inputs)
    before = np.random.get_state()[1].copy()
    assert watch(keras.Model(inputs, outputs), flow, ["conv"])[0].images == 20
    np.testing.assert_array_equal(np.random.get_state()[1], before)


ENDLESS = {
    "dataset": lambda x: tf.data.Dataset.from_tensor_slices(x).batch(10).repeat(),
    "one by one": lambda x: Batches(x, count=None),
}


@pytest.mark.parametrize("kind", ENDLESS)
def test_endless_images_are_refused_or_bounded(x, kind):
    model, images = dense(), ENDLESS[kind](x)
    with pytest.raises(ValueError, match="repeats forever. Give monitor_steps"):
        watch(model, images, ["wide"])
    (record,) = watch(model, images, ["wide"], monitor_steps=2)
    assert record.images == 20
    monitor = NASMonitorCallback(images, ["wide"], loggers=[], monitor_steps=3)
    model.fit(x, x[:, :1], verbose=0, callbacks=[monitor])
    assert [record.images for record in monitor.records] == [30, 30]


def test_images_of_unknown_number_may_not_go_on_for_ever(x, monkeypatch):
    monkeypatch.setattr("monitoring.taps.image_batches.UNKNOWN_BATCHES", 5)
    signature = tf.TensorSpec((None, 8))
    images = tf.data.Dataset.from_generator(lambda: itertools.repeat(x), output_signature=signature)
    with pytest.raises(ValueError, match="not ended after 5 batches: give monitor_steps"):
        watch(dense(), images, ["wide"])


@pytest.mark.parametrize("steps", [0, -1, 1.5, True])
def test_an_impossible_number_of_steps_is_refused(steps):
    with pytest.raises(ValueError, match="Expected monitor_steps to be a positive integer"):
        NASMonitorCallback(monitor_steps=steps)


def test_a_list_of_batches_is_not_a_list_of_inputs(x):
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, name="wide")])
    with pytest.raises(ValueError, match="has 1 inputs. Received: a list of 2 arrays"):
        watch(model, [x[:20], x[20:]], ["wide"])


def test_measuring_the_training_data_leaves_their_order(x):
    losses = []
    for on in (False, True):
        keras.utils.set_random_seed(2)
        model = dense()
        pairs = tf.data.Dataset.from_tensor_slices((x, x[:, :1])).shuffle(40).batch(8)
        monitor = [NASMonitorCallback(pairs, ["wide"], loggers=[])] if on else []
        losses.append(
            model.fit(pairs, epochs=3, shuffle=False, verbose=0, callbacks=monitor).history["loss"]
        )
    assert losses[0] == losses[1]


def padded(rng, count=64, length=20, left=False):
    tokens = rng.integers(1, 50, (count, length))
    for row, real in zip(tokens, rng.integers(2, 6, count), strict=True):
        row[: length - real] if left else row[real:]
        row[slice(None, length - real) if left else slice(real, None)] = 0
    return tokens


def recurrent():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((20,))
    embedded = layers.Embedding(50, 8, mask_zero=True, name="words")(inputs)
    hidden = layers.LSTM(8, return_sequences=True, name="steps")(embedded)
    mixed = layers.Dense(5, name="mixed")(hidden)
    model = keras.Model(inputs, layers.Dense(1)(layers.LSTM(4, name="last")(mixed)))
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize("left", [False, True])
def test_masked_steps_are_no_samples(rng, left):
    tokens, model = padded(rng, left=left), recurrent()
    names = ["words", "steps", "mixed"]
    measured = ImagesTap(Watched(model, [*names, "last"])).measure(tokens)
    for name in names:
        outputs = keras.Model(model.input, model.get_layer(name).output).predict(tokens, verbose=0)
        real = outputs[tokens != 0].astype(np.float64)
        total = measured[name].total()
        assert total.count == len(real) == (tokens != 0).sum()
        np.testing.assert_allclose(total.mean, real.mean(axis=0), atol=1e-7)
        np.testing.assert_allclose(total.covariance(), np.cov(real.T), rtol=1e-4, atol=1e-9)
    assert measured["last"].total().count == len(tokens)  # one row for each text


def test_masked_steps_of_training_batches_are_no_samples(rng):
    tokens, model = padded(rng), recurrent()
    model.compile(keras.optimizers.SGD(0.0), "mse")
    monitor = NASMonitorCallback(probe_layers=["steps"], loggers=[])
    model.fit(tokens, np.zeros((64, 1)), batch_size=16, verbose=0, callbacks=[monitor])
    outputs = keras.Model(model.input, model.get_layer("steps").output).predict(tokens, verbose=0)
    (record,) = monitor.records
    assert record.samples == (tokens != 0).sum()
    assert record.trace == pytest.approx(trace(outputs[tokens != 0]), rel=1e-5)


def test_a_mask_of_steps_holds_for_all_positions_of_a_step(rng):
    frames = rng.normal(size=(6, 4, 5, 5, 2)).astype("float32")
    frames[:, 2:] = 0  # what Masking takes for padding
    inputs = keras.Input((4, 5, 5, 2))
    flat = layers.Masking()(layers.Reshape((4, 50))(inputs))
    images = layers.TimeDistributed(layers.Reshape((5, 5, 2)))(flat)
    outputs = layers.TimeDistributed(layers.Conv2D(3, 2), name="conv")(images)
    (record,) = watch(keras.Model(inputs, outputs), frames, ["conv"])
    expected = keras.Model(inputs, outputs).predict(frames, verbose=0)[:, :2]
    assert record.samples == expected[..., 0].size
    assert record.trace == pytest.approx(trace(expected.reshape(-1, 3)), rel=1e-5)


class MarksFirst(keras.Model):
    """Keras builds it at its first call."""

    def __init__(self):
        super().__init__()
        self.marks, self.norm = MarksPadding(name="marks"), layers.LayerNormalization(name="norm")

    def call(self, inputs):
        return self.norm(self.marks(inputs))


@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.parametrize("source", ["images", "batches"])
def test_a_model_not_built_yet_may_mask_its_own_inputs(rng, source, run_eagerly):
    steps = rng.normal(size=(16, 5, 4)).astype("float32")
    steps[:, 3:] = 0
    model = MarksFirst()
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    images = steps if source == "images" else None
    monitor = NASMonitorCallback(images, ["marks", "norm"], loggers=[])
    model.fit(steps, steps, batch_size=8, verbose=0, callbacks=[monitor])
    assert {record.samples for record in monitor.records} == {16 * 3}
    assert monitor.records[-2].probe == "marks"
    assert monitor.records[-2].trace == pytest.approx(trace(steps[:, :3].reshape(-1, 4)), rel=1e-5)


def test_nothing_but_padding_is_refused():
    with pytest.raises(ValueError, match="to measure of words: Keras masks every step"):
        watch(recurrent(), np.zeros((4, 20)), ["words"])


def test_the_penalty_does_not_see_what_is_masked(rng):
    samples = rng.normal(size=(50, 4)).astype("float32")
    valid = rng.random(50) < 0.5
    found = batch_redundancy(np.where(valid[:, None], samples, 100), valid)
    assert float(found) == pytest.approx(float(batch_redundancy(samples[valid])), rel=1e-5)


@pytest.mark.parametrize("count", [32, 33, 40])
def test_two_batches_joined_in_one_are_refused(rng, count):
    a, b = (rng.normal(size=(count, 8)).astype("float32") for _ in range(2))
    left, right = keras.Input((8,)), keras.Input((8,))
    both = layers.Dense(5, name="both")(ops.concatenate([left, right], axis=0))
    first, second = ops.split(both, 2, axis=0)
    model = keras.Model([left, right], ops.sum(first * second, -1, keepdims=True))
    with pytest.raises(ValueError, match="'both' returns shape .*: its first axis is not the"):
        watch(model, [a, b], ["both"])


@pytest.mark.filterwarnings("ignore:Layer InputLayer does not have a `quantize`")
def test_quantized_layers_are_watched(x):
    model = dense()
    model.quantize("int8")
    (record,) = watch(model, x, ["wide"])
    hidden = keras.Model(model.input, model.get_layer("wide").output).predict(x, verbose=0)
    assert record.trace == pytest.approx(trace(hidden), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_a_quantized_layer_is_watched_inside_a_wrapper(rng):
    x = rng.normal(size=(12, 3, 8)).astype("float32")
    inputs = keras.Input((3, 8))
    each = layers.TimeDistributed(layers.Dense(4, name="inner"), name="each")
    model = keras.Model(inputs, each(inputs))
    model.quantize("int8")
    expected = model.predict(x, verbose=0).reshape(-1, 4)  # Keras 3.15 forgets the scale here
    for record in watch(model, x, ["inner", "each"]):
        assert record.samples == 36
        assert record.trace == pytest.approx(trace(expected), rel=1e-5)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize`")
def test_a_quantized_call_that_uses_call_is_counted_once(x):
    class Rounded(layers.Dense):
        def _int8_call(self, inputs, training=None):
            return ops.round(self.call(inputs))

    inputs = keras.Input((8,))
    model = keras.Model(inputs, Rounded(4, name="rounded")(inputs))
    model.quantize("int8", type_check=False)
    (record,) = watch(model, x, ["rounded"])
    assert record.samples == 40
    assert record.trace == pytest.approx(trace(model.predict(x, verbose=0)), rel=1e-5)


def test_rematerialised_layers_are_counted_once(x):
    with keras.RematScope(mode="full"):
        model = dense()
    model.compile(keras.optimizers.SGD(0.0), "mse", run_eagerly=True)  # Keras trains it so alone
    for images in (None, x):
        monitor = NASMonitorCallback(images, ["wide"], loggers=[])
        model.fit(x, x[:, :1], batch_size=8, verbose=0, callbacks=[monitor])
        assert monitor.records[-1].samples == 40
        assert monitor.records[-1].trace == pytest.approx(trace(wide_of(model, x)), rel=1e-5)


def test_inside_a_compiled_call_is_refused_by_the_name_of_the_call(x):
    class Compiled(keras.Model):
        def __init__(self):
            super().__init__(name="compiled")
            self.wide = layers.Dense(4, name="wide")

        @tf.function
        def call(self, inputs):
            return self.wide(inputs)

    model = Compiled()
    for _ in range(2):  # traced now, and traced before
        with pytest.raises(ValueError, match="'wide' is called inside 'compiled', whose call has"):
            watch(model, x, ["wide"])
        model(x)


class Block(layers.Layer):
    def __init__(self, **options):
        super().__init__(**options)
        self.mix = layers.Dense(6, name="mix")

    def call(self, inputs):
        return self.mix(inputs)


def test_layers_of_one_path_are_numbered(x):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.blocks = [Block(name="block") for _ in range(3)]

        def call(self, inputs):
            for block in self.blocks:
                inputs = block(inputs)
            return inputs

    model = Net()
    model(x[:1])
    with pytest.raises(ValueError, match="matches several .*: block#1/mix, block#2/mix, block#3"):
        watch(model, x, ["block/mix"])
    hidden = x
    for number, block in enumerate(model.blocks, 1):
        hidden = np.asarray(block(hidden))
        for name in (f"block#{number}/mix", block.mix):
            (record,) = watch(model, x, [name])
            assert record.probe == f"block#{number}/mix"
            assert record.trace == pytest.approx(trace(hidden), rel=1e-5)


@pytest.mark.parametrize("built", ["with Input", "by build", "by fit"])
def test_a_misspelt_name_lists_what_there_is(rng, built):
    x = rng.uniform(size=(8, 9, 9, 3)).astype("float32")
    inputs = keras.Input((9, 9, 3))
    base = keras.Model(inputs, layers.Conv2D(4, 3, name="conv")(inputs), name="base")
    parts = [base, layers.GlobalAveragePooling2D(name="pool"), layers.Dense(1, name="end")]
    model = keras.Sequential([keras.Input((9, 9, 3)), *parts] if built == "with Input" else parts)
    if built == "by build":
        model.build((None, 9, 9, 3))
    model.compile("adam", "mse")
    listed = "has no layer 'convv'. Layers that can be watched: base, base/conv, pool, end."
    with pytest.raises(ValueError, match=listed):
        monitor = NASMonitorCallback(x, ["convv"], loggers=[])
        model.fit(x, np.ones((8, 1)), verbose=0, callbacks=[monitor])


def test_a_misspelt_name_where_no_layer_runs_on_shapes_lists_all(rng):
    model = keras.Sequential(
        [
            keras.Input((None, None, 3)),
            layers.Conv2D(3, 1, name="conv"),
            layers.UpSampling2D(interpolation="bilinear", name="larger"),
        ]
    )
    with pytest.raises(ValueError, match="has no layer 'nope'. Its layers: conv, larger"):
        watch(model, rng.uniform(size=(4, 6, 6, 3)), ["nope"])


@pytest.mark.parametrize("name", [None, 3, layers.Dense(2, name="stranger"), b"wide"])
def test_what_is_no_name_is_refused(x, name):
    with pytest.raises(ValueError, match="Expected a layer's name|'stranger' is not part of"):
        watch(dense(), x, [name])
    with pytest.raises(ValueError, match="to be a list of names"):
        watch(dense(), x, "wide")


def test_outputs_in_a_dict_list_what_can_be_watched_inside(rng):
    inputs = keras.Input((6, 6, 3))
    outputs = {name: layers.Conv2D(2, 1, name=name)(inputs) for name in ("main", "aux")}
    model = keras.Model(inputs, outputs, name="deep")
    images = rng.uniform(size=(5, 6, 6, 3)).astype("float32")
    with pytest.raises(
        ValueError, match="'deep' returns a dict, not one tensor. .* watched: aux, main"
    ):
        watch(model, images)
    assert [record.probe for record in watch(model, images, ["main", "aux"])] == ["main", "aux"]


def test_a_task_preprocesses_what_is_measured_as_what_is_predicted(rng):
    class Task(keras.Model):
        """Preprocesses in `predict`, not in `call`, as a task of KerasHub does."""

        def __init__(self, **options):
            super().__init__(**options)
            self.preprocessor = layers.Rescaling(1 / 255)

        def preprocess_samples(self, x, y=None, sample_weight=None):
            x = self.preprocessor(x)
            return x if y is None else (x, y)

    inputs = keras.Input((6, 6, 3))
    model = Task(inputs=inputs, outputs=layers.Conv2D(4, 3, name="conv")(inputs))
    images = rng.integers(0, 256, (10, 6, 6, 3)).astype("uint8")
    (record,) = watch(model, images, ["conv"])
    expected = model.predict(images / 255, verbose=0).reshape(-1, 4)
    assert record.trace == pytest.approx(trace(expected), rel=1e-4)


def test_a_wrapped_layer_is_measured_where_it_is_called(rng):
    x = rng.normal(size=(12, 3, 8)).astype("float32")
    inputs = keras.Input((3, 8))
    inner = layers.Dense(4, name="inner")
    hidden = layers.TimeDistributed(inner, name="each")(inputs)
    both = layers.Bidirectional(layers.LSTM(2, return_sequences=True, name="way"), name="both")
    core = layers.SpectralNormalization(layers.Dense(3, name="core"), name="normal")
    model = keras.Model(inputs, core(both(hidden)))
    records = {r.probe: r for r in watch(model, x, ["inner", "each", "both", "normal", "core"])}
    outputs = keras.Model(inputs, [hidden, both(hidden), model.output]).predict(x, verbose=0)
    expected = dict(zip(("each", "both", "normal"), outputs, strict=True))
    for name, twin in (("each", "inner"), ("both", "both"), ("normal", "core")):
        wanted = trace(expected[name].reshape(-1, expected[name].shape[-1]))
        assert records[name].trace == pytest.approx(wanted, rel=1e-5)
        assert records[twin].trace == pytest.approx(wanted, rel=1e-5)
