"""Loads the weights that Nano-U, the origin of these networks, saves as .h5."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import keras

from models import Nano_U
from monitoring.records.run_files import expanded
from training.nano_u_file import SavedNetwork, Weights, read_file
from training.nano_u_names import POOLS, STAGES, nano_u_layers

INPUT_SIZE = (60, 80)  # of a file that does not tell
WEIGHTS = {  # {weight of a layer in the file: in Keras 3}
    "depthwise_kernel": "kernel",
    **{name: name for name in ("kernel", "bias")},
    **{name: name for name in ("gamma", "beta", "moving_mean", "moving_variance")},
}
# What two layers must agree in, where both have it, to compute the same.
SETTINGS = (
    *("activation", "dilation_rate", "epsilon", "interpolation", "kernel_size", "max_value"),
    *("negative_slope", "padding", "pool_size", "size", "strides", "threshold", "use_bias"),
)


class ImportedNetwork(NamedTuple):
    """A network with the weights of a file of Nano-U.

    Attributes:
        model: The network.
        ranges: Names of what the file holds of quantisation-aware training and the network does
            not: ranges of activations and kernels.
    """

    model: keras.Model
    ranges: tuple[str, ...]


def import_weights(
    path: str | Path, *, input_size: tuple[int, int] | None = None
) -> ImportedNetwork:
    """Builds `Nano_U`, with probes, from the weights of a .h5 file of Nano-U.

    The widths are those of the file. Images are expected in -1..1, as Nano-U makes them with the
    mean and standard deviation of 0.5 in its template of a configuration.

    Args:
        path: What `model.save` or `model.save_weights` of the origin's nano_u has written, with or
            without quantisation-aware training.
        input_size: Height and width in pixels. Defaults to None: as in the file or, where that
            holds weights alone, 60 by 80.

    Returns:
        The network, each of its weights taken from the file, and what was left out.

    Raises:
        FileNotFoundError: The file does not exist.
        MissingPackageError: h5py is not installed.
        ValueError: The file is not HDF5 in the layout of Keras 2, lacks a weight or holds one
            that `Nano_U` has not, or its network computes something else.
    """
    saved = read_file(expanded(path))
    _check_names(saved, path)
    size = input_size or saved.input_size or INPUT_SIZE
    model = _built(saved.weights, size)
    _check_layers(saved.layers, model, path)
    _check_pools(model, path)
    for (layer, weight), values in saved.weights.items():
        target = _variable(model, layer, weight)
        if tuple(target.shape) != values.shape:
            raise ValueError(
                f"{path}: expected {layer}/{weight} of shape {tuple(target.shape)}. "
                f"Received: {values.shape}"
            )
        target.assign(values)
    return ImportedNetwork(model, saved.ranges)


def _expected() -> set[tuple[str, str]]:
    """Returns (layer, weight) of everything that the origin's nano_u saves."""
    norm = ("gamma", "beta", "moving_mean", "moving_variance")
    kinds = {"dw": ("depthwise_kernel",), "pw": ("kernel",), "bn1": norm, "bn2": norm}
    return {
        (layer, weight)
        for layer in nano_u_layers()
        for weight in kinds.get(layer.rsplit("_", 1)[-1], ())
    } | {("output", "kernel"), ("output", "bias")}


def _check_names(saved: SavedNetwork, path: str | Path) -> None:
    """Raises a ValueError unless a file holds exactly Nano-U's weights, kernels of 4 axes."""
    saved_names, expected = set(saved.weights), _expected()
    if saved_names == expected:
        for (layer, weight), values in saved.weights.items():
            if "kernel" in weight and values.ndim != 4:
                raise ValueError(
                    f"{path}: expected {layer}/{weight} of 4 axes. Received: {values.shape}"
                )
        return
    missing, foreign = _listed(expected - saved_names), _listed(saved_names - expected)
    problems = [f"lacks {missing}"] * bool(missing) + [f"also holds {foreign}"] * bool(foreign)
    raise ValueError(
        f"{path}: expected the {len(expected)} weights of Nano-U's nano_u. It "
        f"{' and '.join(problems)}. Only nano_u can be imported, not bu_net"
    )


def _listed(names: set[tuple[str, str]]) -> str:
    """Returns the first of some weights, to be read by a person."""
    shown = ["/".join(name) for name in sorted(names)[:3]]
    return ", ".join(shown + ["..."] * (len(names) > 3))


def _built(weights: Weights, size: tuple[int, int]) -> keras.Model:
    """Builds the network whose widths are those of the weights."""

    def widths(stage: str) -> tuple[int, ...]:
        return tuple(weights[f"{stage}{block}_pw", "kernel"].shape[-1] for block in "ab")

    numbers = range(1, STAGES + 1)
    return Nano_U(
        (*size, weights["enc1a_dw", "depthwise_kernel"].shape[2]),
        [widths(f"enc{number}") for number in numbers],
        widths("bottleneck_"),
        decoder_filters=[widths(f"dec{number}_conv_") for number in numbers],
        enable_probes=True,
    )


def _variable(model: keras.Model, layer: str, weight: str) -> Any:
    """Returns the variable of ours for a weight of the file."""
    weights = model.get_layer(nano_u_layers()[layer]).weights
    return next(each for each in weights if each.name == WEIGHTS[weight])


def _check_layers(layers: Mapping[str, dict], model: keras.Model, path: str | Path) -> None:
    """Raises a ValueError for a layer of the file whose settings are not those of ours."""
    names = nano_u_layers()
    pools = [name for name, settings in layers.items() if "pool_size" in settings]
    names |= {name: f"encoder_{n}_pool" for n, name in enumerate(pools, start=1)}
    names |= {f"dec{n}_up": f"decoder_{n}_upsample" for n in range(1, STAGES + 1)}
    for name in [name for name in layers if name in names]:
        theirs, ours = _settings(layers[name]), _settings(model.get_layer(names[name]).get_config())
        for key in SETTINGS:
            if key in theirs and key in ours and theirs[key] != ours[key]:
                raise ValueError(
                    f"{path}: expected layer {name} with {key} {ours[key]}, as Nano_U has it. "
                    f"Received: {theirs[key]}; its weights would not compute the same"
                )


def _check_pools(model: keras.Model, path: str | Path) -> None:
    """Raises a ValueError for an input at which our encoder is pooled otherwise than Nano-U's."""
    pools = tuple(model.get_layer(f"encoder_{n}_pool").pool_size for n in range(1, STAGES + 1))
    if pools != POOLS:
        size = "x".join(map(str, model.input_shape[1:3]))
        raise ValueError(
            f"{path}: Nano-U pools by {POOLS} (vertical, horizontal); at an input of {size} "
            f"Nano_U would pool by {pools}. Choose a height that 12 divides and 8 does not, such "
            "as 60, and a width that 8 divides"
        )


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a layer's configuration says about what it computes."""
    settings = {
        key: tuple(config[key]) if isinstance(config[key], list) else config[key]
        for key in SETTINGS
        if key in config
    }
    if settings.get("kernel_size") == (1, 1):
        del settings["padding"]  # there is nothing to pad
    if "activation" in settings:
        settings["activation"] = _activation(settings["activation"])
    return settings


def _activation(value: Any) -> Any:
    """Returns an activation's name, also of one that quantisation-aware training has wrapped."""
    if not isinstance(value, dict):
        return value
    if value.get("class_name") == "NoOpActivation":  # it was moved to the ReLU that follows
        return "linear"
    return _activation(value.get("config", {}).get("activation", value.get("class_name")))
