"""Trainings on full disks and read-only disks, and in folders that are removed."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from monitoring.records.reading import read_run

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parent.parent
SETTINGS = """\
model: {filters: [2], bottleneck: 3, probes: [encoder, bottleneck]}
nas: {enabled: true, monitor_images: 16}
training: {epochs: 3, batch_size: 40}
"""


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
