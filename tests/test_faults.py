"""Full disks, folders that go away, and what is left of the files."""

import json
import resource
import shutil
import signal
import subprocess
import sys
import warnings
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from monitoring.grouped import GroupedCovariance
from monitoring.loggers import CsvLogger, JsonLinesLogger
from monitoring.patient import PatientLogger
from monitoring.records import Measurement, summarise
from monitoring.runs import read_run

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = """\
model: {filters: [2, 4], bottleneck: 4, probes: [encoder, bottleneck]}
nas: {enabled: true, monitor_images: 16}
training: {epochs: 3, batch_size: 40}
"""


@pytest.fixture
def pairs(rng):
    """Records and snapshots of five epochs."""
    units = rng.normal(size=(40, 5, 3))
    mean = units.mean(axis=1)
    apart = units - mean[:, None]
    grouped = GroupedCovariance(3)
    grouped.add_units(np.zeros(3), 5, mean, apart.transpose(0, 2, 1) @ apart)
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


@pytest.mark.parametrize("kind", [CsvLogger, JsonLinesLogger])
def test_records_wait_for_a_full_disk_and_no_half_line_is_left(pairs, tmp_path, kind):
    expected = kind(tmp_path / "expected")
    for pair in pairs:
        expected.write(*pair)
    expected.close()
    path = tmp_path / "found"
    logger = PatientLogger(kind(path), path)
    logger.write(*pairs[0])
    size = path.stat().st_size
    with no_file_over(size + 40):
        with pytest.warns(UserWarning, match="kept in memory"):
            logger.write(*pairs[1])
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # it was said once
            logger.write(*pairs[2])
        assert path.stat().st_size == size
        assert logger.missing.startswith("2 records of")
    for pair in pairs[3:]:
        logger.write(*pair)
    logger.close()
    assert not logger.missing
    assert path.read_bytes() == (tmp_path / "expected").read_bytes()


def test_a_disk_that_stays_full_is_said_at_the_end(pairs, tmp_path):
    path = tmp_path / "monitor.jsonl"
    logger = PatientLogger(JsonLinesLogger(path), path)
    with no_file_over(0), pytest.warns(UserWarning, match="kept in memory"):
        for pair in pairs:
            logger.write(*pair)
        logger.close()
    assert logger.missing.startswith(f"5 records of {path} ([Errno 27]")


def test_a_folder_that_was_removed_is_made_again(pairs, tmp_path):
    path = tmp_path / "run" / "monitor.jsonl"
    logger = PatientLogger(JsonLinesLogger(path), path)
    logger.write(*pairs[0])
    shutil.rmtree(path.parent)
    with pytest.warns(UserWarning, match="kept in memory"):
        logger.write(*pairs[1])
    logger.write(*pairs[2])
    logger.close()
    assert [json.loads(line)["epoch"] for line in path.read_text().splitlines()] == [1, 2]


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
    assert (folder / "model.keras").is_file() and (folder / "evaluation.json").is_file()
    assert {record.epoch for record in read_run(folder).records["probe_encoder_1"]} <= {1, 2}
    assert "kept in memory" in err
