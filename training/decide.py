"""What `python -m monitoring` does with a run of the zoo: advice, tried and costed."""

import argparse
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import keras

from models import MODELS
from models.cost import model_cost
from monitoring.advice import Candidate, Cost, WidthAdvice, fit_budget
from monitoring.advice import advise as advise_widths
from monitoring.compare import compared, differences, table, write_comparison
from monitoring.files import whole_file
from monitoring.projection import Check, Projected, projection_check
from monitoring.report import write_report
from monitoring.runs import RunFolder, read_run, read_snapshots
from monitoring.taps import ImagesTap
from monitoring.watched import Watched
from training.config import Config, validate
from training.data import Split, draw_images, read_splits
from training.evaluate import evaluate, predict
from training.synthetic import synthetic_splits

CHECK_IMAGES = 128  # of the training split, whose principal directions are taken
BUDGETS = {"parameters": "parameters", "macs": "macs", "peak_ram": "peak_activation_bytes"}


@dataclass(frozen=True)
class Advised:
    """Advice on a run, and what it rests on.

    Attributes:
        run: The run.
        stages: Which widths the probes stand for; None where it is no network of the zoo.
        advice: A width for each probe.
        widths: {probe: width}, under a budget narrower than advised.
        check: The projection check; None: not made.
        candidates: What was considered under a budget, the chosen one last.
    """

    run: RunFolder
    stages: "Stages | None"
    advice: Sequence[WidthAdvice]
    widths: Mapping[str, int]
    check: Check | None = None
    candidates: Sequence[Candidate] = ()

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
    result: dict = {"rule": args.rule, "multiple": args.multiple, "widths": found.widths}
    result["advice"] = [asdict(advice) for advice in found.advice]
    print(_table(found))
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
        _write_config(folder / "advised.yaml", found.stages, found.widths)
    else:
        print("No network of the zoo: what these widths save is not known.")
    with whole_file(folder / "advice.json") as draft:
        draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    _write_report(found)
    print(f"\nWritten in {folder}: advice.json, report.html")
    if found.stages:
        print(f"Train it: python train.py --config {folder / 'advised.yaml'}")


def report(args: argparse.Namespace) -> None:
    """Writes report.html into a run's folder.

    Raises:
        ValueError: The run cannot be read.
        OSError: The folder cannot be read or written.
    """
    print(f"Written: {report_on(args.run)}")


def compare(args: argparse.Namespace) -> None:
    """Prints several runs side by side, and writes them as one HTML file.

    Raises:
        ValueError: A run cannot be read.
        OSError: As `read_run`, or the file cannot be written.
    """

    def cost(run: RunFolder) -> Cost | None:
        stages = _stages(run)
        return stages.cost(stages.now) if stages else None

    runs = [compared(read_run(folder), cost) for folder in args.runs]
    print(table(runs))
    for said in differences(runs):
        print(f"note: {said}")
    write_comparison(runs, Path(args.output))
    print(f"Written: {args.output}")


def report_on(folder: str | Path) -> Path:
    """Writes a run's report, with what `advise` has found before, and returns the file."""
    run = read_run(folder)
    stages = _stages(run)
    path = run.folder / "advice.json"
    if not path.is_file():
        advice = advise_widths(run.records, cost=stages.cost if stages else None)
        return _write_report(Advised(run, stages, advice, _suggested(advice)))
    given = json.loads(path.read_text(encoding="utf-8"))
    check = given.get("check")
    if check is not None:
        check = Check(check["score"], check["whole"], [Projected(**r) for r in check["rows"]])
    return _write_report(
        Advised(
            run,
            stages,
            [WidthAdvice(**one) for one in given["advice"]],
            given["widths"],
            check,
        )
    )


def _advised(args: argparse.Namespace) -> Advised:
    """Advises as the command line says."""
    run = read_run(args.run)
    stages = _stages(run)
    cost = stages.cost if stages else None
    advice = advise_widths(run.records, multiple=args.multiple, rule=args.rule, cost=cost)
    check = None
    if args.check is not None:
        check = _check(run, stages, advice, args.check)
        advice = withheld(advice, check.rows, args.tolerance / 100)
    budget = {
        field: getattr(args, name)
        for name, field in BUDGETS.items()
        if getattr(args, name) is not None
    }
    if not budget:
        return Advised(run, stages, advice, _suggested(advice), check)
    if stages is None:
        raise ValueError("A budget needs a run of train.py: only the zoo's networks are built.")
    within = [one for one in advice if one.probe in stages.now]
    candidates = fit_budget(within, budget, stages.cost, multiple=args.multiple)
    widths = _suggested(advice) | dict(candidates[-1].widths)
    return Advised(run, stages, advice, widths, check, candidates)


def _suggested(advice: Sequence[WidthAdvice]) -> dict[str, int]:
    return {one.probe: one.suggested for one in advice}


def _write_report(found: Advised) -> Path:
    snapshots = read_snapshots(found.run.folder)
    return write_report(found.run, snapshots, found.advice, costs=found.costs, check=found.check)


def _stages(run: RunFolder) -> "Stages | None":
    """Finds which widths the probes stand for."""
    if not run.config:
        return None
    return Stages.of(validate(run.config, source=str(run.folder / "config.yaml")), run)


class Stages:
    """Which of a zoo network's widths each probe stands for.

    Attributes:
        config: Of the run.
        now: {probe: channels} of those probes that end an encoder stage or the bottleneck.
    """

    def __init__(self, config: Config, now: Mapping[str, int]):
        self.config, self.now = config, dict(now)
        self._counted = cache(self._count)

    @classmethod
    def of(cls, config: Config, run: RunFolder) -> "Stages | None":
        """Finds the stages; None where no probe stands for one."""
        if config.model.name not in MODELS:
            return None
        now = {
            probe: record.channels
            for probe, record in run.last.items()
            if probe.startswith(("probe_encoder_", "probe_bottleneck"))
        }
        return cls(config, now) if now else None

    def arguments(self, widths: Mapping[str, int]) -> dict:
        """Returns `filters` and `bottleneck` for the builder."""
        settings = self.config.model
        defaults = inspect.signature(MODELS[settings.name]).parameters
        filters = list(settings.filters or defaults["filters"].default)
        bottleneck = settings.bottleneck or defaults["bottleneck"].default
        for probe, width in widths.items():
            if probe == "probe_bottleneck":
                bottleneck = width
            elif probe.startswith("probe_encoder_"):
                filters[int(probe.rsplit("_", 1)[1]) - 1] = width
        return {"filters": tuple(filters), "bottleneck": bottleneck}

    def cost(self, widths: Mapping[str, int]) -> Cost:
        """Builds the network at {probe: width} and counts it."""
        arguments = self.arguments(widths)
        return self._counted(arguments["filters"], arguments["bottleneck"])

    def _count(self, filters: tuple[int, ...], bottleneck: int) -> Cost:
        settings = self.config.model
        shape = (*settings.input_size, 3)
        cost = model_cost(MODELS[settings.name](shape, filters, bottleneck))
        return Cost(cost.parameters, cost.macs, cost.peak_activation_bytes)


def withheld(
    advice: Sequence[WidthAdvice],
    rows: Sequence[Projected],
    tolerance: float,
    score: str = "mIoU",
) -> list[WidthAdvice]:
    """Takes back what costs more than the tolerance in the projection check.

    Args:
        advice: What was advised.
        rows: Of the check.
        tolerance: The most that may be lost, in the unit of the score.
        score: Its name. Defaults to "mIoU".

    Returns:
        The advice; the width as it is, and why, where it costs too much.
    """
    kept = []
    for one in advice:
        lost = [r.lost for r in rows if r.probe == one.probe and r.directions == one.suggested]
        if lost and lost[0] > tolerance:
            reason = (
                f"{one.suggested} directions cost {100 * lost[0]:.1f} points of {score}, "
                f"more than {100 * tolerance:g}; {one.reason}"
            )
            one = replace(one, suggested=one.channels, reason=reason)
        kept.append(one)
    return kept


def _check(
    run: RunFolder, stages: "Stages | None", advice: Sequence[WidthAdvice], data: str
) -> Check:
    """Runs the projection check on the trained model and validation images."""
    path = run.folder / "model.keras"
    if stages is None or not path.is_file():
        raise ValueError(
            f"--check needs a finished run of train.py: model.keras and config.yaml in {run.folder}"
        )
    model = keras.saving.load_model(path, safe_mode=True, compile=False)
    config = stages.config
    root = data or config.data.root
    splits = read_splits(root, config.model.input_size) if root else synthetic_splits()
    score = evaluator(splits.val)
    widths = {one.probe: one.suggested for one in advice if not one.keep}
    if not widths:
        return Check("mIoU", score(model), [])
    watched = Watched(model, list(widths))
    images = draw_images(splits.train, CHECK_IMAGES, config.training.seed)
    return projection_check(watched, ImagesTap(watched).measure(images), score, widths)


def evaluator(split: Split) -> Callable[[keras.Model], float]:
    """Returns a function from a model to its mIoU on the split."""
    return lambda model: evaluate(predict(model, split), split.masks).miou


def _write_config(path: Path, stages: Stages, widths: Mapping[str, int]) -> None:
    model = stages.config.model.model_copy(update=stages.arguments(widths))
    config = stages.config.model_copy(update={"model": model})
    with whole_file(path) as draft:
        draft.write_text(
            f"# Widths that `python -m monitoring advise` has suggested for {path.parent.name}.\n"
            + config.to_yaml(),
            encoding="utf-8",
        )


def _table(found: Advised) -> str:
    lines = []
    for one in found.advice:
        name, width = one.probe.removeprefix("probe_"), found.widths[one.probe]
        change = "keep" if width == one.channels else f"-> {width}"
        lines.append(f"{name:12} {one.channels:4} channels  {change:7}  {one.reason}")
    return "\n".join(lines)


def check_table(check: Check) -> str:
    """Returns the projection check as text."""
    lines = [
        "",
        f"Projection check: {check.score} {check.whole:.4f} as it is; with activations held to",
        f"{'':12} {'directions':>10}  {'leading':>8}  {'lost':>6}  {'random':>8}",
    ]
    for row in check.rows:
        lines.append(
            f"{row.probe.removeprefix('probe_'):12} {row.directions:10.4g}  {row.principal:8.4f}  "
            f"{100 * row.lost:6.2f}  {row.random:8.4f}"
        )
    return "\n".join([*lines, f"(lost: points of {check.score} with the leading directions)"])


def _candidates_table(considered: Sequence[Candidate]) -> str:
    lines = ["", "Considered under the budget, the chosen one last:"]
    for candidate in considered:
        widths = ", ".join(map(str, candidate.widths.values()))
        cost = candidate.cost
        said = candidate.over or "fits"
        lines.append(f"  {widths:20} {cost.parameters:9,} parameters {cost.macs:13,} MACs  {said}")
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
