"""`python -m monitoring analyze`: what the channels of any saved model do, without a training."""

import argparse
import importlib
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import keras
import numpy as np

from monitoring.analysis.advice import WidthAdvice, advise
from monitoring.analysis.projection import Check, projection_check
from monitoring.loggers.console import print_table
from monitoring.records.files import whole_file
from monitoring.records.measurement import Measurement, summarise
from monitoring.records.reading import read_run, read_snapshots
from monitoring.report.page import write_report
from monitoring.taps.images_tap import ImagesTap
from monitoring.taps.watched import Watched
from training.commands import advice_table, allowed, check_table
from training.data import scale
from training.images import Split, read_images, read_split
from training.measured import keep
from training.projection_check import evaluator, load, settled


def analyze(args: argparse.Namespace) -> None:
    """Measures a saved model on a split, advises, checks, and writes a folder.

    Raises:
        ValueError: The model cannot be loaded or watched, or its input is not images.
        OSError: A file is not there, or the folder cannot be written.
    """
    path = Path(args.model)
    tolerance = allowed(args) / 100
    import_modules(args.imports)
    model = load(path)
    folder = Path(args.output) if args.output else path.with_name(f"{path.stem}-analysis")
    if (folder / "monitor.jsonl").exists():
        raise ValueError(
            f"Output folder {folder} holds another analysis. Choose another with --output."
        )
    size = _input_size(model, args.input_size)
    prepared = preprocessing(args.preprocess)
    images, split = _images(Path(args.data), args.split, size, args.ignore_value)
    watched = Watched(model, args.layers, args.data_format, args.max_positions)
    inputs = prepared(images)
    measured = ImagesTap(watched).measure(inputs)
    pairs = [summarise(Measurement(g, name, "images", 0, 0)) for name, g in measured.items()]
    records = [record for record, _ in pairs]
    print_table(records)
    advice: Sequence[WidthAdvice] = advise(
        {record.probe: [record] for record in records}, multiple=args.multiple, rule=args.rule
    )
    widths = {one.probe: one.suggested for one in advice if not one.keep}
    # Directions from every second image, scores on the others.
    measured = ImagesTap(watched).measure(inputs[::2])
    inputs = inputs[1::2] if len(inputs) > 1 else inputs
    if split is not None:
        split = Split(split.images[1::2], split.masks[1::2], split.names[1::2])
    score, evaluate = _score(model, inputs, split if args.preprocess == "zoo" else None)
    check = Check(score, evaluate(model), [])
    if widths:

        def tried(widths: Mapping[str, int]) -> Check:
            kept = {name: measured[name] for name in widths}
            some = Watched(model, list(widths), args.data_format, args.max_positions)
            return projection_check(some, kept, evaluate, widths, score=score)

        advice, check = settled(advice, tried(widths), tolerance, tried)
    print()
    print(advice_table(advice))
    print(check_table(check))
    keep(pairs, folder)
    result = {
        "model": str(path),
        "images": len(images),
        "rule": args.rule,
        "multiple": args.multiple,
        "advice": [asdict(one) for one in advice],
        "check": check._asdict() | {"rows": [row._asdict() for row in check.rows]},
    }
    with whole_file(folder / "analysis.json") as draft:
        draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    write_report(read_run(folder), read_snapshots(folder), advice, check=check)
    print(f"\nWritten in {folder}: analysis.json, monitor.csv, monitor.jsonl, arrays, report.html")


def import_modules(names: Sequence[str]) -> None:
    """Imports modules that register a model's own classes, also from the working directory.

    Raises:
        ValueError: A module cannot be imported.
    """
    sys.path.insert(0, str(Path.cwd()))
    try:
        for name in names:
            importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"--import {name}: {error}") from None
    finally:
        sys.path.pop(0)


def preprocessing(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """Returns a function from uint8 images to what a model takes.

    Args:
        name: "zoo": -1..1; "none": 0..255 in float32; else a module of keras.applications,
            whose `preprocess_input` is used.

    Raises:
        ValueError: There is no such module.
    """
    if name == "zoo":
        return scale
    if name == "none":
        return lambda images: np.asarray(images, np.float32)
    module = getattr(keras.applications, name, None)
    if module is None or not hasattr(module, "preprocess_input"):
        raise ValueError(
            "Expected --preprocess zoo, none, or a module of keras.applications as mobilenet_v2. "
            f"Received: {name!r}"
        )
    return lambda images: module.preprocess_input(np.array(images, np.float32))


def _input_size(model: keras.Model, given: Sequence[int] | None) -> tuple[int, int]:
    """Returns height and width that images are resized to."""
    if given is not None:
        if len(given) != 2:
            raise ValueError(f"Expected --input-size H,W. Received: {given}")
        return given[0], given[1]
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3:
        raise ValueError(
            "Expected a model of one input (batch, height, width, 3), or --input-size H,W. "
            f"Received: input shape {shape}"
        )
    if None in shape[1:]:
        raise ValueError(f"The model's input has no fixed size, {shape}: give --input-size H,W.")
    return shape[1], shape[2]


def _images(
    data: Path, name: str, size: tuple[int, int], ignore_value: int | None
) -> tuple[np.ndarray, Split | None]:
    """Reads a split, with its masks where there are any, or a bare folder of images."""
    folder = data / name
    if (folder / "mask").is_dir():
        split = read_split(folder, size, ignore_value)
        return split.images, split
    for place in (folder / "img", folder, data):
        if place.is_dir():
            return read_images(place, size), None
    raise FileNotFoundError(f"Data folder {data} is not there.")


def _score(model: keras.Model, inputs: np.ndarray, split: Split | None):
    """Returns what a projected model is judged by: its name, and the function."""
    whole = model.predict(inputs, verbose=0)
    if not isinstance(whole, np.ndarray):
        raise ValueError(
            f"Expected a model of one output. Received: {len(keras.tree.flatten(whole))} outputs"
        )
    if split is not None and whole.shape[1:] == split.masks.shape[1:]:
        return "mIoU", evaluator(split)
    spread = np.linalg.norm(whole - whole.mean(axis=0))

    def agreement(other: keras.Model) -> float:
        distance = np.linalg.norm(other.predict(inputs, verbose=0) - whole)
        return float(1 - distance / spread) if spread else float(distance == 0)

    return "agreement", agreement
