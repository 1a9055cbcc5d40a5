"""Predictions for images of any size, resized to the network's or cut into tiles."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitoring.records.run_files import checked_folder
from training.image_paths import find_images
from training.image_probabilities import Cutter, resized_probabilities, tiled_probabilities
from training.network_files import read_network
from training.pixels import read_pixels, shown
from training.prediction_files import KINDS, MASKS, check_new, plan_files, write_prediction
from training.progress import Progress
from training.trained_network import TrainedNetwork

RESIZE, TILE = SIZES = ("resize", "tile")


@dataclass(frozen=True)
class Predictions:
    """What has been predicted.

    Attributes:
        files: The files that were written.
        left_out: Files in the folders that are no images.
        padded: Images smaller than a tile, which were extended by reflection.
        cutter: How they were cut into tiles; None: not at all.
    """

    files: list[Path]
    left_out: list[Path]
    padded: list[Path]
    cutter: Cutter | None


def predict_images(
    model: str | Path,
    images: Sequence[str | Path],
    output: str | Path,
    *,
    kinds: Sequence[str] = (MASKS,),
    size: str = RESIZE,
    overlap: int | None = None,
    threshold: float | None = None,
    overwrite: bool = False,
    verbose: int = 0,
    **options: Any,
) -> Predictions:
    """Writes what a network predicts for images.

    Args:
        model: A run's folder, a .keras file or a .tflite file.
        images: Files, folders and patterns.
        output: The folder for the predictions; files have the images' names.
        kinds: "masks": PNG of class numbers, or of 0 and 255 for one class; "probabilities":
            float32 .npy (height, width, channels); "overlays": PNG in colours, with a legend.
            Defaults to masks.
        size: "resize": images to the network's size, and probabilities back; "tile": overlapping
            tiles of the network's size, without resizing. Defaults to "resize".
        overlap: Fewest pixels that neighbouring tiles share. Defaults to None: twice the radius of
            the receptive field, at most half a tile.
        threshold: Probability from which a pixel is foreground, of one class. Defaults to None:
            0.5.
        overwrite: Whether files that exist are replaced. Defaults to False.
        verbose: 0 is silent; otherwise progress is shown. Defaults to 0.
        **options: As for `read_network`.

    Raises:
        FileNotFoundError: There is no such network, or no image.
        ValueError: The network or an image cannot be used, an option is impossible, or a file
            exists.
    """
    _check_options(kinds, size, overlap)
    found = find_images(images)
    folder = checked_folder(output)
    plans = plan_files(found.images, folder, kinds, overwrite=overwrite)
    network = read_network(model, **options)
    check_threshold(threshold, network.outputs.classes)
    cutter = Cutter.of(network, overlap) if size == TILE else None
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(len(plans), "images") if verbose and len(plans) > 1 else None
    padded = []
    for path, files in zip(found.images, plans, strict=True):
        image = read_pixels(path, network.shape[2])
        network.check_depth(image, path)
        if cutter is None:
            values = resized_probabilities(network, image)
        else:
            tiling = cutter.tiling(*image.shape[:2])
            padded += [path] if tiling.is_padded else []
            counter = Progress(len(tiling), "tiles") if verbose and progress is None else None
            step = counter.step if counter else None
            values = tiled_probabilities(network, image, tiling, step)
        for file in files.values():
            check_new(file, overwrite=overwrite)  # names that a file system does not tell apart
        labels = _labels(network, values, threshold)
        write_prediction(files, shown(image), labels, values, network.outputs.classes)
        if progress is not None:
            progress.step()
    written = [file for files in plans for file in files.values()]
    return Predictions(written, found.others, padded, cutter)


def check_threshold(threshold: float | None, classes: Sequence[str]) -> None:
    """Raises a ValueError for a threshold that is no probability, or with several classes."""
    if threshold is None:
        return
    if not 0 < threshold < 1:
        raise ValueError(
            f"--threshold: expected more than 0 and less than 1. Received: {threshold}"
        )
    if classes:
        raise ValueError(
            f"--threshold is for one class, foreground; of {len(classes)} classes, each pixel gets "
            "the likeliest. Omit --threshold"
        )


def _check_options(kinds: Sequence[str], size: str, overlap: int | None) -> None:
    if not kinds or not set(kinds) <= set(KINDS):
        raise ValueError(f"--as: expected some of {', '.join(KINDS)}. Received: {','.join(kinds)}")
    if size not in SIZES:
        raise ValueError(f"Expected --size {' or '.join(SIZES)}. Received: {size}")
    if overlap is not None and size != TILE:
        raise ValueError("--overlap is for tiles: give --size tile as well")


def _labels(network: TrainedNetwork, values: np.ndarray, threshold: float | None) -> np.ndarray:
    """Returns the class of each pixel, (height, width)."""
    if not network.outputs.classes:
        return values[..., 0] >= (0.5 if threshold is None else threshold)
    return values.argmax(axis=-1)
