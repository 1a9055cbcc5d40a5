"""`analyze` with plain arguments: a model and images in, measurements and advice out."""

import json
from dataclasses import FrozenInstanceError

import keras
import numpy as np
import pytest
from keras import layers as kl
from synthetic_run import two_rungs

from monitoring.analysis.ladder import ladder_from
from monitoring.records.reading import read_run, read_snapshots
from monitoring.report.analyze import analyze


@pytest.fixture
def model():
    """A layer of 12 channels that lie in 3 directions."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5, 5, 3))
    x = kl.Conv2D(3, 1, use_bias=False)(inputs)
    x = kl.Conv2D(12, 1, kernel_initializer="orthogonal", name="wide")(x)
    return keras.Model(inputs, kl.Dense(2)(kl.Flatten()(x)))


@pytest.fixture
def images(rng):
    return rng.normal(size=(64, 5, 5, 3)).astype("float32")


def test_as_many_channels_as_there_are_directions_are_advised(model, images):
    analysis = analyze(model, images, ["wide"], multiple=1)
    (width,) = analysis.advice
    assert (width.channels, width.suggested) == (12, 3)
    assert (analysis.images, analysis.records[0].images) == (64, 64)
    assert "wide" in str(analysis) and analysis.ladder is None
    with pytest.raises(FrozenInstanceError):
        analysis.rule = "variance"


def test_nothing_is_printed_and_nothing_is_written(model, images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    analysis = analyze(model, images, ["wide"])
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == []
    assert analysis.output is None


def test_a_folder_is_written_that_is_a_run(model, images, tmp_path):
    folder = tmp_path / "analysis"
    analysis = analyze(model, images, ["wide"], output=folder, source="wide.keras")
    assert analysis.output == folder
    assert sorted(path.name for path in folder.iterdir()) == [
        *(".probe-zoo-run", "analysis.json", "arrays"),
        *("monitor.csv", "monitor.jsonl", "report.html"),
    ]
    values = json.loads((folder / "analysis.json").read_text())
    assert (values["model"], values["images"]) == ("wide.keras", 64)
    assert values["advice"][0]["suggested"] == analysis.advice[0].suggested
    assert str(read_run(folder).last["wide"]) == str(analysis.records[0])
    (snapshot,) = read_snapshots(folder)["wide"]
    np.testing.assert_allclose(
        snapshot.correlation, analysis.measurements[0][1].correlation, atol=1e-6
    )
    with pytest.raises(ValueError, match="holds a run or another analysis"):
        analyze(model, images, ["wide"], output=folder)


def test_a_ladder_is_measured_and_written(model, images, tmp_path):
    ladder = two_rungs(["wide"], score="agreement")
    analysis = analyze(model, images, ["wide"], ladder=lambda: ladder, output=tmp_path / "cut")
    assert analysis.ladder == ladder
    assert "agreement" in str(analysis) and "50 %" in str(analysis)
    values = json.loads((tmp_path / "cut" / "analysis.json").read_text())
    assert ladder_from(values["ladder"]) == ladder
    assert "agreement over multiply-adds" in (tmp_path / "cut" / "report.html").read_text()
    assert analyze(model, images, ["wide"]).ladder is None
