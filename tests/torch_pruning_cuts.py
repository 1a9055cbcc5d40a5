"""How torch_pruning_table.py lets Torch-Pruning cut a network.

Settings are those of the library's examples. Global: as its reproduce/main.py, 400 steps towards
a ratio of 1 until the network is small enough, over a ranking of all channels. Uniform: as its
examples for vision transformers, one step, the same ratio in every layer. Taylor gradients are
those of 10 batches, in evaluation mode, taken anew before each step, as its tests do.
"""

import copy
from functools import partial
from typing import Any

import torch
import torch_pruning
from torch import nn

STEPS = 400  # reproduce/main.py --iterative-steps
BATCHES = 10  # examples/transformers --taylor_batchs
IMPORTANCE = {
    "l2": partial(torch_pruning.importance.GroupMagnitudeImportance, p=2),
    "taylor": torch_pruning.importance.GroupTaylorImportance,
}


def conv_macs(network: nn.Module, shape: tuple[int, ...]) -> int:
    """Returns the multiply-adds of all convolutions for one image, as models.cost counts them."""
    counts = []

    def count(layer, inputs, output):
        counts.append(layer.weight.numel() * output.shape[2] * output.shape[3])

    hooks = [m.register_forward_hook(count) for m in network.modules() if isinstance(m, nn.Conv2d)]
    network.eval()(torch.zeros(1, *shape))
    for hook in hooks:
        hook.remove()
    return sum(counts)


def pruner_of(network: nn.Module, images: Any, kind: str, **settings) -> Any:
    """Returns a pruner that leaves the image's channels and the output alone."""
    convolutions = [layer for layer in network if isinstance(layer, nn.Conv2d)]
    return torch_pruning.pruner.BasePruner(
        network.eval(),
        torch.zeros(1, *images.shape),
        importance=IMPORTANCE[kind](),
        ignored_layers=[convolutions[0], convolutions[-1]],
        **settings,
    )


def take_gradients(network: nn.Module, images: Any) -> None:
    """Sums the gradients of the loss over batches of training images."""
    network.eval().zero_grad()
    batches = images.batches(torch.Generator().manual_seed(0))
    for _, (pictures, masks) in zip(range(BATCHES), batches, strict=False):
        nn.functional.binary_cross_entropy_with_logits(network(pictures), masks).backward()


def cut_globally(network: nn.Sequential, images: Any, budget: int, *, kind: str) -> None:
    """Cuts step by step until a network keeps to the budget."""
    pruner = pruner_of(
        network, images, kind, global_pruning=True, pruning_ratio=1.0, iterative_steps=STEPS
    )
    while conv_macs(network, images.shape) > budget:
        if pruner.current_step == STEPS:
            raise ValueError(f"{STEPS} steps did not reach {budget:,} multiply-adds")
        if kind == "taylor":
            take_gradients(network, images)
        pruner.step()


def cut_uniformly(network: nn.Sequential, images: Any, budget: int, *, kind: str) -> None:
    """Cuts in one step by the least ratio, in per cent, that keeps to the budget."""
    if kind == "taylor":
        take_gradients(network, images)
    for percent in range(1, 100):
        trial = copy.deepcopy(network)
        pruner_of(trial, images, "l2", pruning_ratio=percent / 100).step()
        if conv_macs(trial, images.shape) <= budget:
            pruner_of(network, images, kind, pruning_ratio=percent / 100).step()
            return
    raise ValueError(f"No ratio reaches {budget:,} multiply-adds")


CUTS = {
    f"{kind}_{name}": partial(cut, kind=kind)
    for name, cut in (("global", cut_globally), ("uniform", cut_uniformly))
    for kind in IMPORTANCE
}
