"""From teacher to INT8 in one command, and what is left of it after kill -9."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import draw_image_folder

from models import MODELS
from models.cost import model_cost
from train import main
from training import pipeline
from training.config import read_config
from training.sections import NarrowConfig

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = """\
model: {filters: [2, 4], bottleneck: 4, probes: [encoder]}
nas: {enabled: true, monitor_images: 8}
export: {tolerance: 100}
pipeline: {teacher: nano_u, teacher_epochs: 1, narrow_epochs: 2}
narrow: {macs: 1200k, rounds: 2, teacher: true}
training: {epochs: 1, quantization_aware: true}
"""


ROUNDED = ("student", "student_aware")
COUNTED = ("parameters", "macs", "peak_activation_bytes", "weight_bytes")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("settings")
    data = draw_image_folder(folder / "tiny")
    path = folder / "pipeline.yaml"
    path.write_text(SETTINGS + f"data: {{root: {data}}}\n")
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
    assert [row["name"] for row in rows] == [
        *("teacher", "student", "student, INT8", "student_aware", "student_aware, INT8"),
        *("narrowed", "narrowed, INT8"),
    ]
    teacher, student, int8, aware, aware_int8, narrowed, narrowed_int8 = rows
    assert narrowed["macs"] == narrowed_int8["macs"] <= 1_200_000 < teacher["macs"]
    assert narrowed_int8["fits"] and narrowed["parameters"] < teacher["parameters"]
    assert aware["parameters"] == aware_int8["parameters"] == student["parameters"]
    assert aware_int8["fits"] and aware_int8["miou"] == pytest.approx(aware["miou"], abs=0.02)
    for step, how in (("student", "post-training"), ("student_aware", "quantization-aware")):
        exported = json.loads((finished / step / "export.json").read_text())
        assert exported["quantization"] == how
    assert teacher["parameters"] == 4212 > student["parameters"] == int8["parameters"]
    assert int8["fits"] and int8["memory"] > 0 and student["memory"] is None
    assert int8["file_bytes"] == (finished / "student" / "model_int8.tflite").stat().st_size
    page = re.sub("<[^>]*>", " ", (finished / "report.html").read_text(encoding="utf-8"))
    assert "encoder_1" in page and "4,212" in page and "student, INT8" in page
    for step in ("teacher", "student", "student_aware", "narrowed"):
        assert (finished / step / "report.html").is_file()
    report = (finished / "report.html").read_text(encoding="utf-8")
    assert '<a href="narrowed/report.html">narrowed</a>' in report and "round_1" not in report


def test_the_teacher_is_narrowed_and_teaches_what_is_left_of_it(finished):
    path = finished / "narrowed" / "config.yaml"
    written = yaml.safe_load(path.read_text())
    teachers = (written["narrow"]["parent"], written["distillation"]["teacher"])
    assert teachers == (str(finished / "teacher"),) * 2
    config = read_config(path)
    assert (config.training.epochs, config.narrow.rounds, config.export.tolerance) == (2, 2, 100)
    cut = json.loads((finished / "narrowed" / "evaluation.json").read_text())["cut"]
    assert [each["epochs"] for each in cut["by_round"]] == [1, 1]
    teacher = json.loads((finished / "teacher" / "cost.json").read_text())
    assert cut["before"]["macs"] == teacher["macs"]
    student = read_config(finished / "student" / "config.yaml")
    assert student.narrow == NarrowConfig()


def test_the_costs_are_those_of_the_plain_networks(finished):
    rows = {row["name"]: row for row in json.loads((finished / "pipeline.json").read_text())}
    for step, widths in (("teacher", {}), ("student", {"filters": (2, 4), "bottleneck": 4})):
        cost = model_cost(MODELS["nano_u"](**widths))
        assert (rows[step]["parameters"], rows[step]["macs"]) == (cost.parameters, cost.macs)
    # The layers that round cost nothing on a device.
    written = (json.loads((finished / s / "cost.json").read_text()) for s in ROUNDED)
    first, second = ({k: v for k, v in cost.items() if k in COUNTED} for cost in written)
    assert first == second


def test_a_finished_pipeline_is_not_run_again(finished, config, capsys):
    before = {path: path.stat().st_mtime_ns for path in finished.glob("*/*")}
    (finished / "teacher" / "cost.json").unlink()  # older versions wrote none
    before.pop(finished / "teacher" / "cost.json")
    assert main(["--pipeline", "--config", str(config), "--output", str(finished)]) == 0
    assert "teacher: has finished" in capsys.readouterr().out
    after = {path: path.stat().st_mtime_ns for path in finished.glob("*/*")}
    assert after.pop(finished / "teacher" / "cost.json") and after == before


def test_a_pipeline_of_relative_paths_or_of_an_older_version_is_the_same(
    finished, config, monkeypatch, capsys
):
    settings = finished / "pipeline.yaml"
    stored = yaml.safe_load(settings.read_text())
    assert "teacher" not in stored["student"]["distillation"]  # it follows from the folder
    for step in ("student", "student_aware"):
        stored[step]["distillation"]["teacher"] = "runs/whole/teacher"
    settings.write_text(yaml.safe_dump(stored, sort_keys=False))
    monkeypatch.chdir(finished.parent)
    assert main(["--pipeline", "--config", str(config), "--output", finished.name]) == 0
    assert "student_aware: has finished" in capsys.readouterr().out
    teacher = yaml.safe_load((finished / "student" / "config.yaml").read_text())["distillation"]
    assert teacher["teacher"] == str(finished / "teacher")


def test_a_users_error_in_a_later_step_is_one_line(finished, config, tmp_path, capsys):
    folder = tmp_path / "all"
    shutil.copytree(finished, folder)
    (folder / "pipeline.json").unlink()
    shutil.rmtree(folder / "student")
    (folder / "teacher" / "model.keras").write_text("no model")
    assert main(["--pipeline", "--config", str(config), "--output", str(folder)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is not a .keras file" in error
    assert not (folder / "student").exists()


def test_an_error_inside_a_later_training_keeps_its_traceback(
    finished, config, tmp_path, monkeypatch
):
    def fit(*_, **__):
        raise ValueError("a defect")

    folder = tmp_path / "all"
    shutil.copytree(finished, folder)
    shutil.rmtree(folder / "student")
    monkeypatch.setattr(pipeline, "fit", fit)
    with pytest.raises(ValueError, match="a defect"):
        main(["--pipeline", "--config", str(config), "--output", str(folder)])


@pytest.mark.slow
def test_killed_on_its_way_it_ends_with_the_same_figures(finished, config, tmp_path):
    folder = tmp_path / "killed"
    killed(folder, config, "student/history.csv")
    assert (folder / "teacher" / "evaluation.json").exists()
    killed(folder, config, "student_aware/evaluation.json")
    killed(folder, config, "narrowed/round_1/history.csv")
    assert not (folder / "pipeline.json").exists()
    assert main(["--pipeline", "--config", str(config), "--output", str(folder)]) == 0
    expected, found = (
        [{k: v for k, v in row.items() if k != "file_bytes"} for row in json.loads(text)]
        for text in ((f / "pipeline.json").read_text() for f in (finished, folder))
    )
    assert found == expected
    for step in ("student", "student_aware", "narrowed"):
        name = f"{step}/model_int8.tflite"
        assert (folder / name).read_bytes() == (finished / name).read_bytes()


def test_another_pipelines_folder_is_left_alone(finished, config, tmp_path, capsys):
    options = ["--config", str(config), "--output"]
    assert main(["--pipeline", *options, str(finished), "--seed", "7"]) == 2
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["--pipeline", *options, str(tmp_path)]) == 2
    assert main(["--pipeline", *options, str(tmp_path / "new"), "--distill-from", "x"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert "other settings" in lines[0] and "is not empty" in lines[1]
    assert "own teacher" in lines[2]
    assert main(["--pipeline", *options, str(tmp_path / "new"), "--model", "bu_net"]) == 2
    assert "a single chain" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
