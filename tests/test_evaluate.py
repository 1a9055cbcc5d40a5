import json
from dataclasses import asdict

import keras
import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import (
    f1_score,
    fbeta_score,
    jaccard_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)

from training.class_masks import IGNORED
from training.data import scale
from training.evaluate import (
    evaluate,
    image_ious,
    predict,
    spread,
    sweep,
    write_evaluation,
)
from training.prediction_pictures import draw_predictions, spread_over
from training.synthetic import synthetic_splits


@pytest.fixture(scope="module")
def split():
    return synthetic_splits(counts={"train": 1, "val": 1, "test": 9}).test


def test_agrees_with_scikit_learn(rng):
    truth = rng.uniform(size=(4, 9, 7, 1)) < 0.3
    predicted = truth ^ (rng.uniform(size=truth.shape) < 0.2)
    scores = evaluate(predicted, truth)
    flat = truth.ravel(), predicted.ravel()
    assert scores.foreground_iou == pytest.approx(jaccard_score(*flat))
    assert scores.miou == pytest.approx(jaccard_score(*flat, average="macro"))
    assert scores.f1 == pytest.approx(f1_score(*flat))
    assert scores.precision == pytest.approx(precision_score(*flat))
    assert scores.recall == pytest.approx(recall_score(*flat))
    assert scores.images == 4


def test_what_is_ignored_is_not_scored(rng):
    truth = rng.choice([0, 1, IGNORED], size=(4, 9, 7, 1)).astype(np.uint8)
    truth[3] = IGNORED
    logits = rng.normal(size=truth.shape)
    counted = truth != IGNORED
    scores = evaluate(logits >= 0, truth)
    flat = truth[counted], logits[counted] >= 0
    assert scores.miou == pytest.approx(jaccard_score(*flat, average="macro"))
    assert scores.precision == pytest.approx(precision_score(*flat))
    assert scores.recall == pytest.approx(recall_score(*flat))
    found = image_ious(logits >= 0, truth)
    for image in range(3):
        flat = truth[image][counted[image]], logits[image][counted[image]] >= 0
        assert found[image] == pytest.approx(jaccard_score(*flat))
    assert np.isnan(found[3])
    assert spread(found)["mean"] == pytest.approx(found[:3].mean())


def test_what_is_ignored_is_grey_in_the_picture(tmp_path):
    image = np.zeros((1, 2, 3, 3), np.uint8)
    mask = np.array([[[[1], [0], [IGNORED]]] * 2], np.uint8)
    draw_predictions(tmp_path / "p.png", image, mask, np.ones_like(mask, bool))
    drawn = np.asarray(Image.open(tmp_path / "p.png"))[17:, 13:22:3, 0]
    assert drawn[0].tolist() == [255, 0, 127]
    errors = np.asarray(Image.open(tmp_path / "p.png"))[17, 39:48:3]
    assert errors.tolist() == [[85, 85, 85], [255, 70, 60], [0, 0, 0]]


def test_agrees_with_the_metric_of_training(rng):
    truth = (rng.uniform(size=(4, 9, 7, 1)) < 0.3).astype("float32")
    logits = (truth + rng.normal(size=truth.shape) - 0.5).astype("float32")
    metric = keras.metrics.BinaryIoU(target_class_ids=[0, 1], threshold=0.0)
    metric.update_state(truth, logits)
    assert evaluate(logits >= 0, truth).miou == pytest.approx(float(metric.result()), abs=1e-6)


@pytest.mark.parametrize(
    "predicted, truth, expected",
    [
        (1, 1, {"foreground_iou": 1, "f1": 1, "precision": 1, "recall": 1, "miou": None}),
        (0, 1, {"foreground_iou": 0, "f1": 0, "precision": None, "recall": 0, "miou": 0}),
        (1, 0, {"foreground_iou": 0, "f1": 0, "precision": 0, "recall": None, "miou": 0}),
        (0, 0, {"foreground_iou": None, "f1": None, "precision": None, "recall": None}),
    ],
)
def test_undefined_scores_are_null_in_the_file(predicted, truth, expected, tmp_path):
    scores = evaluate(np.full((1, 2, 2, 1), predicted), np.full((1, 2, 2, 1), truth))
    write_evaluation(tmp_path / "evaluation.json", scores, training_seconds=1.5)
    written = json.loads((tmp_path / "evaluation.json").read_text())
    assert written == written | expected
    assert written["training_seconds"] == 1.5
    assert set(asdict(scores)) < set(written)
    assert [path.name for path in tmp_path.iterdir()] == ["evaluation.json"]


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"Received: shape=\(1, 2, 2, 1\)"):
        evaluate(np.ones((1, 2, 2, 1)), np.ones((1, 2, 3, 1)))


def test_predict_thresholds_logits_in_the_order_of_the_images(split):
    inputs = keras.Input((60, 80, 3))
    green = keras.layers.Conv2D(1, 1, use_bias=False)
    model = keras.Model(inputs, green(inputs))
    green.set_weights([np.array([0.0, 1.0, 0.0], np.float32).reshape(1, 1, 3, 1)])
    expected = scale(split.images)[..., 1:2] >= 0
    np.testing.assert_array_equal(predict(model, split, batch_size=4), expected)


def test_picture_shows_inputs_masks_predictions_and_errors(split, tmp_path):
    predicted = np.roll(split.masks, 5, axis=2)
    drawn = spread_over(len(split), 3)
    images, masks = split.images[drawn], split.masks[drawn]
    draw_predictions(tmp_path / "predictions.png", images, masks, predicted[drawn])
    picture = np.asarray(Image.open(tmp_path / "predictions.png"))
    assert picture.shape == (16 + 3 * (180 + 4), 4 * 240 + 3 * 4, 3)
    first = picture[16 : 16 + 180]
    panels = [first[::3, start : start + 240 : 3] for start in range(0, 976, 244)]
    np.testing.assert_array_equal(panels[0], split.images[0])
    np.testing.assert_array_equal(panels[1] == 255, np.repeat(split.masks[0] == 1, 3, axis=2))
    np.testing.assert_array_equal(panels[2] == 255, np.repeat(predicted[0] == 1, 3, axis=2))
    missed = (split.masks[0] == 1) & (predicted[0] == 0)
    blue = (panels[3] == [60, 120, 255]).all(axis=2, keepdims=True)
    np.testing.assert_array_equal(blue, missed)


def test_f_scores_are_scikit_learns(rng):
    predicted, masks = rng.integers(0, 2, (2, 5, 4, 3, 1))
    found = evaluate(predicted, masks)
    for beta, value in ((0.5, found.f05), (1, found.f1), (2, found.f2)):
        expected = fbeta_score(masks.ravel(), predicted.ravel(), beta=beta)
        assert value == pytest.approx(expected)


def test_the_sweep_lies_on_scikit_learns_curve(rng):
    masks = rng.integers(0, 2, (5, 4, 3, 1))
    scores = rng.normal(size=masks.shape) + masks
    precision, recall, thresholds = precision_recall_curve(masks.ravel(), scores.ravel())
    for row in sweep(scores, masks):
        at = np.searchsorted(thresholds, np.log(row["threshold"] / (1 - row["threshold"])))
        assert row["recall"] == pytest.approx(recall[at])
        if at < len(thresholds):
            assert row["precision"] == pytest.approx(precision[at])
    assert sweep(scores, masks)[9]["miou"] == evaluate(scores >= 0, masks).miou


def test_single_images_and_empty_masks():
    masks = np.zeros((3, 2, 2, 1))
    predicted = np.zeros((3, 2, 2, 1))
    masks[0, 0] = predicted[0, :, 0] = 1  # one of three pixels is shared
    predicted[2, 0, 0] = 1
    assert image_ious(predicted, masks).tolist() == [1 / 3, 1, 0]
    found = spread(np.linspace(0, 1, 101))
    assert found == pytest.approx(
        {"worst": 0, "p5": 0.05, "p25": 0.25, "median": 0.5, "p75": 0.75, "p95": 0.95, "mean": 0.5}
    )
