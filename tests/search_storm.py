"""Processes that take the steps of a search, without networks, and are killed at random.

Usage: python tests/search_storm.py FOLDER local|remote KILLS

`local`: they show by locks that they live; `remote`: by heartbeats, here every second.
"""

import os
import random
import signal
import sys
import time
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import Any

import checkout  # noqa: F401

from training.search import study as study_module
from training.search import trials as trials_module
from training.search.candidates import Candidate
from training.search.locks import NumberLocks
from training.search.processes import LocalProcesses, RemoteProcesses
from training.search.proposals import Proposal
from training.search.study import STEP, open_study, trials_of, tried_networks
from training.search.trainings import Score, rungs
from training.search.trials import Work, run_trials

COUNT, PROCESSES = 24, 3
ON_RUNGS = [24, 6, 3]
SECONDS = 0.1  # of a training


def quality(proposal: Proposal, seed: int) -> float:
    """Returns a score that depends on proposal and seed alone."""
    return random.Random(f"{proposal.values} {seed}").random()


def train(candidate: Candidate, epochs: int, seed: int) -> Score:
    """Trains for a moment."""
    time.sleep(SECONDS)
    proposal = Proposal(**dict(candidate.settings or {}))
    return Score(epochs, seed, quality(proposal, seed), 100, SECONDS)


def make(proposal: Proposal) -> Candidate:
    """Returns a network that costs nothing."""
    return Candidate(Path("none"), proposal.values, None, 1000, 100, 10)


def begin(folder: Path, kind: str) -> int:
    """Starts a process of the search, and returns its number."""
    number = os.fork()
    if number:
        return number
    study = open_study(f"sqlite:///{folder / 'study.db'}", {}, is_shared=kind == "remote")
    work = Work(COUNT, rungs(4, 0), 0, make, train, lambda line: None)
    with closing(NumberLocks(folder)) as locks:
        run_trials(study, LocalProcesses(locks) if kind == "local" else RemoteProcesses(), work)
    os._exit(0)


def storm(folder: Path, kind: str, kills: int) -> dict[str, Any]:
    """Runs a search, kills some of its processes, and returns what is in its study."""
    study_module.HEARTBEAT, study_module.GRACE, trials_module.GRACE = 1, 6, 6
    trials_module.PAUSE = 0.3
    running = [begin(folder, kind) for _ in range(PROCESSES)]
    draw = random.Random(0)
    for _ in range(kills):
        time.sleep(draw.uniform(0.05, 1.0))
        victim = running.pop(draw.randrange(PROCESSES))
        os.kill(victim, signal.SIGKILL)
        os.waitpid(victim, 0)
        running.append(begin(folder, kind))
    codes = [os.waitstatus_to_exitcode(os.waitpid(each, 0)[1]) for each in running]
    study = open_study(f"sqlite:///{folder / 'study.db'}", {}, is_shared=False)
    networks = tried_networks(study)
    steps = Counter(tuple(trial.user_attrs[STEP].values()) for trial in trials_of(study))
    return {
        "codes": codes,
        "on_rungs": [sum(n.rung >= rung for n in networks) for rung in range(len(ON_RUNGS))],
        "scores": {len(n.of_rung(rung)) - rung for n in networks for rung in range(n.rung + 1)},
        "most_of_a_step": max(steps.values()),
        "lost": len(study.trials) - sum(steps.values()),
    }


if __name__ == "__main__":
    found = storm(Path(sys.argv[1]).absolute(), sys.argv[2], int(sys.argv[3]))
    print(found)
    expected = {"codes": [0] * PROCESSES, "on_rungs": ON_RUNGS, "scores": {1}, "most_of_a_step": 1}
    sys.exit(any(found[name] != value for name, value in expected.items()))
