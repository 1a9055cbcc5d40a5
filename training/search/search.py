"""A search from its parents to the chosen network, beside other processes of it."""

import os
import subprocess
from collections.abc import Sequence
from functools import partial

import optuna

from training.config import read_config
from training.fit import fit
from training.fitting import Fitted
from training.prepared import prepared_runs
from training.run_folder import has_finished
from training.search.candidates import candidate_of
from training.search.locks import alone_in
from training.search.page import finish
from training.search.prepared_search import NETWORKS, Search
from training.search.study import open_study, run_trials
from training.search.trainings import rungs, trained_score

WIDER = 2  # times the widths of the widest network that fits: the parents'
WORKER = "PROBE_ZOO_SEARCH_WORKER"  # set in processes that another one has started


def train_parents(search: Search, fitting: Sequence[Fitted], *, verbose: int = 1) -> None:
    """Trains the wide parents that are not trained yet."""
    for (late, folder), fitted in zip(search.parents.items(), fitting, strict=True):
        with alone_in(search.folder):
            if has_finished(folder) or folder.is_file():
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


def study_of(search: Search) -> optuna.Study:
    """Opens the study of a search, or creates it.

    Raises:
        ValueError: The storage cannot be used, or holds another search.
    """
    is_alone = search.config.search.storage is None and search.config.search.workers == 1
    seed = search.config.training.seed if is_alone and WORKER not in os.environ else None
    return open_study(search.storage, search.shared_settings, seed)


def run_search(
    search: Search, study: optuna.Study, fitting: Sequence[Fitted], command: Sequence[str]
) -> None:
    """Runs a search until all of its networks have been tried, beside other processes that do.

    Args:
        search: The search.
        study: Its study.
        fitting: As `prepare_search` returns them.
        command: Starts another process of it; the output folder is added.

    Raises:
        OSError: A file cannot be written.
    """
    train_parents(search, fitting)
    others = [
        subprocess.Popen([*command, "--output", str(search.folder)], env=os.environ | {WORKER: "1"})
        for _ in range(search.config.search.workers - 1)
    ]
    config, splits = search.config, search.splits
    run_trials(
        study,
        config.search.trials,
        rungs(config.training.epochs, config.training.seed),
        partial(
            candidate_of,
            config=config,
            splits=splits,
            folder=search.folder / NETWORKS,
            parents=search.parents,
        ),
        lambda candidate, epochs, seed: trained_score(candidate, config, splits, epochs, seed),
        partial(print, flush=True),
    )
    for other in others:
        other.wait()


def finish_search(search: Search, study: optuna.Study) -> bool:
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
        return finish(search, study)


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


def without_workers(arguments: Sequence[str]) -> list[str]:
    """Returns a command line without the options that differ between processes.

    Example:
        >>> without_workers(["train.py", "--workers", "2", "--output=runs/a", "--search"])
        ['train.py', '--search']
    """
    kept, skip = [], False
    for argument in arguments:
        name = argument.split("=")[0]
        if skip or name in ("--workers", "--output"):
            skip = not skip and name == argument
            continue
        kept.append(argument)
    return kept
