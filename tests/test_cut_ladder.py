"""`advise --cut` and `analyze --cut`: networks are cut, solved again and scored."""

import json
import shutil

import keras
import numpy as np
import pytest
from conftest import trained_run
from keras import layers as kl

import training
from models import narrow
from models.cost import model_cost
from monitoring import InputMoments
from monitoring.__main__ import main
from monitoring.analysis.ladder import ladder_from
from train import train
from training.data import draw_pairs, scale
from training.images import read_splits
from training.ladder import Measured, cut_ladder
from training.model_files import load_model
from training.model_ladder import agreement, halves
from training.narrowing import scores
from training.outputs import FOREGROUND
from training.run_ladder import channels_at

SETTINGS = """\
model: {{filters: [6], bottleneck: 8, probes: [encoder], input_size: [12, 16]}}
data: {{root: {data}}}
nas: {{enabled: true, monitor_images: 4}}
training: {{epochs: 1, batch_size: 3, seed: 3}}
"""


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory):
    return trained_run(SETTINGS, tiny, tmp_path_factory.mktemp("runs") / "wide")


@pytest.fixture(scope="module")
def cut(trained, tiny):
    """The advice on a run that was cut to half, and 1 %, of its multiply-adds."""
    return training.advise(trained, cut="", ladder=[0.01, 0.5])


def test_the_networks_are_those_that_a_narrowing_run_begins_with(cut, trained, tiny):
    model, splits = load_model(trained / "model.keras"), read_splits(tiny, (12, 16))
    images, masks = draw_pairs(splits.train, 256, 3)
    moments = InputMoments(scale(images), masks.astype("float32"), FOREGROUND.image_losses, seed=3)
    (rung,) = cut.ladder.rungs
    small = narrow(model, moments, {"macs": rung.budget})
    assert rung.budget == model_cost(model).macs // 2 >= rung.cut.macs
    assert rung.cut.widths == dict(small.widths)
    assert rung.cut.cost == tuple(getattr(small.cost, f) for f in rung.cut.cost._fields)
    assert rung.cut.loss == sum(group.loss for group in small.groups) > 0
    for network, seen in ((model, cut.ladder.parent), (small.model, rung.cut)):
        assert seen.score == scores(network, splits.val, FOREGROUND)["miou"]
    assert cut.ladder.parent.probes == {"probe_encoder_1": 6}
    assert rung.cut.probes == {"probe_encoder_1": small.widths["encoder_1_2_pointwise"]}
    assert (cut.ladder.score, cut.ladder.images, cut.ladder.weighted) == ("mIoU", 6, True)


def test_the_rival_keeps_one_share_of_every_group_at_the_same_multiply_adds(cut):
    (rung,) = cut.ladder.rungs
    shares = {
        width / cut.ladder.parent.widths[layer]
        for layer, width in rung.uniform.widths.items()
        if layer != "logits"
    }
    assert max(shares) - min(shares) <= 0.5 / 6 + 0.5 / 8
    assert abs(rung.uniform.macs - rung.cut.macs) < 0.15 * cut.ladder.parent.macs


def test_a_budget_below_the_fewest_channels_is_a_note(cut):
    (note,) = cut.ladder.notes
    assert note.startswith("1 % of the multiply-adds cannot be reached: with the fewest channels")
    assert f"note: {note}" in str(cut)


def test_files_and_page_hold_the_ladder(cut, trained):
    values = json.loads((trained / "advice.json").read_text())
    assert ladder_from(values["ladder"]) == cut.ladder
    page = (trained / "report.html").read_text()
    assert "mIoU over multiply-adds" in page and "50 %" in page
    assert training.advise(trained).ladder == cut.ladder


def test_the_page_of_a_narrowed_run_shows_its_parents_ladder(cut, trained, tmp_path):
    folder, (rung,) = tmp_path / "narrow", cut.ladder.rungs
    narrowing = {"parent": str(trained), "macs": rung.budget}
    train(narrow=narrowing, epochs=1, output=folder, verbose=0)
    values = json.loads((folder / "narrowing.json").read_text())
    assert ladder_from(values["ladder"]) == cut.ladder
    assert values["scores"]["cut"]["val"]["miou"] == rung.cut.score
    page = (folder / "report.html").read_text()
    section = page[page.index('id="cut"') : page.index('id="numbers"')]
    for name in ("all groups cut alike", "this network, cut", "this network, fine-tuned"):
        assert f"{name}</li>" in section


def test_the_command_line_says_what_to_do_next(cut, trained, tiny, tmp_path, capsys):
    run = shutil.copytree(trained, tmp_path / "run")
    command = ["advise", str(run)]
    (run / "advice.json").unlink()
    assert main(command) == 0
    assert f"python -m monitoring advise {run} --cut" in capsys.readouterr().out
    assert main([*command, "--cut", str(tiny), "--ladder", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "50 %: mIoU 0." in printed and "all alike" in printed
    near = cut.ladder.nearest
    assert (f"--narrow {run} --macs {near.budget}" if near else "No budget leaves") in printed
    for options, message in {
        ("--ladder", "0.5"): "pass cut (--cut) as well. Received: ladder=0.5, no cut",
        ("--cut", "--ladder", "0.5,2"): "between 0 and 1, such as 0.75,0.5,0.25. Received: 0.5,2",
        ("--cut", "nowhere"): "nowhere does not exist",
    }.items():
        assert main([*command, *options]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
    (run / "model.keras").unlink()
    assert main([*command, "--cut"]) == 2
    error = capsys.readouterr().err
    assert "--cut needs a finished run of train.py" in error and error.count("\n") == 1


def plain(activation=None):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 16, 3))
    x = kl.Conv2D(12, 3, padding="same", activation="relu", name="wide")(inputs)
    return keras.Model(inputs, kl.Conv2D(1, 1, activation=activation)(x))


def test_a_model_with_masks_is_cut_by_the_loss_and_scored_by_miou(tiny, tmp_path):
    plain("sigmoid").save(tmp_path / "plain.keras")
    options = {"layers": ["wide"], "cut": True, "ladder": [0.5]}
    ladder = training.analyze(tmp_path / "plain.keras", tiny, **options).ladder
    assert (ladder.score, ladder.images, ladder.weighted) == ("mIoU", 3, True)
    masked = read_splits(tiny, (12, 16)).val
    predicted = plain("sigmoid").predict(scale(masked.images[1::2]), verbose=0) >= 0.5
    truth = masked.masks[1::2] == 1
    ious = [(a & b).sum() / (a | b).sum() for a, b in ((predicted, truth), (~predicted, ~truth))]
    assert ladder.parent.score == pytest.approx(np.mean(ious), abs=1e-6)
    assert ladder.parent.probes == {"wide": 12} and ladder.rungs[0].cut.probes == {"wide": 6}


def test_a_model_without_masks_is_scored_by_agreement(tiny, tmp_path, capsys):
    inputs = keras.Input((12, 16, 3))
    x = kl.Conv2D(12, 3, activation="relu", name="wide")(inputs)
    keras.Model(inputs, kl.Dense(2)(kl.GlobalAveragePooling2D()(x))).save(tmp_path / "two.keras")
    options = ["--layers", "wide", "--cut", "--ladder", "0.5"]
    assert main(["analyze", str(tmp_path / "two.keras"), "--data", str(tiny), *options]) == 0
    printed = capsys.readouterr().out
    assert "50 %: agreement" in printed and "share of the layers' variance lost" in printed
    values = json.loads((tmp_path / "two-analysis" / "analysis.json").read_text())
    ladder = ladder_from(values["ladder"])
    assert ladder.parent.score == 1.0 and not ladder.weighted and ladder.rungs[0].cut.score < 1
    assert "agreement over multiply-adds" in (tmp_path / "two-analysis" / "report.html").read_text()


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.mix = kl.Conv2D(4, 1, name="mix")

    def call(self, x):
        return self.mix(x)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (Subclassed, "Expected a functional or sequential model, whose graph can be read"),
        (lambda: keras.Sequential([keras.Input((4, 4, 3)), kl.Conv2D(4, 1, name="mix")]), "output"),
        (
            lambda: keras.Sequential(
                [keras.Input((None, 4, 3)), kl.Conv2D(4, 1, name="mix"), kl.Conv2D(1, 1)]
            ),
            "fixed input size",
        ),
    ],
    ids=["subclassed", "nothing to cut", "open size"],
)
def test_a_model_that_cannot_be_cut_gets_a_note(build, reason):
    images = np.ones((4, 4, 4, 3), np.float32)
    model = build()
    model(images)
    measured = Measured(InputMoments(images), 4, lambda _: 1.0, "agreement", channels_at(["mix"]))
    ladder = cut_ladder(model, measured, [0.5])
    (note,) = ladder.notes
    assert note.startswith("This model cannot be cut: ") and reason in note
    assert ladder.parent is None and not ladder.rungs


@pytest.mark.parametrize("count", [1, 2, 5, 8])
def test_halves_are_disjoint_and_cover_all(count):
    measured, scored = (list(range(count))[half] for half in halves(count))
    assert sorted({*measured, *scored}) == list(range(count))
    assert measured and scored
    assert count == 1 or not {*measured} & {*scored}


def test_agreement_is_1_for_the_same_and_0_for_the_mean(rng):
    images = rng.normal(size=(20, 12, 16, 3)).astype("float32")
    model, other = plain(), plain()
    score = agreement(model, images)
    assert score(other) == 1.0
    kernel, bias = other.layers[-1].get_weights()
    other.layers[-1].set_weights([0.9 * kernel, bias])
    made, expected = (m.predict(images, verbose=0) for m in (other, model))
    mean = expected.mean(axis=0)
    lost = np.linalg.norm(made - expected) / np.linalg.norm(expected - mean)
    assert score(other) == pytest.approx(1 - lost, abs=1e-6) and 0.01 < lost < 0.5
    x = keras.Input((12, 16, 3))
    assert score(keras.Model(x, 0 * x[..., :1] + mean)) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="Expected a model with one output. Received: 2 outputs"):
        agreement(keras.Model(x, [x, x]), images)
