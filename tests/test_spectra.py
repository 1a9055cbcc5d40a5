"""Spectra of wide layers: NumPy's numbers, from a process that is there only while needed."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import grouped_units
from threadpoolctl import threadpool_info, threadpool_limits

from monitoring import NASMonitorCallback
from monitoring.records.measurement import Measurement, summarise
from monitoring.spectra import SpectrumProcess

ROOT = Path(__file__).resolve().parents[1]


def symmetric(rng, *shape):
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


@pytest.mark.parametrize("shape", [(1,), (64,), (65,), (3, 64), (3, 65), (2, 2, 80), (128,)])
def test_they_are_numpys_to_the_bit(rng, spectra, shape):
    matrices = symmetric(rng, *shape)
    np.testing.assert_array_equal(spectra.eigvalsh(matrices), one_thread(matrices))
    assert (spectra._process is not None) == (shape[-1] > 64)


def test_what_is_not_finite_is_answered_as_numpy_answers(spectra):
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


def test_where_none_can_be_started_they_are_computed_in_place(rng, spectra, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    matrices = symmetric(rng, 80)
    np.testing.assert_allclose(spectra.eigvalsh(matrices), one_thread(matrices), rtol=1e-10)


def is_running(number):
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return not Path(f"/proc/{number}/stat").read_text().split(")")[1].split()[0] == "Z"


@pytest.mark.parametrize("end", ["close", "forget"])
def test_it_ends_with_its_owner(rng, end):
    spectra = SpectrumProcess()
    spectra.eigvalsh(symmetric(rng, 80))
    number = spectra._process.pid
    assert is_running(number)
    if end == "close":
        spectra.close()
        spectra.close()
    else:
        del spectra
        gc.collect()
    assert not is_running(number)


def test_it_ends_where_its_owner_is_killed():
    script = (
        "import os, signal, numpy as np\n"
        "from monitoring.spectra import SpectrumProcess\n"
        "spectra = SpectrumProcess()\n"
        "spectra.eigvalsh(np.eye(80))\n"
        "print(spectra._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while is_running(int(run.stdout)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(int(run.stdout))


def test_a_wide_layer_is_recorded_without_touching_the_threads_of_this_process(rng):
    def threads():
        return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}

    class Watches(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            seen.append(threads())

    x, before, seen = rng.normal(size=(256, 1, 8)).astype("float32"), threads(), []
    model = keras.Sequential([keras.Input((1, 8)), keras.layers.Dense(128, "tanh", name="wide")])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    monitor = NASMonitorCallback(x, ["wide"], loggers=[])
    model.fit(
        x,
        np.zeros((256, 1, 128)),
        batch_size=8,
        epochs=2,
        verbose=0,
        callbacks=[monitor, Watches()],
    )
    assert set(map(frozenset, seen)) == {frozenset(before)} == {frozenset(threads())}
    outputs = model.predict(x, verbose=0).astype(np.float64)
    expected, _ = summarise(Measurement(grouped_units(outputs), "wide", "images", 1, 64))
    record = monitor.records[-1]
    for name in ("effective_rank", "effective_rank_low", "redundancy_score", "trace"):
        assert getattr(record, name) == pytest.approx(getattr(expected, name), rel=1e-4)
    assert record.channels == 128
