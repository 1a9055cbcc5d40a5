"""Full disks, folders that go away, and what is left of the files."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import grouped_units

from monitoring.loggers.folder import KINDS, LogFolder
from monitoring.records.files import WriteFailures
from monitoring.records.measurement import Measurement, summarise
from monitoring.records.reading import read_run, read_snapshots

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = """\
model: {filters: [2], bottleneck: 3, probes: [encoder, bottleneck]}
nas: {enabled: true, monitor_images: 16}
training: {epochs: 3, batch_size: 40}
"""


@pytest.fixture
def pairs(rng):
    """Records and snapshots of five epochs."""
    units = rng.normal(size=(40, 5, 3))
    grouped = grouped_units(units)
    return [
        summarise(Measurement(grouped, "probe_encoder_1", "images", epoch, 10 * epoch))
        for epoch in range(5)
    ]


@contextmanager
def no_file_over(size: int):
    """The kernel takes no byte of a file behind `size`, as a disk that is full there."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)


def folder_with(path: Path, pairs=()) -> tuple[LogFolder, WriteFailures]:
    failures = WriteFailures()
    folder = LogFolder(path, failures)
    folder.start(0, 0)
    for pair in pairs:
        folder.write(*pair)
    return folder, failures


def shown(folder: Path) -> list[tuple[int, float]]:
    """Reads what TensorBoard shows of one metric."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars("redundancy_score/encoder_1")]


LINES = ("monitor.csv", "monitor.jsonl")


def test_records_wait_for_a_full_disk_and_no_half_line_is_left(pairs, tmp_path):
    folder_with(tmp_path / "expected", pairs)[0].close()
    path = tmp_path / "found"
    folder, failures = folder_with(path, pairs[:1])
    sizes = {name: (path / name).stat().st_size for name in LINES}
    with no_file_over(min(sizes.values()) + 40):
        with pytest.warns(UserWarning, match="kept in memory") as said:
            folder.write(*pairs[1])
            folder.write(*pairs[2])
        assert len(said) == 1
        assert sizes == {name: (path / name).stat().st_size for name in LINES}
        for name in LINES:
            assert any(part.startswith(f"2 records of {path / name}") for part in failures)
    for pair in pairs[3:]:
        folder.write(*pair)
    folder.close()
    assert not list(failures)
    for name in LINES:
        assert (path / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    assert shown(path) == shown(tmp_path / "expected")
    assert len(list((path / "arrays").glob("*.npz"))) == 5


def test_a_disk_that_is_full_from_the_first_record_leaves_one_file_of_each(pairs, tmp_path):
    folder_with(tmp_path / "expected", pairs)[0].close()
    path, threads = tmp_path / "found", threading.active_count()
    with no_file_over(0), pytest.warns(UserWarning, match="kept in memory"):
        folder, failures = folder_with(path, pairs[:4])
    assert threading.active_count() == threads
    folder.write(*pairs[4])
    folder.close()
    assert not list(failures)
    for name in LINES:
        assert (path / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    assert shown(path) == shown(tmp_path / "expected")
    assert len(list((path / "tensorboard").iterdir())) == 1


def test_events_that_were_removed_alone_are_written_again(pairs, tmp_path):
    folder_with(tmp_path / "expected", pairs)[0].close()
    path = tmp_path / "found"
    folder_with(path, pairs[:2])[0].close()
    folder = LogFolder(path, WriteFailures())
    folder.start(2, 10)  # a second file, behind the first
    folder.write(*pairs[2])
    first, second = sorted((path / "tensorboard").iterdir())
    second.unlink()
    with pytest.warns(UserWarning, match="the pictures of .* until step 20"):
        folder.write(*pairs[3])
    folder.write(*pairs[4])
    folder.close()
    assert first.is_file()
    assert shown(path) == shown(tmp_path / "expected")


@pytest.mark.parametrize("name", LINES)
def test_a_file_that_an_editor_has_put_in_the_place_is_gone_on_with(pairs, tmp_path, name):
    folder_with(tmp_path / "expected", pairs)[0].close()
    path = tmp_path / "found"
    folder, failures = folder_with(path, pairs[:2])
    shutil.copy(path / name, tmp_path / "edited")
    (tmp_path / "edited").replace(path / name)
    with pytest.warns(UserWarning, match="another file is in its place") as said:
        for pair in pairs[2:]:
            folder.write(*pair)
        folder.close()
    assert len(said) == 1 and not list(failures)
    assert (path / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()


def test_a_full_disk_after_a_resumption_costs_no_picture(pairs, tmp_path):
    folder_with(tmp_path / "expected", pairs)[0].close()
    path = tmp_path / "found"
    folder_with(path, pairs[:2])[0].close()
    failures = WriteFailures()
    folder = LogFolder(path, failures)
    folder.start(2, 10)
    with no_file_over(0), pytest.warns(UserWarning, match="kept in memory"):
        folder.write(*pairs[2])
        folder.write(*pairs[3])
    folder.write(*pairs[4])
    folder.close()
    assert not list(failures)
    assert shown(path) == shown(tmp_path / "expected")


def test_a_logger_that_is_used_again_and_again_shows_all(pairs, tmp_path):
    logger = KINDS["tensorboard"](tmp_path / "tensorboard")
    for pair in pairs:
        logger.write(*pair)
        logger.close()
    assert len(list((tmp_path / "tensorboard").iterdir())) == len(pairs)
    assert [step for step, _ in shown(tmp_path)] == [0, 10, 20, 30, 40]


def test_a_disk_that_stays_full_is_said_at_the_end(pairs, tmp_path):
    with no_file_over(0), pytest.warns(UserWarning, match="kept in memory") as said:
        folder, failures = folder_with(tmp_path, pairs)
        folder.close()
    assert len(said) == 1
    for name in (*LINES, "arrays"):
        missing = f"5 records of {tmp_path / name} ([Errno 27]"
        assert any(part.startswith(missing) for part in failures), name
    assert any(str(tmp_path / "tensorboard") in part for part in failures)


@pytest.mark.parametrize("part", ["", *LINES, "tensorboard", "arrays"])
def test_what_was_removed_is_written_again_from_the_first_record(pairs, tmp_path, part):
    folder_with(tmp_path / "expected", pairs)[0].close()
    path = tmp_path / "found"
    folder, failures = folder_with(path, pairs[:2])
    gone = path / part
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
        for pair in pairs[2:]:
            folder.write(*pair)
        folder.close()
    for name in LINES:
        assert (path / name).read_bytes() == (tmp_path / "expected" / name).read_bytes()
    assert shown(path) == shown(tmp_path / "expected")
    lost = [name for name in ("tensorboard", "arrays") if part in ("", name)]
    assert len(said) == bool(lost)
    for name in lost:
        assert f"{path / name} until step 10" in " ".join(failures)
    assert len(list(failures)) == len(lost)
    kept = [snapshot.epoch for snapshot in read_snapshots(path)["probe_encoder_1"]]
    assert kept == ([2, 3, 4] if "arrays" in lost else [0, 1, 2, 3, 4])


def test_what_is_removed_after_the_last_record_is_there_at_the_end(pairs, tmp_path):
    folder, _ = folder_with(tmp_path / "run", pairs)
    shutil.rmtree(tmp_path / "run")
    with pytest.warns(UserWarning, match="until step 40"):
        folder.close()
    assert len((tmp_path / "run" / "monitor.jsonl").read_text().splitlines()) == 5


def run(folder: Path, config: Path, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "train.py", "--config", config, "--output", folder]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


def test_a_training_outlives_a_full_disk(tmp_path):
    """On a file system of 200 KB, which the first files fill; the weights are still there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root may mount a file system")
    try:
        config = tmp_path / "run.yaml"
        config.write_text(SETTINGS)
        (disk / "ballast").write_bytes(bytes(120_000))
        done = run(disk / "run", config)
        assert "Epoch 3/3" in done.stdout
        assert done.returncode == 1
        last = done.stderr.strip().splitlines()[-1]
        assert last.startswith("train.py: error:") and "No space left" in last
        (disk / "ballast").unlink()
        for path in (disk / "run").rglob("*.jsonl"):
            assert all(json.loads(line) for line in path.read_text().splitlines())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_removed_in_mid_run_costs_what_was_in_it_and_no_more(tmp_path):
    config, folder = tmp_path / "run.yaml", tmp_path / "run"
    config.write_text(SETTINGS)
    command = [sys.executable, "train.py", "--config", config, "--output", folder]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    for line in process.stdout:
        if line.startswith("Epoch 2/3"):
            shutil.rmtree(folder)
            break
    out, err = process.communicate(timeout=300)
    assert "Epoch 3/3" in out
    assert {"model.keras", "evaluation.json", "config.yaml"} <= {p.name for p in folder.iterdir()}
    found = read_run(folder)
    assert [record.epoch for record in found.records["probe_encoder_1"]] == [-1, 0, 1, 2]
    assert found.history["epoch"] == [0, 1, 2]
    assert err.count("UserWarning") == 1 and process.returncode == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("train.py: error: not written: ") and "arrays" in last


def test_a_training_outlives_a_folder_that_becomes_read_only(tmp_path):
    config, folder, whole = (tmp_path / name for name in ("run.yaml", "run", "whole"))
    config.write_text(SETTINGS)
    command = [sys.executable, "train.py", "--config", config, "--output", folder]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        for line in process.stdout:
            if line.startswith("Epoch 2/3"):
                break
        # What is open for writing stays so; every path leads to what is read-only.
        over = ["mount", "--bind", "-o", "ro", folder, folder]
        if subprocess.run(over, capture_output=True).returncode:
            pytest.skip("only root may mount a file system")
        try:
            out, err = process.communicate(timeout=300)
        finally:
            subprocess.run(["umount", folder], check=True)
    finally:
        process.kill()
    assert "Epoch 3/3" in out and process.returncode == 1
    assert err.count("UserWarning") == 1
    last = err.strip().splitlines()[-1]
    assert last.startswith("train.py: error:") and "Read-only file system" in last
    resumed = [sys.executable, "train.py", "--resume", folder]
    assert subprocess.run(resumed, cwd=ROOT, capture_output=True).returncode == 0
    assert run(whole, config).returncode == 0
    for name in ("model.keras", "monitor.jsonl"):
        assert (folder / name).is_file()
    scores = [json.loads((f / "evaluation.json").read_text())["miou"] for f in (folder, whole)]
    assert scores[0] == scores[1]
    found, expected = (read_run(f).records["probe_bottleneck"] for f in (folder, whole))
    assert [replace(record, seconds=0) for record in found] == [
        replace(record, seconds=0) for record in expected
    ]
