"""The widest networks that fit a device: `python tests/fitting_widths.py SERIES.yaml`.

Prints a table, and writes the networks as a series for training_series.py.
"""

import sys
from pathlib import Path

import checkout  # noqa: F401
import yaml

from training.fitting import Limits, widest

KIBI = 1024
ARENAS = (64, 96, 128, 192, 320)
WAYS = {"plain": (False, "plain"), "overlap": (False, "overlap"), "both": (True, "overlap")}


def main(target: str) -> None:
    """Prints and writes the networks, for each arena, kind and way to save memory."""
    networks = {}
    print("| arena | network | way | filters / bottleneck | bytes | parameters | multiply-adds |")
    print("|---|---|---|---|---|---|---|")
    for arena in ARENAS:
        for name in ("nano_u", "bu_net"):
            for way, (late, plan) in WAYS.items():
                limits = Limits(arena=arena * KIBI, plan=plan)
                try:
                    fitted = widest(name, limits, late_upsampling=late)
                except ValueError as error:
                    print(f"| {arena} KB | {name} | {way} | {error} |", flush=True)
                    continue
                settings = fitted.settings
                networks[f"{name}_{arena}_{way}"] = {"model": dict(settings)}
                widths = f"{tuple(settings['filters'])} / {settings['bottleneck']}"
                print(
                    f"| {arena} KB | {name} | {way} | {widths} | {fitted.arena:,} | "
                    f"{fitted.parameters:,} | {fitted.macs:,} |",
                    flush=True,
                )
    Path(target).write_text(yaml.safe_dump({"networks": networks}, sort_keys=False))


if __name__ == "__main__":
    main(*sys.argv[1:])
