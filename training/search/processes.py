"""How the processes of a search take trials, and how those of dead processes are found."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Protocol

import optuna
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import TrialState

from training.search.locks import NumberLocks

ASKING = 0  # the number that is held while a trial is created; trial n holds n + 1


class Processes(Protocol):
    """Processes that share a study."""

    @contextmanager
    def new_trial(self, study: optuna.Study) -> Iterator[optuna.Trial]:
        """Creates a trial, and shows the other processes that it runs."""

    def fail_lost(self, study: optuna.Study) -> None:
        """Fails the trials whose process has died."""


class LocalProcesses:
    """Processes that work in one folder: each holds a lock while its trial runs.

    Args:
        locks: Those of their folder.
    """

    def __init__(self, locks: NumberLocks):
        self._locks = locks

    @contextmanager
    def new_trial(self, study: optuna.Study) -> Iterator[optuna.Trial]:
        """Creates a trial, and holds its lock."""
        with ExitStack() as holding:
            with self._locks.held(ASKING):
                trial = study.ask()
                holding.enter_context(self._locks.held(trial.number + 1))
            yield trial

    def fail_lost(self, study: optuna.Study) -> None:
        """Fails the trials that run, but whose lock nobody holds."""
        with self._locks.held(ASKING):
            for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
                if self._locks.is_free(trial.number + 1):
                    study.tell(trial.number, state=TrialState.FAIL, skip_if_finished=True)


class RemoteProcesses:
    """Processes on any machines: a thread of each writes a heartbeat into the storage."""

    @contextmanager
    def new_trial(self, study: optuna.Study) -> Iterator[optuna.Trial]:
        """Creates a trial, and begins its heartbeat."""
        trial = study.ask()
        with get_heartbeat_thread(trial._trial_id, study._storage):
            yield trial

    def fail_lost(self, study: optuna.Study) -> None:
        """Fails the trials that have shown no heartbeat for a while."""
        optuna.storages.fail_stale_trials(study)
