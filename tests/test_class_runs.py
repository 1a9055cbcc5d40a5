"""Networks of several classes, from training to the INT8 file, its report and a narrower one."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from models import BU_Net, Nano_U
from monitoring.records.reading import read_run
from training.class_masks import IGNORED
from training.class_scores import confusion, evaluate_classes
from training.data import scale
from training.images import read_splits
from training.litert import run as run_int8
from training.outputs import Outputs, outputs_of
from training.palette import COLOURS, class_colours
from training.synthetic import CLASSES, synthetic_splits

SETTINGS = """
data: {{root: {data}, colours: {{terrain: [9, 9, 9], path: "#c80000", obstacle: [0, 0, 200]}},
  ignore: [[255, 255, 255]]}}
training: {{epochs: 2, batch_size: 8}}
export: {{format: int8, tolerance: 100, header: true}}
nas: {{enabled: true, monitor_images: 4}}
"""
SHADES = np.array([[9, 9, 9], [200, 0, 0], [0, 0, 200]], np.uint8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data folder of drawn scenes of three classes, masks as colours, some pixels ignored."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    splits = synthetic_splits(1, {"train": 16, "val": 6, "test": 6}, classes=3)
    for name, split in vars(splits).items():
        for kind in ("img", "mask"):
            (root / name / kind).mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(split.images, split.masks, strict=True)):
            colours = SHADES[mask[..., 0]]
            colours[:2] = 255
            Image.fromarray(image).save(root / name / "img" / f"{number}.png")
            Image.fromarray(colours).save(root / name / "mask" / f"{number}.png")
    return root


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    """A finished run."""
    from train import train

    path = tmp_path_factory.mktemp("runs") / "classes.yaml"
    path.write_text(SETTINGS.format(data=folder))
    train(config=path, output=path.with_suffix(""), verbose=0)
    return path.with_suffix("")


@pytest.fixture(scope="module")
def test_split(folder):
    colours = dict(zip(CLASSES, SHADES.tolist(), strict=True))
    options = {name: [shade] for name, shade in colours.items()}
    return read_splits(folder, (60, 80), colours=options, ignore=[[255] * 3]).test


def reference(predicted, masks):
    """Scores by sets of pixels, in plain NumPy."""
    scored = masks != IGNORED
    ious = {}
    for number, name in enumerate(CLASSES):
        found, true = (predicted == number) & scored, (masks == number) & scored
        union = (found | true).sum()
        ious[name] = (found & true).sum() / union if union else None
    defined = [value for value in ious.values() if value is not None]
    return ious, np.mean(defined), (predicted == masks)[scored].mean()


def test_scores_are_those_of_the_saved_model(run, test_split):
    model = keras.saving.load_model(run / "model.keras", safe_mode=True)
    assert model.output_shape == (None, 60, 80, 3)
    predicted = model.predict(scale(test_split.images), verbose=0).argmax(-1)[..., None]
    ious, miou, accuracy = reference(predicted, test_split.masks)
    written = json.loads((run / "evaluation.json").read_text())
    assert written["miou"] == pytest.approx(miou)
    assert written["accuracy"] == pytest.approx(accuracy)
    assert written["iou"] == pytest.approx(ious)
    assert written["ignored_share"] == pytest.approx(2 / 60)
    assert np.sum(written["confusion"]) == (test_split.masks != IGNORED).sum()
    assert written["sweep"] == []


def test_the_log_holds_the_mean_iou_of_keras(run, folder):
    pandas = pytest.importorskip("pandas")
    log = pandas.read_csv(run / "history.csv")
    assert log.val_miou.between(0, 1).all() and log.loss.notna().all()
    best = log.val_miou.max()
    model = keras.saving.load_model(run / "model.keras")
    colours = dict(zip(CLASSES, ([shade] for shade in SHADES.tolist()), strict=True))
    val = read_splits(folder, (60, 80), colours=colours, ignore=[[255] * 3]).val
    metric = keras.metrics.MeanIoU(3, sparse_y_pred=False)
    values = model.predict(scale(val.images), verbose=0)
    scored = (val.masks < IGNORED).astype(int)
    metric.update_state(np.where(scored, val.masks, 0), values, scored)
    assert float(metric.result()) == pytest.approx(best, abs=1e-5)


def test_the_int8_file_has_a_channel_for_each_class(run, test_split):
    values = run_int8((run / "model_int8.tflite").read_bytes(), scale(test_split.images))
    _, miou, _ = reference(values.argmax(-1)[..., None], test_split.masks)
    exported = json.loads((run / "export.json").read_text())
    assert exported["int8_scores"]["miou"] == pytest.approx(miou)
    assert "0 terrain, 1 path, 2 obstacle" in (run / "model_int8.h").read_text()


def test_the_confusion_matrix_is_a_table_and_a_picture(run):
    pandas = pytest.importorskip("pandas")
    table = pandas.read_csv(run / "confusion.csv", index_col=0)
    assert list(table.columns) == list(table.index) == list(CLASSES)
    written = json.loads((run / "evaluation.json").read_text())
    assert table.to_numpy().tolist() == written["confusion"]
    with Image.open(run / "confusion.png") as picture:
        assert picture.width > 150


def test_the_report_shows_each_class(run):
    page = (run / "report.html").read_text()
    for text in ("Each class", "<td>obstacle</td>", "IoU, INT8", "Confusion matrix", "accuracy"):
        assert text in page
    assert read_run(run).evaluation["iou"].keys() == set(CLASSES)


def test_predictions_have_the_colours_of_their_legend(run):
    with Image.open(run / "predictions.png") as opened:
        picture = np.asarray(opened.convert("RGB")).reshape(-1, 3)
    seen = {tuple(colour) for colour in np.unique(picture, axis=0).tolist()}
    assert {COLOURS[0], COLOURS[1], COLOURS[2], (128, 128, 128)} <= seen


def test_a_narrowed_network_keeps_its_classes(run, tmp_path):
    from train import train

    small, _ = train(
        narrow={"parent": str(run), "macs": "2M", "teacher": True},
        epochs=1,
        output=tmp_path / "small",
        verbose=0,
    )
    assert small.output_shape[-1] == 3
    cut = json.loads((tmp_path / "small" / "evaluation.json").read_text())["cut"]
    assert set(cut["scores"]["cut"]["val"]["iou"]) == set(CLASSES)
    assert cut["weighted"]
    assert cut["model"]["name"] == "nano_u"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nano_u", "bu_net"])
def test_students_and_rounded_networks_have_classes(run, folder, tmp_path, name):
    from train import train

    config = tmp_path / "classes.yaml"
    config.write_text(SETTINGS.format(data=folder))
    taught, history = train(
        name,
        config=config,
        distill_from=run,
        quantization_aware=name == "nano_u",
        loss="bce+dice",
        output=tmp_path / "taught",
        verbose=0,
    )
    assert taught.output_shape[-1] == 3 and np.isfinite(history.history["loss"]).all()


@pytest.mark.parametrize("builder", [Nano_U, BU_Net])
def test_builders_take_a_number_or_names(builder):
    for classes in (3, ("a", "b", "c")):
        assert builder(classes=classes, filters=(2,), bottleneck=2).output_shape[-1] == 3
    for classes in (0, True, ("a",), ("a", "a"), "ab", 1.5):
        with pytest.raises(ValueError, match="Expected classes to be a number"):
            builder(classes=classes)


def test_scores_of_classes_are_numpys(rng):
    masks = rng.choice([0, 1, 2, IGNORED], (4, 7, 9, 1)).astype(np.uint8)
    predicted = rng.integers(0, 2, masks.shape).astype(np.uint8)  # the third is never predicted
    ious, miou, accuracy = reference(predicted, masks)
    scores = evaluate_classes(predicted, masks, CLASSES)
    assert (scores.iou, scores.miou, scores.accuracy) == (
        pytest.approx(ious), pytest.approx(miou), pytest.approx(accuracy),
    )  # fmt: skip
    assert np.isnan(scores.precision["obstacle"]) and scores.recall["obstacle"] == 0
    assert confusion(predicted, masks, 3).sum() == (masks != IGNORED).sum()


def test_a_class_that_is_nowhere_does_not_count():
    masks = np.array([0, 1, 1, 0], np.uint8).reshape(1, 2, 2, 1)
    scores = evaluate_classes(masks, masks, CLASSES)
    assert scores.miou == 1 and np.isnan(scores.iou["obstacle"])


def test_outputs_must_fit_the_classes():
    inputs = keras.Input((8, 8, 3))
    three = keras.layers.Conv2D(3, 1)(inputs)
    with pytest.raises(ValueError, match="as many output channels as classes.*2, one for each"):
        outputs_of(keras.Model(inputs, three), ("a", "b"))
    with pytest.raises(ValueError, match="1, for foreground.*has 3"):
        outputs_of(keras.Model(inputs, three))
    sigmoid = keras.Model(inputs, keras.layers.Activation("sigmoid")(three))
    with pytest.raises(ValueError, match="probabilities of classes to add up to 1"):
        outputs_of(sigmoid, CLASSES)
    softmax = keras.Model(inputs, keras.layers.Softmax()(three))
    assert outputs_of(softmax, CLASSES) == Outputs("probabilities", CLASSES)


def test_colours_are_told_apart():
    colours = class_colours(8).astype(int)
    distances = np.abs(colours[:, None] - colours[None]).sum(-1) + 1000 * np.eye(8)
    assert distances.min() > 75
    assert len(np.unique(class_colours(40), axis=0)) == 40
