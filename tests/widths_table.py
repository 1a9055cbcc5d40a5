"""Networks at advised widths beside uniform ones: docs/advice.md, docs/notes/width_rules.md.

python tests/widths_table.py MODEL DATA FOLDER EPOCHS SEEDS [NAME=F,F,F,B ...]

Trains the network as it is, each named one, and for each the uniform narrowing whose
multiply-adds are nearest, every one with seeds 0 to SEEDS - 1; prints test mIoU, and the mean
difference to the uniform one with its standard error. What FOLDER holds already is
not trained again.
"""

import inspect
import json
import sys
from functools import cache
from pathlib import Path

import checkout  # noqa: F401
import numpy as np

from models import MODELS
from models.cost import ModelCost, model_cost
from monitoring.records.files import whole_file
from train import train

Widths = tuple[int, ...]  # filters, then the bottleneck


@cache
def cost(model: str, widths: Widths) -> ModelCost:
    return model_cost(MODELS[model]((60, 80, 3), widths[:-1], widths[-1]))


def widths_of(model: str) -> Widths:
    defaults = inspect.signature(MODELS[model]).parameters
    return (*defaults["filters"].default, defaults["bottleneck"].default)


def uniform(model: str, like: Widths) -> Widths:
    """Returns every width times one share, nearest in multiply-adds."""
    whole = widths_of(model)
    shares = [tuple(max(1, round(s / 200 * width)) for width in whole) for s in range(10, 201)]
    aim = cost(model, like).macs
    return min(dict.fromkeys(shares), key=lambda widths: abs(cost(model, widths).macs - aim))


def score(model: str, widths: Widths, data: str, folder: Path, epochs: int, seed: int) -> float:
    """Returns test mIoU, of a training that is done if it is not there yet."""
    if not (folder / "evaluation.json").is_file():
        filters = ", ".join(map(str, widths[:-1]))
        config = folder.with_suffix(".yaml")
        with whole_file(config) as draft:
            draft.write_text(
                f"model: {{name: {model}, filters: [{filters}], bottleneck: {widths[-1]}, "
                "probes: [encoder, bottleneck]}\n"
                f"nas: {{enabled: true}}\ntraining: {{seed: {seed}}}\ndata: {{root: {data}}}\n"
            )
        train(None, epochs, config=config, output=folder, verbose=0)
    return json.loads((folder / "evaluation.json").read_text())["miou"]


def main(model: str, data: str, out: str, epochs: str, seeds: str, *named: str) -> None:
    networks = {"original": widths_of(model)}
    for one in named:
        name, said = one.split("=")
        networks[name] = tuple(map(int, said.split(",")))
        networks[f"{name}_uniform"] = uniform(model, networks[name])
    scores = {}
    for seed in range(int(seeds)):
        for name, widths in networks.items():
            folder = Path(out) / f"{name}-s{seed}"
            scores[name, seed] = score(model, widths, data, folder, int(epochs), seed)
    for name, widths in networks.items():
        counted = cost(model, widths)
        values = np.array([scores[name, seed] for seed in range(int(seeds))])
        apart = ""
        if f"{name}_uniform" in networks:
            rival = np.array([scores[f"{name}_uniform", seed] for seed in range(int(seeds))])
            error = (values - rival).std(ddof=1) / np.sqrt(len(values))
            apart = f"  to uniform {100 * (values - rival).mean():+.2f} (+-{100 * error:.2f})"
        print(
            f"{name:18} {widths!s:20} {counted.parameters:9,} {counted.macs:13,} "
            f"{counted.peak_activation_bytes:9,}  {values.mean():.4f} "
            f"({', '.join(f'{v:.4f}' for v in values)}){apart}"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
