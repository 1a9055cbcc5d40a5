"""`analyze` with plain arguments: a model and images in, measurements and advice out."""

import json
from dataclasses import FrozenInstanceError

import keras
import numpy as np
import pytest
from keras import layers as kl

from monitoring.analysis.model_analysis import agreement, halves
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


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_halves_are_disjoint_and_cover_all(count):
    directions, scored = (list(range(count))[half] for half in halves(count))
    assert sorted({*directions, *scored}) == list(range(count))
    assert directions and scored
    assert count == 1 or not {*directions} & {*scored}


def test_as_many_directions_as_there_are_are_advised_and_lose_nothing(model, images):
    analysis = analyze(model, images, ["wide"], multiple=1)
    (width,) = analysis.advice
    assert (width.channels, width.suggested) == (12, 3)
    assert (analysis.check.score, analysis.check.whole) == ("agreement", 1.0)
    lost = {row.level: row.lost for row in analysis.check.rows if row.probe == "wide"}
    assert lost["advised"] == pytest.approx(0, abs=1e-5) and lost["half"] > 0.01
    assert (analysis.images, analysis.records[0].images) == (64, 64)
    assert "wide" in str(analysis) and "Projection check: agreement 1.0000" in str(analysis)
    with pytest.raises(FrozenInstanceError):
        analysis.rule = "variance"


def test_nothing_is_printed_and_nothing_is_written(model, images, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    analysis = analyze(model, images, ["wide"])
    assert capsys.readouterr().out == "" and list(tmp_path.iterdir()) == []
    assert analysis.output is None


def test_a_score_of_ones_own_judges(model, images):
    scored = images[halves(len(images))[1]]
    truth = model.predict(scored, verbose=0).argmax(axis=-1)
    calls = []

    def accuracy(other):
        calls.append(other)
        return float((other.predict(scored, verbose=0).argmax(axis=-1) == truth).mean())

    analysis = analyze(model, images, ["wide"], multiple=1, evaluate=accuracy, score="accuracy")
    assert (analysis.check.score, analysis.check.whole) == ("accuracy", 1.0)
    assert len(calls) == 1 + 4 * len(analysis.check.rows)
    strict = analyze(model, images, ["wide"], multiple=1, evaluate=lambda other: -len(calls))
    assert strict.advice[0].suggested == 3  # the same score everywhere: nothing is lost

    scores = iter([1.0] + [0.5] * 100)
    costly = analyze(model, images, ["wide"], multiple=1, evaluate=lambda other: next(scores))
    assert costly.advice[0].keep and "cost 50.0 points of agreement" in costly.advice[0].reason


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


def test_a_single_image_is_measured_and_scored(model, images):
    analysis = analyze(model, images[:1], ["wide"])
    assert analysis.check.whole == 1.0


def test_a_model_of_two_outputs_needs_a_score_of_its_own(images):
    inputs = keras.Input((5, 5, 3))
    x = kl.Conv2D(6, 1, name="wide")(inputs)
    model = keras.Model(inputs, [x, x])
    with pytest.raises(ValueError, match="Expected a model with one output. Received: 2 outputs"):
        agreement(model, images)
    assert analyze(model, images, ["wide"], evaluate=lambda other: 1.0).check.whole == 1.0
