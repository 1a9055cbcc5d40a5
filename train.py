"""The command line of the application. Nothing heavy is imported until it is needed."""

import argparse
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from monitoring.command_line import one_line, printable, quiet_start
from monitoring.optional import MissingPackageError
from training.options import parser


def train(*args, **options):
    """Trains a network of the zoo; see `training.train_function.train`."""
    from training.train_function import train

    return train(*args, **options)


class UsageError(Exception):
    """The user's input cannot be used; the message says why."""


@contextmanager
def user_input() -> Iterator[None]:
    """Turns an error from reading the user's input into a `UsageError`.

    Trainings run outside of it: a ValueError there is a defect of ours, and keeps its traceback.
    """
    try:
        yield
    except (ValueError, OSError, MissingPackageError) as error:
        raise UsageError(one_line(error)) from error


def overrides(args: argparse.Namespace) -> dict[str, dict]:
    """Returns {section: {key: value}} of the options on the command line."""
    probes = None
    if args.probes is not None:
        probes = tuple(name.strip() for name in args.probes.split(","))
    monitoring = args.monitoring
    if monitoring is None and probes is not None:
        monitoring = True
    values = {
        "model": {"name": args.model, "probes": probes, "weights": args.weights},
        "data": {"root": args.data, "classes": args.classes, "split": split_settings(args)},
        "training": {
            **{"epochs": args.epochs, "batch_size": args.batch_size, "seed": args.seed},
            **{"quantization_aware": args.quantization_aware, "loss": args.loss},
        },
        "distillation": {"teacher": args.distill_from},
        "narrow": {
            **{"parent": args.narrow, "macs": args.macs, "parameters": args.parameters},
            **{"peak_ram": args.peak_ram, "arena": args.arena, "teacher": args.teacher},
            **{"rounds": args.rounds, "multiple": args.multiple},
        },
        "search": {"trials": args.trials, "storage": args.storage, "workers": args.workers},
        "nas": {"enabled": monitoring},
        "export": {
            "format": args.export,
            "tolerance": args.export_tolerance,
            "header": args.header,
            "arena_plan": args.arena_plan,
            "vela": args.vela,
        },
        "output": {"folder": args.output},
    }
    chosen: dict[str, dict] = {
        section: {key: value for key, value in keys.items() if value is not None}
        for section, keys in values.items()
    }
    if probes is not None:
        chosen["nas"]["probe_layers"] = None  # those of a file would be other layers
    return chosen


def split_settings(args: argparse.Namespace) -> dict | None:
    """Returns section `data.split` of the options on the command line; None without any.

    Raises:
        ValueError: --split is not two numbers.
    """
    settings: dict = {}
    if args.split is not None:
        shares = args.split.split(",")
        if len(shares) != 2:
            raise ValueError(
                "--split: expected two shares, for val and test, such as 0.15,0.15. Received: "
                f"{args.split}"
            )
        settings["val"], settings["test"] = shares
    if args.groups is not None:
        settings["groups"] = args.groups
    if args.folds is not None:
        settings["folds"] = args.folds
    return settings or None


def run_pipeline(args: argparse.Namespace, verbose: int) -> int:
    """Runs the whole pipeline, and returns the exit code."""
    with user_input():
        with quiet_start():
            from training.pipeline import prepare_pipeline
        pipeline = prepare_pipeline(args.config, overrides(args))
    for step in pipeline.steps:
        for run in in_turn(pipeline.runs(step, verbose=verbose)):
            pipeline.train(run, verbose=verbose)
    pipeline.report(verbose=verbose)
    return 3 if pipeline.is_refused() else 0


def run_folds(args: argparse.Namespace, verbose: int) -> int:
    """Trains all folds of a cross-validation, and returns the exit code."""
    with user_input():
        with quiet_start():
            from training.folds import prepare_folds
        folds = prepare_folds(args.config, overrides(args))
    codes = [run_training(run, verbose) for run in in_turn(folds.runs(verbose=verbose))]
    folds.report(verbose=verbose)
    return max(codes, default=0)


def run_search(args: argparse.Namespace, arguments: Sequence[str]) -> int:
    """Runs a search to its end, and returns the exit code."""
    if importlib.util.find_spec("optuna") is None:
        raise UsageError("--search needs optuna: pip install '.[search]'")
    with user_input():
        with quiet_start():
            from training.search import search as searching
            from training.search.prepared_search import prepare_search
        search, fitting = prepare_search(args.config, overrides(args))
    searching.run_search(search, fitting, [sys.executable, __file__, *arguments])
    with user_input():
        return 3 if searching.finish_search(search) else 0


def prepare_runs(args: argparse.Namespace, verbose: int) -> Iterator:
    """Returns the trainings that the command line asks for; none if they have finished before."""
    with quiet_start():
        from training.config import read_config

    if args.resume is None:
        config = read_config(args.config, overrides(args))
        export_options = (args.header, args.export_tolerance, args.arena_plan, args.vela)
        if config.export.format is None and any(value is not None for value in export_options):
            raise ValueError(
                "--header, --export-tolerance, --arena-plan and --vela need --export int8"
            )
        with quiet_start():
            from training.prepared import prepared_runs
        return prepared_runs(config, verbose=verbose)
    if vars(args) != vars(parser().parse_args(["--resume", args.resume])):
        raise ValueError("--resume takes no other option: the run uses its own settings")
    with quiet_start():
        from training.prepared import prepared_runs
        from training.run_folder import read_resumed
    resumed = read_resumed(args.resume)
    return iter(()) if resumed is None else prepared_runs(resumed, resume=True, verbose=verbose)


def in_turn(runs: Iterator) -> Iterator:
    """Yields runs; an error from preparing one comes from the user's input."""
    while True:
        with user_input():
            run = next(runs, None)
        if run is None:
            return
        yield run


def run_training(run, verbose: int) -> int:
    """Trains a run that is prepared, and returns the exit code."""
    from training.fit import fit

    fit(run, verbose=verbose)
    if run.is_refused():
        print("train.py: the INT8 file is refused; the network is trained", file=sys.stderr)
        return 3
    if run.missing:
        print(f"train.py: error: not written: {'; '.join(run.missing)}", file=sys.stderr)
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the command line says, and returns the exit code."""
    args = parser().parse_args(arguments)
    verbose = 1 if sys.stdout.isatty() else 2  # a bar for people, lines for files
    remains = "nothing was written"
    if args.narrow is not None:
        remains = "if the folder of the run is there, --resume continues it"
    try:
        if args.folds is not None and (args.pipeline or args.search):
            raise UsageError("--folds cannot be combined with --pipeline or --search")
        if args.pipeline and args.resume is None:
            remains = "the same command with --output resumes it"
            return run_pipeline(args, verbose)
        if args.folds is not None and args.resume is None:
            remains = "the same command with --output resumes it"
            return run_folds(args, verbose)
        if args.search and args.resume is None:
            remains = "the same command with --output goes on with it"
            return run_search(args, sys.argv[1:] if arguments is None else arguments)
        with user_input():
            runs = prepare_runs(args, verbose)
        codes = []
        for run in in_turn(runs):
            folder = printable(run.folder)
            remains = f"what was written is in {folder}; --resume continues it"
            codes.append(run_training(run, verbose))
        if not codes:
            print(f"{printable(args.resume)} has finished: nothing is left to do")
        return max(codes, default=0)
    except UsageError as error:
        return fail(str(error), 2)
    except KeyboardInterrupt:
        print(f"\ntrain.py: stopped; {remains}", file=sys.stderr)
        return 130
    except OSError as error:
        return fail(f"{one_line(error)}; {remains}", 1)
    except ValueError as error:
        from monitoring.records.files import DamagedFileError

        if not isinstance(error, DamagedFileError):
            raise
        return fail(one_line(error), 2)


def fail(message: str, code: int) -> int:
    """Prints an error in one line, and returns the exit code."""
    print(f"train.py: error: {message}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
