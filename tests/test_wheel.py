"""The wheel, installed into a fresh environment, beside a user's own `models` and `training`."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from email.parser import Parser
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import pytest

from models import Nano_U, quantization_aware

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ("models", "monitoring")
PROBES = ["probe_encoder_1", "probe_encoder_2", "probe_encoder_3", "probe_bottleneck"]
FOREIGN = ("models/__init__.py", "monitoring/__init__.py", "training/__init__.py", "train.py")
FOREIGN_SOURCE = """\
from pathlib import Path

Path(__file__).with_suffix(".imported").touch()
raise SystemExit("a foreign module was imported")
"""
TRAIN = """
import json
import warnings

import keras
import numpy as np

from probe_zoo.models import Nano_U, quantization_aware
from probe_zoo.monitoring import NASMonitorCallback

images = np.load("images.npy")
masks = (images[..., :1] > 0).astype("float32")
outcomes = {}
keras.utils.set_random_seed(1)
for name, monitor_data in (("first", None), ("second", images)):
    model = Nano_U(enable_probes=True)
    model.compile("adam", keras.losses.BinaryCrossentropy(from_logits=True))
    monitor = NASMonitorCallback(monitor_data, log_dir=name)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(images, masks, batch_size=2, callbacks=[monitor], verbose=0)
    outcomes[name] = {
        "steps": int(model.optimizer.iterations),
        "records": [[record.epoch, record.probe] for record in monitor.records],
        "warnings": [str(each.message) for each in caught if each.category is UserWarning],
        "missing": monitor.missing,
    }
aware = quantization_aware(model)
aware(images, training=True)
model.save("installed.keras")
aware.save("installed_aware.keras")
np.savez(
    "installed.npz",
    model=model.predict(images, verbose=0),
    aware=aware.predict(images, verbose=0),
)
print(json.dumps(outcomes))
"""
LOAD = """
import sys

import keras
import numpy as np

def predictions(path):
    return keras.saving.load_model(path).predict(np.load("images.npy"), verbose=0)

plain = predictions("checkout.keras")
assert not [name for name in sys.modules if name.startswith("probe_zoo")]
import probe_zoo.models
aware = keras.saving.load_model("checkout_aware.keras")
ours = {type(layer).__module__ for layer in aware.layers} - {keras.Layer.__module__}
assert "probe_zoo.models.quantization.fake_quant" in ours, ours
np.savez(
    "loaded.npz",
    plain=plain,
    installed=predictions("checkout.keras"),
    aware=predictions("checkout_aware.keras"),
)
"""
WITHOUT_JINJA2 = """
import sys

sys.modules["jinja2"] = None
from probe_zoo.monitoring.__main__ import main

sys.exit(main(["report", "first"]))
"""


class Installed(NamedTuple):
    """The fresh environment's Python, the wheel in it, and the user's folder."""

    python: Path
    wheel: Path
    folder: Path

    def run(self, *arguments: str) -> subprocess.CompletedProcess:
        """Runs the environment's Python in the user's folder."""
        return run(self.python, *arguments, cwd=self.folder, timeout=180)


def run(*command, **options) -> subprocess.CompletedProcess:
    environment = {name: os.environ[name] for name in os.environ if name != "PYTHONPATH"}
    environment["TF_CPP_MIN_LOG_LEVEL"] = "3"
    command = [str(part) for part in command]
    return subprocess.run(command, env=environment, capture_output=True, text=True, **options)


def succeed(process: subprocess.CompletedProcess) -> str:
    """Returns what a process has printed, if it has ended well."""
    assert process.returncode == 0, process.stderr
    return process.stdout


def tracked_files() -> list[str]:
    listed = succeed(run("git", "ls-files", "-z", cwd=ROOT)).split("\0")
    return [name for name in listed if name and (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def installed():
    """The wheel in an environment of its own; 2 GB, and therefore removed at the end."""
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        for name in tracked_files():
            copied = top / "source" / name
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, copied)
        folder = top / "user"
        for name in FOREIGN:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(FOREIGN_SOURCE)
        images = np.random.default_rng(0).uniform(-1, 1, (20, 60, 80, 3)).astype("float32")
        np.save(folder / "images.npy", images)

        venv.create(top / "environment", with_pip=True)
        scripts = "Scripts" if sys.platform == "win32" else "bin"
        python = top / "environment" / scripts / "python"
        options = ("--no-deps", "--wheel-dir", top, top / "source")
        succeed(run(python, "-m", "pip", "wheel", *options, timeout=600))
        [wheel] = top.glob("*.whl")
        constraints = ("--constraint", ROOT / "constraints.txt")
        requirement = f"{wheel}[tensorflow,report]"
        succeed(run(python, "-m", "pip", "install", *constraints, requirement, timeout=900))
        yield Installed(python, wheel, folder)


@pytest.fixture(scope="module")
def outcomes(installed):
    """What the installed copy has reported of two trainings, whose files are in the folder."""
    return json.loads(succeed(installed.run("-c", TRAIN)))


@pytest.fixture(autouse=True)
def no_foreign_import(installed):
    """Fails a test in which a module of the user's was imported instead of ours."""
    yield
    assert not list(installed.folder.rglob("*.imported"))


@pytest.mark.parametrize("name", ["models", "monitoring", "training", "train"])
def test_a_foreign_import_is_noticed(installed, name):
    process = installed.run("-c", f"import {name}")
    assert (process.returncode, process.stderr) == (1, "a foreign module was imported\n")
    [trace] = installed.folder.rglob("*.imported")
    trace.unlink()


def test_the_wheel_has_one_top_level_name_and_every_file_of_both_libraries(installed):
    names = zipfile.ZipFile(installed.wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    [metadata] = tops - {"probe_zoo"}
    assert metadata.startswith("probe_zoo-") and metadata.endswith(".dist-info")
    tracked = {f"probe_zoo/{name}" for name in tracked_files() if name.split("/")[0] in LIBRARIES}
    assert {name for name in names if not name.startswith(metadata)} == tracked
    assert {f"probe_zoo/{library}/py.typed" for library in LIBRARIES} <= tracked
    templates = {name for name in tracked if name.endswith(".html")}
    assert "probe_zoo/monitoring/report/templates/page.html" in templates


def test_the_distribution_needs_keras_and_numpy_alone(installed):
    with zipfile.ZipFile(installed.wheel) as wheel:
        [path] = [name for name in wheel.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(wheel.read(path).decode())
    assert metadata["Name"] == "probe-zoo"
    needs = [need for need in metadata.get_all("Requires-Dist") if "extra ==" not in need]
    assert sorted(need.split("<")[0].split(">")[0] for need in needs) == ["keras", "numpy"]


def test_ten_steps_are_recorded(installed, outcomes):
    assert {name: outcome["steps"] for name, outcome in outcomes.items()} == {
        "first": 10,
        "second": 10,
    }
    epochs = {"first": [0], "second": [-1, 0]}  # with images of its own, a baseline
    for name, outcome in outcomes.items():
        expected = [[epoch, probe] for epoch in epochs[name] for probe in PROBES]
        assert outcome["records"] == expected
        lines = (installed.folder / name / "monitor.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        assert [[record["epoch"], record["probe"]] for record in records] == expected


def test_without_tensorboard_the_other_files_are_written(installed, outcomes):
    for name, outcome in outcomes.items():
        [warning] = outcome["warnings"]
        assert warning == (
            "Not written: tensorboard/ (needs pip install tensorboard). All other files are."
        )
        assert outcome["missing"] == ["tensorboard/ (needs pip install tensorboard)"]
        files = {path.name for path in (installed.folder / name).iterdir()}
        assert {"monitor.csv", "monitor.jsonl", "arrays"} <= files
        assert "tensorboard" not in files


def test_files_of_the_checkout_load_where_the_wheel_is_installed(installed):
    folder, images = installed.folder, np.load(installed.folder / "images.npy")
    keras.utils.set_random_seed(1)
    model = Nano_U(enable_probes=True)
    model(images, training=True)
    aware = quantization_aware(model)
    aware(images, training=True)
    model.save(folder / "checkout.keras")
    aware.save(folder / "checkout_aware.keras")
    succeed(installed.run("-c", LOAD))
    expected = model.predict(images, verbose=0)
    assert np.ptp(expected) > 0
    with np.load(folder / "loaded.npz") as loaded:
        np.testing.assert_array_equal(loaded["plain"], expected)
        np.testing.assert_array_equal(loaded["installed"], expected)
        np.testing.assert_array_equal(loaded["aware"], aware.predict(images, verbose=0))


@pytest.mark.usefixtures("outcomes")
def test_files_of_the_installed_copy_load_in_the_checkout(installed):
    folder, images = installed.folder, np.load(installed.folder / "images.npy")
    model = keras.saving.load_model(folder / "installed.keras")
    aware = keras.saving.load_model(folder / "installed_aware.keras")
    modules = {type(layer).__module__ for layer in aware.layers}
    assert "models.quantization.fake_quant" in modules
    assert not [name for name in sys.modules if name.split(".")[0] == "probe_zoo"]
    with np.load(folder / "installed.npz") as predictions:
        assert np.ptp(predictions["model"]) > 0
        np.testing.assert_array_equal(model.predict(images, verbose=0), predictions["model"])
        np.testing.assert_array_equal(aware.predict(images, verbose=0), predictions["aware"])


@pytest.mark.parametrize(
    ("arguments", "files"),
    [
        (["report", "first"], ["first/report.html"]),
        (["compare", "first", "second"], ["compare.html"]),
        (["advise", "second"], ["second/advice.json", "second/report.html"]),
    ],
    ids=["report", "compare", "advise"],
)
@pytest.mark.usefixtures("outcomes")
def test_commands_that_read_runs_write_their_files(installed, arguments, files):
    for name in files:
        (installed.folder / name).unlink(missing_ok=True)
    process = installed.run("-m", "probe_zoo.monitoring", *arguments)
    assert (process.returncode, process.stderr) == (0, "")
    for name in files:
        text = (installed.folder / name).read_text()
        assert "encoder_1" in text and len(text) > 500


@pytest.mark.parametrize(
    "arguments",
    [
        ["analyze", "installed.keras", "--data", "."],
        ["advise", "first", "--cut"],
        ["advise", "first", "--macs", "1000"],
    ],
    ids=["analyze", "cut", "budget"],
)
@pytest.mark.usefixtures("outcomes")
def test_a_command_that_needs_a_checkout_is_one_line(installed, arguments):
    process = installed.run("-m", "probe_zoo.monitoring", *arguments)
    assert (process.returncode, process.stdout) == (2, "")
    [line] = process.stderr.splitlines()
    assert line.startswith(f"python -m probe_zoo.monitoring {arguments[0]}: error: ")
    assert "a checkout of probe-zoo" in line


@pytest.mark.usefixtures("outcomes")
def test_a_report_without_jinja2_is_one_line(installed):
    process = installed.run("-c", WITHOUT_JINJA2)
    assert (process.returncode, process.stdout) == (2, "")
    [line] = process.stderr.splitlines()
    assert line.endswith("needs jinja2, which is not installed: pip install jinja2")


def test_the_cost_of_a_network_is_printed(installed):
    printed = succeed(installed.run("-m", "probe_zoo.models", "nano_u"))
    assert "parameters" in printed and "4,212" in printed
