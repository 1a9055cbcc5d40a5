"""Moments of what layers read, against NumPy in float64 and against the layers themselves."""

import itertools
import random

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as kl

from monitoring import InputMoments
from monitoring.taps import input_states
from monitoring.taps.kernel_rows import kernel_matrix, kernel_rows, position_count
from monitoring.taps.layer_inputs import LayerInputs
from monitoring.taps.patching import Patch

ALL = 10**6  # more positions than any image here has


def draw(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def randomised(layer, shape):
    layer.build((None, *shape[1:]))
    for number, variable in enumerate(layer.weights):
        variable.assign(draw(*variable.shape, seed=number + 1))
    return layer


def product(layer, x, positions=None):
    """rows @ matrix with the blocks' outputs side by side, (samples, outputs)."""
    return np.concatenate(list(kernel_rows(layer, x, positions) @ kernel_matrix(layer)), axis=-1)


GRID = [
    (kind, shape, {"padding": padding, **options})
    for (kind, shape), padding, options in itertools.product(
        [
            (kl.Conv1D, (2, 9, 4)),
            (kl.Conv2D, (2, 9, 8, 4)),
            (kl.Conv3D, (2, 5, 6, 7, 4)),
            (kl.SeparableConv1D, (2, 9, 4)),
            (kl.SeparableConv2D, (2, 9, 8, 4)),
        ],
        ["valid", "same"],
        [
            {"kernel_size": 3},
            {"kernel_size": 2, "strides": 2},
            {"kernel_size": 3, "strides": 3},
            {"kernel_size": 2, "dilation_rate": 2},
        ],
    )
]
GRID += [
    (kl.Conv1D, (2, 9, 4), {"kernel_size": 3, "padding": "causal", "strides": s}) for s in (1, 2)
]
GRID += [
    (kl.Conv1D, (2, 9, 4), {"kernel_size": 3, "padding": "causal", "dilation_rate": 3}),
    (kl.Conv2D, (2, 9, 8, 4), {"kernel_size": (1, 3), "strides": (2, 1), "padding": "same"}),
    (kl.Conv2D, (2, 9, 8, 4), {"kernel_size": (4, 2), "padding": "same", "strides": 3}),
    (kl.Conv2D, (2, 9, 8, 4), {"kernel_size": 3, "padding": "same", "groups": 2}),
    (kl.Conv1D, (2, 9, 4), {"kernel_size": 3, "groups": 4, "strides": 2}),
    (kl.SeparableConv2D, (2, 9, 8, 4), {"kernel_size": 3, "depth_multiplier": 2}),
]


@pytest.mark.parametrize("kind, shape, options", GRID)
def test_rows_times_matrix_is_what_a_convolution_puts_out(kind, shape, options):
    layer, x = randomised(kind(8, **options), shape), draw(*shape)
    output = np.asarray(layer(x))
    assert position_count(layer, x) == np.prod(output.shape[1:-1])
    expected = output - np.asarray(layer.bias)
    np.testing.assert_allclose(product(layer, x), expected.reshape(-1, 8), atol=2e-5)
    positions = np.arange(0, position_count(layer, x), 3)
    some = expected.reshape(2, -1, 8)[:, positions].reshape(-1, 8)
    np.testing.assert_allclose(product(layer, x, positions), some, atol=2e-5)


@pytest.mark.parametrize("kind, shape, options", GRID[::3])
def test_channels_first_reads_the_same_rows(kind, shape, options):
    if options["padding"] == "causal":
        pytest.skip("Keras has causal padding for channels last alone")
    x, last = draw(*shape), kind(8, **options)
    first = kind(8, data_format="channels_first", **options)
    randomised(last, shape)
    first.build((None, shape[-1], *shape[1:-1]))
    first.set_weights(last.get_weights())
    moved = np.moveaxis(x, -1, 1)
    assert position_count(first, moved) == position_count(last, x)
    np.testing.assert_array_equal(kernel_rows(first, moved), kernel_rows(last, x))


@pytest.mark.parametrize("shape", [(6, 4), (2, 5, 4), (2, 3, 5, 4)])
def test_every_axis_but_the_first_and_last_of_dense_is_a_position(shape):
    layer, x = randomised(kl.Dense(3), shape), draw(*shape)
    expected = np.asarray(layer(x) - layer.bias).reshape(-1, 3)
    np.testing.assert_allclose(product(layer, x), expected, atol=1e-5)


@pytest.mark.parametrize("data_format", ["channels_last", "channels_first"])
@pytest.mark.parametrize(
    "kind, size", [(kl.Conv1DTranspose, 5), (kl.Conv2DTranspose, 5), (kl.Conv3DTranspose, 3)]
)
def test_a_transposed_convolution_adds_its_rows_times_the_matrix(kind, size, data_format):
    """With strides of the kernel's size, contributions do not overlap."""
    rank = int(kind.__name__[4])
    x = draw(2, *[size] * rank, 4)
    layer = randomised(kind(3, 2, strides=2), x.shape)
    expected = np.asarray(layer(x) - layer.bias)  # (images, 2 size..., 3)
    shape = [2, *itertools.chain(*[(size, 2)] * rank), 3]
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2), 2 * rank + 1]
    expected = expected.reshape(shape).transpose(order).reshape(2 * size**rank, -1)
    if data_format == "channels_first":
        x = np.moveaxis(x, -1, 1)
        first = kind(3, 2, strides=2, data_format=data_format)
        first.build((None, *x.shape[1:]))
        first.set_weights(layer.get_weights())
        layer = first
    np.testing.assert_allclose(product(layer, x), expected, atol=1e-5)


def reference_rows(x, kernel, stride):
    """Rows of a convolution with padding "valid", one image and position after another."""
    taps, _, channels, _ = kernel.shape
    size = (x.shape[1] - taps) // stride + 1
    return np.array(
        [
            image[i * stride : i * stride + taps, j * stride : j * stride + taps].reshape(-1)
            for image in x.astype(np.float64)
            for i, j in itertools.product(range(size), repeat=2)
        ]
    )


def conv_net(channels=5, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((10, 10, 3))
    y = kl.Conv2D(channels, 3, activation="relu", name="first")(inputs)
    y = kl.Conv2D(4, 3, strides=2, activation="relu", name="second")(y)
    y = kl.GlobalAveragePooling2D()(y)
    return keras.Model(inputs, kl.Dense(2, name="head")(y), name="net")


def test_covariances_agree_with_numpy():
    model, x = conv_net(), draw(37, 10, 10, 3) + 5
    hidden = np.asarray(model.get_layer("first")(x))
    layers = [model.get_layer(name) for name in ("first", "second")]
    moments = InputMoments(x, positions=ALL).covariances(model, layers)
    for layer, inputs, stride, (mean, covariance) in zip(
        layers, [x, hidden], [1, 2], moments, strict=True
    ):
        rows = reference_rows(inputs, np.asarray(layer.kernel), stride)
        np.testing.assert_allclose(mean[0], rows.mean(axis=0), rtol=1e-6)
        expected = np.cov(rows.T)
        np.testing.assert_allclose(covariance[0], expected, atol=1e-6 * expected.max())
        assert mean.dtype == covariance.dtype == np.float64


def test_each_group_of_a_convolution_is_a_block(rng):
    inputs = keras.Input((6, 6, 4))
    layer = kl.Conv2D(6, 1, groups=2)
    model, x = keras.Model(inputs, layer(inputs)), draw(8, 6, 6, 4)
    [(mean, covariance)] = InputMoments(x, positions=ALL).covariances(model, [layer])
    for block in range(2):
        rows = x[..., 2 * block : 2 * block + 2].reshape(-1, 2).astype(np.float64)
        np.testing.assert_allclose(covariance[block], np.cov(rows.T), rtol=1e-6, atol=1e-7)
    assert mean.shape == (2, 2)


def test_the_calls_of_a_shared_layer_are_measured_together():
    shared = kl.Dense(4, name="shared")
    inputs = keras.Input((4,))
    once = shared(inputs)
    model = keras.Model(inputs, kl.Dense(2)(shared(kl.ReLU()(once))))
    x = draw(50, 4)
    rows = np.concatenate([x, np.maximum(shared(x), 0)]).astype(np.float64)
    [(_, covariance)] = InputMoments(x).covariances(model, [shared])
    np.testing.assert_allclose(covariance[0], np.cov(rows.T), rtol=1e-5, atol=1e-6)


def nested_net(hidden=6):
    inner = keras.Sequential([keras.Input((4,)), kl.Dense(hidden, name="deep")], name="inner")
    inputs = keras.Input((4,))
    block = keras.Model(inputs, kl.ReLU()(inner(inputs)), name="block")
    outer = keras.Input((4,))
    y = kl.Dense(3, name="head")(block(outer))
    return keras.Model(outer, kl.Dense(2, name="last")(y)), inner.layers[0]


def test_layers_inside_nested_models_and_passes_that_end_early():
    model, deep = nested_net()
    x, before = draw(40, 4), model(draw(3, 4)).numpy()
    read, calls = LayerInputs(model, [deep]), []

    def count_call(original, *args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    with Patch(model.get_layer("last"), "call", count_call):
        for _ in range(3):
            [[tensor]] = read(x)
            np.testing.assert_array_equal(tensor, x)
    assert len(calls) == 1  # only the first pass is complete
    [(_, covariance)] = InputMoments(x).covariances(model, [deep])
    np.testing.assert_allclose(covariance[0], np.cov(x.T.astype(np.float64)), rtol=1e-6)
    np.testing.assert_array_equal(model(draw(3, 4)), before)
    assert keras.src.backend.common.global_state.get_global_attribute("current_call_ctx") is None
    model.compile("sgd", "mse")
    model.fit(x, draw(40, 2), verbose=0)
    assert not any("call" in vars(part) for part in model._flatten_layers())


def test_layers_take_several_passes_if_their_states_are_large(monkeypatch):
    model, x = conv_net(), draw(20, 10, 10, 3)
    layers = [model.get_layer(name) for name in ("first", "second", "head")]
    together = InputMoments(x).covariances(model, layers)
    monkeypatch.setattr(input_states, "STATE_BYTES", 1)
    for one, other in zip(together, InputMoments(x).covariances(model, layers), strict=True):
        np.testing.assert_array_equal(one[1], other[1])


def test_a_clone_differs_by_exactly_nothing():
    wide, x = conv_net(), draw(30, 10, 10, 3)
    narrow = keras.models.clone_model(wide)
    narrow.set_weights(wide.get_weights())
    pairs = [(wide.get_layer(n), narrow.get_layer(n)) for n in ("first", "second", "head")]
    for (layer, _), state in zip(
        pairs, InputMoments(x).differences(wide, narrow, pairs), strict=True
    ):
        outputs = layer.kernel.shape[-1]
        assert not (state.shift + state.mean)[..., -outputs:].any()
        assert not state.scatter[..., -outputs:].any()
        assert state.scatter[..., :-outputs, :-outputs].any()


def test_differences_by_folds_agree_with_numpy():
    wide, narrow, x = conv_net(5), conv_net(3, seed=1), draw(37, 10, 10, 3)
    pair = (wide.get_layer("second"), narrow.get_layer("second"))
    kernels = [np.asarray(layer.kernel, np.float64) for layer in pair]
    rows = [
        reference_rows(np.asarray(model.get_layer("first")(x)), kernel, 2)
        for model, kernel in zip((wide, narrow), kernels, strict=True)
    ]
    outputs = [r @ k.reshape(-1, 4) for r, k in zip(rows, kernels, strict=True)]
    joint = np.concatenate([rows[1], outputs[0] - outputs[1]], axis=1).reshape(37, 9, -1)
    [state] = InputMoments(x, positions=ALL, folds=5).differences(wide, narrow, [pair])
    assert state.mean.shape == (5, 1, 27 + 4) and isinstance(state.mean, np.ndarray)
    assert state.count[:, 0].tolist() == [8 * 9, 8 * 9, 7 * 9, 7 * 9, 7 * 9]
    for fold in range(5):
        samples = joint[fold::5].reshape(-1, 31)
        centred = samples - samples.mean(axis=0)
        mean = (state.shift + state.mean)[fold, 0]
        np.testing.assert_allclose(mean, samples.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(state.scatter[fold, 0], centred.T @ centred, atol=1e-3)


@pytest.mark.parametrize(
    "layer",
    [
        lambda width: kl.Dense(width, name="narrowed"),
        lambda width: kl.Conv2D(width, 3, groups=2, name="narrowed"),
        lambda width: kl.Conv2DTranspose(width, 2, name="narrowed"),
        lambda width: kl.SeparableConv2D(width, 3, name="narrowed"),
    ],
)
def test_a_narrow_layer_may_have_some_of_the_outputs(layer):
    inputs = keras.Input((6, 6, 4))
    wide = keras.Model(inputs, layer(6)(inputs))
    narrow = keras.Model(inputs, layer(4)(inputs))
    kept = np.array([0, 2, 3, 5])
    first, second = wide.get_layer("narrowed"), narrow.get_layer("narrowed")
    for target, source in zip(second.weights, first.weights, strict=True):
        value = source.numpy()
        axes = [axis for axis, side in enumerate(value.shape) if side == 6]
        target.assign(np.take(value, kept, axes[-1]) if axes else value)
    x = draw(8, 6, 6, 4)
    [state] = InputMoments(x, positions=ALL).differences(wide, narrow, [(first, second, kept)])
    outputs = kernel_matrix(second).shape[-1]
    assert abs(state.shift + state.mean)[..., -outputs:].max() < 1e-6
    assert abs(state.scatter[..., -outputs:]).max() < 1e-4
    [other] = InputMoments(x).differences(
        wide, narrow, [(first, second, kept[::-1] * 0 + [0, 1, 3, 4])]
    )
    assert abs(other.scatter[..., -outputs:]).max() > 1e-2


def test_sampled_positions_are_the_same_for_both_models_and_for_one_seed():
    wide, x = conv_net(5), draw(20, 10, 10, 3)
    first = wide.get_layer("first")
    measure = lambda seed: InputMoments(x, positions=4, seed=seed).covariances(wide, [first])  # noqa: E731
    np.testing.assert_array_equal(measure(0)[0][1], measure(0)[0][1])
    assert (measure(0)[0][1] != measure(1)[0][1]).any()
    narrow = conv_net(5)
    narrow.set_weights(wide.get_weights())
    narrow.get_layer("first").kernel.assign(2 * wide.get_layer("first").kernel)
    pair = (first, narrow.get_layer("first"))
    [state] = InputMoments(x, positions=4, folds=1).differences(wide, narrow, [pair])
    assert state.count.tolist() == [[20 * 4]]
    kernel = kernel_matrix(first)[0]
    scatter = state.scatter[0, 0]  # d is minus what the wide layer puts out
    np.testing.assert_allclose(scatter[:27, 27:], -scatter[:27, :27] @ kernel, atol=1e-4)


def test_statistics_of_what_batch_normalization_reads():
    inputs = keras.Input((5, 6, 3))
    norms = kl.BatchNormalization(), kl.BatchNormalization(axis=1)
    model, x = keras.Model(inputs, norms[1](norms[0](inputs))), 3 + draw(20, 5, 6, 3)
    results = InputMoments(x, positions=ALL).statistics(model, norms)
    for axes, values, (mean, variance) in zip(
        [(0, 1, 2), (0, 2, 3)], [x, np.asarray(norms[0](x))], results, strict=True
    ):
        np.testing.assert_allclose(mean, values.mean(axis=axes, dtype=np.float64), rtol=1e-6)
        expected = values.astype(np.float64).var(axis=axes, ddof=1)
        np.testing.assert_allclose(variance, expected, rtol=1e-6)


def test_gradients_of_dense_layers_agree_with_closed_forms():
    """For half the squared error, g is the error at the output and W' g, masked, before."""
    inputs = keras.Input((4,))
    hidden = kl.Dense(5, activation="relu", name="hidden")
    head = kl.Dense(3, name="head")
    unused = kl.Dense(2, name="unused")
    y = hidden(inputs)
    model = keras.Model(inputs, [head(y), unused(y)])
    x, targets = draw(21, 4), draw(21, 3, seed=1)

    def loss(target, output):
        return keras.ops.sum((output - target) ** 2, axis=-1) / 2

    nothing = lambda target, output: keras.ops.zeros((), "float32")  # noqa: E731
    moments = InputMoments(x, [targets, targets], [loss, nothing], gradient_images=19)
    assert moments.weighted and moments.reason == ""
    results = moments.gradients(model, [hidden, head, unused])
    error = np.asarray(head(hidden(x)) - targets, np.float64)
    before = error @ np.asarray(head.kernel).T * (np.asarray(hidden(x)) > 0)
    for gradient, result in zip([before, error], results, strict=False):
        expected = gradient[:19].T @ gradient[:19] / 19
        np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5)
    assert results[2].shape == (2, 2) and not results[2].any()


LAYERS = [
    kl.Conv2D(3, 3, activation="tanh"),
    kl.Conv2DTranspose(3, 2, strides=2, activation="tanh"),
    kl.SeparableConv2D(3, 3, activation="tanh"),
    kl.Dense(3, activation="softmax"),
]


@pytest.mark.parametrize("name", ["loss object", "sum", "string", "function"])
@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_gradients_agree_with_a_tape_for_each_image(layer, name):
    keras.utils.set_random_seed(0)
    layer = type(layer).from_config(layer.get_config())
    inputs = keras.Input((6, 6, 2))
    model = keras.Model(inputs, layer(inputs))
    x = draw(10, 6, 6, 2)
    targets = draw(*model(x).shape, seed=1)
    loss = {
        "loss object": keras.losses.MeanSquaredError(),
        "sum": keras.losses.MeanSquaredError(reduction="sum"),
        "string": "mse",
        "function": lambda target, output: keras.ops.mean((target - output) ** 2),
    }[name]
    [result] = InputMoments(x, targets, loss).gradients(model, [layer])
    activation, layer.activation = layer.activation, keras.activations.linear
    expected = np.zeros((3, 3))
    for image, target in zip(x, targets, strict=True):
        with tf.GradientTape() as tape:
            before = layer(image[None])
            tape.watch(before)
            square = (activation(before) - target) ** 2
            value = (
                tf.reduce_sum(tf.reduce_mean(square, -1))
                if name == "sum"
                else tf.reduce_mean(square)
            )
        gradient = tape.gradient(value, before).numpy().reshape(-1, 3).astype(np.float64)
        expected += gradient.T @ gradient / len(x)
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-5 * expected.max())


def test_datasets_bring_their_targets_and_read_as_arrays_do():
    model, x, y = conv_net(), draw(37, 10, 10, 3), np.arange(37) % 2
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    second = [model.get_layer("second")]
    expected = InputMoments(x, y, loss)
    for dataset in (
        tf.data.Dataset.from_tensor_slices((x, y)).batch(16),
        tf.data.Dataset.from_tensor_slices((x, y, np.ones(37))).batch(16),
        Pairs(x, y),
    ):
        moments = InputMoments(dataset, loss=loss)
        [one], [other] = moments.gradients(model, second), expected.gradients(model, second)
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-9)
        [one], [other] = moments.covariances(model, second), expected.covariances(model, second)
        np.testing.assert_allclose(one[1], other[1], rtol=1e-6, atol=1e-9)
    assert not InputMoments(dataset).weighted


class Pairs(keras.utils.PyDataset):
    def __init__(self, x, y):
        super().__init__()
        self.x, self.y = x, y

    def __len__(self):
        return 3

    def __getitem__(self, number):
        part = slice(16 * number, 16 * (number + 1))
        return self.x[part], self.y[part]


class Restless(keras.layers.Layer):
    """Draws, counts, and moves the global generators, in inference mode too."""

    def __init__(self):
        super().__init__()
        self.seed = keras.random.SeedGenerator(0)
        self.count = self.add_weight(name="count", shape=(), trainable=False)

    def call(self, x):
        self.count.assign_add(1.0)
        np.random.random(), random.random()
        return x + 0 * keras.random.normal((4,), seed=self.seed) + 0 * keras.random.normal((4,))


def restless():
    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [keras.Input((4,)), Restless(), kl.Dense(6, activation="relu"), kl.Dropout(0.5)]
        + [kl.BatchNormalization(), kl.Dense(2)]
    )
    model.compile("adam", "mse")
    return model


@pytest.mark.parametrize("measured", ["before", "between"])
def test_a_measurement_moves_nothing(measured):
    x, y = draw(40, 4), draw(40, 2)

    def train(measure):
        model, losses = restless(), []
        moments = InputMoments(x, y, "mse")
        for epoch in range(2):
            if measure and epoch == (measured == "between"):
                dense = model.layers[1]
                before = [v.numpy() for v in model.variables]
                moments.covariances(model, [dense])
                moments.gradients(model, [dense, model.layers[-1]])
                moments.differences(model, model, [(dense, dense)])
                moments.statistics(model, [model.layers[3]])
                for variable, value in zip(model.variables, before, strict=True):
                    np.testing.assert_array_equal(variable, value)
            losses += model.fit(x, y, verbose=0).history["loss"]
        return losses, model.get_weights(), random.random(), np.random.random()

    plain, watched = train(False), train(True)
    assert plain[0] == watched[0] and plain[2:] == watched[2:]
    for one, other in zip(plain[1], watched[1], strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_fixed_batch_size_is_kept():
    inputs = keras.Input(batch_shape=(20, 4))
    layer = kl.Dense(3)
    model, x = keras.Model(inputs, layer(inputs)), draw(40, 4)
    moments = InputMoments(x, draw(40, 3), "mse", gradient_images=25)
    [(_, covariance)] = moments.covariances(model, [layer])
    np.testing.assert_allclose(covariance[0], np.cov(x.T.astype(np.float64)), rtol=1e-6)
    error = np.asarray(layer(x[:20]) - draw(40, 3)[:20], np.float64)
    rest = np.asarray(layer(x[20:25].repeat(4, axis=0))[::4] - draw(40, 3)[20:25], np.float64)
    error = np.concatenate([error, rest]) * 2 / 3
    np.testing.assert_allclose(
        moments.gradients(model, [layer])[0], error.T @ error / 25, rtol=1e-4
    )
    with pytest.raises(ValueError, match="takes batches of 20 images"):
        InputMoments(x[:30]).covariances(model, [layer])


def test_images_alone_are_not_weighted():
    model = conv_net()
    moments = InputMoments(draw(8, 10, 10, 3))
    assert not moments.weighted and moments.reason == "no targets were given"
    assert moments.gradients(model, [model.get_layer("head")]) is None


@pytest.mark.parametrize(
    "arguments, options, message",
    [
        ([None], {}, "Expected images to measure. Received: None"),
        (
            [draw(3, 4), draw(2, 1), "mse"],
            {},
            "as many targets as images. Received: 3 im.* 2 tar",
        ),
        ([draw(3, 4), draw(3, 1)], {}, "Received: targets without a loss"),
        ([draw(3, 4), None, "mse"], {}, "loss='mse' without targets"),
        ([tf.data.Dataset.from_tensor_slices(draw(3, 4)).batch(2), None, "mse"], {}, "dataset of"),
        (
            [tf.data.Dataset.from_tensor_slices(draw(3, 4)).batch(2), 1, "mse"],
            {},
            "inside the",
        ),
        ([draw(3, 4)], {"positions": 0}, "at least 1. Received: positions=0"),
    ],
)
def test_arguments_are_checked(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        InputMoments(*arguments, **options)


class Scaled(kl.Dense):
    def call(self, x):
        return 2 * super().call(x)


@pytest.mark.parametrize(
    "layer, message",
    [
        (
            kl.DepthwiseConv2D(3, name="deep"),
            "kernel: Dense, Conv1D.*'deep' of class DepthwiseConv2D",
        ),
        (Scaled(3, name="mine"), "'mine' of class Scaled, which overrides a method of Dense"),
    ],
)
def test_layers_of_other_kinds_are_refused(layer, message):
    inputs = keras.Input((4, 4, 2))
    model = keras.Model(inputs, layer(inputs))
    for measure in (InputMoments(draw(3, 4, 4, 2)).covariances, InputMoments([0]).gradients):
        with pytest.raises(ValueError, match=message):
            measure(model, [layer])


def test_what_no_tape_sees_is_refused_and_not_zero():
    with keras.RematScope(mode="full"):
        layers = [kl.Dense(3, name="again"), kl.Dense(2)]
        model = keras.Sequential([keras.Input((4,)), *layers])
    moments = InputMoments(draw(8, 4), draw(8, 2), "mse")
    assert moments.covariances(model, layers)[0][1].shape == (1, 4, 4)
    with pytest.raises(
        ValueError, match="of RematScope. Received: layer 'again', which is called inside"
    ):
        moments.gradients(model, layers)


def test_layers_inside_compiled_functions_and_endless_images_are_refused():
    class Compiled(kl.Layer):
        def __init__(self):
            super().__init__()
            self.mix = kl.Dense(3, name="mix")

        def build(self, shape):
            self.mix.build(shape)

        @tf.function
        def call(self, x):
            return self.mix(x)

    layer = Compiled()
    model = keras.Sequential([keras.Input((4,)), layer])
    with pytest.raises(ValueError, match="compiled functions.* Received: layer 'mix', which is"):
        InputMoments(draw(8, 4)).covariances(model, [layer.mix])
    endless = tf.data.Dataset.from_tensor_slices(draw(8, 4)).batch(8).repeat()
    with pytest.raises(ValueError, match="repeats forever. Give some of its batches"):
        InputMoments(endless).covariances(model, [layer.mix])


def test_models_and_images_are_checked():
    model, x = conv_net(), draw(4, 10, 10, 3)
    first, head = model.get_layer("first"), model.get_layer("head")
    with pytest.raises(ValueError, match="layer of model 'net': .*head. Received: layer 'x'"):
        InputMoments(x).covariances(model, [kl.Dense(2, name="x")])
    with pytest.raises(ValueError, match=r"shape \(10, 10, 3\), which .* shape \(8, 8, 3\)"):
        InputMoments(x[:, :8, :8]).covariances(model, [first])
    with pytest.raises(ValueError, match="at least one image"):
        InputMoments(x[:0]).covariances(model, [first])
    with pytest.raises(ValueError, match="values read by layer 'head' that are nan or infinite"):
        InputMoments(x * np.nan).covariances(model, [head])
    with pytest.raises(ValueError, match="differ in nothing but their channels"):
        InputMoments(x).differences(model, model, [(first, head)])
    with pytest.raises(ValueError, match="such as BatchNormalization. Received: layer 'first'"):
        InputMoments(x).statistics(model, [first])
    unbuilt = keras.Sequential([kl.Dense(3)], name="raw")
    with pytest.raises(ValueError, match="Expected a built model. Received: model 'raw'"):
        InputMoments(x).covariances(unbuilt, unbuilt.layers)
    head.quantize("int8")
    with pytest.raises(ValueError, match="'head' of class Dense, which is quantized"):
        InputMoments(x).covariances(model, [head])
