"""Pixels with a value to ignore: neither learnt nor scored, whatever the network says there."""

import json
from dataclasses import replace

import keras
import numpy as np
import pytest
from PIL import Image

from models import Nano_U
from train import train
from training.class_masks import IGNORED
from training.compilation import METRIC, compile_for_masks
from training.data import batches, training_batches
from training.distill import DistillationLoss, MaskIoU
from training.images import read_split
from training.settings import AugmentationConfig
from training.synthetic import synthetic_splits

SMALL = "model: {name: nano_u, filters: [2, 4], bottleneck: 4}\n"


@pytest.fixture(scope="module")
def split():
    split = synthetic_splits(counts={"train": 12, "val": 1, "test": 1}).train
    masks = split.masks.copy()
    masks[:, :20] = IGNORED
    return replace(split, masks=masks)


def test_weights_are_zero_where_ignored_and_turn_with_the_masks(split):
    images, masks, weights = next(iter(batches(split, 12)))
    np.testing.assert_array_equal(weights, split.masks < IGNORED)
    np.testing.assert_array_equal(masks, split.masks == 1)
    turned = training_batches(
        split, 12, epochs=1, seed=0, augmentation=AugmentationConfig(rotation=30)
    )
    _, masks, weights = next(iter(turned))
    assert set(np.unique(weights)) == {0, 1} and set(np.unique(masks)) == {0, 1}
    assert not (np.asarray(masks) * (1 - np.asarray(weights))).any()
    assert 0.2 < 1 - np.mean(weights) < 0.5
    assert np.asarray(weights)[:, 21:].min() == 0  # turned into what was counted


@pytest.mark.parametrize("taught", [False, True])
def test_loss_and_metric_are_those_of_what_is_left(split, taught):
    model = Nano_U(filters=(2, 4), bottleneck=4)
    if taught:
        model.compile(
            "adam", DistillationLoss(0.5), weighted_metrics=[MaskIoU(threshold=0.0, **METRIC)]
        )
    else:
        compile_for_masks(model, keras.optimizers.Adam())
    answers = (lambda images, index: 3 * images[..., :1]) if taught else None
    found = model.evaluate(batches(split, 12, answers), verbose=0, return_dict=True)

    images, masks, _ = next(iter(batches(split, 12, answers)))
    logits = model.predict(images, verbose=0)[:, 20:]
    masks = np.asarray(masks)[:, 20:]
    if taught:
        loss, metric = DistillationLoss(0.5), MaskIoU(threshold=0.0, **METRIC)
    else:
        loss = keras.losses.BinaryCrossentropy(from_logits=True)
        metric = keras.metrics.BinaryIoU(threshold=0.0, **METRIC)
    metric.update_state(masks, logits)
    assert found["loss"] == pytest.approx(float(loss(masks, logits)), 1e-5)
    assert found["miou"] == pytest.approx(float(metric.result()), 1e-6)


@pytest.mark.slow
def test_what_is_ignored_moves_no_weight(split):
    """Other images' top rows change what convolutions see; other labels there change nothing."""
    trained = []
    for label in (0, 1):
        masks = split.masks.copy()
        masks[:, :20] = label
        images, _, weights = next(iter(batches(split, 12)))
        keras.utils.set_random_seed(0)
        model = Nano_U(filters=(2, 4), bottleneck=4)
        compile_for_masks(model, keras.optimizers.Adam())
        model.fit(images, masks.astype("float32"), sample_weight=weights, epochs=2, verbose=0)
        trained.append(model.get_weights())
    for a, b in zip(*trained, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_a_run_says_what_it_left_out(tmp_path):
    splits = synthetic_splits(counts={"train": 8, "val": 4, "test": 4})
    for name in ("train", "val", "test"):
        part = getattr(splits, name)
        for kind, pictures in (("img", part.images), ("mask", 255 * part.masks[..., 0])):
            folder = tmp_path / "data" / name / kind
            folder.mkdir(parents=True)
            for number, picture in enumerate(pictures):
                if kind == "mask":
                    picture[:20] = 100
                Image.fromarray(picture).save(folder / f"{number}.png")
    teacher, _ = run(tmp_path, "teacher")
    run(tmp_path, "student", distill_from=tmp_path / "teacher", enable_nas_monitoring=True)
    scores = json.loads((tmp_path / "student" / "evaluation.json").read_text())
    assert scores["ignored_share"] == pytest.approx(1 / 3)
    test = read_split(tmp_path / "data" / "test", (60, 80), ignore=[100])
    assert (test.masks[:, :20] == IGNORED).all() and (test.masks[:, 20:] <= 1).all()
    with pytest.raises(ValueError, match="not scored as data.ignore"):
        run(tmp_path, "none", more="")


def run(tmp_path, name, more="data: {ignore: [100]}\n", **options):
    config = tmp_path / f"{name}.yaml"
    config.write_text(SMALL + more)
    return train(
        None, 1, config=config, data=tmp_path / "data", output=tmp_path / name, verbose=0, **options
    )
