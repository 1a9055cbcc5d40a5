"""The search of a network for a device: its parts, and whole searches that are killed."""

import getpass
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import fmean

import numpy as np
import pytest
from conftest import draw_image_folder, trained_run
from killing import ROOT, kill, start, wait_until

optuna = pytest.importorskip("optuna")

from models.cost import model_cost  # noqa: E402
from monitoring.records.run_files import MARKER  # noqa: E402
from train import main  # noqa: E402
from training.config import read_config  # noqa: E402
from training.data import scale  # noqa: E402
from training.evaluate import evaluate  # noqa: E402
from training.export.untrained import arena_sizes  # noqa: E402
from training.fitting import built  # noqa: E402
from training.litert import run  # noqa: E402
from training.model_files import load_model  # noqa: E402
from training.search.candidates import Candidate, candidate_of  # noqa: E402
from training.search.locks import NumberLocks  # noqa: E402
from training.search.prepared_search import prepare_search  # noqa: E402
from training.search.proposals import (  # noqa: E402
    FIRST,
    MULTIPLES,
    NARROWED,
    SCRATCH,
    Proposal,
    suggested,
)
from training.search.results import Tried, finals  # noqa: E402
from training.search.search import other_processes, train_parents  # noqa: E402
from training.search.study import (  # noqa: E402
    open_study,
    tried_networks,
)
from training.search.trainings import Score, rungs  # noqa: E402
from training.search.trials import Work, run_trials  # noqa: E402
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


def in_memory():
    return optuna.create_study(direction="maximize")


class Alone:
    """Processes of which there is this one alone."""

    @contextmanager
    def new_trial(self, study):
        yield study.ask()

    def fail_lost(self, study):
        for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def work(count, train, make=None):
    """What the trials of a search do, without networks; `train` gets a proposal."""

    def make_any(proposal):
        return Candidate(Path(str(proposal)), proposal.values, None, 1000, 100, 10)

    def score(candidate, epochs, seed):
        return Score(epochs, seed, train(Proposal(**candidate.settings), seed), 100, 1.0)

    return Work(count, rungs(4, 0), 0, make or make_any, score, lambda line: None)


def quality(proposal, seed):
    """A score that depends on proposal and seed alone."""
    return random.Random(f"{proposal.values} {seed}").random()


def found_in(study):
    return [asdict(network) | {"rung": network.rung} for network in tried_networks(study)]


@pytest.mark.parametrize(("count", "on_rungs"), [(16, (16, 4, 2)), (8, (8, 2, 1)), (1, (1, 1, 1))])
def test_exactly_the_best_of_each_rung_go_on(count, on_rungs):
    study = in_memory()
    run_trials(study, Alone(), work(count, quality))
    networks = tried_networks(study)
    assert [n.number for n in networks] == list(range(count))
    for rung, expected in enumerate(on_rungs):
        there = [n for n in networks if n.rung >= rung]
        assert len(there) == expected
        assert all(len(n.of_rung(rung)) == rung + 1 for n in there)
    for rung in (0, 1):
        scores = {n.number: fmean(n.of_rung(rung)) for n in networks if n.rung >= rung}
        ranked, proposals = sorted(scores, key=lambda n: -scores[n]), []
        for number in ranked:
            if networks[number].proposal not in proposals:
                proposals.append(networks[number].proposal)
        went_on = [networks[n].proposal for n in scores if networks[n].rung > rung]
        assert all(proposal in proposals[: on_rungs[rung + 1]] for proposal in went_on)
        assert len(went_on) == on_rungs[rung + 1]


def test_what_is_always_tried_comes_first():
    study = in_memory()
    run_trials(study, Alone(), work(12, quality))
    found = [Proposal(**n.proposal) for n in tried_networks(study)]
    assert found[: len(FIRST)] == list(FIRST)


def test_a_network_without_a_file_is_told_and_does_not_go_on():
    def make(proposal):
        if proposal.start == NARROWED:
            raise ValueError("cannot be cut")
        return Candidate(Path("own"), proposal.values, None, 1000, 100, 10)

    study = in_memory()
    run_trials(study, Alone(), work(8, quality, make))
    networks = tried_networks(study)
    refused = [n for n in networks if n.refused]
    assert len(refused) == 4 and all(n.rung == -1 and not n.candidate for n in refused)
    assert sum(n.rung == 2 for n in networks) == 1
    study = in_memory()

    def make_none(proposal):
        raise ValueError("too small")

    run_trials(study, Alone(), work(3, quality, make_none))
    assert [n.refused for n in tried_networks(study)] == ["too small"] * 3


class Killed(BaseException):
    pass


@pytest.mark.parametrize("ends", [OSError, KeyboardInterrupt, Killed])
def test_a_search_that_ends_at_any_training_goes_on_as_if_it_had_not(ends):
    whole = in_memory()
    run_trials(whole, Alone(), work(12, quality))
    count = sum(len(n["scores"]) for n in found_in(whole))
    for last in range(1, count + 1, 3):
        study, done = in_memory(), []

        def train(proposal, seed, done=done, last=last):
            if len(done) == last:
                done.append("ended")
                raise ends("no space left")
            done.append(seed)
            return quality(proposal, seed)

        if last < count:
            with pytest.raises(ends, match="no space left"):
                run_trials(study, Alone(), work(12, train))
        run_trials(study, Alone(), work(12, train))
        assert found_in(study) == found_in(whole)


def test_a_network_whose_trial_another_process_took_over_is_left_to_it():
    study, seen = in_memory(), []

    def train(proposal, seed):
        if not seen:  # as another process does that finds no heartbeat
            study.tell(0, state=optuna.trial.TrialState.FAIL)
        seen.append(seed)
        return quality(proposal, seed)

    run_trials(study, Alone(), work(4, train))
    assert [n.number for n in tried_networks(study)] == [0, 1, 2, 3]
    assert study.trials[0].state == optuna.trial.TrialState.FAIL


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["local", "remote"])
@pytest.mark.parametrize("kills", [0, 12])
def test_many_processes_take_each_step_once_whoever_is_killed(kind, kills, tmp_path):
    command = [sys.executable, ROOT / "tests" / "search_storm.py", tmp_path, kind, str(kills)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


def test_a_number_is_held_by_one_process_and_free_when_it_dies(tmp_path):
    script = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom pathlib import Path\n"
        "from training.search.locks import NumberLocks\n"
        f"with NumberLocks(Path({str(tmp_path)!r})).held(7):\n print('held', flush=True); input()\n"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen([sys.executable, "-c", script], **pipes)
    assert process.stdout.readline() == b"held\n"
    with closing(NumberLocks(tmp_path)) as locks:
        assert not locks.is_free(7) and locks.is_free(8)
        with locks.held(8):
            assert not locks.is_free(7)
        process.kill()
        process.communicate()
        assert locks.is_free(7)


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
    study = open_study(storage, settings, is_shared=False)
    study.enqueue_trial(FIRST[0].values)
    assert len(open_study(storage, settings, is_shared=True).trials) == 1
    with pytest.raises(ValueError, match="holds a search with other settings: images"):
        open_study(storage, settings | {"images": "b"}, is_shared=False)


@pytest.mark.parametrize(
    "storage",
    [
        "nonsense",
        "sqlite:////nowhere/at/all/study.db",
        "postgresql://me:secret@127.0.0.1:9/search",
        "mysql://me:secret@127.0.0.1:9/search",
    ],
)
def test_a_storage_that_is_not_there_is_said_in_a_line(storage):
    with pytest.raises(ValueError, match="cannot be used: .+") as error:
        open_study(storage, {}, is_shared=True)
    assert "\n" not in str(error.value) and "secret" not in str(error.value)


def test_a_storage_that_is_lost_on_the_way_is_said_in_a_line(tmp_path):
    file = tmp_path / "study.db"
    study = open_study(f"sqlite:///{file}", {}, is_shared=False)

    def train(proposal, seed):
        file.write_bytes(b"something else" * 1000)
        return 0.5

    with pytest.raises(OSError, match="storage of the search is lost: .+"):
        run_trials(study, Alone(), work(2, train))


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


@pytest.mark.slow
def test_a_worker_that_dies_leaves_the_others_working(wide, tmp_path):
    """The search has two training images, and a parent that is a file."""
    pytest.importorskip("tflite_micro")
    config, folder, log = tmp_path / "small.yaml", tmp_path / "search", tmp_path / "log"
    config.write_text(
        "model: {input_size: [24, 32]}\ntraining: {batch_size: 4}\nsearch: {workers: 3}\n"
    )
    data = small_images(tmp_path / "images")
    for kind in ("img", "mask"):
        for path in sorted((data / "train" / kind).iterdir())[2:]:
            path.unlink()
    options = ["--search", "--config", config, "--data", data, "--output", folder]
    options += ["--narrow", wide / "model.keras", "--macs", "300k", "--trials", "2"]
    options += ["--epochs", "1", "--workers", "2", "--export-tolerance", "100"]
    process = start(*options, log=log)

    def children():
        return Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()

    wait_until(lambda: children() and any(folder.glob("networks/*")), process, 300)
    (worker,) = children()  # --workers overrides the file, and workers start none of their own
    os.kill(int(worker), signal.SIGKILL)
    assert process.wait(timeout=900) == 0
    text = log.read_text()
    assert "train.py: process 2 of 2 was killed by signal 9; the others did its work" in text
    assert "Traceback" not in text and text.count("Chosen: network") == 1
    found = json.loads((folder / "search.json").read_text())
    assert [n["number"] for n in found["networks"]] == [0, 1]
    assert sorted(n["rung"] for n in found["networks"]) == [0, 2]


def test_how_other_processes_ended_is_told(capfd):
    script = "import os; os._exit(int(os.environ['PROBE_ZOO_SEARCH_WORKER']) - 2)"
    with other_processes([sys.executable, "-c", script], 2):
        pass
    told = "train.py: process 3 of 3 ended with exit code 1; the others did its work\n"
    assert capfd.readouterr().err == told
    with other_processes([sys.executable, "-c", script], 1):
        pass
    assert capfd.readouterr().err == ""


def test_an_error_ends_the_other_processes(tmp_path):
    script = f"import os, time; open({str(tmp_path)!r} + f'/{{os.getpid()}}', 'w'); time.sleep(60)"
    began = time.monotonic()
    with pytest.raises(OSError, match="full"), other_processes([sys.executable, "-c", script], 1):
        while not list(tmp_path.iterdir()):
            time.sleep(0.01)
        raise OSError("the disk is full")
    (number,) = (int(path.name) for path in tmp_path.iterdir())
    with pytest.raises(ProcessLookupError):
        os.kill(number, 0)
    assert time.monotonic() - began < 30


def prepared(data, folder, *, epochs=1, **narrow):
    """A search of small images, before it begins."""
    sections = {
        "model": {"input_size": (24, 32)},
        "data": {"root": str(data)},
        "training": {"epochs": epochs},
        "narrow": {"macs": 300_000, **narrow},
        "output": {"folder": str(folder)},
    }
    return prepare_search(None, sections)[0]


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A data folder with enough validation images."""
    return small_images(tmp_path_factory.mktemp("data") / "several")


def test_a_folder_of_another_search_is_refused(several, wide, tmp_path):
    pytest.importorskip("tflite_micro")
    folder, data = tmp_path / "search", tmp_path / "images"
    shutil.copytree(several, data)
    (folder).mkdir()
    (folder / MARKER).touch()  # a search that was killed before its settings were there
    prepared(data, folder)
    prepared(data, folder)
    for other, name in (({"epochs": 2}, "training.epochs"), ({"parent": wide}, "narrow.parent")):
        with pytest.raises(ValueError, match=rf"with other settings \(search.yaml\): {name}\. "):
            prepared(data, folder, **other)
    image = data / "train" / "img" / "scene 0.png"
    shutil.copy(image.with_name("scene 1.png"), image)
    with pytest.raises(ValueError, match=r"study.db holds a search .* settings: images"):
        prepared(data, folder)
    with pytest.raises(ValueError, match="is not empty, and holds no search"):
        prepared(data, data)


def test_a_parent_that_the_user_has_given_is_never_trained(several, wide, tmp_path):
    pytest.importorskip("tflite_micro")
    given = tmp_path / "given"
    given.mkdir()
    shutil.copy(wide / "model.keras", given)  # a run that does not look finished
    search = prepared(several, tmp_path / "search", parent=str(given))
    train_parents(search, [])
    assert [path.name for path in given.iterdir()] == ["model.keras"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "A search needs a limit: --arena, --macs or --parameters"),
        (["--arena", "4k"], "limits that the narrowest nano_u keeps to"),
        (["--macs", "1000"], "Received: 1,000 multiply-adds, where it takes"),
        (["--macs", "1M", "--storage", "nonsense"], "nonsense cannot be used: Could not parse"),
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
