"""The trainings that a configuration asks for, prepared one after the other."""

from collections.abc import Iterator
from pathlib import Path

from models.cost import model_cost
from monitoring import NASMonitorCallback
from monitoring.records.run_files import NARROWED, run_file_in
from training.rounds import earlier_rounds, round_folder
from training.run import Run, check, prepare
from training.run_folder import claim, has_finished, not_writable, write_missing_config
from training.settings import Config
from training.split import Splits


def prepared_runs(
    config: Config,
    nas_callback: NASMonitorCallback | None = None,
    *,
    resume: bool = False,
    splits: Splits | None = None,
    verbose: int = 0,
) -> Iterator[Run]:
    """Yields the trainings of a configuration; each must have ended before the next is asked for.

    A network that is narrowed in several rounds has one for each, of which those that have
    finished are left out. Everything else has one. The last is the run itself.

    Args:
        config: The configuration, every key set.
        nas_callback: A monitor for the run itself, to use as it is. Defaults to None: the
            configuration's.
        resume: As for `prepare`. Defaults to False.
        splits: As for `prepare`. Defaults to None.
        verbose: As for `prepare`. Defaults to 0.

    Raises:
        ValueError: As for `train`.
        OSError: As for `train`.
    """
    if config.narrow.rounds > 1:
        config, splits, earlier = _begin(config, resume=resume, splits=splits)
        resume = True
        for number, each in enumerate(earlier, start=1):
            folder = Path(str(each.output.folder))
            if not has_finished(folder):
                if verbose:
                    print(f"Round {number} of {config.narrow.rounds}:", flush=True)
                yield prepare(each, resume=True, splits=splits, verbose=verbose)
        if verbose:
            print(f"Round {config.narrow.rounds} of {config.narrow.rounds}:", flush=True)
    yield prepare(config, nas_callback, resume=resume, splits=splits, verbose=verbose)


def _begin(
    config: Config, *, resume: bool, splits: Splits | None
) -> tuple[Config, Splits, list[Config]]:
    """Checks a run that narrows in rounds, and claims its folder.

    Returns:
        The configuration with the folder as its output, its images, and the configurations of
        all rounds but the last that are still needed.
    """
    network, _, splits = check(config, resume=resume, splits=splits)
    if not resume and config.output.folder is not None:
        _check_new(Path(config.output.folder), config.narrow.rounds)
    folder = claim(config, resume=resume)
    try:
        write_missing_config(folder, config)  # a run that is killed from here on can be resumed
    except OSError as error:
        raise not_writable(folder, error) from error
    config = config.model_copy(
        update={"output": config.output.model_copy(update={"folder": str(folder)})}
    )
    if (folder / NARROWED).is_file():
        return config, splits, []
    return config, splits, earlier_rounds(config, model_cost(network.model), folder)


def _check_new(folder: Path, rounds: int) -> None:
    """Raises a ValueError if a folder of a round holds another run."""
    for number in range(1, rounds):
        name = run_file_in(round_folder(folder, number))
        if name is not None:
            raise ValueError(
                f"Output folder {folder} holds another run, in {round_folder(folder, number).name} "
                f"({name}). Choose another folder."
            )
