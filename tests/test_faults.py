"""Full disks, folders that go away, and what is left of the files."""

import resource
import shutil
import signal
import threading
import warnings
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import grouped_units

from monitoring.loggers.folder import KINDS, LogFolder
from monitoring.records.files import WriteFailures
from monitoring.records.measurement import Measurement, summarise
from monitoring.records.reading import read_snapshots


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
