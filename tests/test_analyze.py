"""Any saved model on any folder of images, from the command line."""

import json
import sys

import keras
import numpy as np
import pandas
import pytest
from keras import layers as kl
from PIL import Image

from models import Nano_U
from monitoring.__main__ import main
from monitoring.records.reading import read_run
from training.model_images import preprocessing

OWN = """
import keras

@keras.saving.register_keras_serializable(package="mine")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x

@keras.saving.register_keras_serializable(package="mine")
class Network(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.mix = keras.layers.Conv2D(6, 3, name="mix")
        self.twice = Twice(name="twice")
        self.head = keras.layers.Dense(2, name="head")

    def build(self, shape):
        self.mix.build(shape)
        self.head.build((None, 6))
        self.built = True

    def call(self, x):
        return self.head(keras.ops.mean(self.twice(self.mix(x)), axis=(1, 2)))
"""


@pytest.fixture
def images(tmp_path, rng):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(20):
        pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


@pytest.fixture
def masked(tmp_path, images, rng):
    for kind in ("img", "mask"):
        (tmp_path / "data" / "val" / kind).mkdir(parents=True)
    for path in images.iterdir():
        Image.open(path).save(tmp_path / "data" / "val" / "img" / path.name)
        mask = Image.fromarray(rng.integers(0, 2, (30, 40), np.uint8) * 255)
        mask.save(tmp_path / "data" / "val" / "mask" / path.name)
    return tmp_path / "data"


def saved(tmp_path, layer=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((24, 32, 3))
    x = kl.Conv2D(64, 3, strides=2, name="conv")(inputs)  # of 27 numbers: at most 27 directions
    x = layer(x) if layer else x
    x = kl.Dense(3)(kl.GlobalAveragePooling2D()(x))
    path = tmp_path / "model.keras"
    keras.Model(inputs, x).save(path)
    return path


def test_a_classifier_on_a_folder_of_images(tmp_path, images, capsys):
    path = saved(tmp_path)
    options = ["--data", str(images), "--layers", "conv", "--preprocess", "none"]
    assert main(["analyze", str(path), *options, "--multiple", "1"]) == 0
    said = capsys.readouterr().out
    assert "conv" in said and "channels in use" in said
    folder = tmp_path / "model-analysis"
    (record,) = read_run(folder).records["conv"]
    assert (record.images, record.channels) == (20, 64)
    assert pandas.read_csv(folder / "monitor.csv").probe.tolist() == ["conv"]
    assert "conv" in (folder / "report.html").read_text()
    found = json.loads((folder / "analysis.json").read_text())
    assert found["images"] == 20 and found["advice"][0]["probe"] == "conv"
    # A second time would mix two analyses.
    assert main(["analyze", str(path), *options]) == 2
    assert "another analysis (monitor.csv)" in capsys.readouterr().err


def test_a_zoo_model_is_measured_at_its_probes(tmp_path, masked, capsys):
    path = tmp_path / "nano.keras"
    keras.utils.set_random_seed(0)  # some draws leave every channel of a stage dead
    Nano_U((24, 32, 3), enable_probes=True).save(path)
    assert main(["analyze", str(path), "--data", str(masked), "--multiple", "1"]) == 0
    said = capsys.readouterr().out
    assert "encoder_1" in said and "bottleneck" in said


def test_own_classes_come_with_import(tmp_path, masked, capsys, monkeypatch):
    (tmp_path / "network_of_mine.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    sys.path.insert(0, str(tmp_path))
    try:
        from network_of_mine import Network
    finally:
        sys.path.remove(str(tmp_path))
    model = Network(name="net")
    model(np.zeros((1, 24, 32, 3)))
    model.save("own.keras")
    del keras.saving.get_custom_objects()[keras.saving.get_registered_name(Network)]
    del sys.modules["network_of_mine"]
    command = ["analyze", "own.keras", "--data", str(masked), "--layers", "mix,twice"]
    command += ["--input-size", "24,32"]
    assert main(command) == 2
    assert "--import" in capsys.readouterr().err
    assert main([*command, "--import", "network_of_mine"]) == 0
    assert set(read_run("own-analysis").records) == {"mix", "twice"}
    assert main([*command, "--import", "no_such_module"]) == 2
    assert "--import no_such_module" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["none.keras"], "does not exist"),
        (["model.keras", "--layers", "nothing"], "has no layer 'nothing'"),
        (["model.keras", "--preprocess", "vgg99"], "Received: 'vgg99'"),
        (["model.keras", "--cut", "--ladder", "nan"], "Expected a ladder of shares"),
        (["model.keras", "--ladder", "0.5"], "A ladder belongs to cutting"),
        (["model.keras", "--rule", "best"], "Unknown rule"),
        (["text.keras"], "is not a .keras file"),
        (["model.keras", "--input-size", "5"], "Expected --input-size H,W"),
    ],
    ids=str,
)
def test_errors_are_one_line_and_leave_nothing(tmp_path, images, options, message, capsys):
    saved(tmp_path)
    (tmp_path / "text.keras").write_text("no model")
    command = ["analyze", str(tmp_path / options[0]), *options[1:], "--data", str(images)]
    assert main(command) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "model-analysis").exists()


def test_code_in_a_model_file_is_not_run(tmp_path, images, capsys):
    path = saved(tmp_path, kl.Lambda(lambda x: x + 1))
    assert main(["analyze", str(path), "--data", str(images)]) == 2
    assert "safe mode" in capsys.readouterr().err


def test_preprocessing_is_that_of_keras_applications():
    pixels = np.array([[[[0, 128, 255]]]], np.uint8)
    np.testing.assert_allclose(preprocessing("zoo")(pixels)[0, 0, 0], [-1, 0.00392, 1], atol=1e-4)
    np.testing.assert_array_equal(preprocessing("none")(pixels), pixels)
    expected = keras.applications.vgg16.preprocess_input(pixels.astype("float32"))
    np.testing.assert_array_equal(preprocessing("vgg16")(pixels), expected)
