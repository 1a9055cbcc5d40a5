"""The trials of a search: what each of them is for, and what it does."""

import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.samplers import PartialFixedSampler, TPESampler
from optuna.trial import TrialState

from training.search.candidates import Candidate
from training.search.processes import Processes
from training.search.proposals import FIRST, Proposal, suggested
from training.search.steps import Step, next_step
from training.search.study import (
    CANDIDATE,
    GRACE,
    PROPOSAL,
    REFUSED,
    SCORES,
    STEP,
    is_undecided,
    lost_storage,
    taken_steps,
    trials_of,
    without_warnings,
)
from training.search.trainings import Rung, Score

PAUSE, GLANCE = 3.0, 0.1  # seconds between looks at what other processes do, and decide


@dataclass(frozen=True)
class Work:
    """What the trials of a search do.

    Attributes:
        count: Networks that are proposed.
        rungs: How long and how often they are trained.
        seed: Decides what is proposed, with the scores of the networks before.
        make: Returns the network of a proposal; a ValueError says why there is none.
        train: Trains a network for some epochs, with a seed.
        report: Prints a line.
    """

    count: int
    rungs: Sequence[Rung]
    seed: int
    make: Callable[[Proposal], Candidate]
    train: Callable[[Candidate, int, int], Score]
    report: Callable[[str], None]


def run_trials(study: optuna.Study, processes: Processes, work: Work) -> None:
    """Runs trials until all steps of a search have ended, beside other processes that do.

    The step of a process that died is taken by another one.

    Args:
        study: The study.
        processes: Those that share it.
        work: What its trials do.

    Raises:
        OSError: A file cannot be written, or the storage is lost.
    """
    with lost_storage(), without_warnings():
        while True:
            processes.fail_lost(study)
            taken = taken_steps(trials_of(study))
            if next_step(taken, work.count) is not None:
                _run_trial(study, processes, work)
            elif any(each.score is None for each in taken):
                time.sleep(PAUSE)
            else:
                return


def _run_trial(study: optuna.Study, processes: Processes, work: Work) -> None:
    """Takes the next step, if there still is one."""
    state, score = TrialState.FAIL, None
    # Another process has failed it, believing this one dead, and takes its step.
    with suppress(UpdateFinishedTrialError), processes.new_trial(study) as trial:
        try:
            step = _decide(study, trial, work)
            if step is not None:
                score = _try_network(study, trial, step, work)
                state = TrialState.PRUNED if score is None else TrialState.COMPLETE
        finally:
            study.tell(trial, score, state=state, skip_if_finished=True)


def _decide(study: optuna.Study, trial: optuna.Trial, work: Work) -> Step | None:
    """Decides what a trial is for, after all that were created before it.

    So no two take the same step, though nothing but the storage is shared. A process that died
    before it has decided keeps the others waiting for `GRACE` seconds.
    """
    began = time.monotonic()
    while True:
        earlier = [each for each in trials_of(study) if each.number < trial.number]
        undecided = [each for each in earlier if is_undecided(each)]
        if not undecided:
            break
        if time.monotonic() - began > GRACE:
            for each in undecided:
                study.tell(each.number, state=TrialState.FAIL, skip_if_finished=True)
        time.sleep(GLANCE)
    taken = taken_steps(earlier)
    step = next_step(taken, work.count)
    if step is None:
        return None
    trial.set_user_attr(STEP, asdict(step))
    # A seed for each network: what is drawn does not depend on which process draws it, and a
    # search that was killed goes on as if it had not been.
    study.sampler = TPESampler(seed=work.seed + step.network)
    proposed = [each.proposal for each in taken if each.step == Step(0, step.network)]
    if step.rung == 0 and step.network < len(FIRST):
        proposed = [FIRST[step.network].values]
    if proposed:
        study.sampler = PartialFixedSampler(dict(proposed[0]), study.sampler)
    return step


def _try_network(study: optuna.Study, trial: optuna.Trial, step: Step, work: Work) -> float | None:
    """Trains a network for a rung, and returns its mean score; None if there is no such network."""
    proposal, rung = suggested(trial), work.rungs[step.rung]
    trial.set_user_attr(PROPOSAL, proposal.values)
    try:
        candidate = work.make(proposal)
    except ValueError as error:
        trial.set_user_attr(REFUSED, str(error))
        work.report(f"network {step.network}: {error}")
        return None
    costs = asdict(candidate) | {"key": candidate.folder.name}
    del costs["folder"], costs["network"]
    trial.set_user_attr(CANDIDATE, costs)
    results = [work.train(candidate, rung.epochs, seed) for seed in rung.seeds]
    trial.set_user_attr(SCORES, [asdict(score) | {"rung": step.rung} for score in results])
    mean = sum(score.miou for score in results) / len(results)
    trial.report(mean, step.rung)
    work.report(
        f"network {step.network}: {candidate.arena:,} bytes, {candidate.macs:,} multiply-adds; "
        f"{rung.epochs} epochs, {len(results)} seeds: mIoU {mean:.4f}"
    )
    return mean
