"""`python -m training COMMAND`: what the application does beside training."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from monitoring.command_line import Parser, one_line, printable, quiet_start
from monitoring.optional import MissingPackageError
from training.nano_u_names import BU_NET, NANO_U
from training.prediction_commands import (
    add_evaluate_options,
    add_predict_options,
    evaluate,
    predict,
)


class Command(NamedTuple):
    """A command: its line in the list of commands, its options, and what it does with them."""

    summary: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[..., None]


def add_config_options(options: argparse.ArgumentParser) -> None:
    """Adds the options of `import-config`."""
    options.add_argument("file", metavar="FILE", help="config.yaml of Nano-U")
    options.add_argument(
        "--model",
        choices=(NANO_U, BU_NET),
        default=NANO_U,
        help="whose settings to translate (default: nano_u)",
    )
    options.add_argument(
        "--output", metavar="NEW.yaml", help="the configuration (default: the console)"
    )


def import_config(file: str, model: str = NANO_U, output: str | None = None) -> None:
    """Translates a configuration of Nano-U, and prints what became of each key."""
    with quiet_start():
        from training.nano_u_config import read_translated, to_yaml
    translation = read_translated(file, model)
    text = to_yaml(translation, file)
    # Without --output, standard output is the configuration alone.
    console = sys.stdout if output else sys.stderr
    if output:
        write_new(output, lambda draft: draft.write_text(text, encoding="utf-8"))
    else:
        print(text, end="", flush=True)
    print(printable(translation), file=console)
    if "root" not in translation.config.get("data", {}):
        print("No folder of images: give --data DIR, or drawn scenes are used", file=console)
    if output:
        print(f"Written: {printable(output)}")
        print(f"Train it: python train.py --config {printable(output)}")


def add_weights_options(options: argparse.ArgumentParser) -> None:
    """Adds the options of `import-weights`."""
    options.add_argument("file", metavar="FILE.h5", help="weights or model of Nano-U's nano_u")
    options.add_argument("--output", required=True, metavar="MODEL.keras", help="the network")
    options.add_argument(
        "--size",
        nargs=2,
        type=int,
        metavar=("HEIGHT", "WIDTH"),
        help="of images (default: as in FILE, or 60 80)",
    )


def import_weights(file: str, output: str, size: Sequence[int] | None = None) -> None:
    """Saves Nano_U with weights of Nano-U."""
    if not output.endswith(".keras"):
        raise ValueError(f"--output: expected a name that ends in .keras. Received: {output}")
    with quiet_start():
        from training.nano_u_weights import import_weights as imported_network
    pixels = None if size is None else (size[0], size[1])
    network, ranges = imported_network(file, input_size=pixels)
    write_new(output, network.save)
    print(f"{network.count_params():,} parameters, all of {printable(file)}")
    if ranges:
        print(
            f"Left out: {len(ranges)} ranges and counters of quantisation-aware training; the "
            "network computes what the file's does without rounding"
        )
    print("It expects images in -1..1: a mean and std of 0.5 in Nano-U's config.yaml")
    print(f"Written: {printable(output)}")


def write_new(path: str, write: Callable[[Path], object]) -> None:
    """Writes a file whole or not at all, unless there is one.

    Raises:
        ValueError: There is a file already.
    """
    from monitoring.records.files import whole_file
    from monitoring.records.run_files import expanded

    target = expanded(path)
    if target.exists():
        raise ValueError(f"--output: {path} exists already; choose another name")
    with whole_file(target) as draft:
        write(draft)


COMMANDS = {
    "import-config": Command("Nano-U's config.yaml", add_config_options, import_config),
    "import-weights": Command("Nano-U's .h5 weights", add_weights_options, import_weights),
    "predict": Command("masks for images", add_predict_options, predict),
    "evaluate": Command("scores on images with masks", add_evaluate_options, evaluate),
}


def parser() -> argparse.ArgumentParser:
    """Returns the command line's options."""
    options = Parser(
        prog="python -m training",
        description="What the application does beside training; to train, see train.py.",
        allow_abbrev=False,
    )
    commands = options.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        summary = command.summary
        command.add_options(commands.add_parser(name, help=summary, allow_abbrev=False))
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line, and returns the exit code."""
    options = vars(parser().parse_args(arguments))
    name = options.pop("command")
    command = f"python -m training {name}"
    try:
        COMMANDS[name].run(**options)
    except (ValueError, OSError, MissingPackageError) as error:
        print(f"{command}: error: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{command}: stopped", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
