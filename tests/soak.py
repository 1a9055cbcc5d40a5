"""The long versions of the tests in tests/test_resume.py and others: `make soak`.

Prints a row for each promise: what was done how often, and what was lost.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import checkout  # noqa: F401
import numpy as np

ROOT = Path(__file__).resolve().parent.parent
RECORDS = 1_000_000
FILES = 1_000_000
STEPS = 5_000
INPUTS = 2_000
LONG_RUN = """
import resource, sys, time
import keras, numpy as np
from models import Nano_U
from monitoring import NASMonitorCallback

steps = int(sys.argv[1])
images = np.random.default_rng(0).uniform(-1, 1, (8, 24, 32, 3)).astype("float32")
masks = (images[..., :1] > 0).astype("float32")
model = Nano_U((24, 32, 3), (2, 4), 4, enable_probes=True)
model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
times, memory = [], []

class Clock(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        times.append(time.perf_counter())
        if len(times) % 100 == 0:
            with open("/proc/self/statm") as file:
                memory.append(int(file.read().split()[1]) * resource.getpagesize() / 2**20)

class Same(keras.utils.PyDataset):
    def __len__(self): return steps
    def __getitem__(self, index): return images, masks

given = images[:4] if sys.argv[2] == "images" else None
monitor = NASMonitorCallback(given, monitor_frequency="batch", log_frequency=10,
                             log_dir=sys.argv[3])
model.fit(Same(), epochs=1, verbose=0, callbacks=[monitor, Clock()])
each = np.diff(times)
fifth = len(each) // 5
print(*(f"{np.median(part) * 1e3:.2f}" for part in (each[fifth : 2 * fifth], each[-fifth:])),
      *(f"{memory[n]:.0f}" for n in (len(memory) // 5, len(memory) - 1)))
"""


def tests(name: str, only: str, **environment: str) -> str:
    """Runs some tests of a file in their long version, and returns pytest's last line."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", only]
    done = subprocess.run(
        [*command, *(f"tests/{part}" for part in name.split())],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip().splitlines()[-1]


def long_run(source: str) -> str:
    """Trains STEPS steps, measuring every tenth, and says time and memory early and late."""
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", LONG_RUN, str(STEPS), source, folder],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        )
        early, late, before, after = done.stdout.split()
    return (
        f"{early} ms a step in the second fifth, {late} in the last; "
        f"{before} MB resident after a fifth, {after} at the end"
    )


def many_records() -> str:
    """Reads a monitor.jsonl of RECORDS rows as report and compare do."""
    from monitoring.records.reading import read_run
    from monitoring.records.record import COLUMNS

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "monitor.jsonl"
        draw = np.random.default_rng(0)
        with path.open("w", encoding="utf-8") as file:
            for number in range(RECORDS):
                row = dict.fromkeys(COLUMNS, float(draw.random()))
                row |= {"source": "images", "verdict": "ok"}
                row |= {
                    "probe": f"probe_encoder_{number % 4}",
                    "epoch": number // 4,
                    "step": number,
                }
                row |= {"images": 64, "samples": 300_000, "channels": 16}
                file.write(json.dumps(row) + "\n")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        run = read_run(folder)
        seconds = time.perf_counter() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        start = time.perf_counter()
        command = [sys.executable, "-m", "monitoring", "report", folder]
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
        report = time.perf_counter() - start
        size = path.stat().st_size / 2**20
    kept = sum(map(len, run.records.values()))
    return (
        f"{RECORDS:,} rows, {size:.0f} MB: read in {seconds:.1f} s, {grown:.0f} MB more memory, "
        f"{kept} records kept, the last among them; report in {report:.1f} s"
    )


def many_files() -> str:
    """Lists a folder of FILES images, the first of which is none."""
    from training.images import read_images

    with tempfile.TemporaryDirectory() as folder:
        for number in range(FILES):
            os.close(os.open(f"{folder}/{number:07d}.png", os.O_CREAT))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        try:
            read_images(Path(folder), (60, 80))
        except ValueError as error:
            said = str(error).replace(folder, "FOLDER")
        seconds = time.perf_counter() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    return f"refused after {seconds:.1f} s, {grown:.0f} MB more memory: {said}"


def main() -> None:
    """Prints the rows."""
    kills, inputs = os.environ.get("PROBE_ZOO_KILLS", "50"), str(INPUTS)
    killed = tests("test_resume.py", "moment", PROBE_ZOO_KILLS=kills)
    print(f"{kills} runs, every other one killed twice: {killed}", flush=True)
    fuzzed = tests(
        "test_fuzz.py test_dirty_images.py",
        "damaged or split or configuration",
        PROBE_ZOO_EXAMPLES=inputs,
    )
    print(f"{INPUTS:,} inputs to each fuzzer: {fuzzed}", flush=True)
    widest = tests("test_numbers.py", "many", PROBE_ZOO_WIDEST="4096")
    print(f"4096 channels: {widest}", flush=True)
    for source in ("images", "batches"):
        print(f"{STEPS} steps, measured every 10th, {source}: {long_run(source)}", flush=True)
    print(f"{FILES:,} files: {many_files()}", flush=True)
    print(many_records(), flush=True)


if __name__ == "__main__":
    main()
