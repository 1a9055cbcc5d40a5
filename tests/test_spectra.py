"""Spectra of wide layers: NumPy's numbers, from a process that exists only while needed."""

import copy
import gc
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

from monitoring import NASMonitorCallback
from monitoring.recorder import Recorder
from monitoring.records.measurement import summarise
from monitoring.spectra import SpectrumProcess

ROOT = Path(__file__).resolve().parents[1]


def symmetric(rng, *shape):
    """Matrices of the last axis's length: (3, 65) is three of 65 by 65."""
    x = rng.normal(size=(*shape, shape[-1]))
    return x @ x.swapaxes(-1, -2)


def one_thread(matrices):
    with threadpool_limits(1, user_api="blas"):
        return np.linalg.eigvalsh(matrices)


@pytest.fixture
def spectra():
    spectra = SpectrumProcess()
    yield spectra
    spectra.close()


@pytest.mark.parametrize(
    "shape", [(1,), (64,), (65,), (3, 64), (3, 65), (2, 2, 80), (128,), (0, 80)]
)
def test_they_are_numpys_to_the_bit(rng, spectra, shape):
    matrices = symmetric(rng, *shape)
    np.testing.assert_array_equal(spectra.eigvalsh(matrices), one_thread(matrices))
    assert (spectra._process is not None) == (shape[-1] > 64)


def test_nan_is_answered_as_numpy_answers_it(spectra):
    matrix = np.full((80, 80), np.nan)
    try:
        expected = np.linalg.eigvalsh(matrix)
    except np.linalg.LinAlgError as error:
        with pytest.raises(np.linalg.LinAlgError, match=str(error)):
            spectra.eigvalsh(matrix)
    else:
        np.testing.assert_array_equal(spectra.eigvalsh(matrix), expected)


def test_a_process_that_dies_costs_nothing_but_time(rng, spectra):
    matrices = symmetric(rng, 4, 80)
    spectra.eigvalsh(matrices)
    spectra._process.kill()
    np.testing.assert_allclose(spectra.eigvalsh(matrices), one_thread(matrices), rtol=1e-10)
    assert spectra._process is None


@pytest.mark.parametrize("executable", ["", "/nowhere/python", "/bin/true"])
def test_where_none_can_be_started_they_are_computed_in_place(rng, monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    spectra, matrices = SpectrumProcess(), symmetric(rng, 80)
    np.testing.assert_allclose(spectra.eigvalsh(matrices), one_thread(matrices), rtol=1e-10)
    assert spectra._process is None


def test_text_printed_while_python_starts_is_not_mistaken_for_numbers(
    rng, spectra, tmp_path, monkeypatch
):
    (tmp_path / "sitecustomize.py").write_text("print('hello')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    matrices = symmetric(rng, 80)
    np.testing.assert_allclose(spectra.eigvalsh(matrices), one_thread(matrices), rtol=1e-10)
    assert spectra._process is None


def test_an_interrupt_leaves_no_answer_for_the_next_question(rng, spectra, monkeypatch):
    def interrupted(length):
        raise KeyboardInterrupt

    matrices = symmetric(rng, 80)
    spectra.eigvalsh(matrices)
    monkeypatch.setattr(spectra, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        spectra.eigvalsh(2 * matrices)
    monkeypatch.undo()
    np.testing.assert_allclose(spectra.eigvalsh(matrices), one_thread(matrices), rtol=1e-10)


def is_running(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().split(")")[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.parametrize("end", ["close", "forget"])
def test_it_ends_with_its_owner(rng, end):
    spectra = SpectrumProcess()
    spectra.eigvalsh(symmetric(rng, 80))
    number = spectra._process.pid
    assert is_running(number)
    assert os.getsid(number) == number != os.getsid(0)  # Ctrl-C does not reach it
    if end == "close":
        spectra.close()
        spectra.close()
    else:
        del spectra
        gc.collect()
    assert not is_running(number)


def run_script(text):
    setup = (
        "import gc, os, signal, time, numpy as np\n"
        "from monitoring.spectra import SpectrumProcess\n"
        "spectra = SpectrumProcess()\n"
        "spectra.eigvalsh(np.eye(80))\n"
        "print(spectra._process.pid, flush=True)\n"
    )
    line = [sys.executable, "-W", "always::ResourceWarning", "-c", setup + text]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize(
    "end, status", [("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL), ("", 0)]
)
def test_it_ends_where_its_owner_is_killed_or_exits(end, status):
    run = run_script(end)
    assert run.returncode == status, run.stderr
    assert "ResourceWarning" not in run.stderr
    deadline = time.monotonic() + 10
    while is_running(int(run.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(run.stdout))


def test_forks_of_its_owner_neither_end_it_nor_keep_it():
    """Data loaders fork, and their workers hold the pipes open."""
    run = run_script(
        "if not (fork := os.fork()):\n"
        "    del spectra; gc.collect(); os._exit(0)\n"
        "os.waitpid(fork, 0)\n"
        "assert spectra._process.poll() is None\n"
        "if not (fork := os.fork()):\n"
        "    time.sleep(50); os._exit(0)\n"
        "start = time.monotonic()\n"
        "spectra.close()\n"
        "os.kill(fork, signal.SIGKILL)\n"
        "os.waitpid(fork, 0)\n"
        "assert time.monotonic() - start < 20\n"
    )
    assert run.returncode == 0, run.stderr
    assert not is_running(int(run.stdout))


def test_a_wide_layer_is_recorded_without_touching_the_threads_of_this_process(rng, monkeypatch):
    """And its records are those that `summarise` makes on one thread, to the bit."""

    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    class Logger:
        def write(self, record, snapshot):
            seen.append(threads())
            processes.append(monitor._recorder._spectra._process.pid)

        def close(self):
            pass

    submit, measurements = Recorder.submit, []

    def submit_and_keep(recorder, batch):
        measurements.extend(batch)
        submit(recorder, batch)
        recorder.drain()

    monkeypatch.setattr(Recorder, "submit", submit_and_keep)
    x, before, seen, processes = rng.normal(size=(64, 8)).astype("float32"), threads(), [], []
    wide = keras.layers.Dense(128, "tanh", name="wide")
    model = keras.Sequential([keras.Input((8,)), wide, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    monitor = NASMonitorCallback(x, ["wide"], loggers=[Logger()])
    copy.deepcopy(monitor)
    for _ in range(2):
        processes.clear()
        model.fit(x, x[:, :1], epochs=2, verbose=0, callbacks=[monitor])
        assert len(set(processes)) == 1  # one a training run
        assert not is_running(processes[0])
    copy.deepcopy(monitor.records)
    assert all(each == before for each in [*seen, threads()])
    with threadpool_limits(1, user_api="blas"):
        expected = [asdict(summarise(measurement)[0]) for measurement in measurements[3:]]
    np.testing.assert_equal([asdict(record) for record in monitor.records], expected)
    assert [record.channels for record in monitor.records] == [128] * 3


def interrupted_fit(x):
    """Interrupts a fit; returns the number of its process and whether it runs."""

    class Interrupts(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            monitor._recorder.drain()
            raise KeyboardInterrupt

    wide = keras.layers.Dense(128, "tanh", name="wide")
    model = keras.Sequential([keras.Input((8,)), wide, keras.layers.Dense(1)])
    model.compile("adam", "mse")
    monitor = NASMonitorCallback(x, ["wide"], loggers=[])
    with pytest.raises(KeyboardInterrupt):
        model.fit(x, x[:, :1], verbose=0, callbacks=[monitor, Interrupts()])
    number = monitor._recorder._spectra._process.pid
    return number, is_running(number)


def test_an_interrupted_fit_leaves_no_process(rng):
    number, was_running = interrupted_fit(rng.normal(size=(64, 8)).astype("float32"))
    gc.collect()
    assert was_running
    assert not is_running(number)
