"""A page of a search that was never run."""

import math
import random
from typing import Any

from training.search.page import page
from training.search.proposals import FIRST
from training.search.results import Tried, finals

OPERATORS = ["CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "MAX_POOL_2D", "RESIZE_BILINEAR"]
LIMITS = [131_072, 2_000_000, None]


def searched_networks() -> list[Tried]:
    """Returns networks of 16, of which 4 and 2 went on, and one that there is none of."""
    draw = random.Random(0)
    networks = []
    for number in range(16):
        last = 2 if number in (3, 5) else 1 if number < 4 else 0
        scores = [
            {"rung": rung, "epochs": 15 * 2**rung, "seed": 0, "miou": 0.8 + draw.gauss(0, 0.02),
             "file_bytes": 30_000, "seconds": 90.0}
            for rung in range(last + 1)
            for _ in range(rung + 1)
        ]  # fmt: skip
        width = draw.randint(3, 9)
        settings = {
            **{"name": "nano_u", "input_size": [60, 80], "filters": [width, 2 * width, 4 * width]},
            **{"bottleneck": 4 * width, "decoder_filters": [4 * width, 2 * width, width]},
            "late_upsampling": bool(number % 2),
        }
        costs = {
            "settings": None if number == 6 else settings,
            **{"arena": 8_000 + 12_000 * width, "macs": 200_000 * width, "parameters": 900 * width},
            **{"cut_score": 0.71 if number % 3 else None, "loss": 0.1 if number % 3 else None},
        }
        proposal = FIRST[number % len(FIRST)].values
        networks.append(Tried(number, proposal, costs, scores))
    refused = "Expected a budget of at least macs=70,000, with the fewest channels"
    return [*networks[:-1], Tried(15, FIRST[2].values, {}, [], refused)]


def exported_values() -> dict[str, Any]:
    """Returns what export.json of the chosen network holds, as far as the page reads it."""
    tensors = [
        {"name": f"nano_u_1/encoder_{n}_relu_1/Relu", "shape": [1, 60, 80, 4], "bytes": 19_200,
         "first": n, "last": min(n + 1, len(OPERATORS) - 1), "plain": 19_200 * (n % 2),
         "overlap": 6_000 * (n % 2)}
        for n in range(len(OPERATORS))
    ]  # fmt: skip
    arena = {
        **{"tensors": tensors, "operators": OPERATORS, "plan": "overlap", "plain_bytes": 40_000},
        **{"rests_on": "kernels that read each value before they overwrite it", "refused": ""},
    }
    return {"file": "model_int8.tflite", "arena": arena, "arena_bytes": 26_816}


def search_page() -> str:
    """Returns the page as HTML."""
    networks = searched_networks()
    ranked = finals(networks)
    values = {
        **{"limits": LIMITS, "chosen": ranked[0].tried.number, "seconds": 5_000.0},
        "test": {"seeds": [0.81, 0.82, 0.80], "mean": 0.81, "error": 0.01 / math.sqrt(3)},
    }
    return page(networks, ranked, values, exported_values())
