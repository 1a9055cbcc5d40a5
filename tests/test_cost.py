"""What a network costs: closed forms, the published figures, and TensorFlow's own profiler."""

import json
import re

import keras
import pytest
from keras import layers as kl

from models import BU_Net, Nano_U
from models.__main__ import main
from models.cost import model_cost
from training.export import untrained

PRODUCTS = ("Conv2D", "DepthwiseConv2dNative", "MatMul")


def profiled_macs(model) -> int:
    """Returns half of the operations that TensorFlow counts in convolutions and products."""
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2 as frozen,
    )

    shapes = [tf.TensorSpec((1, *t.shape[1:])) for t in model.inputs]
    function = tf.function(lambda *x: model(list(x) if len(x) > 1 else x[0], training=False))
    graph = frozen(function.get_concrete_function(*shapes)).graph
    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    todo, total = [profiler.profile(graph, cmd="op", options=options)], 0
    while todo:
        node = todo.pop()
        total += node.float_ops if node.name in PRODUCTS else 0
        todo += node.children
    assert total
    return total // 2


@pytest.mark.parametrize(
    ("model", "parameters", "trainable", "macs"),
    [
        (lambda: Nano_U(), 4212, 3638, 2_399_200),
        (lambda: Nano_U(filters=(16, 32, 64), bottleneck=64), 37848, 35570, 20_574_400),
        (lambda: BU_Net(), 225_576, 218_274, 125_279_040),
    ],
    ids=["nano_u", "wide", "bu_net"],
)
def test_the_published_networks(model, parameters, trainable, macs):
    model = model()
    cost = model_cost(model)
    assert (cost.parameters, cost.trainable, cost.macs) == (parameters, trainable, macs)
    assert sum(layer.parameters for layer in cost.layers) == parameters
    assert profiled_macs(model) == macs
    assert cost.uncounted == ()


def test_other_layers_as_tensorflow_counts_them():
    inputs = keras.Input((17, 20, 3))
    x = kl.Conv2D(8, 3, strides=2, padding="same")(inputs)
    x = kl.SeparableConv2D(5, 3, depth_multiplier=2)(x)
    x = kl.DepthwiseConv2D(2, depth_multiplier=3, strides=2)(x)
    x = kl.Dense(7)(kl.Flatten()(x))
    model = keras.Model(inputs, kl.Dense(2)(x))
    assert model_cost(model).macs == profiled_macs(model)


def test_groups_and_dilation_which_the_profiler_does_not_see():
    inputs = keras.Input((9, 9, 8))
    x = kl.Conv2D(12, 3, groups=4)(inputs)  # 7 x 7
    model = keras.Model(inputs, kl.Conv2D(2, 3, dilation_rate=2)(x))  # 3 x 3
    assert model_cost(model).macs == 49 * 12 * 9 * 2 + 9 * 2 * 9 * 12


def test_a_transposed_convolution_multiplies_each_input():
    inputs = keras.Input((5, 4, 3))
    model = keras.Model(inputs, kl.Conv2DTranspose(6, 3, strides=2)(inputs))
    assert model_cost(model).macs == 5 * 4 * 3 * 6 * 9


def test_activations_of_a_chain_are_one_operations_input_and_output():
    inputs = keras.Input((8, 8, 2))
    x = kl.Conv2D(4, 1, use_bias=False, name="first")(inputs)
    x = kl.ReLU()(kl.BatchNormalization()(x))  # part of the convolution
    x = kl.MaxPooling2D(name="pool")(x)
    model = keras.Model(inputs, kl.Conv2D(1, 1, name="last")(x))
    cost = model_cost(model)
    alive = {layer.name: layer.activation_bytes for layer in cost.layers}
    assert alive == {"first": 8 * 8 * (2 + 4), "pool": 4 * (64 + 16), "last": 16 * (4 + 1)}
    assert cost.peak_activation_bytes == 384 and cost.peak_layer == "first"
    # A byte a weight, four a bias: the folded norm brings the first convolution's.
    assert cost.weight_bytes == (2 * 4 + 4 * 4) + (4 + 4)


def test_a_skip_is_alive_until_it_is_read():
    inputs = keras.Input((8, 8, 1))
    skip = kl.Conv2D(2, 1, name="skip")(inputs)
    low = kl.Conv2D(4, 1, name="low")(kl.MaxPooling2D(name="pool")(skip))
    up = kl.UpSampling2D(name="up")(low)
    model = keras.Model(inputs, kl.Concatenate(name="join")([skip, up]))
    alive = {layer.name: layer.activation_bytes for layer in model_cost(model).layers}
    assert alive == {
        "skip": 64 + 128,
        "pool": 128 + 32,
        "low": 128 + 32 + 64,
        "up": 128 + 64 + 256,
        "join": 128 + 256 + 384,
    }


def test_an_activation_that_others_read_before_it_is_an_operation_of_its_own():
    inputs = keras.Input((4, 4, 1))
    x = kl.Conv2D(2, 1, name="conv")(inputs)
    model = keras.Model(inputs, kl.Add(name="add")([x, kl.ReLU(name="relu")(x)]))
    alive = {layer.name: layer.activation_bytes for layer in model_cost(model).layers}
    assert alive == {"conv": 48, "relu": 64, "add": 96}


def test_probes_cost_nothing():
    assert model_cost(BU_Net(enable_probes=True)) == model_cost(BU_Net())


def test_nested_models_count_as_their_layers_and_shared_weights_once():
    block = keras.Sequential([keras.Input((6, 6, 3)), kl.Conv2D(3, 1, name="mix")])
    inputs = keras.Input((6, 6, 3))
    cost = model_cost(keras.Model(inputs, block(block(inputs))))
    assert [layer.name for layer in cost.layers] == ["mix", "mix"]
    assert cost.macs == 2 * 36 * 9
    assert cost.parameters == sum(layer.parameters for layer in cost.layers) == 12
    assert cost.peak_activation_bytes == 2 * 108


def test_what_is_not_counted_is_named():
    inputs = keras.Input((5, 3))
    model = keras.Model(inputs, kl.LSTM(4, name="memory")(inputs))
    cost = model_cost(model)
    assert cost.uncounted == ("memory",) and cost.macs == 0


def test_what_has_no_graph_or_no_size_is_refused():
    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="Received: 'mine', a Subclassed"):
        model_cost(Subclassed(name="mine"))
    inputs = keras.Input((None, 8, 3))
    with pytest.raises(ValueError, match="Expected a fixed size"):
        model_cost(keras.Model(inputs, kl.Conv2D(2, 1)(inputs)))


@pytest.mark.parametrize("late", [False, True])
def test_what_lies_there_at_the_peak(late):
    cost = model_cost(BU_Net(late_upsampling=late))
    found = [(tensor.made_by, tensor.bytes) for tensor in cost.peak_tensors]
    deeper = ("decoder_3_upsample", 4800 * (32 if late else 64))
    skip, joined = ("encoder_1_3_pointwise", 4800 * 32), 4800 * 32 + deeper[1]
    assert found == [skip, deeper, ("decoder_3_concatenate", joined)]
    assert cost.peak_layer == "decoder_3_concatenate"
    inputs = keras.Input((8, 8, 3), name="picture")
    cost = model_cost(keras.Model(inputs, kl.Conv2D(2, 1, name="only")(inputs)))
    assert [t.made_by for t in cost.peak_tensors] == ["picture", "only"]


def test_the_card(capsys):
    assert main(["nano_u", "--filters", "4,8,16", "--layers"]) == 0
    said = capsys.readouterr().out
    assert "nano_u at 60x80, filters 4,8,16, bottleneck 16\n" in said
    assert "4,212  (3,638 trainable)" in said and "2,399,200" in said
    assert "76,800  bytes in INT8, at decoder_3_1_depthwise:\n" in said
    assert "38,400  from decoder_3_upsample\n" in said
    assert "38,400  from decoder_3_1_depthwise\n" in said
    assert (
        main(["nano_u", "--filters", "4:6,8,16", "--bottleneck", "9:3", "--late-upsampling"]) == 0
    )
    said = capsys.readouterr().out
    assert "filters 4:6,8,16, bottleneck 9:3, late upsampling\n" in said
    assert main(["nano_u", "--decoder-filters", "16,8,4"]) == 0
    assert "4,212  (3,638 trainable)" in capsys.readouterr().out
    assert main(["bu_net", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["macs"] == 125_279_040
    assert found["layers"][0]["name"] == "encoder_1_1_depthwise"


def test_the_card_has_the_exact_arena(capsys, monkeypatch):
    pytest.importorskip("tflite_micro")
    assert main(["nano_u", "--late-upsampling"]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"exact arena +49,376  bytes \(TensorFlow Lite Micro\)\n", printed)
    assert re.search(r"with an overlapping plan +30,800 ", printed)
    assert main(["nano_u", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["arena_bytes"], found["arena_bytes_overlap"]) == (87_776, 50_064)
    monkeypatch.setattr(untrained, "PACKAGES", {"no_such_module": "no-such-package"})
    assert main(["nano_u"]) == 0
    assert "exact arena                  unknown: it needs no-such-package" in (
        capsys.readouterr().out
    )
    monkeypatch.setattr("models.__main__.IN_CHECKOUT", False)
    assert main(["nano_u", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["arena_bytes"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["vgg"], "Unknown model 'vgg'. Known: nano_u, bu_net."),
        (["nano_u", "--input-size", "61,80"], "pools height and width 3 times"),
        (["nano_u", "--filters", "4,0"], "Widths must be positive integers"),
    ],
)
def test_errors_are_one_line(arguments, message, capsys):
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1


def test_a_number_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        main(["nano_u", "--filters", "4,x"])
    assert "expected whole numbers" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["nano_u", "--bottleneck", "8,4"])
    assert "expected one width, or 8:16. Received: '8,4'" in capsys.readouterr().err
