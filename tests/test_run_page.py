"""A run's page is read and drawn anew only where its files have changed."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from synthetic_run import record, snapshot, write_records, write_run

from monitoring.loggers.arrays import ArraysLogger
from monitoring.records import record_lines
from monitoring.records.files import DamagedFileError
from monitoring.records.record_lines import RecordLines
from monitoring.report import run_page
from monitoring.report.run_page import RunPage, write_report

ROOT = Path(__file__).resolve().parent.parent
PROBES = ("probe_encoder_1", "probe_bottleneck")


@pytest.fixture
def parsed(monkeypatch):
    """The lines of monitor.jsonl that are parsed."""
    lines, parse = [], record_lines.parse_record
    monkeypatch.setattr(
        record_lines, "parse_record", lambda line: lines.append(line) or parse(line)
    )
    return lines


@pytest.fixture
def drawn(monkeypatch):
    """The snapshots whose heat maps are drawn."""
    snapshots, draw = [], run_page.draw_correlation
    monkeypatch.setattr(
        run_page, "draw_correlation", lambda shot: snapshots.append(shot.step) or draw(shot)
    )
    return snapshots


def fresh(folder: Path) -> str:
    return RunPage(folder).render()


def test_after_an_append_exactly_the_new_lines_are_parsed(tmp_path, parsed, drawn):
    write_records(tmp_path, range(-1, 20), PROBES)
    page = RunPage(tmp_path)
    first = page.render()
    assert len(parsed) == 21 * 2 and drawn == [200, 200]
    parsed.clear(), drawn.clear()
    write_records(tmp_path, [20, 21], PROBES)
    second = page.render()
    steps = [json.loads(line)["step"] for line in parsed]
    assert steps == [210, 210, 220, 220] and drawn == [220, 220]
    assert second == fresh(tmp_path) != first


def test_nothing_is_read_or_drawn_where_nothing_has_changed(tmp_path, parsed, drawn, monkeypatch):
    page = RunPage(write_run(tmp_path))
    first = page.render()
    parsed.clear(), drawn.clear()
    monkeypatch.setattr(run_page, "render", lambda *args, **options: pytest.fail("drawn again"))
    assert page.render() is first
    assert parsed == drawn == []


@pytest.mark.parametrize(
    "name", ["config.yaml", "evaluation.json", "export.json", "advice.json", "history.csv"]
)
def test_a_file_that_comes_or_changes_is_seen(tmp_path, name, parsed, drawn):
    write_run(tmp_path)
    content = (tmp_path / name).read_text()
    (tmp_path / name).unlink()
    page = RunPage(tmp_path)
    without = page.render()
    parsed.clear(), drawn.clear()
    (tmp_path / name).write_text(content)
    text = page.render()
    assert parsed == drawn == []  # only the new file was read
    assert text == fresh(tmp_path) != without
    changed = content.replace("probe_encoder_1", "probe_other").replace("0.5", "0.125")
    changed = changed.replace("nano_u", "bu_net")
    assert changed != content
    (tmp_path / name).write_text(changed)
    assert page.render() == fresh(tmp_path) != text


def test_a_picture_and_a_teacher_are_seen(tmp_path):
    from PIL import Image

    page = RunPage(write_run(tmp_path))
    page.render()
    Image.new("RGB", (60, 20), "green").save(tmp_path / "predictions.png")
    assert page.render() == fresh(tmp_path) and "data:image/jpeg" in page.render()
    (tmp_path / "teacher").mkdir()
    write_records(tmp_path / "teacher", [0])
    assert "Beside its teacher" in page.render()
    assert page.render() == fresh(tmp_path)


def change(path: Path, how: str) -> None:
    lines = path.read_text().splitlines(keepends=True)
    if how == "replaced":
        other = path.with_name("other")
        other.write_text("".join(lines).replace("0.5", "0.25"))
        os.replace(other, path)
    elif how == "shortened":
        path.write_text("".join(lines[:3]))
    elif how == "rewritten":  # in place, and longer than before
        path.write_text("".join(lines[3:] + lines))
    elif how == "torn":
        path.write_text("".join(lines) + lines[0][:40])
    else:
        path.write_text("")


@pytest.mark.parametrize("how", ["replaced", "shortened", "rewritten", "torn", "emptied"])
def test_a_file_that_was_not_only_appended_to_is_read_anew(tmp_path, how):
    write_records(tmp_path, range(-1, 10), PROBES)
    path = tmp_path / "monitor.jsonl"
    lines = RecordLines(path)
    assert len(lines.read()[0]) == 22
    change(path, how)
    assert lines.read() == RecordLines(path).read()
    if how in ("replaced", "shortened", "rewritten"):
        write_records(tmp_path, [10], PROBES)
        records, notes = lines.read()
        assert (records, notes) == RecordLines(path).read() and records[-1].epoch == 10


def test_a_line_that_is_written_in_two_pieces_is_read_once_it_is_whole(tmp_path, parsed):
    write_records(tmp_path, [0, 1])
    path = tmp_path / "monitor.jsonl"
    *whole, last = path.read_text().splitlines(keepends=True)
    path.write_text("".join(whole) + last[:50])
    lines = RecordLines(path)
    records, notes = lines.read()
    assert len(records) == 1 and "torn" in notes[0]
    with path.open("a") as file:
        file.write(last[50:])
    parsed.clear()
    assert lines.read()[1] == [] and len(lines.read()[0]) == 2
    assert parsed == [last]


def test_a_damaged_line_is_an_error_each_time(tmp_path):
    write_records(tmp_path, [0, 1])
    path = tmp_path / "monitor.jsonl"
    lines = RecordLines(path)
    lines.read()
    with path.open("a") as file:
        file.write("oh\n")
    for _ in range(2):
        with pytest.raises(DamagedFileError, match="line 3, is not a record"):
            lines.read()


def test_a_long_file_is_thinned_as_it_grows_as_if_read_at_once(tmp_path):
    lines = RecordLines(tmp_path / "monitor.jsonl", limit=10)
    for start in range(0, 90, 7):
        write_records(tmp_path, range(start, start + 7), PROBES)
        assert lines.read() == RecordLines(tmp_path / "monitor.jsonl", limit=10).read()
    assert len(lines.read()[0]) < 24


def test_only_the_last_snapshot_of_a_probe_is_drawn(tmp_path, drawn):
    write_records(tmp_path, [0])
    logger = ArraysLogger(tmp_path / "arrays")
    spread = np.eye(8)
    spread[0, 1] = spread[1, 0] = 0.9
    logger.write(record(), snapshot(step=123456789, correlation=spread))
    write_report(tmp_path)
    assert drawn == [123456789]


BLOCKED = """
import importlib.abc, sys

class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] in set(sys.argv[1].split(",")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from monitoring.__main__ import main

code = main(sys.argv[2:])
assert not {"keras", "tensorflow", "training"} & set(sys.modules)
sys.exit(code)
"""


def run_without(blocked: str, *arguments) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", BLOCKED, blocked, *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def test_report_and_compare_need_no_keras_and_nothing_of_the_application(tmp_path):
    write_run(tmp_path)
    blocked = "keras,tensorflow,training,models,pydantic,rich,tensorboard"
    for arguments in (
        ("report", tmp_path),
        ("compare", tmp_path, tmp_path, "--output", tmp_path / "both.html"),
    ):
        result = run_without(blocked, *arguments)
        assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("jinja2", "A page needs jinja2, which is not installed: pip install jinja2"),
        ("yaml", "Reading config.yaml needs pyyaml, which is not installed: pip install pyyaml"),
        ("PIL", "A heat map needs pillow, which is not installed: pip install pillow"),
    ],
)
def test_a_missing_package_is_one_line_that_names_it(tmp_path, module, message):
    write_run(tmp_path)
    result = run_without(module, "report", tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"python -m monitoring report: error: {message}\n"


def test_the_memory_of_an_int8_file_is_drawn(tmp_path):
    write_run(tmp_path)
    file = tmp_path / "export.json"
    exported = json.loads(file.read_text())
    assert "Memory on the device" not in fresh(tmp_path)  # of an older version
    tensor = {"name": "<image>", "shape": [1, 8], "bytes": 8, "first": 0, "last": 0, "plain": 16}
    tensors = [{**tensor, "overlap": 0}, {**tensor, "name": "out", "plain": 0, "overlap": 0}]
    arena = {"plan": "overlap", "refused": "", "rests_on": "kernels that read first"}
    arena |= {"plain_bytes": 2000, "operators": ["ADD"], "tensors": tensors}
    file.write_text(json.dumps(exported | {"arena": arena, "arena_bytes": 1000}))
    page = fresh(tmp_path)
    assert "works in 1,000 bytes" in page and "places tensors itself, in 2,000." in page
    assert '<p class="note">Kernels that read first.</p>' in page
    assert "at operator 1, ADD:" in page and "&lt;image&gt; (1 x 8, 8 bytes), out" in page
    assert page.count("Where each tensor lies while the network runs") == 2
    plain = arena | {"plan": "plain", "rests_on": "", "refused": "outputs differ"}
    file.write_text(json.dumps(exported | {"arena": plain, "arena_bytes": None}))
    page = fresh(tmp_path)
    assert "No overlapping plan: outputs differ." in page and "works in" not in page
    assert page.count("Where each tensor lies while the network runs") == 1
