"""`python -m training.export RUN`: an INT8 file of a finished run."""

import sys
from collections.abc import Sequence

from monitoring.command_line import Parser, not_negative, one_line
from training.export import OVERLAP, PLAIN, TOLERANCE, export_run, summary
from training.export.vela import ACCELERATORS


def parser() -> Parser:
    """Returns the command line's options."""
    options = Parser(
        prog="python -m training.export",
        description="Export a finished run to INT8, and run the file on the test split.",
        allow_abbrev=False,
    )
    options.add_argument("run", metavar="RUN", help="a run's folder")
    options.add_argument("--data", metavar="DIR", help="default: the run's own images")
    options.add_argument(
        "--export-tolerance",
        type=not_negative,
        default=TOLERANCE,
        metavar="POINTS",
        help="points of mIoU that may be lost (default: 1)",
    )
    options.add_argument("--header", action="store_true", help="write model_int8.h as well")
    options.add_argument(
        "--arena-plan",
        choices=(PLAIN, OVERLAP),
        default=PLAIN,
        help="overlap: outputs lie over inputs in the arena (default: plain)",
    )
    options.add_argument(
        "--vela",
        choices=ACCELERATORS,
        metavar="NPU",
        help="also estimate time and memory on an Arm NPU, such as ethos-u55-128",
    )
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports as the command line says; 0, 2 for an error, 3 for what is refused."""
    args = parser().parse_args(arguments)
    try:
        exported = export_run(
            args.run,
            data=args.data,
            tolerance=args.export_tolerance,
            header=args.header,
            arena_plan=args.arena_plan,
            vela=args.vela,
        )
    except (ValueError, OSError) as error:
        print(f"python -m training.export: error: {one_line(error)}", file=sys.stderr)
        return 2
    print(summary(exported))
    return 3 if exported.refused or exported.arena.refused else 0


if __name__ == "__main__":
    sys.exit(main())
