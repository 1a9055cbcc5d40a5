"""How well channels in use and the estimate of the loss predict what a cut costs.

python tests/advice_table.py RUN [SHARE [IMAGES]]: a finished run of train.py with images of its
own. Every group of channels is cut to a SHARE of them, alone, 0.5 by default, and the network
scored on validation images before any training; then the same over the budgets of the ladder that
`advise RUN --cut` has written. IMAGES is how many training images are measured, 256 by default.
"""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import checkout  # noqa: F401
import keras
import numpy as np
from scipy.stats import kendalltau, spearmanr

from models import channel_groups, narrow
from monitoring import InputMoments, watch
from monitoring.analysis.advice_file import read_advice
from monitoring.records.run_files import ADVICE, CONFIG
from training.config import read_config
from training.data import draw_pairs, scale
from training.evaluate import evaluate
from training.narrowing import BATCH, IMAGES
from training.outputs import Outputs
from training.parents import load_parent, parent_outputs
from training.split import Split
from training.splits import read_config_splits

CHANNELWISE = (keras.layers.BatchNormalization, keras.layers.ReLU, keras.layers.Activation)


class Row(NamedTuple):
    """One group cut, alone: what was predicted of it, and what it cost.

    Attributes:
        name: Name of the group.
        channels: Its channels.
        left: How many are left of them.
        in_use: How many of them are in use.
        estimate: What the cut adds to the loss, by the estimate.
        loss: What it has added to the loss of validation images.
        miou: What it has taken from their mIoU.
    """

    name: str
    channels: int
    left: int
    in_use: float
    estimate: float
    loss: float
    miou: float


class Remembered:
    """Moments that measure the parent once, however many networks are cut out of it."""

    def __init__(self, moments: InputMoments, parent: keras.Model):
        self._moments, self._parent, self._known = moments, parent, {}
        self.weighted, self.differences = moments.weighted, moments.differences
        self.mean_loss = moments.mean_loss

    def _of_parent(self, what, model, layers):
        if model is not self._parent:
            return getattr(self._moments, what)(model, layers)
        key = (what, *map(id, layers))
        if key not in self._known:
            self._known[key] = getattr(self._moments, what)(model, layers)
        return self._known[key]

    def covariances(self, model, layers):
        return self._of_parent("covariances", model, layers)

    def gradients(self, model, layers):
        return self._of_parent("gradients", model, layers)


def last_channelwise(model: keras.Model, name: str) -> str:
    """Returns the layer at which a group's channels are ready: its maker, norm or activation."""
    layer = model.get_layer(name)
    while len(layer._outbound_nodes) == 1:
        following = layer._outbound_nodes[0].operation
        if not isinstance(following, CHANNELWISE):
            break
        layer = following
    return layer.name


def loss_and_miou(model: keras.Model, split: Split, outputs: Outputs) -> tuple[float, float]:
    parts = [
        model(scale(split.images[start : start + BATCH]), training=False)
        for start in range(0, len(split), BATCH)
    ]
    values = np.concatenate([keras.ops.convert_to_numpy(part) for part in parts])
    loss = keras.ops.convert_to_numpy(outputs.image_losses(split.masks.astype("float32"), values))
    return float(loss.mean()), evaluate(outputs.labels(values), split.masks).miou


def cut_alone(
    model, moments, split: Split, outputs: Outputs, images: np.ndarray, share: float
) -> list[Row]:
    """Cuts each group to a share of its channels, alone."""
    whole = loss_and_miou(model, split, outputs)
    groups = [group for group in channel_groups(model) if not group.fixed]
    ready = {group.name: last_channelwise(model, group.makers[-1]) for group in groups}
    records = {record.probe: record for record in watch(model, images, list(ready.values()))}
    print(f"\nEach group cut alone; measured on {len(images)} training images")
    print("| group | channels | left | in use | estimate | loss | points of mIoU |")
    print("|---|---|---|---|---|---|---|", flush=True)
    rows = []
    for group in groups:
        left = max(1, int(share * group.channels))
        small = narrow(model, moments, widths={group.name: left})
        (estimate,) = (each.loss for each in small.groups if each.name == group.name)
        loss, miou = loss_and_miou(small.model, split, outputs)
        in_use = records[ready[group.name]].effective_rank
        values = (group.channels, left, in_use, estimate, loss - whole[0], whole[1] - miou)
        rows.append(Row(group.name, *values))
        row = rows[-1]
        print(
            f"| {row.name} | {row.channels} | {row.left} | {row.in_use:.1f} | {row.estimate:.1e} | "
            f"{row.loss:+.4f} | {100 * row.miou:+.2f} |",
            flush=True,
        )
    return rows


def rank_table(predictors: dict[str, Sequence[float]], costs: dict[str, Sequence[float]]) -> None:
    """Prints Kendall's tau and Spearman's rho of each predictor with each cost."""
    print("| predictor | cost | Kendall's tau | p | Spearman's rho |\n|---|---|---|---|---|")
    for name, predicted in predictors.items():
        for cost, values in costs.items():
            tau, rho = kendalltau(predicted, values), spearmanr(predicted, values)
            print(f"| {name} | {cost} | {tau[0]:+.2f} | {tau[1]:.2g} | {rho[0]:+.2f} |")


def over_budgets(run: Path, rows: Sequence[Row]) -> None:
    """Ranks the networks of the run's ladder: cut by marginal loss, and all groups alike."""
    ladder = read_advice(run / ADVICE).ladder
    if ladder is None or ladder.parent is None:
        raise SystemExit(f"{run} holds no ladder: run python -m monitoring advise {run} --cut")
    cut, alike = ([getattr(rung, kind) for rung in ladder.rungs] for kind in ("cut", "uniform"))
    networks = [*cut, *alike]
    in_use = {row.name: row.in_use for row in rows}
    predictors = {
        "estimate": [network.loss for network in networks],
        "channels in use that are cut": [
            sum(max(0.0, used - network.widths[name]) for name, used in in_use.items())
            for network in networks
        ],
        "multiply-adds saved": [-network.macs for network in networks],
    }
    print(f"\nOver budgets, {len(networks)} networks, cut by marginal loss and all groups alike:")
    rank_table(predictors, {"mIoU": [-network.score for network in networks]})
    better = sum((a.loss < b.loss) == (a.score > b.score) for a, b in zip(cut, alike, strict=True))
    print(f"At the same budget the estimate names the better one in {better} of {len(cut)}.")


def main(folder: str, share: float = 0.5, count: int = IMAGES) -> None:
    run = Path(folder)
    config, model = read_config(run / CONFIG), load_parent(run)
    splits = read_config_splits(config)
    seed = config.training.seed
    images, masks = draw_pairs(splits.train, count, seed)
    outputs = parent_outputs(model, config, scale(images))
    moments = InputMoments(scale(images), masks.astype("float32"), outputs.image_losses, seed=seed)
    remembered = Remembered(moments, model)
    rows = cut_alone(model, remembered, splits.val, outputs, scale(images), share)
    predictors = {
        "estimate": [row.estimate for row in rows],
        "share of channels in use": [row.in_use / row.channels for row in rows],
        "channels in use": [row.in_use for row in rows],
    }
    print(f"\nOver {len(rows)} groups:")
    costs = {"loss": [row.loss for row in rows], "mIoU": [row.miou for row in rows]}
    rank_table(predictors, costs)
    over_budgets(run, rows)


if __name__ == "__main__":
    main(sys.argv[1], *map(float, sys.argv[2:3]), *map(int, sys.argv[3:]))
