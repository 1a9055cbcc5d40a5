"""Which widths probes stand for: the network as it is, and narrower."""

import random

import pytest

from models import MODELS
from models.cost import model_cost
from training.config import validate
from training.network import build
from training.stages import Stages

BLOCKS = {"nano_u": 2, "bu_net": 3}


def drawn_stage(rng, blocks):
    """One width, or a width for each block."""
    widths = [rng.randint(1, 9) for _ in range(blocks)]
    return rng.choice([widths[0], widths])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("seed", range(4))
def test_the_network_costs_what_it_costs_whatever_the_widths_of_its_blocks(name, seed):
    rng = random.Random(seed)
    stages = {
        "filters": [drawn_stage(rng, BLOCKS[name]) for _ in range(2)],
        "bottleneck": drawn_stage(rng, BLOCKS[name]),
        "decoder_filters": [drawn_stage(rng, BLOCKS[name]) for _ in range(2)],
        "late_upsampling": bool(rng.randint(0, 1)),
    }
    section = {"name": name, "input_size": [24, 32], "probes": ["encoder", "bottleneck"]} | stages
    config = validate({"model": section}, source="test")
    model = build(config)
    now = {
        layer.name: layer.output.shape[-1]
        for layer in model.layers
        if layer.name.startswith(("probe_encoder", "probe_bottleneck"))
    }
    network, cost = Stages(config, now), model_cost(model)
    found = network.cost(now)
    assert (found.parameters, found.macs) == (cost.parameters, cost.macs)
    probe = rng.choice(sorted(now))
    narrower = network.cost(now | {probe: max(now[probe] - 1, 1)})
    assert narrower.macs <= cost.macs
    for blocks in (network.arguments(now)["bottleneck"], *network.arguments(now)["filters"]):
        assert blocks in (
            config.model.bottleneck,
            *config.model.filters,
        )
