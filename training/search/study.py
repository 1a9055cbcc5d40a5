"""The study of a search: Optuna's storage, its trials, and how they are read."""

import math
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import optuna
import sqlalchemy
from optuna.trial import FrozenTrial, TrialState

from training.search.results import Tried
from training.search.steps import Step, Taken

NAME = "probe-zoo"
HEARTBEAT, GRACE = 15, 60  # seconds: how often a trial shows that it runs, and when it is lost
PAUSES = (0.5, 1.5)  # seconds between attempts to open a storage
STORAGE_ERRORS = (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError)
# Attributes of the study, and of its trials
SETTINGS, STEP, PROPOSAL = "settings", "step", "proposal"
CANDIDATE, SCORES, REFUSED = "candidate", "scores", "refused"


def open_study(storage: str, settings: Mapping[str, Any], *, is_shared: bool) -> optuna.Study:
    """Opens a study, or creates it.

    Args:
        storage: A URL, such as sqlite:///runs/search/study.db.
        settings: What all of its trials have in common.
        is_shared: Whether its trials show by heartbeats that they run.

    Raises:
        ValueError: The storage cannot be used, or its study has other settings.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = _opened(storage, is_shared=is_shared)
        stored = study.user_attrs.get(SETTINGS)
        if stored is None:
            study.set_user_attr(SETTINGS, dict(settings))
    except (ImportError, *STORAGE_ERRORS) as error:
        raise ValueError(
            f"search.storage (--storage) {without_password(storage)} cannot be used: "
            f"{shortened(error)}"
        ) from None
    if stored is not None and stored != settings:
        other = sorted(key for key in settings if stored.get(key) != settings[key])
        raise ValueError(
            f"{without_password(storage)} holds a search with other settings: {', '.join(other)}. "
            "Choose another storage or output folder, or repeat the settings to go on with it"
        )
    return study


def _opened(storage: str, *, is_shared: bool) -> optuna.Study:
    """Opens a study, or creates it."""
    for pause in PAUSES:
        # Processes that begin at the same time fail when others have just made the tables.
        with suppress(*STORAGE_ERRORS):
            return _opened_at_once(storage, is_shared=is_shared)
        time.sleep(pause)
    return _opened_at_once(storage, is_shared=is_shared)


def _opened_at_once(storage: str, *, is_shared: bool) -> optuna.Study:
    with without_warnings():
        backend = optuna.storages.RDBStorage(
            storage,
            heartbeat_interval=HEARTBEAT if is_shared else None,
            grace_period=GRACE if is_shared else None,
        )
    return optuna.create_study(
        storage=backend,
        sampler=optuna.samplers.RandomSampler(),
        pruner=optuna.pruners.NopPruner(),
        study_name=NAME,
        direction="maximize",
        load_if_exists=True,
    )


def without_password(storage: str) -> str:
    """Returns the URL of a storage with stars for its password.

    Example:
        >>> without_password("postgresql://me:secret@host/search")
        'postgresql://me:***@host/search'
    """
    try:
        return sqlalchemy.make_url(storage).render_as_string(hide_password=True)
    except sqlalchemy.exc.ArgumentError:
        return storage


def shortened(error: BaseException) -> str:
    """Returns the first part of an error's message, without line breaks."""
    return " ".join(str(error).split())[:200]


@contextmanager
def without_warnings() -> Iterator[None]:
    """Hides Optuna's warnings.

    Those of what later versions may change, which pyproject.toml excludes, and that heartbeats are
    for `Study.optimize`: `RemoteProcesses` begins and ends them as that does.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.filterwarnings("ignore", "Heartbeat of storage is supposed to be used")
        yield


@contextmanager
def lost_storage() -> Iterator[None]:
    """Turns an error of a storage that could be used before into an OSError."""
    try:
        yield
    except STORAGE_ERRORS as error:
        raise OSError(f"The storage of the search is lost: {shortened(error)}") from error


def trials_of(study: optuna.Study) -> list[FrozenTrial]:
    """Returns the trials of a study but those whose process has died or failed."""
    states = [state for state in TrialState if state != TrialState.FAIL]
    return study.get_trials(deepcopy=False, states=states)


def is_undecided(trial: FrozenTrial) -> bool:
    """Returns whether a trial runs, but does not show its step yet."""
    return STEP not in trial.user_attrs and not trial.state.is_finished()


def taken_steps(trials: list[FrozenTrial]) -> list[Taken]:
    """Returns the steps of trials; those without one are left out."""
    return [
        Taken(Step(**trial.user_attrs[STEP]), trial.user_attrs.get(PROPOSAL, {}), _score_of(trial))
        for trial in trials
        if STEP in trial.user_attrs
    ]


def _score_of(trial: FrozenTrial) -> float | None:
    """Returns a trial's score; None while it runs, nan if it ended without one."""
    if not trial.state.is_finished():
        return None
    return math.nan if trial.value is None else trial.value


def tried_networks(study: optuna.Study) -> list[Tried]:
    """Returns the networks of a study that have been tried, in the order of their numbers."""
    by_network: dict[int, list[FrozenTrial]] = {}
    with lost_storage():
        trials = trials_of(study)
    for trial in trials:
        if STEP in trial.user_attrs and trial.state.is_finished():
            by_network.setdefault(Step(**trial.user_attrs[STEP]).network, []).append(trial)
    return [_tried(number, trials) for number, trials in sorted(by_network.items())]


def _tried(number: int, trials: list[FrozenTrial]) -> Tried:
    first, *_ = trials = sorted(trials, key=lambda t: Step(**t.user_attrs[STEP]).rung)
    return Tried(
        number=number,
        proposal=first.user_attrs[PROPOSAL],
        candidate=first.user_attrs.get(CANDIDATE, {}),
        scores=[score for trial in trials for score in trial.user_attrs.get(SCORES, [])],
        refused=first.user_attrs.get(REFUSED, ""),
    )
