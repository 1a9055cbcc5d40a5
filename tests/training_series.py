"""Networks trained side by side: `python tests/training_series.py --help`.

A file names the networks of a series, each with the part of a configuration that makes it:

    networks:
      as_is: {}
      late: {model: {late_upsampling: true}}
    common: {model: {name: nano_u}}

Each is trained with each seed, so that differences can be paired. A row is appended to the results
when a training is done; what they hold already is not trained again, and a training that was cut
off is resumed. Two processes (`--part 0/2`, `--part 1/2`) can share a series.

    python tests/training_series.py SERIES.yaml --seeds 0 1 2 --folder WORK --results RESULTS.csv
    python tests/training_series.py SERIES.yaml --results RESULTS.csv --table
"""

import argparse
import csv
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import checkout  # noqa: F401
import keras
import numpy as np
import yaml
from proof_table import DEAD, difference
from result_rows import append_row, read_rows

from monitoring.records.files import whole_file
from monitoring.records.reading import read_history
from monitoring.records.run_files import COST, EVALUATION, HISTORY
from train import train

COLUMNS = (
    "network", "images", "seed", "epochs", "parameters", "macs", "peak_bytes", "val", "test",
    "seconds",
)  # fmt: skip
KEY = ("network", "images", "seed")
SCENES = "scenes"  # those that the project draws itself


def merged(*parts: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the sections of a configuration, those of later parts over those of earlier ones."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: {k: v for part in parts for k, v in part.get(name, {}).items()} for name in names}


def trained(name: str, config: Mapping[str, Any], images: str, seed: int, folder: Path) -> dict:
    """Trains a network; returns its row."""
    run = folder / f"{name}-{Path(images).name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    file = run.with_suffix(".yaml")
    data = {} if images == SCENES else {"root": str(Path(images).resolve())}
    with whole_file(file) as draft:
        draft.write_text(yaml.safe_dump(merged(config, {"data": data, "training": {"seed": seed}})))
    began = time.process_time()
    begun = {"resume": run} if run.is_dir() else {"config": file, "output": run}
    train(**begun, verbose=0)
    seconds = time.process_time() - began
    cost, history = json.loads((run / COST).read_text()), read_history(run / HISTORY)
    values = (
        name, Path(images).name, seed, len(history["val_miou"]), cost["parameters"], cost["macs"],
        cost["peak_activation_bytes"], float(max(history["val_miou"])),
        json.loads((run / EVALUATION).read_text())["miou"], seconds,
    )  # fmt: skip
    return dict(zip(COLUMNS, values, strict=True))


def print_table(rows: Sequence[Mapping[str, str]], names: Sequence[str]) -> None:
    """Prints means, and differences to the first network, paired by seed."""
    for images in dict.fromkeys(row["images"] for row in rows):
        print(f"\n{images}; test mIoU; difference to '{names[0]}' in points, paired by seed")
        print(
            "| network | parameters | multiply-adds | peak bytes | seeds | mean | sd | dead | val |"
            " difference |\n|---|---|---|---|---|---|---|---|---|---|"
        )
        chosen = [row for row in rows if row["images"] == images]
        first = {r["seed"]: float(r["test"]) for r in chosen if r["network"] == names[0]}
        for name in names:
            own = [row for row in chosen if row["network"] == name]
            if not own:
                continue
            test = np.array([float(row["test"]) for row in own])
            apart = [float(r["test"]) - first[r["seed"]] for r in own if r["seed"] in first]
            print(
                f"| {name} | {int(own[0]['parameters']):,} | {int(own[0]['macs']):,} | "
                f"{int(own[0]['peak_bytes']):,} | {len(own)} | {test.mean():.4f} | "
                f"{test.std(ddof=1) if len(own) > 1 else float('nan'):.4f} | "
                f"{int((test < DEAD).sum())} | {np.mean([float(r['val']) for r in own]):.4f} | "
                f"{difference(apart) if name != names[0] else '-'} |"
            )


def main() -> None:
    """Trains what is missing, or prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("series", type=Path, help="the file of networks")
    parser.add_argument("--results", type=Path, required=True, help="CSV, a row per training")
    parser.add_argument("--table", action="store_true", help="print what the results hold")
    parser.add_argument("--networks", nargs="+", help="default: all of the file")
    parser.add_argument("--images", default=SCENES, help="a folder; default: drawn scenes")
    parser.add_argument("--seeds", type=int, nargs="+")
    parser.add_argument("--folder", type=Path, help="for the runs")
    parser.add_argument("--part", default="0/1")
    options = parser.parse_args()
    series = yaml.safe_load(options.series.read_text())
    names = options.networks or list(series["networks"])
    if options.table:
        print_table(read_rows(options.results), names)
        return
    part, parts = map(int, options.part.split("/"))
    done = {tuple(row[name] for name in KEY) for row in read_rows(options.results)}
    work = [(seed, name) for seed in options.seeds for name in names]
    for number, (seed, name) in enumerate(work):
        if number % parts != part or (name, Path(options.images).name, str(seed)) in done:
            continue
        config = merged(series.get("common", {}), series["networks"][name])
        row = trained(name, config, options.images, seed, options.folder)
        append_row(options.results, row, COLUMNS)
        csv.writer(sys.stdout).writerow(row.values())
        sys.stdout.flush()
        keras.backend.clear_session()


if __name__ == "__main__":
    main()
