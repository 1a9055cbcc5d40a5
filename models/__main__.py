"""`python -m models nano_u --filters 4,8,16`: what a network of the zoo costs on a device."""

import argparse
import inspect
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, NoReturn

from . import MODELS
from .cost import ModelCost, model_cost

IN_CHECKOUT = __package__ == "models"  # elsewhere a `training` may be the user's own


class Parser(argparse.ArgumentParser):
    """An argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        """Ends the process with exit code 2."""
        self.exit(2, f"{self.prog}: error: {message} (--help lists the options)\n")


def numbers(text: str) -> tuple[int, ...]:
    """Parses an option's value such as "4,8,16"."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"expected whole numbers separated by commas. Received: {text!r}"
        ) from None


def stages(text: str) -> tuple[int | tuple[int, ...], ...]:
    """Parses the widths of stages: "4,8,16", or with a width for each block "4:6,8,16"."""
    widths = [numbers(part.replace(":", ",")) for part in text.split(",")]
    return tuple(blocks[0] if len(blocks) == 1 else blocks for blocks in widths)


def stage(text: str) -> int | tuple[int, ...]:
    """Parses the width of one stage: "16", or with a width for each block "8:16"."""
    widths = stages(text)
    if len(widths) != 1:
        raise argparse.ArgumentTypeError(f"expected one width, or 8:16. Received: {text!r}")
    return widths[0]


def parser() -> argparse.ArgumentParser:
    """Returns the command line's options."""
    options = Parser(
        prog=f"python -m {__package__}",
        description="Print what a network of the zoo costs on a device.",
        allow_abbrev=False,
    )
    options.add_argument("model", help="nano_u or bu_net")
    options.add_argument(
        "--filters",
        type=stages,
        metavar="N,N,...",
        help="encoder widths; with one for each block of a stage: 4:6,8,16",
    )
    options.add_argument("--bottleneck", type=stage, metavar="N", help="its width")
    options.add_argument(
        "--decoder-filters",
        type=stages,
        metavar="N,N,...",
        help="decoder widths, the deepest stage first (default: those of the encoder)",
    )
    options.add_argument(
        "--late-upsampling",
        action="store_true",
        default=None,
        help="a decoder stage's first block runs before its upsampling",
    )
    options.add_argument(
        "--input-size", type=numbers, default=(60, 80), metavar="H,W", help="default: 60,80"
    )
    options.add_argument("--layers", action="store_true", help="also one line per operator")
    options.add_argument("--json", action="store_true", help="everything as JSON")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints a network's costs, and returns the exit code."""
    args = parser().parse_args(arguments)
    try:
        if args.model not in MODELS:
            raise ValueError(f"Unknown model '{args.model}'. Known: {', '.join(MODELS)}.")
        builder_options = {
            "filters": args.filters,
            "bottleneck": args.bottleneck,
            "decoder_filters": args.decoder_filters,
            "late_upsampling": args.late_upsampling,
        }
        options = {name: value for name, value in builder_options.items() if value is not None}
        model = MODELS[args.model]((*args.input_size, 3), **options)
        cost = model_cost(model)
    except ValueError as error:
        message = " ".join(str(error).split())
        print(f"python -m {__package__}: error: {message}", file=sys.stderr)
        return 2
    sizes, reason = arena(model)
    if args.json:
        exact = {"arena_bytes": sizes.get("plain"), "arena_bytes_overlap": sizes.get("overlap")}
        print(json.dumps({"model": args.model, **asdict(cost), **exact}))
        return 0
    print(card(args.model, args.input_size, options, cost))
    if reason:
        print(f"  exact arena                  unknown: {reason}")
    else:
        print(f"  exact arena            {sizes['plain']:>13,}  bytes (TensorFlow Lite Micro)")
        print(f"    with an overlapping plan {sizes['overlap']:>9,}  (--arena-plan overlap)")
    if args.layers:
        print("\n".join(operator_table(cost)))
    return 0


def arena(model: Any) -> tuple[dict[str, int], str]:
    """Returns the arena's sizes, "plain", "overlap" and more, or why they are unknown."""
    if not IN_CHECKOUT:
        return {}, "it needs a checkout of probe-zoo"
    try:
        from training.export.untrained import arena_sizes

        return arena_sizes(model)._asdict(), ""
    except (ImportError, ValueError) as error:  # the application may not be installed
        return {}, " ".join(str(error).split())


def card(name: str, size: Sequence[int], widths: dict[str, Any], cost: ModelCost) -> str:
    """Returns a network's costs as text."""
    defaults = inspect.signature(MODELS[name]).parameters
    shown = {key: defaults[key].default for key in ("filters", "bottleneck")} | widths
    if isinstance(shown["bottleneck"], tuple):
        shown["bottleneck"] = (shown["bottleneck"],)  # one stage
    title = ", ".join(f"{key.replace('_', ' ')} {_typed(value)}" for key, value in shown.items())
    lines = [
        f"{name} at {size[0]}x{size[1]}, {title.replace('upsampling True', 'upsampling')}",
        f"  parameters             {cost.parameters:>13,}  ({cost.trainable:,} trainable)",
        f"  multiply-adds          {cost.macs:>13,}  per image",
        f"  weights in INT8        {cost.weight_bytes:>13,}  bytes, batch norm folded",
        f"  activations at their peak {cost.peak_activation_bytes:>10,}  bytes in INT8, "
        f"at {cost.peak_layer}:",
        *(f"    {tensor.bytes:>10,}  from {tensor.made_by}" for tensor in cost.peak_tensors),
    ]
    return "\n".join(lines)


def _typed(value: Any) -> str:
    """Returns widths as one types them: "4:6,8,16"."""
    if not isinstance(value, tuple):
        return str(value)
    return ",".join(":".join(map(str, w)) if isinstance(w, tuple) else str(w) for w in value)


def operator_table(cost: ModelCost) -> list[str]:
    """Returns one line per operator, below a heading."""
    lines = ["", f"  {'layer':32}{'output':>14}{'multiply-adds':>15}{'alive, bytes':>14}"]
    for layer in cost.layers:
        shape = "x".join(map(str, layer.output_shape))
        lines.append(f"  {layer.name:32}{shape:>14}{layer.macs:>15,}{layer.activation_bytes:>14,}")
    return lines


if __name__ == "__main__":
    sys.exit(main())
