"""The options of `python -m monitoring`."""

import argparse
from functools import partial
from typing import Any

from .analysis.advice import DEFAULT_RULE
from .command_line import Parser, budget, fractions, mask_values, names, numbers

EXAMPLES = """\
examples:
  python -m monitoring advise runs/first
      a width for each stage, advice.json, and advised.yaml for train.py --config
  python -m monitoring advise runs/first --cut
      the same, and what is left of the score when the trained network is cut (minutes)
  python -m monitoring advise runs/first --macs 1.5M
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
    options.add_argument("--parameters", type=budget, metavar="N", help="budget: all weights")
    options.add_argument(
        "--macs", type=budget, metavar="N", help="budget: multiply-adds per image, such as 2.4M"
    )
    options.add_argument(
        "--peak-ram",
        type=partial(budget, thousand=1024),
        metavar="BYTES",
        help="budget: activations at their peak in INT8",
    )
    options.add_argument(
        "--cut",
        nargs="?",
        const="",
        metavar="DATA",
        help="cut the trained network to a ladder of budgets, and score it on validation images: "
        "of DATA, or of the run's own data",
    )
    _add_ladder(options)


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
        "--classes", metavar="N", help="how many classes masks have, or their names: path,sky"
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
    options.add_argument(
        "--cut",
        action="store_true",
        help="cut the model to a ladder of budgets on every second image, and score it on the "
        "others: mIoU, or agreement with its outputs",
    )
    _add_ladder(options)


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


def _add_ladder(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--ladder",
        type=fractions,
        metavar="SHARE,SHARE",
        help="budgets of --cut, as shares of the multiply-adds (default: 0.75,0.5,0.35,0.25,0.125)",
    )
