"""Reads .h5 files as Nano-U saves them: HDF5 in the layout of Keras 2."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from monitoring.optional import needed_for

# Quantisation-aware training keeps ranges and counters beside the weights.
QUANTIZED = ("quant_", "quantize_layer")  # what the names of its layers begin with
RANGES = ("_min", "_max", "optimizer_step")  # what the names of these end with

Weights = dict[tuple[str, str], np.ndarray]  # {(layer, weight): values}


class SavedNetwork(NamedTuple):
    """What a file of Nano-U holds.

    Attributes:
        weights: {(layer, weight): values}, by the file's names without the marks of
            quantisation-aware training.
        ranges: Names of the ranges and counters of quantisation-aware training.
        layers: {layer: its settings}; empty if the file holds weights alone.
    """

    weights: Weights
    ranges: tuple[str, ...]
    layers: dict[str, dict[str, Any]]

    @property
    def input_size(self) -> tuple[int, int] | None:
        """Height and width in pixels; None if the file does not tell."""
        for settings in self.layers.values():
            shape = settings.get("batch_input_shape") or settings.get("batch_shape")
            if (
                isinstance(shape, list)
                and len(shape) == 4
                and all(type(side) is int for side in shape[1:3])
            ):
                return shape[1], shape[2]
        return None


def read_file(path: Path) -> SavedNetwork:
    """Reads a .h5 file of Nano-U.

    Raises:
        FileNotFoundError: It does not exist.
        MissingPackageError: h5py is not installed.
        ValueError: It is not HDF5 in the layout of Keras 2.
    """
    with needed_for("Reading a .h5 file", "h5py"):
        import h5py
    if not path.is_file():
        raise FileNotFoundError(f"Weights file {path} does not exist.")
    try:
        with h5py.File(path, "r") as file:
            group = file.get("model_weights", file)
            weights = list(_weights(group))
            layers = _layers(file.attrs.get("model_config"))
    except (OSError, KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{path}: expected a .h5 file as Nano-U saves it, HDF5 in the layout of Keras 2. "
            f"It cannot be read as one: {reason}"
        ) from None
    arrays = {(layer, name): values for layer, name, values in weights if values is not None}
    ranges = tuple(f"{layer}/{name}" for layer, name, values in weights if values is None)
    if len(arrays) + len(ranges) < len(weights):
        raise ValueError(f"{path}: expected each weight once; a layer has two weights of one name")
    return SavedNetwork(arrays, ranges, layers)


def _weights(group: Any) -> Iterator[tuple[str, str, np.ndarray | None]]:
    """Yields layer, weight and values of a group in the layout of Keras 2; None for a range."""
    for layer in _texts(group.attrs["layer_names"]):
        for name in _texts(group[layer].attrs["weight_names"]):
            weight = name.rsplit("/", 1)[-1].removesuffix(":0")
            is_range = layer.startswith(QUANTIZED) and weight.endswith(RANGES)
            values = None if is_range else np.asarray(group[layer][name])
            yield layer.removeprefix(QUANTIZED[0]), weight, values


def _texts(names: Any) -> list[str]:
    return [name.decode() if isinstance(name, bytes) else str(name) for name in names]


def _layers(config: Any) -> dict[str, dict[str, Any]]:
    """Returns {layer: its settings} of a model's configuration, without the quantising wrappers."""
    if config is None:
        return {}
    layers = {}
    for layer in json.loads(config)["config"]["layers"]:
        settings = layer["config"]
        if isinstance(settings.get("layer"), dict):
            settings = settings["layer"]["config"]
        layers[settings["name"]] = settings
    return layers
