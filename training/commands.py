"""What `python -m monitoring` does with a run of the zoo: advice, tried and costed."""

import argparse
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from monitoring.analysis.advice import Candidate, Cost, WidthAdvice, fit_budget
from monitoring.analysis.advice import advise as advise_widths
from monitoring.analysis.comparison import compared, differences, table, write_comparison
from monitoring.analysis.projection import Check, Projected
from monitoring.records.files import whole_file
from monitoring.records.reading import RunFolder, read_run, read_snapshots
from monitoring.report.live import live_server
from monitoring.report.page import render, short, write_report
from training.projection_check import TOLERANCE, tried
from training.stages import Stages, stages_of, write_advised

REFRESH_SECONDS = 5  # of the live report
BUDGETS = {"parameters": "parameters", "macs": "macs", "peak_ram": "peak_activation_bytes"}


@dataclass(frozen=True)
class Advised:
    """Advice on a run, and what it rests on.

    Attributes:
        run: The run.
        stages: Which widths the probes stand for; None where it is no network of the zoo.
        advice: A width for each probe, within the budget.
        check: The projection check; None: not made.
        candidates: What was considered under a budget, the chosen one last.
    """

    run: RunFolder
    stages: Stages | None
    advice: Sequence[WidthAdvice]
    check: Check | None = None
    candidates: Sequence[Candidate] = ()

    @property
    def widths(self) -> dict[str, int]:
        """{probe: width} as advised."""
        return {one.probe: one.suggested for one in self.advice}

    @property
    def costs(self) -> tuple[Cost, Cost] | None:
        """Of the network as it is and as advised; None where nobody can build it."""
        if self.stages is None:
            return None
        return self.stages.cost(self.stages.now), self.stages.cost(self.widths)


def advise(args: argparse.Namespace) -> None:
    """Prints advice on a run, and writes advice.json, advised.yaml and report.html into it.

    Raises:
        ValueError: The run cannot be advised on, or no network fits the budget.
        OSError: The folder cannot be read or written.
    """
    found = _advised(args)
    folder = found.run.folder
    if args.tolerance != TOLERANCE and args.check is None:
        raise ValueError("--tolerance is that of the projection check: give --check as well.")
    result: dict = {"rule": args.rule, "multiple": args.multiple, "widths": found.widths}
    result["advice"] = [asdict(advice) for advice in found.advice]
    print(advice_table(found.advice))
    for note in found.run.notes:
        print(f"note: {note}")
    if found.check:
        rows = [row._asdict() for row in found.check.rows]
        result["check"] = found.check._asdict() | {"rows": rows}
        print(check_table(found.check))
    if found.candidates:
        result["candidates"] = [
            candidate._asdict() | {"cost": candidate.cost._asdict()}
            for candidate in found.candidates
        ]
        print(_candidates_table(found.candidates))
    if found.stages and found.costs:
        now, then = (cost._asdict() for cost in found.costs)
        result |= {"now": now, "advised": then | found.stages.arguments(found.widths)}
        print(_savings(*found.costs))
        write_advised(folder / "advised.yaml", found.stages, found.widths)
    else:
        print("No network of the zoo: what these widths save is not known.")
    with whole_file(folder / "advice.json") as draft:
        draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _write_report(found)
    names = ["advice.json", "report.html", *(["advised.yaml"] if found.stages else [])]
    print(f"\nWritten in {folder}: {', '.join(names)}")
    if found.stages:
        print(f"Train it: python train.py --config {folder / 'advised.yaml'}")


def report(args: argparse.Namespace) -> None:
    """Writes report.html into a run's folder, or serves it as the run goes on.

    Raises:
        ValueError: The run cannot be read.
        OSError: The folder cannot be read or written, or the port is taken.
    """
    if not args.live:
        print(f"Written: {report_on(args.run)}")
        return
    if not Path(args.run).is_dir():
        raise FileNotFoundError(f"Run folder {args.run} is not there.")

    def page() -> str:
        found = _found(args.run)
        snapshots = read_snapshots(found.run.folder)
        options = {"costs": found.costs, "check": found.check, "refresh": REFRESH_SECONDS}
        return render(found.run, snapshots, found.advice, **options)

    with live_server(page, args.port) as server:
        print(f"http://127.0.0.1:{server.server_port}/ (Ctrl-C ends it)", flush=True)
        server.serve_forever()


def compare(args: argparse.Namespace) -> None:
    """Prints several runs side by side, and writes them as one HTML file.

    Raises:
        ValueError: A run cannot be read.
        OSError: As `read_run`, or the file cannot be written.
    """

    def cost(run: RunFolder) -> Cost | None:
        stages = stages_of(run)
        return stages.cost(stages.now) if stages else None

    found = [read_run(folder) for folder in args.runs]
    if len(found) < 2:
        raise ValueError("Expected two runs or more. Received: 1")
    runs = [compared(run, cost) for run in found]
    for said in differences(runs):
        print(f"note: {said}")
    for run in found:
        for note in run.notes:
            print(f"note: {run.folder.name}: {note}")
    print(table(runs))
    write_comparison(runs, Path(args.output))
    print(f"Written: {args.output}")


def report_on(folder: str | Path) -> Path:
    """Writes a run's report, with what `advise` has found before, and returns the file."""
    return _write_report(_found(folder))


def _found(folder: str | Path) -> Advised:
    """Reads a run, and what `advise` has found before, or advises by default."""
    run = read_run(folder)
    stages = stages_of(run)
    path = run.folder / "advice.json"
    if not path.is_file():
        advice = advise_widths(run.records, cost=stages.cost if stages else None)
        return Advised(run, stages, advice)
    try:
        given = json.loads(path.read_text(encoding="utf-8"))
        check = given.get("check")
        if check is not None:
            check = Check(check["score"], check["whole"], [Projected(**r) for r in check["rows"]])
        advice = [WidthAdvice(**one) for one in given["advice"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(
            f"{path} is no advice of this version: run `advise` again ({error})"
        ) from None
    return Advised(run, stages, advice, check)


def _advised(args: argparse.Namespace) -> Advised:
    """Advises as the command line says."""
    run = read_run(args.run)
    stages = stages_of(run)
    cost = stages.cost if stages else None
    advice: Sequence[WidthAdvice]
    advice = advise_widths(run.records, multiple=args.multiple, rule=args.rule, cost=cost)
    candidates: Sequence[Candidate] = ()
    budget = {
        field: getattr(args, name)
        for name, field in BUDGETS.items()
        if getattr(args, name) is not None
    }
    if budget:
        if stages is None:
            raise ValueError("A budget needs a run of train.py: only the zoo's networks are built.")
        within = [one for one in advice if one.probe in stages.now]
        candidates = fit_budget(within, budget, stages.cost, multiple=args.multiple)
        chosen = candidates[-1].widths
        advice = [_within(one, chosen.get(one.probe, one.suggested), stages.cost) for one in advice]
    if args.check is None:
        return _with_earlier_check(Advised(run, stages, advice, candidates=candidates))
    # What a budget asks for is tried and shown; to keep a width would break the budget.
    tolerance = math.inf if budget else allowed(args) / 100
    advice, check = tried(run, stages, advice, args.check, tolerance)
    return Advised(run, stages, advice, check, candidates)


def allowed(args: argparse.Namespace) -> float:
    """Returns how many points the advice may cost in the check."""
    if not args.tolerance >= 0:
        raise ValueError(f"Expected --tolerance to be 0 or more points. Received: {args.tolerance}")
    return args.tolerance


def _with_earlier_check(found: Advised) -> Advised:
    """Returns the advice with the check that an earlier `advise` made of the same widths."""
    try:
        earlier = _found(found.run.folder)
    except ValueError:
        return found  # No advice of this version; it is written anew.
    if earlier.check is None:
        return found
    if earlier.widths == found.widths:
        return replace(found, check=earlier.check)
    note = "the projection check made before was of other widths and is left out; --check makes one"
    return replace(found, run=replace(found.run, notes=(*found.run.notes, note)))


def _within(one: WidthAdvice, width: int, cost: Callable[[Mapping[str, int]], Cost]) -> WidthAdvice:
    """Returns advice at the width that the budget leaves it."""
    if width == one.suggested:
        return one
    reason = f"{one.suggested} without the budget: {one.reason}"
    return replace(one, suggested=width, reason=reason, **cost({one.probe: width})._asdict())


def _write_report(found: Advised) -> Path:
    snapshots = read_snapshots(found.run.folder)
    return write_report(found.run, snapshots, found.advice, costs=found.costs, check=found.check)


def advice_table(advice: Sequence[WidthAdvice]) -> str:
    """Returns advice as text, a line a layer."""
    lines = []
    room = max([12, *(len(short(one.probe)) for one in advice)])
    for one in advice:
        name = short(one.probe)
        change = "keep" if one.keep else f"-> {one.suggested}"
        lines.append(f"{name:{room}} {one.channels:4} channels  {change:7}  {one.reason}")
    return "\n".join(lines)


def check_table(check: Check) -> str:
    """Returns the projection check as text."""
    room = max([12, *(len(short(row.probe)) for row in check.rows)])
    if not check.rows:
        return "\nProjection check: every width is kept, so there is nothing to try."
    lines = [
        "",
        f"Projection check: {check.score} {check.whole:.4f} as it is; with activations held to",
        f"{'':{room + 9}} {'directions':>10}  {'leading':>8}  {'lost':>6}  {'random':>8}",
    ]
    for row in check.rows:
        lines.append(
            f"{short(row.probe):{room}} {row.level:8} {row.directions:10}  "
            f"{row.principal:8.4f}  "
            f"{100 * row.lost:6.2f}  {row.random:8.4f}"
        )
    lines.append(f"(lost: points of {check.score} with the leading directions)")
    if max(check.whole - row.random for row in check.rows) < 0.001:
        lines.append("note: random directions lose nothing either, so this check says nothing")
    return "\n".join(lines)


def _candidates_table(considered: Sequence[Candidate]) -> str:
    lines = ["", "Considered under the budget, the chosen one last:"]
    for candidate in considered:
        widths = ", ".join(map(str, candidate.widths.values()))
        cost = candidate.cost
        said = candidate.over or "fits"
        lines.append(
            f"  {widths:20} {cost.parameters:9,} parameters {cost.macs:13,} multiply-adds  {said}"
        )
    return "\n".join(lines)


def _savings(now: Cost, then: Cost) -> str:
    names = {
        "parameters": "parameters",
        "macs": "multiply-adds",
        "peak_activation_bytes": "peak activation bytes, INT8",
    }
    parts = [""]
    for field, name in names.items():
        before, after = getattr(now, field), getattr(then, field)
        parts.append(f"{name:28} {before:13,} -> {after:13,}  ({after / before - 1:+.0%})")
    return "\n".join(parts)
