"""Who owns a run's folder: claims, and what may be removed."""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest
from conftest import draw_image_folder
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from monitoring.records import run_files
from monitoring.records.run_files import (
    BEFORE_CHECKPOINT,
    CHECKPOINT,
    CUT,
    MARKER,
    NAMES,
    SUBFOLDERS,
    checked_folder,
    claim_folder,
    claim_new_folder,
    clear_unfinished_run,
    mark_folder,
    remove_file,
    remove_own_files,
)
from train import main

KEPT = ("config.yaml", *CUT)  # when a training starts over

ROOT = Path(__file__).resolve().parent.parent


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def at_once(action, count=32) -> list:
    """Calls an action in many threads that start together, and returns what it returned."""
    barrier, returned = threading.Barrier(count), []

    def call():
        barrier.wait()
        with contextlib.suppress(ValueError):
            returned.append(action())

    threads = [threading.Thread(target=call) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return returned


def test_many_new_runs_of_one_second_get_a_folder_each(tmp_path):
    folders = at_once(lambda: claim_new_folder(tmp_path / "runs", "nano_u-20260101-000000"))
    assert len(set(folders)) == 32 == len(list((tmp_path / "runs").iterdir()))
    assert all((folder / MARKER).is_file() for folder in folders)


@pytest.mark.parametrize("exists", [True, False])
def test_one_of_many_claims_of_a_folder_succeeds(tmp_path, exists):
    folder = tmp_path / "deep" / "run"
    if exists:
        folder.mkdir(parents=True)
    assert at_once(lambda: claim_folder(folder) or folder) == [folder]


@pytest.mark.slow
def test_processes_do_not_share_a_folder(tmp_path):
    code = (
        "from pathlib import Path; from monitoring.records.run_files import claim_new_folder\n"
        "print(claim_new_folder(Path('runs'), 'run'))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
        )
        for _ in range(8)
    ]
    assert len({process.communicate()[0] for process in processes}) == 8


@pytest.mark.parametrize("name", [*NAMES, MARKER, ".unfinished.model.keras"])
def test_a_folder_that_holds_a_runs_file_is_not_claimed(tmp_path, name):
    (tmp_path / "notes.txt").touch()
    (tmp_path / name).write_text("a stranger's")
    with pytest.raises(ValueError, match=f"holds another run \\({name}\\)"):
        claim_folder(tmp_path)
    assert contents(tmp_path) == {"notes.txt": b"", name: b"a stranger's"}


def test_a_broken_link_with_a_runs_name_is_not_written_through(tmp_path):
    (tmp_path / "model.keras").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="holds another run"):
        claim_folder(tmp_path)


def test_paths_are_checked_and_expanded(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert checked_folder("~/run") == tmp_path / "run"
    with pytest.raises(ValueError, match="valid UTF-8") as error:
        checked_folder(os.fsdecode(b"caf\xe9"))
    str(error.value).encode()
    with pytest.raises(ValueError, match="no-such-user"):
        checked_folder("~no-such-user/run")


def unfinished(folder: Path) -> None:
    """Writes what a training leaves that is killed before its first checkpoint."""
    folder.mkdir(exist_ok=True)
    mark_folder(folder)
    (folder / "config.yaml").write_text("{}")
    for name in ("cost.json", "history.csv", "monitor.csv", "monitor.jsonl"):
        (folder / name).write_text("ours")
    for name in (
        "checkpoint/best.npz",
        "checkpoint/.unfinished.last.npz",
        "window/3.npz",
        "arrays/probe_encoder_1-00000010.npz",
        "arrays/outer%2Fwide-00000010.npz",
        "tensorboard/events.out.tfevents.1700000000.host.17.0",
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("ours")


def test_an_unfinished_run_is_cleared_but_for_strangers_files(tmp_path):
    unfinished(tmp_path)
    strangers = ["notes.txt", "arrays/mine-1.npz", "window/mine.npz", "checkpoint/last.npz.bak"]
    strangers += ["tensorboard/notes.txt", "arrays/sub/probe_a-00000010.npz", ".unfinished.mine"]
    for name in strangers:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    clear_unfinished_run(tmp_path)
    assert set(contents(tmp_path)) == {"config.yaml", MARKER, *strangers}


def test_the_network_that_a_training_begins_with_stays_but_not_its_draft(tmp_path):
    unfinished(tmp_path)
    for name in CUT:
        (tmp_path / name).write_text("ours")
        (tmp_path / f".unfinished.{name}").write_text("half")
    clear_unfinished_run(tmp_path)
    assert set(contents(tmp_path)) == {"config.yaml", MARKER, *CUT}


def test_empty_subfolders_go(tmp_path):
    unfinished(tmp_path)
    clear_unfinished_run(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"config.yaml", MARKER}


@pytest.mark.parametrize("name", sorted({*NAMES} - {"config.yaml"}))
def test_without_a_marker_nothing_is_cleared(tmp_path, name):
    unfinished(tmp_path)
    (tmp_path / MARKER).unlink()
    for other in NAMES:
        if other not in (name, "config.yaml"):
            path = tmp_path / other
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if not (tmp_path / name).exists():
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"holds {name}: starting over would overwrite it"):
        clear_unfinished_run(tmp_path)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("name", sorted({*NAMES} - {*KEPT, *BEFORE_CHECKPOINT, CHECKPOINT}))
def test_a_marked_folder_with_a_result_is_not_cleared(tmp_path, name):
    unfinished(tmp_path)
    (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    with pytest.raises(ValueError, match=f"has no checkpoint but holds {name}"):
        clear_unfinished_run(tmp_path)
    assert contents(tmp_path) == before


def test_links_are_not_followed(tmp_path):
    unfinished(tmp_path / "run")
    other = tmp_path / "other"
    shutil.copytree(tmp_path / "run" / "arrays", other)
    shutil.rmtree(tmp_path / "run" / "arrays")
    (tmp_path / "run" / "arrays").symlink_to(other)
    before = contents(other)
    remove_own_files(tmp_path / "run" / "arrays")
    with pytest.raises(ValueError, match="holds arrays"):
        clear_unfinished_run(tmp_path / "run")
    assert contents(other) == before != {}


def test_only_a_runs_own_names_can_be_removed(tmp_path):
    for name in ("mine.txt", "mine.npz", "model.keras.bak"):
        (tmp_path / name).touch()
        with pytest.raises(ValueError, match="Expected the name of a run's file"):
            remove_file(tmp_path / name)
    with pytest.raises(ValueError, match="Expected one of checkpoint"):
        remove_own_files(tmp_path)
    for name in SUBFOLDERS:
        (tmp_path / name).mkdir()
        (tmp_path / name / "0.npz").touch()
        remove_own_files(tmp_path / name)  # no marker
    assert len(contents(tmp_path)) == 3 + len(SUBFOLDERS)
    (tmp_path / "model.keras").touch()
    remove_file(tmp_path / "model.keras")
    remove_file(tmp_path / "model.keras")
    assert not (tmp_path / "model.keras").exists()


def test_every_removal_goes_through_one_room():
    """Neither library nor application removes files elsewhere, but a draft of its own."""
    allowed = {"monitoring/records/run_files.py", "monitoring/records/files.py"}
    for name in ("models", "monitoring", "training"):
        for path in (ROOT / name).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "rmtree" not in text.replace("never rmtree", ""), path
            if str(path.relative_to(ROOT)) not in allowed:
                assert ".unlink(" not in text and "os.remove" not in text, path


def test_no_other_module_of_the_application_names_a_runs_files():
    literals = [f'"{name}"' for name in NAMES if "." in name]
    for path in [ROOT / "train.py", *(ROOT / "training").rglob("*.py")]:
        text = path.read_text(encoding="utf-8")
        assert not [literal for literal in literals if literal in text], path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_image_folder(tmp_path_factory.mktemp("data") / "tiny")


def test_a_model_beside_an_empty_configuration_survives_a_resumption(tmp_path, capsys):
    (tmp_path / "config.yaml").touch()
    (tmp_path / "model.keras").write_text("months of work")
    before = contents(tmp_path)
    assert main(["--resume", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "model.keras" in error and "Move" in error
    assert contents(tmp_path) == before


FILES = st.sampled_from(
    [
        *(*NAMES, ".unfinished.config.yaml", ".unfinished.model.keras", "notes.txt"),
        *(f"{folder}/{name}" for folder in SUBFOLDERS for name in ("0.npz", "notes.txt")),
        *("checkpoint/last.npz", "checkpoint/best.npz", "arrays/probe_a-00000001.npz"),
        *("teacher/monitor.csv", "teacher/arrays/probe_a-00000001.npz"),
        *("teacher/config.yaml", "student/model.keras", "student/mine/model.keras"),
        "tensorboard/events.out.tfevents.1.host.1.0",
    ]
)
# Configurations that can be trained, that cannot, and what is none.
CONTENTS = st.sampled_from([b"", b"{}", b"training: {epochs: 1}", b"[]", b"\xff\x00"])


@pytest.mark.slow
@example({"config.yaml": b"", "model.keras": b"{}"}, False, "--resume")
@example({"config.yaml": b"", "history.csv": b"{}"}, False, "--resume")
@example({"config.yaml": b"", "checkpoint/last.npz": b"{}"}, False, "--resume")
@example({"config.yaml": b"", "arrays/notes.txt": b"{}"}, True, "--resume")
@example({"teacher/config.yaml": b"", "pipeline.yaml": b"{}"}, True, "--pipeline")
@given(
    files=st.dictionaries(FILES, CONTENTS, min_size=1, max_size=5),
    marked=st.booleans(),
    command=st.sampled_from(["--resume", "--output", "--pipeline"]),
)
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_no_command_changes_a_strangers_file(data, files, marked, command):
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patched:
        folder = Path(root)
        patched.setattr("training.fit._fit_model", trains_nothing)
        for name, content in files.items():
            path = folder / name
            with contextlib.suppress(FileExistsError, NotADirectoryError):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content) if not path.is_dir() else None
        if marked:
            (folder / MARKER).touch()
        before = contents(folder)
        options = {
            "--resume": ["--resume", root],
            "--output": ["--output", root, "--data", str(data)],
            "--pipeline": ["--pipeline", "--output", root, "--data", str(data)],
        }
        with contextlib.suppress(TrainingBegan):
            assert main(options[command]) in (0, 2)
        after = contents(folder)
        for name, content in before.items():
            if not (marked and command == "--resume" and is_unfinished_run(name)):
                assert after.get(name) == content, name


class TrainingBegan(BaseException):
    pass


def trains_nothing(*_):
    raise TrainingBegan


def is_unfinished_run(name: str) -> bool:
    """Returns whether a marked folder's file is what a training writes first."""
    first, _, rest = name.partition("/")
    if not rest:
        name = first.removeprefix(".unfinished.")
        return name in BEFORE_CHECKPOINT or first == ".unfinished.config.yaml"
    return first in (*BEFORE_CHECKPOINT, CHECKPOINT) and run_files._is_own_name(first, rest)
