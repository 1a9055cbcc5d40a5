"""The command line of the zoo. Nothing heavy is imported until it is needed."""

import argparse
import sys
from collections.abc import Sequence

from training.console import Parser, one_line, quiet_start

EXAMPLES = """\
examples:
  python train.py --pipeline --probes encoder,bottleneck --output runs/all
      from nothing to an INT8 file: teacher, distilled student, export, one report
  python train.py --model bu_net --probes encoder,bottleneck
      train on scenes that the project draws itself, and watch the probes
  python train.py --model nano_u --epochs 50 --enable-nas-monitoring
      the same as --probes encoder,bottleneck
  python train.py --model nano_u --probes encoder --no-nas-monitoring
      build the probes, but measure nothing
  python train.py --config configs/recipe_nano_u.yaml --data DIR
      DIR holds {train,val,test}/{img,mask}/NAME.{png,jpg}
"""


def train(*args, **options):
    """Trains a network of the zoo: see `training.fit.train`, which this calls."""
    from training.fit import train as fit_train

    return fit_train(*args, **options)


def parser() -> argparse.ArgumentParser:
    """Returns the command line's options."""
    options = Parser(
        prog="train.py",
        description="Train a small segmentation network, and see what its channels do.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    options.add_argument("--model", metavar="NAME", help="nano_u (default) or bu_net")
    options.add_argument(
        "--probes",
        metavar="GROUPS",
        help="comma-separated: encoder, bottleneck, decoder; turns monitoring on",
    )
    monitoring = options.add_mutually_exclusive_group()
    monitoring.add_argument(
        "--enable-nas-monitoring",
        "--enable-nas",
        dest="monitoring",
        action="store_true",
        default=None,
        help="measure the probes' channels every epoch; without --probes: encoder,bottleneck",
    )
    monitoring.add_argument(
        "--no-nas-monitoring",
        dest="monitoring",
        action="store_false",
        help="build probes, measure nothing",
    )
    options.add_argument("--data", metavar="DIR", help="images and masks (default: drawn scenes)")
    options.add_argument("--config", metavar="FILE", help="YAML; options here beat it")
    options.add_argument("--epochs", type=int, metavar="N", help="times through the images")
    options.add_argument("--batch-size", type=int, metavar="N", help="images a step")
    options.add_argument(
        "--distill-from",
        metavar="TEACHER",
        help="a run's folder or a .keras file, whose answers are taught beside the masks",
    )
    options.add_argument(
        "--quantization-aware",
        action="store_true",
        default=None,
        help="train nano_u with the rounding of INT8; with --pipeline: one more student",
    )
    options.add_argument(
        "--pipeline",
        action="store_true",
        help="teacher, distilled student, INT8 and a report; goes on where --output was stopped",
    )
    options.add_argument(
        "--export", choices=("int8",), help="model_int8.tflite for a microcontroller, checked"
    )
    options.add_argument(
        "--export-tolerance", type=float, metavar="POINTS", help="of mIoU it may lose (default: 1)"
    )
    options.add_argument(
        "--header", action="store_true", default=None, help="model_int8.h as well, for firmware"
    )
    options.add_argument(
        "--output", metavar="DIR", help="results (default: runs/<model>-<date>-<time>)"
    )
    options.add_argument(
        "--resume",
        metavar="RUN",
        help="go on with a run that was stopped, with its own settings; no other option",
    )
    options.add_argument("--seed", type=int, metavar="N", help="the same seed, the same run")
    return options


def overrides(args: argparse.Namespace) -> dict[str, dict]:
    """Returns {section: {key: value}} of what was given on the command line."""
    probes = None
    if args.probes is not None:
        probes = tuple(name.strip() for name in args.probes.split(","))
    monitoring = args.monitoring
    if monitoring is None and probes is not None:
        monitoring = True
    values = {
        "model": {"name": args.model, "probes": probes},
        "data": {"root": args.data},
        "training": {
            **{"epochs": args.epochs, "batch_size": args.batch_size, "seed": args.seed},
            "quantization_aware": args.quantization_aware,
        },
        "distillation": {"teacher": args.distill_from},
        "nas": {"enabled": monitoring},
        "export": {
            "format": args.export,
            "tolerance": args.export_tolerance,
            "header": args.header,
        },
        "output": {"folder": args.output},
    }
    given = {
        section: {key: value for key, value in keys.items() if value is not None}
        for section, keys in values.items()
    }
    if probes is not None:
        given["nas"]["probe_layers"] = None  # a file's would watch something else
    return given


def pipeline(args: argparse.Namespace) -> int:
    """Goes the whole way, and returns the exit code."""
    with quiet_start():
        from training.pipeline import run_pipeline
    try:
        folder = run_pipeline(args.config, overrides(args), verbose=1 if sys.stdout.isatty() else 2)
    except KeyboardInterrupt:
        print("\ntrain.py: stopped; the same command with --output goes on", file=sys.stderr)
        return 130
    return 3 if any(folder.glob("*/model_int8.refused.tflite")) else 0


def prepared(args: argparse.Namespace):
    """Returns the run that the command line asks for; None where it has finished before."""
    with quiet_start():
        from training.config import read_config

    if args.resume is None:
        config = read_config(args.config, overrides(args))
        if config.export.format is None and (args.header or args.export_tolerance is not None):
            raise ValueError("--header and --export-tolerance need --export int8")
        with quiet_start():
            from training.run import prepare
        return prepare(config)
    given = vars(args) != vars(parser().parse_args(["--resume", args.resume]))
    if given:
        raise ValueError("--resume takes no other option: the run goes on with its own settings")
    with quiet_start():
        from training.run import prepare, read_resumed
    found = read_resumed(args.resume)
    return None if found is None else prepare(found, resume=True)


def trained(run) -> int:
    """Trains a run that is prepared, and returns the exit code."""
    from monitoring.records.files import DamagedFileError
    from training.fit import fit

    try:
        # A bar for people, a line an epoch for files.
        fit(run, verbose=1 if sys.stdout.isatty() else 2)
    except DamagedFileError as error:
        print(f"train.py: error: {one_line(error)}", file=sys.stderr)
        return 2
    if (run.folder / "model_int8.refused.tflite").exists():
        print("train.py: the INT8 file is refused; the network is trained", file=sys.stderr)
        return 3
    if run.missing:
        print(f"train.py: error: not written: {'; '.join(run.missing)}", file=sys.stderr)
        return 1
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Trains as the command line says, and returns the exit code."""
    args = parser().parse_args(arguments)
    written = "nothing was written"
    try:
        try:
            if args.pipeline and args.resume is None:
                return pipeline(args)
            run = prepared(args)
        except (ValueError, OSError) as error:
            print(f"train.py: error: {one_line(error)}", file=sys.stderr)
            return 2
        if run is None:
            print(f"{args.resume} has finished: nothing is left to do")
            return 0
        written = f"what was written is in {run.folder}; --resume goes on with it"
        return trained(run)
    except OSError as error:
        print(f"train.py: error: {one_line(error)}; {written}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\ntrain.py: stopped; {written}", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
