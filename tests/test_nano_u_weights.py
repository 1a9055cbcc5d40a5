"""Weights of Nano-U in our Nano_U: the same outputs, every weight used once, plain errors."""

import sys

import keras
import numpy as np
import pytest
from nano_u_origin import IMAGES, nano_u, save_h5

from models import BU_Net, Nano_U, probe_names
from training.__main__ import main
from training.nano_u_names import bu_net_layers, nano_u_layers
from training.nano_u_weights import import_weights


@pytest.fixture(scope="module")
def origin():
    return nano_u()


@pytest.fixture
def images(rng):
    return rng.uniform(-1, 1, (2, *IMAGES)).astype("float32")


def outputs(model, images):
    return keras.ops.convert_to_numpy(model(images, training=False))


def test_the_tables_name_every_layer_with_weights_once():
    for names, model in (
        (nano_u_layers(), Nano_U()),
        (bu_net_layers(3), BU_Net()),
    ):
        assert len(set(names.values())) == len(names)
        ours = {layer.name for layer in model.layers}
        assert set(names.values()) <= ours
        assert {layer.name for layer in model.layers if layer.weights} <= set(names.values())


@pytest.mark.parametrize("whole", [True, False], ids=["model", "weights alone"])
@pytest.mark.parametrize("rounded", [False, True], ids=["plain", "quantisation-aware"])
def test_an_imported_network_puts_out_the_same(origin, images, tmp_path, rounded, whole):
    path = save_h5(origin, tmp_path / "nano_u.h5", rounded=rounded, whole=whole)
    model, ranges = import_weights(path)
    expected = outputs(origin, images)
    assert expected.std() > 0.3
    np.testing.assert_allclose(outputs(model, images), expected, rtol=0, atol=1e-5)
    assert model.count_params() == origin.count_params() == 4212
    assert bool(ranges) == rounded
    assert all("_min" in name or "_max" in name or "optimizer_step" in name for name in ranges)


def test_each_weight_of_ours_is_one_of_the_file(origin, tmp_path):
    """Every value of the file is another: a weight used twice, or not at all, shows."""
    number = iter(range(10**6))

    def count(weights):
        for name, values in weights.items():
            weights[name] = np.array([next(number) for _ in range(values.size)], "float32").reshape(
                values.shape
            )

    model, _ = import_weights(save_h5(origin, tmp_path / "nano_u.h5", change=count))
    values = np.concatenate([weight.numpy().ravel() for weight in model.weights])
    assert sorted(values) == list(range(4212))


def test_other_widths_and_sizes_are_those_of_the_file(images, tmp_path):
    origin = nano_u((3, 5, 6), 7)
    model, _ = import_weights(save_h5(origin, tmp_path / "other.h5"))
    np.testing.assert_allclose(outputs(model, images), outputs(origin, images), atol=1e-5)
    path = save_h5(origin, tmp_path / "weights.h5", whole=False)
    assert import_weights(path, input_size=(36, 64)).model.input_shape == (None, 36, 64, 3)


def without(weights):
    del weights["enc2a_bn1", "beta"]


def foreign(weights):
    weights["extra", "kernel"] = np.zeros((1, 1), "float32")


def misshapen(weights):
    weights["enc2b_bn2", "gamma"] = np.zeros(3, "float32")


def flat(weights):
    weights["enc1a_dw", "depthwise_kernel"] = np.zeros(9, "float32")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (flat, r"expected enc1a_dw/depthwise_kernel of 4 axes. Received: \(9,\)"),
        (without, "expected the 142 weights of Nano-U's nano_u. It lacks enc2a_bn1/beta."),
        (foreign, "It also holds extra/kernel. Only nano_u can be imported"),
        (misshapen, r"expected enc2b_bn2/gamma of shape \(8,\). Received: \(3,\)"),
    ],
)
def test_a_file_of_other_weights_is_refused(origin, tmp_path, change, says):
    path = save_h5(origin, tmp_path / "nano_u.h5", change=change)
    with pytest.raises(ValueError, match=says):
        import_weights(path)


def test_a_network_that_computes_something_else_is_refused(tmp_path):
    path = save_h5(nano_u(epsilon=1e-2), tmp_path / "epsilon.h5")
    with pytest.raises(ValueError, match=r"expected layer enc1a_bn1 with epsilon 0.001"):
        import_weights(path)
    path = save_h5(nano_u(pools=((2, 2), (3, 2), (2, 2))), tmp_path / "pools.h5")
    with pytest.raises(ValueError, match=r"with pool_size \(2, 2\), as Nano_U has it. .*\(3, 2\)"):
        import_weights(path)


def test_a_size_at_which_the_poolings_differ_is_refused(origin, tmp_path):
    path = save_h5(origin, tmp_path / "weights.h5", whole=False)
    with pytest.raises(ValueError, match=r"at an input of 48x64 Nano_U would pool by .*\(2, 2\)\)"):
        import_weights(path, input_size=(48, 64))


def test_files_of_another_kind_are_refused(origin, tmp_path):
    with pytest.raises(FileNotFoundError, match="nope.h5 does not exist"):
        import_weights(tmp_path / "nope.h5")
    (tmp_path / "text.h5").write_text("no HDF5")
    with pytest.raises(ValueError, match="text.h5: expected a .h5 file as Nano-U saves it"):
        import_weights(tmp_path / "text.h5")
    origin.save_weights(tmp_path / "keras_3.weights.h5")
    with pytest.raises(ValueError, match="in the layout of Keras 2"):
        import_weights(tmp_path / "keras_3.weights.h5")


def test_without_h5py_one_line_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "h5py", None)
    assert main(["import-weights", "nano_u.h5", "--output", str(tmp_path / "new.keras")]) == 2
    assert capsys.readouterr().err == (
        "python -m training import-weights: error: Reading a .h5 file needs h5py, which is not "
        "installed: pip install h5py\n"
    )


def test_the_command_saves_a_network_once(origin, images, tmp_path, capsys):
    path = save_h5(origin, tmp_path / "nano_u.h5", rounded=True)
    new = tmp_path / "new.keras"
    assert main(["import-weights", str(path), "--output", str(new)]) == 0
    printed = capsys.readouterr().out
    assert "4,212 parameters, all of" in printed
    assert "ranges and counters of quantisation-aware training" in printed
    model = keras.saving.load_model(new, safe_mode=True)
    assert len(probe_names(model)) == 4
    np.testing.assert_allclose(outputs(model, images), outputs(origin, images), atol=1e-5)
    saved = new.read_bytes()
    assert main(["import-weights", str(path), "--output", str(new)]) == 2
    assert "new.keras exists already; choose another name" in capsys.readouterr().err
    assert new.read_bytes() == saved
    assert main(["import-weights", str(path), "--output", str(tmp_path / "new.h5")]) == 2
    assert "expected a name that ends in .keras" in capsys.readouterr().err
