"""Loads a trained network: of a run's folder, a .keras file or a .tflite file."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import keras
import numpy as np

from monitoring.analysis.single_output import single_output
from monitoring.records.files import read_values
from monitoring.records.run_files import (
    CONFIG,
    INT8,
    INT8_REFUSED,
    MODEL,
    NARROWED,
    PIPELINE_SETTINGS,
    expanded,
)
from training.config import validate
from training.litert_network import litert_network
from training.mask_options import class_names
from training.model_files import load_model, without_structure
from training.model_images import output_shape, preprocessing
from training.outputs import outputs_of
from training.scaling import EIGHT_BITS
from training.trained_network import Shape, TrainedNetwork, other_task

EXPECTED = "a run's folder, a .keras file or a .tflite file"
KERAS, LITERT = ".keras", ".tflite"
OF_RUNS = (MODEL, NARROWED, INT8, INT8_REFUSED)


def read_network(
    path: str | Path,
    *,
    classes: str | None = None,
    outputs: str | None = None,
    input_size: tuple[int, ...] | None = None,
    preprocess: str | None = None,
) -> TrainedNetwork:
    """Loads a trained network.

    Args:
        path: A run's folder, a .keras file or a .tflite file. A file of a run in the run's folder
            has the run's configuration.
        classes: Names of several classes, or how many. Defaults to None: the run's, or numbers.
        outputs: "logits" or "probabilities". Defaults to None: the run's, or the last layer tells.
        input_size: Height and width, where the network takes any. Defaults to None.
        preprocess: As for `preprocessing`. Defaults to None: as the run scales images, or -1..1.

    Raises:
        FileNotFoundError: It does not exist.
        ValueError: It is of another kind, or does not put out masks.
    """
    file = _model_file(expanded(path))
    settings = file.with_name(CONFIG)
    config, names = None, None
    if file.name in OF_RUNS and settings.is_file():
        config = validate(read_values(settings), source=str(settings))
        names, outputs = config.data.masks.classes, outputs or config.narrow.outputs
    if classes is not None:
        names = class_names(classes)
    if file.suffix == LITERT:
        network = litert_network(file, names, outputs)
    else:
        network = _keras_network(file, names, outputs, input_size)
    prepare: Callable[[np.ndarray], np.ndarray] = EIGHT_BITS
    if preprocess not in (None, "zoo"):
        prepare = preprocessing(preprocess)
    elif preprocess is None and config is not None:
        prepare = config.data.scaling
    return replace(network, config=config, prepare=prepare)


def _model_file(path: Path) -> Path:
    """Returns the file of a network."""
    if (path / PIPELINE_SETTINGS).is_file():
        raise ValueError(f"{path} holds a pipeline: give the run of one of its steps, a sub-folder")
    if path.is_dir():
        if not (path / MODEL).is_file():
            raise FileNotFoundError(f"{path} holds no {MODEL}: it is no run that has finished")
        return path / MODEL
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist: give {EXPECTED}")
    if path.suffix not in (KERAS, LITERT):
        raise ValueError(f"Expected {EXPECTED}. Received: {path}")
    return path


def _keras_network(
    path: Path, classes: tuple[str, ...] | None, declared: str | None, size: tuple[int, ...] | None
) -> TrainedNetwork:
    model = without_structure(load_model(path, advice="classes of your own cannot be loaded"))
    if not getattr(model, "inputs", None) or not getattr(model, "outputs", None):
        raise ValueError(
            f"{path} holds a subclassed model, which shows no graph of layers: only functional and "
            "sequential models can be used"
        )
    if len(model.inputs[0].shape) != 4:
        raise ValueError(other_task(path, tuple(model.inputs[0].shape), model.outputs[0].shape))
    batch = model.inputs[0].shape[0]
    if batch not in (None, 1):
        raise ValueError(f"Expected a model of single images. Received: {path}, {batch} at a time")
    shape = _image_shape(path, model, size)
    returned = output_shape(model, shape)
    if len(returned) != 3:
        raise ValueError(other_task(path, (None, *shape), (None, *returned)))
    height, width, channels = (int(side or 0) for side in returned)
    names = class_names(channels) if classes is None else classes

    def run(images: np.ndarray) -> np.ndarray:
        parts = [images] if batch is None else [image[None] for image in images]
        values = [single_output(model, model.predict_on_batch(part)) for part in parts]
        return np.concatenate(values)

    outputs = outputs_of(model, names, declared)
    return TrainedNetwork(path, shape, (height, width, channels), outputs, run, model)


def _image_shape(path: Path, model: keras.Model, size: tuple[int, ...] | None) -> Shape:
    """Returns the height, width and channels of the images that a model takes.

    Raises:
        ValueError: The model or the user tells none, or they contradict each other.
    """
    if size is not None and len(size) != 2:
        raise ValueError(f"Expected --input-size H,W. Received: {size}")
    height, width, channels = model.inputs[0].shape[1:]
    wanted = size or (height, width)
    if channels is None or None in wanted:
        raise ValueError(
            f"{path} takes images of any size, {tuple(model.inputs[0].shape)}: give "
            "--input-size H,W"
        )
    if any(side not in (None, own) for side, own in zip((height, width), wanted, strict=True)):
        raise ValueError(
            f"{path} takes images of {height}x{width} pixels. Received: --input-size "
            f"{wanted[0]},{wanted[1]}"
        )
    return int(wanted[0]), int(wanted[1]), int(channels)
