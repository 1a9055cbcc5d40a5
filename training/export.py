"""`python -m training.export RUN`: INT8 for a microcontroller, run before it is kept."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from models.cost import model_cost
from models.quantization import is_quantization_aware
from monitoring.records.files import read_values, whole_file
from training.config import Config, validate
from training.console import Parser, one_line
from training.data import draw_images, scale
from training.evaluate import Evaluation, evaluate, image_ious, spread, sweep, write_values
from training.images import Split, Splits, read_splits
from training.litert import (
    MICROCONTROLLER_OPERATORS,
    Quantisation,
    arena_bytes,
    c_header,
    convert,
    interpreter_of,
    operators,
    run,
)
from training.projection_check import load
from training.synthetic import synthetic_splits

FOR_MICROCONTROLLERS = ("nano_u",)
CALIBRATION_IMAGES = 128
DATA_RAM = 320 * 1024  # bytes, of an ESP32-S3
TOLERANCE = 1.0  # points of mIoU


@dataclass(frozen=True)
class Exported:
    """An INT8 file, and what was found when it was run.

    Attributes:
        file: Its name.
        refused: Why it is not to be used; empty: it is.
        note: What else is to be known of it.
        quantization: "post-training", calibrated on images, or "quantization-aware".
        operators: {name: how often}.
        file_bytes: Its size.
        parameters: Of the float network.
        macs: Multiply-adds an image.
        arena_bytes: Working memory by TensorFlow Lite Micro's own count; None where its
            wheel is not installed, or lacks an operator.
        arena_estimate: The most that tensors alive at one time take, without alignment and
            scratch memory.
        input: Of the images.
        output: Of the logits.
        images: Of the test split that both were run on.
        float_scores: Of the network it was made from; with its rounding, if that is
            quantisation-aware.
        int8_scores: Of the file.
        per_image_iou: Of the file, as `training.evaluate.spread`.
        sweep: Of the file, as `training.evaluate.sweep`.
        agreement: Share of pixels of the same class in both.
        within_a_step: Share of pixels whose logits are no more than a step of the output's
            quantisation apart, float logits clipped to what the output can say.
    """

    file: str
    refused: str
    note: str
    quantization: str
    operators: Mapping[str, int]
    file_bytes: int
    parameters: int
    macs: int
    arena_bytes: int | None
    arena_estimate: int
    input: Quantisation
    output: Quantisation
    images: int
    float_scores: Evaluation
    int8_scores: Evaluation
    per_image_iou: Mapping[str, float]
    sweep: Sequence[Mapping[str, float]]
    agreement: float
    within_a_step: float


def export(
    model: keras.Model,
    splits: Splits,
    folder: Path,
    *,
    name: str,
    seed: int = 0,
    tolerance: float = TOLERANCE,
    header: bool = False,
) -> Exported:
    """Writes model_int8.tflite into a folder, after running it on the test split.

    A file that loses too much, or has an operator that its network must not need, is kept as
    model_int8.refused.tflite.

    Args:
        model: Trained, from images in -1..1 to logits.
        splits: Training images to calibrate with, test images to check on.
        folder: Where to write.
        name: A key of `models.MODELS`.
        seed: Draws the training images. Defaults to 0.
        tolerance: Points of mIoU that may be lost. Defaults to 1.
        header: Whether to write model_int8.h as well. Defaults to False.

    Returns:
        What was found; export.json holds the same.
    """
    aware = is_quantization_aware(model)
    images = None if aware else draw_images(splits.train, CALIBRATION_IMAGES, seed)
    content = convert(model, images)
    found = checked(model, content, splits.test, name=name, tolerance=tolerance)
    kept, dropped = folder / "model_int8.tflite", folder / "model_int8.refused.tflite"
    if found.refused:
        kept, dropped = dropped, kept
    for stale in (dropped, folder / "model_int8.h"):
        stale.unlink(missing_ok=True)
    with whole_file(kept) as draft:
        draft.write_bytes(content)
    if header and not found.refused:
        text = c_header(content, "model_int8", found.input, found.output)
        with whole_file(folder / "model_int8.h") as draft:
            draft.write_text(text, encoding="ascii")
    write_values(folder / "export.json", asdict(found))
    return found


def checked(
    model: keras.Model, content: bytes, test: Split, *, name: str, tolerance: float
) -> Exported:
    """Runs a file beside the network it was made from."""
    images = scale(test.images)
    exact, answer = model.predict(images, batch_size=16, verbose=0), run(content, images)
    interpreter = interpreter_of(content)
    incoming, outgoing = (
        Quantisation(float(details["quantization"][0]), int(details["quantization"][1]))
        for details in (interpreter.get_input_details()[0], interpreter.get_output_details()[0])
    )
    low, high = (outgoing.scale * (end - outgoing.zero_point) for end in (-128, 127))
    apart = np.abs(np.clip(exact, low, high) - answer)
    float_scores, scores = (evaluate(said >= 0, test.masks) for said in (exact, answer))
    used, cost = operators(content), model_cost(model)
    outside = sorted(used.keys() - MICROCONTROLLER_OPERATORS)
    lost = 100 * (float_scores.miou - scores.miou)
    refused, note = "", ""
    if lost > tolerance:
        refused = f"it loses {lost:.2f} points of mIoU, more than {tolerance:g}"
    if outside:
        said = f"{', '.join(outside)} outside the microcontroller's operators"
        if name in FOR_MICROCONTROLLERS:
            refused = "; ".join(part for part in (refused, said) if part)
        else:
            note = f"for LiteRT only: {said}"
    return Exported(
        file="model_int8.refused.tflite" if refused else "model_int8.tflite",
        refused=refused,
        note=note,
        quantization="quantization-aware" if is_quantization_aware(model) else "post-training",
        operators=dict(used.most_common()),
        file_bytes=len(content),
        parameters=cost.parameters,
        macs=cost.macs,
        arena_bytes=arena_bytes(content),
        arena_estimate=cost.peak_activation_bytes,
        input=incoming,
        output=outgoing,
        images=len(images),
        float_scores=float_scores,
        int8_scores=scores,
        per_image_iou=spread(image_ious(answer >= 0, test.masks)),
        sweep=sweep(answer, test.masks),
        agreement=float(((exact >= 0) == (answer >= 0)).mean()),
        within_a_step=float((apart <= outgoing.scale * (1 + 1e-6)).mean()),
    )


def summary(found: Exported) -> str:
    """Returns what was found as text."""
    memory = found.arena_estimate if found.arena_bytes is None else found.arena_bytes
    how = "estimated, without alignment and scratch" if found.arena_bytes is None else "exact"
    spare = DATA_RAM - memory
    fits = f"yes, {spare:,} bytes to spare" if spare >= 0 else f"no, {-spare:,} bytes too much"
    scores, before = found.int8_scores, found.float_scores
    used = ", ".join(f"{name} {times}" for name, times in found.operators.items())
    lines = [
        f"INT8, {found.quantization}: {found.file}, {found.file_bytes:,} bytes, "
        f"{found.parameters:,} parameters, {found.macs:,} multiply-adds",
        f"  test mIoU {scores.miou:.4f}, float {before.miou:.4f}; F1 {scores.f1:.4f}, "
        f"float {before.f1:.4f}; {100 * found.agreement:.2f} % of pixels agree, "
        f"{100 * found.within_a_step:.1f} % within one step",
        f"  arena {memory:,} bytes ({how}; estimate {found.arena_estimate:,})",
        f"  fits in 320 KB: {fits}",
        f"  operators: {used}",
    ]
    if found.note:
        lines.append(f"  {found.note}")
    if found.refused:
        lines.append(f"  REFUSED: {found.refused}")
    return "\n".join(lines)


def export_run(
    folder: str | Path, *, data: str = "", tolerance: float = TOLERANCE, header: bool = False
) -> Exported:
    """Exports a finished run of train.py.

    Args:
        folder: Of the run.
        data: Images instead of the run's own. Defaults to "": the run's.
        tolerance: As `export`.
        header: As `export`.

    Raises:
        FileNotFoundError: The folder is no finished run, or its images are not there.
        ValueError: Its model or its images cannot be used.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"Run folder {folder} is not there.")
    settings = folder / "config.yaml"
    if not settings.is_file() or not (folder / "model.keras").is_file():
        raise FileNotFoundError(
            f"{folder} is no finished run of train.py: model.keras, config.yaml"
        )
    config = validate(read_values(settings), source=str(settings))
    return export(
        load(folder / "model.keras"),
        _splits(config, data),
        folder,
        name=config.model.name,
        seed=config.training.seed,
        tolerance=tolerance,
        header=header,
    )


def _splits(config: Config, data: str) -> Splits:
    root = data or config.data.root
    size, ignored = config.model.input_size, config.data.ignore_value
    return read_splits(root, size, ignored) if root else synthetic_splits()


def parser() -> argparse.ArgumentParser:
    """Returns the command line's options."""
    options = Parser(
        prog="python -m training.export",
        description="Export a finished run to INT8, and run the file on the test split.",
        allow_abbrev=False,
    )
    options.add_argument("run", metavar="RUN", help="a run's folder")
    options.add_argument("--data", default="", metavar="DIR", help="default: the run's own images")
    options.add_argument(
        "--export-tolerance",
        type=float,
        default=TOLERANCE,
        metavar="POINTS",
        help="of mIoU that may be lost (default: 1)",
    )
    options.add_argument("--header", action="store_true", help="write model_int8.h as well")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """Exports as the command line says; 0, 2 for an error, 3 for a file that is refused."""
    args = parser().parse_args(arguments)
    try:
        found = export_run(
            args.run, data=args.data, tolerance=args.export_tolerance, header=args.header
        )
    except (ValueError, OSError) as error:
        print(f"python -m training.export: error: {one_line(error)}", file=sys.stderr)
        return 2
    print(summary(found))
    return 3 if found.refused else 0


if __name__ == "__main__":
    sys.exit(main())
