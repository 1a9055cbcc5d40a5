"""Snapshots on disk: read by NumPy without pickle, and never more than are promised."""

import numpy as np
import pytest

from monitoring.loggers.arrays import ArraysLogger
from monitoring.records.record import ProbeSnapshot


def snapshot(global_step, probe="probe_bottleneck", channels=4, step=0):
    return ProbeSnapshot(
        probe=probe,
        epoch=global_step // 10,
        step=step,
        global_step=global_step,
        mean=np.arange(channels, dtype=float),
        correlation=np.eye(channels),
        eigenvalues=np.ones(channels),
        dead=(3,),
        duplicates={2: (0, -1)},
    )


def steps(folder):
    """The global steps in the files' names."""
    return sorted(int(path.stem.rsplit("-", 1)[1]) for path in folder.glob("*.npz"))


def test_numpy_reads_what_was_written(tmp_path):
    ArraysLogger(tmp_path).write(None, snapshot(25, step=6))
    (path,) = tmp_path.iterdir()
    assert path.name == "probe_bottleneck-00000025.npz"
    with np.load(path, allow_pickle=False) as arrays:
        assert set(arrays) == {
            *("epoch", "step", "global_step", "number", "mean", "eigenvalues", "correlation"),
            *("dead", "duplicates"),
        }
        assert [int(arrays[name]) for name in ("epoch", "step", "global_step")] == [2, 6, 25]
        np.testing.assert_array_equal(arrays["mean"], [0, 1, 2, 3])
        np.testing.assert_array_equal(arrays["correlation"], np.eye(4))
        np.testing.assert_array_equal(arrays["dead"], [3])
        np.testing.assert_array_equal(arrays["duplicates"], [[2, 0, -1]])


@pytest.mark.parametrize("written", [1, 4, 5, 8, 9, 100, 129])
def test_the_first_the_last_and_every_kth_are_kept(tmp_path, written):
    logger = ArraysLogger(tmp_path, limit=4)
    for step in range(written):
        logger.write(None, snapshot(step))
        assert len(steps(tmp_path)) <= 4
    kept = steps(tmp_path)
    assert kept[0] == 0
    assert kept[-1] == written - 1
    gaps = set(np.diff(kept[:-1]))
    assert len(gaps) <= 1
    assert len(kept) >= min(written, 3)


@pytest.mark.parametrize("limit", [2, 4, 7])
@pytest.mark.parametrize("kept, lost", [(1, 1), (4, 0), (4, 3), (9, 1), (30, 2), (33, 9)])
def test_going_on_after_a_kill_keeps_what_would_have_been_kept(tmp_path, limit, kept, lost):
    def write(folder, numbers, start=0):
        logger = ArraysLogger(tmp_path / folder, limit)
        logger.start(start, 10 * (start - 1), {"probe_bottleneck": start})
        for number in numbers:
            logger.write(None, snapshot(10 * number))

    write("killed", range(kept + lost))  # what came after the checkpoint is lost
    write("killed", range(kept, 70), start=kept)
    write("whole", range(70))
    assert steps(tmp_path / "killed") == steps(tmp_path / "whole")


def test_large_snapshots_are_kept_in_smaller_number(tmp_path, monkeypatch):
    monkeypatch.setattr("monitoring.loggers.arrays.MAX_BYTES", 10_000)
    logger = ArraysLogger(tmp_path)
    for step in range(40):
        logger.write(None, snapshot(step, channels=20))  # 3.2 kB
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 10_000


def test_probes_are_kept_apart_whatever_their_names(tmp_path):
    logger = ArraysLogger(tmp_path / "arrays", limit=2)
    for probe in ("block/conv", "block%2Fconv", "..", "größe"):
        for step in (1, 2, 3):
            logger.write(None, snapshot(step, probe))
    names = sorted(path.name for path in (tmp_path / "arrays").iterdir())
    assert len(names) == 8
    assert "block%2Fconv-00000003.npz" in names
    assert [path.name for path in tmp_path.iterdir()] == ["arrays"]


def test_a_second_fit_from_the_same_step_replaces_its_snapshot(tmp_path):
    logger = ArraysLogger(tmp_path, limit=3)
    for _ in range(5):
        logger.write(None, snapshot(0))
    assert steps(tmp_path) == [0]


def test_at_least_two_are_kept():
    with pytest.raises(ValueError, match="at least 2 snapshots. Received: 1"):
        ArraysLogger("anywhere", limit=1)
