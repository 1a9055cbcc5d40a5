"""The command line, as a user meets it."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from models import MODELS
from train import main, parser, train
from training.config import read_config
from training.synthetic import synthetic_splits

ROOT = Path(__file__).resolve().parent.parent
RESULTS = {
    *("config.yaml", "model.keras", "history.csv", "evaluation.json", "predictions.png"),
    *("monitor.csv", "monitor.jsonl", "tensorboard", "arrays", "report.html"),
}


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


def test_help_shows_examples_and_every_model_without_tensorflow():
    run = command("--help")
    assert run.returncode == 0
    assert "python train.py --model bu_net --probes encoder,bottleneck" in run.stdout
    assert all(name in run.stdout for name in MODELS)
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "train.py"), "--help"],
        capture_output=True,
        text=True,
    )
    imported = {line.rsplit("|", 1)[-1].strip() for line in listed.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"tensorflow", "keras", "numpy", "pydantic", "yaml"}


@pytest.fixture
def data_folder(tmp_path):
    """200 training images among a data folder of drawn scenes."""
    splits = synthetic_splits(counts={"train": 200, "val": 8, "test": 8})
    for name, split in vars(splits).items():
        for kind in ("img", "mask"):
            (tmp_path / "data" / name / kind).mkdir(parents=True)
        for stem, image, mask in zip(split.names, split.images, split.masks, strict=True):
            Image.fromarray(image).save(tmp_path / "data" / name / "img" / f"{stem}.png")
            Image.fromarray(mask[..., 0] * np.uint8(255)).save(
                tmp_path / "data" / name / "mask" / f"{stem}.png"
            )
    return tmp_path / "data"


def test_a_run_from_the_command_line(data_folder, tmp_path):
    run = command(
        *("--model", "nano_u", "--probes", "encoder,bottleneck", "--data", data_folder),
        *("--epochs", 2, "--seed", 3),
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
    assert run.stderr == ""
    assert "redundancy: 0." in run.stdout
    assert "Channels after epoch 2, step 50" in run.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert run.stdout.splitlines()[-1] == f"Results are in {folder.relative_to(tmp_path)}"
    assert {path.name for path in folder.iterdir()} == RESULTS
    config = read_config(folder / "config.yaml")
    assert (config.training.epochs, config.training.seed) == (2, 3)
    assert config.model.probes == ("encoder", "bottleneck")
    history = pd.read_csv(folder / "history.csv")
    assert history.epoch.tolist() == [0, 1]
    assert {"val_miou", "redundancy"} <= set(history.columns)
    model = keras.models.load_model(folder / "model.keras", safe_mode=True)
    assert model.count_params() == 4212
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert evaluation["images"] == 8
    assert f"test mIoU {evaluation['miou']:.4f}" in run.stdout
    assert len(pd.read_csv(folder / "monitor.csv")) == 3 * 4


def test_the_saved_model_is_the_best_of_validation(data_folder, tmp_path):
    from training.evaluate import evaluate, predict
    from training.images import read_splits

    model, history = train(
        "nano_u", 4, data=data_folder, output=tmp_path / "run", batch_size=50, verbose=0
    )
    val = read_splits(data_folder, (60, 80)).val
    best = max(history.history["val_miou"])
    assert evaluate(predict(model, val), val.masks).miou == pytest.approx(best, abs=1e-6)
    saved = keras.models.load_model(tmp_path / "run" / "model.keras")
    np.testing.assert_array_equal(predict(saved, val), predict(model, val))


def truncate(folder):
    path = folder / "train" / "img" / "train_0123.png"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "arguments, says",
    [
        (["--model", "unet"], "Unknown model 'unet'. Known: nano_u, bu_net."),
        (["--probes", "encodr"], "sequence drawn from encoder, bottleneck, decoder"),
        (["--probes", ""], "sequence drawn from encoder, bottleneck, decoder"),
        (["--data", "nowhere"], "Data folder nowhere is not there"),
        (["--config", "typo.yaml"], "typo.yaml: training.epoch: unknown key, did you mean epochs?"),
        (["--config", "gone.yaml"], "Config file gone.yaml is not there"),
        (["--config", "size.yaml"], "Received: input_shape=(61, 80, 3). Nearest heights that do"),
        (["--config", "odd.yaml"], "the embedded scenes are 60x80"),
        (["--config", "teacher.yaml"], "Teacher runs/x is not there"),
        (["--config", "log.yaml"], "nas.log_frequency: nothing would be measured"),
        (["--config", "stop.yaml"], "training.early_stopping_monitor: redundancy needs"),
        (["--config", "twice.yaml"], "key 'training' is given twice"),
        (
            ["--config", "layer.yaml"],
            "Model 'nano_u' has no layer 'nowhere'. Layers that can be watched: encoder_1_1",
        ),
        (["--output", "file/run"], "Output folder file/run cannot be written"),
        (["--output", "other", "--probes", "encoder"], "holds another run (monitor.csv)"),
        (["--output", "left"], "holds another run (checkpoint)"),
        (["--epochs", "0"], "training.epochs: input should be greater than or equal to 1"),
        (["--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["--modle", "nano_u"], "unrecognized arguments: --modle nano_u"),
        (["--enable-nas", "--no-nas-monitoring"], "not allowed with argument"),
        (["--data", "truncated"], "train_0123.png cannot be read as an image"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_what_a_user_can_get_wrong_is_one_line(
    arguments, says, tmp_path, monkeypatch, capfd, request
):
    monkeypatch.chdir(tmp_path)
    files = {
        "typo.yaml": "training: {epoch: 3}",
        "size.yaml": "model: {input_size: [61, 80]}",
        "odd.yaml": "model: {input_size: [64, 64]}",
        "teacher.yaml": "distillation: {teacher: runs/x}",
        "log.yaml": "{nas: {enabled: true, log_frequency: 3}, training: {epochs: 2}}",
        "stop.yaml": (
            "{nas: {enabled: true, log_frequency: 2},"
            " training: {early_stopping_patience: 3, early_stopping_monitor: redundancy}}"
        ),
        "twice.yaml": "training: {epochs: 1}\ntraining: {batch_size: 4}",
        "layer.yaml": "nas: {enabled: true, probe_layers: [nowhere]}",
        "file": "not a folder",
        "other/monitor.csv": "another run",
        "left/checkpoint": "another run",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    if "truncated" in arguments:
        folder = request.getfixturevalue("data_folder")
        truncate(folder)
        arguments = ["--data", str(folder)]
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    try:
        code = main(arguments)
    except SystemExit as left:
        code = left.code
    said = capfd.readouterr()
    assert code == 2
    assert said.out == ""
    assert said.err.startswith("train.py: error: ")
    assert said.err.count("\n") == 1
    assert says in said.err
    after = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    assert after == before


@pytest.mark.parametrize(
    "arguments, probes, monitored",
    [
        ([], (), False),
        (["--probes", "encoder"], ("encoder",), True),
        (["--probes", "encoder, decoder"], ("encoder", "decoder"), True),
        (["--enable-nas-monitoring"], ("encoder", "bottleneck"), True),
        (["--enable-nas"], ("encoder", "bottleneck"), True),
        (["--enable-nas", "--probes", "decoder"], ("decoder",), True),
        (["--probes", "encoder", "--no-nas-monitoring"], ("encoder",), False),
        (["--no-nas-monitoring"], (), False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_which_options_turn_monitoring_on(arguments, probes, monitored):
    from train import overrides

    config = read_config(overrides=overrides(parser().parse_args(arguments)))
    assert config.model.probes == probes
    assert config.nas.enabled is monitored


def test_plateau_schedule_and_early_stopping(data_folder, tmp_path):
    (tmp_path / "plateau.yaml").write_text(
        "training: {schedule: plateau, plateau_patience: 1, early_stopping_patience: 2,"
        " learning_rate: 1e-6, batch_size: 100, plateau_factor: 0.5}"
    )
    _, history = train(
        *("nano_u", 12),
        config=tmp_path / "plateau.yaml",
        data=data_folder,
        output=tmp_path / "run",
        verbose=0,
    )
    rates, scores = history.history["learning_rate"], history.history["val_miou"]
    assert len(scores) == 12 or np.argmax(scores) == len(scores) - 3
    assert {round(b / a, 3) for a, b in zip(rates, rates[1:], strict=False)} <= {1.0, 0.5}


def test_cosine_ends_with_the_last_step(data_folder, tmp_path):
    model, _ = train(
        "nano_u", 2, data=data_folder, output=tmp_path / "run", batch_size=80, verbose=0
    )
    schedule = model.optimizer.get_config()["learning_rate"]
    assert schedule["class_name"] == "CosineDecay"
    assert schedule["config"]["initial_learning_rate"] == read_config().training.learning_rate
    assert schedule["config"]["decay_steps"] == 2 * 3


def test_real_images_are_learned(camvid, tmp_path):
    _, history = train("nano_u", 2, data=camvid, output=tmp_path / "run", verbose=0)
    losses = history.history["loss"]
    assert losses[1] < losses[0] < 0.75


def test_an_interrupted_run_says_where_it_is(data_folder, tmp_path):
    process = subprocess.Popen(
        [sys.executable, ROOT / "train.py", "--data", data_folder, "--output", "run"],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        # A shell in the background hands on that this signal is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        history = tmp_path / "run" / "history.csv"
        deadline = time.monotonic() + 120
        while not (history.exists() and history.read_text().count("\n") > 2):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert said.strip() == "train.py: stopped; what was written is in run; --resume goes on with it"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]
