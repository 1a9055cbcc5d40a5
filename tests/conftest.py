"""What the tests share: folders of images, and small inputs."""

import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pytest

# PyTorch with Delve or Torch-Pruning, and KerasHub, in environments of their own
collect_ignore = [
    "delve_cost.py",
    "keras_hub_table.py",
    "torch_pruning_cuts.py",
    "torch_pruning_table.py",
]
# Files of the long lane that take minutes: begun first, so that no worker idles at the end.
LONGEST = ("test_random_models.py", "test_search.py", "test_resume.py", "test_pipeline.py")
CAMVID = Path(__file__).resolve().parents[2] / "shared" / "data" / "camvid_path_60x80"


def pytest_addoption(parser):
    parser.addoption("--grid", action="store_true", help="also the minutes-long identity grid")


def pytest_collection_modifyitems(config, items):
    items.sort(key=lambda item: (*LONGEST, item.path.name).index(item.path.name))
    if not config.getoption("benchmark_only"):
        skip = pytest.mark.skip(reason="benchmarks: run with --benchmark-only, or make benchmark")
        for item in items:
            if item.path.name == "test_benchmarks.py":
                item.add_marker(skip)


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def camvid():
    """The folder of real images; the project ships none."""
    if not CAMVID.is_dir():
        pytest.skip(f"real images are not there: {CAMVID.name}")
    return CAMVID


def unit_states(x):
    """The states of units x (units, samples, channels), by NumPy in float64."""
    from monitoring.statistics.covariance import CovarianceState

    x = np.asarray(x, np.float64)
    mean = x.mean(axis=1)
    centred = x - mean[:, None]
    counts = np.full(len(x), x.shape[1])
    return CovarianceState(counts, np.zeros_like(mean), mean, centred.swapaxes(1, 2) @ centred)


def grouped_units(x):
    """The covariance of units x (units, samples, channels), by groups."""
    from monitoring import GroupedCovariance

    grouped = GroupedCovariance(x.shape[-1])
    grouped.add_units(unit_states(x))
    return grouped


@pytest.fixture
def image_folder(tmp_path):
    return draw_image_folder(tmp_path / "images")


def draw_image_folder(root):
    """Fills a data folder with 6 images a split, 30x40, and a mask for each."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        for kind in ("img", "mask"):
            (root / split / kind).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 256, (30, 40, 3), np.uint8)
            Image.fromarray(pixels).save(root / split / "img" / f"scene {number}.png")
            mask = np.where(pixels[..., 0] > 100, 255, 0).astype(np.uint8)
            Image.fromarray(mask).save(root / split / "mask" / f"scene {number}.png")
    return root


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A data folder with 6 images per split."""
    return draw_image_folder(tmp_path_factory.mktemp("data") / "tiny")


def trained_run(settings: str, data: Path, folder: Path) -> Path:
    """Trains as a configuration says that has a place for the folder of images."""
    from train import train

    path = folder.with_suffix(".yaml")
    path.write_text(settings.format(data=data))
    train(config=path, output=folder, verbose=0)
    return folder
