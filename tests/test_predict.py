"""`python -m training predict` and `evaluate`: what they write, and what each wrong turn says."""

import json
import re

import keras
import numpy as np
import pytest
from conftest import draw_image_folder, trained_run
from keras import layers as kl
from PIL import Image

from training.__main__ import main
from training.data import scale
from training.evaluate import predict as predicted_labels
from training.image_probabilities import Cutter, tiled_probabilities
from training.images import read_split
from training.litert import LiteRtFile, convert
from training.network_files import read_network
from training.palette import COLOURS
from training.prediction import predict_images
from training.rescoring import score_network
from training.settings import Config
from training.synthetic import CLASSES, synthetic_splits

SETTINGS = """
data: {{root: {data}}}
model: {{input_size: [24, 32], filters: [2, 3], bottleneck: 4}}
training: {{epochs: 1, batch_size: 4}}
export: {{format: int8, tolerance: 100}}
"""
OF_CLASSES = SETTINGS.replace(
    "{data}}}", "{data}, colours: {{terrain: 9, path: 20, obstacle: 30}}, ignore: [255]}}"
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_image_folder(tmp_path_factory.mktemp("data") / "images")


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    """A finished run of one class, with its INT8 file."""
    pytest.importorskip("ai_edge_litert")
    return trained_run(SETTINGS, data, tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def class_data(tmp_path_factory):
    """Drawn scenes of three classes, whose masks have values of their own and pixels to ignore."""
    root = tmp_path_factory.mktemp("data") / "classes"
    for name, split in vars(
        synthetic_splits(1, dict.fromkeys(("train", "val", "test"), 5), classes=3)
    ).items():
        for kind in ("img", "mask"):
            (root / name / kind).mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(split.images, split.masks, strict=True)):
            values = np.array([9, 20, 30], np.uint8)[mask[..., 0]]
            values[:3] = 255
            Image.fromarray(image).save(root / name / "img" / f"{number}.png")
            Image.fromarray(values).save(root / name / "mask" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def class_run(class_data, tmp_path_factory):
    pytest.importorskip("ai_edge_litert")
    return trained_run(OF_CLASSES, class_data, tmp_path_factory.mktemp("runs") / "three")


@pytest.fixture
def photo(tmp_path, rng):
    """An image of 70x90 pixels."""
    path = tmp_path / "photo.png"
    Image.fromarray(rng.integers(0, 256, (70, 90, 3), np.uint8)).save(path)
    return path


def pixels(path):
    with Image.open(path) as picture:
        return np.asarray(picture)


SCORES = ("miou", "f1", "precision", "recall", "images")


@pytest.mark.parametrize(
    ("kind", "with_data"), [("run", False), ("run", True), ("class_run", True)]
)
def test_scoring_a_run_again_gives_its_evaluation(request, tmp_path, capsys, kind, with_data):
    folder, output = request.getfixturevalue(kind), tmp_path / "scores.json"
    own = request.getfixturevalue({"run": "data", "class_run": "class_data"}[kind])
    more = ["--data", str(own)] if with_data else []
    assert main(["evaluate", str(folder), "--output", str(output), *more]) == 0
    written = json.loads((folder / "evaluation.json").read_text())
    scores = json.loads(output.read_text())
    assert set(SCORES) < set(scores) & set(written)
    shared = set(scores) & set(written)
    assert {name: scores[name] for name in shared} == {name: written[name] for name in shared}
    assert {"per_image_iou", "sweep", "split"} < shared
    assert f"test mIoU {written['miou']:.4f}, " in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["run", "class_run"])
def test_scoring_an_int8_file_gives_its_export(request, tmp_path, kind):
    folder, output = request.getfixturevalue(kind), tmp_path / "scores.json"
    file = folder / "model_int8.tflite"
    assert main(["evaluate", str(file), "--split", "test", "--output", str(output)]) == 0
    exported, scores = (
        json.loads((folder / "export.json").read_text()),
        json.loads(output.read_text()),
    )
    assert {name: scores[name] for name in exported["int8_scores"]} == exported["int8_scores"]
    assert scores["per_image_iou"] == exported["per_image_iou"]
    assert scores["sweep"] == exported["sweep"]


def test_a_threshold_scores_as_the_sweep_does(run, tmp_path, capsys):
    output, names = tmp_path / "scores.json", ("miou", "f1", "precision", "recall")
    rows = json.loads((run / "evaluation.json").read_text())["sweep"]
    [half] = [row for row in rows if row["threshold"] == 0.5]
    row = next(row for row in rows if row["miou"] != half["miou"])
    assert (
        main(["evaluate", str(run), "--threshold", str(row["threshold"]), "--output", str(output)])
        == 0
    )
    scores = json.loads(output.read_text())
    assert {name: scores[name] for name in (*names, "threshold")} == {
        name: row[name] for name in (*names, "threshold")
    }
    assert main(["evaluate", str(run), "--output", str(output)]) == 2
    assert "scores.json exists already: give --overwrite" in capsys.readouterr().err
    assert (
        main(["evaluate", str(run), "--split", "val", "--output", str(output), "--overwrite"]) == 0
    )
    assert "val mIoU" in capsys.readouterr().out
    assert json.loads(output.read_text())["threshold"] == 0.5


def test_a_file_by_itself_reads_masks_as_the_options_say(class_run, class_data, tmp_path, capsys):
    model = tmp_path / "alone.keras"
    model.write_bytes((class_run / "model.keras").read_bytes())
    assert main(["evaluate", str(model), "--data", str(class_data)]) == 2
    assert "expected class numbers 0..2" in capsys.readouterr().err
    assert main(["evaluate", str(model)]) == 2
    assert "names no folder of images to read: give --data" in capsys.readouterr().err
    numbered = tmp_path / "numbered" / "test"
    for kind in ("img", "mask"):
        (numbered / kind).mkdir(parents=True)
    for path in sorted((class_data / "test" / "img").iterdir()):
        (numbered / "img" / path.name).write_bytes(path.read_bytes())
        values = pixels(class_data / "test" / "mask" / path.name)
        numbers = np.select([values == 9, values == 20, values == 30], [0, 1, 2], 255)
        Image.fromarray(numbers.astype(np.uint8)).save(numbered / "mask" / path.name)
    output = tmp_path / "scores.json"
    arguments = ["evaluate", str(model), "--data", str(numbered.parent), "--ignore", "255"]
    assert main([*arguments, "--classes", ",".join(CLASSES), "--output", str(output)]) == 0
    written = json.loads((class_run / "evaluation.json").read_text())
    assert json.loads(output.read_text())["confusion"] == written["confusion"]


def test_masks_are_those_that_were_scored(run, data, tmp_path, capsys):
    small = tmp_path / "small"
    small.mkdir()
    for number in range(3):
        picture = Image.open(data / "test" / "img" / f"scene {number}.png")
        picture.resize((32, 24), Image.Resampling.BILINEAR).save(small / f"{number}.png")
    output = tmp_path / "masks"
    assert main(["predict", str(run), str(small), "--output", str(output)]) == 0
    assert capsys.readouterr().out.endswith(f"Written in {output}: 3 files (masks)\n")
    split = read_split(data / "test", (24, 32))
    model = keras.saving.load_model(run / "model.keras", safe_mode=True)
    expected = predicted_labels(model, split)
    for number in range(3):
        mask = pixels(output / f"{number}.png")
        assert mask.dtype == np.uint8 and mask.shape == (24, 32)
        assert np.array_equal(mask, 255 * expected[number, ..., 0])


def test_all_kinds_of_several_classes_at_the_images_own_size(class_run, photo, tmp_path):
    output = tmp_path / "all"
    arguments = ["predict", str(class_run), str(photo), "--output", str(output)]
    assert main([*arguments, "--as", "masks,probabilities,overlays"]) == 0
    names = {"photo.png", "photo.npy", "photo.overlay.png"}
    assert {path.name for path in output.iterdir()} == names
    values = np.load(output / "photo.npy", allow_pickle=False)
    assert values.shape == (70, 90, 3) and values.dtype == np.float32
    assert values.sum(axis=-1) == pytest.approx(1, abs=1e-5)
    mask = pixels(output / "photo.png")
    assert np.array_equal(mask, values.argmax(axis=-1))
    overlay, image = pixels(output / "photo.overlay.png"), pixels(photo)
    colours = np.array(COLOURS)[mask]
    assert np.abs(overlay[:70, :90].astype(int) - (image / 2 + colours / 2)).max() <= 1
    legend = {tuple(colour) for colour in overlay[70:].reshape(-1, 3).tolist()}
    assert {COLOURS[0], COLOURS[1], COLOURS[2]} <= legend
    # and resizing is what Keras and Pillow do one after the other
    small = np.asarray(Image.open(photo).resize((32, 24), Image.Resampling.BILINEAR))
    model = keras.saving.load_model(class_run / "model.keras", safe_mode=True)
    outputs = model.predict(scale(small[None]), verbose=0)[0]
    soft = np.exp(outputs) / np.exp(outputs).sum(axis=-1, keepdims=True)
    resized = [
        np.asarray(Image.fromarray(each).resize((90, 70), Image.Resampling.BILINEAR))
        for each in np.ascontiguousarray(np.moveaxis(soft, -1, 0))
    ]
    assert values == pytest.approx(np.stack(resized, axis=-1), abs=1e-5)


def test_an_overlay_of_one_class_leaves_the_background(run, photo, tmp_path):
    kinds = ("masks", "overlays")
    predict_images(run, [photo], tmp_path / "out", kinds=kinds, threshold=0.45)
    mask, shown = (
        pixels(tmp_path / "out" / "photo.png"),
        pixels(tmp_path / "out" / "photo.overlay.png"),
    )
    image = pixels(photo)
    assert np.array_equal(shown[:70, :90][mask == 0], image[mask == 0])
    assert set(np.unique(mask)) <= {0, 255}
    assert COLOURS[1] in {tuple(colour) for colour in shown[70:].reshape(-1, 3).tolist()}


@pytest.mark.parametrize("file", ["model.keras", "model_int8.tflite"])
def test_tiles_give_what_the_whole_image_gives(file, tmp_path, rng):
    """A network whose reach is small, in Keras and as INT8 file."""
    pytest.importorskip("ai_edge_litert")

    def network(height, width):
        inputs = keras.Input((height, width, 3))
        x = kl.Conv2D(4, 3, padding="same", activation="relu")(inputs)
        x = kl.UpSampling2D(2)(kl.Conv2D(4, 3, padding="same")(kl.MaxPooling2D(2)(x)))
        return keras.Model(inputs, kl.Conv2D(1, 1)(x))

    keras.utils.set_random_seed(1)
    tile, whole = network(32, 40), network(80, 112)
    whole.set_weights(tile.get_weights())
    image = rng.integers(0, 256, (80, 112, 3), np.uint8)
    path = tmp_path / file
    if path.suffix == ".keras":
        tile.save(path)
        expected = 1 / (1 + np.exp(-whole.predict(scale(image[None]), verbose=0)[0]))
        tolerance = 1e-6
    else:
        calibration = scale(image[None, :32, :40])
        path.write_bytes(convert(tile, calibration))
        other = np.pad(calibration, ((0, 0), (0, 48), (0, 72), (0, 0)), mode="reflect")
        expected = 1 / (1 + np.exp(-LiteRtFile(convert(whole, other))(scale(image[None]))[0]))
        tolerance = 0.05  # both were calibrated on their own
    found = read_network(path)
    cutter = Cutter.of(found, None if path.suffix == ".keras" else 12)
    assert cutter.is_exact == (path.suffix == ".keras")
    assert cutter.geometry.stride == (2, 2)
    tiling = cutter.tiling(80, 112)
    assert (tiling.rows.margin, tiling.columns.margin) == (cutter.geometry.radius or (None, None))
    values = tiled_probabilities(found, image, tiling)
    assert np.abs(values - expected).max() <= tolerance


def test_tiles_of_an_int8_file_in_a_run_know_the_networks_reach(run, photo, tmp_path, capsys):
    for name, file in (("float", run), ("int8", run / "model_int8.tflite")):
        arguments = ["predict", str(file), str(photo), "--output", str(tmp_path / name)]
        assert main([*arguments, "--size", "tile", "--as", "probabilities"]) == 0
        printed = capsys.readouterr().out
        assert "Tiles of 24x32, overlapping by 12 rows and 16 columns or more, fade" in printed
        assert re.search(r"^(\d+) of \1 tiles$", printed, re.MULTILINE)
    ours, rounded = (np.load(tmp_path / name / "photo.npy") for name in ("float", "int8"))
    assert ours.shape == (70, 90, 1)
    assert np.abs(ours - rounded).mean() < 0.02


def test_an_image_smaller_than_a_tile_is_extended_and_this_is_said(run, tmp_path, rng, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    for name, size in (("low", (10, 50)), ("tiny", (3, 1)), ("large", (50, 50))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "notes.txt").write_text("")
    output = tmp_path / "out"
    arguments = ["predict", str(run), str(folder), "--output", str(output), "--size", "tile"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed.count("Smaller than a tile, and extended by reflection: 2 images") == 1
    assert "Left out, no images: 1 files (notes.txt)" in printed
    assert "3 of 3 images" in printed
    for name, size in (("low", (10, 50)), ("tiny", (3, 1)), ("large", (50, 50))):
        assert pixels(output / f"{name}.png").shape == size


def test_nothing_is_overwritten_unless_asked(run, photo, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = [
        "predict",
        str(run),
        str(photo),
        "--output",
        str(output),
        "--as",
        "probabilities,masks",
    ]
    output.mkdir()
    (output / "photo.png").write_text("mine")
    assert main(arguments) == 2
    assert "photo.png exists already: give --overwrite" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["photo.png"]
    assert main([*arguments, "--overwrite"]) == 0
    assert pixels(output / "photo.png").shape == (70, 90)
    own = ["predict", str(run), str(photo), "--output", str(photo.parent), "--overwrite"]
    before = photo.read_bytes()
    assert main(own) == 2
    assert "photo.png is one of the images" in capsys.readouterr().err
    assert photo.read_bytes() == before


def test_two_images_of_one_name_are_refused_before_anything_is_written(
    run, photo, tmp_path, capsys
):
    other = tmp_path / "b" / "photo.jpg"
    other.parent.mkdir()
    Image.open(photo).save(other)
    output = tmp_path / "out"
    assert main(["predict", str(run), str(photo), str(other), "--output", str(output)]) == 2
    assert "would both become" in capsys.readouterr().err
    assert not output.exists()


def test_a_pattern_finds_images(run, data, tmp_path):
    pattern = str(data / "*" / "img" / "scene [12].png")
    with pytest.raises(ValueError, match="would both become"):
        predict_images(run, [pattern], tmp_path / "out")
    done = predict_images(run, [str(data / "val" / "img" / "* [12].png")], tmp_path / "out")
    assert [file.name for file in done.files] == ["scene 1.png", "scene 2.png"]


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Networks that do not fit, by name."""
    folder = tmp_path_factory.mktemp("others")
    inputs = keras.Input((24, 32, 3))
    masks, flat = kl.Conv2D(1, 1)(inputs), kl.Dense(5)(kl.GlobalAveragePooling2D()(inputs))
    second = keras.Input((24, 32, 3))
    models = {
        "digits": keras.Model(inputs, flat),
        "pair": keras.Model([inputs, second], kl.Conv2D(1, 1)(inputs + second)),
        "two": keras.Model(inputs, [masks, kl.Conv2D(2, 1)(inputs)]),
        "half": keras.Model(inputs, kl.Conv2D(1, 3, strides=2, padding="same")(inputs)),
        "fits": keras.Model(inputs, masks),
        "soft": keras.Model(inputs, kl.Conv2D(1, 1, activation="relu")(inputs)),
    }
    for name, model in models.items():
        model.save(folder / f"{name}.keras")
    for name in ("digits", "pair", "fits"):
        model = models[name]
        shapes = [
            keras.InputSpec(shape=(1, *each.shape[1:]), dtype="float32") for each in model.inputs
        ]
        signature = [shapes] if name == "pair" else shapes
        model.export(
            folder / f"{name}.tflite", format="litert", verbose=False, input_signature=signature
        )
    (folder / "broken.tflite").write_bytes(b"TFL3" * 20)
    (folder / "model.h5").write_bytes(b"")
    return folder


@pytest.mark.parametrize(
    ("file", "says"),
    [
        ("digits.tflite", r"from images .* to masks.*puts out \(1, 5\), as one for another task"),
        ("digits.keras", r"from images .* to masks.*puts out \(None, 5\), as one for another task"),
        ("pair.tflite", "with 2 inputs and 1 outputs"),
        ("pair.keras", "one input, images. Received: 2 inputs"),
        ("two.keras", "one output. Received: 2 outputs"),
        ("soft.keras", "may put out logits or probabilities .*: give --outputs logits"),
        ("broken.tflite", "broken.tflite cannot be run: "),
        ("model.h5", "Expected a run's folder, a .keras file or a .tflite file"),
        ("missing.keras", "does not exist: give a run's folder"),
        ("", "holds no model.keras"),
    ],
)
def test_a_network_that_does_not_fit_is_one_line(others, data, photo, tmp_path, capfd, file, says):
    output = tmp_path / "out"
    arguments = ["predict", str(others / file), str(photo), "--output", str(output)]
    one_line(arguments, says, capfd)
    one_line(["evaluate", str(others / file), "--data", str(data)], says, capfd)
    assert not output.exists()


def one_line(arguments, says, capture):
    capture.readouterr()
    assert main(arguments) == 2
    out, err = capture.readouterr()
    assert err.count("\n") == 1, err
    assert err.startswith(f"python -m training {arguments[0]}: error: ")
    assert re.search(says, err), err
    assert not out


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--threshold", "1.5"], "--threshold: expected more than 0 and less than 1"),
        (["--threshold", "nan"], "--threshold: expected more than 0 and less than 1"),
        (["--as", "masks,boxes"], "--as: expected some of masks, probabilities, overlays"),
        (["--overlap", "4"], "--overlap is for tiles: give --size tile"),
        (["--size", "tile", "--overlap", "40"], "overlap of 0 to 20 pixels: tiles have 24"),
        (["--preprocess", "none2"], "Expected --preprocess zoo"),
        (["--classes", "a,b"], "as many output channels as classes"),
    ],
)
def test_an_impossible_option_is_one_line(run, photo, tmp_path, capfd, more, says):
    output = tmp_path / "out"
    one_line(["predict", str(run), str(photo), "--output", str(output), *more], says, capfd)
    assert not output.exists()


def test_more_wrong_turns(run, class_run, class_data, data, others, photo, tmp_path, capfd):
    output = ["--output", str(tmp_path / "out")]
    half = ["predict", str(others / "half.keras"), str(photo), *output, "--size", "tile"]
    one_line(half, "12x16 pixels for images of 24x32, which cannot be tiled: give --size", capfd)
    predict = ["predict", str(run)]
    one_line([*predict, str(tmp_path / "no*.png"), *output], "matches no image: give a file", capfd)
    one_line([*predict, str(data), *output], r"holds no image .*: give .*test/img", capfd)
    notes = tmp_path / "notes.gif"
    notes.write_text("")
    one_line([*predict, str(notes), *output], "Expected an image, .png.*notes.gif", capfd)
    one_line([*predict, str(photo), "--output", str(photo)], "which is a file", capfd)
    with_threshold = ["evaluate", str(class_run), "--threshold", "0.5"]
    one_line(with_threshold, "--threshold is for one class, foreground; of 3 classes", capfd)
    empty = ["--data", str(tmp_path)]
    one_line(["evaluate", str(run), *empty], "Data folder .* holds no images", capfd)
    alone = ["evaluate", str(others / "fits.keras"), *empty]
    one_line(alone, "test/mask does not exist. Expected", capfd)
    one_line(["evaluate", str(run), "--threshold", "0"], "expected more than 0", capfd)
    damaged = tmp_path / "damaged.png"
    damaged.write_bytes(photo.read_bytes()[:900])
    one_line([*predict, str(damaged), *output], "damaged.png cannot be read", capfd)
    assert not list((tmp_path / "out").glob("*"))


def test_a_half_size_output_is_resized_and_grey_networks_read_grey(others, photo, tmp_path):
    predict_images(others / "half.keras", [photo], tmp_path / "half")
    assert pixels(tmp_path / "half" / "photo.png").shape == (70, 90)
    inputs = keras.Input((None, None, 1))
    grey = keras.Model(inputs, kl.Conv2D(1, 1, kernel_initializer="ones")(inputs))
    grey.save(tmp_path / "grey.keras")
    with pytest.raises(ValueError, match="give --input-size"):
        predict_images(tmp_path / "grey.keras", [photo], tmp_path / "grey")
    predict_images(tmp_path / "grey.keras", [photo], tmp_path / "grey", input_size=(70, 90))
    bright = np.asarray(Image.open(photo).convert("L")) >= 128
    assert np.array_equal(pixels(tmp_path / "grey" / "photo.png") == 255, bright)


def test_a_run_of_other_channels_reads_and_scales_as_it_was_trained(tmp_path, rng, capfd):
    folder, data = tmp_path / "run", tmp_path / "data" / "test"
    folder.mkdir()
    inputs = keras.Input((24, 32, 5))
    keras.Model(inputs, kl.Conv2D(1, 1)(inputs)).save(folder / "model.keras")
    sections = {"channels": 5, "mean": [1000.0], "scale": [1.0, 2.0, 3.0, 4.0, 500.0]}
    config = Config(model={"input_size": (24, 32)}, data=sections)
    (folder / "config.yaml").write_text(config.to_yaml())
    for kind in ("img", "mask"):
        (data / kind).mkdir(parents=True)
    for name in "ab":
        values = rng.normal(1000, 3, (24, 32, 5)).astype(np.float32)
        np.save(data / "img" / f"{name}.npy", values)
        mask = rng.integers(0, 2, (24, 32), np.uint8) * 255
        Image.fromarray(mask).save(data / "mask" / f"{name}.png")
    model = keras.saving.load_model(folder / "model.keras", safe_mode=True)
    scaled = (np.load(data / "img" / "b.npy") - 1000) / np.array([1, 2, 3, 4, 500])
    expected = model.predict(scaled[None].astype(np.float32), verbose=0)[0, ..., 0] >= 0
    predict_images(folder, [data / "img"], tmp_path / "out", kinds=["masks", "overlays"])
    assert np.array_equal(pixels(tmp_path / "out" / "b.png") == 255, expected)
    assert pixels(tmp_path / "out" / "b.overlay.png").shape[2] == 3
    scores = score_network(folder, data.parent).evaluation
    truth = [pixels(data / "mask" / f"{name}.png") == 255 for name in "ab"]
    found = [pixels(tmp_path / "out" / f"{name}.png") == 255 for name in "ab"]
    hits = np.logical_and(truth, found).sum()
    assert scores.foreground_iou == pytest.approx(hits / np.logical_or(truth, found).sum())
    alone = tmp_path / "alone.keras"
    alone.write_bytes((folder / "model.keras").read_bytes())
    deep = ["predict", str(alone), str(data / "img"), "--output", str(tmp_path / "none")]
    one_line(deep, "a.npy has more than 8 bits, and nothing says how its values are scaled", capfd)
    assert main([*deep, "--preprocess", "none"]) == 0


def test_a_float_file_gives_what_keras_gives(others, photo, tmp_path):
    for name in ("fits.keras", "fits.tflite"):
        predict_images(others / name, [photo], tmp_path / name, kinds=["probabilities"])
    ours, theirs = (
        np.load(tmp_path / name / "photo.npy") for name in ("fits.keras", "fits.tflite")
    )
    assert ours == pytest.approx(theirs, abs=1e-5) and ours.std() > 0.01
