"""Arenas of the zoo's networks in INT8, by TensorFlow Lite Micro: `python tests/arena_table.py`.

Weights are random, which makes no difference to memory.
"""

import checkout  # noqa: F401

from models import MODELS, quantization_aware
from models.cost import model_cost
from training.export.untrained import arena_sizes

NETWORKS = (
    ("nano_u", (4, 8, 16), 16),
    ("nano_u", (8, 16, 32), 32),
    ("nano_u", (16, 32, 64), 64),
    ("nano_u", (4, 4, 8), 8),
    ("bu_net", (32, 64, 128), 128),
)


def main() -> None:
    """Prints one row per network: plain, overlapped, late, both."""
    print("| network | quantisation-aware | plain | overlap | late | both | multiply-adds | late |")
    print("|---|---|---|---|---|---|---|---|")
    for name, filters, bottleneck in NETWORKS:
        for aware in (False, True) if name == "nano_u" else (False,):
            arenas, macs = [], []
            for late in (False, True):
                model = MODELS[name]((60, 80, 3), filters, bottleneck, late_upsampling=late)
                macs.append(model_cost(model).macs)
                arenas += arena_sizes(quantization_aware(model) if aware else model)
            cells = " | ".join(f"{number:,}" for number in (*arenas, *macs))
            print(f"| {name} {filters} / {bottleneck} | {'yes' if aware else 'no'} | {cells} |")


if __name__ == "__main__":
    main()
