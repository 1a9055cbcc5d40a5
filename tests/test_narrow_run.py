"""`train.py --narrow`: a run that begins with a trained network, cut down to a budget."""

import contextlib
import io
import json
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from conftest import trained_run
from killing import kill, start

from models import Nano_U, probe_names, quantization_aware
from models.cost import model_cost
from monitoring.records.reading import read_run
from train import main, train
from training import narrowing
from training.checkpoint import Checkpoint
from training.config import read_config, validate
from training.data import scale
from training.evaluate import evaluate
from training.images import read_splits
from training.network import build, zoo_settings
from training.outputs import FOREGROUND, Outputs
from training.run import prepare
from training.run_folder import read_resumed

ROOT = Path(__file__).resolve().parent.parent
SIZE = (24, 32)
SETTINGS = """\
model: {{filters: [6], bottleneck: 8, probes: [encoder], input_size: [24, 32]}}
data: {{root: {data}}}
nas: {{monitor_images: 4}}
training: {{epochs: 1, batch_size: 3, schedule: plateau, seed: 3}}
"""


class Killed(BaseException):
    pass


def load(path: Path):
    return keras.saving.load_model(path, safe_mode=True, compile=False)


def weights_equal(first, second) -> bool:
    pairs = zip(first.get_weights(), second.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


@pytest.fixture(scope="module")
def splits(tiny):
    return read_splits(tiny, SIZE)


@pytest.fixture(scope="module")
def wide(tiny, tmp_path_factory):
    """A trained run, the parent."""
    return trained_run(SETTINGS, tiny, tmp_path_factory.mktemp("runs") / "wide")


@pytest.fixture(scope="module")
def macs(wide):
    """A budget: half of the parent's multiply-adds."""
    return json.loads((wide / "cost.json").read_text())["macs"] // 2


@pytest.fixture(scope="module")
def narrowed(wide, macs, tmp_path_factory):
    """A run that nobody stopped, and what it printed."""
    folder, printed = tmp_path_factory.mktemp("runs") / "narrow", io.StringIO()
    options = ["--narrow", str(wide), "--macs", str(macs), "--epochs", "2", "--enable-nas"]
    with contextlib.redirect_stdout(printed):
        assert main([*options, "--output", str(folder)]) == 0
    return folder, printed.getvalue()


@pytest.fixture(scope="module")
def evaluation(narrowed):
    return json.loads((narrowed[0] / "evaluation.json").read_text())


def test_it_keeps_the_parents_settings_and_trains_on_by_a_full_cosine(wide, narrowed):
    before, after = (read_config(f / "config.yaml") for f in (wide, narrowed[0]))
    assert after.model == before.model and after.data == before.data
    assert after.nas == before.nas.model_copy(update={"enabled": True})
    changed = {"epochs": 2, "schedule": "cosine"}
    assert after.training == before.training.model_copy(update=changed)
    assert after.narrow.parent == str(wide) and after.distillation.teacher is None
    again = validate(after.model_dump(mode="json"), source="again")
    assert again == after


def test_the_network_keeps_to_the_budget_and_its_probes(wide, narrowed, macs):
    folder, _ = narrowed
    parent, begin, end = (
        load(path) for path in (wide / "model.keras", *(folder / f"{n}.keras" for n in NAMES))
    )
    assert model_cost(begin).macs == model_cost(end).macs <= macs < model_cost(parent).macs
    assert json.loads((folder / "cost.json").read_text())["macs"] == model_cost(end).macs
    assert probe_names(end) == probe_names(parent) == list(read_run(folder).last)
    assert [layer.name for layer in end.layers] == [layer.name for layer in parent.layers]
    assert not weights_equal(begin, end)


NAMES = ("narrowed", "model")


def test_evaluation_holds_what_was_cut_and_all_scores(wide, narrowed, evaluation, splits):
    folder, cut = narrowed[0], evaluation["cut"]
    of_parent = json.loads((wide / "evaluation.json").read_text())
    assert cut["parent"] == str(wide) and cut["weighted"] and cut["images"] == 6
    for when, path in (("before", wide / "model.keras"), ("after", folder / "model.keras")):
        cost = model_cost(load(path))
        assert cut[when] == {name: getattr(cost, name) for name in cut[when]}
    found = cut["scores"]
    for network, path in zip(
        ("parent", "cut", "trained"),
        (wide / "model.keras", *(folder / f"{name}.keras" for name in NAMES)),
        strict=True,
    ):
        model = load(path)
        for name in ("val", "test"):
            split = getattr(splits, name)
            logits = model(scale(split.images), training=False)
            expected = evaluate(np.asarray(logits) >= 0, split.masks)
            assert found[network][name]["miou"] == pytest.approx(expected.miou, abs=1e-3)
    assert found["trained"]["test"]["miou"] == evaluation["miou"]
    assert found["parent"]["test"]["miou"] == pytest.approx(of_parent["miou"], abs=1e-3)
    written = json.loads((folder / "narrowing.json").read_text())
    assert "test" not in written["scores"]["cut"]  # nothing has looked at it before the end
    (written_round,), (last,) = written["by_round"], cut["by_round"]
    assert written == cut | {"scores": written["scores"], "by_round": [written_round]}
    assert last == written_round | {"scores": {name: found[name] for name in ("cut", "trained")}}
    assert (last["epochs"], last["after"]) == (2, cut["after"])


def test_each_group_is_listed_with_the_channels_that_stay(wide, narrowed, evaluation):
    parent, small = load(wide / "model.keras"), load(narrowed[0] / "model.keras")
    groups = {group["name"]: group for group in evaluation["cut"]["groups"]}
    assert groups["logits"]["fixed"] == "an output of the model"
    for name, group in groups.items():
        assert parent.get_layer(name).filters == group["before"]
        assert small.get_layer(name).filters == group["after"] == len(group["kept"])
        assert sorted(set(group["kept"])) == group["kept"]
    assert any(group["after"] < group["before"] for group in groups.values())


def test_the_found_widths_are_a_configuration(narrowed, evaluation):
    small = load(narrowed[0] / "model.keras")
    section = evaluation["cut"]["model"]
    config = validate({"model": section | {"probes": ["encoder"]}}, source="narrowing.json")
    fresh = build(config)
    assert [w.shape for w in fresh.weights] == [w.shape for w in small.weights]
    assert model_cost(fresh).macs == model_cost(small).macs
    inputs = keras.Input((24, 32, 3))
    assert zoo_settings(keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs))) is None


def test_the_console_says_what_was_cut(narrowed, evaluation):
    folder, printed = narrowed
    cut = evaluation["cut"]
    assert f"into {folder}\n" in printed
    assert f"  multiply-adds: {cut['before']['macs']:,} to {cut['after']['macs']:,}\n" in printed
    score = cut["scores"]["cut"]["val"]["miou"]
    assert f"Before any training: validation mIoU {score:.4f}, its parent" in printed


def test_the_report_shows_what_was_cut(narrowed, evaluation):
    page = (narrowed[0] / "report.html").read_text(encoding="utf-8")
    section = page[page.index('id="cut"') : page.index('id="numbers"')]
    for group in evaluation["cut"]["groups"]:
        row = f"<tr><td>{group['name']}</td><td>{group['before']}</td><td>{group['after']}</td>"
        assert row in section
    for network in evaluation["cut"]["scores"].values():
        assert f"<td>{network['test']['miou']:.4f}</td>" in section
    assert "all: an output of the model" in section
    losses = evaluation["cut"]["losses"]
    estimated = sum(group["loss"] for group in evaluation["cut"]["groups"])
    for added in (estimated, losses["after"] - losses["before"]):
        assert f" {added:.2g}" in section[section.index("On the images that were measured") :]


def test_losses_are_those_of_the_measured_images(wide, narrowed, evaluation, splits):
    losses = evaluation["cut"]["losses"]
    for loss, path in (
        (losses["before"], wide / "model.keras"),
        (losses["after"], narrowed[0] / "narrowed.keras"),
    ):
        logits = load(path).predict(scale(splits.train.images), verbose=0)
        masks = splits.train.masks.astype("float32")
        expected = np.mean(FOREGROUND.image_losses(masks, logits))
        assert loss == pytest.approx(float(expected), rel=1e-5)


def test_advice_rebuilds_a_narrowed_network_if_a_builder_makes_it(narrowed, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(narrowed[0], folder)
    for name in ("advice.json", "advised.yaml"):
        (folder / name).unlink(missing_ok=True)
    from training import advise

    cost = json.loads((folder / "cost.json").read_text())
    assert advise(folder).costs[0]._asdict().items() <= cost.items()
    advised = read_config(folder / "advised.yaml")
    assert advised.narrow.parent is None and advised.distillation.teacher is None
    assert model_cost(build(advised)).macs <= cost["macs"]
    (folder / "advised.yaml").unlink()
    values = json.loads((folder / "narrowing.json").read_text())
    (folder / "narrowing.json").write_text(json.dumps(values | {"model": None}))
    assert advise(folder).costs is None and not (folder / "advised.yaml").exists()


def killed_after_the_first_epoch(self, epoch, logs=None):
    SAVED(self, epoch, logs)
    raise Killed


SAVED = Checkpoint.on_epoch_end


@pytest.mark.slow
def test_stopped_in_its_training_it_ends_as_if_never_stopped(
    wide, macs, narrowed, tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    settings = {"narrow": {"parent": str(wide), "macs": macs}, "epochs": 2, "verbose": 0}
    with monkeypatch.context() as patched:
        patched.setattr(Checkpoint, "on_epoch_end", killed_after_the_first_epoch)
        with pytest.raises(Killed):
            train(output=folder, enable_nas_monitoring=True, **settings)
    monkeypatch.setattr(narrowing, "narrow", None)  # it is not cut anew
    train(resume=folder, verbose=0)
    for name in ("model", "narrowed"):
        assert weights_equal(*(load(f / f"{name}.keras") for f in (folder, narrowed[0])))
    found, expected = (
        json.loads((f / "evaluation.json").read_text()) for f in (folder, narrowed[0])
    )
    assert found["cut"] == expected["cut"]
    assert (folder / "history.csv").read_text() == (narrowed[0] / "history.csv").read_text()


def test_stopped_while_it_is_cut_it_is_cut_anew(wide, macs, narrowed, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise Killed

    folder = tmp_path / "run"
    config = read_config(None, {"narrow": {"parent": str(wide), "macs": macs}})
    config = config.model_copy(
        update={"output": config.output.model_copy(update={"folder": str(folder)})}
    )
    with monkeypatch.context() as patched:
        patched.setattr(narrowing, "narrow", stop)
        with pytest.raises(Killed):
            prepare(config)
    assert {path.name for path in folder.iterdir()} == {".probe-zoo-run", "config.yaml"}
    (folder / ".unfinished.narrowed.keras").write_text("half")
    resumed = read_resumed(folder)
    assert resumed is not None and resumed.narrow == config.narrow
    prepare(resumed, resume=True)
    assert weights_equal(*(load(f / "narrowed.keras") for f in (folder, narrowed[0])))
    assert not (folder / ".unfinished.narrowed.keras").exists()


def test_a_budget_that_cannot_be_met_after_all_is_a_line_that_says_what_is_left(
    wide, macs, tmp_path, monkeypatch, capsys
):
    def fail(*_, **__):
        raise ValueError("Expected a budget that can be met")

    folder = tmp_path / "run"
    monkeypatch.setattr(narrowing, "narrow", fail)
    error = refused(capsys, "--narrow", wide, "--macs", macs, "--output", folder)
    assert error.endswith(
        f"can be met. Nothing was trained: {folder} holds its settings alone and can be removed\n"
    )
    assert {path.name for path in folder.iterdir()} == {".probe-zoo-run", "config.yaml"}
    assert refused(capsys, "--resume", folder) == error


def test_a_finished_run_needs_its_parent_no_longer(narrowed, tmp_path, capsys):
    folder = tmp_path / "run"
    shutil.copytree(narrowed[0], folder)
    settings = (folder / "config.yaml").read_text()
    (folder / "config.yaml").write_text(re.sub(r"parent: .*", "parent: /gone", settings))
    assert main(["--resume", str(folder)]) == 0
    assert "nothing is left to do" in capsys.readouterr().out


def test_moments_are_measured_on_training_images_as_the_network_takes_them(
    wide, macs, splits, tmp_path, monkeypatch
):
    given = {}

    def record(images, targets, loss, *, seed):
        given.update(images=images, targets=targets, seed=seed)
        raise Killed

    monkeypatch.setattr(narrowing, "InputMoments", record)
    monkeypatch.setattr(narrowing, "IMAGES", 4)
    with pytest.raises(Killed):
        train(narrow={"parent": str(wide), "macs": macs}, output=tmp_path / "run", verbose=0)
    assert given["seed"] == 3 and len(given["images"]) == len(given["targets"]) == 4
    for image, mask in zip(given["images"], given["targets"], strict=True):
        same = [
            np.array_equal(image, picture / np.float32(127.5) - 1)
            or np.allclose(image, picture / 127.5 - 1, atol=1e-6)
            for picture in splits.train.images
        ]
        assert sum(same) == 1
        assert np.array_equal(mask, splits.train.masks[same.index(True)])


def stranger(path: Path, size=SIZE, activation="sigmoid", channels=3, units=1) -> Path:
    """A small U-Net of somebody else's, saved."""
    keras.utils.set_random_seed(7)
    layers = keras.layers
    images = keras.Input((*size, channels))
    first = layers.Conv2D(6, 3, padding="same", activation="relu")(images)
    deep = layers.Conv2D(8, 3, padding="same", activation="relu")(layers.MaxPooling2D()(first))
    deep = layers.BatchNormalization()(layers.Conv2D(8, 3, padding="same")(deep))
    joined = layers.Concatenate()([first, layers.UpSampling2D()(layers.ReLU()(deep))])
    logits = layers.Conv2D(units, 1, activation=activation)(joined)
    keras.Model(images, logits, name="somebodys").save(path)
    return path


def test_a_strangers_file_of_probabilities_with_its_own_answers_as_teacher(tiny, tmp_path):
    path, folder = stranger(tmp_path / "stranger.keras"), tmp_path / "run"
    parent = load(path)
    peak = model_cost(parent).peak_activation_bytes
    options = ["--narrow", str(path), "--peak-ram", str(int(0.8 * peak)), "--parameters", "1k"]
    options += ["--teacher", "--data", str(tiny), "--epochs", "2", "--batch-size", "3"]
    assert main([*options, "--output", str(folder)]) == 0
    small = load(folder / "model.keras")
    cost = model_cost(small)
    assert cost.parameters <= 1000 < model_cost(parent).parameters
    assert cost.peak_activation_bytes <= 0.8 * peak
    config = read_config(folder / "config.yaml")
    assert (config.model.name, config.model.input_size) == ("somebodys", SIZE)
    assert config.distillation.teacher == config.narrow.parent == str(path)
    values = small.predict(read_splits(tiny, SIZE).test.images / 127.5 - 1, verbose=0)
    assert 0 <= values.min() and values.max() <= 1
    scored = json.loads((folder / "evaluation.json").read_text())
    history = np.genfromtxt(folder / "history.csv", delimiter=",", names=True)
    best = history["val_miou"].max()
    assert scored["cut"]["scores"]["trained"]["val"]["miou"] == pytest.approx(best, abs=1e-3)
    saved = keras.saving.load_model(folder / "model.keras")
    assert saved.loss.name == "binary_crossentropy" and not saved.loss.get_config()["from_logits"]


def test_the_loss_is_the_mean_over_an_images_scored_pixels(rng):
    masks = rng.integers(0, 2, (3, 4, 5, 1)).astype("float32")
    values = rng.normal(size=masks.shape).astype("float32")
    ignored = rng.random(masks.shape) < 0.3
    ignored[2] = True
    masks[ignored] = 255
    chance = 1 / (1 + np.exp(-values))
    pixels = -np.where(masks == 1, np.log(chance), np.log(1 - chance))
    expected = [pixels[n][~ignored[n]].mean() for n in (0, 1)] + [0.0]
    for outputs, given in (("logits", values), ("probabilities", chance)):
        np.testing.assert_allclose(Outputs(outputs).image_losses(masks, given), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "key, text, number",
    [
        ("macs", "2.4M", 2_400_000),
        ("macs", "500k", 500_000),
        ("macs", 7, 7),
        ("parameters", "7k", 7_000),
        ("peak_ram", "40k", 40_960),
        ("peak_ram", "1M", 1_048_576),
        ("peak_ram", "76800", 76_800),
    ],
)
def test_amounts(key, text, number):
    assert getattr(validate({"narrow": {key: text}}, source="x").narrow, key) == number


@pytest.mark.parametrize("text", ["", "many", "2.4 M", "-3", "0", "2.4m", "1e6", "2.5", True, 2.5])
def test_amounts_that_are_none(text):
    with pytest.raises(ValueError, match=r"^x: narrow.macs: "):
        validate({"narrow": {"macs": text}}, source="x")


def refused(capsys, *options) -> str:
    """Returns the one line in which a command line is refused."""
    assert main([str(option) for option in options]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and error.startswith("train.py: error: ")
    return error


def test_what_is_asked_for_wrongly_is_said_in_a_line(wide, macs, tmp_path, capsys):
    new = ("--output", tmp_path / "new")
    narrow = ("--narrow", wide, *new)
    for options, words in (
        (("--macs", "1M", *new), "need narrow.parent (--narrow)"),
        (("--teacher", *new), "need narrow.parent (--narrow)"),
        (narrow, "Narrowing needs a budget: narrow.macs (--macs)"),
        ((*narrow, "--macs", "1T"), "narrow.macs: expected a whole number, or one such as"),
        ((*narrow, "--macs", "10"), "Expected a budget of at least macs="),
        ((*narrow, "--macs", "900M"), "Nothing to narrow"),
        ((*narrow, "--macs", macs, "--model", "bu_net"), "keeps its parent's model.name"),
        (
            (*narrow, "--macs", macs, "--probes", "decoder"),
            "omit --probes (model.probes). Parent: encoder. ",
        ),
        ((*narrow, "--macs", macs, "--teacher", "--distill-from", tmp_path), "is the parent: omit"),
        ((*narrow, "--macs", macs, "--pipeline"), "--pipeline narrows its own teacher"),
        (("--narrow", tmp_path / "none", "--macs", "1M", *new), "does not exist"),
        (("--narrow", tmp_path, "--macs", "1M", *new), "holds no model.keras"),
    ):
        assert words in refused(capsys, *options)
    assert not (tmp_path / "new").exists()


@keras.saving.register_keras_serializable("test_narrow_run")
class Subclassed(keras.Model):
    def __init__(self, **options):
        super().__init__(**options)
        self.mix = keras.layers.Conv2D(1, 1)

    def call(self, images):
        return self.mix(images)


def test_networks_that_cannot_be_narrowed_are_named_in_a_line(tiny, tmp_path, capsys):
    subclassed = Subclassed()
    subclassed(np.zeros((1, *SIZE, 3)))
    images = keras.Input((*SIZE, 3))
    chain = keras.Model(images, keras.layers.Conv2D(1, 3, padding="same")(images), name="thin")
    aware = quantization_aware(Nano_U((*SIZE, 3), (4,), 4))
    for name, model in (("subclassed", subclassed), ("thin", chain), ("aware", aware)):
        model.save(tmp_path / f"{name}.keras")
    stranger(tmp_path / "grey.keras", channels=1)
    stranger(tmp_path / "classes.keras", activation="softmax", units=3)
    stranger(tmp_path / "tanh.keras", activation="tanh")
    stranger(tmp_path / "other.keras")
    (tmp_path / "torn.keras").write_text("torn")
    rest = ("--macs", "1k", "--data", tiny, "--output", tmp_path / "new")
    for name, words in (
        ("subclassed", "subclassed model"),
        ("thin", "has no channels that can be cut: an output of the model"),
        ("aware", "is quantisation-aware"),
        ("grey", "Expected a budget of at least macs"),
        ("classes", "as many output channels as classes (data.classes, --classes): 1, for foregr"),
        ("tanh", "narrow.outputs: logits"),
        ("torn", "is not a .keras file"),
    ):
        assert words in refused(capsys, "--narrow", tmp_path / f"{name}.keras", *rest)
    other = ("--narrow", tmp_path / "other.keras", "--parameters", "500", *rest[-2:])
    assert "drawn scenes are 60x80" in refused(capsys, *other)
    monitored = (*other, "--data", tiny, "--enable-nas-monitoring")
    assert "has no probes, and they cannot be added" in refused(capsys, *monitored)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["config.yaml", "narrowing.json", "narrowed.keras", "history.csv"])
def test_killed_at_any_stage_it_ends_as_if_never_stopped(name, wide, macs, narrowed, tmp_path):
    folder = tmp_path / "run"
    process = start(
        "--narrow", wide, "--macs", macs, "--epochs", 2, "--enable-nas", "--output", folder
    )
    kill(process, (folder / name).exists)
    assert not (folder / "evaluation.json").exists()
    assert start("--resume", folder).wait() == 0
    for model in NAMES:
        assert weights_equal(*(load(f / f"{model}.keras") for f in (folder, narrowed[0])))
    found, expected = (
        json.loads((f / "evaluation.json").read_text()) for f in (folder, narrowed[0])
    )
    assert found["cut"] == expected["cut"] and found["miou"] == expected["miou"]


@pytest.mark.slow
def test_the_int8_file_is_of_the_narrow_network(wide, macs, tmp_path):
    folder = tmp_path / "run"
    options = ["--narrow", str(wide), "--macs", str(macs), "--epochs", "1", "--header"]
    options += ["--export", "int8", "--export-tolerance", "100", "--output", str(folder)]
    assert main(options) == 0
    exported = json.loads((folder / "export.json").read_text())
    assert exported["macs"] == model_cost(load(folder / "model.keras")).macs <= macs
    assert not exported["refused"] and (folder / "model_int8.tflite").is_file()


@pytest.mark.slow
def test_the_int8_file_of_probabilities(tiny, tmp_path):
    path, folder = stranger(tmp_path / "stranger.keras"), tmp_path / "run"
    options = ["--narrow", str(path), "--parameters", "1k", "--data", str(tiny), "--epochs", "1"]
    options += ["--export", "int8", "--export-tolerance", "100", "--header"]
    assert main([*options, "--output", str(folder)]) == 0
    exported = json.loads((folder / "export.json").read_text())
    assert exported["agreement"] > 0.9
    assert "probabilities; foreground where real >= 0.5." in (folder / "model_int8.h").read_text()


@pytest.mark.slow
def test_it_goes_on_with_the_rounding_of_int8(wide, macs, tmp_path):
    folder = tmp_path / "run"
    options = ["--narrow", str(wide), "--macs", str(macs), "--epochs", "2", "--quantization-aware"]
    assert main([*options, "--output", str(folder)]) == 0
    cost, plain = (model_cost(load(folder / f"{name}.keras")) for name in ("model", "narrowed"))
    assert (cost.macs, cost.parameters) == (plain.macs, plain.parameters)
