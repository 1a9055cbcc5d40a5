"""From teacher to INT8 in one command, and what is left of it after kill -9."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from train import main

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = """\
model: {filters: [2, 4], bottleneck: 4, probes: [encoder]}
nas: {enabled: true, monitor_images: 8}
export: {tolerance: 100}
pipeline: {teacher: nano_u, teacher_epochs: 1}
training: {epochs: 1, quantization_aware: true}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "pipeline.yaml"
    path.write_text(SETTINGS)
    return path


@pytest.fixture(scope="module")
def finished(config, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert main(["--pipeline", "--config", str(config), "--output", str(folder)]) == 0
    return folder


def killed(folder: Path, config: Path, when: str) -> None:
    """Runs the pipeline in a process of its own, and kills it once a file is there."""
    command = [sys.executable, "train.py", "--pipeline", "--config", config, "--output", folder]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 240
    while not (folder / when).exists():
        assert process.poll() is None, f"ended before {when} was there"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()


def test_every_step_is_there_and_in_the_report(finished):
    rows = json.loads((finished / "pipeline.json").read_text())
    assert [one["name"] for one in rows] == [
        *("teacher", "student", "student, INT8", "student_aware", "student_aware, INT8")
    ]
    teacher, student, int8, aware, aware_int8 = rows
    assert aware["parameters"] == aware_int8["parameters"] == student["parameters"]
    assert aware_int8["fits"] and aware_int8["miou"] == pytest.approx(aware["miou"], abs=0.02)
    for step, how in (("student", "post-training"), ("student_aware", "quantization-aware")):
        said = json.loads((finished / step / "export.json").read_text())
        assert said["quantization"] == how
    assert teacher["parameters"] == 4212 > student["parameters"] == int8["parameters"]
    assert int8["fits"] and int8["memory"] > 0 and student["memory"] is None
    assert int8["file_bytes"] == (finished / "student" / "model_int8.tflite").stat().st_size
    said = re.sub("<[^>]*>", " ", (finished / "report.html").read_text(encoding="utf-8"))
    assert "encoder_1" in said and "4,212" in said and "student, INT8" in said
    for step in ("teacher", "student", "student_aware"):
        assert (finished / step / "report.html").is_file()


def test_a_finished_pipeline_is_not_run_again(finished, config, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/*")}
    assert main(["--pipeline", "--config", str(config), "--output", str(finished)]) == 0
    assert "teacher: is there" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in finished.glob("*/*")} == before


def test_killed_in_each_step_it_ends_with_the_same_figures(finished, config, tmp_path):
    folder = tmp_path / "killed"
    killed(folder, config, "teacher/history.csv")
    assert not (folder / "teacher" / "evaluation.json").exists()
    killed(folder, config, "student/history.csv")
    assert (folder / "teacher" / "evaluation.json").exists()
    killed(folder, config, "student/evaluation.json")
    killed(folder, config, "student_aware/evaluation.json")
    assert not (folder / "pipeline.json").exists()
    assert main(["--pipeline", "--config", str(config), "--output", str(folder)]) == 0
    expected, found = (
        [{k: v for k, v in one.items() if k != "file_bytes"} for one in json.loads(text)]
        for text in ((f / "pipeline.json").read_text() for f in (finished, folder))
    )
    assert found == expected
    for kept in ("student/model_int8.tflite", "student_aware/model_int8.tflite"):
        assert (folder / kept).read_bytes() == (finished / kept).read_bytes()


def test_another_pipelines_folder_is_left_alone(finished, config, tmp_path, capsys):
    options = ["--config", str(config), "--output"]
    assert main(["--pipeline", *options, str(finished), "--seed", "7"]) == 2
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["--pipeline", *options, str(tmp_path)]) == 2
    assert main(["--pipeline", *options, str(tmp_path / "new"), "--distill-from", "x"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert "other settings" in said[0] and "is not empty" in said[1] and "own teacher" in said[2]
    assert main(["--pipeline", *options, str(tmp_path / "new"), "--model", "bu_net"]) == 2
    assert "one chain" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
