"""Files from strangers: nothing in them is run."""

import ast
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from test_runs import measured

from models import Nano_U
from monitoring.__main__ import main
from monitoring.loggers.folder import LogFolder
from monitoring.loggers.lines import JsonLinesLogger
from monitoring.records.files import WriteFailures
from train import main as train_main
from training.checkpoint import BEST, LAST, Checkpoint
from training.config import _UniqueKeys

ROOT = Path(__file__).resolve().parent.parent
FOLDERS = ("models", "monitoring", "training")
PRODUCT = [ROOT / "train.py", *(path for name in FOLDERS for path in (ROOT / name).rglob("*.py"))]


class Hostile:
    """Makes a file where it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def hostile(tmp_path):
    """An .npz whose arrays would run code, and the file that this code would make."""
    path, made = tmp_path / "hostile.npz", tmp_path / "made"
    names = ("state", "number", "epoch", "step", "mean", "0")
    np.savez(path, **{name: np.array([Hostile(made)], dtype=object) for name in names})
    with np.load(path, allow_pickle=True) as held:
        held["state"]
    made.unlink()  # it does run, where it is let in
    return path, made


@pytest.fixture
def record(rng, tmp_path):
    """A run of one record."""
    logger = JsonLinesLogger(tmp_path / "monitor.jsonl")
    logger.write(*measured(rng, probe="probe_encoder_1"))
    logger.close()


@pytest.mark.usefixtures("record")
def test_a_pickle_in_an_archive_is_refused_and_not_run(hostile, tmp_path, capsys):
    path, made = hostile
    model = Nano_U((24, 32, 3), (2,), 2)
    model.compile("adam", "mse")
    for name in (BEST, LAST):
        shutil.copy(path, tmp_path / name)
    saver = Checkpoint(tmp_path, [])
    with pytest.raises(ValueError, match="last.npz cannot be read"):
        saver.restore(model)
    with pytest.raises(ValueError, match="best.npz cannot be read"):
        saver.load_best(model)
    for folder in ("arrays", "window"):
        (tmp_path / folder).mkdir()
    shutil.copy(path, tmp_path / "window" / "0.npz")
    shutil.copy(path, tmp_path / "arrays" / "probe_encoder_1-00000001.npz")
    files = LogFolder(tmp_path, WriteFailures())
    with pytest.raises(ValueError, match="0.npz cannot be read"):
        files.window(0)
    with pytest.raises(ValueError, match="probe_encoder_1-00000001.npz cannot be read"):
        files.start(1, 1)
    assert main(["report", str(tmp_path)]) == 2
    assert "probe_encoder_1-00000001.npz cannot be read" in capsys.readouterr().err
    assert not made.exists()


@pytest.mark.usefixtures("record")
def test_a_tag_in_a_configuration_is_refused_and_not_run(tmp_path, capsys):
    made = tmp_path / "made"
    text = f"model: !!python/object/apply:os.mknod ['{made}']\n"
    config = tmp_path / "config.yaml"
    config.write_text(text)
    assert train_main(["--config", str(config)]) == 2
    assert train_main(["--resume", str(tmp_path)]) == 2
    assert main(["report", str(tmp_path)]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == said.count("not YAML") == 3
    assert not made.exists()


@pytest.mark.parametrize("path", PRODUCT, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_can_run_what_it_reads(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names]
            names.append(getattr(node, "module", "") or "")
            found = {name.split(".")[0] for name in names}
            assert not found & {"pickle", "dill", "joblib", "marshal", "shelve"}
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
            assert name not in {
                "eval",
                "exec",
                "yaml.unsafe_load",
                "yaml.full_load",
                "yaml.load_all",
            }
            if name == "yaml.load":
                assert path.name == "files.py"  # whose callers give a SafeLoader
            if name == "read_values" and len(node.args) > 1:
                assert ast.unparse(node.args[1]) == "_UniqueKeys" and issubclass(
                    _UniqueKeys, yaml.SafeLoader
                )
            if name in {"np.load", "np.savez"}:
                assert given["allow_pickle"] == "False"
            if name.endswith(".load_model"):
                assert given["safe_mode"] == "True"
