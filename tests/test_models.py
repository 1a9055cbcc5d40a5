import itertools
import math
import subprocess
import sys
from collections import Counter
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

from models import MODELS, BU_Net, Nano_U, Probe, probe_names, side_model
from models.cost import model_cost

GROUPS = ("encoder", "bottleneck", "decoder")
SETTINGS = [
    False,
    True,
    *itertools.chain.from_iterable(itertools.combinations(GROUPS, n) for n in (1, 2, 3)),
]
FILES = Path(__file__).parent / "files"
SIZE = (24, 32, 3)
WIDTHS = {"nano_u": {}, "bu_net": {"filters": (8, 16), "bottleneck": 16}}


def build(name, enable_probes=False, size=SIZE):
    return MODELS[name](size, enable_probes=enable_probes, **WIDTHS[name])


def randomised(model, rng):
    """Gives every weight, batch statistics too, a value that no initialiser gives."""
    for weight in model.weights:
        weight.assign(rng.uniform(0.5, 1.5, weight.shape) * rng.choice([1, -1], weight.shape))
    for weight in model.non_trainable_weights:
        weight.assign(np.abs(weight.numpy()))
    return model


@pytest.mark.parametrize(
    "model, parameters, trainable",
    [
        (Nano_U, 4_212, 3_638),
        (lambda: Nano_U(filters=(16, 32, 64), bottleneck=64), 37_848, 35_570),
        (BU_Net, 225_576, 218_274),
    ],
)
def test_parameter_counts(model, parameters, trainable):
    model = model()
    assert model.count_params() == parameters
    assert sum(math.prod(weight.shape) for weight in model.trainable_weights) == trainable


@pytest.mark.parametrize("name", MODELS)
def test_batch_norm_momentum(name):
    norms = [la for la in build(name).layers if isinstance(la, keras.layers.BatchNormalization)]
    assert len(norms) > 20
    assert {norm.momentum for norm in norms} == {0.9}


def test_nano_u_pools_by_two_where_that_divides_else_by_three():
    pools = [layer.pool_size for layer in Nano_U((60, 80, 3)).layers if "pool" in layer.name]
    assert pools == [(2, 2), (2, 2), (3, 2)]


@pytest.mark.parametrize("size", [(60, 80), (64, 64), (27, 8), (54, 36), (240, 320)])
def test_nano_u_output_has_the_size_of_the_input(size):
    assert Nano_U((*size, 3)).output_shape == (None, *size, 1)


@pytest.mark.parametrize(
    "size, says",
    [
        ((61, 80), "heights that do: 60, 64; widths: 80"),
        ((60, 81), None),
        ((1, 1), "heights that do: 8; widths: 8"),
        ((61_000_001, 81_000_003), "by 2 where that divides, else by 3"),
    ],
)
def test_nano_u_size_that_cannot_be_pooled(size, says):
    if says is None:
        assert Nano_U((*size, 3)).output_shape == (None, *size, 1)
        return
    with pytest.raises(ValueError) as caught:
        Nano_U((*size, 3))
    message = str(caught.value)
    assert says in message
    assert str((*size, 3)) in message
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("size", [(60, 80), (61, 83), (1, 1), (7, 100)])
def test_bu_net_takes_any_size(size):
    assert BU_Net((*size, 3), filters=(2, 2), bottleneck=2).output_shape == (None, *size, 1)


@pytest.mark.parametrize("model", [Nano_U, BU_Net])
@pytest.mark.parametrize(
    "arguments, says",
    [
        ({"filters": (4, 0)}, "positive integers"),
        ({"filters": ()}, "at least one encoder stage"),
        ({"bottleneck": 1.5}, "positive integers"),
        ({"filters": ((4, 4, 4, 4), 8)}, "one for each of its . blocks. Received: filters="),
        ({"filters": (4, (8, 0))}, "positive integers"),
        ({"filters": "48"}, "positive integers"),
        ({"bottleneck": ()}, "one width per stage, or one for each"),
        ({"decoder_filters": (4, 8)}, "as many decoder stages as encoder stages. .*decoder_filt"),
        ({"input_shape": (60, 80)}, "height, width, channels"),
        ({"input_shape": (None, 80, 3)}, "height, width, channels"),
        ({"enable_probes": ["encodr"]}, "encoder, bottleneck, decoder"),
        ({"enable_probes": None}, "Received: enable_probes=None"),
        ({"enable_probes": "encoder"}, "Received: enable_probes='encoder'"),
    ],
)
def test_impossible_arguments(model, arguments, says):
    with pytest.raises(ValueError, match=says):
        model(**arguments)


def shapes(model):
    """Returns {layer: shapes of its weights}."""
    return {layer.name: [w.shape for w in layer.weights] for layer in model.layers}


@pytest.mark.parametrize(
    ("build_it", "parameters", "macs", "peak"),
    [
        (Nano_U, 4212, 1_680_000, 38_400),
        (lambda **o: Nano_U(filters=(8, 16, 32), bottleneck=32, **o), 11_904, 4_536_000, 76_800),
        (lambda **o: Nano_U(filters=(4, 4, 8), bottleneck=8, **o), 1844, 1_108_800, 38_400),
        (BU_Net, 225_576, 103_565_120, 614_400),
    ],
    ids=["nano_u", "nano_u 8", "nano_u 4", "bu_net"],
)
def test_late_upsampling_takes_less_and_has_as_many_parameters(build_it, parameters, macs, peak):
    early, late = build_it(), build_it(late_upsampling=True, enable_probes=GROUPS)
    cost = model_cost(late)
    assert early.count_params() == late.count_params() == parameters
    assert (cost.macs, cost.peak_activation_bytes) == (macs, peak)
    assert late.output_shape == early.output_shape
    assert probe_names(late) == probe_names(build_it(enable_probes=GROUPS))
    names = [layer.name for layer in late.layers]
    for stage in (1, 2, 3):
        order = [f"decoder_{stage}_{part}" for part in ("1_relu", "upsample", "2_depthwise")]
        assert sorted(order, key=names.index) == order
    same = {name: s for name, s in shapes(early).items() if s}
    other = {name: s for name, s in shapes(late).items() if s}
    assert (same == other) == (early.name == "nano_u")


@pytest.mark.parametrize("name", MODELS)
def test_each_block_has_its_width(name):
    blocks = 2 if name == "nano_u" else 3
    widths = [tuple(range(first, first + blocks)) for first in (2, 5, 8, 11, 14)]
    model = MODELS[name](
        SIZE, filters=widths[:2], bottleneck=widths[2], decoder_filters=[widths[3], 7]
    )
    expected = dict(zip(("encoder_1", "encoder_2", "bottleneck"), widths, strict=False))
    expected |= {"decoder_1": widths[3], "decoder_2": (7,) * blocks}
    for part, each in expected.items():
        found = [model.get_layer(f"{part}_{n}_pointwise").filters for n in range(1, blocks + 1)]
        assert tuple(found) == each, part
    plain = MODELS[name](SIZE, filters=(4, [6] * blocks), bottleneck=8, late_upsampling=False)
    spelt = MODELS[name](SIZE, (4, 6), [8] * blocks, decoder_filters=(6, 4))
    assert plain.to_json() == spelt.to_json()


@pytest.mark.parametrize("name", MODELS)
def test_probe_names(name):
    stages = range(1, 4 if name == "nano_u" else 3)
    encoder = [f"probe_encoder_{i}" for i in stages]
    decoder = [f"probe_decoder_{i}" for i in stages]
    assert probe_names(build(name)) == []
    assert probe_names(build(name, True)) == [*encoder, "probe_bottleneck"]
    assert probe_names(build(name, GROUPS)) == [*encoder, "probe_bottleneck", *decoder]
    assert probe_names(build(name, ["decoder"])) == decoder


def test_probes_sit_after_the_last_relu_and_before_pooling_and_skip():
    model = BU_Net(SIZE, **WIDTHS["bu_net"], enable_probes=GROUPS)
    for place in ("encoder_1", "encoder_2", "bottleneck", "decoder_1", "decoder_2"):
        probe = model.get_layer(f"probe_{place}")
        (before,) = probe._inbound_nodes[0].parent_nodes
        assert before.operation.name == f"{place}_3_relu"
    after = model.get_layer("probe_encoder_2")._outbound_nodes
    assert {node.operation.name for node in after} == {"encoder_2_pool", "decoder_1_concatenate"}


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_probes_change_no_output_and_no_weight_path(name, setting, rng):
    plain, probed = randomised(build(name), rng), build(name, setting)
    assert [w.path for w in probed.weights] == [w.path for w in plain.weights]
    probed.set_weights(plain.get_weights())
    images = rng.uniform(-1, 1, (2, *SIZE)).astype("float32")
    np.testing.assert_array_equal(probed(images).numpy(), plain(images).numpy())


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_weight_files_are_interchangeable_both_ways(name, setting, rng, tmp_path):
    images = rng.uniform(-1, 1, (2, *SIZE)).astype("float32")
    for writes, reads in ((False, setting), (setting, False)):
        written = randomised(build(name, writes), rng)
        written.save_weights(tmp_path / "w.weights.h5")
        read = build(name, reads)
        read.load_weights(tmp_path / "w.weights.h5")
        for one, other in zip(written.weights, read.weights, strict=True):
            np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=one.path)
        np.testing.assert_array_equal(read(images).numpy(), written(images).numpy())


@pytest.mark.slow
def test_keras_files_load_in_safe_mode_in_another_process(tmp_path, rng):
    images = rng.uniform(-1, 1, (2, *SIZE)).astype("float32")
    np.save(tmp_path / "images.npy", images)
    for name, (number, setting) in itertools.product(MODELS, enumerate(SETTINGS)):
        model = randomised(build(name, setting), rng)
        model.save(tmp_path / f"{name}_{number}.keras")
        np.save(tmp_path / f"{name}_{number}.npy", model(images).numpy())
    script = f"""
import pathlib, numpy as np, keras, models
folder = pathlib.Path({str(tmp_path)!r})
images = np.load(folder / "images.npy")
for path in sorted(folder.glob("*.keras")):
    model = keras.models.load_model(path, safe_mode=True)
    assert (model(images).numpy() == np.load(path.with_suffix(".npy"))).all(), path
    print(path.name, len(models.probe_names(model)))
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    probes = dict(line.split() for line in run.stdout.splitlines())
    expected = {
        f"{name}_{number}.keras": str(len(probe_names(build(name, setting))))
        for name, (number, setting) in itertools.product(MODELS, enumerate(SETTINGS))
    }
    assert probes == expected


def export_int8(model, path, images):
    """Exports as FACTS of the field have it: full integer, batch 1."""
    model.export(
        path,
        format="litert",
        verbose=False,
        input_signature=[keras.InputSpec(shape=(1, *model.input_shape[1:]), dtype="float32")],
        optimizations=[tf.lite.Optimize.DEFAULT],
        representative_dataset=lambda: ([image[None]] for image in images),
        target_spec={"supported_ops": [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]},
        inference_input_type=tf.int8,
        inference_output_type=tf.int8,
    )
    return path.read_bytes()


def run_int8(content, image):
    """Returns the operators of an exported file and its answer to one image."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=content,
        experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    )
    interpreter.allocate_tensors()
    before, after = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    scale, zero = before["quantization"]
    interpreter.set_tensor(before["index"], np.round(image[None] / scale + zero).astype(np.int8))
    interpreter.invoke()
    operators = Counter(op["op_name"] for op in interpreter._get_ops_details())
    return operators, interpreter.get_tensor(after["index"])


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_nothing_of_a_probe_is_left_in_an_int8_export(name, rng, tmp_path, capfd):
    images = rng.uniform(-1, 1, (4, *SIZE)).astype("float32")
    keras.utils.set_random_seed(0)
    plain = build(name)
    for weight in plain.weights:
        if weight.path.endswith("gamma"):
            weight.assign(3 * np.ones(weight.shape))  # else the last layers say next to nothing
    operators, answer = run_int8(export_int8(plain, tmp_path / "plain.tflite", images), images[0])
    assert operators["DEPTHWISE_CONV_2D"] >= 14
    assert np.unique(answer).size > 2
    for number, setting in enumerate(SETTINGS[1:]):
        probed = build(name, setting)
        probed.set_weights(plain.get_weights())
        content = export_int8(probed, tmp_path / f"{number}.tflite", images)
        assert b"probe" not in content.lower(), setting
        probed_operators, probed_answer = run_int8(content, images[0])
        assert probed_operators == operators, setting
        np.testing.assert_array_equal(probed_answer, answer)
    capfd.readouterr()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_trains_under_xla(name, rng):
    keras.utils.set_random_seed(0)
    model = build(name, True)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True), jit_compile=True)
    images = rng.uniform(-1, 1, (8, *SIZE)).astype("float32")
    masks = (images[..., :1] > 0).astype("float32")
    history = model.fit(images, masks, batch_size=4, epochs=2, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]


def test_a_probe_is_a_plain_identity_layer_with_the_prefix():
    probe = keras.layers.deserialize(keras.layers.serialize(Probe(name="probe_here")))
    assert type(probe) is keras.layers.Identity
    assert probe.name == "probe_here"
    with pytest.raises(ValueError, match="begin with 'probe_'.*Received: name='here'"):
        Probe(name="here")


def test_a_file_with_probes_loads_in_plain_keras_alone(tmp_path, rng):
    model = randomised(Nano_U(SIZE, (2, 2), 2, enable_probes=True), rng)
    images = rng.uniform(-1, 1, (2, *SIZE)).astype("float32")
    model.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", images)
    script = """
import sys, keras, numpy as np
model = keras.saving.load_model("model.keras", safe_mode=True)
np.save("outputs.npy", model.predict(np.load("images.npy"), verbose=0))
assert not {"models", "monitoring", "training", "probe_zoo"} & set(sys.modules)
print([layer.name for layer in model.layers if layer.name.startswith("probe_")])
"""
    run = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(probe_names(model))
    expected = model.predict(images, verbose=0)
    np.testing.assert_array_equal(np.load(tmp_path / "outputs.npy"), expected)


def test_a_file_of_version_0_1_loads_with_identity_layers(rng):
    """Its probes are of a class of ours, which only `import models` made known."""
    model = keras.saving.load_model(FILES / "probes_of_0.1.keras", safe_mode=True)
    assert probe_names(model) == ["probe_encoder_1", "probe_bottleneck"]
    assert {type(model.get_layer(name)) for name in probe_names(model)} == {keras.layers.Identity}
    plain = keras.Sequential(
        [keras.Input((6, 8, 3))]
        + [
            type(layer).from_config(layer.get_config())
            for layer in model.layers
            if isinstance(layer, keras.layers.Conv2D)
        ]
    )
    plain.set_weights(model.get_weights())
    assert all(np.ptp(weight) > 0 for weight in model.get_weights() if weight.ndim > 1)
    images = rng.uniform(-1, 1, (2, 6, 8, 3)).astype("float32")
    np.testing.assert_array_equal(
        model.predict(images, verbose=0), plain.predict(images, verbose=0)
    )


def test_side_model_gives_the_activations_of_any_layer(rng):
    model = randomised(Nano_U(SIZE, enable_probes=True), rng)
    images = rng.uniform(-1, 1, (2, *SIZE)).astype("float32")
    side = side_model(model, ["encoder_1_2_relu", "logits"])
    outputs = side(images)
    np.testing.assert_array_equal(outputs["logits"].numpy(), model(images).numpy())
    probed = side_model(model)(images)
    assert list(probed) == probe_names(model)
    np.testing.assert_array_equal(
        probed["probe_encoder_1"].numpy(), outputs["encoder_1_2_relu"].numpy()
    )


def test_side_model_leaves_out_what_no_probe_needs():
    side = side_model(Nano_U(enable_probes=True))
    assert not [layer.name for layer in side.layers if layer.name.startswith("decoder")]


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__(name="subclassed")
        self.dense = keras.layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def shared_layer_model():
    inputs, dense = keras.Input((4,)), keras.layers.Dense(4, name="twice")
    return keras.Model(inputs, dense(dense(inputs)), name="sharing")


@pytest.mark.parametrize(
    "model, names, says",
    [
        (Nano_U, None, "Build it with `enable_probes=True`"),
        (Nano_U, ["probe_encoder_9"], "no layer 'probe_encoder_9'. Its layers: image, encoder_1_1"),
        (Subclassed, ["dense"], "'subclassed' is not a functional model"),
        (shared_layer_model, ["twice"], "'twice' of model 'sharing' is called more than once"),
    ],
)
def test_side_model_errors(model, names, says):
    with pytest.raises(ValueError, match=says):
        side_model(model(), names)
