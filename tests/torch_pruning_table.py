"""Prints networks cut by Torch-Pruning beside those cut by `models.narrow`, trained on alike.

Torch-Pruning cuts PyTorch models, so it needs an environment of its own, which nothing else of
the project uses. What it starts from is written in the project's environment first:

    .venv/bin/python tests/torch_pruning_export.py --parent RUN --folder WORK
    python -m venv .venv-pruning
    .venv-pruning/bin/pip install 'torch==2.13.0' 'torch-pruning==1.6.1' numpy
    .venv-pruning/bin/python tests/torch_pruning_table.py --folder WORK --results rows.jsonl \\
        --parents NAME

NAME is the last part of RUN; the CPU build of PyTorch will do. All networks are trained by the same
PyTorch code, with the settings of `train.py --narrow`: equal seeds give equal batches. Rows are
appended to a file when they are done, and what it holds already is not trained again. Everything
runs on one thread.
"""

import argparse
import copy
import itertools
import json
import time
from pathlib import Path

import numpy as np
import torch
from proof_table import difference
from torch import nn
from torch_pruning_cuts import CUTS, conv_macs

EPOCHS, BATCH, RATE, DECAY, BRIGHTNESS = 15, 8, 1e-2, 1e-4, 0.1
OURS = "narrow"
SCRATCH = {"scratch": EPOCHS, "scratch_75": 75}  # the default Nano_U, untrained: epochs
METHODS = (OURS, *CUTS, *SCRATCH)
COLUMNS = ("method", "rows", "macs", "parameters", "cut_val", "cut_test", "val", "test")


def ported(layer: dict, weights: list[torch.Tensor]) -> nn.Module:
    """Returns a Keras layer as a PyTorch module, in evaluation mode the same function."""
    kind = layer["kind"]
    if kind == "BatchNormalization":
        gamma, beta, mean, variance = weights
        module = nn.BatchNorm2d(len(gamma), layer["epsilon"], 1 - layer["momentum"])
        state = {"weight": gamma, "bias": beta, "running_mean": mean, "running_var": variance}
        module.load_state_dict(state, strict=False)
        return module
    if kind in ("Conv2D", "DepthwiseConv2D"):
        kernel, groups = weights[0].permute(3, 2, 0, 1), 1
        if kind == "DepthwiseConv2D":
            kernel = kernel.transpose(0, 1)
            groups = len(kernel)
        outputs, inputs, size, _ = kernel.shape
        settings = {"padding": size // 2, "groups": groups, "bias": len(weights) > 1}
        module = nn.Conv2d(inputs * groups, outputs, size, **settings)
        module.load_state_dict(dict(zip(("weight", "bias"), [kernel, *weights[1:]], strict=False)))
        return module
    if kind == "MaxPooling2D":
        return nn.MaxPool2d(tuple(layer["size"]))
    if kind == "UpSampling2D":
        return nn.Upsample(scale_factor=tuple(map(float, layer["size"])), mode="nearest")
    if kind == "ReLU":
        return nn.ReLU()
    raise ValueError(f"Expected a layer of Nano_U. Received: {kind} '{layer['name']}'")


def read_network(path: Path, images: "Images") -> nn.Sequential:
    """Reads a network that the export wrote, and checks that it computes the same."""
    file = np.load(path)
    description = json.loads(str(file["description"]))
    network = nn.Sequential()
    for layer in description["layers"]:
        names = [f"{layer['name']}/{number}" for number in range(4)]
        weights = [torch.from_numpy(file[name]) for name in names if name in file]
        network.append(ported(layer, weights))
    network.eval()
    expected = file["logits"]
    pictures = scaled(images.pictures["val"][: len(expected)])
    with torch.no_grad():
        found = network(pictures).permute(0, 2, 3, 1).numpy()
    error = np.abs(found - expected).max() / np.abs(expected).max()
    scores = [abs(images.score(network, split) - description[split]) for split in ("val", "test")]
    macs = conv_macs(network, images.shape)
    print(f"{path.stem}: logits differ by {error:.1e}, mIoU by {max(scores):.1e}", flush=True)
    if error > 1e-4 or max(scores) > 1e-4 or macs != description["macs"]:
        raise ValueError(f"{path} does not compute what Keras does, or its cost differs: {macs}")
    return network


def scaled(images: torch.Tensor) -> torch.Tensor:
    return (images.float() / 255.0 - 0.5) / 0.5


class Images:
    """The images of a run, (images, channels, height, width).

    Attributes:
        pictures: {split: uint8 images}.
        masks: {split: uint8 masks}, 0 and 1.
    """

    def __init__(self, path: Path):
        file = np.load(path)
        self.pictures, self.masks = (
            {
                split: torch.from_numpy(file[f"{split}/{part}"]).permute(0, 3, 1, 2).contiguous()
                for split in ("train", "val", "test")
            }
            for part in ("images", "masks")
        )
        if max(int(masks.max()) for masks in self.masks.values()) > 1:
            raise ValueError("Expected masks without pixels to ignore")

    @property
    def shape(self) -> torch.Size:
        """Shape of one image, (channels, height, width)."""
        return self.pictures["train"].shape[1:]

    def score(self, network: nn.Module, split: str) -> float:
        """Returns the mean of foreground and background IoU over all pixels of a split."""
        network.eval()
        with torch.no_grad():
            parts = [network(scaled(part)) >= 0 for part in self.pictures[split].split(32)]
        found, wanted = torch.cat(parts), self.masks[split] == 1
        ious = [(a & b).sum() / (a | b).sum() for a, b in ((found, wanted), (~found, ~wanted))]
        return float(sum(ious)) / 2

    def batches(self, generator: torch.Generator):
        """Yields an epoch's batches of training images and masks, shuffled and augmented."""
        pictures, masks = self.pictures["train"], self.masks["train"]
        for index in torch.randperm(len(pictures), generator=generator).split(BATCH):
            draws = torch.rand((2, len(index), 1, 1, 1), generator=generator)
            flip, shift = draws[0] < 0.5, 255 * BRIGHTNESS * (2 * draws[1] - 1)
            batch, targets = pictures[index].float(), masks[index].float()
            batch = torch.where(flip, batch.flip(3), batch) + shift
            yield scaled(batch.clamp(0, 255)), torch.where(flip, targets.flip(3), targets)


def train(network: nn.Module, images: Images, seed: int, epochs: int) -> None:
    """Trains a network, and gives it the weights of the epoch of best validation mIoU."""
    generator = torch.Generator().manual_seed(seed)
    steps = epochs * -(-len(images.pictures["train"]) // BATCH)
    # Keras' epsilon; its decay, too, is multiplied by the rate.
    optimizer = torch.optim.AdamW(network.parameters(), RATE, eps=1e-7, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    loss, best, weights = nn.BCEWithLogitsLoss(), -1.0, None
    for _ in range(epochs):
        network.train()
        for pictures, masks in images.batches(generator):
            optimizer.zero_grad()
            loss(network(pictures), masks).backward()
            optimizer.step()
            schedule.step()
        score = images.score(network, "val")
        if score > best:
            best, weights = score, copy.deepcopy(network.state_dict())
    network.load_state_dict(weights)


class Starts:
    """The networks that training begins with, cut once per parent.

    Args:
        folder: Where the export wrote them.
        images: The images.
        budget: Multiply-adds.
    """

    def __init__(self, folder: Path, images: Images, budget: int):
        self._folder, self._images, self._budget = folder, images, budget

    def network(self, parent: str, method: str, seed: int) -> nn.Sequential:
        """Returns a network; from a file if Torch-Pruning has cut it before."""
        if method in CUTS:
            return self._pruned(parent, method)
        return self._read(f"scratch-{seed}" if method in SCRATCH else f"{parent}-{method}")

    def _pruned(self, parent: str, method: str) -> nn.Sequential:
        file = self._folder / f"{parent}-{method}.pt"
        if not file.is_file():
            network = self._read(f"{parent}-parent")
            CUTS[method](network, self._images, self._budget)
            network.zero_grad()
            torch.save(network, file)
        return torch.load(file, weights_only=False)

    def _read(self, name: str) -> nn.Sequential:
        return read_network(self._folder / f"{name}.npz", self._images)


def row(images: Images, starts: Starts, key: tuple[str, int, str]) -> dict:
    """Trains one network; returns its row."""
    parent, seed, method = key
    network = starts.network(parent, method, seed)
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    values = {
        "parent": parent, "method": method, "seed": seed,
        "epochs": SCRATCH.get(method, EPOCHS),
        "macs": conv_macs(network, images.shape),
        "parameters": sum(value.numel() for value in network.state_dict().values() if value.dim()),
        "widths": [layer.out_channels for layer in convolutions if layer.kernel_size == (1, 1)],
        "cut_val": images.score(network, "val"),
        "cut_test": images.score(network, "test"),
    }  # fmt: skip
    began = time.process_time()
    train(network, images, seed, values["epochs"])
    values["seconds"] = round(time.process_time() - began, 1)
    return {**values, **{split: images.score(network, split) for split in ("val", "test")}}


def print_table(rows: list[dict]) -> None:
    """Prints the means over parents and seeds, and the paired differences of ours to each."""
    ours = {(r["parent"], r["seed"]): r["test"] for r in rows if r["method"] == OURS}
    print(f"| {' | '.join(COLUMNS)} | {OURS} minus it |\n" + "|---" * (len(COLUMNS) + 1) + "|")
    for method in METHODS:
        chosen = [r for r in rows if r["method"] == method]
        if chosen:
            print(table_line(method, chosen, ours))


def table_line(method: str, rows: list[dict], ours: dict) -> str:
    counts = [f"{np.mean([r[name] for r in rows]):,.0f}" for name in COLUMNS[2:4]]
    scores = [f"{np.mean([r[name] for r in rows]):.4f}" for name in COLUMNS[4:]]
    keys = [(r["parent"], r["seed"]) for r in rows]
    gaps = [ours[key] - r["test"] for key, r in zip(keys, rows, strict=True) if key in ours]
    gap = "" if method == OURS else difference(gaps)
    return "| " + " | ".join([method, str(len(rows)), *counts, *scores, gap]) + " |"


def read_rows(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--folder", type=Path, required=True, help="what the export wrote")
    parser.add_argument("--results", type=Path, required=True, help="one JSON object per line")
    parser.add_argument("--parents", nargs="*", default=[], help="names; none: print the table")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--macs", type=int, default=2_400_000)
    options = parser.parse_args()
    torch.set_num_threads(1)
    images = Images(options.folder / "images.npz")
    starts = Starts(options.folder, images, options.macs)
    for key in itertools.product(options.parents, options.seeds, options.methods):
        if key not in {(r["parent"], r["seed"], r["method"]) for r in read_rows(options.results)}:
            line = row(images, starts, key)
            with options.results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(*key, f"val {line['val']:.4f}, test {line['test']:.4f}", flush=True)
    print_table(read_rows(options.results))


if __name__ == "__main__":
    main()
