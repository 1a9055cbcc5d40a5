"""The study of a search: Optuna's storage, sampler, pruner, and what a trial does."""

import math
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from training.search.candidates import Candidate
from training.search.proposals import FIRST, Proposal, suggested
from training.search.trainings import Rung, Score

NAME = "probe-zoo"
KEPT = (0.25, 0.5)  # of the networks of each rung but the last
HEARTBEAT, GRACE = 15, 60  # seconds: how often a trial says that it runs, and when it is lost
PAUSE = 3  # seconds between looks at what other processes do
STORAGE_ERRORS = (ImportError, SQLAlchemyError, optuna.exceptions.StorageInternalError)
SETTINGS, CANDIDATE, SCORES, PROPOSAL = "settings", "candidate", "scores", "proposal"


class Halving(optuna.pruners.BasePruner):
    """Asynchronous successive halving: of each rung, the best share goes on.

    A network is compared with all that have reached its rung so far, so that no worker waits. The
    first of a rung always goes on.

    Reference:
        Li et al. 2020, A System for Massively Parallel Hyperparameter Tuning,
        https://arxiv.org/abs/1810.05934
    """

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        """Returns whether a trial ends after the rung that it has reported last."""
        rung = trial.last_step
        if rung is None or rung >= len(KEPT):
            return False
        scores = [
            other.intermediate_values[rung]
            for other in study.get_trials(deepcopy=False)
            if rung in other.intermediate_values
        ]
        better = sum(score > trial.intermediate_values[rung] for score in scores)
        return better >= max(1, math.ceil(KEPT[rung] * len(scores)))


def open_study(storage: str, settings: Mapping[str, Any], seed: int | None) -> optuna.Study:
    """Opens a study, or creates it.

    Args:
        storage: A URL, such as sqlite:///runs/search/study.db.
        settings: What all of its trials have in common.
        seed: Of the sampler; None where other processes draw, too.

    Raises:
        ValueError: The storage cannot be used, or its study has other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with _without_warnings():
            backend = optuna.storages.RDBStorage(
                storage,
                heartbeat_interval=HEARTBEAT,
                grace_period=GRACE,
                heartbeat_stale_trial_callback=optuna.storages.RetryHeartbeatStaleTrialCallback(),
            )
        study = optuna.create_study(
            storage=backend,
            sampler=optuna.samplers.TPESampler(seed=seed),
            pruner=Halving(),
            study_name=NAME,
            direction="maximize",
            load_if_exists=True,
        )
    except STORAGE_ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"search.storage (--storage) {storage} cannot be used: {reason}") from None
    stored = study.user_attrs.get(SETTINGS)
    if stored is None:
        study.set_user_attr(SETTINGS, dict(settings))
    elif stored != settings:
        other = [key for key in settings if stored.get(key) != settings[key]]
        raise ValueError(
            f"{storage} holds a search with other settings: {', '.join(other)}. Choose another "
            "storage or output folder, or repeat the settings to go on with it"
        )
    return study


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Hides Optuna's warnings of what later versions may change; pyproject.toml excludes them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def _enqueue_next(study: optuna.Study) -> None:
    """Enqueues the next of the networks that are always tried, unless a lost one waits already."""
    trials = study.get_trials(deepcopy=False)
    if any(trial.state == TrialState.WAITING for trial in trials):
        return
    enqueued = [trial.system_attrs.get("fixed_params") for trial in trials]
    for proposal in FIRST:
        if proposal.values not in enqueued:
            study.enqueue_trial(proposal.values, skip_if_exists=True)
            return


def run_trials(
    study: optuna.Study,
    count: int,
    rungs: list[Rung],
    make: Callable[[Proposal], Candidate],
    train: Callable[[Candidate, int, int], Score],
    report: Callable[[str], None],
) -> None:
    """Runs trials until a study has as many as asked for, and all of them have ended.

    A trial of a process that was killed is lost after `GRACE` seconds, and run again.

    Args:
        study: The study, which other processes may run, too.
        count: Networks that are proposed.
        rungs: How long and how often they are trained.
        make: Returns the network of a proposal; a ValueError says why there is none.
        train: Trains a network for some epochs, with a seed.
        report: Prints a line.
    """

    def objective(trial: optuna.Trial) -> float:
        proposal = suggested(trial)
        trial.set_user_attr(PROPOSAL, proposal.values)
        try:
            candidate = make(proposal)
        except ValueError as error:
            trial.set_user_attr("refused", str(error))
            report(f"network {trial.number}: {error}")
            raise optuna.TrialPruned from None
        values = {
            name: value
            for name, value in asdict(candidate).items()
            if name not in ("folder", "network")
        }
        trial.set_user_attr(CANDIDATE, values | {"key": candidate.folder.name})
        scores: list[dict[str, Any]] = []
        mean = math.nan
        for number, rung in enumerate(rungs):
            results = [train(candidate, rung.epochs, seed) for seed in rung.seeds]
            scores += [asdict(score) | {"rung": number} for score in results]
            trial.set_user_attr(SCORES, scores)
            mean = sum(score.miou for score in results) / len(results)
            trial.report(mean, number)
            report(
                f"network {trial.number}: {candidate.arena:,} bytes, {candidate.macs:,} "
                f"multiply-adds; {rung.epochs} epochs, {len(results)} seeds: mIoU {mean:.4f}"
            )
            if trial.should_prune():
                raise optuna.TrialPruned
        return mean

    while True:
        with _without_warnings():
            optuna.storages.fail_stale_trials(study)
        states = [trial.state for trial in study.get_trials(deepcopy=False)]
        running = states.count(TrialState.RUNNING)
        if states.count(TrialState.COMPLETE) + states.count(TrialState.PRUNED) + running < count:
            _enqueue_next(study)
            study.optimize(objective, n_trials=1)
        elif running:
            time.sleep(PAUSE)
        else:
            return
