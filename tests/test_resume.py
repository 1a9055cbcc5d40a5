"""kill -9 at any moment, and the run goes on to what it would have been."""

import csv
import json
import os
import random
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from killing import kill, start

from models import Nano_U
from monitoring import NASMonitorCallback
from monitoring.records.reading import read_snapshots
from train import main, train
from training.checkpoint import Checkpoint

ROOT = Path(__file__).resolve().parent.parent
KILLS = int(os.environ.get("PROBE_ZOO_KILLS", "5"))
SETTINGS = """\
model: {filters: [2], bottleneck: 3, probes: [encoder, bottleneck]}
nas: {enabled: true, monitor_images: 16}
training:
  {epochs: 6, batch_size: 40, schedule: plateau, plateau_patience: 1, early_stopping_patience: 4}
"""
UNEQUAL = {"seconds", "training_seconds", "monitoring_seconds"}  # clocks


class Killed(BaseException):
    pass


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "run.yaml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="module")
def whole(config, tmp_path_factory):
    """A run that nobody stopped."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    train(config=config, output=folder, verbose=0)
    return folder


def rows(path: Path) -> list[dict]:
    if path.suffix == ".csv":
        with path.open(newline="") as lines:
            found: list = list(csv.DictReader(lines))
    elif path.suffix == ".jsonl":
        found = [json.loads(line) for line in path.read_text().splitlines()]
    else:
        found = [json.loads(path.read_text())]
    return [{name: v for name, v in row.items() if name not in UNEQUAL} for row in found]


def assert_same_run(found: Path, expected: Path) -> None:
    files = {str(path.relative_to(expected)) for path in expected.rglob("*") if path.is_file()}
    events = {name for name in files if name.startswith("tensorboard")}
    assert files - events <= {str(p.relative_to(found)) for p in found.rglob("*")}
    assert not (found / "checkpoint").exists()
    for name in ("history.csv", "monitor.csv", "monitor.jsonl", "evaluation.json"):
        assert rows(found / name) == rows(expected / name), name
    first, second = (keras.saving.load_model(f / "model.keras") for f in (expected, found))
    for mine, theirs in zip(
        [*second.get_weights(), *second.optimizer.variables],
        [*first.get_weights(), *first.optimizer.variables],
        strict=True,
    ):
        np.testing.assert_array_equal(mine, theirs)
    kept, again = (read_snapshots(folder) for folder in (expected, found))
    assert {p: [s.step for s in held] for p, held in kept.items()} == {
        p: [s.step for s in held] for p, held in again.items()
    }


def scalars(folder: Path) -> dict:
    """Reads what TensorBoard shows of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), {"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
        if not tag.startswith("seconds")
    }


def has_trained(folder: Path, epochs: int) -> bool:
    lines = folder / "history.csv"
    is_saved = (folder / "checkpoint" / "last.npz").exists()
    return is_saved and lines.read_text().count("\n") > epochs


@pytest.mark.slow
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_at_any_moment_it_ends_as_if_never_stopped(number, whole, config, tmp_path):
    folder, moment = tmp_path / "run", random.Random(number)
    process = start("--config", config, "--output", folder)
    # The run, and of every other run its first resumption.
    for epochs in sorted(moment.sample(range(1, 5), 1 + number % 2)):
        kill(process, lambda e=epochs: has_trained(folder, e), moment.uniform(0, 0.5))
        assert (folder / "checkpoint" / "last.npz").is_file()
        assert not (folder / "report.html").exists()
        process = start("--resume", folder)
    assert process.wait() == 0
    assert_same_run(folder, whole)
    assert scalars(folder) == scalars(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.yaml", "monitor.jsonl"])
def test_killed_before_its_first_checkpoint_it_starts_over(name, whole, config, tmp_path):
    folder = tmp_path / "run"
    process = start("--config", config, "--output", folder)
    kill(process, (folder / name).exists)
    assert not (folder / "checkpoint" / "last.npz").exists()
    assert start("--resume", folder).wait() == 0
    assert_same_run(folder, whole)
    assert scalars(folder) == scalars(whole)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.keras", "evaluation.json"])
def test_killed_while_it_writes_its_results_it_writes_them_again(name, whole, config, tmp_path):
    folder = tmp_path / "run"
    process = start("--config", config, "--output", folder)
    kill(process, (folder / name).exists)
    assert (folder / "checkpoint" / "last.npz").is_file()
    assert start("--resume", folder).wait() == 0
    assert_same_run(folder, whole)


@pytest.mark.slow
def test_stopped_after_any_epoch_it_ends_as_if_never_stopped(killed, whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    assert (folder / "checkpoint" / "last.npz").is_file()
    train(resume=folder, verbose=0)
    assert_same_run(folder, whole)
    assert scalars(folder) == scalars(whole)


@pytest.mark.slow
def test_a_run_of_a_version_without_markers_resumes(killed, whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    for name in (".probe-zoo-run", "cost.json"):
        (folder / name).unlink()
    assert main(["--resume", str(folder)]) == 0
    assert_same_run(folder, whole)
    assert json.loads((folder / "cost.json").read_text())["macs"] > 0
    assert (folder / ".probe-zoo-run").is_file()


@pytest.mark.slow
def test_a_run_without_a_checkpoint_starts_over(killed, whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    (folder / "checkpoint" / "last.npz").unlink()
    (folder / "arrays" / "notes.txt").write_text("mine")
    (folder / "notes.txt").write_text("mine")
    train(resume=folder, verbose=0)
    assert_same_run(folder, whole)
    assert len(list((folder / "tensorboard").iterdir())) == 1
    for notes in (folder / "arrays" / "notes.txt", folder / "notes.txt"):
        assert notes.read_text() == "mine"


def test_a_finished_run_says_so(whole, capsys):
    folder = whole
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert main(["--resume", str(folder)]) == 0
    assert capsys.readouterr().out == f"{folder} has finished: nothing is left to do\n"
    model, history = train(resume=folder)
    assert len(history.history["loss"]) == len(rows(folder / "history.csv"))
    assert model.count_params() > 0
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_what_cannot_be_resumed_is_said_in_a_line(whole, tmp_path, capsys):
    (tmp_path / "pipeline.yaml").write_text("{}")
    for options, words in (
        (["--resume", str(tmp_path / "none")], "is not a run of train.py"),
        (["--resume", str(tmp_path)], "holds a pipeline"),
        (["--resume", str(whole), "--epochs", "3"], "takes no other option"),
    ):
        assert main(options) == 2
        error = capsys.readouterr().err
        assert words in error and error.count("\n") == 1
    with pytest.raises(ValueError, match="uses its own settings"):
        train(resume=whole, epochs=3)


def test_a_checkpoint_of_another_model_or_a_torn_one_is_refused(tmp_path):
    def compiled(width):
        model = Nano_U((24, 32, 3), (width,), 2)
        model.compile("adam", "mse")
        return model

    images = np.zeros((2, 24, 32, 3))
    saver = Checkpoint(tmp_path, [])
    compiled(2).fit(images, images[..., :1], epochs=1, verbose=0, callbacks=[saver])
    again = Checkpoint(tmp_path, [])
    assert again.restore(compiled(2)) == 1 and again.ended
    with pytest.raises(ValueError, match="of another model"):
        Checkpoint(tmp_path, []).restore(compiled(3))
    whole_file = (tmp_path / "last.npz").read_bytes()
    (tmp_path / "last.npz").write_bytes(whole_file[: len(whole_file) // 2])
    with pytest.raises(ValueError, match="cannot be read"):
        Checkpoint(tmp_path, []).restore(compiled(2))


class Kill(keras.callbacks.Callback):
    """Ends the third epoch, after two batches, as a crash would."""

    def on_train_batch_end(self, batch, logs=None):
        if self.epoch == 2 and batch == 1:
            raise Killed

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch


@pytest.mark.parametrize("frequency", ["epoch", "batch"])
@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("every", [1, 3])
def test_records_go_on_for_users_of_backup_and_restore(tmp_path, rng, frequency, given, every):
    images = rng.uniform(-1, 1, (24, 24, 32, 3)).astype("float32")
    masks = (images[..., :1] > 0).astype("float32")

    def fit(name: str, *more) -> NASMonitorCallback:
        keras.utils.set_random_seed(0)
        layers = [keras.layers.Dense(width, "relu", name=f"layer_{width}") for width in (3, 4)]
        model = keras.Sequential([keras.Input((24, 32, 3)), *layers, keras.layers.Dense(1)])
        model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
        monitor = NASMonitorCallback(
            images[:8] if given else None,
            ["layer_3", "layer_4"],
            monitor_frequency=frequency,
            log_frequency=every,
            log_dir=tmp_path / name,
        )
        backup = keras.callbacks.BackupAndRestore(tmp_path / f"{name}-backup")
        callbacks = [monitor, backup, *more]
        try:
            model.fit(images, masks, 4, epochs=4, shuffle=False, verbose=0, callbacks=callbacks)
        finally:
            monitor.detach()
        return monitor

    expected = fit("whole")
    with pytest.raises(Killed):
        fit("killed", Kill())
    open_window = not given and frequency == "epoch" and every == 3
    assert (tmp_path / "killed" / "window" / "1.npz").exists() == open_window
    found = fit("killed")
    assert not (tmp_path / "killed" / "window").exists()
    for name in ("monitor.csv", "monitor.jsonl"):
        assert rows(tmp_path / "killed" / name) == rows(tmp_path / "whole" / name)
    assert [(r.probe, r.step) for r in found.records] == [
        (r.probe, r.step) for r in expected.records
    ]
    assert all(record.global_step == record.step for record in found.records)
    assert scalars(tmp_path / "killed") == scalars(tmp_path / "whole")


def killed_after(last: int):
    """Returns what ends a training when its checkpoint of an epoch is written."""
    given = Checkpoint.on_epoch_end

    def on_epoch_end(self, epoch, logs=None):
        given(self, epoch, logs)
        if epoch == last:
            raise Killed

    return on_epoch_end


@pytest.mark.slow
def test_an_open_window_and_the_seconds_go_on_where_train_was_killed(tmp_path, monkeypatch):
    settings = {
        "config": tmp_path / "run.yaml",
        "nas_config": {"monitor_images": 0, "log_frequency": 3},
        "verbose": 0,
    }
    settings["config"].write_text(SETTINGS.replace(", early_stopping_patience: 4", ""))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    train(output=whole, **settings)
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "on_epoch_end", killed_after(1))
        with pytest.raises(Killed):
            train(output=killed, **settings)
    with np.load(killed / "checkpoint" / "last.npz", allow_pickle=False) as held:
        before = json.loads(str(held["state"]))["monitoring_seconds"]
    train(resume=killed, verbose=0)
    for name in ("history.csv", "monitor.csv", "monitor.jsonl"):
        assert rows(killed / name) == rows(whole / name)
    assert [row["epoch"] for row in rows(killed / "monitor.jsonl")] == [2, 2, 5, 5]
    evaluation = json.loads((killed / "evaluation.json").read_text())
    waited = evaluation["monitoring_seconds"] - evaluation["monitoring_seconds_estimated"]
    assert waited > before > 0


@pytest.fixture(scope="module")
def killed(config, tmp_path_factory):
    """A run that was killed after its second epoch."""
    folder = tmp_path_factory.mktemp("runs") / "killed"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Checkpoint, "on_epoch_end", killed_after(1))
        with pytest.raises(Killed):
            train(config=config, output=folder, verbose=0)
    return folder


@pytest.mark.parametrize(
    "name, damage",
    [
        ("checkpoint/last.npz", lambda whole: whole[: len(whole) // 2]),
        ("checkpoint/best.npz", lambda whole: b""),
        ("monitor.jsonl", lambda whole: whole.replace(b"{", b"[", 1)),
        ("monitor.csv", lambda whole: b"\n" + whole),
        ("history.csv", lambda whole: whole.replace(b"\n", b"\n\n", 1)),
        ("arrays/probe_encoder_1-00000000.npz", lambda whole: bytes(len(whole))),
    ],
)
def test_a_damaged_file_of_a_stopped_run_is_named_in_a_line(killed, tmp_path, capsys, name, damage):
    folder = tmp_path / "run"
    shutil.copytree(killed, folder)
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    capsys.readouterr()
    assert main(["--resume", str(folder)]) == 2
    error = capsys.readouterr().err
    assert str(path) in error and error.count("\n") == 1
    assert path.read_bytes() == before[path]


def test_a_window_of_other_layers_or_a_torn_one_is_refused(tmp_path, rng):
    images = rng.uniform(-1, 1, (8, 24, 32, 3)).astype("float32")

    def fit(first: int, layers, width=2):
        model = Nano_U((24, 32, 3), (width,), 2, enable_probes=True)
        model.compile("adam", "mse")
        monitor = NASMonitorCallback(probe_layers=layers, log_frequency=4, log_dir=tmp_path)
        stop = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: ends(epoch))
        options = {"initial_epoch": first, "epochs": 4, "verbose": 0}
        try:
            model.fit(images, images[..., :1], 4, callbacks=[monitor, stop], **options)
        finally:
            monitor.detach()

    def ends(epoch):
        if epoch == 2:
            raise Killed

    with pytest.raises(Killed):
        fit(0, ["probe_encoder_1"])
    with pytest.raises(ValueError, match="'probe_encoder_1', which is not watched now"):
        fit(2, ["probe_bottleneck"])
    with pytest.raises(ValueError, match="has 2 channels, the layer has 3"):
        fit(1, ["probe_encoder_1"], 3)
    path = tmp_path / "window" / "0.npz"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ValueError, match="0.npz cannot be read"):
        fit(1, ["probe_encoder_1"])


def test_best_weights_that_did_not_fit_are_written_with_the_next_checkpoint(tmp_path, monkeypatch):
    images = np.random.default_rng(0).uniform(-1, 1, (4, 24, 32, 3)).astype("float32")
    model = Nano_U((24, 32, 3), (2,), 2)
    model.compile("adam", "mse")
    saver, full = Checkpoint(tmp_path, []), [True]
    given = np.savez

    def savez(path, **arrays):
        if full[0]:
            raise OSError(28, "No space left on device")
        given(path, **arrays)

    monkeypatch.setattr("training.checkpoint.np.savez", savez)
    scores = iter([0.9, 0.5])

    class Score(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            logs["val_miou"] = next(scores)
            full[0] = epoch == 0
            self.kept = getattr(self, "kept", None) or self.model.get_weights()

    score = Score()
    with pytest.warns(UserWarning, match="a checkpoint after epoch 1"):
        model.fit(images, images[..., :1], epochs=2, verbose=0, callbacks=[score, saver])
    again = Nano_U((24, 32, 3), (2,), 2)
    Checkpoint(tmp_path, []).load_best(again)
    for mine, theirs in zip(again.get_weights(), score.kept, strict=True):
        np.testing.assert_array_equal(mine, theirs)
