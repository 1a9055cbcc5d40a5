import os
from pathlib import Path

import pytest
import yaml

from training.config import CONFIGS, read_config, validate
from training.network import build
from training.settings import Config

SHIPPED = sorted(CONFIGS.glob("*.yaml"))


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path):
    return lambda text: write(tmp_path / "mine.yaml", text)


def test_defaults_are_the_shipped_nano_u():
    assert read_config() == Config()


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_shipped_configs_are_valid_and_complete(path):
    values = yaml.safe_load(path.read_text())
    config = validate(values, source=path.name)
    assert keys(values) == keys(config.model_dump())
    assert config.model.name in path.stem


def keys(values, prefix=""):
    found = set()
    for key, value in values.items():
        found.add(prefix + key)
        if isinstance(value, dict):
            found |= keys(value, f"{prefix}{key}.")
    return found


def test_every_key_of_a_shipped_config_is_commented():
    for path in SHIPPED:
        lines = path.read_text().splitlines()
        leaves = [line for line in lines if ": " in line and not line.startswith("#")]
        assert len(leaves) > 25
        assert not [line for line in leaves if " # " not in line], path.name


def test_published_recipes():
    teacher = read_config(CONFIGS / "recipe_bu_net.yaml").training
    student = read_config(CONFIGS / "recipe_nano_u.yaml").training
    assert (teacher.weight_decay, teacher.batch_size, teacher.epochs) == (1e-3, 32, 150)
    assert (student.weight_decay, student.batch_size, student.epochs) == (1e-4, 16, 100)
    for training in (teacher, student):
        assert training.schedule == "plateau"
        assert training.learning_rate == 1e-3
        assert (training.plateau_factor, training.plateau_patience) == (0.2, 10)
        assert training.minimum_learning_rate == 1e-6
        assert training.early_stopping_patience > training.plateau_patience


def test_command_line_beats_file_beats_default(file):
    path = file("training: {epochs: 7, batch_size: 4}")
    config = read_config(path, {"training": {"epochs": 3}})
    assert config.training.epochs == 3
    assert config.training.batch_size == 4
    assert config.training.learning_rate == Config().training.learning_rate


def test_a_partial_file_stands_on_its_models_shipped_config(file):
    config = read_config(file("model: {name: bu_net}"))
    assert config.training == read_config(CONFIGS / "bu_net.yaml").training
    assert config.training != Config().training


def test_resolved_config_reads_back(tmp_path):
    config = read_config(overrides={"model": {"name": "bu_net", "filters": (4, 8)}})
    assert read_config(write(tmp_path / "config.yaml", config.to_yaml())) == config


def test_numbers_may_be_written_as_people_write_them(file):
    assert read_config(file("training: {learning_rate: 1e-3}")).training.learning_rate == 1e-3
    assert read_config(file("training: {learning_rate: 1}")).training.learning_rate == 1.0


def test_an_empty_file_changes_nothing(file):
    assert read_config(file("# nothing yet\n")) == Config()


def test_monitoring_without_probes_builds_encoder_and_bottleneck():
    config = read_config(overrides={"nas": {"enabled": True}})
    assert config.model.probes == ("encoder", "bottleneck")
    named = read_config(overrides={"nas": {"enabled": True, "probe_layers": ("logits",)}})
    assert named.model.probes == ()


@pytest.mark.parametrize(
    "text, says",
    [
        ("training: {epoch: 3}", "training.epoch: unknown key, did you mean epochs?"),
        ("trainig: {epochs: 3}", "trainig: unknown key, did you mean training?"),
        ("nas: {zzz: 3}", "nas.zzz: unknown key, known: enabled, monitor_frequency"),
        ("data: {augmentation: {flip: yes}}", "data.augmentation.flip: unknown key"),
        ("training: {epochs: many}", "training.epochs: input should be a valid integer"),
        ("training: {epochs: 2.5}", "training.epochs: input should be a valid integer"),
        ("training: {epochs: true}", "training.epochs: input should be a valid integer"),
        ("training: {epochs: 0}", "training.epochs: .* greater than or equal to 1. Received: 0"),
        ("training: {learning_rate: -1}", "training.learning_rate: .*greater than 0"),
        ("training: {learning_rate: .nan}", "training.learning_rate: .*finite"),
        ("training: {schedule: step}", "training.schedule: .*'cosine' or 'plateau'"),
        ("distillation: {alpha: 2}", "distillation.alpha: .*less than or equal to 1"),
        ("model: {input_size: [60]}", "model.input_size"),
        ("model: {filters: [4, 0]}", "model.filters.1: .*Received: 0"),
        ("model: {filters: [4, [8, 0]]}", "model.filters.1: .*one for each block. Received: "),
        ("model: {bottleneck: []}", "model.bottleneck: .*one for each block"),
        ("model: {decoder_filters: [8, true]}", "model.decoder_filters.1: .*Received: True"),
        ("model: nano_u", "model: .*Received: 'nano_u'"),
        ("nas: {enabled: 1}", "nas.enabled: input should be a valid boolean"),
        ("training: {learning_rate: yes}", "training.learning_rate: .*should be a number"),
        (
            "data: {augmentation: {rotation: true}}",
            "rotation: .*should be a number. Received: True",
        ),
        ("nas: {enabled: true}\nnas: {log_frequency: 2}", "key 'nas' is given twice"),
        ("- a list", "file: .*Received"),
        ("training: {epochs: 3", "not YAML: .*line 1"),
    ],
)
def test_errors_are_one_line_with_key_and_file(file, text, says):
    path = file(text)
    with pytest.raises(ValueError, match=says) as caught:
        read_config(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_several_errors_are_all_named(file):
    with pytest.raises(ValueError, match=r"training\.epochs: .*; .*nas\.enable: "):
        read_config(file("training: {epochs: 0}\nnas: {enable: true}"))


def test_an_impossible_option_is_the_command_lines_error():
    with pytest.raises(ValueError, match="command line: training.batch_size: .*Received: 0"):
        read_config(overrides={"training": {"batch_size": 0}})


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing.yaml does not exist"):
        read_config(tmp_path / "nothing.yaml")
    with pytest.raises(ValueError, match="cannot be read"):
        read_config(tmp_path)


def test_yaml_cannot_run_code(file):
    with pytest.raises(ValueError, match="not YAML"):
        read_config(file("model: !!python/object/apply:os.getcwd []"))


def test_paths_are_absolute_and_home_is_expanded(file, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    config = read_config(file("{data: {root: images}, distillation: {teacher: ~/t.keras}}"))
    assert config.data.root == str(tmp_path / "images")
    assert config.distillation.teacher == str(tmp_path / "t.keras")
    assert read_config("~/mine.yaml") == config
    monkeypatch.chdir("/")
    assert read_config(write(tmp_path / "again.yaml", config.to_yaml())) == config
    output = read_config(overrides={"output": {"folder": "~/run"}}).output
    assert output.folder == str(tmp_path / "run")


@pytest.mark.parametrize(
    "section, key", [("data", "root"), ("distillation", "teacher"), ("output", "folder")]
)
def test_a_path_that_is_not_utf8_is_refused_in_a_printable_line(section, key):
    with pytest.raises(ValueError, match=f"{section}.{key}: expected a path that is") as error:
        read_config(overrides={section: {key: os.fsdecode(b"caf\xe9")}})
    str(error.value).encode()


def test_a_config_is_frozen():
    with pytest.raises(ValueError, match="frozen"):
        Config().training.epochs = 3


def test_configs_are_found_beside_the_package():
    assert Path(CONFIGS).name == "configs"
    assert {path.name for path in SHIPPED} >= {"nano_u.yaml", "bu_net.yaml"}


def test_widths_of_blocks_are_written_and_read_again(tmp_path):
    widths = {"filters": ((4, 6), 8), "bottleneck": (3, 5), "decoder_filters": (8, (4, 2))}
    config = read_config(overrides={"model": {**widths, "late_upsampling": True}})
    assert {name: getattr(config.model, name) for name in widths} == widths
    (tmp_path / "again.yaml").write_text(config.to_yaml())
    assert read_config(tmp_path / "again.yaml") == config
    model = build(config)
    assert model.get_layer("decoder_2_1_pointwise").filters == 4
    assert model.get_layer("encoder_1_2_pointwise").filters == 6
