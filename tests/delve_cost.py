"""Prints what Delve costs a training step, by the method of tests/test_benchmarks.py.

Delve measures PyTorch models, so it needs an environment of its own, which nothing else of the
project uses:

    python -m venv .venv-delve
    .venv-delve/bin/pip install 'torch==2.13.0' 'delve==0.1.50' numpy
    .venv-delve/bin/python tests/delve_cost.py

The networks are those of models/, in PyTorch: the same layers and widths. Two copies are trained
in turn, one with Delve's hooks. "4 places" are the last pointwise convolutions of the encoder
stages and of the bottleneck, "every convolution" is Delve's default; both every step, which is
its default too.
"""

import sys
import tempfile

import numpy as np
import torch
from delve import SaturationTracker
from paired import paired
from torch import nn


def block(inputs: int, width: int, middle_relu: bool) -> nn.Sequential:
    layers = [nn.Conv2d(inputs, inputs, 3, padding=1, groups=inputs, bias=False)]
    layers += [nn.BatchNorm2d(inputs), *([nn.ReLU()] if middle_relu else [])]
    layers += [nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def stage(inputs: int, width: int, blocks: int, middle_relu: bool) -> nn.Sequential:
    widths = [inputs] + [width] * blocks
    return nn.Sequential(
        *(block(a, b, middle_relu) for a, b in zip(widths, widths[1:], strict=False))
    )


class Network(nn.Module):
    """Nano_U without skips, BU_Net with them, at 60x80."""

    def __init__(self, filters, bottleneck, pools, *, skips: bool):
        super().__init__()
        blocks, relu = (3, False) if skips else (2, True)
        self.skips, widths = skips, [3, *filters]
        self.encoder = nn.ModuleList(
            stage(a, b, blocks, relu) for a, b in zip(widths, filters, strict=False)
        )
        self.pools = nn.ModuleList(nn.MaxPool2d(p, ceil_mode=True) for p in pools)
        self.bottleneck = stage(filters[-1], bottleneck, blocks, relu)
        below = [bottleneck, *filters[:0:-1]]
        self.decoder = nn.ModuleList(
            stage(a + (b if skips else 0), b, blocks, relu)
            for a, b in zip(below, filters[::-1], strict=True)
        )
        self.logits = nn.Conv2d(filters[0], 1, 1)

    def forward(self, x):
        kept = []
        for encoder, pool in zip(self.encoder, self.pools, strict=True):
            x = encoder(x)
            kept.append(x)
            x = pool(x)
        x = self.bottleneck(x)
        for decoder, skip in zip(self.decoder, kept[::-1], strict=True):
            x = nn.functional.interpolate(x, skip.shape[2:])
            x = decoder(torch.cat([skip, x], 1) if self.skips else x)
        return self.logits(x)

    def places(self) -> list[nn.Module]:
        """The last convolution of each encoder stage and of the bottleneck."""
        return [stage[-1][-3] for stage in (*self.encoder, self.bottleneck)]


NETWORKS = {
    "Nano_U (4, 8, 16)": lambda: Network((4, 8, 16), 16, (2, 2, (3, 2)), skips=False),
    "BU_Net (32, 64, 128)": lambda: Network((32, 64, 128), 128, (2, 2, 2), skips=True),
}


def training_step(model: nn.Module):
    rng = np.random.default_rng(0)
    images = torch.tensor(rng.uniform(-1, 1, (16, 3, 60, 80)), dtype=torch.float32)
    masks = (images[:, :1] > 0).float()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    loss = nn.BCEWithLogitsLoss()

    def step():
        optimizer.zero_grad()
        loss(model(images), masks).backward()
        optimizer.step()

    return step


def main() -> None:
    pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    print("| network | Delve 0.1.50 on | step | wall time, with / without | CPU time |")
    print("|---|---|---|---|---|")
    for name, build in NETWORKS.items():
        for where in ("nothing", "4 places", "every convolution"):
            torch.manual_seed(0)
            plain, hooked = build(), build()
            if where != "nothing":
                chosen = hooked.places() if where == "4 places" else list(hooked.modules())
                SaturationTracker(
                    tempfile.mkdtemp(),
                    "csv",
                    hooked,
                    layer_filter=lambda layers, chosen=chosen: {
                        n: layer for n, layer in layers.items() if any(layer is c for c in chosen)
                    },
                    device="cpu",
                )
            found = paired(training_step(plain), training_step(hooked), pairs)
            wall, cpu = found.ratios()
            ms = 1e3 * np.median(found.wall[:, 0])
            print(f"| {name} | {where} | {ms:.0f} ms | {wall} | {cpu} |", flush=True)


if __name__ == "__main__":
    main()
