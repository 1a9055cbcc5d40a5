"""The search of a network for a device: its parts, and whole searches that are killed."""

import getpass
import json
import math
import os
import shutil
import subprocess
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from conftest import draw_image_folder, trained_run
from killing import kill, start

optuna = pytest.importorskip("optuna")

from models.cost import model_cost  # noqa: E402
from train import main  # noqa: E402
from training.config import read_config  # noqa: E402
from training.data import scale  # noqa: E402
from training.evaluate import evaluate  # noqa: E402
from training.export.untrained import arena_sizes  # noqa: E402
from training.fitting import built  # noqa: E402
from training.litert import run  # noqa: E402
from training.model_files import load_model  # noqa: E402
from training.search import study as study_module  # noqa: E402
from training.search.candidates import candidate_of  # noqa: E402
from training.search.proposals import (  # noqa: E402
    FIRST,
    MULTIPLES,
    NARROWED,
    SCRATCH,
    Proposal,
    suggested,
)
from training.search.results import Tried, finals  # noqa: E402
from training.search.search import without_workers  # noqa: E402
from training.search.study import KEPT, Halving, open_study  # noqa: E402
from training.search.trainings import rungs  # noqa: E402
from training.splits import read_config_splits  # noqa: E402

CHECKED = {"check": True, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


def test_what_is_always_tried_can_be_suggested():
    for proposal in FIRST:
        trial = optuna.trial.FixedTrial(proposal.values)
        assert suggested(trial) == proposal
    starts = [(p.is_uniform, p.late_upsampling) for p in FIRST[:2]]
    assert starts == [(True, False), (True, True)]
    assert {p.start for p in FIRST} == {SCRATCH, NARROWED}


def test_any_trial_is_a_proposal():
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    seen = set()
    for _ in range(60):
        trial = study.ask()
        proposal = suggested(trial)
        assert Proposal(**proposal.values) == proposal
        assert 0.6 <= proposal.share <= 1 and proposal.multiple in MULTIPLES
        seen.add((proposal.start, proposal.late_upsampling))
        study.tell(trial, 0.5)
    assert len(seen) == 4


@pytest.mark.parametrize("epochs", [1, 4, 60])
def test_each_rung_trains_longer_and_with_seeds_of_its_own(epochs):
    found = rungs(epochs, seed=7)
    assert [len(rung.seeds) for rung in found] == [1, 2, 3]
    seeds = [seed for rung in found for seed in rung.seeds]
    assert len(set(seeds)) == len(seeds) and seeds[0] == 7
    lengths = [rung.epochs for rung in found]
    assert lengths == sorted(lengths) and lengths[-1] == epochs and lengths[0] >= 1


def test_of_many_networks_each_rung_keeps_its_share():
    rng = np.random.default_rng(0)
    study = optuna.create_study(direction="maximize", pruner=Halving())
    reached = [0, 0, 0]
    for _ in range(200):
        trial, quality = study.ask(), rng.normal()
        for rung in range(3):
            reached[rung] += 1
            trial.report(quality, rung)
            if trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, quality)
    assert reached[0] == 200
    assert reached[1] / 200 == pytest.approx(KEPT[0], abs=0.08)
    assert reached[2] / reached[1] == pytest.approx(KEPT[1], abs=0.2)
    best = max(t.intermediate_values[0] for t in study.trials)
    assert any(2 in t.intermediate_values for t in study.trials if t.intermediate_values[0] == best)


def test_what_is_always_tried_comes_first_and_what_was_lost_before_it():
    study = optuna.create_study(direction="maximize")
    seen = []
    for number in range(len(FIRST) + 3):
        study_module._enqueue_next(study)
        trial = study.ask()
        seen.append(suggested(trial))
        if number == 2:  # lost, and enqueued again as Optuna does
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
        else:
            study.tell(trial, 0.5)
    assert seen[:3] == list(FIRST[:3]) and seen[3] == FIRST[2]
    assert seen[4 : len(FIRST) + 1] == list(FIRST[3:])


def network(number, scores, rung=2):
    trainings = [{"rung": rung, "miou": score} for score in scores]
    return Tried(number, FIRST[0].values, {}, trainings)


def test_the_best_of_noisy_scores_is_drawn_to_the_mean():
    rng = np.random.default_rng(0)
    noise, spread, seeds = 0.01, 0.01, 3
    raw, drawn = [], []
    for _ in range(300):
        truth = 0.9 + spread * rng.normal(size=8)
        scores = truth[:, None] + noise * rng.normal(size=(8, seeds))
        best = finals([network(i, row) for i, row in enumerate(scores)])[0]
        raw.append(best.mean - truth[best.tried.number])
        drawn.append(best.shrunken - truth[best.tried.number])
    assert np.mean(raw) > 0.002  # the best looks better than it is
    assert abs(np.mean(drawn)) < np.mean(raw) / 2


def test_networks_that_are_all_alike_have_one_score():
    found = finals([network(0, [0.9, 0.8]), network(1, [0.8, 0.9])])
    assert [final.shrunken for final in found] == pytest.approx([0.85, 0.85])
    assert found[0].error == pytest.approx(math.sqrt(0.005 / 2))


def test_only_the_last_rung_that_any_has_reached_decides():
    found = finals([network(0, [0.99], rung=0), network(1, [0.7, 0.8], rung=1), network(2, [])])
    assert [final.tried.number for final in found] == [1]
    assert finals([]) == []


def test_a_study_of_other_images_is_refused(tmp_path):
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    settings = {"limits": [64, None, None], "images": "a"}
    study = open_study(storage, settings, 0)
    study.enqueue_trial(FIRST[0].values)
    assert len(open_study(storage, settings, 0).trials) == 1
    with pytest.raises(ValueError, match="holds a search with other settings: images"):
        open_study(storage, settings | {"images": "b"}, 0)


@pytest.mark.parametrize("storage", ["nonsense", "sqlite:////nowhere/at/all/study.db"])
def test_a_storage_that_is_not_there_is_said_in_a_line(storage):
    with pytest.raises(ValueError, match="cannot be used: .+") as error:
        open_study(storage, {}, 0)
    assert "\n" not in str(error.value)


def test_other_processes_have_the_same_command_but_for_their_number_and_folder():
    given = ["--search", "--workers=3", "--output", "runs/a", "--trials", "4", "--workers", "2"]
    assert without_workers(given) == ["--search", "--trials", "4"]
    assert json.dumps(without_workers([])) == "[]"


@pytest.fixture
def postgresql(tmp_path):
    """The URL of a server of its own, by Debian's package."""
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not programs:
        pytest.skip("PostgreSQL is not installed")
    folder = Path(tempfile.mkdtemp())
    user = []
    if os.getuid() == 0:  # the server refuses to run as root
        shutil.chown(folder, "postgres", "postgres")
        user = ["runuser", "-u", "postgres", "--"]
    data, port = folder / "data", 20_000 + os.getpid() % 20_000
    options = f"-p {port} -k {folder} -c listen_addresses=127.0.0.1 -c fsync=off"
    control = [*user, programs[-1] / "pg_ctl", "-D", data, "-w"]
    subprocess.run([*user, programs[-1] / "initdb", "-D", data, "-A", "trust"], **CHECKED)
    subprocess.run([*control, "-o", options, "-l", folder / "log", "start"], **CHECKED)
    try:
        subprocess.run(
            [*user, programs[-1] / "createdb", "-h", folder, "-p", str(port), "search"], **CHECKED
        )
        name = "postgres" if os.getuid() == 0 else getpass.getuser()
        yield f"postgresql://{name}@127.0.0.1:{port}/search"
    finally:
        subprocess.run([*control, "-m", "immediate", "stop"], **CHECKED)
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def wide(tiny, tmp_path_factory):
    """A trained run, the parent."""
    settings = (
        "model: {{filters: [8, 16, 24], bottleneck: 24, input_size: [24, 32]}}\n"
        "data: {{root: {data}}}\ntraining: {{epochs: 1, batch_size: 3}}\n"
    )
    return trained_run(settings, tiny, tmp_path_factory.mktemp("runs") / "wide")


def test_a_narrowed_network_keeps_to_its_share_of_the_limits_and_is_kept(wide, tiny, tmp_path):
    pytest.importorskip("tflite_micro")
    sections = {
        "model": {"input_size": (24, 32)},
        "data": {"root": str(tiny)},
        "narrow": {"arena": 30_000, "macs": 600_000},
    }
    config = read_config(None, sections, for_pipeline=True)
    make = partial(
        candidate_of,
        Proposal(NARROWED, late_upsampling=False, share=0.8, multiple=2),
        config,
        read_config_splits(config),
        tmp_path,
        {False: wide, True: wide},
    )
    found = make()
    model = load_model(found.network)
    assert found.arena == arena_sizes(model).plain <= 24_000 and found.macs <= 480_000
    assert found.macs == model_cost(model).macs and found.parameters == model.count_params()
    assert 0 <= found.cut_score <= 1 and found.loss >= 0
    assert built(found.settings).count_params() == found.parameters
    changed = found.network.stat().st_mtime_ns
    assert make() == found and found.network.stat().st_mtime_ns == changed


def small_images(root):
    """A data folder with enough validation images."""
    draw_image_folder(root)
    for kind in ("img", "mask"):
        folder = root / "val" / kind
        for path in sorted(folder.iterdir()):
            shutil.copy(path, folder / f"again {path.name}")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_one_of_two_processes_is_killed_and_nothing_is_lost(kind, wide, tmp_path, request):
    pytest.importorskip("tflite_micro")
    config, folder = tmp_path / "small.yaml", tmp_path / "search"
    config.write_text("model: {input_size: [24, 32]}\ntraining: {batch_size: 4}\n")
    data = small_images(tmp_path / "images")
    options = ["--search", "--config", config, "--data", data, "--output", folder, "--narrow", wide]
    options += ["--macs", "300k", "--trials", "2", "--epochs", "1", "--export-tolerance", "100"]
    if kind == "postgresql":
        options += ["--storage", request.getfixturevalue("postgresql")]
    killed = start(*options)
    kill(killed, lambda: any(folder.rglob("score.json")))
    before = {path: path.read_bytes() for path in folder.rglob("score.json")}
    processes = [start(*options) for _ in range(2)]
    assert [process.wait(timeout=900) for process in processes] == [0, 0]
    assert all(path.read_bytes() == content for path, content in before.items())
    found = json.loads((folder / "search.json").read_text())
    for network in found["networks"]:
        assert 200_000 < network["candidate"]["macs"] <= 300_000
        assert network["scores"], network
    uniform = {n["proposal"]["late_upsampling"] for n in found["networks"]}
    assert uniform == {False, True}
    exported = json.loads((folder / "chosen" / "export.json").read_text())
    best = {n["number"]: n for n in found["networks"]}[found["chosen"]]
    assert exported["arena_bytes"] == best["candidate"]["arena"]
    assert len(found["test"]["seeds"]) == len([s for s in best["scores"] if s["rung"] == 2]) == 3
    page = (folder / "search.html").read_text()
    assert f"Chosen: network {found['chosen']} " in page and "http" not in page.split("<body")[1]
    # What it shows of its score is what the INT8 file scores.
    score = max((s for s in best["scores"] if s["rung"] == 2), key=lambda s: s["miou"])
    splits = read_config_splits(read_config(config, {"data": {"root": str(data)}}))
    content = (folder / "chosen" / "model_int8.tflite").read_bytes()
    logits = run(content, scale(splits.val.images))
    assert evaluate(logits >= 0, splits.val.masks).miou == pytest.approx(score["miou"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "A search needs a limit: --arena, --macs or --parameters"),
        (["--arena", "4k"], "limits that the narrowest nano_u keeps to"),
        (["--macs", "1M", "--model", "vgg"], "Unknown model 'vgg'"),
        (["--macs", "1M", "--trials", "0"], "search.trials"),
        (["--macs", "1M", "--narrow", "nowhere"], "does not exist"),
    ],
    ids=" ".join,
)
def test_what_is_asked_for_wrongly_is_one_line(options, message, tmp_path, capsys):
    pytest.importorskip("tflite_micro")
    assert main(["--search", "--output", str(tmp_path / "run"), *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_too_few_validation_images_are_refused(tiny, tmp_path, capsys):
    pytest.importorskip("tflite_micro")
    options = ["--search", "--macs", "1M", "--data", str(tiny), "--output", str(tmp_path / "run")]
    assert main(options) == 2
    assert "expected 8 or more. Received: 6" in capsys.readouterr().err
