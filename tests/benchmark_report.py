"""Prints the benchmarks' table and draws it: `python tests/benchmark_report.py JSON [PICTURE]`.

JSON is what pytest-benchmark has written. With `--check` the exit code is 1 where a target is
missed beyond the interval of the measurement.
"""

import argparse
import json
import sys
from itertools import groupby
from pathlib import Path

EXAMPLE = {"low": 1.02, "high": 1.05, "target": 1.03, "target_high": 1.06}


def missed(found: dict) -> bool:
    """Tells whether a target is missed beyond the interval.

    Example:
        >>> missed(EXAMPLE), missed(EXAMPLE | {"target": 1.01}), missed({"low": 9, "high": 9})
        (False, True, False)
        >>> missed(EXAMPLE | {"target_high": 1.04}), missed(EXAMPLE | {"at_least": True})
        (True, False)
    """
    if found.get("target") is None:
        return False
    if found.get("at_least"):
        return found["high"] < found["target"]
    highest = found.get("target_high")
    return found["low"] > found["target"] or (highest is not None and found["high"] > highest)


def verdict(found: dict) -> str:
    """Says what the target is and whether it is met."""
    if found.get("target") is None:
        return ""
    sign = "at least" if found.get("at_least") else "at most"
    most = f", to {found['target_high']:g}" if found.get("target_high") else ""
    met = (
        found["value"] >= found["target"]
        if found.get("at_least")
        else (found["value"] <= found["target"])
    )
    state = "MISSED" if missed(found) else "met" if met else "within the interval"
    return f"{sign} {found['target']:.4g}{most}: {state}"


def number(found: dict, key: str) -> str:
    return f"{found[key]:.3f}" if found["unit"] in ("x", "of matmul") else f"{found[key]:.4g}"


DETAILS = {
    "cpu": lambda v: f"CPU {v[0]:.3f} ({v[1]:.3f}..{v[2]:.3f})",
    "step_ms": lambda v: f"step {v:.0f} ms",
    "event_ms": lambda v: f"measurement {v:.1f} ms",
    "waited_ms": lambda v: f"training waits {v:.1f} ms",
    "layers": lambda v: f"{v} layers" if v else "",
    "gflops": lambda v: f"{v:.0f} GFLOP/s",
    "matmul_gflops": lambda v: f"matmul {v:.0f}",
    "ms": lambda v: "ms: " + " ".join(f"{x:.2f}" for x in v),
    "amounts": lambda v: "of " + " ".join(map(str, v)),
    "groups_mb": lambda v: f"groups {v:.1f} MB",
    "plain_mb": lambda v: f"of {v:.0f} MB",
    "accumulators_mb": lambda v: f"accumulators {v:.1f} MB",
}


def table(results: list[dict]) -> str:
    """Returns the table, in Markdown."""
    lines = []
    for group, found in groupby(results, key=lambda r: r["extra_info"]["group"]):
        lines += [f"### {group}", "", "| | | 95 % interval | target | |", "|---|---|---|---|---|"]
        for result in found:
            info = result["extra_info"]
            details = [show(info[key]) for key, show in DETAILS.items() if key in info]
            lines.append(
                f"| {info['case']} | {number(info, 'value')} {info['unit']} "
                f"| {number(info, 'low')}..{number(info, 'high')} | {verdict(info)} "
                f"| {', '.join(filter(None, details))} |"
            )
        lines.append("")
    return "\n".join(lines)


def draw(results: list[dict], path: Path) -> None:
    """Draws the ratios with their intervals, as a picture."""
    from matplotlib.figure import Figure

    rows = [r["extra_info"] for r in results if r["extra_info"]["unit"] == "x"][::-1]
    figure = Figure(figsize=(9, 0.28 * len(rows) + 1), layout="constrained")
    axes = figure.subplots()
    for place, info in enumerate(rows):
        colour = "tab:red" if missed(info) else "tab:blue"
        axes.plot([info["low"], info["high"]], [place, place], color=colour, linewidth=2)
        axes.plot(info["value"], place, "o", color=colour, markersize=4)
        if info.get("target") is not None:
            axes.plot(info["target"], place, "|", color="black", markersize=10)
    axes.axvline(1, color="grey", linewidth=0.8)
    axes.set_yticks(range(len(rows)), [info["case"] for info in rows], fontsize=8)
    axes.set_xlabel("time with the monitor / without (median, 95 % interval; | target)")
    figure.savefig(path, dpi=110)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("json", type=Path)
    parser.add_argument("picture", type=Path, nargs="?")
    parser.add_argument("--check", action="store_true", help="exit 1 where a target is missed")
    options = parser.parse_args(arguments)
    results = json.loads(options.json.read_text(encoding="utf-8"))["benchmarks"]
    print(table(results))
    if options.picture:
        draw(results, options.picture)
    failures = [r["extra_info"]["case"] for r in results if missed(r["extra_info"])]
    for case in failures:
        print(f"missed: {case}", file=sys.stderr)
    return 1 if options.check and failures else 0


if __name__ == "__main__":
    sys.exit(main())
