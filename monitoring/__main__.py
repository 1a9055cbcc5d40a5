"""`python -m monitoring advise RUN`: from a run's records to decisions."""

import argparse
import sys
from collections.abc import Sequence

from training import commands as decide
from training.analyze import analyze
from training.console import Parser, numbers, one_line
from training.projection_check import TOLERANCE

COMMANDS = {
    "advise": decide.advise,
    "analyze": analyze,
    "compare": decide.compare,
    "report": decide.report,
}
EXAMPLES = """\
examples:
  python -m monitoring advise runs/first
      a width for each stage, advice.json, and advised.yaml for train.py --config
  python -m monitoring advise runs/first --check
      the same, tried first on the run's own validation images
  python -m monitoring advise runs/first --macs 1500000
      widths that together stay under a budget
  python -m monitoring analyze model.keras --data DIR --layers conv_1,conv_2
      the same of any saved Keras model, on any folder of images
  python -m monitoring compare runs/first runs/second
      their networks, scores and channels in use, in one table and one page
  python -m monitoring report runs/first
      one HTML file of all of it
"""


def parser() -> argparse.ArgumentParser:
    """Returns the command line's options."""
    options = Parser(
        prog="python -m monitoring",
        description="Turn what a monitor has recorded into decisions.",
        epilog=EXAMPLES,
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
        "--port", type=int, default=8765, metavar="N", help="of --live (default: 8765; 0: any)"
    )
    return options


def _add_advise(commands) -> None:
    options = commands.add_parser("advise", help="a width for each stage", allow_abbrev=False)
    options.add_argument("run", metavar="RUN", help="a run's folder")
    _add_rule(options)
    options.add_argument("--parameters", type=_positive, metavar="N", help="budget: all weights")
    options.add_argument(
        "--macs", type=_positive, metavar="N", help="budget: multiply-adds an image"
    )
    options.add_argument(
        "--peak-ram",
        type=_positive,
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


def _add_analyze(commands) -> None:
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
        "--layers", type=_names, metavar="NAME,NAME", help="default: probes, else the output"
    )
    options.add_argument(
        "--import",
        dest="imports",
        action="append",
        default=[],
        metavar="MODULE",
        help="one that registers the model's own classes",
    )
    options.add_argument(
        "--preprocess",
        default="zoo",
        metavar="HOW",
        help="zoo (-1..1, default), none (0..255), or one of keras.applications",
    )
    options.add_argument(
        "--ignore-value",
        type=int,
        choices=range(256),
        metavar="N",
        help="grey value in masks, 0..255, that is not scored",
    )
    options.add_argument("--input-size", type=numbers, metavar="H,W", help="default: the model's")
    options.add_argument(
        "--data-format", choices=("channels_last", "channels_first"), help="default: last"
    )
    options.add_argument(
        "--max-positions", type=int, default=400, metavar="N", help="of an image (default: 400)"
    )
    options.add_argument("--output", metavar="DIR", help="default: MODEL-analysis beside it")
    _add_rule(options)


def _add_rule(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--rule",
        default="effective_rank",
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
        help="of mIoU that the advice may cost in the check (default: 1)",
    )


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a positive whole number. Received: {text!r}")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def main(arguments: Sequence[str] | None = None) -> int:
    """Does as the command line says, and returns the exit code."""
    args = parser().parse_args(arguments)
    try:
        COMMANDS[args.command](args)
    except (ValueError, OSError) as error:
        print(f"python -m monitoring {args.command}: error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\npython -m monitoring {args.command}: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
