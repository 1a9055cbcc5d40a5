"""`python -m monitoring advise RUN`: from a run's records to decisions."""

import argparse
import sys
from collections.abc import Sequence
from typing import Any

from .analysis.advice import DEFAULT_RULE
from .analysis.check import TOLERANCE
from .command_line import (
    Parser,
    mask_values,
    names,
    numbers,
    one_line,
    positive,
    printable,
    quiet_start,
)
from .optional import MissingPackageError
from .records.run_files import ADVICE, ADVISED, ANALYSIS, ARRAYS, MONITOR_CSV, MONITOR_JSONL, REPORT

IN_CHECKOUT = __package__ == "monitoring"  # elsewhere a `training` may be the user's own
EXAMPLES = """\
examples:
  python -m monitoring advise runs/first
      a width for each stage, advice.json, and advised.yaml for train.py --config
  python -m monitoring advise runs/first --check
      the same, but tried first on the run's own validation images
  python -m monitoring advise runs/first --macs 1500000
      widths that together stay under a budget
  python -m monitoring analyze model.keras --data DIR --layers conv_1,conv_2
      the same for any saved Keras model, on any folder of images
  python -m monitoring compare runs/first runs/second
      their networks, scores and channels in use, in one table and one page
  python -m monitoring report runs/first
      all of it in one HTML file
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's options."""
    options = Parser(
        prog=f"python -m {__package__}",
        description="Turn what a monitor has recorded into decisions.",
        epilog=EXAMPLES.replace("-m monitoring", f"-m {__package__}"),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = options.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_advise(commands)
    _add_analyze(commands)
    compare = commands.add_parser("compare", help="several runs side by side", allow_abbrev=False)
    compare.add_argument("runs", metavar="RUN", nargs="+", help="runs' folders")
    compare.add_argument(
        "--output", default="compare.html", metavar="FILE", help="default: compare.html"
    )
    report = commands.add_parser("report", help="report.html in a run's folder", allow_abbrev=False)
    report.add_argument("run", metavar="RUN", help="a run's folder")
    report.add_argument(
        "--live", action="store_true", help="serve it on this machine while the run goes on"
    )
    report.add_argument(
        "--port", type=int, default=8765, metavar="N", help="port of --live (default: 8765; 0: any)"
    )
    return options


def _add_advise(commands: Any) -> None:
    options = commands.add_parser("advise", help="a width for each stage", allow_abbrev=False)
    options.add_argument("run", metavar="RUN", help="a run's folder")
    _add_rule(options)
    options.add_argument("--parameters", type=positive, metavar="N", help="budget: all weights")
    options.add_argument(
        "--macs", type=positive, metavar="N", help="budget: multiply-adds per image"
    )
    options.add_argument(
        "--peak-ram",
        type=positive,
        metavar="BYTES",
        help="budget: activations at their peak in INT8",
    )
    options.add_argument(
        "--check",
        nargs="?",
        const="",
        metavar="DATA",
        help="try the advice on validation images: of DATA, or of the run's own data",
    )


def _add_analyze(commands: Any) -> None:
    options = commands.add_parser("analyze", help="any saved model", allow_abbrev=False)
    options.add_argument("model", metavar="MODEL.keras", help="loaded in safe mode")
    options.add_argument(
        "--data",
        required=True,
        metavar="DIR",
        help="a folder of images, or of {train,val,test}/img and, for mIoU, mask",
    )
    options.add_argument("--split", default="val", metavar="NAME", help="default: val")
    options.add_argument(
        "--layers", type=names, metavar="NAME,NAME", help="default: probes, else the output"
    )
    options.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module that registers the model's own classes",
    )
    options.add_argument(
        "--preprocess",
        default="zoo",
        metavar="HOW",
        help="zoo (-1..1, default), none (0..255), or a module of keras.applications",
    )
    options.add_argument(
        "--foreground",
        type=mask_values,
        metavar="V,V",
        help="values of the foreground in masks: greys, palette indices, or colours as #800000",
    )
    options.add_argument(
        "--ignore", type=mask_values, default=(), metavar="V,V", help="values that are not scored"
    )
    options.add_argument(
        "--alpha", choices=("mask", "ignore"), help="what the alpha channel of masks is"
    )
    options.add_argument("--input-size", type=numbers, metavar="H,W", help="default: the model's")
    options.add_argument(
        "--outputs",
        choices=("logits", "probabilities"),
        help="what a model of masks puts out (default: its last activation tells)",
    )
    options.add_argument(
        "--data-format", choices=("channels_last", "channels_first"), help="default: last"
    )
    options.add_argument(
        "--max-positions", type=int, default=400, metavar="N", help="per image (default: 400)"
    )
    options.add_argument("--output", metavar="DIR", help="default: MODEL-analysis beside it")
    _add_rule(options)


def _add_rule(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--rule",
        default=DEFAULT_RULE,
        metavar="NAME",
        help="effective_rank (default), participation_ratio or variance",
    )
    options.add_argument(
        "--multiple", type=int, default=4, metavar="N", help="round widths up to it (default: 4)"
    )
    options.add_argument(
        "--tolerance",
        type=float,
        default=TOLERANCE,
        metavar="POINTS",
        help="points of mIoU that the advice may cost in the check (default: 1)",
    )


def advise(args: argparse.Namespace) -> None:
    """Advises on a run, and prints the advice."""
    options = {"rule": args.rule, "multiple": args.multiple, "tolerance": args.tolerance}
    budget = {"parameters": args.parameters, "macs": args.macs, "peak_ram": args.peak_ram}
    if IN_CHECKOUT:
        advice = _training_commands().advise(args.run, check=args.check, **budget, **options)
    else:
        if args.check is not None or any(limit is not None for limit in budget.values()):
            raise ValueError(f"--check and budgets need {CHECKOUT}")
        from .report.advise import advise as advise_without_network

        advice = advise_without_network(args.run, **options)
    folder = advice.run.folder
    trainable = advice.costs is not None and (folder / ADVISED).is_file()
    print(advice)
    files = [ADVICE, REPORT, *([ADVISED] if trainable else [])]
    print(f"\nWritten in {printable(folder)}: {', '.join(files)}")
    if trainable:
        print(f"Train it: python train.py --config {printable(folder / ADVISED)}")


def analyze(args: argparse.Namespace) -> None:
    """Analyses a saved model, and prints the results."""
    if not IN_CHECKOUT:
        raise ValueError(f"analyze needs {CHECKOUT}")
    options = {name: value for name, value in vars(args).items() if name != "command"}
    model, data = options.pop("model"), options.pop("data")
    analysis = _training_commands().analyze(model, data, **options)
    files = (ANALYSIS, MONITOR_CSV, MONITOR_JSONL, ARRAYS, REPORT)
    print(analysis)
    print(f"\nWritten in {printable(analysis.output)}: {', '.join(files)}")


def compare(args: argparse.Namespace) -> None:
    """Prints runs side by side, and writes their page."""
    from .report.comparison_page import compare as compare_runs

    print(compare_runs(args.runs, args.output))
    print(f"Written: {printable(args.output)}")


def report(args: argparse.Namespace) -> None:
    """Writes a run's report, or serves it while the run goes on."""
    if not args.live:
        from .report.run_page import write_report

        print(f"Written: {printable(write_report(args.run))}")
        return
    from .report.live import report_server

    with report_server(args.run, args.port) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C stops it)", flush=True)
        server.serve_forever()


COMMANDS = {"advise": advise, "analyze": analyze, "compare": compare, "report": report}
CHECKOUT = "a checkout of probe-zoo: run `python -m monitoring` there"


def _training_commands() -> Any:
    """Returns what the application of this checkout does for the command line."""
    with quiet_start():
        from training import commands

    return commands


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns the exit code."""
    args = parser().parse_args(arguments)
    command = f"python -m {__package__} {args.command}"
    try:
        COMMANDS[args.command](args)
    except (ValueError, OSError, MissingPackageError) as error:
        print(f"{command}: error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{command}: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
