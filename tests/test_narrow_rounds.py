"""`train.py --narrow --rounds`: cut and fine-tuned in turn, down to the budget."""

import contextlib
import io
import json
from pathlib import Path

import pytest
from conftest import trained_run
from killing import kill, start
from test_narrow_run import SETTINGS, Killed, load, refused, weights_equal

from models.cost import ModelCost, model_cost
from train import main, train
from training import narrowing
from training.checkpoint import Checkpoint
from training.config import read_config
from training.rounds import earlier_rounds
from training.settings import Config

MODELS = ("round_1/narrowed.keras", "round_1/model.keras", "narrowed.keras", "model.keras")


@pytest.fixture(scope="module")
def wide(tiny, tmp_path_factory):
    """A trained run, the parent."""
    return trained_run(SETTINGS, tiny, tmp_path_factory.mktemp("runs") / "wide")


@pytest.fixture(scope="module")
def cost(wide):
    return json.loads((wide / "cost.json").read_text())


@pytest.fixture(scope="module")
def narrowed(wide, cost, tmp_path_factory):
    """A run of two rounds that nobody stopped: one epoch, and two."""
    folder = tmp_path_factory.mktemp("runs") / "narrow"
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        assert main([*command(wide, cost), "--output", str(folder)]) == 0
    (folder / "printed.txt").write_text(printed.getvalue())
    return folder


def command(wide, cost) -> list[str]:
    options = ["--narrow", wide, "--macs", cost["macs"] // 4, "--rounds", 2, "--epochs", 3]
    return [*map(str, options), "--teacher", "--enable-nas"]


def cut_of(folder: Path) -> dict:
    return json.loads((folder / "evaluation.json").read_text())["cut"]


def test_budgets_are_approached_by_equal_factors():
    settings = {"parent": "p", "macs": 1000, "parameters": 5000, "peak_ram": 2000, "rounds": 3}
    config = Config.model_validate(
        {
            "narrow": settings,
            "training": {"epochs": 8, "quantization_aware": True},
            "export": {"format": "int8"},
        }
    )
    cost = ModelCost(4000, 4000, 8000, 4000, 16000, "conv", (), ())
    first, second = earlier_rounds(config, cost, Path("/runs/all"))
    assert [each.narrow.macs for each in (first, second)] == [4000, 2000]
    assert [each.narrow.peak_ram for each in (first, second)] == [8000, 4000]
    assert [each.narrow.parameters for each in (first, second)] == [5000, 5000]
    assert first.narrow.parent == config.narrow.parent
    assert second.narrow.parent == first.output.folder == "/runs/all/round_1"
    assert config.round_epochs == (2, 3, 3)
    for each, epochs in ((first, 2), (second, 3)):
        assert each.training.epochs == epochs and each.round_epochs == (epochs,)
        assert not each.training.quantization_aware and each.export.format is None


@pytest.mark.slow
def test_each_round_is_a_run_that_begins_with_the_one_before(wide, narrowed, cost):
    config, first = (read_config(f / "config.yaml") for f in (narrowed, narrowed / "round_1"))
    assert (config.narrow.rounds, config.training.epochs) == (2, 3)
    assert config.narrow.parent == first.narrow.parent == str(wide)
    assert (first.narrow.rounds, first.training.epochs) == (1, 1)
    assert first.narrow.macs == round((cost["macs"] * config.narrow.macs) ** 0.5)
    assert first.distillation.teacher == config.distillation.teacher == str(wide)
    for folder, epochs in ((narrowed / "round_1", 1), (narrowed, 2)):
        assert len((folder / "history.csv").read_text().splitlines()) == 1 + epochs
    costs = [model_cost(load(narrowed / name)).macs for name in MODELS]
    assert costs[0] == costs[1] <= first.narrow.macs < cost["macs"]
    assert costs[2] == costs[3] <= config.narrow.macs < costs[1]
    assert json.loads((narrowed / "cost.json").read_text())["macs"] == costs[3]


@pytest.mark.slow
def test_the_evaluation_tells_what_each_round_did(wide, narrowed, cost):
    whole, first = cut_of(narrowed), cut_of(narrowed / "round_1")
    assert whole["parent"] == str(wide) and whole["before"]["macs"] == cost["macs"]
    rounds = whole["by_round"]
    assert [each["epochs"] for each in rounds] == [1, 2]
    assert [each["before"] for each in rounds] == [whole["before"], first["after"]]
    assert [each["after"] for each in rounds] == [first["after"], whole["after"]]
    assert [each["budget"] for each in rounds] == [first["budget"], whole["budget"]]
    for each, cut in zip(rounds, (first, whole), strict=True):
        assert each["scores"] == {name: cut["scores"][name] for name in ("cut", "trained")}
    assert whole["scores"]["parent"] == first["scores"]["parent"]
    parent, small = load(wide / "model.keras"), load(narrowed / "model.keras")
    for group, then in zip(whole["groups"], first["groups"], strict=True):
        assert parent.get_layer(group["name"]).filters == group["before"]
        assert small.get_layer(group["name"]).filters == group["after"] == len(group["kept"])
        assert set(group["kept"]) <= set(then["kept"])


@pytest.mark.slow
def test_the_console_says_which_round_cuts_what(wide, narrowed):
    printed = (narrowed / "printed.txt").read_text()
    first = narrowed / "round_1"
    assert f"Round 1 of 2:\nNarrowing {wide}, into {first}\n" in printed
    assert f"Round 2 of 2:\nNarrowing {first}, into {narrowed}\n" in printed
    score = cut_of(narrowed)["scores"]["cut"]["val"]["miou"]
    assert f"Before its last training: validation mIoU {score:.4f}, its parent" in printed


@pytest.mark.slow
def test_the_report_shows_the_rounds(narrowed):
    page = (narrowed / "report.html").read_text(encoding="utf-8")
    assert "and fine-tuned, in 2 rounds." in page
    section = page[page.index("<caption>The rounds") : page.index("<caption>Groups of channels")]
    for each in cut_of(narrowed)["by_round"]:
        scores = [each["scores"][name]["val"]["miou"] for name in ("cut", "trained")]
        row = f"<td>{scores[0]:.4f}</td><td>{each['epochs']}</td><td>{scores[1]:.4f}</td></tr>"
        assert f"<td>{each['after']['macs']:,}</td>" in section and row in section
    first = (narrowed / "round_1" / "report.html").read_text(encoding="utf-8")
    assert "<caption>The rounds" not in first


def test_widths_are_multiples(wide, cost, tmp_path, monkeypatch, capsys):
    passed = {}

    def record(*_, multiple, progress):
        passed["multiple"] = multiple
        raise Killed

    options = ["--narrow", str(wide), "--macs", str(cost["macs"] // 2)]
    options += ["--output", str(tmp_path / "new"), "--multiple"]
    assert "Expected a budget of at least macs=" in refused(capsys, *options, "6")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(narrowing, "narrow", record)
    with pytest.raises(Killed):
        main([*options, "2"])
    assert passed == {"multiple": 2}


def test_rounds_that_cannot_be_are_refused_in_a_line(wide, cost, tmp_path, capsys):
    new = ("--output", tmp_path / "new")
    narrow = ("--narrow", wide, "--macs", cost["macs"] // 2)
    for options, words in (
        (("--rounds", "2", *new), "need narrow.parent (--narrow)"),
        (("--multiple", "2", *new), "need narrow.parent (--narrow)"),
        ((*narrow, *new, "--rounds", "0"), "narrow.rounds: input should be greater than or equal"),
        ((*narrow, *new, "--rounds", "16"), "narrow.rounds: expected at most 15, one for each"),
        ((*narrow[:3], 10, *new, "--rounds", "2"), "Expected a budget of at least macs="),
        ((*narrow[:3], "900M", *new, "--rounds", "2"), "Nothing to narrow"),
    ):
        assert words in refused(capsys, *options)
    assert not (tmp_path / "new").exists()
    other = tmp_path / "mine" / "round_1"
    other.mkdir(parents=True)
    (other / "model.keras").write_text("mine")
    taken = ("--output", tmp_path / "mine", "--rounds", "2")
    assert "another run, in round_1 (model.keras)" in refused(capsys, *narrow, *taken)
    assert list((tmp_path / "mine").iterdir()) == [other]


def stop(*_, **__):
    raise Killed


@pytest.mark.slow
def test_stopped_in_each_round_it_ends_as_if_never_stopped(
    wide, cost, narrowed, tmp_path, monkeypatch
):
    folder = tmp_path / "run"

    def resume(attribute, part=narrowing):
        with monkeypatch.context() as patched, pytest.raises(Killed):
            patched.setattr(part, attribute, stop)
            train(resume=folder, verbose=0)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(narrowing, "narrow", stop)
        main([*command(wide, cost), "--output", str(folder)])
    resume("on_epoch_end", Checkpoint)
    assert (folder / "round_1" / "narrowed.keras").is_file()
    assert not (folder / "round_1" / "evaluation.json").exists()
    resume("by_round")  # in the first round's cut again: it has no checkpoint, but its network
    assert (folder / "round_1" / "evaluation.json").is_file()
    resume("on_epoch_end", Checkpoint)
    train(resume=folder, verbose=0)
    same_as(folder, narrowed)


def same_as(folder: Path, expected: Path) -> None:
    for name in MODELS:
        assert weights_equal(load(folder / name), load(expected / name)), name
    assert cut_of(folder) == cut_of(expected)
    for name in ("history.csv", "round_1/history.csv"):
        assert (folder / name).read_text() == (expected / name).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["round_1/history.csv", "narrowed.keras"])
def test_killed_in_any_round_it_ends_as_if_never_stopped(name, wide, cost, narrowed, tmp_path):
    folder = tmp_path / "run"
    process = start(*command(wide, cost), "--output", folder)
    kill(process, (folder / name).exists)
    assert not (folder / "evaluation.json").exists()
    assert start("--resume", folder).wait() == 0
    same_as(folder, narrowed)


@pytest.mark.slow
def test_a_round_that_has_nothing_left_to_cut_only_trains_on(wide, cost, tmp_path):
    folder = tmp_path / "run"
    narrow = {"parent": str(wide), "macs": cost["macs"] - 1, "rounds": 3}
    model, _ = train(narrow=narrow, epochs=3, output=folder, verbose=0)
    first, second, third = cut_of(folder)["by_round"]
    assert first["after"] == first["before"] != second["after"] == third["after"]
    assert model_cost(model).macs == third["after"]["macs"] < cost["macs"]
    for before, cut in (
        (wide / "model.keras", folder / "round_1" / "narrowed.keras"),
        (folder / "round_2" / "model.keras", folder / "narrowed.keras"),
    ):
        assert weights_equal(load(before), load(cut))
    assert not weights_equal(load(folder / "narrowed.keras"), model)
