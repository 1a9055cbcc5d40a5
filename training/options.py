"""The options of `python train.py`. Nothing heavy is imported."""

import argparse

from monitoring.command_line import Parser

EXAMPLES = """\
examples:
  python train.py --pipeline --probes encoder,bottleneck --output runs/all
      from nothing to an INT8 file: teacher, distilled student, export, one report
  python train.py --pipeline --macs 2.4M --output runs/all
      the same, and the teacher is also narrowed to that budget
  python train.py --model bu_net --probes encoder,bottleneck
      train on scenes that the project draws itself, and watch the probes
  python train.py --model nano_u --epochs 50 --enable-nas-monitoring
      the same as --probes encoder,bottleneck
  python train.py --model nano_u --probes encoder --no-nas-monitoring
      build the probes, but measure nothing
  python train.py --narrow runs/wide --macs 2.4M --output runs/narrow
      cut channels out of a trained network until it costs that much, and fine-tune
  python train.py --search --arena 128k --arena-plan overlap --output runs/search
      try networks that fit into 128 KB, and export the best
  python train.py --data DIR --folds 5 --groups prefix --output runs/folds
      cross-validation in which the frames of a video stay together
  python train.py --config configs/recipe_nano_u.yaml --data DIR
      DIR holds {train,val,test}/{img,mask}/NAME.{png,jpg}
"""


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
    options.add_argument(
        "--weights", metavar="NAME", help="weights to begin with: scenes (default: random)"
    )
    options.add_argument("--data", metavar="DIR", help="images and masks (default: drawn scenes)")
    options.add_argument(
        "--split",
        metavar="VAL,TEST",
        help="shares of the images to draw where --data has no val or test: 0.15,0.15",
    )
    options.add_argument(
        "--groups",
        metavar="HOW",
        help="images of a group stay in one split: prefix (names without their last digits), a "
        "number of characters, or a file of lines name,group",
    )
    options.add_argument(
        "--folds",
        type=int,
        metavar="N",
        help="cross-validation over all images of --data: N trainings, mean and spread; resumes "
        "what --output holds",
    )
    options.add_argument(
        "--classes",
        metavar="N",
        help="how many classes the masks have, or their names: terrain,path,obstacle (default: 1, "
        "foreground and background)",
    )
    options.add_argument("--config", metavar="FILE", help="YAML; command-line options override it")
    options.add_argument("--epochs", type=int, metavar="N", help="passes through the images")
    options.add_argument(
        "--loss",
        metavar="NAME",
        help="cross_entropy (bce), dice, focal, tversky, or a sum: bce+dice (default: bce)",
    )
    options.add_argument("--batch-size", type=int, metavar="N", help="images per step")
    options.add_argument(
        "--distill-from",
        metavar="TEACHER",
        help="a run's folder or a .keras file; the student learns from its outputs, too",
    )
    _add_narrowing(options)
    options.add_argument(
        "--quantization-aware",
        action="store_true",
        default=None,
        help="train nano_u with INT8 rounding; with --pipeline: as a second student",
    )
    options.add_argument(
        "--pipeline",
        action="store_true",
        help="teacher, distilled student, with a budget also the narrowed teacher, INT8 and a "
        "report; resumes what --output holds",
    )
    options.add_argument(
        "--search",
        action="store_true",
        help="find the best network within --arena, --macs and --parameters; resumes what --output "
        "holds",
    )
    options.add_argument(
        "--trials", type=int, metavar="N", help="of --search: networks that are tried (default: 16)"
    )
    options.add_argument(
        "--storage",
        metavar="URL",
        help="of --search: Optuna's, which several machines can share (default: a file)",
    )
    options.add_argument(
        "--workers", type=int, metavar="N", help="of --search: processes here (default: 1)"
    )
    options.add_argument(
        "--export",
        choices=("int8",),
        help="write and check model_int8.tflite for a microcontroller",
    )
    options.add_argument(
        "--export-tolerance",
        type=float,
        metavar="POINTS",
        help="points of mIoU that it may lose (default: 1)",
    )
    options.add_argument(
        "--header",
        action="store_true",
        default=None,
        help="write model_int8.h as well, for firmware",
    )
    options.add_argument(
        "--arena-plan",
        choices=("plain", "overlap"),
        help="overlap: outputs lie over inputs in the device's memory (default: plain)",
    )
    options.add_argument(
        "--vela",
        metavar="NPU",
        help="also estimate the INT8 file's time and memory on an Arm NPU: ethos-u55-128",
    )
    options.add_argument(
        "--output", metavar="DIR", help="results (default: runs/<model>-<date>-<time>)"
    )
    options.add_argument(
        "--resume",
        metavar="RUN",
        help="resume a run that was stopped, with its own settings; excludes other options",
    )
    options.add_argument("--seed", type=int, metavar="N", help="the same seed gives the same run")
    return options


def _add_narrowing(options: argparse.ArgumentParser) -> None:
    options.add_argument(
        "--narrow",
        metavar="PARENT",
        help="a run's folder or a .keras file, to be cut down to a budget and fine-tuned",
    )
    options.add_argument(
        "--macs",
        metavar="N",
        help="budget of --narrow or --pipeline: multiply-adds, such as 2.4M",
    )
    options.add_argument("--parameters", metavar="N", help="budget: all weights")
    options.add_argument(
        "--peak-ram",
        metavar="BYTES",
        help="budget: activations at their peak in INT8; 40k is 40,960",
    )
    options.add_argument(
        "--arena",
        metavar="BYTES",
        help="budget: memory of the INT8 file (--export int8), with its --arena-plan",
    )
    options.add_argument(
        "--rounds",
        type=int,
        metavar="N",
        help="with a budget: cut and fine-tune N times, which share the epochs (default: 1)",
    )
    options.add_argument(
        "--multiple",
        type=int,
        metavar="N",
        help="with a budget: widths are multiples of N (default: 1)",
    )
    options.add_argument(
        "--teacher",
        action="store_true",
        default=None,
        help="with a budget: learn from the parent's outputs, too",
    )
