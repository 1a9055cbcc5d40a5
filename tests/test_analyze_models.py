"""`analyze` of models with other inputs, outputs and files: works, or is refused beforehand."""

import re

import keras
import numpy as np
import pytest
from keras import layers as kl
from PIL import Image

from monitoring.__main__ import main
from monitoring.records.reading import read_run
from training.commands import analyze
from training.model_images import preprocessing


@keras.saving.register_keras_serializable("test_analyze_models")
class Branches(keras.Model):
    """Returns one output or two, which only a call shows."""

    def __init__(self, names=("main",), **options):
        super().__init__(**options)
        self.enc = kl.Conv2D(4, 3, padding="same", name="enc")
        self.names = list(names)

    def build(self, shape):
        self.enc.build(shape)

    def call(self, x):
        x = keras.ops.mean(self.enc(x), axis=-1, keepdims=True)
        return {name: x for name in self.names}

    def get_config(self):
        return {**super().get_config(), "names": self.names}


@pytest.fixture
def data(tmp_path, rng):
    for kind in ("img", "mask"):
        (tmp_path / "data" / "val" / kind).mkdir(parents=True)
    for number in range(8):
        pixels = rng.integers(0, 256, (16, 16, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data" / "val" / "img" / f"{number}.png")
        mask = np.where(pixels[..., 1] > 128, 255, 0).astype(np.uint8)
        Image.fromarray(mask).save(tmp_path / "data" / "val" / "mask" / f"{number}.png")
    return tmp_path / "data"


def parts(channels=3, size=(16, 16)):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((*size, channels), name="pictures")
    features = kl.Conv2D(8, 3, padding="same", name="enc")(inputs)
    return inputs, kl.Conv2D(1, 1, name="main")(features), kl.Conv2D(1, 1, name="aux")(features)


def plain(channels=3):
    inputs, main_output, _ = parts(channels)
    return keras.Model(inputs, main_output)


def built(model, channels=3):
    model(np.zeros((1, 16, 16, channels), np.float32))
    return model


def run(tmp_path, model, data, *options):
    """Saves a model, analyzes it, and returns the exit code and the folder."""
    model.save(tmp_path / "model.keras")
    command = ["analyze", str(tmp_path / "model.keras"), "--data", str(data), *options]
    return main(command), tmp_path / "model-analysis"


@pytest.mark.parametrize("size", [None, (16, 16)])
def test_a_grey_model_gets_images_in_grey(tmp_path, data, size):
    model = plain(channels=1)
    model.save(tmp_path / "grey.keras")
    options = {"layers": ["enc"], "input_size": size, "cut": True, "ladder": [0.5]}
    ladder = analyze(tmp_path / "grey.keras", data, **options).ladder
    files = sorted((data / "val" / "img").iterdir())[1::2]
    images = np.stack([np.asarray(Image.open(path).convert("L")) for path in files])[..., None]
    truth = np.stack([np.asarray(Image.open(data / "val/mask" / path.name)) > 0 for path in files])
    found = model.predict(images / np.float32(127.5) - 1, verbose=0)[..., 0] >= 0
    ious = [(a & b).sum() / (a | b).sum() for a, b in ((found, truth), (~found, ~truth))]
    assert ladder.score == "mIoU"
    assert ladder.parent.score == pytest.approx(np.mean(ious), abs=1e-6)


def test_a_subclassed_grey_model_is_known_by_its_build(tmp_path, data):
    model = built(Branches(), channels=1)
    code, folder = run(tmp_path, model, data, "--layers", "enc", "--input-size", "16,16")
    assert code == 0 and list(read_run(folder).records) == ["enc"]


@pytest.mark.parametrize("layers", [["--layers", "enc"], []], ids=["enc", "output"])
@pytest.mark.parametrize("structure", [lambda x: {"main": x}, lambda x: [x]], ids=["dict", "list"])
def test_one_output_in_a_dict_or_list_is_analyzed_as_it_is_alone(
    tmp_path, data, structure, layers, capsys
):
    inputs, output, _ = parts()
    model = keras.Model({"pictures": inputs}, structure(output))
    assert run(tmp_path, model, data, *layers)[0] == 0
    found = capsys.readouterr().out
    (tmp_path / "alone").mkdir()
    assert run(tmp_path / "alone", plain(), data, *layers)[0] == 0
    expected = capsys.readouterr().out
    assert found.partition("Written")[0] == expected.partition("Written")[0]


def several(structure):
    inputs, main_output, aux = parts()
    return keras.Model(inputs, structure(main_output, aux))


def two_inputs():
    inputs, output, _ = parts()
    other = keras.Input((16, 16, 3), name="depth")
    return keras.Model([inputs, other], kl.Add()([output, kl.Conv2D(1, 1)(other)]))


def with_size(size):
    inputs, output, _ = parts(size=size)
    return keras.Model(inputs, output)


def relu_ended():
    inputs, output, _ = parts()
    return keras.Model(inputs, kl.ReLU()(output))


SIZE = ["--input-size", "16,16"]
REFUSED = {
    "four channels": (lambda: plain(4), [], "takes 4 channels, .*as grey .1. or RGB .3."),
    "four channels and a size": (lambda: plain(4), SIZE, "takes 4 channels"),
    "a dict": (
        lambda: several(lambda a, b: {"main": a, "aux": b}),
        [],
        r"2 outputs of model .*: (main, aux|aux, main)\. .*model\.output\['(main|aux)'\]\)",
    ),
    "a list": (
        lambda: several(lambda a, b: [a, b]),
        [],
        r"2 outputs of model .*: main, aux\. Use .* model\.outputs\[0\]\)",
    ),
    "known by a call": (
        lambda: built(Branches(("main", "aux"))),
        SIZE,
        r"2 outputs of model .*: (main, aux|aux, main)\. Use a model that returns one of them",
    ),
    "two inputs": (two_inputs, [], "2 inputs of model .*: pictures, depth"),
    "another size": (plain, ["--input-size", "8,16"], "images of 16x16 pixels. Received: .* 8,16"),
    "no size": (lambda: with_size((None, None)), [], "has no fixed size"),
    "not told": (
        relu_ended,
        ["--cut"],
        "ends in relu.*give --outputs logits",
    ),
    "a vector": (
        lambda: keras.Sequential([keras.Input((5,)), kl.Dense(1)]),
        [],
        r"input \(batch, height, width, channels\). Received: input shape \(None, 5\)",
    ),
}


def refusal(capsys):
    """The one line on the console."""
    message = capsys.readouterr().err
    assert message.count("\n") == 1 and message.startswith("python -m monitoring analyze: error: ")
    return message


@pytest.mark.parametrize("case", REFUSED)
def test_other_models_are_refused_before_anything_is_measured(tmp_path, data, case, capsys):
    model, options, message = REFUSED[case]
    code, folder = run(tmp_path, model(), data, "--layers", "enc", *options)
    assert code == 2 and not folder.exists()
    assert re.search(message, refusal(capsys))


@pytest.mark.filterwarnings("ignore:You are using a softmax")
def test_a_softmax_over_one_channel_is_refused_whatever_the_folder(tmp_path, data, capsys):
    inputs, output, _ = parts()
    model = keras.Model(inputs, kl.Softmax()(output))
    code, folder = run(tmp_path, model, data / "val" / "img", "--layers", "enc")
    assert code == 2 and not folder.exists()
    assert "which is 1 everywhere: end it in a sigmoid" in refusal(capsys)


def test_a_softmax_of_several_classes_is_not_scored_against_masks(tmp_path, data, capsys):
    inputs = keras.Input((16, 16, 3))
    classes = kl.Conv2D(3, 1, activation="softmax")(
        kl.Conv2D(8, 3, padding="same", name="enc")(inputs)
    )
    assert run(tmp_path, keras.Model(inputs, classes), data, "--layers", "enc")[0] == 0
    assert "mIoU" not in capsys.readouterr().out


def test_other_files_are_refused_with_the_way_to_a_keras_file(tmp_path, data, capsys):
    model = plain()
    model.save_weights(tmp_path / "model.weights.h5")
    (tmp_path / "model.h5").write_bytes(b"\x89HDF\r\n\x1a\n and more")
    for folder, file in (("exported", "saved_model.pb"), ("finished", "model.keras"), ("none", "")):
        (tmp_path / folder).mkdir()
        if file:
            (tmp_path / folder / file).touch()
    old, new = tmp_path / "model.h5", tmp_path / "model.keras"
    for name, message in {
        "model.h5": f"keras.models.load_model('{old}', compile=False).save('{new}')",
        "model.weights.h5": "holds weights alone, and no model",
        "exported": "A SavedModel shows no layers",
        "finished": f"Give its model, {tmp_path}/finished/model.keras",
        "none": "is a folder. Expected a .keras file",
    }.items():
        before = sorted(tmp_path.rglob("*"))
        assert main(["analyze", str(tmp_path / name), "--data", str(data)]) == 2
        assert message in refusal(capsys) and sorted(tmp_path.rglob("*")) == before


def test_preprocessing_of_rgb_does_not_take_grey():
    grey = np.zeros((1, 2, 2, 1), np.uint8)
    assert preprocessing("mobilenet_v2")(grey).min() == -1
    with pytest.raises(ValueError, match="--preprocess vgg16 is for RGB"):
        preprocessing("vgg16")(grey)
