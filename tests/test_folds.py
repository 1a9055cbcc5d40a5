"""Cross-validation, and folders that are split by the configuration."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.config import read_config
from training.splits import read_config_splits

TRAIN = [sys.executable, "train.py"]
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def frames(tmp_path_factory):
    """A folder without splits: 12 frames of 4 videos, in formats that differ."""
    root = tmp_path_factory.mktemp("data") / "frames"
    rng = np.random.default_rng(0)
    for kind in ("img", "mask"):
        (root / kind).mkdir(parents=True)
    suffixes = (".png", ".tif", ".bmp", ".webp")
    for number in range(12):
        name = f"video{number % 4}_{number:03d}"
        pixels = rng.integers(0, 256, (12, 16, 3), np.uint8)
        mask = np.where(pixels[..., 0] > 100, 255, 0).astype(np.uint8)
        Image.fromarray(pixels).save(root / "img" / f"{name}{suffixes[number % 4]}", lossless=True)
        Image.fromarray(mask).save(root / "mask" / f"{name}.{'tif' if number % 2 else 'png'}")
    return root


def command(*arguments):
    return subprocess.run(
        [*TRAIN, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=600
    )


def test_images_of_every_format_are_read_alike(frames, tmp_path):
    config = read_config(
        None, {"data": {"root": str(frames), "split": {"groups": "prefix"}},
               "model": {"input_size": [12, 16]}},
    )  # fmt: skip
    splits = read_config_splits(config)
    videos = [{name[:6] for name in part.names} for part in vars(splits).values()]
    assert sum(map(len, videos)) == 4 and all(videos)
    for part in vars(splits).values():
        np.testing.assert_array_equal(part.images[..., :1] > 100, part.masks == 1)


@pytest.mark.slow
def test_folds_are_trained_resumed_and_summed_up(frames, tmp_path):
    folder = tmp_path / "folds"
    arguments = ("--data", frames, "--folds", 3, "--groups", "prefix", "--epochs", 1, "--output",
                 folder)  # fmt: skip
    assert command(*arguments).returncode == 0
    first = json.loads((folder / "folds.json").read_text())
    scores = [json.loads((folder / f"fold_{n}" / "evaluation.json").read_text()) for n in (1, 2, 3)]
    mious = [score["miou"] for score in scores]
    assert first["scores"]["miou"]["mean"] == pytest.approx(np.mean(mious))
    assert first["scores"]["miou"]["sd"] == pytest.approx(np.std(mious, ddof=1))
    assert sum(score["images"] for score in scores) == 12
    (folder / "folds.json").unlink()
    shutil.rmtree(folder / "fold_2")
    done = (folder / "fold_1" / "model.keras").stat().st_mtime_ns
    again = command(*arguments)
    assert again.returncode == 0, again.stderr
    assert "Fold 2 of 3:" in again.stdout and "Fold 1" not in again.stdout
    assert json.loads((folder / "folds.json").read_text()) == first
    assert (folder / "fold_1" / "model.keras").stat().st_mtime_ns == done
    assert re.search(r"Mean of 3 folds: test mIoU [\d.]+, standard deviation", again.stdout)
    other = command(*arguments[:-4], "--epochs", 2, "--output", folder)
    assert other.returncode == 2 and "a cross-validation with other settings" in other.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--folds", 3), "--folds needs a folder of images"),
        (("--folds", 3, "--pipeline"), "cannot be combined with --pipeline"),
        (("--folds", 9, "--groups", "prefix", "--data"), "at least 9 groups, one per fold"),
        (("--data",), "has no train and no val and no test: add .* --split 0.15,0.15"),
        (("--split", "0.5", "--data"), "--split: expected two shares"),
        (("--split", "0.5,1.5", "--data"), "data.split.test: input should be less than 1"),
        (("--groups", "none.csv", "--data"), "expected prefix, a number of characters, or a file"),
    ],
)
def test_wrong_turns_are_one_line(frames, tmp_path, arguments, message):
    data = (frames,) if arguments[-1] == "--data" else ()
    result = command(*arguments, *data, "--output", tmp_path / "run")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr
    assert not (tmp_path / "run").exists()
