"""What a search has found: the chosen network's file, search.json and the page."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from statistics import fmean, stdev
from typing import Any

import yaml

from monitoring.records.files import read_values
from monitoring.records.run_files import EVALUATION, MODEL
from monitoring.report.arena_section import arena_section
from monitoring.report.figures import Figure
from monitoring.report.page import environment, write_text
from monitoring.report.pareto import ScoredNetwork, pareto_figure
from training.evaluate import write_values
from training.export import export, summary
from training.model_files import load_model
from training.search.candidates import candidate_of
from training.search.prepared_search import NETWORKS, Search
from training.search.proposals import SCRATCH, Proposal
from training.search.results import Final, Tried, finals
from training.search.study import tried_networks
from training.search.trainings import run_folder, rungs, trained_score

CHOSEN, VALUES, PAGE = "chosen", "search.json", "search.html"
UNIFORM = "uniform, from scratch, {} upsampling"
KIBI, MILLION = 1024, 1e6


def finish(search: Search) -> bool:
    """Exports the chosen network, reads its test scores, and writes search.json and the page.

    Returns:
        Whether its file was refused.

    Raises:
        ValueError: No network keeps to the limits.
        OSError: A file cannot be written.
    """
    networks = tried_networks(search.study)
    ranked = finals(networks)
    if not ranked:
        reasons = "; ".join(sorted({network.refused for network in networks}))
        raise ValueError(f"No network of the search keeps to the limits: {reasons}")
    best, config = ranked[0], search.config
    candidate = candidate_of(
        Proposal(**best.tried.proposal),
        config,
        search.splits,
        search.folder / NETWORKS,
        search.parents,
    )
    last = rungs(config.training.epochs, config.training.seed)[best.tried.rung]
    # Another machine may have trained it; the same seeds give the same networks.
    scores = {
        seed: trained_score(candidate, config, search.splits, last.epochs, seed)
        for seed in last.seeds
    }
    folders = {seed: run_folder(candidate, last.epochs, seed) for seed in last.seeds}
    test = [read_values(folder / EVALUATION)["miou"] for folder in folders.values()]
    seed = max(scores, key=lambda s: scores[s].miou)
    chosen = search.folder / CHOSEN
    chosen.mkdir(exist_ok=True)
    exported = export(
        load_model(folders[seed] / MODEL),
        search.splits,
        chosen,
        name=config.model.name,
        seed=seed,
        tolerance=config.export.tolerance,
        header=config.export.header,
        arena_plan=config.export.arena_plan,
    )
    values = {
        "limits": search.limits,
        "arena_plan": config.export.arena_plan,
        "chosen": best.tried.number,
        "chosen_seed": seed,
        "validation": asdict(best) | {"tried": None},
        "test": {"seeds": test, "mean": fmean(test), "error": _error(test)},
        "networks": [asdict(network) | {"rung": network.rung} for network in networks],
        "finals": [asdict(final) | {"tried": final.tried.number} for final in ranked],
        "seconds": sum(score["seconds"] for n in networks for score in n.scores),
    }
    write_values(search.folder / VALUES, values)
    write_text(search.folder / PAGE, page(networks, ranked, values, asdict(exported)))
    print(_text(best, test))
    print(summary(exported))
    print(f"Results are in {search.folder}: {PAGE}, {VALUES}, {CHOSEN}")
    return bool(exported.refused)


def _error(scores: Sequence[float]) -> float:
    """Returns the standard error of a mean; nan for one score."""
    return stdev(scores) / math.sqrt(len(scores)) if len(scores) > 1 else math.nan


def _text(best: Final, test: Sequence[float]) -> str:
    """Returns which network was chosen, and how it scores."""
    costs = best.tried.candidate
    return (
        f"Chosen: network {best.tried.number}, {best.tried.proposal['start']}, {costs['arena']:,} "
        f"bytes, {costs['macs']:,} multiply-adds, {costs['parameters']:,} parameters\n"
        f"  validation mIoU {best.mean:.4f} ± {best.error:.4f}; as the best of several, rather "
        f"{best.shrunken:.4f}\n"
        f"  test mIoU {fmean(test):.4f} ± {_error(test):.4f}, {len(test)} seeds"
    )


def page(
    networks: Sequence[Tried], ranked: Sequence[Final], values: dict[str, Any], exported: Any
) -> str:
    """Returns the page of a search as HTML.

    Args:
        networks: All of its networks.
        ranked: Those of the last rung, the best first.
        values: What search.json holds.
        exported: What export.json of the chosen network holds.
    """
    arena, macs, _ = values["limits"]
    figures = [
        pareto(networks, values["chosen"], "arena", KIBI, "arena, KiB", arena),
        pareto(networks, values["chosen"], "macs", MILLION, "multiply-adds, millions", macs),
    ]
    rungs_reached = [
        sum(network.rung >= rung for network in networks)
        for rung in range(1 + max(network.rung for network in networks))
    ]
    return (
        environment()
        .get_template("search.html")
        .render(
            networks=sorted(networks, key=lambda n: (-n.rung, -_last_mean(n))),
            ranked=ranked,
            values=values,
            figures=figures,
            rungs=rungs_reached,
            last_mean=_last_mean,
            configuration=configuration,
            arena=arena_section(json.loads(json.dumps(exported))),
            file=exported["file"],
        )
    )


def _last_mean(network: Tried) -> float:
    """Returns the mean score of the last rung that a network has reached; nan if none."""
    return fmean(network.of_rung(network.rung)) if network.scores else math.nan


def configuration(network: Tried) -> str:
    """Returns the configuration that trains a network's widths anew; "" if there is none."""
    settings = network.candidate.get("settings")
    if not settings:
        return ""
    return yaml.safe_dump({"model": settings}, default_flow_style=True, width=10_000).strip()


def pareto(
    networks: Sequence[Tried], chosen: int, cost: str, unit: float, label: str, limit: int | None
) -> Figure:
    """Draws the scores of the last rung of each network over a cost."""
    last = max(network.rung for network in networks)
    points = [
        ScoredNetwork(
            f"network {network.number}",
            network.candidate[cost] / unit,
            network.of_rung(network.rung),
            _family(network),
            is_chosen=network.number == chosen,
            is_partial=network.rung < last,
        )
        for network in networks
        if network.scores
    ]
    return pareto_figure(
        points,
        title=f"Validation mIoU over {label}",
        x_label=label,
        y_label="validation mIoU",
        limit=None if limit is None else limit / unit,
        joined=[UNIFORM.format(kind) for kind in ("early", "late")],
    )


def _family(network: Tried) -> str:
    proposal = Proposal(**network.proposal)
    if proposal.is_uniform:
        return UNIFORM.format("late" if proposal.late_upsampling else "early")
    return "other widths, from scratch" if network.proposal["start"] == SCRATCH else "narrowed"
