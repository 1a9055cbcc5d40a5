"""A search from its parents to the chosen network, beside other processes of it."""

import logging
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from functools import partial

from training.config import read_config
from training.fit import fit
from training.fitting import Fitted
from training.prepared import prepared_runs
from training.run_folder import has_finished
from training.search.candidates import candidate_of
from training.search.locks import NumberLocks, alone_in
from training.search.page import finish
from training.search.prepared_search import NETWORKS, Search
from training.search.processes import LocalProcesses, Processes, RemoteProcesses
from training.search.trainings import rungs, trained_score
from training.search.trials import Work, run_trials

WIDER = 2  # times the widths of the widest network that fits: the parents'
WORKER = "PROBE_ZOO_SEARCH_WORKER"  # set in processes that another one has started


def train_parents(search: Search, fitting: Sequence[Fitted], *, verbose: int = 1) -> None:
    """Trains the wide parents that are not trained yet, unless the user has given one."""
    if search.given_parent is not None:
        return
    for (late, folder), fitted in zip(search.parents.items(), fitting, strict=True):
        with alone_in(search.folder):
            if has_finished(folder):
                continue
            if verbose:
                print(f"Training the parent, {folder.name}", flush=True)
            settings = dict(fitted.settings)
            for key in ("filters", "decoder_filters"):
                settings[key] = [WIDER * width for width in settings[key]]
            settings["bottleneck"] *= WIDER
            sections = {
                "model": settings | {"late_upsampling": late},
                "data": search.config.data.model_dump(),
                "training": search.config.training.model_dump(),
                "output": {"folder": str(folder)},
            }
            config = read_config(None, sections, origin="search")
            for run in prepared_runs(config, resume=True, splits=search.splits):
                fit(run, verbose=0)


def run_search(search: Search, fitting: Sequence[Fitted], command: Sequence[str]) -> None:
    """Runs a search until all of its networks have been tried, beside other processes that do.

    Args:
        search: The search.
        fitting: As `prepare_search` returns them.
        command: Starts a process of it; folder and number of processes are added.

    Raises:
        OSError: A file cannot be written, or the storage is lost.
    """
    config, splits, is_first = search.config, search.splits, WORKER not in os.environ
    for fitted in fitting if is_first else ():
        print(described(fitted), flush=True)
    # Each training traces functions of its own; TensorFlow would warn of that.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)
    train_parents(search, fitting)
    work = Work(
        count=config.search.trials,
        rungs=rungs(config.training.epochs, config.training.seed),
        seed=config.training.seed,
        make=partial(
            candidate_of,
            config=config,
            splits=splits,
            folder=search.folder / NETWORKS,
            parents=search.parents,
        ),
        train=lambda candidate, epochs, seed: trained_score(
            candidate, config, splits, epochs, seed
        ),
        report=partial(print, flush=True),
    )
    alone = [*command, "--output", str(search.folder), "--workers", "1"]
    with (
        _processes(search) as processes,
        other_processes(alone, config.search.workers - 1 if is_first else 0),
    ):
        run_trials(search.study, processes, work)


@contextmanager
def _processes(search: Search) -> Iterator[Processes]:
    """Yields how the processes of a search tell each other that they live."""
    if search.config.search.storage is not None:
        yield RemoteProcesses()
    else:
        with closing(NumberLocks(search.folder)) as locks:
            yield LocalProcesses(locks)


@contextmanager
def other_processes(command: Sequence[str], count: int) -> Iterator[None]:
    """Starts processes beside this one, and waits for them at the end.

    An error in the block ends them. A process that fails is told in a line, since the others have
    done its work.

    Args:
        command: Of one process.
        count: How many are started.
    """
    others = [
        subprocess.Popen(command, env=os.environ | {WORKER: str(number)})
        for number in range(2, count + 2)
    ]
    try:
        yield
        codes = [other.wait() for other in others]
    finally:
        for other in others:
            other.terminate()
            other.wait()
    for number, code in enumerate(codes, start=2):
        if code:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            print(
                f"train.py: process {number} of {count + 1} {how}; the others did its work",
                file=sys.stderr,
            )


def finish_search(search: Search) -> bool:
    """Exports the chosen network and writes the page, unless another process does.

    Returns:
        Whether the network's file was refused.

    Raises:
        ValueError: No network keeps to the limits.
        OSError: A file cannot be written.
    """
    if WORKER in os.environ:
        return False
    with alone_in(search.folder):
        return finish(search)


def described(fitted: Fitted) -> str:
    """Returns a network that fits as a line of text."""
    settings = fitted.settings
    late = "late" if settings["late_upsampling"] else "early"
    arena = "" if fitted.arena is None else f"{fitted.arena:,} bytes, "
    return (
        f"Widest that fits, {late} upsampling: {','.join(map(str, settings['filters']))} / "
        f"{settings['bottleneck']}, {arena}{fitted.macs:,} multiply-adds, "
        f"{fitted.parameters:,} parameters"
    )
