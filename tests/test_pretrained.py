"""Weights that ship with the networks."""

import hashlib
import json

import keras
import numpy as np
import pytest

from models import MODELS, Nano_U, pretrained_names, pretrained_settings, probe_names
from models import pretrained as shipped
from training.config import read_config
from training.evaluate import evaluate, predict
from training.network import build
from training.synthetic import synthetic_splits

ALL = [(network, name) for network in MODELS for name in pretrained_names(network)]
LEAST = {"nano_u": 0.85, "bu_net": 0.93}  # mIoU on 30 drawn test scenes


def test_there_are_weights_of_every_network():
    assert pretrained_names("bu_net") == ["scenes"]
    assert pretrained_names("nano_u") == ["scenes", "scenes-narrow"]
    files = {path.name for path in shipped.FOLDER.glob("*.npz")}
    assert files == set(shipped.CHECKSUMS)


@pytest.mark.parametrize(("network", "name"), ALL)
def test_they_segment_the_scenes_that_they_were_trained_on(network, name):
    settings = pretrained_settings(network, name)
    model = MODELS[network](**settings, weights=name, enable_probes=True)
    assert probe_names(model)
    split = synthetic_splits(counts={"train": 1, "val": 1, "test": 30}).test
    assert evaluate(predict(model, split), split.masks).miou > LEAST[network]


@pytest.mark.parametrize(("network", "name"), ALL)
def test_the_file_is_what_its_network_packs_to(network, name):
    settings = pretrained_settings(network, name)
    model = MODELS[network](**settings, weights=name)
    content = shipped.pack(model, settings)
    file = f"{name}-{network}.npz"
    assert hashlib.sha256(content).hexdigest() == shipped.CHECKSUMS[file]
    assert len(content) < 1_000_000


def test_networks_of_any_size_and_classes_begin_with_them():
    whole, larger = Nano_U(weights="scenes"), Nano_U((24, 40, 3), classes=3, weights="scenes")
    for one, other in zip(whole.weights, larger.weights, strict=True):
        if not one.path.startswith("logits/"):
            np.testing.assert_array_equal(one, other)
    assert larger.output_shape == (None, 24, 40, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weights": "imagenet"}, "Expected weights of nano_u: 'scenes', 'scenes-narrow', or None"),
        (
            {"weights": "scenes", "filters": (4, 8, 8)},
            r"filters=\[4, 8, 16\].*encoder_3_1_pointwis",
        ),
        (
            {"weights": "scenes", "input_shape": (60, 80, 1)},
            "for RGB images.*encoder_1_1_depthwise",
        ),
        ({"weights": "scenes-narrow"}, "filters=.*decoder_filters="),
    ],
)
def test_other_networks_cannot_begin_with_them(arguments, message):
    with pytest.raises(ValueError, match=message):
        Nano_U(**arguments)


def test_a_damaged_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path)
    with pytest.raises(ValueError, match="missing or damaged"):
        Nano_U(weights="scenes")
    (tmp_path / "scenes-nano_u.npz").write_bytes(b"PK")
    with pytest.raises(ValueError, match="missing or damaged"):
        Nano_U(weights="scenes")


def test_a_configuration_has_the_widths_of_its_weights(tmp_path):
    config = read_config(None, {"model": {"weights": "scenes-narrow"}})
    widths = pretrained_settings("nano_u", "scenes-narrow")
    assert json.loads(json.dumps(config.model.filters)) == widths["filters"]
    model = build(config)
    assert model.count_params() == Nano_U(**widths).count_params()
    file = tmp_path / "again.yaml"
    file.write_text(config.to_yaml())
    assert read_config(file) == config
    with pytest.raises(ValueError, match="Expected weights of bu_net: 'scenes', or None"):
        read_config(None, {"model": {"name": "bu_net", "weights": "scenes-narrow"}})


def test_training_begins_with_them(tiny, tmp_path):
    from train import train

    _, history = train(weights="scenes", data=tiny, epochs=1, output=tmp_path / "run", verbose=0)
    first = keras.models.load_model(tmp_path / "run" / "model.keras")
    start = Nano_U(weights="scenes")
    moved = [
        np.abs(a - b).max() for a, b in zip(first.get_weights(), start.get_weights(), strict=True)
    ]
    fresh = Nano_U()
    apart = [
        np.abs(a - b).max() for a, b in zip(fresh.get_weights(), start.get_weights(), strict=True)
    ]
    assert np.median(moved) < 0.5 * np.median(apart)
