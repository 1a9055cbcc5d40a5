"""Any Keras model, watched on given images."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from models import BU_Net, Nano_U
from monitoring import NASMonitorCallback, RunningCovariance, watch
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.inference import folded_batch_normalization
from monitoring.taps.layers import layer_paths
from monitoring.taps.samples import position_step
from monitoring.taps.watched import Watched


def reference(activations):
    running = RunningCovariance(activations.shape[-1])
    running.update(np.asarray(activations))
    return running


def assert_same(grouped, activations):
    expected = reference(activations)
    total = grouped.total()
    assert total.count == expected.count
    scale = np.abs(expected.covariance()).max()
    np.testing.assert_allclose(total.covariance(), expected.covariance(), atol=1e-5 * scale)


def measure(model, images, names, **options):
    return ImagesTap(Watched(model, names, **options)).measure(images)


def inner():
    return keras.Sequential([kl.Dense(6, name="mix"), kl.Dense(5, name="out")], name="inner")


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.block, self.head = inner(), kl.Dense(3, name="head")
        self.unused = kl.Dense(2, name="unused")

    def build(self, shape):
        self.block.build(shape)
        self.head.build((None, 5))
        self.unused.build(shape)

    def call(self, x, training=False):
        return self.head(self.block(x) * (2.0 if training else 1.0))


def test_functional_nested_subclassed_and_sequential(rng):
    x = rng.normal(size=(50, 4)).astype("float32")
    sequential = inner()
    sequential.build((None, 4))
    inputs = keras.Input((4,))
    nested = keras.Model(inputs, kl.Dense(2, name="head")(sequential(inputs)))
    subclassed = Subclassed()
    subclassed(x)
    subclassed.block.set_weights(sequential.get_weights())
    mixed = sequential.layers[0](x)
    for model in (sequential, nested, subclassed):
        assert_same(measure(model, x, ["mix"])["mix"], mixed)
    assert_same(measure(nested, x, ["inner/mix"])["inner/mix"], mixed)
    assert_same(measure(nested, x, ["inner"])["inner"], sequential(x))


def test_inference_mode(rng):
    x = rng.normal(size=(40, 4)).astype("float32")
    model = keras.Sequential([keras.Input((4,)), kl.BatchNormalization(name="norm")])
    before = model.get_weights()
    assert_same(measure(model, x, ["norm"])["norm"], model(x, training=False))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("images", [1, 31, 32, 33, 70])
def test_any_number_of_images_is_measured_unpadded_and_traced_at_the_first_time_alone(rng, images):
    x = rng.normal(size=(images, 6, 4)).astype("float32")
    traced = []

    @keras.saving.register_keras_serializable()
    class Counting(kl.Layer):
        def call(self, inputs):
            traced.append(inputs.shape)
            return inputs * 1.0

    model = keras.Sequential([keras.Input((6, 4)), Counting(name="watched")])
    traced.clear()
    tap = ImagesTap(Watched(model, ["watched"]))
    traces = []
    for _ in range(3):
        grouped = tap.measure(x)["watched"]
        assert_same(grouped, x)
        assert grouped.units == images
        assert len(grouped.groups.count) == min(images, 32)
        traces.append(len(traced))
    # A batch, one more image on shapes alone, and what is left over by the batches.
    assert traces == [2 + (images > 32 and images % 32 > 0)] * 3


def test_shared_layers_give_the_samples_of_every_call(rng):
    x = rng.normal(size=(10, 4)).astype("float32")
    dense, inputs = kl.Dense(4, name="twice"), keras.Input((4,))
    model = keras.Model(inputs, dense(dense(inputs)))
    both = np.concatenate([dense(x), dense(dense(x))])
    assert_same(measure(model, x, ["twice"])["twice"], both)


def test_several_inputs_and_outputs(rng):
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    joined = kl.Concatenate(name="joined")([a, b])
    model = keras.Model({"a": a, "b": b}, [kl.Dense(2)(joined), kl.Dense(1)(joined)])
    x = {"a": rng.normal(size=(40, 4)), "b": rng.normal(size=(40, 3))}
    x = {name: value.astype("float32") for name, value in x.items()}
    assert_same(measure(model, x, ["joined"])["joined"], np.concatenate([x["a"], x["b"]], axis=1))


def test_convolution_attention_and_recurrent_layers(rng):
    x = rng.normal(size=(40, 10, 8)).astype("float32")
    inputs = keras.Input((10, 8))
    attention = kl.MultiHeadAttention(2, 4, name="attention")(inputs, inputs)
    normed = kl.LayerNormalization(name="norm")(attention + inputs)
    sequence = kl.LSTM(5, return_sequences=True, name="lstm")(normed)
    last = kl.GRU(6, name="gru")(kl.Conv1D(7, 3, name="conv")(sequence))
    model = keras.Model(inputs, last)
    names = ["attention", "norm", "lstm", "conv", "gru"]
    found = measure(model, x, names)
    for name in names:
        part = keras.Model(inputs, model.get_layer(name).output)
        assert_same(found[name], part(x))


def test_channels_first_is_said(rng):
    x = rng.normal(size=(12, 3, 5, 6)).astype("float32")
    model = keras.Sequential([keras.Input((3, 5, 6)), kl.Rescaling(2.0, name="scaled")])
    found = measure(model, x, ["scaled"], data_format="channels_first")["scaled"]
    assert_same(found, np.moveaxis(2 * x, 1, -1))


@pytest.mark.parametrize("limit, step", [(400, 1), (96, 1), (95, 5), (20, 5), (15, 7), (1, 97)])
def test_some_positions_of_every_image(rng, limit, step):
    """8x12 positions: no step shares a factor with the width or is even."""
    x = rng.normal(size=(40, 8, 12, 3)).astype("float32")
    layers = [kl.Rescaling(2.0, name="scaled"), kl.Dense(1)]
    model = keras.Sequential([keras.Input((8, 12, 3)), *layers])
    found = measure(model, x, ["scaled"], max_positions=limit)["scaled"]
    assert_same(found, 2 * x.reshape(40, 96, 3)[:, ::step])
    logged = NASMonitorCallback(None, ["scaled"], loggers=[], max_positions=limit)
    model.compile("sgd", "mse")
    model.fit(x, x[..., :1], batch_size=8, shuffle=False, verbose=0, callbacks=[logged])
    batches = 2 * x.reshape(5, 8 * 96, 3)[:, ::step].reshape(-1, 3)
    assert logged.records[0].samples == len(batches)
    covariance = reference(batches).covariance()
    assert logged.records[0].trace == pytest.approx(np.trace(covariance), rel=1e-5)


def test_the_step_meets_every_row_column_and_phase():
    for shape, limit in (((60, 80), 400), ((30, 40), 400), ((240, 320), 400), ((60, 80), 100)):
        step = position_step(shape, limit)
        rows, columns = np.divmod(np.arange(0, shape[0] * shape[1], step), shape[1])
        assert len(rows) <= limit
        if limit >= max(shape):
            assert len(set(rows)) == shape[0]
            assert len(set(columns)) == shape[1]
        assert np.bincount(2 * (rows % 2) + columns % 2).min() > 0.9 * len(rows) / 4


@pytest.mark.parametrize("limit", [0, -1, 1.5, True])
def test_positions_are_counted(limit):
    model = keras.Sequential([keras.Input((4,)), kl.Dense(2)])
    with pytest.raises(ValueError, match="max_positions to be a positive integer"):
        Watched(model, max_positions=limit)


def test_the_decoder_is_not_computed_where_no_probe_asks_for_it(rng):
    model = BU_Net((24, 32, 3), (4, 4), 4, enable_probes=["encoder"])
    tap = ImagesTap(Watched(model))
    x = rng.uniform(-1, 1, (4, 24, 32, 3)).astype("float32")
    tap.measure(x)
    graph = tf.function(lambda images: tap._states.call(images)).get_concrete_function(
        tf.TensorSpec(x.shape)
    )
    convolutions = [
        op.name for op in graph.graph.get_operations() if "depthwise" in op.type.lower()
    ]
    assert len(convolutions) == 2 * 15  # once as the model has it, once with its norm folded
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2 as frozen,
    )

    kept = [n for n in frozen(graph).graph.get_operations() if "depthwise" in n.type.lower()]
    assert len(kept) == 6


def test_probes_of_a_nested_zoo_model_are_found(rng):
    inputs = keras.Input((24, 32, 3))
    model = keras.Model(inputs, Nano_U((24, 32, 3), enable_probes=True)(inputs / 2))
    assert list(Watched(model).layers) == [
        *(f"probe_encoder_{i}" for i in (1, 2, 3)),
        "probe_bottleneck",
    ]


def test_an_output_that_is_an_operation_is_watched_by_default(rng):
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.ops.concatenate([inputs, 2 * inputs], axis=-1))
    x = rng.normal(size=(40, 4)).astype("float32")
    (grouped,) = ImagesTap(Watched(model)).measure(x).values()
    assert_same(grouped, np.concatenate([x, 2 * x], axis=1))


def twins():
    inputs = keras.Input((4,))
    one, other = (
        keras.Sequential([keras.Input((4,)), kl.Dense(4, name="same")], name=name)
        for name in ("left", "right")
    )
    return keras.Model(inputs, one(inputs) + other(inputs), name="twins")


def tuples():
    inputs = keras.Input((5, 4))
    return keras.Model(inputs, kl.LSTM(3, return_state=True, name="states")(inputs)[0])


def called_subclassed():
    model = Subclassed()
    model(np.zeros((1, 4), np.float32))
    return model


@pytest.mark.parametrize(
    "model, name, says",
    [
        (twins, "same", "matches several layers of model 'twins': left/same, right/same"),
        (
            twins,
            "nothing",
            "no layer 'nothing'. Layers that can be watched: left, left/same, right, right/same.",
        ),
        (tuples, "states", "'states' returns a (list|tuple), not one tensor"),
        (
            called_subclassed,
            "unused",
            "'unused' is never called. Layers that can be watched: "
            "inner, inner/mix, inner/out, head.$",
        ),
    ],
)
@pytest.mark.parametrize("run_eagerly", [False, True])
@pytest.mark.filterwarnings("ignore:Gradients do not exist")  # of the layer never called
def test_what_cannot_be_watched_is_an_error_before_the_first_step(model, name, says, run_eagerly):
    model = model()
    model.compile("sgd", "mse", run_eagerly=run_eagerly)
    before = model.get_weights()
    shape = (8, *model.inputs[0].shape[1:]) if getattr(model, "inputs", None) else (8, 4)
    x = np.ones(shape, np.float32)
    for monitor_data in (x, None):
        with pytest.raises(ValueError, match=says):
            model.fit(
                *(x, np.ones((8, 1))),
                verbose=0,
                callbacks=[NASMonitorCallback(monitor_data, [name])],
            )
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_nothing_is_left_on_the_layers(rng):
    model = Nano_U((24, 32, 3), enable_probes=True)
    before = {path: dict(vars(layer)) for path, layer in layer_paths(model).items()}
    measure(model, rng.uniform(-1, 1, (4, 24, 32, 3)), None)
    after = {path: dict(vars(layer)) for path, layer in layer_paths(model).items()}
    assert {p: v.keys() for p, v in after.items()} == {p: v.keys() for p, v in before.items()}


def test_watch_prints_and_returns(rng, capsys):
    model = keras.applications.MobileNetV2((32, 32, 3), weights=None, include_top=False)
    inputs = keras.Input((32, 32, 3))
    outer = keras.Model(inputs, kl.GlobalAveragePooling2D()(model(inputs)))
    records = watch(outer, rng.uniform(-1, 1, (32, 32, 32, 3)), ["block_1_expand_relu", "out_relu"])
    assert [(r.probe, r.channels, r.images) for r in records] == [
        *(("block_1_expand_relu", 96, 32), ("out_relu", 1280, 32)),
    ]
    said = capsys.readouterr().out
    assert "96 channels" in said
    assert "out_relu: not enough samples: 32 of" in said


class Unbuilt(keras.Model):
    """Keras builds it by a first call, on shapes."""

    def __init__(self):
        super().__init__()
        self.block = inner()
        self.drop, self.head = kl.Dropout(0.5), kl.Dense(1)

    def call(self, x):
        return self.head(self.drop(self.block(x)))


@pytest.mark.parametrize("run_eagerly", [False, True])
def test_a_model_not_built_yet_trains_to_the_same_bits(rng, run_eagerly):
    x = rng.normal(size=(40, 4)).astype("float32")
    results = []
    for monitor in (None, NASMonitorCallback(x, ["mix"]), NASMonitorCallback(None, ["mix"])):
        keras.utils.set_random_seed(0)
        model = Unbuilt()
        model.compile("adam", "mse", run_eagerly=run_eagerly)
        callbacks = [monitor] if monitor else []
        history = model.fit(x, x[:, :1], batch_size=8, epochs=2, verbose=0, callbacks=callbacks)
        results.append((history.history["loss"], model.get_weights()))
        if monitor:
            assert {record.samples for record in monitor.records} == {40}
    (loss, weights), *watched = results
    for other_loss, other in watched:
        assert other_loss == loss
        for one, two in zip(weights, other, strict=True):
            np.testing.assert_array_equal(one, two)


def normalised(convolution, **options):
    """A model whose batch normalisation has been trained, roughly."""
    inputs = keras.Input((12, 10, 3))
    x = convolution(inputs) if convolution is not None else inputs
    norm = kl.BatchNormalization(name="norm", **options)
    model = keras.Model(inputs, kl.ReLU(name="out")(norm(x)))
    rng = np.random.default_rng(0)
    for weight in norm.weights:
        weight.assign(rng.uniform(0.5, 3, weight.shape))
    return model


@pytest.mark.parametrize(
    "convolution",
    [
        None,
        kl.Conv2D(6, 3, strides=2, padding="same", use_bias=False),
        kl.Conv2D(6, 3, dilation_rate=2, use_bias=False),
        kl.Conv2D(6, 3, groups=3, use_bias=False),
        kl.Conv2D(6, 3),
        kl.DepthwiseConv2D(3, depth_multiplier=2, strides=2, use_bias=False),
        kl.Conv2DTranspose(6, 3, strides=2, use_bias=False),
    ],
    ids=["none", "strides", "dilation", "groups", "bias", "depthwise", "transposed"],
)
@pytest.mark.parametrize("options", [{}, {"scale": False}, {"center": False}], ids=str)
def test_folded_batch_normalization_changes_no_value(rng, convolution, options):
    x = rng.normal(size=(20, 12, 10, 3)).astype("float32")
    model = normalised(convolution, **options)
    for name in ("norm", "out"):
        expected = keras.Model(model.input, model.get_layer(name).output).predict(x, verbose=0)
        assert_same(measure(model, x, [name])[name], expected)


def test_batch_normalization_is_folded_for_the_length_of_a_trace(rng):
    x = rng.normal(size=(4, 12, 10, 3)).astype("float32")
    convolution = kl.Conv2D(6, 3, use_bias=False, name="before")
    model = normalised(convolution)
    norm = model.get_layer("norm")
    with folded_batch_normalization(model):
        graph = tf.function(lambda: model(x, training=False)).get_concrete_function().graph
    assert "call" not in vars(norm)
    kinds = [operation.type for operation in graph.get_operations()]
    assert kinds.count("Conv2D") == 2 and "BiasAdd" in kinds and "FusedBatchNormV3" not in kinds
    # Both the convolution and what follows it are watched: both are right.
    found = measure(model, x, ["before", "norm"])
    for name in found:
        expected = keras.Model(model.input, model.get_layer(name).output).predict(x, verbose=0)
        assert_same(found[name], expected)


class AlwaysByTheBatch(keras.Model):
    def __init__(self):
        super().__init__(name="by_the_batch")
        self.before = kl.Conv2D(6, 3, use_bias=False)
        self.norm = kl.BatchNormalization(name="norm")

    def call(self, x):
        return self.norm(self.before(x), training=True)


def test_batch_normalization_that_is_told_to_train_is_left_as_it_is(rng):
    model = AlwaysByTheBatch()
    x = rng.normal(3, size=(20, 12, 10, 3)).astype("float32")
    expected = np.asarray(model(x))
    assert abs(expected.mean()) < 1e-3 < model.norm.moving_mean.numpy().max()
    assert_same(measure(model, x, ["norm"])["norm"], expected)


def joined_views(axis_order="views first"):
    """Two views joined along the batch axis inside the model, and parted again."""
    a, b = keras.Input((8,)), keras.Input((8,))
    both = keras.ops.concatenate([a, b], axis=0)
    if axis_order == "interleaved":
        both = keras.ops.reshape(keras.ops.stack([a, b], axis=1), (-1, 8))
    encoded = kl.Dense(5, name="encoder")(both)
    half = keras.ops.split(encoded, 2, axis=0)
    return keras.Model([a, b], keras.ops.sum(half[0] * half[1], -1, keepdims=True), name="siamese")


@pytest.mark.parametrize("pairs", [1, 32, 33, 40])
@pytest.mark.parametrize("order", ["views first", "interleaved"])
def test_rows_that_are_not_images_are_refused_on_images(rng, pairs, order):
    views = [rng.normal(size=(pairs, 8)).astype("float32") for _ in range(2)]
    with pytest.raises(ValueError, match="'encoder' returns shape .* first axis is not the batch"):
        measure(joined_views(order), views, ["encoder"])


@pytest.mark.parametrize("order", ["views first", "interleaved"])
def test_rows_that_are_not_images_are_measured_in_training_batches(rng, order):
    views = [rng.normal(size=(40, 8)).astype("float32") * scale for scale in (1, 3)]
    model = joined_views(order)
    model.compile(keras.optimizers.SGD(0.0), "mse")
    monitor = NASMonitorCallback(None, ["encoder"], loggers=[])
    model.fit(views, np.ones((40, 1)), batch_size=16, verbose=0, callbacks=[monitor])
    kernel, bias = model.get_layer("encoder").get_weights()
    expected = np.cov((np.concatenate(views) @ kernel + bias).T).trace()
    assert monitor.records[0].samples == 80
    assert monitor.records[0].trace == pytest.approx(expected, rel=1e-5)


class PositionTable(kl.Layer):
    """Returns a table of 32 rows, whatever the batch."""

    def build(self, shape):
        self.table = self.add_weight(shape=(32, shape[-1]), initializer="random_normal")

    def call(self, inputs):
        return self.table * 1.0


class WithTable(keras.Model):
    def __init__(self):
        super().__init__(name="with_table")
        self.positions, self.out = PositionTable(name="positions"), kl.Dense(2, name="out")

    def call(self, inputs):
        return self.out(inputs) + keras.ops.sum(self.positions(inputs))


def test_a_table_with_as_many_rows_as_the_batch_is_not_taken_for_it(rng):
    x = rng.normal(size=(64, 4)).astype("float32")
    model = WithTable()
    model(x[:1])
    with pytest.raises(
        ValueError, match="'positions' returns shape .* first axis is not the batch"
    ):
        measure(model, x, ["positions"])
    assert_same(measure(model, x, ["out"])["out"], model(x))


@pytest.mark.parametrize("sizes", [(8, 64), (5, 33, 1, 40), (1, 2, 3)], ids=str)
def test_a_datasets_first_batch_may_be_smaller_than_a_later_one(rng, sizes):
    model = keras.Sequential([keras.Input((6, 4)), kl.Dense(3, name="wide")])
    parts = [rng.normal(size=(size, 6, 4)).astype("float32") for size in sizes]
    found = measure(model, Batches(parts), ["wide"])["wide"]
    assert found.units == sum(sizes)
    assert_same(found, model.predict(np.concatenate(parts), verbose=0))


class Batches:
    """An iterable of arrays, as users write them."""

    def __init__(self, parts):
        self.parts = parts

    def __iter__(self):
        return iter(self.parts)


@pytest.mark.parametrize("limit", [1, 20, 50])
def test_max_positions_holds_for_images_of_varying_size(rng, limit):
    model = keras.Sequential([keras.Input((None, None, 2)), kl.Conv2D(3, 1, name="any_size")])
    shapes = [(6, 8), (10, 4), (9, 9), (30, 2), (5, 5), (7, 12), (4, 35), (1, 64), (16, 15)]
    images = [rng.normal(size=(2, *shape, 2)).astype("float32") for shape in shapes]
    found = measure(model, Batches(images), ["any_size"], max_positions=limit)["any_size"]
    chosen = []
    for image, shape in zip(images, shapes, strict=True):
        outputs = model.predict(image, verbose=0).reshape(2, -1, 3)
        chosen += list(outputs[:, :: position_step(shape, limit)])
        assert len(chosen[-1]) <= limit
    samples = np.concatenate(chosen)
    assert found.total().count == len(samples)
    np.testing.assert_allclose(found.total().covariance(), np.cov(samples.T), rtol=1e-4, atol=1e-6)
