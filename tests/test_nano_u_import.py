"""Nano-U's config.yaml as one of ours: what it says, what trains, nothing skipped in silence."""

import csv
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models import BU_Net
from train import main as train_main
from training.__main__ import main
from training.config import read_config
from training.nano_u_config import translate
from training.network import build, checked_network

ROOT = Path(__file__).resolve().parents[1]

# The keys of Nano-U's template in July 2026, with numbers as YAML reads them there.
TEMPLATE = {
    "data": {
        "input_shape": [60, 80, 3],
        "num_classes": 1,
        "normalization": {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]},
        "split": {"train": 0.7, "validation": 0.2, "test": 0.1},
        "paths": {
            "processed": {
                "root": "data/mine",
                **{
                    split: {kind: f"data/mine/{split}/{kind}" for kind in ("img", "mask")}
                    for split in ("train", "val", "test")
                },
            },
            "models_dir": "models",
            "results_dir": "results/mine",
        },
    },
    "models": {
        "bu_net": {"filters": [64, 128], "bottleneck": 256, "decoder_filters": [128, 64]},
        "nano_u": {"filters": [4, 8, 16], "bottleneck": 16, "decoder_filters": [16, 8, 4]},
    },
    "training": {
        "seed": 37,
        "bu_net": {"epochs": 150, "batch_size": 32, "learning_rate": "1e-3", "augment": True},
        "nano_u": {
            "epochs": 100,
            "batch_size": 16,
            "learning_rate": "1e-3",
            "weight_decay": "1e-4",
            "optimizer": "adamw",
            "loss": "binary_crossentropy",
            "augment": True,
            "early_stopping": True,
            "patience": 20,
            "use_nas": True,
            "qat_enabled": True,
            "lr_scheduler": "plateau",
            "lr_plateau_patience": 10,
            "lr_plateau_factor": 0.2,
            "min_lr": "1e-6",
            "layers_to_monitor": ["enc1a_dw", "bottleneck_a_dw", "dec2_conv_b_pw"],
            "distillation": {
                "enabled": True,
                "teacher_weights": "models/mine/bu_net.h5",
                "alpha": 0.4,
                "temperature": 3.0,
            },
        },
    },
    "quantization": {
        "method": "dynamic_range",
        "representative_dataset_size": 100,
        "supported_ops": ["TFLITE_BUILTINS_INT8", "SELECT_TF_OPS"],
    },
}


def changed(changes):
    """The template with other values, {key with its sections: value}; None removes a key."""
    values = deepcopy(TEMPLATE)
    for key, value in changes.items():
        *sections, name = key.split(".")
        part = values
        for section in sections:
            part = part[section]
        if value is None:
            part.pop(name, None)
        else:
            part[name] = value
    return values


def leaves(values, prefix=""):
    for key, value in values.items():
        if isinstance(value, dict) and value:
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def remarks(translation):
    return {note.key: note.remark for note in translation.notes if not note.ours}


def test_the_template_becomes_the_recipe():
    config = translate(TEMPLATE, checkout="/checkout").config
    assert config["model"] == {
        **{"name": "nano_u", "input_size": [60, 80], "filters": [4, 8, 16], "bottleneck": 16}
    }
    assert config["data"] == {
        "root": "/checkout/data/mine",
        "augmentation": {
            **{"horizontal_flip": True, "rotation": 20.0, "brightness": 0.2, "contrast": 0.2},
            **{"saturation": 0.2, "hue": 0.05},
        },
    }
    assert config["training"] == {
        **{"epochs": 100, "batch_size": 16, "learning_rate": 1e-3, "weight_decay": 1e-4},
        **{"schedule": "plateau", "plateau_patience": 10, "plateau_factor": 0.2},
        **{"minimum_learning_rate": 1e-6, "early_stopping_patience": 20, "seed": 37},
        "quantization_aware": True,
    }
    assert config["distillation"] == {"alpha": 0.4, "temperature": 3.0}
    layers = ["encoder_1_1_depthwise", "bottleneck_1_depthwise", "decoder_2_2_pointwise"]
    assert config["nas"] == {"enabled": True, "log_frequency": 10, "probe_layers": layers}


def test_the_template_describes_a_network_that_can_be_trained(tmp_path):
    teacher = BU_Net(filters=(64, 128), bottleneck=256)
    for model, parameters in (("nano_u", 4212), ("bu_net", teacher.count_params())):
        path = tmp_path / f"{model}.yaml"
        path.write_text(yaml.safe_dump(translate(TEMPLATE, model).config))
        config = read_config(path)
        checked_network(config)
        plain = config.model_copy(
            update={"training": config.training.model_copy(update={"quantization_aware": False})}
        )
        assert build(plain).count_params() == parameters


def test_absent_keys_are_what_nano_us_code_then_does():
    config = translate({"training": {"nano_u": {"seed": 1}}}).config
    assert config["training"] == {
        **{"epochs": 50, "batch_size": 16, "learning_rate": 1e-3, "weight_decay": 0.0},
        # a plateau that never comes: a constant rate
        **{"schedule": "plateau", "plateau_patience": 50},
        **{"early_stopping_patience": None, "quantization_aware": True},
    }
    assert not any(config["data"]["augmentation"].values())
    assert config["nas"]["enabled"] is False
    distilled = translate({"training": {"nano_u": {"distillation": {"enabled": True}}}}).config
    assert distilled["training"]["epochs"] == 100
    assert distilled["training"]["learning_rate"] == 5e-4
    assert distilled["distillation"] == {"alpha": 0.3, "temperature": 4.0}


@pytest.mark.parametrize("model", ["nano_u", "bu_net"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"training.nano_u.distillation.enabled": False, "training.nano_u.augment": False},
        {"training.nano_u.early_stopping": False, "training.nano_u.lr_scheduler": "none"},
        {"training.nano_u.tversky_weight": 0.5, "training.nano_u.alpha": 0.9},
        {"training.nano_u.augment_params": {"hue": 0.1, "flip_prob": 0.0}},
        {"data.paths.processed.val.img": "elsewhere/images", "training.nano_u.filters": [2, 4, 8]},
        {"training.seed": None, "data.normalization": {}},
    ],
)
def test_every_key_is_listed(model, changes):
    values = changed(changes)
    notes = translate(values, model).notes
    assert {note.key for note in notes if note.value != "absent"} == set(leaves(values))
    assert all(note.ours or note.remark for note in notes)


NAMES = (
    *("alpha", "augment", "augment_params", "distillation", "enabled", "epochs", "filters", "hue"),
    *("img", "input_shape", "layers_to_monitor", "lr_scheduler", "mean", "normalization", "other"),
    *("paths", "patience", "processed", "root", "split", "train", "use_distillation"),
)
VALUES = st.recursive(
    st.sampled_from(
        (None, True, False, 0, 3, 0.5, "", "1e-3", "train/img", "plateau", [], [3, "x"])
    ),
    lambda inner: st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=8,
)


@given(data=VALUES, own=st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_key_of_any_value_is_listed(data, own):
    values = {"training": {"nano_u": {"seed": 3, **own}}, "data": data, "models": data}
    listed = {note.key for note in translate(values).notes if note.value != "absent"}
    assert listed == set(leaves(values))


def test_what_has_no_counterpart_says_why():
    changes = {
        "training.nano_u.tversky_weight": 0.5,
        "data.normalization.mean": [0.485, 0.456, 0.406],
        "training.nano_u.new_key": 1,
    }
    said = remarks(translate(changed(changes)))
    assert "--loss bce+tversky" in said["training.nano_u.tversky_weight"]
    assert translate(changed(changes)).config["data"]["mean"] == [123.675, 116.28, 103.53]
    assert translate(changed(changes)).config["data"]["scale"] == [127.5] * 3
    assert "neither does this project" in said["training.nano_u.new_key"]
    assert "--distill-from" in said["training.nano_u.distillation.teacher_weights"]
    assert said["training.bu_net.epochs"].endswith("--model bu_net")
    assert "Nano-U does not read it" in said["models.nano_u.decoder_filters"]


def test_a_value_in_a_networks_own_section_overrides_the_shared_one():
    changes = {"training.nano_u.filters": [2, 4, 8], "training.nano_u.alpha": 0.9}
    translation = translate(changed(changes))
    assert translation.config["model"]["filters"] == [2, 4, 8]
    assert translation.config["distillation"]["alpha"] == 0.9
    assert "overrides it" in remarks(translation)["models.nano_u.filters"]
    assert "overrides it" in remarks(translation)["training.nano_u.distillation.alpha"]


def test_layers_that_nano_u_finds_by_a_part_of_their_name_are_named():
    changes = {"training.nano_u.layers_to_monitor": ["enc1a_dw", "enc1a", {"no": "name"}]}
    translation = translate(changed(changes))
    assert translation.config["nas"]["probe_layers"] == ["encoder_1_1_depthwise"]
    assert "no layer here for enc1a, {'no': 'name'}" in str(translation)
    none = translate(changed({"training.nano_u.layers_to_monitor": ["conv2d"]}))
    assert "probe_layers" not in none.config["nas"]
    teacher = {**TEMPLATE["training"]["bu_net"], "layers_to_monitor": ["dec1_conv_bn2b"]}
    translation = translate(changed({"training.bu_net": teacher}), "bu_net")
    assert translation.config["nas"]["probe_layers"] == ["decoder_1_2_pointwise_norm"]


def test_the_command_translates_what_then_trains(image_folder, tmp_path, capsys):
    folders = {
        f"data.paths.processed.{split}.{kind}": f"../images/{split}/{kind}"
        for split in ("train", "val", "test")
        for kind in ("img", "mask")
    }
    changes = {
        "training.nano_u.epochs": 2,
        "training.nano_u.nas_frequency": 1,
        "training.nano_u.batch_size": 3,
        "models.nano_u.filters": [2, 3, 4],
        **folders,
    }
    origin = tmp_path / "Nano-U" / "config" / "config.yaml"
    origin.parent.mkdir(parents=True)
    origin.write_text(yaml.safe_dump(changed(changes)))
    new, run = tmp_path / "new.yaml", tmp_path / "run"
    assert main(["import-config", str(origin), "--output", str(new)]) == 0
    printed = capsys.readouterr().out
    assert "  training.nano_u.epochs: 2 -> training.epochs: 2\n" in printed
    assert f"Train it: python train.py --config {new}\n" in printed
    assert read_config(new).data.root == str(image_folder)
    assert train_main(["--config", str(new), "--output", str(run)]) == 0
    with (run / "monitor.csv").open() as file:
        probes = {row["probe"] for row in csv.DictReader(file)}
    assert probes == {
        *("encoder_1_1_depthwise", "bottleneck_1_depthwise", "decoder_2_2_pointwise"),
    }
    assert (run / "evaluation.json").is_file()
    assert main(["import-config", str(origin), "--output", str(new)]) == 2
    assert "new.yaml exists already" in capsys.readouterr().err


def test_without_output_the_console_gets_the_configuration_alone(tmp_path, capsys):
    origin = tmp_path / "config.yaml"
    origin.write_text(yaml.safe_dump({"training": {"bu_net": {"epochs": 4}}}))
    assert main(["import-config", str(origin), "--model", "bu_net"]) == 0
    out, err = capsys.readouterr()
    assert yaml.safe_load(out)["training"]["epochs"] == 4
    assert "Translated:\n" in err
    assert "No folder of images: give --data DIR" in err


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected Nano-U's config.yaml, with a section training.nano_u. Received: an empty"),
        ("[1, 2]", r"Received: \[1, 2\]; a configuration of this project needs no"),
        ("model: {name: nano_u}\ntraining: {epochs: 3}", "Received: model, training;"),
        ("training: {bu_net: {epochs: 3}}", "Received: training.bu_net alone; give --model bu_net"),
        ("training: {nano_u: 3}", "with a section training.nano_u. Received: training;"),
        ("training: {nano_u: {epochs: many}}", "translated: training.epochs: input should be"),
        ("training: {nano_u: {epochs: 3}}\nmodels: {nano_u: {filters: 4}}", "model.filters"),
        ("training: {nano_u: {augment: true, augment_params: {hue: 3}}}", "augmentation.hue"),
        ("data: {input_shape: wide}\ntraining: {nano_u: {a: 1}}", "model.input_size: .*'wide'"),
        ("{", "not YAML"),
    ],
)
def test_a_file_that_is_none_is_one_line(tmp_path, capsys, text, says):
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert main(["import-config", str(path)]) == 2
    out, err = capsys.readouterr()
    assert not out
    assert err.count("\n") == 1
    assert err.startswith("python -m training import-config: error: ")
    assert re.search(says, err), err


def test_a_missing_file_is_one_line(tmp_path, capsys):
    assert main(["import-config", str(tmp_path / "nope.yaml")]) == 2
    assert capsys.readouterr().err.endswith("nope.yaml does not exist.\n")


def test_the_example_of_the_page_prints_its_table():
    page = (ROOT / "docs" / "from-nano-u.md").read_text(encoding="utf-8")
    [(script, table)] = re.findall(r"```python\n(.*?)```\n\n```text\n(.*?)```", page, re.DOTALL)
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout == table
