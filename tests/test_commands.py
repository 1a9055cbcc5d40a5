"""What `advise` and `analyze` add with images and with the zoo's builders."""

import json
import shutil

import pytest
from PIL import Image

import training
from train import train
from training.config import read_config
from training.synthetic import synthetic_splits


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A few drawn scenes, of which enough for intervals are validation images."""
    root = tmp_path_factory.mktemp("data") / "scenes"
    for name, split in vars(synthetic_splits(counts={"train": 8, "val": 20, "test": 4})).items():
        for kind, arrays in (("img", split.images), ("mask", 255 * split.masks[..., 0])):
            (root / name / kind).mkdir(parents=True)
            for stem, array in zip(split.names, arrays, strict=True):
                Image.fromarray(array).save(root / name / kind / f"{stem}.png")
    return root


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    train("nano_u", 1, data=data, output=folder, enable_nas_monitoring=True, verbose=0)
    return folder


@pytest.fixture
def run(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


@pytest.mark.slow
def test_advice_within_a_budget_can_be_trained(run, data):
    advice = training.advise(run, macs=1_500_000, multiple=2)
    now, advised = advice.costs
    assert advised.macs <= 1_500_000 < now.macs
    assert advised == advice.candidates[-1].cost
    config = read_config(run / "advised.yaml")
    assert config.data.root == str(data) and config.model.filters == advice.arguments["filters"]
    written = json.loads((run / "advice.json").read_text())
    assert written["widths"] == advice.widths and written["advised"]["macs"] == advised.macs
    model, _ = train(None, 1, config=run / "advised.yaml", output=run.parent / "next", verbose=0)
    cost = json.loads((run.parent / "next" / "cost.json").read_text())
    assert cost["macs"] == advised.macs and cost["parameters"] == model.count_params()


@pytest.mark.slow
def test_no_other_name_is_found():
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        training.nothing  # noqa: B018
