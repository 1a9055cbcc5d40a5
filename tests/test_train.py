"""The command line, as a user meets it."""

import json
import os
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
from conftest import draw_image_folder
from PIL import Image

from models import MODELS
from models.cost import model_cost
from monitoring.records.reading import read_run
from train import main, parser, train
from training.config import read_config
from training.synthetic import synthetic_splits

ROOT = Path(__file__).resolve().parent.parent
RESULTS = {
    *(".probe-zoo-run", "config.yaml", "cost.json", "model.keras", "history.csv"),
    *("evaluation.json", "predictions.png", "monitor.csv", "monitor.jsonl", "tensorboard"),
    *("arrays", "advice.json", "report.html"),
}


def command(*arguments, **options):
    return subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        **options,
    )


def test_help_shows_examples_and_every_model_without_tensorflow():
    listed = subprocess.run(
        [sys.executable, "-X", "importtime", str(ROOT / "train.py"), "--help"],
        capture_output=True,
        text=True,
    )
    assert listed.returncode == 0
    assert "python train.py --model bu_net --probes encoder,bottleneck" in listed.stdout
    assert all(name in listed.stdout for name in MODELS)
    imported = {line.rsplit("|", 1)[-1].strip() for line in listed.stderr.splitlines()}
    assert "argparse" in imported
    assert not imported & {"tensorflow", "keras", "numpy", "pydantic", "yaml"}


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    """A run of two epochs by the command line, in this process."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ["--probes", "encoder,bottleneck", "--data", str(tiny), "--epochs", "2"]
    assert main([*options, "--seed", "3", "--output", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def data_folder(tmp_path_factory):
    """200 training images among a data folder of drawn scenes."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    splits = synthetic_splits(counts={"train": 200, "val": 8, "test": 8})
    for name, split in vars(splits).items():
        for kind in ("img", "mask"):
            (root / name / kind).mkdir(parents=True)
        for stem, image, mask in zip(split.names, split.images, split.masks, strict=True):
            Image.fromarray(image).save(root / name / "img" / f"{stem}.png")
            Image.fromarray(mask[..., 0] * np.uint8(255)).save(root / name / "mask" / f"{stem}.png")
    return root


@pytest.mark.slow
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
    evaluation = json.loads((folder / "evaluation.json").read_text())
    assert f"test mIoU {evaluation['miou']:.4f}" in run.stdout
    assert {path.name for path in folder.iterdir()} == RESULTS


def test_what_a_run_leaves(trained):
    assert {path.name for path in trained.iterdir()} == RESULTS
    config = read_config(trained / "config.yaml")
    assert (config.training.epochs, config.training.seed) == (2, 3)
    assert config.model.probes == ("encoder", "bottleneck")
    history = pd.read_csv(trained / "history.csv")
    assert history.epoch.tolist() == [0, 1]
    assert {"val_miou", "redundancy"} <= set(history.columns)
    model = keras.models.load_model(trained / "model.keras", safe_mode=True)
    assert model.count_params() == 4212
    assert json.loads((trained / "evaluation.json").read_text())["images"] == 6
    assert len(pd.read_csv(trained / "monitor.csv")) == 3 * 4


def test_the_files_say_what_the_network_costs(trained):
    model = keras.models.load_model(trained / "model.keras", safe_mode=True)
    cost, written = model_cost(model), json.loads((trained / "cost.json").read_text())
    assert written == {name: getattr(cost, name) for name in written}
    assert set(written) == {
        *("parameters", "trainable", "macs", "weight_bytes", "peak_activation_bytes"),
        "peak_layer",
    }
    assert read_run(trained).cost == written
    advice = json.loads((trained / "advice.json").read_text())
    assert advice["now"]["macs"] == written["macs"]
    assert advice["advised"]["filters"] and set(advice["widths"]) == {
        f"probe_{name}" for name in ("encoder_1", "encoder_2", "encoder_3", "bottleneck")
    }


def test_the_saved_model_is_the_best_of_validation(tiny, tmp_path):
    from training.evaluate import evaluate, predict
    from training.images import read_splits

    model, history = train("nano_u", 4, data=tiny, output=tmp_path / "run", batch_size=2, verbose=0)
    val = read_splits(tiny, (60, 80)).val
    best = max(history.history["val_miou"])
    assert evaluate(predict(model, val), val.masks).miou == pytest.approx(best, abs=1e-6)
    saved = keras.models.load_model(tmp_path / "run" / "model.keras")
    np.testing.assert_array_equal(predict(saved, val), predict(model, val))


def truncate(folder):
    path = folder / "train" / "img" / "scene 3.png"
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model", "unet"], "Unknown model 'unet'. Known: nano_u, bu_net."),
        (["--probes", "encodr"], "sequence drawn from encoder, bottleneck, decoder"),
        (["--probes", ""], "sequence drawn from encoder, bottleneck, decoder"),
        (["--data", "nowhere"], "nowhere does not exist. Expected"),
        (["--config", "typo.yaml"], "typo.yaml: training.epoch: unknown key, did you mean epochs?"),
        (["--config", "gone.yaml"], "Config file gone.yaml does not exist"),
        (["--config", "size.yaml"], "Received: input_shape=(61, 80, 3). Nearest heights that do"),
        (["--config", "odd.yaml"], "the drawn scenes are 60x80"),
        (
            ["--config", "teacher.yaml"],
            "runs/x does not exist: give a run's folder or a .keras file",
        ),
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
        (["--output", "claimed"], "holds another run (.probe-zoo-run)"),
        (["--output", os.fsdecode(b"caf\xe9")], r"valid UTF-8. Received: 'caf\udce9'"),
        (["--data", os.fsdecode(b"caf\xe9")], r"data.root: expected a path that is valid UTF-8"),
        (["--resume", "left"], "left is not a run of train.py: it has no config.yaml"),
        (["--epochs", "0"], "training.epochs: input should be greater than or equal to 1"),
        (["--epochs", "many"], "argument --epochs: invalid int value: 'many'"),
        (["--modle", "nano_u"], "unrecognized arguments: --modle nano_u"),
        (["--enable-nas", "--no-nas-monitoring"], "not allowed with argument"),
        (["--data", "truncated"], "scene 3.png cannot be read as an image"),
    ],
    ids=lambda value: ascii(" ".join(value)) if isinstance(value, list) else None,
)
def test_what_a_user_can_get_wrong_is_one_line(arguments, message, tmp_path, monkeypatch, capfd):
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
        "claimed/.probe-zoo-run": "another run",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    if "truncated" in arguments:
        truncate(draw_image_folder(tmp_path / "truncated"))
    before = {path: path.is_file() and path.read_bytes() for path in tmp_path.rglob("*")}
    try:
        code = main(arguments)
    except SystemExit as left:
        code = left.code
    printed = capfd.readouterr()
    assert code == 2
    assert printed.out == ""
    assert printed.err.startswith("train.py: error: ")
    assert printed.err.count("\n") == 1
    assert message in printed.err
    printed.err.encode()  # any console takes it
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


def test_a_plateau_lowers_the_rate_and_early_stopping_stops(tiny, tmp_path):
    """At a rate that is far too high, so that losses soon rise."""
    (tmp_path / "plateau.yaml").write_text(
        "training: {schedule: plateau, plateau_patience: 1, plateau_factor: 0.5,"
        " early_stopping_patience: 4, learning_rate: 1.0, minimum_learning_rate: 0}"
    )
    _, history = train(
        *("nano_u", 30),
        config=tmp_path / "plateau.yaml",
        data=tiny,
        output=tmp_path / "run",
        verbose=0,
    )
    losses, scores = history.history["val_loss"], history.history["val_miou"]
    assert len(scores) == stopped_after(scores, patience=4) < 30
    # A row of history holds the rate at the epoch's end, before the plateau lowers it.
    rates = [1.0, *halved_after(losses, patience=1, rate=1.0)][:-1]
    np.testing.assert_allclose(history.history["learning_rate"], rates, rtol=1e-5)
    assert min(rates) < 0.6


def stopped_after(scores, patience):
    """Returns the epochs of a training that stops after `patience` without a better score."""
    best, wait = -np.inf, 0
    for epoch, score in enumerate(scores, start=1):
        best, wait = (score, 0) if score > best else (best, wait + 1)
        if wait >= patience:
            return epoch
    return len(scores) + 1


def halved_after(losses, patience, rate):
    """Returns the rate after each epoch, halved after `patience` without a better loss."""
    best, wait, rates = np.inf, 0, []
    for loss in losses:
        best, wait = (loss, 0) if loss < best - 1e-4 else (best, wait + 1)
        if wait >= patience:
            rate, wait = rate / 2, 0
        rates.append(rate)
    return rates


def test_cosine_ends_with_the_last_step(tiny, tmp_path):
    model, _ = train("nano_u", 2, data=tiny, output=tmp_path / "run", batch_size=2, verbose=0)
    schedule = model.optimizer.get_config()["learning_rate"]
    assert schedule["class_name"] == "CosineDecay"
    assert schedule["config"]["initial_learning_rate"] == read_config().training.learning_rate
    assert schedule["config"]["decay_steps"] == 2 * 3


def test_an_error_inside_a_training_keeps_its_traceback(tiny, tmp_path, monkeypatch):
    """A user's error is one line; a defect of ours is not taken for one."""

    def fit(*_, **__):
        raise ValueError("a defect")

    monkeypatch.setattr(keras.Model, "fit", fit)
    options = ["--data", str(tiny), "--epochs", "1", "--output"]
    with pytest.raises(ValueError, match="a defect"):
        main([*options, str(tmp_path / "run")])
    with pytest.raises(ValueError, match="a defect"):
        main([*options, str(tmp_path / "all"), "--pipeline"])
    with pytest.raises(ValueError, match="a defect"):
        main(["--resume", str(tmp_path / "run")])


def test_a_home_folder_is_expanded_in_every_path(tiny, trained, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, target in (("data", tiny), ("teacher", trained)):
        (tmp_path / name).symlink_to(target)
    (tmp_path / "mine.yaml").write_text("training: {epochs: 1}\ndata: {root: ~/data}\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    options = ["--config", "~/mine.yaml", "--distill-from", "~/teacher"]
    assert main([*options, "--output", "~/run"]) == 0
    config = read_config("~/run/config.yaml")
    assert config.data.root == str(tmp_path / "data")
    assert config.distillation.teacher == str(tmp_path / "teacher")
    assert main(["--resume", "~/run"]) == 0
    assert "has finished" in capsys.readouterr().out
    model, _ = train(resume="~/run")
    assert model.count_params() == 4212
    assert main(["--resume", "~no-such-user/run"]) == 2
    assert "no-such-user" in capsys.readouterr().err
    assert not list((tmp_path / "here").iterdir())


def test_a_run_resumes_and_exports_from_another_working_directory(tiny, tmp_path, monkeypatch):
    from training.checkpoint import Checkpoint
    from training.export import finished_run

    class Killed(BaseException):
        pass

    def on_epoch_end(self, epoch, logs=None):
        original_hook(self, epoch, logs)
        raise Killed

    original_hook = Checkpoint.on_epoch_end
    (tmp_path / "data").symlink_to(tiny)
    monkeypatch.chdir(tmp_path)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Checkpoint, "on_epoch_end", on_epoch_end)
        train("nano_u", 2, data="data", output="run", verbose=0)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    model, history = train(resume="../run", verbose=0)
    assert len(history.history["loss"]) == 2
    exported = []
    monkeypatch.setattr(finished_run, "export", lambda *args, **_: exported.append(args[1:]))
    finished_run.export_run("../run")
    ((splits, folder),) = exported
    assert (len(splits.train), folder.resolve()) == (6, tmp_path / "run")
    assert not list((tmp_path / "elsewhere").iterdir())


def test_real_images_are_learned(camvid, tmp_path):
    _, history = train("nano_u", 2, data=camvid, output=tmp_path / "run", verbose=0)
    losses = history.history["loss"]
    assert losses[1] < losses[0] < 0.75


@pytest.mark.slow
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
        _, message = process.communicate(timeout=60)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert message.strip() == "train.py: stopped; what was written is in run; --resume continues it"
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["model"]
