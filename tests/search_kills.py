"""Kills a small search with signal 9 in each of its phases, and compares it with a whole one.

Usage: python tests/search_kills.py FOLDER [all|one]

`all`: a search of one process is killed in each phase and started again by the same command. Its
study, its scores and its chosen file have to be those of a search that was left alone. `one`: of
two processes one is killed in each phase, and started again. Which networks are proposed then
depends on who is faster, so the study has to be whole, and each score that of the whole search
where both trained the same network.
"""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import optuna
from killing import kill, start
from test_search import small_images

from training.search.locks import LOCK
from training.search.study import NAME, STEP, trials_of
from training.search.trainings import rungs

EPOCHS, TRIALS = 8, 3
LIMIT = 1200  # seconds that a phase may take to begin
CHOSEN = ("model_int8.tflite", "export.json")


def phases(folder: Path) -> dict[str, Callable[[], Path | None]]:
    """Returns how each phase of the search in a folder is recognised.

    Each returns the folder that the process at work in this phase holds locked; None before.
    """

    def parent(name: str) -> Path | None:
        return folder if (folder / name / "checkpoint" / "last.npz").is_file() else None

    def training(rung: int) -> Path | None:
        epochs, seeds = rungs(EPOCHS, 0)[rung].epochs, rungs(EPOCHS, 0)[rung].seeds
        for seed in seeds:
            for run in folder.glob(f"networks/*/epochs{epochs}-seed{seed}"):
                if (run / "checkpoint" / "last.npz").is_file():
                    return run.parent
        return None

    def cutting() -> Path | None:
        """The two from scratch are made first."""
        made = {path.parent for path in folder.glob("networks/*/candidate.json")}
        others = set(folder.glob("networks/*")) - made
        return min(others) if len(made) >= 2 and others else None

    def finishing(name: str) -> Path | None:
        return folder if (folder / name).exists() else None

    return {
        "parent": lambda: parent("parent"),
        "late parent": lambda: parent("parent_late"),
        "rung 1": lambda: training(0),
        "cutting": cutting,
        "rung 2": lambda: training(1),
        "rung 3, the final training": lambda: training(2),
        "export": lambda: finishing("chosen"),
        "page": lambda: finishing("chosen/export.json"),
    }


def process_in(folder: Path) -> int | None:
    """Returns the number of the process that holds a folder locked, as Linux lists it."""
    inode = (folder / LOCK).stat().st_ino
    for line in Path("/proc/locks").read_text().splitlines():
        words = line.split()
        if words[1] == "FLOCK" and words[5].endswith(f":{inode}"):
            return int(words[4])
    return None


def study_of(folder: Path) -> list[tuple[Any, ...]]:
    """Returns the steps of a study with what was proposed and scored, in the order of steps."""
    study = optuna.load_study(study_name=NAME, storage=f"sqlite:///{folder / 'study.db'}")
    trials = trials_of(study)
    assert all(trial.state.is_finished() for trial in trials), "a trial has not ended"
    return sorted(
        (trial.user_attrs[STEP]["rung"], trial.user_attrs[STEP]["network"],
         json.dumps(trial.params), trial.value)
        for trial in trials
    )  # fmt: skip


def results_of(folder: Path) -> dict[str, Any]:
    """Returns what search.json holds, without durations."""
    values = json.loads((folder / "search.json").read_text())
    del values["seconds"]
    for network in values["networks"]:
        for score in network["scores"]:
            del score["seconds"]
    for final in values["finals"]:
        del final["tried"]
    return values


def check_whole(folder: Path) -> None:
    """Checks that a search has ended, and that nothing in it was done twice or is missing."""
    steps = [step[:2] for step in study_of(folder)]
    assert len(set(steps)) == len(steps) == TRIALS + 1 + 1, steps
    for name in ("search.html", "search.json", *(f"chosen/{name}" for name in CHOSEN)):
        assert (folder / name).is_file(), name
    assert not list(folder.rglob(".unfinished.search*"))
    keys = {network["candidate"]["key"] for network in results_of(folder)["networks"]}
    assert {path.name for path in folder.glob("networks/*")} == keys
    trained = {path.parent for path in folder.rglob("evaluation.json")}
    scored = {path.parent for path in folder.rglob("score.json")}
    assert trained - scored == {folder / "parent", folder / "parent_late"}


def finished_scores(folder: Path) -> dict[Path, bytes]:
    """Returns the scores of the trainings that have ended."""
    return {path: path.read_bytes() for path in folder.rglob("score.json")}


def check_kept(before: dict[Path, bytes]) -> None:
    """Checks that no training that had ended was done again."""
    assert all(path.read_bytes() == content for path, content in before.items())


def kill_all(folder: Path, command: list[object], log: Path) -> None:
    """Kills a search of one process in each phase."""
    for name, phase in phases(folder).items():
        kill(start(*command, log=log), lambda phase=phase: phase() is not None, limit=LIMIT)
        before = finished_scores(folder)
        print(f"killed: {name}; {len(before)} trainings had ended", flush=True)
    code = start(*command, log=log).wait()
    assert code == 0, code
    check_kept(before)


def kill_one(folder: Path, command: list[object], log: Path) -> None:
    """Kills of two processes the one that is at work in a phase, for each phase."""
    processes = [start(*command, log=log) for _ in range(2)]
    for name, phase in phases(folder).items():
        one = None
        deadline = time.monotonic() + LIMIT
        while one is None:
            assert time.monotonic() < deadline, f"{name} is not due in time"
            place = phase()
            number = None if place is None else process_in(place)
            one = next((process for process in processes if process.pid == number), None)
            time.sleep(0.005)
        one.kill()
        one.wait()
        before = finished_scores(folder)
        print(f"killed: {name}; {len(before)} trainings had ended", flush=True)
        processes = [*(each for each in processes if each is not one), start(*command, log=log)]
    assert [process.wait() for process in processes] == [0, 0]
    check_kept(before)


def compare(whole: Path, killed: Path, *, is_exact: bool) -> None:
    """Checks a search that was killed against one that was left alone."""
    check_whole(killed)
    ours, theirs = study_of(whole), study_of(killed)
    if is_exact:
        assert ours == theirs
        assert results_of(whole) == results_of(killed)
        for name in CHOSEN:
            assert (whole / "chosen" / name).read_bytes() == (killed / "chosen" / name).read_bytes()
    files = {
        path.relative_to(whole): json.loads(path.read_text()) for path in finished_scores(whole)
    }
    common = [path for path in files if (killed / path).is_file()]
    for path in common:
        score = json.loads((killed / path).read_text())
        assert score["miou"] == files[path]["miou"], path
    print(f"{killed.name}: {len(theirs)} steps, {len(common)} trainings in common, all alike")


def main(folder: Path, kinds: list[str]) -> None:
    """Runs the searches, each in a folder of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    images, config = folder / "images", folder / "small.yaml"
    if not images.is_dir():
        small_images(images)
    config.write_text("model: {input_size: [24, 32]}\ntraining: {batch_size: 4}\n")
    command = ["--search", "--config", config, "--data", images, "--macs", "300k"]
    command += ["--trials", TRIALS, "--epochs", EPOCHS, "--export-tolerance", 100]
    whole = folder / "whole"
    assert start(*command, "--output", whole, log=folder / "whole.log").wait() == 0
    check_whole(whole)
    print(f"left alone: {len(study_of(whole))} steps", flush=True)
    for kind in kinds:
        killed, log = folder / kind, folder / f"{kind}.log"
        {"all": kill_all, "one": kill_one}[kind](killed, [*command, "--output", killed], log)
        compare(whole, killed, is_exact=kind == "all")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute(), sys.argv[2:] or ["all", "one"])
