"""`python -m monitoring advise RUN`: from a run's records to decisions."""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .command_line import one_line, printable, quiet_start
from .optional import MissingPackageError
from .options import parser
from .records.run_files import (
    ADVICE,
    ADVISED,
    ANALYSIS,
    ARRAYS,
    MODEL,
    MONITOR_CSV,
    MONITOR_JSONL,
    REPORT,
)

if TYPE_CHECKING:
    from .analysis.ladder import Ladder

IN_CHECKOUT = __package__ == "monitoring"  # elsewhere a `training` may be the user's own


def advise(args: argparse.Namespace) -> None:
    """Advises on a run, and prints the advice."""
    options = {"rule": args.rule, "multiple": args.multiple}
    budget = {"parameters": args.parameters, "macs": args.macs, "peak_ram": args.peak_ram}
    if IN_CHECKOUT:
        cuts = {"cut": args.cut, "ladder": args.ladder, "verbose": 1}
        advice = _training_commands().advise(args.run, **budget, **cuts, **options)
    else:
        if any(value is not None for value in (args.cut, args.ladder, *budget.values())):
            raise ValueError(f"--cut, --ladder and budgets need {CHECKOUT}")
        from .report.advise import advise as advise_without_network

        advice = advise_without_network(args.run, **options)
    folder = advice.run.folder
    trainable = advice.costs is not None and (folder / ADVISED).is_file()
    print(advice)
    files = [ADVICE, REPORT, *([ADVISED] if trainable else [])]
    print(f"\nWritten in {printable(folder)}: {', '.join(files)}")
    if trainable:
        print(f"Train it: python train.py --config {printable(folder / ADVISED)}")
    if IN_CHECKOUT and (folder / MODEL).is_file():
        print(next_step(printable(folder), advice.ladder))


def next_step(run: str, ladder: "Ladder | None") -> str:
    """Returns the command that measures more or, where that is done, cuts the network."""
    if ladder is None:
        return f"Measure what cutting it costs: python -m monitoring advise {run} --cut"
    if not ladder.rungs:
        return "It was not cut: the note above says why."
    if ladder.nearest is None:
        return "No budget leaves it within a point of its score before training."
    return f"Cut and fine-tune it: python train.py --narrow {run} --macs {ladder.nearest.budget}"


def analyze(args: argparse.Namespace) -> None:
    """Analyses a saved model, and prints the results."""
    if not IN_CHECKOUT:
        raise ValueError(f"analyze needs {CHECKOUT}")
    options = {name: value for name, value in vars(args).items() if name != "command"}
    model, data = options.pop("model"), options.pop("data")
    analysis = _training_commands().analyze(model, data, verbose=1, **options)
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
