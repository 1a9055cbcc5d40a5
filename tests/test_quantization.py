"""Networks that train with the rounding of INT8, against NumPy, a NumPy fold and LiteRT."""

import json
import re

import keras
import numpy as np
import pytest
from keras import layers

from models import BU_Net, Nano_U, probe_names, quantization_aware
from models.cost import model_cost
from models.quantization import IMAGE_RANGE, StartRounding, folded
from models.quantization.fake_quant import FakeQuantDepthwiseConv2D, FakeQuantize, quantized_kernel
from monitoring import NASMonitorCallback
from train import train
from training.data import scale
from training.export import export
from training.litert import convert, operators, run
from training.synthetic import synthetic_splits


def small(**options) -> keras.Model:
    keras.utils.set_random_seed(2)
    return quantization_aware(Nano_U((24, 32, 3), (2, 4), 4, **options))


def moved(model: keras.Model, rng) -> keras.Model:
    """Gives batch normalisation statistics and scales that are not 0 and 1, one negative."""
    images = rng.uniform(-1, 1, (16, 24, 32, 3)).astype("float32")
    model(images, training=True)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            gamma, beta, mean, variance = layer.get_weights()
            signs = np.where(np.arange(len(gamma)) == 1, -1, 1)
            gamma = rng.uniform(0.5, 2, gamma.shape) * signs
            beta = rng.normal(0, 0.3, beta.shape)
            layer.set_weights([gamma, beta, mean + 0.1, variance * 1.3])
    for _ in range(30):
        model(images, training=True)
    return model


@pytest.mark.parametrize("shape, axis", [((1, 1, 5, 7), -1), ((3, 3, 5, 1), -2)])
def test_a_kernel_is_rounded_channel_by_channel(rng, shape, axis):
    kernel = rng.normal(size=shape).astype("float32")
    kernel *= 10.0 ** np.arange(shape[axis]).reshape(shape[axis], *[1] * (-1 - axis))
    others = tuple(other for other in range(4) if other != axis % 4)
    step = np.abs(kernel).max(axis=others, keepdims=True).astype("float64") / 127
    found = np.asarray(quantized_kernel(kernel, axis)) / step
    np.testing.assert_allclose(found, np.round(found), atol=1e-4)
    assert np.abs(found - kernel / step).max() <= 0.5 + 1e-4
    assert np.abs(found).max() == pytest.approx(127, abs=1e-4)


def test_scaling_a_channel_scales_its_rounded_kernel(rng):
    """What lets a batch normalisation be folded behind the rounding, whatever its sign."""
    kernel = rng.normal(size=(3, 3, 4, 6)).astype("float32")
    factors = np.array([0.1, -3.0, 1.0, 7.0, -0.01, 2.0], "float32")
    np.testing.assert_allclose(
        np.asarray(quantized_kernel(kernel * factors, -1)),
        np.asarray(quantized_kernel(kernel, -1)) * factors,
        rtol=1e-5,
    )


def test_gradients_pass_through_the_rounding(rng):
    tf = pytest.importorskip("tensorflow")
    kernel = tf.constant(rng.normal(size=(1, 1, 3, 4)).astype("float32"))
    values = tf.constant([-2.0, -0.3, 0.4, 3.0])
    layer = FakeQuantize((-1.0, 1.0))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([kernel, values])
        rounded, clipped = quantized_kernel(kernel, -1), layer(values)
    np.testing.assert_array_equal(tape.gradient(rounded, kernel), np.ones(kernel.shape))
    assert tape.gradient(clipped, values).numpy().tolist() == [0, 1, 1, 0]


def test_a_range_follows_the_batches_and_stands_still_at_inference():
    layer = FakeQuantize(momentum=0.5)
    for batch, low, high in (([-1.0, 3.0], -1, 3), ([0.0, 5.0], -0.5, 4), ([1.0, 2.0], -0.25, 3)):
        layer(np.array(batch), training=True)
        assert (float(layer.low), float(layer.high)) == (low, high)
    before = layer.get_weights()
    layer(np.array([100.0]), training=False)
    assert layer.get_weights() == before
    assert not layer.trainable_weights


def test_rounding_starts_at_an_epoch_and_never_stops_at_inference(rng):
    images = rng.uniform(-1, 1, (4, 24, 32, 3)).astype("float32")
    model = small()
    layer, start = model.layers[1], StartRounding(2)
    start.set_model(model)
    for epoch, rounds in ((0, False), (1, False), (2, True), (3, True)):
        start.on_epoch_begin(epoch)
        assert (np.asarray(layer(images, training=True)) != images).any() == rounds
        assert (np.asarray(layer(images, training=False)) != images).any()


@pytest.mark.slow
def test_before_rounding_starts_it_trains_as_the_plain_network_to_the_bit(rng):
    images = rng.uniform(-1, 1, (12, 24, 32, 3)).astype("float32")
    masks = (images[..., :1] > 0).astype("float32")
    plain = Nano_U((24, 32, 3), (2, 4), 4)
    aware = quantization_aware(plain)
    for model in (plain, aware):
        model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
        start = [StartRounding(2)] if model is aware else []
        model.fit(images, masks, 4, epochs=2, shuffle=False, verbose=0, callbacks=start)
    for layer in plain.layers:
        for mine, theirs in zip(
            aware.get_layer(layer.name).get_weights(), layer.get_weights(), strict=False
        ):
            np.testing.assert_array_equal(mine, theirs)


def test_nothing_but_zeros_is_rounded_to_zeros():
    layer = FakeQuantize()
    for training in (False, True):
        assert np.asarray(layer(np.zeros(3), training=training)).tolist() == [0, 0, 0]


def test_no_pixel_lies_half_way_between_two_values():
    pixels = scale(np.arange(256, dtype=np.uint8)).astype("float64")
    step = (IMAGE_RANGE[1] - IMAGE_RANGE[0]) / 255
    assert np.abs(pixels / step % 1 - 0.5).min() > 1e-3


def test_it_starts_from_the_same_weights_under_the_same_names(rng):
    plain = Nano_U((24, 32, 3), (2, 4), 4, enable_probes=True)
    aware = quantization_aware(plain)
    assert probe_names(aware) == probe_names(plain)
    for layer in plain.layers[1:]:
        for mine, theirs in zip(  # behind them comes what only `aware` keeps
            aware.get_layer(layer.name).get_weights(), layer.get_weights(), strict=False
        ):
            np.testing.assert_array_equal(mine, theirs)
    cost, expected = model_cost(aware), model_cost(plain)
    for name in ("parameters", "trainable", "macs", "weight_bytes", "peak_activation_bytes"):
        assert getattr(cost, name) == getattr(expected, name), name


def test_every_activation_that_int8_keeps_has_256_values(rng):
    model = moved(small(enable_probes=("encoder", "bottleneck", "decoder")), rng)
    images = rng.uniform(-1, 1, (8, 24, 32, 3)).astype("float32")
    names = [layer.name for layer in model.layers if isinstance(layer, FakeQuantize)]
    # Input, two ReLUs a block, two blocks a stage, five stages, logits.
    assert len(names) == 1 + 2 * 2 * 5 + 1
    watched = [model.get_layer(name).output for name in [*names, *probe_names(model)]]
    for values in keras.Model(model.input, watched).predict(images, verbose=0):
        assert 1 < len(np.unique(values)) <= 256


def test_folding_changes_nothing(rng):
    model = moved(small(enable_probes=True), rng)
    images = rng.uniform(-1, 1, (4, 24, 32, 3)).astype("float32")
    bare = folded(model)
    kinds = {type(layer) for layer in bare.layers}
    assert layers.BatchNormalization not in kinds and FakeQuantDepthwiseConv2D not in kinds
    expected, found = (m.predict(images, verbose=0) for m in (model, bare))
    step = float(model.layers[-1].high - model.layers[-1].low) / 255
    assert np.ptp(expected) > 20 * step
    # Sums in another order fall to the other side of a rounding now and then.
    assert (np.abs(expected - found) < step / 2).mean() > 0.98


@pytest.mark.slow
@pytest.mark.parametrize("late", [False, True])
def test_its_file_needs_no_images_and_says_the_same(rng, late):
    model = moved(small(enable_probes=True, late_upsampling=late), rng)
    images = rng.uniform(-1, 1, (8, 24, 32, 3)).astype("float32")
    content = convert(model)
    assert set(operators(content)) == {
        *("CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "RESIZE_NEAREST_NEIGHBOR")
    }
    expected, found = model.predict(images, verbose=0), run(content, images)
    step = float(model.layers[-1].high - model.layers[-1].low) / 255
    assert np.ptp(expected) > 20 * step
    assert (np.abs(expected - found) < 1.5 * step).mean() > 0.97


def test_other_networks_are_refused_by_name():
    with pytest.raises(ValueError, match="single chain.*(bu_net.*Cropping2D|Concatenate)"):
        quantization_aware(BU_Net((24, 32, 3), (2, 4), 4))
    inputs = keras.Input((8, 8, 3))
    with pytest.raises(ValueError, match="a Dense, does not fit"):
        quantization_aware(keras.Model(inputs, layers.Dense(1)(layers.ReLU()(inputs))))


@pytest.mark.slow
def test_watching_it_changes_nothing(rng):
    images = rng.uniform(-1, 1, (12, 24, 32, 3)).astype("float32")
    masks = (images[..., :1] > 0).astype("float32")
    weights = []
    for callbacks in ([], [NASMonitorCallback(images[:4])], [NASMonitorCallback(None)]):
        keras.utils.set_random_seed(3)
        model = small(enable_probes=True)
        model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
        model.fit(images, masks, batch_size=4, epochs=2, verbose=0, callbacks=callbacks)
        weights.append(model.get_weights())
    for other in weights[1:]:
        for mine, theirs in zip(other, weights[0], strict=True):
            np.testing.assert_array_equal(mine, theirs)


@pytest.mark.slow
def test_mixed_precision_keeps_ranges_and_gradients_in_float32(rng):
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        model = small()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    images = rng.uniform(-1, 1, (8, 24, 32, 3)).astype("float32")
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    model.fit(images, (images[..., :1] > 0).astype("float32"), epochs=2, verbose=0)
    assert model.layers[1].compute_dtype == "float16"
    assert all(weight.dtype == "float32" for weight in model.weights)
    assert all(np.isfinite(weight).all() for weight in model.get_weights())
    assert "CAST" not in operators(convert(model))


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A student that is watched, taught, rounded and exported."""
    root = tmp_path_factory.mktemp("runs")
    config = root / "config.yaml"
    config.write_text("model: {filters: [2, 4], bottleneck: 4}\n")
    train("nano_u", 1, config=config, output=root / "teacher", verbose=0)
    model, _ = train(
        "nano_u",
        1,
        config=config,
        probes=("encoder",),
        distill_from=root / "teacher",
        quantization_aware=True,
        export_format="int8",
        enable_nas_monitoring=True,
        output=root / "student",
        verbose=0,
    )
    return root / "student", model


@pytest.mark.slow
def test_with_a_teacher_and_a_monitor_it_trains_saves_and_exports(taught):
    folder, model = taught
    assert "quantization_aware: true" in (folder / "config.yaml").read_text()
    said = json.loads((folder / "export.json").read_text())
    assert said["quantization"] == "quantization-aware" and not said["refused"]
    plain = Nano_U(filters=(2, 4), bottleneck=4)
    scores = json.loads((folder / "evaluation.json").read_text())
    assert said["parameters"] == scores["parameters"] == plain.count_params()
    again = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    images = scale(synthetic_splits().test.images[:4])
    np.testing.assert_array_equal(
        again.predict(images, verbose=0), model.predict(images, verbose=0)
    )
    page = re.sub("<[^>]*>", " ", (folder / "report.html").read_text(encoding="utf-8"))
    assert "INT8: model_int8.tflite, quantization-aware" in page
    for split in (scores, said["int8_scores"]):
        assert f"{split['miou']:.4f}" in page and f"{split['f2']:.4f}" in page


@pytest.mark.slow
def test_a_saved_run_exports_again_without_looking_at_images(taught, tmp_path, monkeypatch):
    folder, model = taught
    drawn = "training.export.device_file.draw_images"
    monkeypatch.setattr(drawn, lambda *_: pytest.fail("calibrated"))
    again = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    export(again, synthetic_splits(), tmp_path, name="nano_u", tolerance=100)
    kept = "model_int8.tflite"
    assert (tmp_path / kept).read_bytes() == (folder / kept).read_bytes()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_batch_that_is_not_finite_does_not_spoil_the_range(value):
    layer, x = FakeQuantize(), np.array([[-1.0, 0.5, 2.0]], "float32")
    layer(x, training=True)
    layer(np.array([[value, 0.5, 2.0]], "float32"), training=True)
    assert layer.low.numpy() == pytest.approx(-0.9)  # 0.9 of -1, and 0 of the second batch
    assert layer.high.numpy() == pytest.approx(2.0)
    assert np.isfinite(layer(x, training=True)).all() and np.isfinite(layer(x)).all()
